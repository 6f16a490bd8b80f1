from asyncio import Future
from typing import Any, Self

class Wakeups:
    """Calls the callbacks of a loader's futures: those of one tick of the event loop by one callback in the next."""

    def __new__(
        cls,
        loop: Any,
        future_class: type,
        cancellation: type[BaseException],
        invalid_state: type[BaseException],
    ) -> Self: ...
    @property
    def loop(self) -> Any: ...
    @property
    def future_class(self) -> type: ...
    def run(self) -> None: ...
    def done(self, value: Any) -> Future[Any]: ...

class KeyFuture(Future[Any]):
    """The future of one key. It is used like an `asyncio.Future`."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...
    def __next__(self) -> Any: ...

class KeysFuture(KeyFuture):
    """The future of the results of several keys, in their order."""
