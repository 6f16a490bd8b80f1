"""Where reading is lenient, what Python's dates and times do not reach to comes as the server's own text.

Random bytes of each type's binary form, which a type's receive function takes if the type can hold the value: this
reaches whatever a table can hold, and PostgreSQL holds far more than Python.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from headrace._core.codecs.testing import decode_with
from headrace._core.codecs.typemap import TypeMap
from tests.core.codecs.on_server.round_trip import batches
from tests.core.codecs.on_server.samples.numbers import integers

if TYPE_CHECKING:
    from tests.fixtures import Connect

# timestamp.h and date.h: from 4714-11-24 BC to 294276-12-31 and 5874897-12-31, in days or microseconds from 2000-01-01.
FIRST_DAY, LAST_DAY = -2451507, 2145031948
FIRST_MOMENT, LAST_MOMENT = -211813488000000000, 9223371331200000000 - 1
DAY = 86_400_000_000
YEAR = 366

# Many of them near to what Python can hold, on either side.
DAYS = (
    integers(FIRST_DAY, LAST_DAY)
    | st.integers(-730119 - YEAR, -730119 + YEAR)
    | st.integers(2921939 - YEAR, 2921939 + YEAR)
)
MOMENTS = integers(FIRST_MOMENT, LAST_MOMENT) | st.tuples(
    DAYS.filter(lambda day: day < LAST_MOMENT // DAY), st.integers(0, DAY - 1)
).map(lambda moment: moment[0] * DAY + moment[1])
TIMES = st.integers(0, DAY) | st.just(DAY)
OFFSETS = st.integers(-57599, 57599)
INT32, INT64 = integers(-(2**31), 2**31 - 1), integers(-(2**63), 2**63 - 1)

BINARY: dict[str, tuple[int, st.SearchStrategy[bytes]]] = {
    "date": (1082, DAYS.map(lambda days: struct.pack("!i", days))),
    "time": (1083, TIMES.map(lambda time: struct.pack("!q", time))),
    "timetz": (1266, st.builds(lambda time, offset: struct.pack("!qi", time, offset), TIMES, OFFSETS)),
    "timestamp": (1114, MOMENTS.map(lambda moment: struct.pack("!q", moment))),
    "timestamptz": (1184, MOMENTS.map(lambda moment: struct.pack("!q", moment))),
    "interval": (1186, st.builds(lambda *numbers: struct.pack("!qii", *numbers), INT64, INT32, INT32)),
}
"""Each type's OID, and bytes of its binary form."""


@pytest.fixture
async def conn(connect: Connect) -> headrace.Connection:
    """A connection that sends and gets these types as they are on the wire."""
    connection = await connect(server_settings={"timezone": "UTC"})
    for name in BINARY:
        await connection.set_type_codec(name, schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes)
    return connection


@pytest.mark.parametrize("name", BINARY)
@batches
@given(data=st.data())
async def test_the_text_is_the_servers(conn: headrace.Connection, name: str, data: st.DataObject) -> None:
    oid, values = BINARY[name]
    strict, lenient = TypeMap().codec(oid), TypeMap(lenient=True).codec(oid)
    assert strict is not None
    assert lenient is not None
    sent = data.draw(st.lists(values, max_size=30))
    rows = await asyncio.gather(
        *(conn.fetchrow(f"SELECT $1::{name} AS binary, format('%s', $1::{name}) AS text", each) for each in sent),
        return_exceptions=True,
    )
    for binary, row in zip(sent, rows, strict=True):
        if name == "interval" and isinstance(row, headrace.PostgresError):
            continue  # out of range for this server
        assert isinstance(row, headrace.Record)
        came: Any = decode_with(lenient, row["binary"])
        if isinstance(came, str):
            assert came == row["text"], binary.hex()
            with pytest.raises((ValueError, OverflowError)):
                decode_with(strict, binary)
        else:
            assert came == decode_with(strict, binary)
