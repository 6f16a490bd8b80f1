"""A client for server-sent events of an ASGI application in the same process, which can leave like a browser."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Event:
    """An event that has arrived."""

    name: str
    data: Any
    event_id: str | None


class EventClient:
    """Reads a stream of events. It never waits for a time."""

    def __init__(self, application: Any, path: str, **headers: str) -> None:
        self._application = application
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"host", b"localhost"),
                (b"accept", b"text/event-stream"),
                *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
            ],
            "client": ("127.0.0.1", 12345),
            "server": ("localhost", 80),
        }
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._left = asyncio.Event()
        self._asked = False
        self._buffer = ""
        self.status = 0
        self.headers: dict[str, str] = {}

    async def open(self) -> Self:
        """Send the request, and wait for the beginning of the response."""
        self.task = asyncio.create_task(self._run())
        message = await self._sent.get()
        if message is None:
            await self.task
        self.status = message["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        return self

    async def _run(self) -> None:
        try:
            await self._application(self._scope, self._receive, self._sent.put)
        finally:
            self._sent.put_nowait(None)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def next_raw(self) -> str | None:
        """Return the next block of the stream, also if it is a comment, or None at the end."""
        while "\n\n" not in self._buffer:
            message = await self._sent.get()
            if message is None:
                return None
            self._buffer += message.get("body", b"").decode()
        block, _, self._buffer = self._buffer.partition("\n\n")
        return block if not block.startswith("retry:") else await self.next_raw()

    async def next(self) -> Any:
        """Return the next event, or None at the end."""
        while (block := await self.next_raw()) is not None:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if fields:
                return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
        return None

    def go(self) -> None:
        """Go away."""
        self._left.set()

    async def leave(self) -> None:
        """Go away, and wait until the application has ended the request."""
        self.go()
        await self.task
