"""Types that are made with CREATE TYPE and CREATE DOMAIN: enums, domains, ranges, and composites of anything."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.core.codecs.on_server import literals
from tests.core.codecs.on_server.samples.characters import TEXT
from tests.core.codecs.on_server.samples.every import SAMPLES
from tests.core.codecs.on_server.samples.numbers import NUMERIC
from tests.core.codecs.on_server.samples.ranges import SUBTYPES, multirange_of, range_of
from tests.core.codecs.on_server.samples.sample import Sample, array_of

LABELS = ("sad", "happy", "", "two words", 'a "b"', "\\", "{,}", "ärger")


def composite_of(name: str, columns: Sequence[Sample]) -> Sample:
    """Sample a composite type by the types of its columns, each of which may be NULL."""

    def returned(value: tuple[Any, ...]) -> tuple[Any, ...]:
        items = zip(columns, value, strict=True)
        return tuple(None if item is None else column.returned(item) for column, item in items)

    return Sample(
        name,
        st.tuples(*(column.every | st.none() for column in columns)),
        literals.row_of(*(column.literal for column in columns)),
        edges=((None,) * len(columns),),
        returned=returned,
    )


INT4_RANGE, INT4 = SAMPLES["int4range"], SAMPLES["int4"]
PAIR = composite_of("pair", (INT4, SAMPLES["text"]))
FLOATS = Sample("float8", st.floats(allow_nan=False), repr)
TEXTS = Sample("text", TEXT)  # ordered by code points, as the databases of the tests have it
EARLY = Sample("text", st.from_regex(r"[a-m]{1,8}", fullmatch=True))
DAYS = Sample("date", st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 30)), literals.date)
PAIRS = Sample("pair", st.tuples(INT4.values, TEXT), PAIR.literal)
SPAN = range_of("span", DAYS, dt.timedelta(days=1))

SCHEMA = f"""
CREATE TYPE mood AS ENUM ({", ".join("'" + label.replace("'", "''") + "'" for label in LABELS)});
CREATE TYPE pair AS (number int, "a text" text);
CREATE DOMAIN age AS int CHECK (VALUE >= 0);
CREATE DOMAIN older AS age CHECK (VALUE >= 18);
CREATE DOMAIN early AS text CHECK (VALUE < 'n');
CREATE DOMAIN price AS numeric;
CREATE DOMAIN matrix AS int[];
CREATE DOMAIN good_mood AS mood;
CREATE DOMAIN good_pair AS pair;
CREATE DOMAIN span AS daterange;
CREATE DOMAIN spans AS int4multirange;
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE TYPE pairrange AS RANGE (subtype = pair);
CREATE TYPE agerange AS RANGE (subtype = age);
CREATE TYPE moodrange AS RANGE (subtype = mood);
"""

AGE = Sample("age", st.integers(0, 2**31 - 1))

MADE: dict[str, Sample] = {
    sample.name: sample
    for sample in (
        Sample("mood", st.sampled_from(LABELS), edges=LABELS),
        AGE,
        Sample("older", st.integers(18, 2**31 - 1)),
        Sample("early", EARLY.values),
        Sample("price", NUMERIC.values, NUMERIC.literal, NUMERIC.edges, NUMERIC.returned),
        array_of(INT4).renamed("matrix"),
        Sample("good_mood", st.sampled_from(LABELS)),
        PAIR,
        PAIR.renamed("good_pair"),
        SPAN,
        multirange_of("spans", *SUBTYPES[0][1:]),
        range_of("floatrange", FLOATS),
        multirange_of("floatmultirange", FLOATS),
        range_of("textrange", TEXTS),
        multirange_of("textmultirange", TEXTS),
        range_of("pairrange", PAIRS),
        range_of("agerange", AGE),
        multirange_of("agemultirange", AGE),
        range_of("moodrange", Sample("mood", st.just(LABELS[0]))),
    )
}
