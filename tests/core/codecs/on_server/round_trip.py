"""One trip of values to a server and back, with the server's own text of each, and of what a person would write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from hypothesis import HealthCheck, settings

import headrace
from tests.core.codecs.on_server.exactness import as_tuples, exactly
from tests.core.codecs.on_server.samples.sample import Sample

_PROFILE = settings()

batches = settings(
    max_examples=_PROFILE.max_examples // 5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
"""For tests whose examples are batches of values, each in one round trip; all of a test's share its connection."""

# format() calls the type's output function: a cast to text is another thing for bool and inet. The second parameter is
# read by the type's input function, whether the driver knows the type or not.
QUERY = """
SELECT $1::{type} AS sent, format('%s', $1::{type}) AS text,
    $2::text::{type} AS meant, format('%s', $2::text::{type}) AS meant_text
"""


async def check(conn: headrace.Connection, sample: Sample, values: Iterable[Any]) -> None:
    """Send each value in binary, and what a person would write for it as text, and compare what comes back.

    The server must print both alike, and the driver read both as the value that the sample says, exactly. All go out
    at once.
    """
    query = QUERY.format(type=sample.type)
    values = list(values)
    rows = await asyncio.gather(*(conn.fetchrow(query, value, sample.literal(value)) for value in values))
    for value, row in zip(values, rows, strict=True):
        assert row is not None
        assert row["text"] == row["meant_text"], f"{sample.type} of {value!r}"
        for came in (row["sent"], row["meant"]):
            assert exactly(as_tuples(came)) == exactly(sample.returned(value)), f"{sample.type} of {value!r}"
