"""Passwords, tokens and keys that do not appear in any repr, log, traceback or pickle."""

from __future__ import annotations

import functools
import hmac
import inspect
from collections.abc import Awaitable, Callable
from typing import NoReturn, ParamSpec, TypeVar

from headrace.exceptions import ClientConfigurationError

P = ParamSpec("P")
T = TypeVar("T")

SecretCallable = Callable[[], str | Awaitable[str | None] | None]
"""A function or coroutine function without arguments that returns a secret."""


class Secret:
    """A text that only `reveal()` shows.

    It is immutable. Pickling raises TypeError, so that no secret gets into a file or another process by accident.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text. Call this only to use the text, and do not store the result in an attribute."""
        return self._text

    def to_bytes(self) -> bytes:
        """Return the text in UTF-8. Bytes that were not UTF-8 (from a file, the environment or %XX) are unchanged.

        Raises ClientConfigurationError for a text that has no form in UTF-8. UnicodeEncodeError would contain the text.
        """
        try:
            return self._text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            pass
        raise ClientConfigurationError("a password or token contains a lone surrogate, which has no form in UTF-8")

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
        raise TypeError("a secret cannot be pickled: pass on the name of a passfile, or a callable, instead")


class CallableSecret:
    """A secret that a callable or coroutine function returns, called for each connection."""

    __slots__ = ("_callable", "_name")

    def __init__(self, name: str, function: SecretCallable) -> None:
        self._name = name
        self._callable = function

    async def get(self) -> Secret | None:
        """Call the callable, await the result if it is awaitable, and wrap it.

        None stays None: no secret. An error of the callable is raised unchanged. Anything but text raises
        ClientConfigurationError. Cancellation reaches the callable's own await.
        """
        answer = self._callable()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is None:
            return None
        if isinstance(answer, str) and "\0" not in answer:
            return Secret(answer)
        wrong = "a text with a NUL in it" if isinstance(answer, str) else type(answer).__name__
        del answer  # so that a tool that collects the locals of a traceback finds no secret here
        raise ClientConfigurationError(f"the callable given as {self._name} must return str, got {wrong}")

    def __repr__(self) -> str:
        # The callable's own repr may show secrets: that of a functools.partial shows its arguments.
        return "<called for each connection>"

    def __copy__(self) -> CallableSecret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> CallableSecret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"the callable given as {self._name} cannot be pickled: create it again in the other process")


class HiddenArguments:
    """Arguments for `connect()` that only the function sees that is called with them.

    It is immutable. Pickling raises TypeError, as for a secret.
    """

    __slots__ = ("_args", "_kwargs")

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._args = args
        self._kwargs = kwargs

    def call(self, function: Callable[..., T], /, **more: object) -> T:
        """Call a function with the arguments and some more."""
        return function(*self._args, **self._kwargs, **more)

    def __repr__(self) -> str:
        return "<hidden arguments>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("the arguments of connect() cannot be pickled, because there may be a password among them")


def hides_locals(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that has secrets in its local variables, or in those of the functions that it calls.

    Its errors leave it without these frames, so that a tool that shows the local variables of a traceback finds no
    secret. Messages, notes and causes stay. An error that was only being handled when another one was raised is
    dropped, because errors such as UnicodeEncodeError contain the text.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            failure = error
        finally:
            del args, kwargs
        shown: BaseException | None = failure
        while shown is not None:
            shown.__traceback__ = None
            shown.__context__ = shown.__cause__
            shown = shown.__cause__
        try:
            raise failure
        finally:
            del failure

    return call
