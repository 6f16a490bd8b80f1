"""Parses require_auth: which authentication methods the server may ask for.

Source: PostgreSQL documentation, "Parameter Key Words", require_auth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from headrace.exceptions import ClientConfigurationError

METHODS: Final = ("password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none")
"""The methods by their names in require_auth. `none`: the server asks for nothing."""


@dataclass(frozen=True, slots=True)
class AllowedMethods:
    """The methods that require_auth allows."""

    text: str
    methods: frozenset[str]

    def __contains__(self, method: str) -> bool:
        return method in self.methods


def parse_require_auth(text: str) -> AllowedMethods:
    """Parse a list of methods: the allowed ones, or with `!` before each those that are not allowed.

    Raises ClientConfigurationError for unknown and repeated methods and for lists that mix both kinds.
    """
    named: set[str] = set()
    words = text.split(",")
    negated = words[0].startswith("!")
    for word in words:
        method = word.removeprefix("!")
        if method not in METHODS:
            raise ClientConfigurationError(
                f"require_auth names the unknown method {method!r}",
                hint=f"Methods are {', '.join(METHODS)}, separated by commas without spaces.",
            )
        if word.startswith("!") != negated:
            raise ClientConfigurationError(
                'require_auth mixes methods with and without "!"',
                hint='List the methods that are allowed, or put "!" before each method that is not.',
            )
        if method in named:
            raise ClientConfigurationError(f"require_auth names {method!r} twice")
        named.add(method)
    return AllowedMethods(text, frozenset(set(METHODS) - named if negated else named))
