"""GSSAPI authentication (Kerberos) with the optional package `gssapi`.

Source: PostgreSQL documentation, "Message Flow", AuthenticationGSS; RFC 2743. A step may contact the key distribution
centre, so run it off the event loop.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from headrace.exceptions import InterfaceError, UnsupportedClientFeatureError


class GssExchange:
    """The client's side of one exchange. The server authenticates itself too (mutual authentication)."""

    def __init__(self, *, service: str, host: str, delegate: bool) -> None:
        """Prepare an exchange with service@host. Raises UnsupportedClientFeatureError if gssapi is not installed."""
        if importlib.util.find_spec("gssapi") is None:
            raise UnsupportedClientFeatureError(
                "the server asks for GSSAPI authentication, which needs the package gssapi",
                hint="Install it (pip install gssapi), or let pg_hba.conf ask for scram-sha-256.",
            )
        self._service = service
        self._host = host
        self._delegate = delegate
        self._context: Any = None

    @property
    def complete(self) -> bool:
        """True if both sides are authenticated."""
        return self._context is not None and bool(self._context.complete)

    def step(self, token: bytes | None) -> bytes | None:
        """Process the server's token, None at first; return the token to send, or None.

        Raises InterfaceError if GSSAPI fails: no ticket, unknown service, clocks that differ.
        """
        gssapi: Any = importlib.import_module("gssapi")
        try:
            if self._context is None:
                name = gssapi.Name(f"{self._service}@{self._host}", gssapi.NameType.hostbased_service)
                flags = {gssapi.RequirementFlag.mutual_authentication}
                if self._delegate:
                    flags.add(gssapi.RequirementFlag.delegate_to_peer)
                self._context = gssapi.SecurityContext(name=name, flags=flags, usage="initiate")
            answer: bytes | None = self._context.step(token)
        except gssapi.exceptions.GSSError as reason:
            raise InterfaceError(
                f"GSSAPI authentication with {self._service}@{self._host} failed: {reason}",
                hint="klist shows whether there is a ticket; krbsrvname is the service's name.",
            ) from reason
        return answer
