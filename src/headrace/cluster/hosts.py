"""The hosts of a cluster: their names, and the hosts that a DSN lists."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from headrace._connect.params.address import DEFAULT_PORT
from headrace._connect.params.arguments import ConnectArguments
from headrace._connect.params.resolve import resolve
from headrace._connect.params.secret import hides_locals
from headrace._connect.platform import DEFAULT_HOSTS
from headrace.exceptions import ClientConfigurationError, InterfaceError
from headrace.exceptions._values import shown

Role = Literal["primary", "replica"]

OWN: Final = ("host", "hostaddr", "port", "target_session_attrs", "load_balance_hosts")
"""The arguments of connect() that a cluster sets for each host."""


@dataclass(frozen=True, slots=True)
class Host:
    """A server of a cluster, by its address."""

    host: str
    """A name, an IP address or the directory of a Unix socket."""
    port: int = DEFAULT_PORT
    hostaddr: str | None = None
    """An IP address to connect to. TLS and the passfile still use `host`."""
    role: Role | None = field(default=None, compare=False)
    """The role that `discover` knows, from a source that decides about it; None if it does not know."""

    def __str__(self) -> str:
        shown_host = f"[{self.host}]" if ":" in self.host else self.host
        address = f" ({self.hostaddr})" if self.hostaddr and self.hostaddr != self.host else ""
        return f"{shown_host}:{self.port}{address}"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `connect()` for this host alone."""
        return {"host": self.host, "hostaddr": self.hostaddr or "", "port": self.port, "target_session_attrs": "any"}


@hides_locals
def hosts_of(dsn: str | None, arguments: Mapping[str, Any]) -> tuple[Host, ...]:
    """Return the hosts of a DSN and of the arguments of `connect()`.

    Raises ClientConfigurationError for parameters that `connect()` would refuse, if no host is given, and for a host
    that appears twice.
    """
    names = ConnectArguments.__annotations__
    known: Any = {name: value for name, value in arguments.items() if name in names}
    addresses = resolve(dsn, **known).addresses
    if tuple(address.host for address in addresses) == DEFAULT_HOSTS:
        raise ClientConfigurationError(
            "a cluster is expected to get the names of its hosts, and none is given",
            hint="Name them in the DSN, such as postgresql://a.example.com,b.example.com/shop, or as host=.",
        )
    hosts = (Host(address.host or address.hostaddr or "", address.port, address.hostaddr) for address in addresses)
    return without_duplicates(hosts, "the hosts of the cluster")


def without_duplicates(hosts: Iterable[Host], origin: str) -> tuple[Host, ...]:
    """Return the hosts; raises ClientConfigurationError that names a host that is there twice."""
    found: dict[Host, None] = {}
    for host in hosts:
        if host in found:
            raise ClientConfigurationError(f"{host} appears twice among {origin}", hint="List each host once.")
        found[host] = None
    return tuple(found)


def checked_hosts(answer: object) -> tuple[Host, ...]:
    """Return the hosts that `discover` has returned; raises InterfaceError for anything else, and for none."""
    if isinstance(answer, (str, bytes, Mapping)) or not isinstance(answer, Iterable):
        raise InterfaceError(f"discover is expected to return hosts, got {type(answer).__name__} {shown(answer)}")
    found = without_duplicates(map(_host, answer), "the hosts that discover has returned")
    if not found:
        raise InterfaceError("discover is expected to return hosts, got none")
    if sum(host.role == "primary" for host in found) > 1:
        raise InterfaceError("discover is expected to name one primary at most, got several")
    return found


def _host(value: object) -> Host:
    """Return a host that may be given as a Host, a text such as "a.example.com:5432", or a pair."""
    host, port, role, hostaddr = value, DEFAULT_PORT, None, None
    if isinstance(value, Host):
        host, port, role, hostaddr = value.host, value.port, value.role, value.hostaddr
    elif isinstance(value, tuple) and len(value) == 2:
        host, port = value
    elif isinstance(value, str) and (value.count(":") == 1 or value.startswith("[")):
        host, _, text = value.rpartition(":") if not value.endswith("]") else (value, "", "")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        port = int(text) if text.isascii() and text.isdigit() else DEFAULT_PORT if not text else 0
    if not isinstance(host, str) or not _may_be_host(host) or isinstance(port, bool) or not isinstance(port, int):
        raise InterfaceError(f"discover is expected to return hosts, such as 'a.example.com:5432', got {shown(value)}")
    if not 0 < port <= 65535:
        raise InterfaceError(f"discover is expected to return ports from 1 to 65535, got {shown(value)}")
    if role not in (None, "primary", "replica"):
        raise InterfaceError(f"discover is expected to return the role 'primary', 'replica' or None, got {shown(role)}")
    if hostaddr is not None and not (isinstance(hostaddr, str) and _is_address(hostaddr)):
        raise InterfaceError(f"discover is expected to return a hostaddr that is an IP address, got {shown(hostaddr)}")
    return Host(host, port, hostaddr, role)


def _may_be_host(text: str) -> bool:
    """Return whether a text may name a host: a name, an IP address or the directory of a Unix socket."""
    if "," in text or not text.isprintable():
        return False
    return text.startswith(("/", "@")) or re.fullmatch(r"[^\s\[\]/@]+", text) is not None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
