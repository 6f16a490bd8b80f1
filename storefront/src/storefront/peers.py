"""asyncpg and psycopg in the benchmark, beside headrace, if they are installed.

The ways of a peer are the same programs as those of headrace, with the peer's own pool. The SQL text is the same, too,
and each peer prepares it at its first use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from storefront.benchmark import Answers, BenchmarkQuery, NotPossibleError, Peer, Row, Task, Way, groups_of, in_order
from storefront.database import DATABASE, named_database, with_database
from storefront.errors import StorefrontError

NO_TIMEOUT = 86_400.0
"""The seconds for which a look-up may wait for a connection of psycopg's pool. Its default of 30 ends long runs."""


def find_peers() -> tuple[list[Peer], list[str]]:
    """Return the peers that are installed, and a line for each that is left out, with the command that installs it."""
    peers: list[Peer] = []
    left_out: list[str] = []
    try:
        peers.append(AsyncpgPeer())
    except ImportError:
        left_out.append("asyncpg is left out, because it is not installed: pip install asyncpg")
    try:
        psycopg = PsycopgPeer()
    except ImportError:
        left_out.append("psycopg is left out, because it is not installed: pip install 'psycopg[binary,pool]'")
    else:
        peers.append(psycopg)
        if not psycopg.has_pool:
            left_out.append(
                "psycopg's pool is left out, because psycopg_pool is not installed: pip install 'psycopg[pool]'"
            )
    return peers, left_out


class AsyncpgPeer:
    """asyncpg. Raises ImportError if it is not installed."""

    name = "asyncpg"

    def __init__(self) -> None:
        import asyncpg

        self._asyncpg = asyncpg
        self.version: str = asyncpg.__version__

    @asynccontextmanager
    async def open(self, dsn: str, size: int, search_path: str | None) -> AsyncIterator[list[Task]]:
        """Open a pool. Yield a task for each way of asyncpg. Raises StorefrontError if asyncpg raises an error."""
        settings = {"search_path": search_path} if search_path else None
        with self._reported():
            pool = await self._asyncpg.create_pool(
                _portable(dsn), min_size=size, max_size=size, server_settings=settings
            )
        async with pool:
            yield [
                Task(self.name, Way.ONE_AFTER_ANOTHER, 1, partial(self._one_after_another, pool)),
                Task(self.name, Way.POOL_ACQUIRE, size, partial(self._at_once_acquiring, pool)),
                Task(self.name, Way.ONE_CONNECTION, 1, partial(self._at_once_on_one_connection, pool)),
                Task(self.name, Way.POOL_METHODS, size, partial(self._at_once_by_pool_methods, pool)),
                Task(self.name, Way.GROUPED, size, partial(self._grouped, pool)),
            ]

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Raise StorefrontError for an error of asyncpg."""
        try:
            yield
        except (self._asyncpg.PostgresError, self._asyncpg.InterfaceError, OSError, ValueError) as error:
            raise _failed(self.name, error) from error

    async def _one_after_another(self, pool: Any, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
        with self._reported():
            async with pool.acquire() as connection:
                return [await connection.fetchrow(query.sql, product_id) for product_id in ids]

    async def _at_once_acquiring(self, pool: Any, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
        async def fetch(product_id: int) -> Row | None:
            async with pool.acquire() as connection:
                row: Row | None = await connection.fetchrow(query.sql, product_id)
            return row

        with self._reported():
            return await asyncio.gather(*map(fetch, ids))

    async def _at_once_on_one_connection(self, pool: Any, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
        """Raise NotPossibleError if asyncpg refuses the second call while the first one runs, as it is expected to."""
        with self._reported():
            async with pool.acquire() as connection:
                # Each call ends before the connection goes back to the pool.
                answers: list[Any] = await asyncio.gather(
                    *(connection.fetchrow(query.sql, product_id) for product_id in ids), return_exceptions=True
                )
            for answer in answers:
                if isinstance(answer, self._asyncpg.InterfaceError):
                    raise NotPossibleError(type(answer).__name__) from answer
                if isinstance(answer, BaseException):
                    raise answer
        return answers

    async def _at_once_by_pool_methods(self, pool: Any, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
        with self._reported():
            answers: Answers = await asyncio.gather(*(pool.fetchrow(query.sql, product_id) for product_id in ids))
        return answers

    async def _grouped(self, pool: Any, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
        with self._reported():
            groups = await asyncio.gather(*(pool.fetch(query.grouped_sql, group) for group in groups_of(ids)))
            return in_order(ids, groups)


class PsycopgPeer:
    """psycopg 3, with psycopg_pool if that is installed. Raises ImportError if psycopg cannot be used."""

    name = "psycopg"

    def __init__(self) -> None:
        import psycopg

        self._psycopg = psycopg
        self.version: str = psycopg.__version__
        try:
            import psycopg_pool
        except ImportError:
            self._pool_class: Any = None
        else:
            self._pool_class = psycopg_pool.AsyncConnectionPool

    @property
    def has_pool(self) -> bool:
        """True if psycopg_pool is installed."""
        return self._pool_class is not None

    @asynccontextmanager
    async def open(self, dsn: str, size: int, search_path: str | None) -> AsyncIterator[list[Task]]:
        """Open a connection and, if psycopg_pool is installed, a pool. Yield a task for each way of psycopg.

        Raises StorefrontError if psycopg raises an error.
        """
        options = {
            # A transaction for each look-up would take two more round trips.
            "autocommit": True,
            "prepare_threshold": 0,
            "cursor_factory": self._psycopg.AsyncRawCursor,
            "row_factory": self._psycopg.rows.dict_row,
        }

        async def configure(connection: Any) -> None:
            if search_path is not None:
                await connection.execute("SELECT set_config('search_path', $1, false)", (search_path,))

        async with AsyncExitStack() as stack:
            with self._reported():
                connect: Any = self._psycopg.AsyncConnection.connect
                connection = await connect(_portable(dsn), **options)
            await stack.enter_async_context(connection)
            with self._reported():
                await configure(connection)
            tasks = [Task(self.name, Way.ONE_AFTER_ANOTHER, 1, partial(self._one_after_another, connection))]
            if self.has_pool:
                pool = self._pool_class(
                    _portable(dsn),
                    kwargs=options,
                    min_size=size,
                    max_size=size,
                    timeout=NO_TIMEOUT,
                    configure=configure,
                    open=False,
                )
                await stack.enter_async_context(pool)
                with self._reported():
                    await pool.wait()
                tasks.append(Task(self.name, Way.POOL_ACQUIRE, size, partial(self._at_once_acquiring, pool)))
                tasks.append(Task(self.name, Way.GROUPED, size, partial(self._grouped, pool)))
            else:
                tasks.append(Task(self.name, Way.GROUPED, 1, partial(self._grouped_on_one_connection, connection)))
            yield tasks

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Raise StorefrontError for an error of psycopg."""
        try:
            yield
        except self._psycopg.Error as error:
            raise _failed(self.name, error) from error

    async def _one_after_another(self, connection: Any, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
        with self._reported():
            return [await _fetch_row(connection, query.sql, product_id) for product_id in ids]

    async def _at_once_acquiring(self, pool: Any, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
        async def fetch(product_id: int) -> Row | None:
            async with pool.connection() as connection:
                return await _fetch_row(connection, query.sql, product_id)

        with self._reported():
            return await asyncio.gather(*map(fetch, ids))

    async def _grouped(self, pool: Any, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
        async def fetch(group: list[int]) -> list[Row]:
            async with pool.connection() as connection:
                return await _fetch_all(connection, query.grouped_sql, group)

        with self._reported():
            return in_order(ids, await asyncio.gather(*map(fetch, groups_of(ids))))

    async def _grouped_on_one_connection(self, connection: Any, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
        with self._reported():
            return in_order(ids, [await _fetch_all(connection, query.grouped_sql, group) for group in groups_of(ids)])


async def _fetch_row(connection: Any, sql: str, product_id: int) -> Row | None:
    # The other drivers' fetchrow() asks the server for one row. psycopg would receive all rows.
    cursor = await connection.execute(f"{sql} LIMIT 1", (product_id,), binary=True)
    row: Row | None = await cursor.fetchone()
    return row


async def _fetch_all(connection: Any, sql: str, group: list[int]) -> list[Row]:
    cursor = await connection.execute(sql, (group,), binary=True)
    rows: list[Row] = await cursor.fetchall()
    return rows


def _portable(dsn: str) -> str:
    """Return the DSN with the database in its path. libpq does not know the parameter `database`."""
    return with_database(dsn, named_database(dsn) or DATABASE)


def _failed(driver: str, error: Exception) -> StorefrontError:
    lines = str(error).splitlines()
    return StorefrontError(f"{driver} failed: {type(error).__name__}: {lines[0] if lines else 'no message'}")
