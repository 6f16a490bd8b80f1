"""Random values of the types of extensions, alone, in arrays and in composites; and of one that nothing is known of."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from tests.core.codecs.on_server import literals
from tests.core.codecs.on_server.round_trip import batches, check
from tests.core.codecs.on_server.samples.characters import EDGES, TEXT
from tests.core.codecs.on_server.samples.every import SAMPLES
from tests.core.codecs.on_server.samples.made import composite_of
from tests.core.codecs.on_server.samples.sample import Sample, array_of

LABEL = st.text("abcABC_019", min_size=1, max_size=5)
PATHS = st.lists(LABEL, max_size=5).map(".".join)

EXTENDED = [
    ("citext", Sample("citext", TEXT, edges=EDGES)),
    ("ltree", Sample("ltree", PATHS, edges=("", "Top.Science"))),
    ("ltree", Sample("lquery", st.lists(LABEL | st.just("*"), min_size=1).map(".".join), edges=("*{1,2}.a|b.!c",))),
    ("ltree", Sample("ltxtquery", st.lists(LABEL, min_size=1).map(" & ".join), edges=("a & !( b | c@ )",))),
    (
        "hstore",
        Sample(
            "hstore",
            st.dictionaries(TEXT, TEXT | st.none(), max_size=6),
            literals.hstore,
            edges=({}, {"a": None, "b": "NULL"}, {'"\\=>,': '"\\=>,'}),
        ),
    ),
    # pgvector, whose types the driver has never heard of: the server's text.
    ("vector", Sample("vector", st.lists(st.integers(-99, 99), min_size=1).map(str).map(lambda v: v.replace(" ", "")))),
]


@pytest.fixture(params=EXTENDED, ids=lambda param: repr(param[1]))
async def extended(request: pytest.FixtureRequest, conn: headrace.Connection) -> AsyncIterator[Sample]:
    """A type of an extension, where the server comes with that."""
    extension, sample = request.param
    if not await conn.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = $1", extension):
        pytest.skip(f"this PostgreSQL comes without {extension}")
    await conn.execute(
        f"CREATE EXTENSION {extension}; CREATE TYPE extended AS (a {sample.type}, b int, c {sample.type}[])"
    )
    if extension == "hstore":
        await conn.set_builtin_type_codec("hstore", codec_name="pg_contrib.hstore")
    yield sample
    await conn.execute(f"DROP EXTENSION {extension} CASCADE; DROP TYPE extended")


@batches
@given(data=st.data())
async def test_values(conn: headrace.Connection, extended: Sample, data: st.DataObject) -> None:
    await check(conn, extended, [*extended.edges, *data.draw(st.lists(extended.every, max_size=10))])
    array = array_of(extended)
    await check(conn, array, data.draw(st.lists(array.values, max_size=5)))
    row = composite_of("extended", [extended, SAMPLES["int4"], array])
    await check(conn, row, data.draw(st.lists(row.every, max_size=5)))
