"""Types that the system catalogues are made of: object identifiers, names of objects, transactions, privileges."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.core.codecs.on_server import literals
from tests.core.codecs.on_server.samples.numbers import integer, integers
from tests.core.codecs.on_server.samples.sample import Sample

XIDS = integers(1, 2**63 - 1).filter(lambda xid: xid % 2**32)
"""Transactions with their epoch; none has the number 0."""


def as_snapshot(numbers: list[int]) -> tuple[int, int, tuple[int, ...]]:
    """Make a snapshot of transactions in order: xmin, those in progress, xmax."""
    first, *running, last = numbers
    return first, last, tuple(running)


def names(name: str, *values: str) -> Sample:
    """Sample a reg* type by objects there are on every server."""
    return Sample(name, st.sampled_from(values), edges=values)


SNAPSHOTS = st.lists(XIDS, min_size=2, max_size=6, unique=True).map(sorted).map(as_snapshot)
SNAPSHOT_EDGES = ((1, 1, ()), (1, 2**63 - 1, (1, 2, 2**63 - 2)))

PRIVILEGES = st.lists(st.sampled_from("arwdDxt"), min_size=1, unique=True).map(
    lambda chosen: "".join(each for each in "arwdDxt" if each in chosen)
)

CATALOGUE = [
    integer("oid", 0, 2**32 - 1),
    integer("xid", 0, 2**32 - 1),
    integer("cid", 0, 2**32 - 1),
    integer("xid8", 0, 2**64 - 1),
    Sample("tid", st.tuples(integers(0, 2**32 - 1), integers(0, 2**16 - 1)), literals.place, edges=((0, 0),)),
    Sample("pg_lsn", integers(0, 2**64 - 1), literals.log_position, edges=(0, 2**32, 2**64 - 1)),
    Sample("pg_snapshot", SNAPSHOTS, literals.snapshot, edges=SNAPSHOT_EDGES),
    Sample("txid_snapshot", SNAPSHOTS, literals.snapshot, edges=SNAPSHOT_EDGES),
    Sample(
        "int2vector",
        st.lists(integers(-(2**15), 2**15 - 1), min_size=1, max_size=8),
        literals.vector,
        nests=False,
    ),
    Sample("oidvector", st.lists(integers(0, 2**32 - 1), min_size=1, max_size=8), literals.vector, nests=False),
    names("regproc", "now", "array_in", "-", "12345678"),
    names("regprocedure", "sum(integer)", "now()", "-", "12345678"),
    names("regoper", "||/", "12345678"),
    names("regoperator", "+(integer,integer)", "~(NONE,integer)", "12345678"),
    # A cast from text to regclass, and to nothing else here, takes names alone.
    names("regclass", "pg_class", "information_schema.columns"),
    names("regtype", "integer", "character varying[]", '"char"', "-", "12345678"),
    names("regrole", "postgres", "pg_monitor", "-", "12345678"),
    names("regnamespace", "pg_catalog", "public", "-", "12345678"),
    names("regconfig", "simple", "english", "-", "12345678"),
    names("regdictionary", "simple", "english_stem", "-", "12345678"),
    names("regcollation", '"C"', '"default"', "-", "12345678"),
    Sample(
        "aclitem",
        st.builds("{}={}/postgres".format, st.sampled_from(("", "postgres")), PRIVILEGES),
        edges=("=r*w/postgres", "postgres=/postgres"),
    ),
]

SINCE_19 = [integer("oid8", 0, 2**64 - 1), names("regdatabase", "postgres", "template1", "-", "12345678")]
