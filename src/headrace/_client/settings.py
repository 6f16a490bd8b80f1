"""The settings that the server reports."""

from __future__ import annotations


class ConnectionSettings:
    """The run-time parameters that the server has reported last, as attributes and items; read only."""

    __slots__ = ("_parameters",)

    def __init__(self, parameters: dict[str, str]) -> None:
        self._parameters = parameters

    def __getattr__(self, name: str) -> str:
        try:
            return self._parameters[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> str:
        return self._parameters[name]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._parameters!r}>"
