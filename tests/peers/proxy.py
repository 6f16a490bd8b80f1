"""A TCP proxy that breaks the network on purpose, between a client and a real server.

    async with Proxy(server.host(), server.port) as proxy:
        connection = await connect(port=proxy.port)
        proxy.slice(1)          # from now on, every byte travels alone
        proxy.freeze()          # nothing passes, though all of it is acknowledged
        proxy.thaw()
        proxy.reset()           # every connection ends by RST

    async with Proxy(server.host(), server.port) as proxy:
        connection = await connect(port=proxy.port)
        with proxy.counting() as trips:
            await connection.fetch("SELECT 1")
        assert trips.count == 1

A fault holds for the connections there are and for those to come, until it is lifted, and in both directions
unless `towards` names one. A single connection is a Link, with the same methods: `proxy.links[-1].cut()`.

While a process reads nothing the kernel still acknowledges for it: `blackhole` stops reading, the sender's window
fills up, and then nothing is said any more. `lose`, on Linux, has the kernel throw away what arrives, unacknowledged,
as where a cable is cut. `BlackHole` in peers/blackhole.py is an address where not even an attempt to connect is
answered.

A round trip begins when the client sends after the server's bytes were passed on to it, or sends its first bytes.
All that a client sends without waiting for an answer belongs to one round trip, in however many pieces it comes,
and so do the pieces of an answer. For a client that does one thing after the other this counts its waits. TCP's own
handshake is not counted.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, Self

from tests.peers.fakeserver import reset

Side = Literal["client", "server"]
"""Whom bytes travel towards."""

SIDES: tuple[Side, Side] = ("client", "server")

PATIENCE = 10.0
"""Seconds that `linked` and `Link.ended` wait."""

CHUNK = 65536

SO_ATTACH_FILTER = 26
"""Linux's socket option (asm-generic/socket.h); Python has no name for it."""


@dataclass(frozen=True)
class Rules:
    """What happens to bytes in one direction."""

    slice: int = 0
    """The most bytes sent at once, with a turn of the loop between; 0 is no limit."""
    delay: float = 0.0
    """Seconds from the arrival of bytes to their being sent on; order and rate stay as they are."""
    frozen: bool = False
    """Bytes are read, hence acknowledged, and kept; none is sent on."""
    swallowed: bool = False
    """Bytes are not even read: the sender's window fills up and stays full."""
    end_after: int | None = None
    """How many bytes are sent on, counted from the connection's first, before it ends."""
    end_by_reset: bool = False
    """True if that end is an RST for both sides, and not a FIN."""


def drop_packets(sock: socket.socket) -> None:
    """Attach the filter `return 0`: the kernel then drops what arrives before TCP sees it. Linux alone has this."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


class Faults:
    """The faults to impose, on a proxy with all its links or on one link."""

    def _change(self, towards: Side | None, **changes: Any) -> None:
        raise NotImplementedError

    def slice(self, size: int, *, towards: Side | None = None) -> None:
        """Send at most `size` bytes at a time; 0 lifts it."""
        self._change(towards, slice=size)

    def delay(self, seconds: float, *, towards: Side | None = None) -> None:
        """Send everything on this much later; 0 lifts it."""
        self._change(towards, delay=seconds)

    def freeze(self, *, towards: Side | None = None) -> None:
        """Send nothing on, but go on reading and acknowledging; nothing is lost. `thaw` lifts it."""
        self._change(towards, frozen=True)

    def blackhole(self, *, towards: Side | None = None) -> None:
        """Neither read nor send anything, but for what is on its way in this process. `thaw` lifts it."""
        self._change(towards, swallowed=True)

    def thaw(self, *, towards: Side | None = None) -> None:
        """Let pass what was held back, and all that follows."""
        self._change(towards, frozen=False, swallowed=False)

    def cut_after(self, count: int, *, towards: Side) -> None:
        """End a connection by FIN, to both sides, once `count` bytes of it have gone `towards` that side."""
        self._change(towards, end_after=count, end_by_reset=False)

    def reset_after(self, count: int, *, towards: Side) -> None:
        """End a connection by RST, to both sides, once `count` bytes of it have gone `towards` that side."""
        self._change(towards, end_after=count, end_by_reset=True)


class Flow:
    """One direction of a link: takes in from one side, and sends on to the other what the rules let pass."""

    def __init__(
        self,
        link: Link,
        towards: Side,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        rules: Rules,
        record: bytearray | None,
    ) -> None:
        self.rules = rules
        self.count = 0
        """How many bytes were sent on."""
        self.record = record
        """The bytes sent on, if they are kept."""
        self._link = link
        self._towards = towards
        self._reader = reader
        self._writer = writer
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._source_ended = False
        self._changed = asyncio.Event()

    def change(self, rules: Rules) -> None:
        """Go by other rules from now on."""
        self.rules = rules
        self._changed.set()

    def wake(self) -> None:
        """Notice that the link is over."""
        self._changed.set()

    async def take_in(self) -> None:
        """Read until the source ends, or breaks: then the link is reset, as this side of it was."""
        loop = asyncio.get_running_loop()
        while True:
            while self.rules.swallowed and not self._link.is_over:
                await self._next_change()
            try:
                data = await self._reader.read(CHUNK)
            except ConnectionError:
                self._link.reset()
                return
            if not data:
                self._source_ended = True
                self._changed.set()
                return
            if not self._link.is_over:
                self._waiting.append((loop.time(), data))
                self._changed.set()

    async def send_on(self) -> None:
        """Send what was taken in, as the rules say, and then the end of the source."""
        loop = asyncio.get_running_loop()
        while not self._link.is_over:
            if self._ends_here():
                self._link.end(by_reset=self.rules.end_by_reset)
            elif self.rules.frozen or self.rules.swallowed:
                await self._next_change()
            elif not self._waiting:
                if self._source_ended:
                    self._end_target()
                    return
                await self._next_change()
            elif (early := self._waiting[0][0] + self.rules.delay - loop.time()) > 0:
                await self._next_change(within=early)
            else:
                await self._send(self._next_piece())

    def _ends_here(self) -> bool:
        return self.rules.end_after is not None and self.count >= self.rules.end_after

    def _next_piece(self) -> bytes:
        arrived, data = self._waiting.popleft()
        limit = self.rules.slice or len(data)
        if self.rules.end_after is not None:
            limit = min(limit, self.rules.end_after - self.count)
        if limit < len(data):
            self._waiting.appendleft((arrived, data[limit:]))
        return data[:limit]

    async def _send(self, piece: bytes) -> None:
        self.count += len(piece)
        self._link.note(self._towards)
        if self.record is not None:
            self.record += piece
        try:
            self._writer.write(piece)
            await self._writer.drain()
        except ConnectionError:
            self._link.reset()
        if self.rules.slice:
            await asyncio.sleep(0)

    def _end_target(self) -> None:
        with suppress(OSError):
            self._writer.write_eof()

    async def _next_change(self, within: float | None = None) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()


class Link(Faults):
    """One connection through the proxy: a client's, and the proxy's own to the server."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        rules: dict[Side, Rules],
        *,
        record: bool,
    ) -> None:
        self.is_over = False
        """True if it has ended, in whichever way, so that nothing is sent on any more."""
        self.trips = 0
        """The round trips so far."""
        self._last: Side | None = None
        self._writers = (client[1], server[1])
        for writer in self._writers:
            # drain() then returns when the kernel has all of it, and pieces go out as they were cut.
            writer.transport.set_write_buffer_limits(0)
        self._flows: dict[Side, Flow] = {
            "client": Flow(self, "client", server[0], client[1], rules["client"], bytearray() if record else None),
            "server": Flow(self, "server", client[0], server[1], rules["server"], bytearray() if record else None),
        }
        self._ended = asyncio.Event()

    def count(self, towards: Side) -> int:
        """Return how many bytes have gone towards that side."""
        return self._flows[towards].count

    def note(self, towards: Side) -> None:
        """Note that bytes pass towards that side."""
        if towards == "server" and self._last != "server":
            self.trips += 1
        self._last = towards

    def recorded(self, towards: Side) -> bytes:
        """Return all that has gone towards that side; only where the proxy records."""
        record = self._flows[towards].record
        if record is None:
            raise ValueError("nothing is recorded: make the proxy with record=True")
        return bytes(record)

    def cut(self) -> None:
        """End the connection in good order: a FIN to both sides, even in the middle of a message."""
        self.end(by_reset=False)

    def reset(self) -> None:
        """Break the connection: an RST to both sides."""
        self.end(by_reset=True)

    def end(self, *, by_reset: bool) -> None:
        """Cut or reset; once is enough."""
        if self.is_over:
            return
        self.is_over = True
        for writer in self._writers:
            if by_reset:
                reset(writer)
            else:
                # Not close(): with bytes of the other side still unread, the kernel would make an RST of it.
                with suppress(OSError):
                    writer.write_eof()
        for flow in self._flows.values():
            flow.wake()

    def lose(self) -> None:
        """Have the kernel drop every packet that arrives from either side: no bytes, no acknowledgements, for good."""
        for writer in self._writers:
            drop_packets(writer.get_extra_info("socket"))

    async def ended(self) -> None:
        """Wait until both sides have closed their connections."""
        async with asyncio.timeout(PATIENCE):
            await self._ended.wait()

    async def run(self) -> None:
        """Carry bytes both ways until both sides are done."""
        try:
            async with asyncio.TaskGroup() as group:
                for flow in self._flows.values():
                    group.create_task(flow.take_in())
                    group.create_task(flow.send_on())
        finally:
            self.is_over = True
            for writer in self._writers:
                writer.close()
            self._ended.set()
            await self._take_note()

    async def _take_note(self) -> None:
        """Ask how the sides have ended: what broke one is otherwise reported as an exception that nobody retrieved."""
        ends = [asyncio.ensure_future(writer.wait_closed()) for writer in self._writers]
        await asyncio.wait(ends, timeout=0)
        for end in ends:
            if not end.cancel() and not end.cancelled():
                end.exception()

    def _change(self, towards: Side | None, **changes: Any) -> None:
        for side in [towards] if towards else SIDES:
            flow = self._flows[side]
            flow.change(replace(flow.rules, **changes))


class Trips:
    """The round trips in a block of `Proxy.counting()`: up to now, or to its end."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._before = proxy.trips
        self._after: int | None = None

    @property
    def count(self) -> int:
        """How many there were, on all links together."""
        return (self._proxy.trips if self._after is None else self._after) - self._before

    def end(self) -> None:
        """Count no further."""
        self._after = self._proxy.trips


class Proxy(Faults):
    """A listener on loopback that connects every client to one server. An async context manager.

    With `record`, every link keeps what went through it.
    """

    def __init__(self, host: str, port: int, *, record: bool = False) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.links: list[Link] = []
        """The connections so far, in order, those that have ended among them."""
        self._target = (host, port)
        self._record = record
        self._rules: dict[Side, Rules] = {side: Rules() for side in SIDES}
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._linked = asyncio.Condition()
        self._ended = False

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        self.refuse()
        self.reset()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self) -> None:
        """Accept connections, on the same port as before `refuse`."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, self.host, self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Have connection attempts refused, as where no server runs; the links there are go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def retarget(self, host: str, port: int) -> None:
        """Connect clients to another server from now on; the links there are stay where they are."""
        self._target = (host, port)

    @property
    def trips(self) -> int:
        """The round trips so far, on all links together."""
        return sum(link.trips for link in self.links)

    @contextmanager
    def counting(self) -> Iterator[Trips]:
        """Count the round trips in a block, of the links there are and of new ones."""
        trips = Trips(self)
        yield trips
        trips.end()

    async def linked(self, count: int = 1) -> Link:
        """Wait for the connection of that number, counting from 1, and return its link."""
        async with asyncio.timeout(PATIENCE), self._linked:
            await self._linked.wait_for(lambda: len(self.links) >= count)
        return self.links[count - 1]

    def cut(self) -> None:
        """End every connection in good order: a FIN to both sides."""
        for link in self.links:
            link.cut()

    def reset(self) -> None:
        """Break every connection: an RST to both sides."""
        for link in self.links:
            link.reset()

    def _change(self, towards: Side | None, **changes: Any) -> None:
        sides: Iterable[Side] = [towards] if towards else SIDES
        for side in sides:
            self._rules[side] = replace(self._rules[side], **changes)
            for link in self.links:
                link._change(side, **changes)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._ended:
            reset(writer)
            return
        try:
            server = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):
            # Cancelled by __aexit__ alone; left cancelled, the task would be logged as an error by asyncio.
            reset(writer)
            return
        link = Link((reader, writer), server, self._rules, record=self._record)
        async with self._linked:
            self.links.append(link)
            self._linked.notify_all()
        with suppress(asyncio.CancelledError):
            await link.run()
