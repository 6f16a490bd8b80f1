"""``python -m bench``: measure, print the table, and save it as JSON and as a picture."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import data, machine, markdown, picture, table
from bench.measurement import LIMIT, SUBJECT, Line, Report, Run
from bench.peer_process import PeerProcess
from bench.peers.registry import NAMES
from bench.pgbench import Pgbench, PgbenchError
from bench.rounds import Pace, measure
from bench.server import Server, ServerError, embedded_server, find_binaries
from bench.worker import Settings
from bench.workloads import families
from bench.workloads.registry import all_workloads, select
from bench.workloads.workload import FULL, QUICK, Scale, Workload

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
LOOPS = {"asyncio": ["asyncio"], "uvloop": ["uvloop"], "both": ["asyncio", "uvloop"]}

app = typer.Typer(add_completion=False)
stdout = Console(width=None if sys.stdout.isatty() else 200)
stderr = Console(stderr=True)


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Under a minute: fewer rounds and rows.")] = False,
    only: Annotated[str | None, typer.Option(help="Workloads by name: part of the name, or a shell pattern.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Samples of each peer [default: 5, quick 3].")] = None,
    peers: Annotated[str, typer.Option(help="Peers to measure, separated by commas.")] = ",".join(NAMES),
    loop: Annotated[str, typer.Option(help="Event loop: asyncio, uvloop or both.")] = "asyncio",
    json: Annotated[Path, typer.Option(help="The JSON file.")] = RESULTS / "benchmark.json",
    picture_file: Annotated[Path, typer.Option("--picture", help="The picture file.")] = RESULTS / "benchmark.png",
    update_docs: Annotated[bool, typer.Option("--update-docs", help="Put the table into docs/benchmarks.md.")] = False,
    dsn: Annotated[str | None, typer.Option(help="A server to use instead of the embedded one.")] = None,
    tcp: Annotated[bool, typer.Option("--tcp", help="Loopback TCP instead of a Unix socket.")] = False,
    bin_directory: Annotated[
        Path | None, typer.Option(help="PostgreSQL's programs, instead of the embedded ones.")
    ] = None,
    collect: Annotated[bool, typer.Option("--gc/--no-gc", help="Garbage collection during measurements.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 if a requirement is missed.")] = False,
    list_workloads: Annotated[bool, typer.Option("--list", help="List the workloads and stop.")] = False,
) -> None:
    """Measure headrace against its peers, in one run on one server."""
    scale = QUICK if quick else FULL
    if list_workloads:
        for each in all_workloads(scale):
            stdout.print(
                f"{each.name:20} {each.title} [dim]{each.requirement or ''}[/dim]",
                highlight=False,
            )
        return
    names = _peer_names(peers)
    if loop not in LOOPS:
        _bad_usage(f"--loop: expected {', '.join(LOOPS)}, got {loop!r}")
    if dsn is not None and tcp:
        _bad_usage("--tcp: only for the embedded server; use a TCP address in --dsn instead")
    if update_docs and (quick or only or set(names) != set(NAMES)):
        _bad_usage("--update-docs: needs a whole run; leave out --quick, --only and --peers")
    try:
        workloads = select(scale, only)
    except ValueError as error:
        _bad_usage(f"--only: {error}")
    pace = Pace(rounds=rounds or 3, seconds=0.01, longest=0.3) if quick else Pace(rounds=rounds or 5)

    # A terminated run stops its server and workers like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with _server(dsn, tcp=tcp, bin_directory=bin_directory) as server:
            report = _measure(server, workloads, names, LOOPS[loop], scale, pace, collect=collect)
    except (ServerError, psycopg.Error) as error:
        stderr.print(f"error: {error}", style="red", highlight=False, markup=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        stderr.print("interrupted; nothing is written")
        raise typer.Exit(130) from None

    table.show(report, stdout)
    _keep(report, json, picture_file, update_docs=update_docs)
    broken = [failure for failure in report.failures() if failure[0] == SUBJECT]
    for peer, workload, reason in broken:
        stderr.print(f"{peer} failed in {workload}: {reason}", style="red", highlight=False, markup=False)
    missed = report.missed()
    if missed:
        stderr.print(f"below the requirement: {', '.join(missed)}", style="red", highlight=False)
    if broken or (strict and missed):
        raise typer.Exit(1)


def _measure(
    server: Server,
    workloads: list[Workload],
    names: list[str],
    loops: list[str],
    scale: Scale,
    pace: Pace,
    *,
    collect: bool,
) -> Report:
    stderr.print("filling the database", style="dim")
    data.create_data(server.dsn, families.tables())
    try:
        pgbench: Pgbench | None = Pgbench(server.dsn, server.bin_directory)
    except PgbenchError as error:
        stderr.print(f"no limit: {error}", style="yellow")
        pgbench = None
    versions: dict[str, str] = {}
    runs = []
    for loop in loops:
        with contextlib.ExitStack() as stack:
            settings = {name: Settings(name, loop, server.dsn, scale, collect) for name in names}
            processes = {name: stack.enter_context(PeerProcess(each)) for name, each in settings.items()}
            _start(processes)
            runs.append(Run(loop, _lines(loop, workloads, processes, pgbench, pace)))
            versions |= {name: process.version for name, process in processes.items() if process.version}
    if pgbench is not None:
        versions[f"pgbench ({LIMIT})"] = pgbench.version()
    method = {
        "method": f"median of {pace.rounds} rounds ({2 * pace.rounds + 1} where a sample is short), "
        "every peer a sample in each; a process for each peer",
        "slow peers": f"a batch that would take longer than {pace.longest:g} s is cut, but not asyncpg's",
        "garbage collection": "on during measurements, collected before" if collect else "off during measurements",
    }
    return Report(machine.facts(server.dsn, server.description), method, versions, names, runs)


def _start(processes: dict[str, PeerProcess]) -> None:
    for name, process in processes.items():
        refused = process.start()
        if refused is not None:
            stderr.print(f"without {name}: {refused.reason}", style="yellow", highlight=False, markup=False)


def _lines(
    loop: str,
    workloads: list[Workload],
    processes: dict[str, PeerProcess],
    pgbench: Pgbench | None,
    pace: Pace,
) -> list[Line]:
    columns = (TextColumn("{task.fields[step]}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    lines = []
    with Progress(*columns, TimeElapsedColumn(), console=stderr, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task(loop, total=len(workloads), step=loop)
        for workload in workloads:

            def step(text: str, name: str = workload.name) -> None:
                progress.update(task, step=f"{loop} · {name} · {text}")

            lines.append(measure(workload, processes, pgbench, pace, step))
            progress.advance(task)
    return lines


@contextlib.contextmanager
def _server(dsn: str | None, *, tcp: bool, bin_directory: Path | None) -> Iterator[Server]:
    if dsn is None:
        with embedded_server(tcp=tcp, bin_directory=bin_directory) as server:
            yield server
        return
    try:
        yield Server(dsn, bin_directory or _pgbench_directory(), "as given by --dsn")
    finally:
        with contextlib.suppress(psycopg.Error):
            data.drop_data(dsn)


def _pgbench_directory() -> Path | None:
    """Return the directory of the embedded server's pgbench; None to look for one on the PATH."""
    with contextlib.suppress(ServerError):
        return find_binaries()
    return None


def _keep(report: Report, json_file: Path, picture_file: Path, *, update_docs: bool) -> None:
    import json

    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    written = [json_file]
    if any(not line.workload.memory for run in report.runs for line in run.lines):
        picture.draw(report, picture_file)
        written.append(picture_file)
    if update_docs and SUBJECT not in report.versions:
        stderr.print(f"the docs were not updated: {SUBJECT} is not installed", style="yellow")
    elif update_docs:
        markdown.update(DOCS, report)
        written.append(DOCS)
    for path in written:
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        stderr.print(f"written: {shown}", style="dim", highlight=False)


def _peer_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        _bad_usage(f"--peers: expected some of {', '.join(NAMES)}, got {text!r}")
    return [name for name in NAMES if name in names]


def _bad_usage(message: str) -> NoReturn:
    stderr.print(f"error: {message}", style="red", highlight=False, markup=False)
    raise typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="python -m bench")
