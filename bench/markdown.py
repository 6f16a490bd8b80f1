"""The tables in docs/benchmarks.md, each between two markers. Text outside of them is not changed."""

from __future__ import annotations

from pathlib import Path

from bench import figures
from bench.measurement import LIMIT, SUBJECT, Report, Run

MOST_NAMES = 4
MARKS = {True: "yes", False: "**no**", None: ""}


def update(page: Path, report: Report) -> None:
    """Write the report's tables into the page. Raises ValueError if the page has no markers for them."""
    replace(page, "measured", _measured(report))


def replace(page: Path, part: str, body: str) -> None:
    """Replace the text between the markers of a part of the page. Raises ValueError if they are not there."""
    begin, end = f"<!-- {part}: ", f"<!-- end of {part} -->"
    before, found, rest = page.read_text().partition(begin)
    heading, _, rest = rest.partition("\n")
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(
            f"{page.name}: expected the lines '{begin}... -->' and {end!r} around the table; put them back"
        )
    page.write_text(f"{before}{begin}{heading}\n\n{body}\n\n{end}{after}")


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
