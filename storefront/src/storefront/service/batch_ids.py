"""Read the ids of a batch from the body of a request: plain lines, CSV, NDJSON or a JSON array.

No id is left out. One that is malformed is kept as such and does not fail the batch.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from enum import StrEnum
from itertools import islice
from typing import Final

from storefront.catalogue import MAX_WHOLE_NUMBER, parse_product_id
from storefront.errors import UsageError
from storefront.orders import BLOCK, csv_records, fields_of, ids_in_csv, load_json, no_column
from storefront.service.problems import ProblemError, RefusedBodyError
from storefront.wording import counted

MALFORMED: Final = 0
"""Stands for a malformed id."""

LONGEST_SHOWN: Final = 80
"""The number of characters of a malformed id that are kept."""

_AT_ONCE: Final = 4_096
"""The number of ids that are read before other tasks run."""


class BodyFormat(StrEnum):
    """How the ids are written in the body."""

    PLAIN = "text/plain"
    CSV = "text/csv"
    NDJSON = "application/x-ndjson"
    JSON = "application/json"


_ALIASES: Final = {
    "application/ndjson": BodyFormat.NDJSON,
    "application/jsonl": BodyFormat.NDJSON,
    "application/x-jsonlines": BodyFormat.NDJSON,
    **{each.value: each for each in BodyFormat},
}


@dataclass
class BatchIds:
    """The ids of a batch in the partner's order. MALFORMED stands for one whose text is in `malformed`, by its index.

    `first_line` is the line of the body that has the first id. The elements of a JSON array count as lines.
    """

    ids: array[int] = field(default_factory=lambda: array("q"))
    malformed: dict[int, str] = field(default_factory=dict)
    first_line: int = 1


def body_format(content_type: str) -> BodyFormat:
    """Return the format that a Content-Type stands for. Raises ProblemError 415 for any other."""
    message = Message()
    message["content-type"] = content_type
    charset = message.get_content_charset("utf-8")
    # A Message takes a value that is no media type for text/plain.
    chosen = _ALIASES.get(content_type.partition(";")[0].strip().lower())
    if chosen is None or charset not in ("utf-8", "us-ascii", "ascii", "utf8"):
        got = repr(content_type[:80]) if content_type else "none"
        raise RefusedBodyError(
            415,
            "Unsupported media type",
            f"the Content-Type is expected to be one of {', '.join(BodyFormat)}, in UTF-8; got {got}",
            headers={"Accept-Post": ", ".join(BodyFormat)},
        )
    return chosen


async def read_ids(body: bytearray, chosen: BodyFormat, limit: int) -> BatchIds:
    """Return the ids of a body.

    Raises ProblemError: 413 for more than `limit` ids, 422 for none and for JSON that is not an array, 400 for a body
    that is not CSV or JSON, or not UTF-8 in a way that no id could be read.
    """
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ProblemError(400, "Malformed body", "the body is UTF-16: expected UTF-8")
    if body.startswith(b"\xef\xbb\xbf"):
        del body[:3]
    batch = BatchIds()
    texts = _READERS[chosen](body, limit, batch)
    while part := list(islice(texts, _AT_ONCE)):
        for product_id in part:
            if isinstance(product_id, int):
                batch.ids.append(product_id)
            else:
                batch.malformed[len(batch.ids)] = product_id[:LONGEST_SHOWN]
                batch.ids.append(MALFORMED)
        if len(batch.ids) > limit:
            raise ProblemError(
                413,
                "Too many ids",
                f"the batch has more than {counted(limit, 'id')}, the limit: divide it into several batches",
                limit=limit,
            )
        await asyncio.sleep(0)
    if not batch.ids:
        raise ProblemError(422, "Empty batch", "the batch has no ids")
    return batch


def _id_of(raw: bytes) -> int | str:
    """Return the id that a text is, or the text if it is none."""
    if not raw.isascii():
        # There may be blanks around it that only Unicode knows, as those of a spreadsheet.
        with suppress(UsageError):
            return parse_product_id(raw.decode(errors="replace"))
    return _digits_of(raw)


def _digits_of(raw: bytes) -> int | str:
    """Return the id that a text in ASCII is, or the text if it is none."""
    digits = raw.strip()
    if digits.isdigit() and len(digits) <= 19 and 1 <= (product_id := int(digits)) <= MAX_WHOLE_NUMBER:
        return product_id
    return digits[: 4 * LONGEST_SHOWN].decode(errors="replace")


def _lines(body: bytearray, limit: int) -> list[bytes]:
    """Return the lines of a body: the first `limit`, and some more if there are."""
    lines = bytes(body).split(b"\n", limit + 1)
    if not lines[-1]:
        # The last line has an end.
        lines.pop()
    return lines


def _plain(body: bytearray, limit: int, batch: BatchIds) -> Iterator[int | str]:
    return (_id_of(line) for line in _lines(body, limit))


def _ndjson(body: bytearray, limit: int, batch: BatchIds) -> Iterator[int | str]:
    for line in _lines(body, limit):
        found = _digits_of(line)
        if isinstance(found, str):
            with suppress(ValueError, RecursionError):
                found = _id_in(load_json(line))
        yield found


def _csv(body: bytearray, limit: int, batch: BatchIds) -> Iterator[int | str]:
    head = body[:BLOCK].split(b"\n", 1)[0].decode(errors="replace")
    if not body:
        return
    found = ids_in_csv(head.rstrip("\r"))
    if found is None:
        raise ProblemError(422, "Invalid request", f"the CSV {no_column(head)}")
    records = csv_records(((line.removesuffix(b"\n"), None) for line in io.BytesIO(body)), found.delimiter)
    if found.has_header:
        batch.first_line = 2
        next(records)
    for number, raw, _ in records:
        try:
            yield _cell(fields_of(raw, found.delimiter), found.column)
        except csv.Error as error:
            raise ProblemError(400, "Malformed body", f"the body is not CSV: line {number}: {error}") from None


def _cell(row: list[str], column: int) -> int | str:
    if column >= len(row):
        return ",".join(row).encode(errors="surrogateescape").decode(errors="replace")
    return _id_of(row[column].encode(errors="surrogateescape"))


def _json(body: bytearray, limit: int, batch: BatchIds) -> Iterator[int | str]:
    try:
        value = load_json(body)
    except UnicodeDecodeError:
        raise ProblemError(400, "Malformed body", "the body is not UTF-8") from None
    except RecursionError:
        raise ProblemError(400, "Malformed body", "the JSON of the body is nested too deeply") from None
    except ValueError as error:
        raise ProblemError(400, "Malformed body", f"the body is not JSON: {error}") from None
    if not isinstance(value, list):
        raise ProblemError(422, "Invalid request", "the body is expected to be a JSON array of ids")
    return map(_id_in, value)


def _id_in(value: object) -> int | str:
    """Return the id that a value of JSON is or has as its member product_id, or the text of a value that is no id."""
    if isinstance(value, dict) and "product_id" in value:
        value = value["product_id"]
    if type(value) is int:
        return value if 1 <= value <= MAX_WHOLE_NUMBER else str(value)
    if isinstance(value, str):
        return _id_of(value.encode(errors="replace"))
    return "".join(islice(json.JSONEncoder(ensure_ascii=False).iterencode(value), LONGEST_SHOWN))


_READERS: Final = {
    BodyFormat.PLAIN: _plain,
    BodyFormat.CSV: _csv,
    BodyFormat.NDJSON: _ndjson,
    BodyFormat.JSON: _json,
}
