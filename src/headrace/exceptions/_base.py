"""The base classes of every error, warning and log message.

There are two families. A message of the *server* is a `PostgresMessage`: `PostgresError` (an ErrorResponse) or
`PostgresLogMessage` (a NoticeResponse), with one subclass per SQLSTATE in `_sqlstate.py`. An error of the *driver*
is an `InterfaceError`, an `InterfaceWarning` or an `InternalClientError`. Only `ArgumentError` and its like belong to
both.

All exceptions can be pickled and copied: `args` holds only the message, and everything else is in the instance's
`__dict__`, which `BaseException.__reduce__` includes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from ._position import marked_line
from ._values import shown

__all__ = [
    "ClientConfigurationError",
    "FatalPostgresError",
    "ForeignPositionError",
    "InterfaceError",
    "InterfaceMessage",
    "InterfaceWarning",
    "InternalClientError",
    "LoaderKeyError",
    "NoPrimaryError",
    "NoReplicaError",
    "OutdatedSchemaCacheError",
    "PostgresError",
    "PostgresLogMessage",
    "PostgresMessage",
    "ProtocolError",
    "TargetServerAttributeNotMatched",
    "UnknownPostgresError",
    "UnsupportedClientFeatureError",
    "UnsupportedServerFeatureError",
]

FIELDS: Final[dict[str, str]] = {
    "S": "severity",
    "V": "severity_en",
    "C": "sqlstate",
    "M": "message",
    "D": "detail",
    "H": "hint",
    "P": "position",
    "p": "internal_position",
    "q": "internal_query",
    "W": "context",
    "s": "schema_name",
    "t": "table_name",
    "c": "column_name",
    "d": "data_type_name",
    "n": "constraint_name",
    "F": "server_source_filename",
    "L": "server_source_line",
    "R": "server_source_function",
}
"""Field code on the wire -> attribute (PostgreSQL documentation, "Error and Notice Message Fields")."""

BY_SQLSTATE: Final[dict[str, type[PostgresMessage]]] = {}
"""SQLSTATE -> its class. A class that defines `sqlstate` registers itself, also a class of the program: an error that a
database function raises with an ERRCODE of its own is then an exception of the program."""

REFINED: Final[dict[str, Callable[[Mapping[str, str]], type[PostgresError] | None]]] = {}
"""SQLSTATE -> a function that returns a narrower class than that of the SQLSTATE, chosen by the other fields."""


def _attributes(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields by attribute name. Unknown codes are left out, as the protocol requires."""
    return {FIELDS[code]: value for code, value in fields.items() if code in FIELDS}


def _error_class(fields: Mapping[str, str]) -> type[PostgresError]:
    sqlstate = fields.get("C", "")
    refined = REFINED[sqlstate](fields) if sqlstate in REFINED else None
    if refined is not None:
        return refined
    for key in (sqlstate, f"{sqlstate[:2]}000"):
        cls = BY_SQLSTATE.get(key)
        # A function may RAISE EXCEPTION with the SQLSTATE of a warning; it stays an error.
        if cls is not None and issubclass(cls, PostgresError):
            return cls
    return UnknownPostgresError


LONGEST_QUERY: Final = 200
"""The most characters of a query inside a function that the text of an error shows."""


def _explain(message: str, detail: str | None, hint: str | None) -> str:
    """Append detail and hint to the message, in the format of psql."""
    if detail:
        message += f"\nDETAIL:  {detail}"
    if hint:
        message += f"\nHINT:  {hint}"
    return message


class PostgresMessage:
    """The content of an ErrorResponse or a NoticeResponse, field by field.

    Every field is the server's own text, including the numbers. Positions count characters of the query from 1. A field
    that the server did not send is None. `severity` is in the server's language, `severity_en` is always English.
    """

    severity: str | None = None
    severity_en: str | None = None
    sqlstate: str | None = None
    message: str | None = None
    detail: str | None = None
    hint: str | None = None
    position: str | None = None
    internal_position: str | None = None
    internal_query: str | None = None
    context: str | None = None
    schema_name: str | None = None
    table_name: str | None = None
    column_name: str | None = None
    data_type_name: str | None = None
    constraint_name: str | None = None
    server_source_filename: str | None = None
    server_source_line: str | None = None
    server_source_function: str | None = None

    query: str | None = None
    """The text of the query that caused the message, if any."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        sqlstate = cls.__dict__.get("sqlstate")
        if sqlstate is not None:
            if sqlstate in BY_SQLSTATE:
                raise TypeError(
                    f"{cls.__name__} has the duplicate SQLSTATE {shown(sqlstate)}, which is already defined by "
                    f"{BY_SQLSTATE[sqlstate].__name__}: derive from that class, without a sqlstate"
                )
            BY_SQLSTATE[sqlstate] = cls

    @classmethod
    def get_message_class_for_sqlstate(cls, code: str) -> type[PostgresMessage]:
        """Return the class of a SQLSTATE, or of the SQLSTATE's class; UnknownPostgresError if there is neither."""
        return BY_SQLSTATE.get(code) or BY_SQLSTATE.get(f"{code[:2]}000") or UnknownPostgresError

    def as_dict(self) -> dict[str, str]:
        """Return the fields that are set, by attribute name, in the order of the protocol's documentation."""
        return {name: value for name in FIELDS.values() if (value := getattr(self, name)) is not None}


class PostgresError(PostgresMessage, Exception):
    """An error reported by the server, or by the driver in the server's terms."""

    safe_to_retry: bool = False
    """True if the call can be made again without doing its work twice: the server provably never started it, or it only
    reads. Never True inside a transaction block, nor for a call that begins or ends one."""

    def __init__(
        self,
        *args: object,
        detail: str | None = None,
        hint: str | None = None,
        safe_to_retry: bool = False,
    ) -> None:
        super().__init__(*args)
        if detail is not None:
            self.detail = detail
        if hint is not None:
            self.hint = hint
        if safe_to_retry:
            self.safe_to_retry = True

    @classmethod
    def new(cls, fields: Mapping[str, str], query: str | None = None) -> PostgresError:
        """Return the exception for an ErrorResponse.

        `fields` are the fields by their one-letter codes, `query` the text that caused the error, if any. The class is
        that of the SQLSTATE, or else that of the SQLSTATE's class (its first two characters), or else
        UnknownPostgresError. It never raises.
        """
        made, message = _error_class(fields), fields.get("M", "")
        try:
            error = made(message)
        except Exception:
            # A program's own class may need other arguments. The server's message must not be lost.
            error = PostgresError(message)
        error.__dict__.update(_attributes(fields))
        if not (error.sqlstate and error.sqlstate.isascii() and error.sqlstate.isalnum()):
            error.sqlstate = None
        error.query = query
        return error

    def __str__(self) -> str:
        """Return the message, the line with the place, detail, hint and the query inside a function, as psql does.

        The first line is the message alone, which is also `args[0]` and `message`.
        """
        # In ArgumentError super() is InterfaceMessage, which would add detail and hint once more.
        message = str(self.args[0]) if self.args else ""
        place = self._place()
        text = _explain(f"{message}\n{place}" if place else message, self.detail, self.hint)
        if self.internal_query:
            cut = self.internal_query[:LONGEST_QUERY]
            text += f"\nQUERY:  {cut}{'...' if cut != self.internal_query else ''}"
        return text

    def _place(self) -> str | None:
        """Return the line of the query with a caret; None if the server tells no place."""
        if self.query is not None and self.position is not None:
            return marked_line(self.query, self.position)
        if self.internal_query is not None:
            return marked_line(self.internal_query, self.internal_position)
        return None


class FatalPostgresError(PostgresError):
    """An error after which the server closes the connection."""


class UnknownPostgresError(FatalPostgresError):
    """An error whose SQLSTATE, and the class of that SQLSTATE, are not known to the driver."""


class PostgresLogMessage(PostgresMessage):
    """A notice, warning or other message for the log. The driver never raises it. It is immutable."""

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.__dict__["message"] = message

    @classmethod
    def new(cls, fields: Mapping[str, str], query: str | None = None) -> PostgresLogMessage:
        """Return the message for a NoticeResponse. The arguments are those of `PostgresError.new()`.

        The class is that of the warning with this SQLSTATE, PostgresWarning for other SQLSTATEs of class 01, and
        PostgresLogMessage for everything else, including a warning that a function raises with an error's SQLSTATE.
        """
        sqlstate = fields.get("C", "")
        notice = PostgresLogMessage()
        for key in (sqlstate, f"{sqlstate[:2]}000"):
            made = BY_SQLSTATE.get(key)
            if made is not None and issubclass(made, PostgresLogMessage):
                notice = made(fields.get("M", ""))
                break
        notice.__dict__.update(_attributes(fields), query=query)
        if not sqlstate:
            notice.__dict__.pop("sqlstate", None)
        return notice

    def __str__(self) -> str:
        return f"{type(self).__name__}: {self.message}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.severity} {self.sqlstate}: {self.message!r}>"

    def __setattr__(self, name: str, value: object) -> None:
        # Python itself sets __traceback__, __notes__ and the like on a warning that is raised.
        if not name.startswith("__"):
            raise TypeError(f"cannot set {name!r}: a {type(self).__name__} is immutable")
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        # BaseException.__setstate__ would use __setattr__ when a warning is unpickled or copied.
        self.__dict__.update(state or {})


class InterfaceMessage:
    """A message of the driver about its use."""

    detail: str | None
    hint: str | None

    def __init__(self, *, detail: str | None = None, hint: str | None = None) -> None:
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        # The message is args[0] of the exception or warning with this mixin.
        return _explain(super().__str__(), self.detail, self.hint)


class InterfaceError(InterfaceMessage, Exception):
    """The driver was used in a way that cannot work."""

    safe_to_retry: bool = False
    """True if the call can be made again without doing its work twice: the server provably never started it, or it only
    reads. Never True inside a transaction block, nor for a call that begins or ends one."""

    def __init__(
        self,
        msg: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        safe_to_retry: bool = False,
    ) -> None:
        InterfaceMessage.__init__(self, detail=detail, hint=hint)
        Exception.__init__(self, msg)
        if safe_to_retry:
            self.safe_to_retry = True

    def with_msg(self, msg: str) -> Self:
        """Return a copy of this error with another message, and the same traceback, cause and context."""
        copy = type(self)(msg)
        copy.__dict__.update(self.__dict__)
        copy.__context__ = self.__context__
        copy.__cause__ = self.__cause__
        copy.__suppress_context__ = self.__suppress_context__
        return copy.with_traceback(self.__traceback__)


class ClientConfigurationError(InterfaceError, ValueError):
    """The connection parameters are wrong or contradict each other."""


class UnsupportedClientFeatureError(InterfaceError):
    """The driver does not support the requested feature."""


class UnsupportedServerFeatureError(InterfaceError):
    """The server does not support the requested feature."""


class LoaderKeyError(InterfaceError):
    """The query of a `Loader` returned a row for a key that nobody asked for, and no row for this key.

    They may be the same key in the eyes of the server, which compares some types in another way than Python does. With
    `many=True` it is also raised if two keys of one statement are known to be the same one for the server.
    """

    key: object = None
    """The key that was asked for."""
    returned: object = None
    """The value in the key column of the row that belongs to no key, or to another one."""


class NoPrimaryError(InterfaceError, ConnectionError):
    """A cluster has no primary that the call could be sent to. Its text names the state of each host.

    Nothing was sent, so the call can be made again. Programs may catch it as ConnectionError or OSError, as they catch
    other errors of a database that is away.
    """

    safe_to_retry = True


class NoReplicaError(InterfaceError, ConnectionError):
    """A cluster has no replica that may answer, and the call must not go to the primary. Nothing was sent.

    Its text names the state of each host.
    """

    safe_to_retry = True


class ForeignPositionError(InterfaceError, ValueError):
    """A position in the write-ahead log belongs to another cluster: its system identifier is another one."""


class InterfaceWarning(InterfaceMessage, UserWarning):
    """The driver was used in a way that works but is probably a mistake."""

    def __init__(self, msg: str, *, detail: str | None = None, hint: str | None = None) -> None:
        InterfaceMessage.__init__(self, detail=detail, hint=hint)
        UserWarning.__init__(self, msg)


class InternalClientError(Exception):
    """The driver reached a state that should be impossible, or the server violated the protocol."""

    safe_to_retry: bool = False
    """True if the call can be made again without doing its work twice: the server provably never started it, or it only
    reads. Never True inside a transaction block, nor for a call that begins or ends one."""


class ProtocolError(InternalClientError):
    """The server sent something that the protocol does not allow. The connection can no longer be used."""


class TargetServerAttributeNotMatched(InternalClientError):
    """No host is of the kind that target_session_attrs asks for."""

    role: str | None = None
    """The role of the server, if the error is about one: 'primary', 'standby', or 'read-only' for a primary whose
    transactions are read-only by default."""


class OutdatedSchemaCacheError(InternalClientError):
    """The driver's description of a type no longer matches the database. It must be looked up again."""

    schema_name: str | None
    data_type_name: str | None
    position: int | None
    type_oid: int = 0

    def __init__(
        self,
        msg: str,
        *,
        schema: str | None = None,
        data_type: str | None = None,
        position: int | None = None,
    ) -> None:
        super().__init__(msg)
        self.schema_name = schema
        self.data_type_name = data_type
        self.position = position
