"""Types by name, and the codecs that a program sets for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from headrace._client.base import ConnectionBase
from headrace._core.codecs.type_names import builtin_oid, catalogue_name
from headrace._core.codecs.typemap import (
    IDENTITY_COLUMNS,
    IDENTITY_QUERY,
    INTROSPECTION_COLUMNS,
    INTROSPECTION_QUERY,
    TYPE_BY_NAME,
)
from headrace._core.pipeline.prepare import own_statement
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_ROWS, KIND_VALUE
from headrace.exceptions import InterfaceError, PostgresError

if TYPE_CHECKING:
    pass

NAME, OID, OIDS = 19, 26, 1028


class TypeMethods(ConnectionBase):
    """The methods of a connection that set codecs. They hold for this connection, from the next query on."""

    async def set_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        encoder: Callable[[Any], Any] | None,
        decoder: Callable[[Any], Any] | None,
        format: Literal["text", "binary", "tuple"] = "text",
    ) -> None:
        """Have values of a type converted by two functions, also inside arrays, composites, ranges, domains and COPY.

        `encoder` makes of a value, and `decoder` is given, the type's text form (`format` 'text', a str), its binary
        form ('binary', bytes) or, for dates, times and composite types, a tuple ('tuple'). One of the two may be None
        where values go one way alone. Built-in types are in the schema pg_catalog. Raises ValueError for an unknown
        type, InterfaceError where the type does not take a codec of its own, as arrays, ranges and domains do not.
        """
        self._check_open()
        for name, function in (("encoder", encoder), ("decoder", decoder)):
            if function is not None and not callable(function):
                raise InterfaceError(f"{name} is expected to be a function, got {function!r}")
        oid = await self._type(typename, schema)
        self._driver.session.types.set_codec(oid, format, encoder, decoder)

    async def reset_type_codec(self, typename: str, *, schema: str = "public") -> None:
        """Go back to the codec that a type has of itself; raises ValueError for an unknown type."""
        self._check_open()
        self._driver.session.types.reset_codec(await self._type(typename, schema))

    async def set_builtin_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        codec_name: str,
        format: Literal["text", "binary"] | None = None,
    ) -> None:
        """Have values of a type exchanged as those of a built-in type, which must have the same form on the wire.

        `codec_name` is the name of a built-in type, such as 'int', or 'pg_contrib.hstore'. `format` None stands for
        what that codec works in. Raises ValueError for an unknown type, InterfaceError for an unknown codec.
        """
        self._check_open()
        oid = await self._type(typename, schema)
        self._driver.session.types.set_builtin(oid, codec_name, format)

    async def reload_schema_state(self) -> None:
        """Forget what is known of the database's types and statements: each is asked for again when it is next met.

        Where types are altered on this connection or another, this spares the first query after it an error.
        """
        session = self._driver.session
        session.types.catalogue.forget()
        session.forget_statements()

    async def _type(self, typename: str, schema: str) -> int:
        """Return the OID of a type, which is looked up where nothing is known of it."""
        known = builtin_oid(typename) if schema == "pg_catalog" else None
        if known is not None:
            return known
        driver = self._driver
        timeout = self._timeout(None)
        question = own_statement(TYPE_BY_NAME, (NAME, NAME), [("oid", OID)])
        names = (catalogue_name(typename, schema), schema)
        request = driver.execute_statement(question, names, KIND_VALUE, 1, 0, Record)
        types = driver.session.types
        if types.unidentified:
            # Both questions travel together.
            question = own_statement(IDENTITY_QUERY, (), IDENTITY_COLUMNS)
            identity = driver.execute_statement(question, (), KIND_ROWS, 0, 0, Record)
            oid = await driver.reply(request, timeout)
            try:
                types.identify(await driver.reply(identity, timeout))
            except PostgresError:
                types.stay_alone()
        else:
            oid = await driver.reply(request, timeout)
        if oid is None:
            raise ValueError(f"unknown type: {schema}.{typename}")
        missing = types.missing([oid])
        if missing:
            question = own_statement(INTROSPECTION_QUERY, (OIDS,), INTROSPECTION_COLUMNS)
            request = driver.execute_statement(question, (missing,), KIND_ROWS, 0, 0, Record)
            types.learn(missing, await driver.reply(request, timeout))
        return oid  # type: ignore[no-any-return]
