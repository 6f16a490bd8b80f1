"""Addresses and other identifiers: inet, cidr, macaddr, macaddr8, uuid."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

from tests.core.codecs.on_server.samples.sample import Sample

ADDRESSES = st.ip_addresses()


def as_inet(value: Any) -> Any:
    """Return what inet holds of an interface whose network is itself alone: the address."""
    if isinstance(value, ipaddress.IPv4Interface | ipaddress.IPv6Interface):
        return value.ip if value.network.num_addresses == 1 else value
    return value


def prefixed(address: Any) -> st.SearchStrategy[tuple[Any, int]]:
    return st.tuples(st.just(address), st.integers(0, address.max_prefixlen))


INTERFACES = ADDRESSES.flatmap(prefixed).map(ipaddress.ip_interface)
NETWORKS = ADDRESSES.flatmap(prefixed).map(lambda place: ipaddress.ip_network(place, strict=False))


def macs(length: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=length, max_size=length).map(lambda address: address.hex(":"))


ADDRESSED = [
    Sample(
        "inet",
        ADDRESSES | INTERFACES,
        edges=tuple(
            map(
                ipaddress.ip_interface,
                (
                    "0.0.0.0/0",
                    "255.255.255.255/32",
                    "10.1.2.3/8",
                    "::/0",
                    "::1/128",
                    "2001:db8::1/64",
                    "::ffff:1.2.3.4/127",
                ),
            )
        ),
        returned=as_inet,
    ),
    Sample(
        "cidr",
        NETWORKS,
        edges=tuple(
            map(ipaddress.ip_network, ("0.0.0.0/0", "10.0.0.0/8", "1.2.3.4/32", "::/0", "2001:db8::/32", "::1"))
        ),
    ),
    Sample("macaddr", macs(6), edges=("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "08:00:2b:01:02:03")),
    Sample("macaddr8", macs(8), edges=("00:00:00:00:00:00:00:00", "08:00:2b:01:02:03:04:05")),
    Sample("uuid", st.uuids()),
]
