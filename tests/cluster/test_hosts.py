"""The hosts of a cluster: those of a DSN, and those that `discover` returns."""

from __future__ import annotations

import pytest

import headrace
from headrace.cluster.hosts import Host, checked_hosts, hosts_of
from headrace.exceptions import ClientConfigurationError, InterfaceError


def test_the_hosts_of_a_dsn() -> None:
    assert hosts_of("postgresql://a,b:5433,[::1]:5434/shop", {}) == (Host("a"), Host("b", 5433), Host("::1", 5434))
    assert hosts_of("postgresql:///shop", {"host": ["a", "b"], "port": 5433}) == (Host("a", 5433), Host("b", 5433))
    assert hosts_of("host=a,b hostaddr=10.0.0.1,10.0.0.2", {}) == (
        Host("a", 5432, "10.0.0.1"),
        Host("b", 5432, "10.0.0.2"),
    )
    assert str(Host("::1", 5434)) == "[::1]:5434"
    assert str(Host("a", 5432, "10.0.0.1")) == "a:5432 (10.0.0.1)"


def test_a_host_that_appears_twice_is_named() -> None:
    with pytest.raises(ClientConfigurationError, match="b:5432 appears twice among the hosts of the cluster"):
        headrace.create_cluster("postgresql://a,b,b/shop")


def test_hosts_have_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    with pytest.raises(ClientConfigurationError, match="expected to get the names of its hosts"):
        headrace.create_cluster("postgresql:///shop")


def test_the_hosts_that_discover_returns() -> None:
    named = Host("c", role="primary")
    assert checked_hosts(["a", "b:5433", ("c", 5434), "[::1]:5435", "[::2]", named]) == (
        Host("a"),
        Host("b", 5433),
        Host("c", 5434),
        Host("::1", 5435),
        Host("::2"),
        Host("c"),
    )
    assert checked_hosts([named])[0].role == "primary"
    others = (
        Host("/run/my sockets"),
        Host("b\u00fccher.example"),
        Host("fe80::1%eth0"),
        Host("a", 5432, "fe80::1%eth0"),
    )
    assert checked_hosts(["/run/my sockets", "b\u00fccher.example", *others[2:]]) == others


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "discover is expected to return hosts, got NoneType None"),
        ("a", "discover is expected to return hosts, got str 'a'"),
        ([], "got none"),
        ([5], "got 5"),
        ([""], "got ''"),
        (["a:x"], "ports from 1 to 65535, got 'a:x'"),
        ([("a", 70000)], "ports from 1 to 65535"),
        ([("a", True)], "discover is expected to return hosts"),
        (["a\0"], "discover is expected to return hosts"),
        (["a\n"], "discover is expected to return hosts"),
        (["a b"], "discover is expected to return hosts"),
        (["a,b"], "discover is expected to return hosts"),
        (["[::1"], "discover is expected to return hosts"),
        (["\ud800"], "discover is expected to return hosts"),
        ([Host("a", hostaddr="b")], "a hostaddr that is an IP address, got 'b'"),
        ([Host("a", hostaddr=5)], "a hostaddr that is an IP address, got 5"),  # type: ignore[arg-type]
        (["a", "a:5432"], "a:5432 appears twice among the hosts that discover has returned"),
        ([Host("a", role="primary"), Host("b", role="primary")], "one primary at most"),
        ([Host("a", role="leader")], "the role 'primary', 'replica' or None, got 'leader'"),  # type: ignore[arg-type]
    ],
)
def test_nonsense_of_discover_is_refused(answer: object, message: str) -> None:
    with pytest.raises(InterfaceError, match=message):
        checked_hosts(answer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"check_interval": 0}, "check_interval is expected to be a number of seconds greater than zero, got 0"),
        ({"check_timeout": "x"}, "check_timeout is expected"),
        ({"max_lag": -1}, "max_lag is expected"),
        ({"fallback": 1}, "fallback is expected to be True or False, got 1"),
        ({"on_split": "guess"}, "on_split is expected to be 'newest' or 'refuse', got 'guess'"),
        ({"min_size": 5, "max_size": 2}, "min_size is greater than max_size: 5 > 2"),
        ({"failover_timeout": None}, "failover_timeout is expected"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        headrace.create_cluster("postgresql://a,b/shop", **options)  # type: ignore[arg-type]
