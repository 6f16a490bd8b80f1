"""The addresses to connect to, from the lists of hosts, addresses and ports.

Source: PostgreSQL documentation, "Specifying Multiple Hosts", and `host`, `hostaddr`, `port` in "Parameter
Key Words".
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final

from headrace._connect.params.values import Values
from headrace._connect.platform import DEFAULT_HOSTS, SOCKET_PATH_MAX, UNIX_SOCKETS
from headrace.exceptions import ClientConfigurationError

DEFAULT_PORT: Final = 5432
_SOCKET_FILE: Final = re.compile(r"\.s\.PGSQL\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Address:
    """An address that a server may listen on. A name is not resolved here: it may resolve differently at each try."""

    host: str | None
    """The user's name for the server: a name, an IP address or the directory of a Unix socket; None if only a
    hostaddr was given. TLS verifies this name, and Kerberos and the passfile use it."""
    hostaddr: str | None
    """An IP address to connect to instead of resolving `host`."""
    port: int

    @property
    def is_unix(self) -> bool:
        """True if this is a Unix socket."""
        return self.hostaddr is None and self.host is not None and self.host.startswith(("/", "@"))

    @property
    def target(self) -> str:
        """The name or address for getaddrinfo(). Only for addresses that are not Unix sockets."""
        target = self.hostaddr or self.host
        assert target is not None
        assert not self.is_unix
        return target

    @property
    def socket_path(self) -> str:
        """The path of the Unix socket; in the abstract namespace it starts with a NUL."""
        assert self.host is not None
        assert self.is_unix
        if _SOCKET_FILE.fullmatch(os.path.basename(self.host)):
            # As in asyncpg, the path of the socket itself is accepted too.
            path = self.host
        else:
            path = f"{self.host}/.s.PGSQL.{self.port}"
        return "\0" + path[1:] if path.startswith("@") else path

    @property
    def passfile_hosts(self) -> tuple[str, ...]:
        """The names that a passfile may have for this server: for a Unix socket its directory and localhost."""
        if self.is_unix:
            assert self.host is not None
            return (self.host, "localhost")
        return (self.host or self.hostaddr or "localhost",)

    def __str__(self) -> str:
        if self.is_unix:
            return self.socket_path.replace("\0", "@", 1)
        host = self.host or self.hostaddr or ""
        shown = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        if self.host and self.hostaddr and self.host != self.hostaddr:
            shown += f" ({self.hostaddr})"
        return shown


def addresses(values: Values) -> tuple[Address, ...]:
    """Pair hosts, addresses and ports.

    The lists must have the same length, except that one port is for all hosts. An empty host stands for the default
    ones, an empty port for 5432. Raises ClientConfigurationError for lists that do not match, ports out of range,
    malformed addresses, and a socket path that is longer than the system allows.
    """
    hosts = _list(values, "host")
    hostaddrs = _list(values, "hostaddr")
    if hosts and hostaddrs and len(hosts) != len(hostaddrs):
        raise _mismatch("hostaddr", len(hostaddrs), "host", len(hosts))
    count = len(hostaddrs or hosts) or 1
    ports = _list(values, "port") or [""]
    if len(ports) not in (1, count):
        raise _mismatch("port", len(ports), "host", count)

    found: list[Address] = []
    for i in range(count):
        host = hosts[i] if hosts else ""
        hostaddr = hostaddrs[i] if hostaddrs else ""
        text = ports[0] if len(ports) == 1 else ports[i]
        port = values.to_integer("port", text, minimum=1, maximum=65535) if text else DEFAULT_PORT
        if hostaddr:
            _check_ip(values, hostaddr)
        for name in (host,) if host or hostaddr else DEFAULT_HOSTS:
            address = Address(name or None, hostaddr or None, port)
            if address.is_unix:
                _check_socket(address)
            found.append(address)
    return tuple(found)


def _list(values: Values, name: str) -> list[str]:
    text = values.text(name)
    return text.split(",") if text else []


def _mismatch(name: str, found: int, other: str, expected: int) -> ClientConfigurationError:
    return ClientConfigurationError(
        f"could not match {found} {'port number' if name == 'port' else name}{'' if found == 1 else 's'}"
        f" to {expected} {other}{'' if expected == 1 else 's'}",
        hint=f"Give one {name} for each {other}" + (", or one port for all." if name == "port" else "."),
    )


def _check_ip(values: Values, hostaddr: str) -> None:
    try:
        ipaddress.ip_address(hostaddr)
    except ValueError:
        raise values.error(
            "hostaddr", "an IP address", found=hostaddr, hint="Pass a name as host, which is resolved."
        ) from None


def _check_socket(address: Address) -> None:
    if not UNIX_SOCKETS:
        raise ClientConfigurationError(
            f"host is the directory of a Unix socket, {address.host!r}, which this operating system does not have",
            hint="Give the name or the IP address of the server.",
        )
    length = len(os.fsencode(address.socket_path))
    if length > SOCKET_PATH_MAX:
        raise ClientConfigurationError(
            f"the path of the Unix socket {str(address)!r} is too long:"
            f" {length} bytes, expected at most {SOCKET_PATH_MAX}",
            hint="Move unix_socket_directories of the server to a shorter path.",
        )
