"""Reads require_auth: which authentication methods the server may ask for.

Source: PostgreSQL documentation, "Parameter Key Words", require_auth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from headrace.exceptions import ClientConfigurationError

METHODS: Final = ("password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none")
"""Methods as require_auth calls them. `none`: the server asks for nothing."""


@dataclass(frozen=True, slots=True)
class AllowedMethods:
    """The methods that require_auth leaves."""

    text: str
    methods: frozenset[str]

    def __contains__(self, method: str) -> bool:
        return method in self.methods


def parse_require_auth(text: str) -> AllowedMethods:
    """Read a list of methods: either those that are allowed, or with `!` before each those that are not.

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
                hint='Either list what is allowed, or put "!" before each method that is not.',
            )
        if method in named:
            raise ClientConfigurationError(f"require_auth names {method!r} twice")
        named.add(method)
    return AllowedMethods(text, frozenset(set(METHODS) - named if negated else named))
