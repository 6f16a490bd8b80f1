"""The table in docs/benchmarks.md, between two markers. Text outside them is not changed."""

from __future__ import annotations

from pathlib import Path

from bench import figures
from bench.measurement import LIMIT, SUBJECT, Report, Run

BEGIN = "<!-- measured: written by `python -m bench --update-docs` -->"
END = "<!-- end of measured -->"

LATENCY_BEGIN = "<!-- latency: written by `python -m bench.latency --update-docs` -->"
LATENCY_END = "<!-- end of latency -->"

PAGE = f"""# Benchmarks

`make bench` measures headrace against asyncpg, psycopg and psqlpy, and against pgbench as the limit of what a
client can ask of the server. Everything is measured in one run on one machine: each driver has a process of
its own, in every round each takes one sample in turn, and a figure is the median of the rounds. Ratios are
taken round by round. Absolute figures drift from machine to machine; the ratios are what counts.

- The limit is pgbench with prepared statements: pipelined where the queries are asked all at once, one at a
  time elsewhere.
- psycopg runs with its C part, raw `$n` cursors, binary results, and statements prepared at once.
- "vs asyncpg" and "vs limit" say how many times as fast headrace is; "required" is what it has to reach.
- json arrives as text in headrace and asyncpg, and parsed in psycopg and psqlpy: each driver's own default.
- Memory is the growth of the process's peak resident memory over what it was before the cursor was opened.

    python -m bench                     # the whole table, some minutes; --quick takes one
    python -m bench --only 'lookup*'    # some workloads; --list names them all
    python -m bench --loop both         # on uvloop as well
    python -m bench.profile fetch-mixed        # one workload in a loop, for perf or py-spy
    python -m bench.instructions fetch-mixed   # instructions a row, where the clock is too noisy

{BEGIN}
{END}

## Quick calls beside slow ones

Twenty tasks look rows up through a pool, one after another each, while slow statements (0.25 s), a call that waits for
a lock (0.1 s) or statements that are cancelled (after 10 ms) go on in the same pool. p50 and p99 are given as ratios to
asyncpg's, which are to be at most 1.1; the slowest call by the difference, at most 25 ms. If slow statements keep the
whole pool busy there is no bound.

    python -m bench.latency             # --rounds and --calls make it shorter; --only chooses scenarios

{LATENCY_BEGIN}
{LATENCY_END}
"""

MOST_NAMES = 4
MARKS = {True: "yes", False: "**no**", None: ""}


def update(page: Path, report: Report) -> None:
    """Write the report's tables into the page, which is created if it does not exist.

    Raises ValueError if the page has no markers.
    """
    _replace(page, BEGIN, END, _measured(report))


def update_latency(page: Path, table: str) -> None:
    """Write the latency table into the page, like `update()`."""
    _replace(page, LATENCY_BEGIN, LATENCY_END, table)


def _replace(page: Path, begin: str, end: str, body: str) -> None:
    text = page.read_text() if page.exists() else PAGE
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{page.name}: expected the lines {begin!r} and {end!r} around the table; put them back")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{begin}\n\n{body}\n\n{end}{after}")


def _measured(report: Report) -> str:
    parts = [_facts(report)]
    for run in report.runs:
        parts += [f"## Event loop: {run.loop}", _table(report, run), _notes(run)]
    return "\n\n".join(part for part in parts if part)


def _facts(report: Report) -> str:
    lines = [f"- {name}: {text}" for name, text in (report.facts | report.method).items()]
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return "\n".join([*lines, f"- versions: {versions}"])


def _table(report: Report, run: Run) -> str:
    peers = [*report.peers, LIMIT]
    heading = ["workload", "unit", *peers, "vs asyncpg", "vs limit", "required", "met"]
    rows = [heading, ["---", "---", *["---:"] * (len(heading) - 3), "---"]]
    for line in run.lines:
        cells = [figures.cell(line, line.cells.get(peer)) for peer in peers]
        ratios = [figures.times(figures.to_asyncpg(line)), figures.times(line.ratio(SUBJECT, LIMIT))]
        required = str(line.workload.requirement or "")
        rows.append(
            [
                line.workload.title,
                figures.unit(line.workload),
                *cells,
                *ratios,
                required,
                MARKS[line.verdict()],
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _notes(run: Run) -> str:
    notes: dict[str, list[str]] = {}
    for line in run.lines:
        for peer, cell in line.cells.items():
            if cell.note or cell.missing:
                notes.setdefault(f"{peer}: {cell.note or cell.missing}", []).append(line.workload.name)
    suffixes = {note: f" ({', '.join(names)})" if len(names) <= MOST_NAMES else "" for note, names in notes.items()}
    return "\n".join(f"- {note}{suffix}" for note, suffix in suffixes.items())
