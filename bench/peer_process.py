"""The parent's side of a worker: commands with a deadline, and a new process if the old one hangs or dies."""

from __future__ import annotations

import contextlib
import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from bench.worker import Command, Ready, Refused, Reply, Settings, serve

START_SECONDS = 60.0


class PeerProcess:
    """A peer's process, started on demand. As a context manager it ends the process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.version: str | None = None
        self._absent: Refused | None = None
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Refused | None:
        """Start the process if none runs. Return why the peer is not available, or None."""
        if self._process is not None or self._absent is not None:
            return self._absent
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self.settings), daemon=True)
        self._process.start()
        theirs.close()
        reply = self._receive(START_SECONDS)
        if isinstance(reply, Ready):
            self.version = reply.version
            return None
        self.stop()
        # This is tried once: a failed import would also fail for the next workload.
        self._absent = reply if isinstance(reply, Refused) else Refused(f"unexpected {reply}", failed=True)
        return self._absent

    def ask(self, command: Command, seconds: float) -> Reply:
        """Send a command and return the reply.

        Return Refused if the peer is not available, does not answer in time or dies. Its process is then ended, and the
        next command starts a new one.
        """
        refused = self.start()
        if refused is not None:
            return refused
        assert self._pipe is not None
        try:
            self._pipe.send(command)
        except OSError:
            reason = self._cause_of_death()
            self.stop()
            return Refused(reason, failed=True)
        return self._receive(seconds)

    def stop(self) -> None:
        """End the process, if one runs."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(2)
            if process.is_alive():
                process.kill()
            with contextlib.suppress(ValueError):
                process.join()
                process.close()

    def _receive(self, seconds: float) -> Reply:
        assert self._pipe is not None
        try:
            if self._pipe.poll(seconds):
                reply: Reply = self._pipe.recv()
                return reply
            reason = f"no answer in {seconds:g} s"
        except (EOFError, OSError):
            reason = self._cause_of_death()
        self.stop()
        return Refused(reason, failed=True)

    def _cause_of_death(self) -> str:
        assert self._process is not None
        self._process.join(2)
        code = self._process.exitcode
        return f"its process died (signal {-code})" if code and code < 0 else f"its process died (status {code})"
