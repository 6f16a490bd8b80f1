"""The table in docs/benchmarks.md, between two markers; what stands outside them is left alone."""

from __future__ import annotations

from pathlib import Path

from bench import figures
from bench.measurement import LIMIT, SUBJECT, Report, Run

BEGIN = "<!-- measured: written by `python -m bench --update-docs` -->"
END = "<!-- end of measured -->"

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
"""

MOST_NAMES = 4
MARKS = {True: "yes", False: "**no**", None: ""}


def update(page: Path, report: Report) -> None:
    """Put the report's tables into the page, which is made where there is none.

    Raises ValueError where the page has lost its markers.
    """
    text = page.read_text() if page.exists() else PAGE
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.name}: expected the lines {BEGIN!r} and {END!r} around the table; put them back")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{BEGIN}\n\n{_measured(report)}\n\n{END}{after}")


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
    places = {note: f" ({', '.join(names)})" if len(names) <= MOST_NAMES else "" for note, names in notes.items()}
    return "\n".join(f"- {note}{place}" for note, place in places.items())
