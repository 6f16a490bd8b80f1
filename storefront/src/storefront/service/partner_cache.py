"""Partners by their keys, looked up in the database and believed for a short time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from storefront.catalogue import Executor
from storefront.partners import Partner, authenticate, key_digest, partner_with_key_prefix

MOST: Final = 10_000
"""The number of keys that are remembered."""


class PartnerCache:
    """Finds partners by key or by session. A partner that was found is believed for `seconds`.

    It is forgotten earlier by `forget()`, which the notification of a revocation calls. A key is remembered by its
    SHA-256. Keys that are not valid are not remembered.
    """

    def __init__(self, executor: Executor, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._executor = executor
        self._seconds = seconds
        self._clock = clock
        self._found: dict[object, tuple[float, Partner]] = {}
        self._generation = 0

    async def by_key(self, key: str) -> Partner | None:
        """Return the partner with a valid key, or None."""
        return await self._find(key_digest(key), lambda: authenticate(self._executor, key))

    async def by_session(self, partner_id: int, key_prefix: str) -> Partner | None:
        """Return the partner of a session that began with its key, or None if that key is not valid any more."""
        return await self._find(
            (partner_id, key_prefix), lambda: partner_with_key_prefix(self._executor, partner_id, key_prefix)
        )

    def forget(self) -> None:
        """Look every partner up again."""
        self._found.clear()
        # A look-up that is under way may have been answered before the change.
        self._generation += 1

    async def _find(self, name: object, find: Callable[[], Awaitable[Partner | None]]) -> Partner | None:
        # The time is that of the question, not of the answer: an answer may be late.
        now = self._clock()
        known = self._found.get(name)
        if known is not None and now < known[0]:
            return known[1]
        generation = self._generation
        partner = await find()
        if partner is None:
            self._found.pop(name, None)
        elif generation == self._generation:
            if len(self._found) >= MOST:
                self._found.clear()
            self._found[name] = (now + self._seconds, partner)
        return partner
