"""Partners of the shop, who send batches over HTTP: their keys and their limits.

A key is shown once, when its partner is added. The database has only its SHA-256, so a copy of the database opens
nothing. A key is 32 random bytes, which cannot be guessed, so a slow hash would add nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import string
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import headrace
from storefront import hints
from storefront.catalogue import Executor
from storefront.errors import StorefrontError, UsageError
from storefront.timing import timed

PARTNER_TABLES: Final = (
    """\
CREATE TABLE IF NOT EXISTS partner (
    partner_id SERIAL PRIMARY KEY,
    partner_name TEXT NOT NULL UNIQUE,
    key_prefix TEXT NOT NULL UNIQUE,
    key_hash BYTEA NOT NULL CHECK (octet_length(key_hash) = 32),
    requests_per_minute INTEGER NOT NULL CHECK (requests_per_minute > 0),
    batch_ids INTEGER NOT NULL CHECK (batch_ids > 0),
    batches_at_once INTEGER NOT NULL CHECK (batches_at_once > 0),
    added_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    revoked_at TIMESTAMPTZ
)""",
    # A crash of the server may forget these, so they are unlogged: no flush of the write-ahead log is waited for.
    """\
CREATE UNLOGGED TABLE IF NOT EXISTS partner_usage (
    partner_id INTEGER PRIMARY KEY REFERENCES partner (partner_id) ON DELETE CASCADE,
    minute_began TIMESTAMPTZ NOT NULL,
    requests INTEGER NOT NULL,
    granted INTEGER NOT NULL
)""",
    """\
CREATE UNLOGGED TABLE IF NOT EXISTS partner_batch (
    partner_id INTEGER NOT NULL REFERENCES partner (partner_id) ON DELETE CASCADE,
    slot INTEGER NOT NULL,
    lease UUID NOT NULL UNIQUE,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (partner_id, slot)
)""",
)
"""The statements that create the tables of partners. Running them again does no harm."""

REVOKED_CHANNEL: Final = "storefront_partner"
"""The channel on which a change of a partner is notified. The payload is the partner's id."""

REQUESTS_PER_MINUTE: Final = 600
BATCH_IDS: Final = 10_000
BATCHES_AT_ONCE: Final = 4
"""The limits of a partner that is added without others."""

LARGEST_LIMIT: Final = 1_000_000_000

_PREFIX_LETTERS: Final = string.ascii_lowercase + string.digits
_NO_HASH: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Partner:
    """A partner whose key is valid, with its limits."""

    partner_id: int
    partner_name: str
    key_prefix: str
    """The public part of the key. A new key has another one."""
    requests_per_minute: int
    batch_ids: int
    """The largest number of ids in a batch."""
    batches_at_once: int


@dataclass(frozen=True, slots=True)
class NewPartner:
    """A partner that was just added, with the key that cannot be shown again."""

    partner: Partner
    key: str

    def __repr__(self) -> str:
        return f"NewPartner({self.partner!r}, key='{self.partner.key_prefix}...')"


@dataclass(frozen=True, slots=True)
class PartnerEntry:
    """A partner in the list of all partners, also of those whose key was revoked."""

    partner: Partner
    added_at: datetime
    revoked_at: datetime | None


_COLUMNS: Final = "partner_id, partner_name, key_prefix, requests_per_minute, batch_ids, batches_at_once"

_ADD: Final = f"""\
INSERT INTO partner (partner_name, key_prefix, key_hash, requests_per_minute, batch_ids, batches_at_once)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (partner_name) DO UPDATE
SET key_prefix = excluded.key_prefix, key_hash = excluded.key_hash,
    requests_per_minute = excluded.requests_per_minute, batch_ids = excluded.batch_ids,
    batches_at_once = excluded.batches_at_once, added_at = now(), revoked_at = NULL
WHERE partner.revoked_at IS NOT NULL
RETURNING {_COLUMNS}"""

_REVOKE: Final = """\
WITH revoked AS (
    UPDATE partner SET revoked_at = now() WHERE partner_name = $1 AND revoked_at IS NULL RETURNING partner_id
)
SELECT pg_notify($2, partner_id::text) FROM revoked"""

_REMOVE: Final = "DELETE FROM partner WHERE partner_name = $1"

_BY_PREFIX: Final = f"SELECT {_COLUMNS}, key_hash FROM partner WHERE key_prefix = $1 AND revoked_at IS NULL"
_LIST: Final = f"SELECT {_COLUMNS}, added_at, revoked_at FROM partner ORDER BY partner_name"
_VALID: Final = "SELECT key_prefix FROM partner WHERE key_prefix = ANY($1) AND revoked_at IS NULL"


def _partner(row: headrace.Record) -> Partner:
    return Partner(*tuple(row)[:6])


def key_digest(key: str) -> bytes:
    """Return the SHA-256 of a key, which the database has in its place."""
    return hashlib.sha256(key.encode()).digest()


def _new_key() -> tuple[str, str]:
    """Return a new key and the public part of it."""
    prefix = "".join(secrets.choice(_PREFIX_LETTERS) for _ in range(8))
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return f"sf_{prefix}_{secret}", prefix


def _public_part(key: str) -> str | None:
    """Return the public part of a key, or None if the text has not the form of a key."""
    parts = key.split("_", 2)
    if len(parts) != 3 or parts[0] != "sf" or len(parts[1]) != 8 or len(parts[2]) != 43 or not key.isascii():
        return None
    return parts[1]


@timed
async def add_partner(
    executor: Executor,
    name: str,
    *,
    requests_per_minute: int = REQUESTS_PER_MINUTE,
    batch_ids: int = BATCH_IDS,
    batches_at_once: int = BATCHES_AT_ONCE,
) -> NewPartner:
    """Add a partner and return it with its key, which is stored nowhere.

    A partner whose key was revoked gets a new key and keeps its id. Raises UsageError if the name or a limit makes no
    sense, and StorefrontError if the partner has a valid key.
    """
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise UsageError(f"a partner's name is expected to be 1 to 100 printable characters, got {name[:120]!r}")
    limits = {
        "requests_per_minute": requests_per_minute,
        "batch_ids": batch_ids,
        "batches_at_once": batches_at_once,
    }
    for limit, value in limits.items():
        if not 1 <= value <= LARGEST_LIMIT:
            raise UsageError(f"{limit} is expected to be from 1 to {LARGEST_LIMIT:,}, got {value}")
    key, prefix = _new_key()
    row = await executor.fetchrow(_ADD, name, prefix, key_digest(key), *limits.values())
    if row is None:
        revoke = hints.suggest("partners", "revoke", name)
        raise StorefrontError(f"the partner {name!r} has a key already: revoke it first, by {revoke}")
    return NewPartner(_partner(row), key)


async def list_partners(executor: Executor) -> list[PartnerEntry]:
    """Return all partners, ordered by name."""
    rows = await executor.fetch(_LIST)
    return [PartnerEntry(_partner(row), row["added_at"], row["revoked_at"]) for row in rows]


@timed
async def revoke_partner(executor: Executor, name: str) -> None:
    """Revoke a partner's key. Every process of the service learns it at once, and at the latest when it looks again.

    Raises StorefrontError if there is no such partner, or if its key was revoked before.
    """
    if await executor.fetchrow(_REVOKE, name, REVOKED_CHANNEL) is None:
        raise StorefrontError(
            f"no partner {name[:120]!r} has a valid key: {hints.suggest('partners', 'list')} shows all"
        )


async def remove_partner(executor: Executor, name: str) -> None:
    """Remove a partner with all that belongs to it, also its jobs. It is no error if there is none."""
    await executor.execute(_REMOVE, name)


async def authenticate(executor: Executor, key: str) -> Partner | None:
    """Return the partner that a valid key belongs to, or None. The hashes are compared in constant time."""
    prefix = _public_part(key)
    row = None if prefix is None else await executor.fetchrow(_BY_PREFIX, prefix)
    expected = _NO_HASH if row is None else row["key_hash"]
    same = hmac.compare_digest(key_digest(key), expected)
    return _partner(row) if same and row is not None else None


async def partner_with_key_prefix(executor: Executor, partner_id: int, key_prefix: str) -> Partner | None:
    """Return a partner if its valid key has this public part. This checks a session that began with the whole key."""
    row = await executor.fetchrow(_BY_PREFIX, key_prefix)
    return None if row is None or row["partner_id"] != partner_id else _partner(row)


async def valid_prefixes(executor: Executor, key_prefixes: list[str]) -> set[str]:
    """Return those public parts of keys that are still valid."""
    return {row[0] for row in await executor.fetch(_VALID, key_prefixes)}
