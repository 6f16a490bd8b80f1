"""Events of a session that belong to no request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.exceptions import PostgresError, PostgresLogMessage

if TYPE_CHECKING:
    from headrace._core.pipeline.requests import Request


class Events:
    """Takes what a session has to tell, and does nothing; its methods are there to be overridden.

    They are called in the middle of reading: what they raise ends the session.
    """

    def notice(self, message: PostgresLogMessage) -> None:
        """Take a notice or warning from the server."""

    def notification(self, pid: int, channel: str, payload: str) -> None:
        """Take a notification, sent by NOTIFY in the backend `pid`."""

    def parameter(self, name: str, value: str) -> None:
        """Learn of a run-time parameter's value."""

    def read_only(self, error: PostgresError) -> None:
        """Learn that the server has refused to write (25006): the transaction is read-only, or the server is by now."""

    def set_cancel_timer(self, seconds: float) -> None:
        """Call Session.cancellation.time_is_up() in so many seconds, and at no time set before; 0: do not call it."""

    def backends_switched(self) -> None:
        """Learn that statements get lost between requests, so that they go unnamed from now on."""

    def writable(self) -> None:
        """Learn that a cancel window has closed, and that there may be output again."""

    def requeue(self, request: Request, started: bool) -> bool:
        """Take over a shared request that the end of the connection has overtaken, to run it on another one.

        Called for each request that may run again, in the order of the queue: for one that the server provably never
        started (`started` False), and for one that only reads and may have been started. Return True to take it: it is
        as if it had never been sent, and is not settled. Otherwise its waiter gets the error.
        """
        return False

    def queued(self) -> None:
        """Learn that there may be output, without any call of the owner's: another connection has learnt of types."""
