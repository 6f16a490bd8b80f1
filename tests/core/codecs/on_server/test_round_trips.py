"""Random values of every type go to a server and come back, exactly, alone and in arrays.

What a person would write for each value goes along as text: the server must print both alike, and the driver read both
as the same value. `--hypothesis-profile long` searches longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from headrace.exceptions import FeatureNotSupportedError
from tests.core.codecs.on_server.round_trip import batches, check
from tests.core.codecs.on_server.samples.every import NEWER, SAMPLES
from tests.core.codecs.on_server.samples.sample import Sample, array_of

if TYPE_CHECKING:
    from tests.fixtures import Connect


@pytest.fixture
async def conn(connect: Connect) -> headrace.Connection:
    return await connect()


@pytest.fixture(params=[*SAMPLES.values(), *NEWER.values()], ids=repr)
async def sample(request: pytest.FixtureRequest, conn: headrace.Connection) -> Sample:
    """A type, where the server has it."""
    sample: Sample = request.param
    if sample.name in NEWER and conn.get_server_version().major < 19:
        pytest.skip("PostgreSQL 19 has added the type")
    if sample.name == "xml":
        try:
            await conn.fetchval("SELECT '<a/>'::xml")
        except FeatureNotSupportedError:
            pytest.skip("this PostgreSQL was built without libxml")
    return sample


async def test_edges(conn: headrace.Connection, sample: Sample) -> None:
    await check(conn, sample, sample.edges)
    await check(
        conn, array_of(sample), [[], [*sample.edges, None], [[*sample.edges, None]] * 2 if sample.nests else []]
    )


@batches
@given(data=st.data())
async def test_values(conn: headrace.Connection, sample: Sample, data: st.DataObject) -> None:
    await check(conn, sample, data.draw(st.lists(sample.every, max_size=20)))


@batches
@given(data=st.data())
async def test_arrays(conn: headrace.Connection, sample: Sample, data: st.DataObject) -> None:
    array = array_of(sample)
    await check(conn, array, data.draw(st.lists(array.values, max_size=5)))
