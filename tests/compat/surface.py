"""asyncpg's public surface, as it is in 0.32: names, signatures, exceptions. Data for test_surface.py.

A signature is written without annotations and without `self`. `...` stands for a default that is an object of the
library's own. `async` marks what returns a coroutine, and what has no brackets is an attribute.
"""

from __future__ import annotations

COPY_METHODS = """
    async copy_from_table(table_name, *, output, columns=None, schema_name=None, timeout=None, format=None, oids=None, \
        delimiter=None, null=None, header=None, quote=None, escape=None, force_quote=None, encoding=None)
    async copy_from_query(query, *args, output, timeout=None, format=None, oids=None, \
        delimiter=None, null=None, header=None, quote=None, escape=None, force_quote=None, encoding=None)
    async copy_to_table(table_name, *, source, columns=None, schema_name=None, timeout=None, format=None, oids=None, \
        freeze=None, delimiter=None, null=None, header=None, quote=None, escape=None, force_quote=None, \
        force_not_null=None, force_null=None, encoding=None, where=None)
    async copy_records_to_table(table_name, *, records, columns=None, schema_name=None, timeout=None, where=None)
"""

QUERY_METHODS = """
    async execute(query, *args, timeout=None)
    async executemany(command, args, *, timeout=None)
    async fetch(query, *args, timeout=None, record_class=None)
    async fetchmany(query, args, *, timeout=None, record_class=None)
    async fetchrow(query, *args, timeout=None, record_class=None)
    async fetchval(query, *args, column=0, timeout=None)
"""

CONNECTION = f"""
    {QUERY_METHODS}
    {COPY_METHODS}
    cursor(query, *args, prefetch=None, timeout=None, record_class=None)
    async prepare(query, *, name=None, timeout=None, record_class=None)
    transaction(*, isolation=None, readonly=False, deferrable=False)
    is_in_transaction()
    async set_type_codec(typename, *, schema='public', encoder, decoder, format='text')
    async reset_type_codec(typename, *, schema='public')
    async set_builtin_type_codec(typename, *, schema='public', codec_name, format=None)
    async reload_schema_state()
    async add_listener(channel, callback)
    async remove_listener(channel, callback)
    add_log_listener(callback)
    remove_log_listener(callback)
    add_termination_listener(callback)
    remove_termination_listener(callback)
    add_query_logger(callback)
    remove_query_logger(callback)
    query_logger(callback)
    get_server_pid()
    get_server_version()
    get_settings()
    get_reset_query()
    is_closed()
    async close(*, timeout=None)
    terminate()
    async reset(*, timeout=None)
"""

CLASSES = {
    "Connection": CONNECTION,
    "pool.PoolConnectionProxy": CONNECTION,
    "Pool": f"""
        {QUERY_METHODS}
        {COPY_METHODS}
        async __aenter__()
        async __aexit__(*exc)
        __await__()
        acquire(*, timeout=None)
        async release(connection, *, timeout=None)
        async close()
        terminate()
        async expire_connections()
        set_connect_args(dsn=None, **connect_kwargs)
        is_closing()
        get_size()
        get_init_size()
        get_min_size()
        get_max_size()
        get_idle_size()
    """,
    "pool.PoolAcquireContext": """
        async __aenter__()
        async __aexit__(exc_type=None, exc_val=None, exc_tb=None)
        __await__()
    """,
    "prepared_stmt.PreparedStatement": """
        get_name()
        get_query()
        get_statusmsg()
        get_parameters()
        get_attributes()
        cursor(*args, prefetch=None, timeout=None)
        async explain(*args, analyze=False)
        async fetch(*args, timeout=None)
        async fetchmany(args, *, timeout=None)
        async fetchrow(*args, timeout=None)
        async fetchval(*args, column=0, timeout=None)
        async executemany(args, *, timeout=None)
    """,
    "cursor.CursorFactory": "__aiter__()\n__await__()",
    "cursor.CursorIterator": "__aiter__()\nasync __anext__()",
    "cursor.Cursor": """
        async fetch(n, *, timeout=None)
        async fetchrow(*, timeout=None)
        async forward(n, *, timeout=None)
    """,
    "transaction.Transaction": """
        async start()
        async commit()
        async rollback()
        async __aenter__()
        async __aexit__(extype, ex, tb)
    """,
    "types.Type": "oid\nname\nkind\nschema",
    "types.Attribute": "name\ntype",
    "types.ServerVersion": "major\nminor\nmicro\nreleaselevel\nserial",
    "types.Range": """
        isempty
        issubset(other)
        issuperset(other)
        lower
        lower_inc
        lower_inf
        upper
        upper_inc
        upper_inf
    """,
    "types.BitString": """
        bytes
        as_string()
        from_int(x, length, bitorder='big', *, signed=False)
        frombytes(bytes_=None, bitlength=None)
        to_int(bitorder='big', *, signed=False)
    """,
    "types.Point": "x\ny",
    "types.Path": "is_closed\npoints",
    "types.Polygon": "is_closed\npoints",
    "types.Box": "high\nlow",
    "types.Line": "A\nB\nC",
    "types.LineSegment": "p1\np2",
    "types.Circle": "center\nradius",
    "Record": "get\nkeys\nvalues\nitems\n__getitem__\n__len__\n__iter__\n__contains__\n__eq__\n__hash__",
    "connection.LoggedQuery": "query\nargs\ntimeout\nelapsed\nexception\nconn_addr\nconn_params",
}
"""Class -> what it has."""

FUNCTIONS = {
    "connect": "async connect(dsn=None, *, host=None, port=None, user=None, password=None, passfile=None, "
    "service=None, servicefile=None, database=None, loop=None, timeout=60, statement_cache_size=100, "
    "max_cached_statement_lifetime=300, max_cacheable_statement_size=15360, command_timeout=None, ssl=None, "
    "direct_tls=None, connection_class=..., record_class=..., server_settings=None, target_session_attrs=None, "
    "krbsrvname=None, gsslib=None)",
    "create_pool": "create_pool(dsn=None, *, init_size=None, min_size=10, max_size=10, max_queries=50000, "
    "max_inactive_connection_lifetime=300.0, connect=..., setup=None, init=None, reset=None, loop=None, "
    "connection_class=..., record_class=..., **connect_kwargs)",
    "Pool": "Pool(*connect_args, init_size=None, min_size, max_size, max_queries, max_inactive_connection_lifetime, "
    "connect=..., setup=None, init=None, reset=None, loop, connection_class, record_class, **connect_kwargs)",
    "types.Type": "Type(oid, name, kind, schema)",
    "types.Attribute": "Attribute(name, type)",
    "types.ServerVersion": "ServerVersion(major, minor, micro, releaselevel, serial)",
    "types.Range": "Range(lower=None, upper=None, *, lower_inc=True, upper_inc=False, empty=False)",
    "types.BitString": "BitString(bitstring=None)",
    "types.Point": "Point(x, y)",
    "types.Path": "Path(*points, is_closed=False)",
    "types.Polygon": "Polygon(*points)",
    "types.Box": "Box(high, low)",
    "types.Line": "Line(A, B, C)",
    "types.LineSegment": "LineSegment(p1, p2)",
    "types.Circle": "Circle(center, radius)",
    "utils._mogrify": "async _mogrify(conn, query, args)",
    "utils._quote_ident": "_quote_ident(ident)",
    "utils._quote_literal": "_quote_literal(string)",
}
"""Functions and constructors -> how they are called."""

MODULES = {
    "": "connect create_pool Pool Record Connection __version__ Type Attribute Range BitString Point Path Polygon Box"
    " Line LineSegment Circle ServerVersion",
    "_version": "__version__",
    "compat": "StrEnum wait_for",
    "connect_utils": "SessionAttribute",
    "connection": "Connection ConnectionMeta LoggedQuery connect",
    "cursor": "Cursor CursorFactory CursorIterator",
    "pool": "Pool PoolAcquireContext PoolConnectionProxy PoolConnectionProxyMeta create_pool",
    "prepared_stmt": "PreparedStatement",
    "pgproto": "pgproto types",
    "pgproto.pgproto": "UUID",
    "pgproto.types": "Path Polygon Box Line LineSegment Circle Point BitString",
    "protocol": "Record protocol",
    "protocol.protocol": "Record _create_record",
    "protocol.record": "Record",
    "serverversion": "ServerVersion split_server_version_string",
    "transaction": "Transaction",
    "types": "Type Attribute Range BitString Point Path Polygon Box Line LineSegment Circle ServerVersion",
    "utils": "_mogrify _quote_ident _quote_literal",
    "exceptions._base": "PostgresError PostgresMessage PostgresLogMessage InterfaceError InterfaceMessage"
    " InterfaceWarning InternalClientError UnknownPostgresError DataError",
    "exceptions": "PostgresMessage PostgresError FatalPostgresError UnknownPostgresError InterfaceMessage"
    " InterfaceError InterfaceWarning PostgresLogMessage ClientConfigurationError InternalClientError"
    " OutdatedSchemaCacheError ProtocolError UnsupportedClientFeatureError UnsupportedServerFeatureError"
    " TargetServerAttributeNotMatched",
}
"""Module -> names that programs import from it."""

ERROR_ATTRIBUTES = (
    "sqlstate severity severity_en message detail hint position internal_position internal_query context schema_name"
    " table_name column_name data_type_name constraint_name server_source_filename server_source_line"
    " server_source_function query as_dict"
)

ANCESTRY = """
    PostgresError Exception
    FatalPostgresError PostgresError
    UnknownPostgresError FatalPostgresError
    InterfaceError Exception
    InterfaceWarning UserWarning
    ClientConfigurationError InterfaceError ValueError
    DataError PostgresError
    InternalClientError Exception
    ProtocolError InternalClientError
    OutdatedSchemaCacheError InternalClientError
    TargetServerAttributeNotMatched InternalClientError
    UnsupportedClientFeatureError InterfaceError
    UnsupportedServerFeatureError InterfaceError
"""
"""Exception, and what it must be caught as."""

SQLSTATES = """
    01000 PostgresWarning
    02000 NoData
    08000 PostgresConnectionError
    08001 ClientCannotConnectError
    08003 ConnectionDoesNotExistError
    08004 ConnectionRejectionError
    08006 ConnectionFailureError
    08P01 ProtocolViolationError
    0A000 FeatureNotSupportedError
    22001 StringDataRightTruncationError
    22003 NumericValueOutOfRangeError
    22012 DivisionByZeroError
    22P02 InvalidTextRepresentationError
    23000 IntegrityConstraintViolationError
    23502 NotNullViolationError
    23503 ForeignKeyViolationError
    23505 UniqueViolationError
    23514 CheckViolationError
    23P01 ExclusionViolationError
    25006 ReadOnlySQLTransactionError
    25P02 InFailedSQLTransactionError
    26000 InvalidSQLStatementNameError
    28000 InvalidAuthorizationSpecificationError
    28P01 InvalidPasswordError
    3D000 InvalidCatalogNameError
    3F000 InvalidSchemaNameError
    40001 SerializationError
    40P01 DeadlockDetectedError
    42501 InsufficientPrivilegeError
    42601 PostgresSyntaxError
    42703 UndefinedColumnError
    42704 UndefinedObjectError
    42883 UndefinedFunctionError
    42P01 UndefinedTableError
    42P04 DuplicateDatabaseError
    42P07 DuplicateTableError
    53300 TooManyConnectionsError
    55P03 LockNotAvailableError
    57014 QueryCanceledError
    57P01 AdminShutdownError
    57P02 CrashShutdownError
    57P03 CannotConnectNowError
    P0001 RaiseError
    XX000 InternalServerError
"""
"""The conditions that programs handle most; tests/exceptions/test_errors.py holds all to the server's own list."""
