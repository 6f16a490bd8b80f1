"""How many round trips each thing costs, counted by a proxy between a driver and a real server.

    python -m tests.round_trips            write the table of docs/round-trips.md
    python -m tests.round_trips --check    exit with 1 if the table is out of date

Each action is counted twice on one connection: what it costs for the first time, and from then on. The actions are the
same for headrace and for asyncpg, but for those that asyncpg does not have.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

import headrace
from tests.installations import installations
from tests.peers.proxy import Proxy
from tests.servers import SUPERUSER, Cluster
from tools.generated import conclude, parser, with_parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TARGET = Path(__file__).resolve().parent.parent / "docs" / "round-trips.md"

SCHEMA = """
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE number (n int, m mood);
    CREATE TABLE product (id int PRIMARY KEY, name text);
    INSERT INTO product SELECT i, 'product ' || i FROM generate_series(1, 100) AS i;
"""

Act = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True)
class Action:
    """Something that a driver is asked to do, with a connection or a pool of one connection."""

    title: str
    act: Act
    on_pool: bool = False
    in_block: bool = False
    """The block is not counted."""
    asyncpg_too: bool = True


ACTIONS: list[Action] = []


def action(title: str, **options: bool) -> Callable[[Act], Act]:
    """Add a row to the table."""

    def add(act: Act) -> Act:
        ACTIONS.append(Action(title, act, **options))
        return act

    return add


# Queries


@action("`execute()` without arguments")
async def execute(connection: Any) -> None:
    await connection.execute("SELECT 1")


@action("`fetch()` without arguments")
async def fetch(connection: Any) -> None:
    await connection.fetch("SELECT name FROM product WHERE id = 1")


@action("`fetch()`, all parameters cast: `$1::int`")
async def fetch_cast(connection: Any) -> None:
    await connection.fetch("SELECT name FROM product WHERE id = $1::int", 1)


@action("`fetch()`, parameters not cast")
async def fetch_uncast(connection: Any) -> None:
    await connection.fetch("SELECT name FROM product WHERE id = $1", 1)


@action("`execute()` of an INSERT, all parameters cast")
async def execute_cast(connection: Any) -> None:
    await connection.execute("INSERT INTO number (n) VALUES ($1::int)", 1)


@action("`execute()` of an INSERT, parameters not cast")
async def execute_uncast(connection: Any) -> None:
    await connection.execute("INSERT INTO number (n) VALUES ($1)", 1)


@action("`fetch()` of an INSERT with RETURNING")
async def fetch_returning(connection: Any) -> None:
    await connection.fetch("INSERT INTO number (n) VALUES ($1::int) RETURNING n", 1)


@action("`fetch()` without arguments, in a transaction", in_block=True)
async def fetch_in_block(connection: Any) -> None:
    await connection.fetch("SELECT name FROM product WHERE id = 1")


@action("`execute()` of an INSERT, all parameters cast, in a transaction", in_block=True)
async def execute_in_block(connection: Any) -> None:
    await connection.execute("INSERT INTO number (n) VALUES ($1::int)", 1)


@action("`fetch()` without arguments, a column of a type of your own")
async def fetch_enum(connection: Any) -> None:
    await connection.fetch("SELECT 'sad'::mood")


@action("`fetch()` without arguments, a column that travels as text (money)")
async def fetch_money(connection: Any) -> None:
    await connection.fetch("SELECT '1'::money")


@action("`fetch()`, an argument of a type of your own")
async def fetch_enum_argument(connection: Any) -> None:
    await connection.fetch("SELECT n FROM number WHERE m = $1", "sad")


@action("`prepare()`")
async def prepare(connection: Any) -> None:
    await connection.prepare("SELECT name FROM product WHERE id = $1")


@action("`executemany()`")
async def executemany(connection: Any) -> None:
    await connection.executemany("INSERT INTO number (n) VALUES ($1)", [(1,), (2,), (3,)])


@action("`executemany(transaction=True)`", asyncpg_too=False)
async def executemany_beginning(connection: Any) -> None:
    await connection.executemany("INSERT INTO number (n) VALUES ($1)", [(1,), (2,), (3,)], transaction=True)


@action("`fetchmany()`")
async def fetchmany(connection: Any) -> None:
    await connection.fetchmany("SELECT name FROM product WHERE id = $1", [(1,), (2,), (3,)])


@action("`fetch_each()` of two elements", asyncpg_too=False)
async def fetch_each(connection: Any) -> None:
    async for _ in connection.fetch_each("SELECT name FROM product WHERE id = $1", [(1,), (2,)]):
        pass


@action("a stream of 100 rows", asyncpg_too=False)
async def stream(connection: Any) -> None:
    async for _ in connection.stream("SELECT name FROM product"):
        pass


@action("a cursor over 100 rows, 50 at a time", in_block=True)
async def cursor(connection: Any) -> None:
    async for _ in connection.cursor("SELECT name FROM product", prefetch=50):
        pass


# Rows in bulk


@action("`copy_records_to_table()`")
async def copy_records(connection: Any) -> None:
    await connection.copy_records_to_table("number", records=[(1,), (2,)], columns=["n"])


@action("`copy_records_to_table()`, in a transaction", in_block=True)
async def copy_records_in_block(connection: Any) -> None:
    await connection.copy_records_to_table("number", records=[(1,), (2,)], columns=["n"])


async def one_piece() -> AsyncIterator[bytes]:
    """Return the data of a COPY."""
    yield b"1\n2\n"


@action("`copy_to_table()`")
async def copy_to(connection: Any) -> None:
    await connection.copy_to_table("number", source=one_piece(), columns=["n"])


async def swallow(data: bytes) -> None:
    """Take the data of a COPY."""


@action("`copy_from_query()`")
async def copy_from(connection: Any) -> None:
    await connection.copy_from_query("SELECT * FROM product", output=swallow)


@action("`insert_records()`", asyncpg_too=False)
async def insert_records(connection: Any) -> None:
    await connection.insert_records("number", [(1,), (2,)], columns=["n"], on_conflict="ignore")


# Transactions


@action("a transaction of one statement")
async def transaction(connection: Any) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO number (n) VALUES (1)")


@action("a savepoint around one statement", in_block=True)
async def savepoint(connection: Any) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO number (n) VALUES (1)")


# Sessions


async def ignore(*_: object) -> None:
    """Take a notification."""


@action("`add_listener()` and `remove_listener()`")
async def add_listener(connection: Any) -> None:
    await connection.add_listener("channel", ignore)
    await connection.remove_listener("channel", ignore)


@action("`set_type_codec()`")
async def set_type_codec(connection: Any) -> None:
    await connection.set_type_codec("mood", schema="public", encoder=str, decoder=str)


# Pools


@action("`fetch()` of a pool, without arguments", on_pool=True)
async def pool_fetch(pool: Any) -> None:
    await pool.fetch("SELECT name FROM product WHERE id = 1")


@action("`fetch()` of a pool, parameters not cast", on_pool=True)
async def pool_fetch_uncast(pool: Any) -> None:
    await pool.fetch("SELECT name FROM product WHERE id = $1", 1)


@action("`executemany(transaction=True)` of a pool", on_pool=True, asyncpg_too=False)
async def pool_executemany_beginning(pool: Any) -> None:
    await pool.executemany("INSERT INTO number (n) VALUES ($1)", [(1,), (2,), (3,)], transaction=True)


@action("`acquire()`, a `fetch()` without arguments, and `release()`", on_pool=True)
async def acquire(pool: Any) -> None:
    async with pool.acquire() as connection:
        await connection.fetch("SELECT name FROM product WHERE id = 1")


@action("`Loader.load_many()`", on_pool=True, asyncpg_too=False)
async def load(pool: Any) -> None:
    loader = headrace.Loader(pool, "SELECT id, name FROM product WHERE id = ANY($1)", key="id")
    await loader.load_many([1, 2, 3])


# Counting


@asynccontextmanager
async def driving(driver: Any, proxy: Proxy, database: str, one: Action) -> AsyncIterator[Any]:
    """Give the action what it acts on."""
    options = {"host": proxy.host, "port": proxy.port, "user": SUPERUSER, "database": database, "ssl": False}
    if one.on_pool:
        async with driver.create_pool(**options, min_size=1, max_size=1) as pool:
            yield pool
        return
    connection = await driver.connect(**options)
    try:
        if not one.in_block:
            yield connection
            return
        async with connection.transaction():
            # Whatever travels with the first statement of a block is not counted.
            await connection.execute("SELECT")
            yield connection
    finally:
        await connection.close()


async def count(driver: Any, server: Cluster, database: str, one: Action) -> tuple[int, int]:
    """Return the round trips of an action, for the first time and from then on."""
    async with Proxy(server.host(), server.port) as proxy, driving(driver, proxy, database, one) as target:
        counts = []
        for _ in range(3):
            with proxy.counting() as trips:
                await one.act(target)
            counts.append(trips.count)
        return counts[0], counts[2]


async def count_connect(driver: Any, server: Cluster, database: str) -> int:
    """Return the round trips of connect(), without TLS and without a password."""
    async with Proxy(server.host(), server.port) as proxy:
        connection = await driver.connect(
            host=proxy.host, port=proxy.port, user=SUPERUSER, database=database, ssl=False
        )
        trips = proxy.trips
        await connection.close()
        return trips


async def table(server: Cluster, database: str) -> str:
    """Return the table; the database is an empty one."""
    connection = await headrace.connect(host=server.host(), port=server.port, user=SUPERUSER, database=database)
    await connection.execute(SCHEMA)
    await connection.close()
    lines = ["| | headrace, first | then | asyncpg, first | then |", "| --- | --- | --- | --- | --- |"]
    ours, theirs = [await count_connect(driver, server, database) for driver in (headrace, asyncpg)]
    lines.append(f"| `connect()`, without TLS and password | {ours} | | {theirs} | |")
    for one in ACTIONS:
        first, then = await count(headrace, server, database, one)
        cells = [str(first), str(then)]
        cells += map(str, await count(asyncpg, server, database, one)) if one.asyncpg_too else ["", ""]
        lines.append(f"| {one.title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def render(present: str, table: str) -> str:
    """Return the page with this table."""
    return with_parts(TARGET, present, {"round trips": lambda: table})


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; return the exit status."""
    assert __doc__ is not None
    options = parser(__doc__.partition("\n")[0]).parse_args(arguments)
    with Cluster(installations()[0]) as server, server.database() as database:
        counted = asyncio.run(table(server, database))
    wanted = render(TARGET.read_text(encoding="utf-8"), counted)
    return conclude(TARGET, wanted, check=options.check, tool=__file__)


if __name__ == "__main__":
    sys.exit(main())
