"""Copies columns in Arrow's layout into a table, from any object of the Arrow PyCapsule interface.

The data may compute its batches when they are asked for, so it is asked in a thread. One batch is held at a time. It is
encoded by compiled code, some 64 kB between two turns of the event loop.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from headrace._client.timeouts import time_limit
from headrace._core.arrow.encoder import BatchEncoder
from headrace._core.arrow.matching import Mismatch, writer_for
from headrace._core.arrow.reader import BatchReader, can_read
from headrace._core.arrow.targets import target
from headrace._core.codecs.typemap import TypeMap
from headrace.copy import command
from headrace.copy.arguments import standard_strings
from headrace.copy.columns import BINARY, begin_at_once, listed
from headrace.copy.columns import encoder as encoder_for
from headrace.copy.files import in_thread
from headrace.copy.records import CHUNK, check_width
from headrace.copy.transfer import Upload, fill
from headrace.exceptions import ArgumentError, InterfaceError, UndefinedColumnError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from headrace._client.interface import ConnectionInterface
    from headrace._core.arrow.fields import Field
    from headrace._core.arrow.reader import Batch
    from headrace._core.arrow.writers import Writer


class ArrowStream(Protocol):
    """An object that exports batches of columns through the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return a capsule with an ArrowArrayStream."""


class ArrowBatch(Protocol):
    """An object that exports one batch of columns through the Arrow PyCapsule interface."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        """Return capsules with an ArrowSchema and an ArrowArray."""


ArrowData = ArrowStream | ArrowBatch

MOST_SHOWN = 50
"""Columns that an error lists."""


def check_data(data: object) -> None:
    """Raise TypeError for an object without the Arrow PyCapsule interface."""
    if can_read(data):
        return
    hint = "; use copy_records_to_table() for rows of Python values" if isinstance(data, (list, tuple)) else ""
    raise TypeError(
        "data is expected to have the Arrow PyCapsule interface (__arrow_c_stream__ or __arrow_c_array__), as tables "
        f"of pyarrow, polars, pandas and DuckDB do, got {type(data).__name__} {shown(data)}{hint}"
    )


async def copy_arrow(
    connection: ConnectionInterface, table: str, data: Any, columns: command.Names, timeout: float | None
) -> str:
    """Copy Arrow data into a table within `timeout` seconds; return the command tag. `table` is already quoted."""
    wanted = listed(columns)
    async with time_limit(timeout, "the COPY"), aclosing(_batches(data)) as batches:
        fields = (await anext(batches)).children
        first = await anext(batches, None)
        names = _chosen(fields, wanted)
        positions = [[field.name for field in fields].index(name) for name in names]

        def make(types: TypeMap, names: list[str], oids: list[int], table: str) -> BatchEncoder:
            return _encoder(types, table, [fields[position] for position in positions], positions, oids)

        begun = await begin_at_once(connection, table, names, None, make)
        if begun is not None:
            transfer, encoder = begun
        else:
            try:
                encoder, _ = await encoder_for(connection._driver, table, names, None, make)
            except UndefinedColumnError as error:
                error.hint = f"{error.hint or ''} Columns of the data go into those of the same names.".strip()
                raise
        if begun is None:
            # The first rows are encoded before the COPY is sent: an error in them leaves a transaction intact.
            if first is not None:
                encoder.start(first)
                encoder.fill(CHUNK)
            text = command.from_stdin(table, names, BINARY, None, standard_strings(connection))
            transfer = Upload(connection._driver, connection._driver.copy_in(text), None)

        async def send_batches(transfer: Upload) -> bytes:
            check_width(transfer, encoder)
            if begun is not None and first is not None:
                encoder.start(first)
            try:
                while True:
                    while encoder.fill(CHUNK):
                        await transfer.send(encoder.take())
                    batch = await anext(batches, None)
                    if batch is None:
                        return encoder.end()
                    encoder.start(batch)
            finally:
                encoder.drop()

        return await fill(transfer, send_batches, None)


async def _batches(data: Any) -> AsyncGenerator[Any, None]:
    """Yield the schema of the data, as a Field, and then its batches. Closing it releases the stream."""
    reader, batch = await in_thread(_opened, data)
    try:
        yield reader.field
        while batch is not None:
            yield batch
            batch = None if reader.ended else await in_thread(reader.next)
    finally:
        reader.close()


def _opened(data: Any) -> tuple[BatchReader, Batch | None]:
    """Return a reader of the data and its first batch, None if there is none."""
    reader = BatchReader(data)
    try:
        return reader, reader.next()
    except BaseException:
        reader.close()
        raise


def _chosen(fields: tuple[Field, ...], wanted: list[str] | None) -> list[str]:
    """Return the names of the columns to copy: all of the data, or those wanted. Raises InterfaceError."""
    names = [field.name for field in fields]
    if not names:
        raise InterfaceError(
            "data is expected to be a table with columns, got none",
            hint="An array alone has no columns: put it into a table.",
        )
    chosen = names if wanted is None else wanted
    missing = [name for name in chosen if name not in names]
    if missing:
        raise InterfaceError(
            f"the data has no column named {_listed(missing)}",
            hint=f"Names are taken as they are, upper and lower case too. The data has {_listed(names)}.",
        )
    repeated = [name for name in dict.fromkeys(chosen) if chosen.count(name) > 1 or names.count(name) > 1]
    if repeated:
        raise InterfaceError(
            f"{'columns names' if wanted is not None and len(set(wanted)) < len(wanted) else 'the data has'} "
            f"more than one column {_listed(repeated)}",
            hint="Rename the columns of the data, or name those to copy by columns=.",
        )
    return chosen


def _encoder(types: TypeMap, table: str, fields: list[Field], positions: list[int], oids: list[int]) -> BatchEncoder:
    """Return the encoder for columns of these types; raises ArgumentError that names all fields that do not fit."""
    # Codecs that the program has set play no part.
    plain = TypeMap(types.catalogue)
    writers: list[Writer] = []
    misfits: list[str] = []
    for field, oid in zip(fields, oids, strict=True):
        try:
            writers.append(writer_for(field, target(oid, types.catalogue.find, plain.codec)))
        except Mismatch as mismatch:
            misfits.append(
                f"column {field.name!r}: Arrow type {mismatch.field.type} does not fit PostgreSQL type "
                f"{mismatch.target.name} ({mismatch.remedy})"
            )
    if misfits:
        shown_ones = "; ".join(misfits[:MOST_SHOWN]) + ("; ..." if len(misfits) > MOST_SHOWN else "")
        raise ArgumentError(f"the data does not fit the table {table}: {shown_ones}")
    names = tuple(field.name for field in fields)
    return BatchEncoder(names, tuple(fields), tuple(positions), tuple(writers))


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:MOST_SHOWN])) + (", ..." if len(names) > MOST_SHOWN else "")
