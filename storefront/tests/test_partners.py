"""Partners and their keys."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

import headrace
from storefront import StorefrontError, UsageError, open_connection
from storefront.partners import (
    REVOKED_CHANNEL,
    add_partner,
    authenticate,
    list_partners,
    partner_with_key_prefix,
    revoke_partner,
    valid_prefixes,
)
from storefront.service_schema import create_service_tables


@pytest.fixture
async def connection(empty: str) -> AsyncIterator[headrace.Connection]:
    """A connection to a database with the tables of partners."""
    async with open_connection(empty) as connection:
        await create_service_tables(connection)
        yield connection


async def test_a_partner_is_found_by_its_key(connection: headrace.Connection) -> None:
    new = await add_partner(connection, "Aurora", requests_per_minute=5, batch_ids=6, batches_at_once=7)
    partner = await authenticate(connection, new.key)
    assert partner == new.partner
    assert (partner.partner_name, partner.requests_per_minute, partner.batch_ids, partner.batches_at_once) == (
        "Aurora",
        5,
        6,
        7,
    )


async def test_the_database_has_only_the_hash_of_a_key(connection: headrace.Connection) -> None:
    new = await add_partner(connection, "Aurora")
    kind, prefix, secret = new.key.split("_", 2)
    assert (kind, len(prefix), len(secret)) == ("sf", 8, 43)
    row = await connection.fetchrow("SELECT * FROM partner")
    assert row is not None
    assert row["key_hash"] == hashlib.sha256(new.key.encode()).digest()
    assert row["key_prefix"] == prefix
    assert secret not in str(row)
    assert secret not in repr(new)


async def test_every_key_is_another(connection: headrace.Connection) -> None:
    keys = [(await add_partner(connection, f"partner {number}")).key for number in range(20)]
    assert len({key.split("_", 2)[1] for key in keys}) == len({key.split("_", 2)[2] for key in keys}) == 20


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key + "A",
        lambda key: key[3:],
        lambda key: "sf_" + "a" * 8 + key[11:],
        lambda key: key.upper(),
        lambda key: "",
        lambda key: "sf_%_%",
        lambda key: f"sf_{'é' * 8}_{'x' * 43}",
    ],
)
async def test_any_other_key_is_refused(connection: headrace.Connection, change: object) -> None:
    new = await add_partner(connection, "Aurora")
    assert callable(change)
    assert await authenticate(connection, change(new.key)) is None


async def test_keys_are_compared_in_constant_time(
    connection: headrace.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = await add_partner(connection, "Aurora")
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    # A key with an unknown public part is compared as well, so the time does not tell which parts exist.
    for key in (new.key, new.key[:-1] + "~", "sf_aaaaaaaa_" + "x" * 43):
        await authenticate(connection, key)
    assert [len(one) == len(other) == 32 for one, other in compared] == [True, True, True]


async def test_a_revoked_key_is_refused_and_the_revocation_is_notified(connection: headrace.Connection) -> None:
    new = await add_partner(connection, "Aurora")
    heard: list[object] = []
    await connection.add_listener(REVOKED_CHANNEL, lambda *args: heard.append(args[3]))
    await revoke_partner(connection, "Aurora")
    assert await authenticate(connection, new.key) is None
    assert await valid_prefixes(connection, [new.partner.key_prefix]) == set()
    assert heard == [str(new.partner.partner_id)]
    with pytest.raises(StorefrontError, match="no partner 'Aurora' has a valid key"):
        await revoke_partner(connection, "Aurora")


async def test_a_session_is_valid_as_long_as_the_key_that_it_began_with(connection: headrace.Connection) -> None:
    new = await add_partner(connection, "Aurora")
    partner_id, prefix = new.partner.partner_id, new.partner.key_prefix
    assert await partner_with_key_prefix(connection, partner_id, prefix) == new.partner
    assert await partner_with_key_prefix(connection, partner_id + 1, prefix) is None
    await revoke_partner(connection, "Aurora")
    await add_partner(connection, "Aurora")
    assert await partner_with_key_prefix(connection, partner_id, prefix) is None


async def test_a_revoked_partner_gets_a_new_key_and_keeps_its_id(connection: headrace.Connection) -> None:
    first = await add_partner(connection, "Aurora")
    with pytest.raises(StorefrontError, match="'Aurora' has a key already: revoke it first"):
        await add_partner(connection, "Aurora")
    await revoke_partner(connection, "Aurora")
    second = await add_partner(connection, "Aurora", batch_ids=5)
    assert second.partner == replace(first.partner, key_prefix=second.partner.key_prefix, batch_ids=5)
    assert await authenticate(connection, second.key) == second.partner
    assert await authenticate(connection, first.key) is None


async def test_partners_are_listed_by_name_with_those_that_were_revoked(connection: headrace.Connection) -> None:
    for name in ("Cirrus", "Aurora", "Boreal"):
        await add_partner(connection, name)
    await revoke_partner(connection, "Boreal")
    listed = [(entry.partner.partner_name, entry.revoked_at is None) for entry in await list_partners(connection)]
    assert listed == [("Aurora", True), ("Boreal", False), ("Cirrus", True)]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00b", "x" * 101])
async def test_a_name_that_nobody_could_type_is_refused(connection: headrace.Connection, name: str) -> None:
    with pytest.raises(UsageError, match="1 to 100 printable characters"):
        await add_partner(connection, name)


@pytest.mark.parametrize("limit", ["requests_per_minute", "batch_ids", "batches_at_once"])
async def test_a_limit_that_allows_nothing_is_refused(connection: headrace.Connection, limit: str) -> None:
    with pytest.raises(UsageError, match=f"{limit} is expected to be from 1 to 1,000,000,000, got 0"):
        await add_partner(connection, "Aurora", **{limit: 0})


async def test_the_tables_can_be_created_by_several_programs_at_once(empty: str) -> None:
    async with headrace.create_pool(empty, min_size=4, max_size=4) as pool:

        async def create() -> None:
            async with pool.acquire() as connection:
                await create_service_tables(connection)

        await asyncio.gather(*(create() for _ in range(4)))
