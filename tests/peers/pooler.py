"""A pooler that hands each transaction of a client to the server that it is told to, as when an operator moves it.

    async with MovablePooler([("127.0.0.1", blue.port), ("127.0.0.1", green.port)]) as pooler:
        connection = await connect(port=pooler.port, statement_mode="unnamed")
        pooler.target = 1       # from its next transaction on, every client is served by the second server

Like PgBouncer with `pool_mode = transaction` it tells a process id of its own making, and it prepares a named statement
on a backend that has not seen it (`max_prepared_statements`). Servers are to trust everybody; COPY does not pass.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.peers import backend
from tests.peers.frontend import Bind, Close, Describe, Parse, Query, Sync, Terminate, decode

PROCESS_ID = 2_000_000_000
"""No backend has it: the kernel gives no process a number beyond 2^22."""


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read one message with its type."""
    head = await reader.readexactly(5)
    (size,) = struct.unpack_from("!i", head, 1)
    return head + await reader.readexactly(size - 4)


@dataclass
class _Backend:
    """One connection to a server, which serves one client here."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: list[bytes] = field(default_factory=list)
    statements: set[str] = field(default_factory=set)


class _Client:
    """A client, and its backend on each server."""

    def __init__(self, pooler: MovablePooler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pooler = pooler
        self._reader = reader
        self._writer = writer
        self._startup = b""
        self._backends: dict[int, _Backend] = {}
        self._parsed: dict[str, bytes] = {}
        self._stack = AsyncExitStack()

    async def run(self) -> None:
        async with self._stack:
            (size,) = struct.unpack("!i", head := await self._reader.readexactly(4))
            self._startup = head + await self._reader.readexactly(size - 4)
            greeting = (await self._backend(self._pooler.target)).greeting
            own_key = backend.backend_key_data(pid=PROCESS_ID)
            self._writer.write(b"".join(own_key if message[:1] == b"K" else message for message in greeting))
            held: _Backend | None = None
            while (unit := await self._next_unit()) is not None:
                if held is None:
                    held = await self._backend(self._pooler.target)
                    self._pooler.units.append(self._pooler.target)
                if await self._carry(unit, held) == b"I":
                    held = None

    async def _backend(self, target: int) -> _Backend:
        found = self._backends.get(target)
        if found is None:
            reader, writer = await asyncio.open_connection(*self._pooler.targets[target])
            self._stack.callback(writer.close)
            found = self._backends[target] = _Backend(reader, writer)
            writer.write(self._startup)
            while not found.greeting or found.greeting[-1][:1] != b"Z":
                found.greeting.append(await _read(reader))
        return found

    async def _next_unit(self) -> list[bytes] | None:
        """Return the client's messages up to Sync or a simple query; None when it leaves."""
        unit: list[bytes] = []
        while True:
            try:
                raw = await _read(self._reader)
            except asyncio.IncompleteReadError:
                return None
            message = decode(raw)
            if isinstance(message, Terminate):
                return None
            unit.append(raw)
            if isinstance(message, (Sync, Query)):
                return unit

    async def _carry(self, unit: list[bytes], to: _Backend) -> bytes:
        """Have a backend carry out a unit and the client get its replies; returns the transaction status."""
        ours: list[bool] = []
        for raw in unit:
            message = decode(raw)
            if isinstance(message, Parse):
                ours.append(False)
                if message.name:
                    self._parsed[message.name] = raw
                    to.statements.add(message.name)
            elif isinstance(message, Bind) or (isinstance(message, Describe) and message.kind == "S"):
                name = message.statement if isinstance(message, Bind) else message.name
                if name and name not in to.statements and name in self._parsed:
                    to.writer.write(self._parsed[name])
                    to.statements.add(name)
                    ours.append(True)
            elif isinstance(message, Close) and message.name:
                to.statements.discard(message.name)
            to.writer.write(raw)
        while True:
            reply = await _read(to.reader)
            if reply[:1] == b"1" and ours.pop(0):
                continue
            self._writer.write(reply)
            if reply[:1] == b"Z":
                return reply[5:6]


class MovablePooler:
    """The listener: `target` is the number of the server that transactions go to from now on."""

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        self.targets = targets
        self.target = 0
        self.units: list[int] = []
        """The server of each transaction so far, or of each statement outside of one."""
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await _Client(self, reader, writer).run()
        writer.close()
