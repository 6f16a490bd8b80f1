"""Copies rows of Python values into a table, encoded by the codecs of its columns."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from headrace._client.timeouts import time_limit
from headrace._core.pipeline.copy import RowEncoder
from headrace.copy import command
from headrace.copy.arguments import standard_strings
from headrace.copy.columns import begin_at_once, encoded_as, listed
from headrace.copy.columns import encoder as encoder_for
from headrace.copy.transfer import Upload, fill
from headrace.exceptions import InterfaceError

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface

CHUNK = 1 << 16
"""Bytes of encoded rows sent at a time."""


class HasWidth(Protocol):
    """An encoder of rows."""

    @property
    def width(self) -> int:
        """The number of columns."""


async def copy_records(
    connection: ConnectionInterface,
    table: str,
    records: Iterable[Any] | AsyncIterable[Any],
    columns: command.Names,
    where: str | None,
    timeout: float | None,
) -> str:
    """Copy rows into a table within `timeout` seconds; return the command tag. `table` is already quoted."""
    if not isinstance(records, (Iterable, AsyncIterable)):
        raise TypeError(
            f"records is expected to be an iterable or asynchronous iterable of rows, not {type(records).__name__}"
        )
    rows = iter(()) if isinstance(records, AsyncIterable) else iter(records)
    driver = connection._driver
    names = listed(columns)
    has_more = True
    async with time_limit(timeout, "the COPY"):
        begun = await begin_at_once(connection, table, names, where, RowEncoder)
        if begun is not None:
            transfer, encoder = begun
        else:
            encoder, names = await encoder_for(driver, table, names, None, RowEncoder)
            text = command.from_stdin(table, names, encoded_as(encoder), where, standard_strings(connection))
            # The first rows are encoded before the COPY is sent: an error in them leaves a transaction intact.
            has_more = encoder.fill(rows, CHUNK)
            transfer = Upload(driver, driver.copy_in(text), None)
        if isinstance(records, AsyncIterable):
            return await fill(transfer, lambda transfer: _send_each(transfer, encoder, records), None)

        async def send_chunks(transfer: Upload) -> bytes:
            nonlocal has_more
            check_width(transfer, encoder)
            while has_more:
                if encoder.size >= CHUNK:
                    await transfer.send(encoder.take())
                has_more = encoder.fill(rows, CHUNK)
            return encoder.end()

        return await fill(transfer, send_chunks, None)


async def _send_each(transfer: Upload, encoder: RowEncoder, records: AsyncIterable[Any]) -> bytes:
    check_width(transfer, encoder)
    async for row in records:
        encoder.add(row)
        if encoder.size >= CHUNK:
            await transfer.send(encoder.take())
    return encoder.end()


def check_width(transfer: Upload, encoder: HasWidth) -> None:
    """Raise InterfaceError if the COPY that has begun has other columns than the encoder."""
    if transfer.request.columns != encoder.width:
        raise InterfaceError(
            f"the table was altered meanwhile: it now has {transfer.request.columns} columns, not {encoder.width}"
        )
