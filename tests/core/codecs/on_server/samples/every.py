"""All the types that random values go to a server for."""

from __future__ import annotations

from tests.core.codecs.on_server.samples.catalogue import CATALOGUE, SINCE_19
from tests.core.codecs.on_server.samples.characters import DOCUMENTS, TEXTS
from tests.core.codecs.on_server.samples.geometry import GEOMETRY
from tests.core.codecs.on_server.samples.network import ADDRESSED
from tests.core.codecs.on_server.samples.numbers import NUMBERS
from tests.core.codecs.on_server.samples.ranges import RANGES
from tests.core.codecs.on_server.samples.sample import Sample
from tests.core.codecs.on_server.samples.times import TIMES

SCALARS: dict[str, Sample] = {
    sample.name: sample for sample in (*NUMBERS, *TEXTS, *DOCUMENTS, *TIMES, *ADDRESSED, *GEOMETRY, *CATALOGUE)
}
"""Every base type of PostgreSQL 15 to 18 that takes input."""

AS_TEXT = {
    *("money", "xml", "tsvector", "tsquery", "gtsvector", "aclitem"),
    *("regproc", "regprocedure", "regoper", "regoperator", "regclass", "regtype", "regrole", "regnamespace"),
    *("regconfig", "regdictionary", "regcollation", "regdatabase"),
    *("pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list"),
    *("pg_brin_bloom_summary", "pg_brin_minmax_multi_summary"),
}
"""The base types that travel as text, because their binary form is missing or says less; all others are binary."""

SAMPLES: dict[str, Sample] = {**SCALARS, **{sample.name: sample for sample in RANGES}}
"""These, and the ranges and multiranges."""

NEWER: dict[str, Sample] = {sample.name: sample for sample in SINCE_19}
"""The base types that PostgreSQL 19 has added. A type without an entry here or above fails test_pg_type.py."""
