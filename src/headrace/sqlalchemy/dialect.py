"""The dialect: what SQLAlchemy has to know about headrace, and what it does differently from other drivers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sqlalchemy import event, exc
from sqlalchemy.dialects.postgresql.base import PGDialect, PGExecutionContext
from sqlalchemy.engine import Connection as EngineConnection
from sqlalchemy.engine import RootTransaction
from sqlalchemy.pool import AsyncAdaptedQueuePool

from headrace import exceptions
from headrace._version import __version__
from headrace.sqlalchemy import errors
from headrace.sqlalchemy.dbapi import AUTOCOMMIT, Connection, Module, await_
from headrace.sqlalchemy.types import COLSPECS

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

LEVELS: Final = {
    "AUTOCOMMIT": AUTOCOMMIT,
    "READ UNCOMMITTED": "read_uncommitted",
    "READ COMMITTED": "read_committed",
    "REPEATABLE READ": "repeatable_read",
    "SERIALIZABLE": "serializable",
}


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("expected true or false")


OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "command_timeout": float,
    "direct_tls": _flag,
    "max_cacheable_statement_size": int,
    "max_cached_statement_lifetime": int,
    "max_pipeline": int,
    "single_server": _flag,
    "statement_cache_size": int,
    "timeout": float,
}
"""The options of `headrace.connect()` that may stand in a URL, beside those of libpq."""

ALIASES: Final[Mapping[str, str]] = {"dbname": "database"}
"""The libpq option of a URL -> the part of a URL that it replaces, if that has another name."""

FOREIGN: Final[Mapping[str, str]] = {
    "async_fallback": "leave it out; the dialect is for create_async_engine()",
    "prepared_statement_cache_size": "give statement_cache_size, the size of the only cache",
    "prepared_statement_name_func": 'leave it out; behind PgBouncer give connect_args={"statement_cache_size": 0}',
}
"""The options of SQLAlchemy's asyncpg dialect that this one does not have -> the remedy."""

HOST_AND_PORT: Final = re.compile(r"\[?(?P<host>(?<=\[)[^\]]+(?=\])|[^\[\]:/]+)\]?:(?P<port>\d+)")
"""A host and its port, in the form that SQLAlchemy's dialects take in a URL: `?host=one:5432&host=two:5433`."""


def as_is(value: Any) -> Any:
    """Return the value: SQLAlchemy makes the text of a JSON value itself."""
    return value


def refuse_foreign(names: Iterable[str]) -> None:
    """Raise ArgumentError for an option of SQLAlchemy's asyncpg dialect that this one does not have."""
    for name in names:
        if name in FOREIGN:
            raise exc.ArgumentError(f"the dialect postgresql+headrace has no option {name}: {FOREIGN[name]}")


def hosts_and_ports(values: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Return the hosts and ports of `?host=one:5432&host=two:5433`; None if no host has a port."""
    hosts = [host for value in values for host in value.split(",")]
    found = [HOST_AND_PORT.fullmatch(host) for host in hosts]
    if not any(found):
        return None
    return (
        [match["host"] if match else host for host, match in zip(hosts, found, strict=True)],
        [match["port"] if match else "" for match in found],
    )


class ExecutionContext(PGExecutionContext):
    """The context of one execution."""

    def pre_exec(self) -> None:
        """Note DDL: each connection of the engine then forgets its prepared statements before its next one."""
        dialect: Any = self.dialect
        if self.isddl:
            dialect.schema_version += 1
        cursor: Any = self.cursor
        cursor.schema_version = dialect.schema_version

    def handle_dbapi_exception(self, e: BaseException) -> None:
        """Note that a prepared statement no longer fits its tables."""
        if isinstance(errors.cause_of(e), exceptions.InvalidCachedStatementError):
            dialect: Any = self.dialect
            dialect.schema_version += 1

    def create_server_side_cursor(self) -> Any:
        """Return a cursor whose rows stay at the server until they are asked for."""
        connection: Any = self._dbapi_connection
        return connection.cursor(server_side=True)


class HeadraceDialect(PGDialect):
    """PostgreSQL by headrace."""

    driver = "headrace"
    is_async = True
    has_terminate = True
    supports_statement_cache = True
    supports_server_side_cursors = True
    supports_sane_multi_rowcount = False
    supports_native_json_serialization = False
    supports_native_json_deserialization = True
    dialect_injects_custom_json_deserializer = True
    default_paramstyle = "numeric_dollar"
    render_bind_cast = True
    # executemany() is one request whose rows are in the order of the parameters.
    use_insertmanyvalues = False
    insert_executemany_returning = True
    insert_executemany_returning_sort_by_parameter_order = True
    execution_ctx_cls = ExecutionContext
    poolclass = AsyncAdaptedQueuePool
    colspecs = COLSPECS

    schema_version = 0
    """The number of changes of the schema that this engine has made or noticed."""

    @classmethod
    def import_dbapi(cls) -> Module:  # type: ignore[override]
        """Return the module of PEP 249."""
        return Module()

    @classmethod
    def load_provisioning(cls) -> None:
        """Load SQLAlchemy's own rules for databases of test suites."""
        __import__("sqlalchemy.dialects.postgresql.provision")

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Have the connections of an engine give themselves back without a round trip, and replace lost ones."""
        engine._connection_cls = ReturningConnection
        event.listen(engine, "checkout", replace_lost)

    # -- connecting ------------------------------------------------------------------------------------------------

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of `headrace.connect()` for a URL.

        A URL may have the options of libpq, and those in OPTIONS. Raises ArgumentError for a malformed value, and for
        an option of the asyncpg dialect; connecting raises InterfaceError for an option that does not exist.
        """
        refuse_foreign(url.query)
        options: dict[str, Any] = url.translate_connect_args(username="user")
        rest: dict[str, str] = {}
        for name, value in url.query.items():
            texts = [value] if isinstance(value, str) else list(value)
            if name == "host" and (found := hosts_and_ports(texts)) is not None:
                if "port" in url.query:
                    raise exc.ArgumentError("the URL gives ports by port= and beside the hosts: leave out one of them")
                options["host"], options["port"] = found
            elif name not in OPTIONS:
                rest[name] = ",".join(texts)
                options.pop(ALIASES.get(name, name), None)
            else:
                try:
                    options[name] = OPTIONS[name](texts[-1])
                except ValueError as error:
                    raise exc.ArgumentError(f"option {name} in the URL: {error}, got {texts[-1]!r}") from error
        # A long list of IN is many kilobytes, and the same text each time: prepare it once, as every dialect does.
        options.setdefault("max_cacheable_statement_size", 0)
        options["json"] = (self._json_deserializer or json.loads, as_is)
        # Keywords would do, but for a name that does not exist the reader of DSNs says what may be meant.
        dsn = "postgresql://?" + "&".join(f"{quote(name, '')}={quote(text, '')}" for name, text in rest.items())
        return [dsn] if rest else [], options

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        """Open a connection. Raises ArgumentError for an option of the asyncpg dialect in `connect_args`."""
        refuse_foreign(cparams)
        return super().connect(*cargs, **cparams)

    def on_connect(self) -> Callable[[Any], Any] | None:
        """Return the function for new connections: `native_inet_types=False` turns inet and cidr into texts."""
        first = super().on_connect()
        if self._native_inet_types is not False:
            return first

        def connect(connection: Connection) -> None:
            await_(_text_addresses(connection.driver_connection))
            if first is not None:
                first(connection)

        return connect

    def get_driver_connection(self, connection: Any) -> Any:
        """Return the connection of headrace."""
        return connection.driver_connection

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Have the server answer an empty query."""
        dbapi_connection.ping()
        return True

    def do_terminate(self, dbapi_connection: Any) -> None:
        """Drop a connection that is no longer wanted."""
        dbapi_connection.terminate()

    def is_disconnect(self, e: Exception, connection: Any, cursor: Any) -> bool:
        """Return whether an error means that the connection is lost."""
        # A connection that was detached from its pool has no driver_connection of its own.
        adapter = getattr(connection, "dbapi_connection", connection)
        if adapter is not None:
            return bool(adapter.driver_connection.is_closed())
        error = errors.cause_of(e)
        return isinstance(error, exceptions.ConnectionDoesNotExistError | exceptions.PostgresConnectionError)

    def retrieve_dbapi_version(self, dbapi: Any) -> Any:
        """Return headrace's version (SQLAlchemy 2.1)."""
        return tuple(int(part) for part in __version__.split(".") if part.isdigit())

    # -- transactions ----------------------------------------------------------------------------------------------

    def get_isolation_level_values(self, dbapi_conn: Any) -> list[str]:  # type: ignore[override]
        """Return the levels that `isolation_level=` may have."""
        return list(LEVELS)

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:
        """Set the level of the transactions from here on."""
        dbapi_connection.set_isolation_level(LEVELS[level])

    def reset_isolation_level(self, dbapi_conn: Any) -> None:
        """Return to the engine's level, or the server's."""
        level = self._on_connect_isolation_level
        dbapi_conn.set_isolation_level(LEVELS[level] if level else None)

    def detect_autocommit_setting(self, dbapi_conn: Any) -> bool:
        """Return whether statements are committed one by one."""
        return bool(dbapi_conn.autocommit)

    def set_readonly(self, connection: Any, value: bool) -> None:
        """Set whether transactions are READ ONLY."""
        connection.readonly = value

    def get_readonly(self, connection: Any) -> bool:
        """Return whether transactions are READ ONLY."""
        return bool(connection.readonly)

    def set_deferrable(self, connection: Any, value: bool) -> None:
        """Set whether transactions are DEFERRABLE."""
        connection.deferrable = value

    def get_deferrable(self, connection: Any) -> bool:
        """Return whether transactions are DEFERRABLE."""
        return bool(connection.deferrable)

    def do_prepare_twophase(self, connection: Any, xid: str) -> None:
        """Prepare a transaction."""
        connection.connection.dbapi_connection.prepare_transaction(xid)

    def do_commit_twophase(self, connection: Any, xid: str, is_prepared: bool = True, recover: bool = False) -> None:
        """Commit a transaction, which may have been prepared before."""
        if is_prepared:
            _end_prepared(connection, "COMMIT", xid)
        else:
            connection.connection.dbapi_connection.commit()

    def do_rollback_twophase(self, connection: Any, xid: str, is_prepared: bool = True, recover: bool = False) -> None:
        """Roll back a transaction, which may have been prepared before."""
        if is_prepared:
            _end_prepared(connection, "ROLLBACK", xid)
        else:
            connection.connection.dbapi_connection.rollback()


def replace_lost(dbapi_connection: Any, record: Any, proxy: Any) -> None:
    """Have the pool replace a connection that is known to be lost: nobody waits for the ROLLBACK that would tell it."""
    if dbapi_connection.driver_connection.is_closed():
        raise exc.DisconnectionError("the connection was lost while it was in the pool")


class ReturningTransaction(RootTransaction):
    """SQLAlchemy's transaction, whose close() does not wait for the ROLLBACK. A session that is closed calls it."""

    __slots__ = ()

    def close(self) -> None:
        """Roll back, unless the transaction has ended."""
        returning(self.connection, super().close)


class ReturningConnection(EngineConnection):
    """SQLAlchemy's connection, whose close() does not wait for the ROLLBACK of the transaction that is left open.

    The ROLLBACK is written at once, ahead of the statements of the next user. A rollback() by itself is waited for.
    """

    def close(self) -> None:
        """Give the connection back to the pool."""
        returning(self, super().close)

    def begin(self) -> RootTransaction:
        """Begin a transaction. Raises InvalidRequestError if there is one."""
        return ReturningTransaction(self) if self.get_transaction() is None else super().begin()


def returning(connection: EngineConnection, close: Callable[[], None]) -> None:
    """Call a method that closes, and have nobody wait for the ROLLBACK in it."""
    adapter = getattr(connection._dbapi_connection, "dbapi_connection", None)
    if not isinstance(adapter, Connection):  # the connection is closed or lost
        close()
        return
    before, adapter.is_returning = adapter.is_returning, True
    try:
        close()
    finally:
        adapter.is_returning = before


def _end_prepared(connection: Any, command: str, xid: str) -> None:
    try:
        connection.connection.dbapi_connection.end_prepared(command, xid)
    except errors.Error as error:
        # Connection.commit_prepared() and rollback_prepared() do not make SQLAlchemy's exception of it.
        connection._handle_dbapi_exception(error, None, None, None, None)


async def _text_addresses(connection: Any) -> None:
    for name in ("inet", "cidr"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=str, format="text")
