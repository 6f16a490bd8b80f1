"""What is fuzzed: one reader of bytes, and what may come of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from tests.fuzz.mutation import Mutation

VALUE_ERRORS = (ValueError, OverflowError)
"""What decoders say of a value that is well-formed but none that Python has: a date too far, text that is not UTF-8.

The row makes a DataError of it.
"""


class Target(ABC):
    """One reader. Whatever bytes it gets, it comes to an end, and raises what is `allowed` or nothing."""

    name: str
    allowed: tuple[type[Exception], ...] = ()
    words: tuple[bytes, ...] = ()
    """What makes a difference to the reader."""
    share = 1.0
    """Of a run over all targets, in parts."""

    @abstractmethod
    def seeds(self) -> Iterable[bytes]:
        """Inputs to begin with: valid ones for most part."""

    @abstractmethod
    def run(self, data: bytes) -> object:
        """Read an input; return what came of it, raise AssertionError for what must not come of it."""

    def mutate(self, mutation: Mutation, data: bytes) -> bytes:
        """Return an input made of another."""
        return mutation.changed(data)
