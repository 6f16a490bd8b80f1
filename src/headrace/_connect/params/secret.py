"""Passwords, tokens and keys that no repr, log, traceback or pickle shows."""

from __future__ import annotations

import hmac
import inspect
from collections.abc import Awaitable, Callable
from typing import NoReturn

from headrace.exceptions import ClientConfigurationError

SecretCallable = Callable[[], str | Awaitable[str | None] | None]
"""A function or coroutine function without arguments that returns a secret."""


class Secret:
    """A text that is shown only to whoever calls `reveal()`.

    Immutable. Pickling raises TypeError, so that no secret gets into a file or another process by accident.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself. Call it where the text is used and keep it in no attribute."""
        return self._text

    def to_bytes(self) -> bytes:
        """Return the text in UTF-8, bytes that are not UTF-8 (from a file, the environment or %XX) as they
        were."""
        return self._text.encode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.to_bytes(), other.to_bytes())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled: hand over the name of a passfile, or a callable, instead")


class AskedSecret:
    """A secret that a callable or coroutine function is asked for, again for each connection."""

    __slots__ = ("_ask", "_name")

    def __init__(self, name: str, ask: SecretCallable) -> None:
        self._name = name
        self._ask = ask

    async def ask(self) -> Secret | None:
        """Call the callable, await what it returns where that is awaitable, and wrap the answer.

        None stays None: no secret. What the callable raises goes through. Anything but text is a
        ClientConfigurationError. Cancellation reaches the callable's own await.
        """
        answer = self._ask()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is None:
            return None
        if isinstance(answer, str) and "\0" not in answer:
            return Secret(answer)
        wrong = "a text with a NUL in it" if isinstance(answer, str) else type(answer).__name__
        del answer  # whoever collects the locals of a traceback finds no secret here
        raise ClientConfigurationError(f"the callable given as {self._name} must return str, got {wrong}")

    def __repr__(self) -> str:
        # Not the callable's own repr: a functools.partial shows its arguments.
        return "<asked for each connection>"

    def __copy__(self) -> AskedSecret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> AskedSecret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"the callable given as {self._name} cannot be pickled: give it anew where it is needed")
