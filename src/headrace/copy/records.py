"""Copies rows of Python values into a table, encoded by the codecs of its columns."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any

from headrace._client.timeouts import time_limit
from headrace.copy import command
from headrace.copy.arguments import standard_strings
from headrace.copy.columns import encoder as encoder_for
from headrace.copy.transfer import Upload, upload
from headrace.exceptions import InterfaceError

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.copy import RowEncoder

CHUNK = 1 << 16
"""Bytes of encoded rows sent at a time."""

BINARY = {"format": "binary"}


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
    driver = connection._driver
    async with time_limit(timeout, "the COPY"):
        encoder, columns = await encoder_for(driver, table, columns, None)
        text = command.from_stdin(table, columns, encoded_as(encoder), where, standard_strings(connection))
        if isinstance(records, AsyncIterable):
            return await upload(driver, text, lambda transfer: _send_each(transfer, encoder, records), None)
        # The first rows are encoded before anything is sent, so that an error in them leaves a transaction intact.
        rows = iter(records)
        has_more = encoder.fill(rows, CHUNK)

        async def send_chunks(transfer: Upload) -> bytes:
            nonlocal has_more
            check_width(transfer, encoder)
            while has_more:
                await transfer.send(encoder.take())
                has_more = encoder.fill(rows, CHUNK)
            return encoder.end()

        return await upload(driver, text, send_chunks, None)


def encoded_as(encoder: RowEncoder) -> dict[str, object]:
    """Return the options of the COPY for the format of the encoder."""
    return {"format": "binary" if encoder.binary else "text"}


async def _send_each(transfer: Upload, encoder: RowEncoder, records: AsyncIterable[Any]) -> bytes:
    check_width(transfer, encoder)
    async for row in records:
        encoder.add(row)
        if encoder.size >= CHUNK:
            await transfer.send(encoder.take())
    return encoder.end()


def check_width(transfer: Upload, encoder: RowEncoder) -> None:
    """Raise InterfaceError if the COPY that has begun has other columns than the encoder."""
    if transfer.request.columns != encoder.width:
        raise InterfaceError(
            f"the table was altered meanwhile: it now has {transfer.request.columns} columns, not {encoder.width}"
        )
