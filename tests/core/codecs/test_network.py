"""inet becomes an address or an interface, cidr a network; nothing of an address is lost or made up."""

from __future__ import annotations

import pickle
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_both_ways, check_hostile, check_refused

CIDR, INET = 650, 869
Interface = IPv4Interface | IPv6Interface


class Host(Enum):
    GATEWAY = IPv4Address("192.0.2.1")


interfaces = st.one_of(
    st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 32)).map(IPv4Interface),
    st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 128)).map(IPv6Interface),
)


@pytest.mark.parametrize(
    ("oid", "wire", "value"),
    [
        (INET, "02200004c0000201", IPv4Address("192.0.2.1")),
        (INET, "02180004c0000201", IPv4Interface("192.0.2.1/24")),
        (INET, "0200000400000000", IPv4Interface("0.0.0.0/0")),
        (INET, "0380001020010db8000000000000000000000001", IPv6Address("2001:db8::1")),
        (INET, "0340001020010db8000000000000000000000001", IPv6Interface("2001:db8::1/64")),
        (INET, "0300001000000000000000000000000000000000", IPv6Interface("::/0")),
        (INET, "0380001000000000000000000000ffffc0000201", IPv6Address("::ffff:192.0.2.1")),
        (CIDR, "02180104c0000200", IPv4Network("192.0.2.0/24")),
        (CIDR, "02200104c0000201", IPv4Network("192.0.2.1/32")),
        (CIDR, "021f0104c0000202", IPv4Network("192.0.2.2/31")),
        (CIDR, "0200010400000000", IPv4Network("0.0.0.0/0")),
        (CIDR, "0320011020010db8000000000000000000000000", IPv6Network("2001:db8::/32")),
        (CIDR, "0380011000000000000000000000000000000001", IPv6Network("::1/128")),
    ],
)
def test_golden(oid: int, wire: str, value: object) -> None:
    check_both_ways(oid, wire, value)


@given(interfaces)
def test_every_inet_comes_back_like_one_from_the_constructor(value: Interface) -> None:
    result = decode(INET, encode(INET, value)[4:])
    whole = value.network.prefixlen == value.max_prefixlen
    expected = value.ip if whole else value
    assert type(result) is type(expected)
    assert result == expected
    assert hash(result) == hash(expected)
    assert str(result) == str(expected)
    assert pickle.loads(pickle.dumps(result)) == expected
    if not whole:
        assert isinstance(result, IPv4Interface | IPv6Interface)
        assert result.network == value.network
        assert result.ip == value.ip
        assert result.with_netmask == value.with_netmask
        assert result.with_hostmask == value.with_hostmask


@given(interfaces)
def test_every_cidr_comes_back_like_one_from_the_constructor(value: Interface) -> None:
    expected = value.network
    result = decode(CIDR, encode(CIDR, expected)[4:])
    assert isinstance(result, IPv4Network | IPv6Network)
    assert type(result) is type(expected)
    assert result == expected
    assert hash(result) == hash(expected)
    assert str(result) == str(expected)
    assert result.broadcast_address == expected.broadcast_address
    assert result.num_addresses == expected.num_addresses
    assert next(iter(result.hosts())) == next(iter(expected.hosts()))
    assert pickle.loads(pickle.dumps(result)) == expected


@given(interfaces)
def test_text_is_sent_like_the_object_it_is_the_text_of(value: Interface) -> None:
    assert encode(INET, str(value)) == encode(INET, value)
    assert encode(INET, str(value.ip)) == encode(INET, value.ip)
    assert encode(CIDR, str(value.network)) == encode(CIDR, value.network)


@pytest.mark.parametrize(
    ("oid", "value", "same"),
    [
        (INET, "192.0.2.1/255.255.255.0", "192.0.2.1/24"),
        (INET, IPv4Network("192.0.2.0/24"), "192.0.2.0/24"),
        (INET, IPv6Network("2001:db8::/32"), "2001:db8::/32"),
        (INET, IPv4Interface("192.0.2.1/32"), "192.0.2.1"),
        (INET, Host.GATEWAY, "192.0.2.1"),
        (CIDR, "192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        (CIDR, "192.0.2.1", "192.0.2.1/32"),
        (CIDR, IPv4Address("192.0.2.1"), "192.0.2.1/32"),
        (CIDR, IPv6Address("::1"), "::1/128"),
        (CIDR, IPv4Interface("192.0.2.0/24"), "192.0.2.0/24"),
    ],
)
def test_what_else_is_taken(oid: int, value: object, same: str) -> None:
    kind = ip_interface if oid == INET else ip_network
    assert encode(oid, value) == encode(oid, kind(same))


@pytest.mark.parametrize("oid", [CIDR, INET])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "1.2.3.04",
        "1.2.3.4/",
        "1.2.3.4/33",
        "::1/129",
        "1.2.3.4/-1",
        "1" * 99,
    ],
)
def test_other_text_is_refused(oid: int, value: str) -> None:
    check_refused(oid, value, ValueError, repr(value)[1:-1])


@pytest.mark.parametrize("value", ["192.0.2.1/24", IPv4Interface("192.0.2.1/24"), "::1/64", IPv6Interface("::1/64")])
def test_a_cidr_ends_with_its_network(value: object) -> None:
    check_refused(CIDR, value, ValueError, "has host bits set")


@pytest.mark.parametrize("oid", [CIDR, INET])
@pytest.mark.parametrize("value", ["fe80::1%eth0", IPv6Address("fe80::1%eth0")])
def test_a_scope_id_is_not_dropped_silently(oid: int, value: object) -> None:
    check_refused(oid, value, ValueError, "cannot hold the scope id of fe80::1%eth0")


@pytest.mark.parametrize("oid", [CIDR, INET])
@pytest.mark.parametrize("value", [1, b"\x01\x02\x03\x04", None])
def test_other_types_are_refused(oid: int, value: object) -> None:
    check_refused(oid, value, TypeError, f"its text in a str, got {type(value).__name__}")


@pytest.mark.parametrize("oid", [CIDR, INET])
def test_hostile_values(oid: int) -> None:
    check_hostile(
        oid,
        "",
        "022000",
        "02200004c00002",  # an address too short
        "02200004c000020100",  # and too long
        "02210004c0000201",  # 33 bits of 32
        "0381001000000000000000000000000000000000",  # 129 bits of 128
        "02200010c0000201",  # 16 bytes of IPv4
        "04200004c0000201",  # no family
    )


def test_a_cidr_with_bits_behind_its_network() -> None:
    check_hostile(CIDR, "02180104c0000201", "02170104c0000100", "0340011000000000000000000000000000000001")
