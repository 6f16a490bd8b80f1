"""`storefront partners`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result


def test_a_partner_is_added_listed_and_revoked(run: Callable[..., Result], dsn: str) -> None:
    added = run("partners", "add", "Aurora", "--batch-ids", "50", dsn=dsn)
    key = added.stdout.strip()
    assert key.startswith("sf_")
    assert added.stderr == "added: partner 1, Aurora; this is its key, which is not shown again:\n"
    listed = run("partners", "list", dsn=dsn).stdout
    assert listed.split()[:3] == ["id", "partner", "key"]
    assert f"1  Aurora   {key[:11]} " in listed
    assert key[12:] not in listed
    assert run("partners", "revoke", "Aurora", dsn=dsn).stdout == "revoked: the key of Aurora\n"
    (entry,) = json.loads(run("partners", "list", "--json", dsn=dsn).stdout)["partners"]
    assert (entry["partner_name"], entry["batch_ids"], entry["revoked_at"] is None) == ("Aurora", 50, False)


def test_a_program_gets_the_new_partner_as_json(run: Callable[..., Result], dsn: str) -> None:
    new = json.loads(run("partners", "add", "Añora", "--json", dsn=dsn).stdout)
    assert new["partner_name"] == "Añora"
    assert new["key"].startswith(f"sf_{new['key_prefix']}_")


def test_a_partner_cannot_be_added_twice_nor_revoked_twice(
    run: Callable[..., Result], fails: Callable[..., None], dsn: str
) -> None:
    run("partners", "add", "Aurora", dsn=dsn)
    fails("partners", "add", "Aurora", status=1, message="revoke it first", dsn=dsn)
    fails("partners", "revoke", "Boreal", status=1, message="no partner 'Boreal' has a valid key", dsn=dsn)


def test_markup_in_a_name_is_shown_as_it_is(run: Callable[..., Result], dsn: str) -> None:
    run("partners", "add", "[bold]Aurora[/bold]", dsn=dsn)
    assert "[bold]Aurora[/bold]" in run("partners", "list", dsn=dsn).stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["add"], "Missing argument"),
        (["add", " "], "1 to 100 printable characters"),
        (["add", "Aurora", "--batch-ids", "0"], "Invalid value"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], dsn: str, args: list[str], message: str) -> None:
    fails("partners", *args, status=2, message=message, dsn=dsn)
