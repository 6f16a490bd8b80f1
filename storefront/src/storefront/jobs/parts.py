"""Answer lines of a job in parts of its result, which are compressed while they are written."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from storefront.batch import WINDOW, Strategy, answers
from storefront.catalogue import COLUMNS, Executor
from storefront.checkpoint import Tally
from storefront.formats import Format, encoder
from storefront.jobs.claims import Part
from storefront.jobs.members import GzipMember
from storefront.orders import OrderLine
from storefront.reports import COLUMNS as REPORT_COLUMNS
from storefront.reports import Problem

PART_SIZE = 8 * 2**20
"""The number of bytes of result after which a part ends, at the next line."""


class _OpenPart:
    """A part to which lines are added."""

    def __init__(self, header: bytes = b"") -> None:
        self.rows = GzipMember()
        self.tally = Tally()
        self._report = GzipMember()
        self.rows.write(header)

    def report(self, problem: Problem, skipped_lines: int) -> None:
        values = (problem.line + skipped_lines, problem.kind.value, problem.product_id, problem.text)
        line = json.dumps(dict(zip(REPORT_COLUMNS, values, strict=True)), ensure_ascii=False)
        self._report.write(line.encode() + b"\n")

    def end(self, last_line: int) -> Part:
        return Part(last_line, self.tally, self.rows.size, self.rows.end(), self._report.end())


async def answer_parts(
    executor: Executor,
    lines: Iterable[OrderLine],
    result_format: Format,
    *,
    header: bool,
    skipped_lines: int = 0,
    strategy: Strategy = Strategy.AUTO,
    window: int = WINDOW,
    part_size: int = PART_SIZE,
) -> AsyncGenerator[Part]:
    """Look up lines, and yield their rows in parts. A part ends after a line, when it is full or the last.

    With `header` the first part begins as the result does. `skipped_lines` is added to the numbers in the report. Close
    the generator (contextlib.aclosing) to leave no look-up running.
    """
    encode = encoder(result_format, COLUMNS)
    part = _OpenPart(encode.header() if header else b"")
    last_line = stored_line = 0
    async with aclosing(answers(executor, lines, encode, window=window, strategy=strategy)) as answered:
        async for each in answered:
            part.rows.write(each.rows)
            part.tally.add(each.tally)
            for problem in each.problems:
                part.report(problem, skipped_lines)
            if each.last is not None:
                last_line = each.last.number
                if part.rows.size >= part_size:
                    yield part.end(last_line)
                    part, stored_line = _OpenPart(), last_line
    if last_line > stored_line:
        yield part.end(last_line)
