"""A coroutine function whose result is used as if `await` had been written: the error says what to write."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from typing import Any, TypeVar, cast

from headrace._client.timeouts import returns_coroutine

F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])

_WRITE = "write `connection = await headrace.connect(...)`, and `await connection.close()` at the end"


class Connecting(Coroutine[Any, Any, Any]):
    """The coroutine of `connect()`. It is awaited, or made a task, as any other."""

    __slots__ = ("__weakref__", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Go on until the next wait."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception where it waits."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End it where it waits."""
        self._coroutine.close()

    async def __aenter__(self) -> None:
        self._coroutine.close()
        raise TypeError(f"the result of connect() is no context manager: {_WRITE}; or `async with create_pool(...)`")

    async def __aexit__(self, *error: object) -> None:
        """Never called, but `async with` looks for it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("cr_", "__")):
            return getattr(self._coroutine, name)
        raise AttributeError(f"connect() was not awaited, so there is no {name!r}: {_WRITE}", name=name, obj=self)

    def __repr__(self) -> str:
        return repr(self._coroutine)


def not_awaited(function: F) -> F:
    """Have calls of a coroutine function return a coroutine that explains a forgotten `await`."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Connecting:
        try:
            return Connecting(function(*args, **kwargs))
        finally:
            # A traceback of wrong arguments must not show a password.
            del args, kwargs

    return cast("F", returns_coroutine(call))
