"""An address where connection attempts get no answer at all: neither accepted nor refused."""

from __future__ import annotations

import select
import socket
from types import TracebackType
from typing import Self

ATTEMPTS = 16
"""Connections after which the kernel must have stopped answering; Linux does after one or two."""

SILENCE = 0.25
"""Seconds without an answer, on loopback, that show there will be none."""


class BlackHole:
    """A listener whose queue of connections is full, so that the kernel drops every further SYN.

    A context manager; the client's attempt goes on until its own time-out.
    """

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        listener = socket.socket()
        self._sockets.append(listener)
        listener.bind((self.host, 0))
        listener.listen(0)
        self.port = listener.getsockname()[1]
        for _ in range(ATTEMPTS):
            attempt = socket.socket()
            self._sockets.append(attempt)
            attempt.setblocking(False)
            attempt.connect_ex((self.host, self.port))
            if not select.select([], [attempt], [], SILENCE)[1]:
                return self
        self.__exit__(None, None, None)
        raise OSError(f"this system still answers after {ATTEMPTS} connections to a full queue")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in self._sockets:
            each.close()
