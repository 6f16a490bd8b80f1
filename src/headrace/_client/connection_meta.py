"""The class of Connection: what counts as an instance, and which of its methods are headrace's own."""

from __future__ import annotations

from typing import Any


class ConnectionMeta(type):
    """The class of Connection and of its subclasses.

    It counts a pool's proxy as an instance of the class of what that stands for, and it notices where somebody puts
    another query method in the place of headrace's: a subclass, a tracer that wraps them, a test that mocks them. The
    pool's own methods do what Connection's do without calling them, but they do call what was put there.
    """

    _proxy: type | None = None
    _query_methods: dict[str, object] = {}  # noqa: RUF012  filled in once Connection has them
    _replaced: frozenset[str] = frozenset()
    """The names of the query methods that are others than headrace's."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(name, bases, namespace, **kwargs)
        cls._compare()

    def __setattr__(cls, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ConnectionMeta._query_methods:
            cls._compare()

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        if name in ConnectionMeta._query_methods:
            cls._compare()

    def _compare(cls) -> None:
        """Find out what was replaced, here and in the subclasses."""
        methods = ConnectionMeta._query_methods.items()
        cls._replaced = frozenset(name for name, method in methods if getattr(cls, name, None) is not method)
        subclass: Any
        for subclass in cls.__subclasses__():
            subclass._compare()

    def know_query_methods(cls, *names: str) -> None:
        """Name the methods to look after, as they are now."""
        ConnectionMeta._query_methods = {name: getattr(cls, name) for name in names}

    def __instancecheck__(cls, instance: object) -> bool:
        if type.__instancecheck__(cls, instance):
            return True
        proxy = ConnectionMeta._proxy
        # Also when its lease is over: what a thing is does not change then.
        return proxy is not None and type(instance) is proxy and isinstance(instance._pooled.connection, cls)  # type: ignore[attr-defined]

    def register_proxy(cls, proxy: type) -> None:
        """Name the class of a pool's proxies."""
        ConnectionMeta._proxy = proxy
