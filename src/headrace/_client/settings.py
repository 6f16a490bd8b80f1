"""What the server reports of its settings."""

from __future__ import annotations


class ConnectionSettings:
    """Run-time parameters as the server has reported them last, by attribute or item; to be read only."""

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
