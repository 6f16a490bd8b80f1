"""Records: every operation, and record classes, with both drivers."""

from __future__ import annotations

import json
import operator
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.compat.test_both_drivers import Run, check_both
from tests.servers import Cluster


def keywords(**given: Any) -> dict[str, Any]:
    return given


def matched(record: Any) -> str:
    match record:
        case (_, _, _):
            return "sequence"
        case {"a": _}:
            return "mapping"
    return "neither"


OPERATIONS: list[Callable[[Any, Any], Any]] = [
    lambda r, s: (len(r), list(r), r[0], r[-1], r["a"], r[1:], r[::2], r[:0], list(reversed(r)), [*r]),
    lambda r, s: r[99],
    lambda r, s: r[-99],
    lambda r, s: r["zz"],
    lambda r, s: r[True],
    lambda r, s: (r.get("a"), r.get("zz"), r.get("zz", 5), r.get(0), r.get(None)),
    lambda r, s: r.get(),
    lambda r, s: ("a" in r, "zz" in r, 1 in r, None in r),
    lambda r, s: (list(r.keys()), list(r.values()), list(r.items()), next(r.keys()), next(r.items())),
    lambda r, s: len(r.keys()),
    lambda r, s: (dict(r), dict(r.items()), {**r}, keywords(**r), dict(r) | {"b": 2}, "{a}".format(**r)),
    lambda r, s: (r == (1, "x", None), r == (1, "x", None), r == [1, "x", None], r == s, r == 5, r == dict(r)),
    lambda r, s: (hash(r) == hash((1, "x", None)), {r: 1}[(1, "x", None)], r <= s, sorted([s, r]) == [r, s]),
    lambda r, s: r < 5,
    lambda r, s: setattr(r, "a", 5),
    lambda r, s: r.foo,
    lambda r, s: r.__setitem__(0, 5),
    lambda r, s: operator.add(r, (1,)),
    lambda r, s: json.dumps(r),
    lambda r, s: (json.dumps(dict(r)), json.dumps(list(r))),
    lambda r, s: weakref.ref(r),
    lambda r, s: type(r)(),
    lambda r, s: (repr(r), str(r), bool(r), isinstance(r, tuple), matched(r)),
    lambda r, s: operator.itemgetter("a", "b")(r),
    lambda r, s: (len(vars(type("Sub", (type(r),), {}))) > 0, type(r).__name__),
]


async def records(run: Run) -> None:
    conn = run.connection
    row = await conn.fetchrow("SELECT 1 a, 'x' b, NULL c")
    other = await conn.fetchrow("SELECT 1 q, 'x' w, NULL e")
    for operation in OPERATIONS:
        try:
            run.note(operation(row, other))
        except Exception as error:
            run.noted.append(error)
    empty = await conn.fetchrow("SELECT")
    run.note(len(empty), repr(empty), dict(empty), bool(empty), empty == ())
    twice = await conn.fetchrow("SELECT 1 a, 2 a, 3 b")
    run.note(dict(twice), twice["a"], list(twice.keys()), list(twice.items()), len(twice), twice[0], repr(twice))
    odd = await conn.fetchrow('SELECT 1 AS "weird name", 2 AS "é", 3 AS "self", 4 AS keys, 5')
    run.note(dict(odd), repr(odd), odd["é"], dict(odd.items())["keys"])
    wide = await conn.fetchrow("SELECT " + ",".join(f"{i} c{i}" for i in range(1600)))
    run.note(wide["c1599"], len(wide))


async def classes(run: Run) -> None:
    conn, base = run.connection, run.driver.Record

    class ByAttribute(base):  # type: ignore[misc]
        def __getattr__(self, name: str) -> Any:
            try:
                return self[name]
            except KeyError:
                raise AttributeError(name) from None

        @property
        def twice(self) -> Any:
            return self["a"] * 2

    class Made(base):  # type: ignore[misc]
        def __new__(cls, *_: object) -> Any:
            raise RuntimeError

    class Begun(base):  # type: ignore[misc]
        def __init__(self, *_: object) -> None:
            raise RuntimeError

    row = await conn.fetchrow("SELECT 1 a, 'x' b", record_class=ByAttribute)
    row.own = 5
    run.note(row.a, row.twice, row.own, vars(row), repr(row), isinstance(row, base), row == (1, "x"), dict(row))
    run.note(getattr(row, "zz", None))
    for wrong in (Made, Begun, tuple, 5, "x"):
        await run.attempt(conn.fetch, "SELECT 1", record_class=wrong)
        await run.attempt(conn.prepare, "SELECT 1", record_class=wrong)
        await run.attempt(run.driver.connect, run.dsn, record_class=wrong)
    own = await run.driver.connect(run.dsn, record_class=ByAttribute)
    statement = await own.prepare("SELECT 1 AS a")
    run.note((await own.fetchrow("SELECT 1 a")).a, (await statement.fetch())[0].a)
    await own.close()


async def test_operations(server: Cluster, tmp_path: Path) -> None:
    await check_both(records, server, tmp_path)


async def test_record_classes(server: Cluster, tmp_path: Path) -> None:
    await check_both(classes, server, tmp_path)
