"""A turn: what an action is given to work with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import headrace
from tests.soak.excuses import is_refusal
from tests.soak.figures import Crossed, Figures, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.soak.ledger import Ledger
    from tests.soak.routes import Route

T = TypeVar("T")

Target = headrace.Connection | headrace.Pool
"""What has fetch() and the like."""


class Turn:
    """One action of one actor: its route, its random numbers, its tokens, and what it counts.

    All of `rng` is drawn before anything is awaited beside something else, so that the order of events has no say in
    what is decided.
    """

    def __init__(
        self,
        name: str,
        rng: random.Random,
        route: Route,
        routes: Mapping[str, Route],
        ledger: Ledger,
        figures: Figures,
    ) -> None:
        self.name = name
        self.rng = rng
        self.route = route
        self.routes = routes
        self.ledger = ledger
        self.figures = figures
        self.has_limits = False
        """True if a call of this turn has a time limit."""
        self._tokens = 0

    # -- what is sent, and what comes back ---------------------------------------------------------------------------

    def token(self) -> str:
        """Return a text that nobody else sends in this run."""
        self._tokens += 1
        return f"{self.name}.{self._tokens}"

    def tokens(self, number: int) -> list[str]:
        """Return several."""
        return [self.token() for _ in range(number)]

    def same(self, came: object, expected: object, what: str) -> None:
        """Raise Crossed where a reply is not the one to this call."""
        self.figures.count("queries")
        if came != expected:
            raise Crossed(f"{what}: got {came!r:.200}, expected {expected!r:.200}")

    def limit(self) -> float | None:
        """Return a time limit for a call: mostly none, else one that may well be too short."""
        if self.rng.random() < 0.92:
            return None
        self.has_limits = True
        return self.rng.uniform(0.0002, 0.03)

    def chance(self, share: float) -> bool:
        """Return whether something that happens in that share of all cases happens now."""
        return self.rng.random() < share

    # -- connections -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def target(self) -> AsyncIterator[Target]:
        """Give the route's pool, to be shared with all others, or a connection of its own."""
        if self.chance(0.6):
            yield self.route.pool
        else:
            async with self.session() as connection:
                yield connection

    @asynccontextmanager
    async def session(self) -> AsyncIterator[headrace.Connection]:
        """Lease a connection, or open one."""
        if self.chance(0.75):
            async with self.lease() as connection:
                yield connection
        else:
            async with self.opened() as connection:
                yield connection

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[headrace.Connection]:
        """Lease a connection, given back in one way or another."""
        pool = self.route.pool
        if self.chance(0.7):
            async with pool.acquire(timeout=self.limit()) as connection:
                self.figures.count("leases")
                yield connection
        else:
            connection = await pool.acquire(timeout=self.limit())
            self.figures.count("leases")
            try:
                yield connection
            finally:
                await pool.release(connection)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[headrace.Connection]:
        """Open a connection; it is closed, or just dropped."""
        how = self.rng.choice(("close", "close", "close within", "terminate"))
        async with self.route.places:
            connection = await headrace.connect(**self.route.arguments)
            self.figures.count("connections")
            try:
                yield connection
            finally:
                if how == "terminate":
                    connection.terminate()
                else:
                    await connection.close(timeout=30 if how == "close within" else None)

    # -- outcomes ----------------------------------------------------------------------------------------------------

    def excuses(self, error: BaseException) -> bool:
        """Return whether an error is explained by the route, or by a time limit of this turn."""
        return self.route.excuses(error) or (self.has_limits and isinstance(error, TimeoutError))

    async def write(self, call: Coroutine[Any, Any, T], tokens: Sequence[str]) -> T:
        """Await a call that writes tokens by itself, in a transaction of its own, and enter what is known of it."""
        self.ledger.write(tokens)
        try:
            result = await call
        except Exception as error:
            if is_refusal(error):
                self.ledger.refuse(tokens)
            raise
        self.ledger.acknowledge(tokens)
        return result

    async def together(
        self, calls: Iterable[Coroutine[Any, Any, Any]], victims: Mapping[int, int] | None = None
    ) -> None:
        """Run calls at once, and wait for all, whatever becomes of this turn.

        `victims`: which are cancelled meanwhile, after how many turns of the loop. Raises what the others ran into
        and nothing excuses, else what is excused, so that the turn is over.
        """
        tasks = [asyncio.create_task(call, name=f"{self.name} call {number}") for number, call in enumerate(calls)]
        cancelled: set[int] = set()
        try:
            await self._cancel(tasks, victims or {}, cancelled)
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await settled(tasks)
            for error in _errors(tasks):
                if not self.excuses(error):
                    raise error from None
            raise
        errors = _errors(tasks)
        for error in errors:
            if not self.excuses(error):
                raise error
        for number, task in enumerate(tasks):
            if task.cancelled() and number not in cancelled:
                raise Finding(f"{task.get_name()} was cancelled, and nobody had asked for that")
            if number in cancelled and not task.cancelled() and task.exception() is None:
                raise Finding(f"{task.get_name()} was cancelled as it ran, and ended as if it had not been")
        if errors:
            raise errors[0]

    async def _cancel(self, tasks: list[asyncio.Task[Any]], victims: Mapping[int, int], cancelled: set[int]) -> None:
        turn = 0
        for number, when in sorted(victims.items(), key=lambda victim: victim[1]):
            while turn < when:
                await asyncio.sleep(0)
                turn += 1
            if tasks[number].cancel("a victim of its turn"):
                self.figures.count("cancellations")
                cancelled.add(number)


def _errors(tasks: list[asyncio.Task[Any]]) -> list[BaseException]:
    """Return what tasks that are done have raised, cancellations apart."""
    return [error for task in tasks if not task.cancelled() and (error := task.exception())]


async def settled(tasks: list[asyncio.Task[Any]]) -> None:
    """Wait for tasks that are about to end, and should the wait be cancelled, even then."""
    cancellation: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
