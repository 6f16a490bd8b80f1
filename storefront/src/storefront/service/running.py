"""The answers that are being streamed now, and how one is ended before its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from storefront.partners import Partner
from storefront.service.problems import ProblemError


class RunningStream:
    """An answer that is being streamed to a partner, by one task."""

    def __init__(self, partner: Partner, task: asyncio.Task[object]) -> None:
        self.partner = partner
        self.ended: ProblemError | None = None
        self._task = task

    def end(self, problem: ProblemError) -> None:
        """End the answer now: `problem` is raised in its task."""
        if self.ended is None:
            self.ended = problem
            self._task.cancel()


class RunningStreams:
    """All answers that are being streamed by this process."""

    def __init__(self) -> None:
        self._streams: set[RunningStream] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()

    def __len__(self) -> int:
        return len(self._streams)

    def key_prefixes(self) -> list[str]:
        """Return the public parts of the keys that the answers were asked for with."""
        return list({stream.partner.key_prefix for stream in self._streams})

    def end(self, problem: ProblemError, which: Callable[[Partner], bool] = lambda partner: True) -> None:
        """End the answers to some partners, or to all."""
        for stream in list(self._streams):
            if which(stream.partner):
                stream.end(problem)

    async def wait_for_none(self) -> None:
        """Wait until no answer is running."""
        await self._none_left.wait()

    @asynccontextmanager
    async def run(self, partner: Partner) -> AsyncIterator[RunningStream]:
        """Count the block as a running answer to `partner`. Raises the ProblemError that ends it before its time."""
        task = asyncio.current_task()
        assert task is not None
        stream = RunningStream(partner, task)
        self._streams.add(stream)
        self._none_left.clear()
        try:
            yield stream
            if stream.ended is not None:
                # The block was faster than its end. The cancellation is still under way.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            if stream.ended is None or task.uncancel() > 0:
                raise
            raise stream.ended from None
        finally:
            self._streams.discard(stream)
            if not self._streams:
                self._none_left.set()
