"""The commands: what they print, and that whatever goes wrong is one line and an exit status."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import storefront.commands  # noqa: F401 - defines the commands of cli.app
from storefront import Sample, __version__, batch, cli
from storefront.catalogue import COLUMNS
from storefront.database import with_database
from storefront.errors import UsageError

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command line in a directory of its own; with `dsn`, on that database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STOREFRONT_DSN", raising=False)
    monkeypatch.delenv("STOREFRONT_DATA_DIR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*args: str, dsn: str | None = None) -> Result:
        result = CliRunner().invoke(cli.app, args, env={"STOREFRONT_DSN": dsn} if dsn else None)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    return run


def assert_one_line(result: Result, status: int, message: str) -> None:
    """An error is a single line on stderr, and nothing is on stdout."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("storefront: ")
    assert message in result.stderr


# What goes right


def test_init_prints_each_statements_status(run: Run, bare: str) -> None:
    first, second = run("init", "--dsn", bare), run("init", "--dsn", bare)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout.splitlines()[:2] == ["CREATE DATABASE", "CREATE TABLE     CREATE TABLE brand"]
    assert first.stdout.count("INSERT 0 1 ") == second.stdout.count("INSERT 0 0 ") == 5
    assert "CREATE DATABASE" not in second.stdout


def test_load_says_what_it_did(run: Run, empty: str) -> None:
    result = run("load", "--brands", "3", "--products", "4", "--skus", "50", "--seed", "9", dsn=empty)
    assert result.exit_code == 0
    assert result.stdout == "loaded 3 brands, 4 products and 50 SKUs by copy, seed 9, in one transaction\n"


def test_load_takes_a_word_list(run: Run, empty: str, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("alpha\nbeta\n")
    assert run("load", "--words", "words", "--brands", "2", "--products", "1", "--skus", "1", dsn=empty).exit_code == 0
    product = run("lookup", "1", "--csv", dsn=empty).stdout.splitlines()[1].split(",")[1]
    assert set(product.split()) <= {"alpha", "beta"}


def test_lookup_shows_a_table_for_each_product(run: Run, dsn: str, sample: Sample) -> None:
    result = run("lookup", "2", "1", dsn=dsn)
    assert result.exit_code == 0
    names = {product_id: name for product_id, name, _ in sample.products()}
    assert result.stdout.index("product 2 of brand") < result.stdout.index("product 1 of brand")
    assert names[1].split()[0] in result.stdout
    assert f"{sum(1 for sku in sample.skus() if sku[1] == 2)} SKUs" in result.stdout


def test_lookup_prints_csv_for_programs(run: Run, dsn: str, sample: Sample) -> None:
    header, *rows = csv.reader(io.StringIO(run("lookup", "2", "--csv", dsn=dsn).stdout))
    assert tuple(header) == COLUMNS
    assert [int(row[3]) for row in rows] == [sku[0] for sku in sample.skus() if sku[1] == 2]


def test_lookup_shows_what_it_finds_and_names_what_it_does_not(run: Run, dsn: str) -> None:
    result = run("lookup", "999", "1", "888", dsn=dsn)
    assert result.exit_code == 1
    assert "product 1 of brand" in result.stdout
    assert result.stderr == "storefront: no product has the id 999; no product has the id 888\n"


def test_brands_are_added(run: Run, dsn: str) -> None:
    assert (
        run("brands", "add", "Aurora", "Boreal", dsn=dsn).stdout == "added: brand 11, Aurora\nadded: brand 12, Boreal\n"
    )


def test_brands_are_rolled_back_together_and_the_reason_is_told(run: Run, dsn: str) -> None:
    run("brands", "add", "Aurora", dsn=dsn)
    result = run("brands", "add", "Boreal", "Aurora", dsn=dsn)
    assert_one_line(result, 1, "rolled back, none of the 2 brands was added: duplicate key")
    assert "Key (brand_name)=(Aurora) already exists." in result.stderr
    assert run("brands", "add", "Boreal", dsn=dsn).exit_code == 0


def test_brands_are_added_by_hand_or_taken_back(run: Run, dsn: str) -> None:
    assert "rolled back: brand 11" in run("brands", "add", "Aurora", "--by-hand", "--roll-back", dsn=dsn).stdout
    assert "added: brand 12" in run("brands", "add", "Aurora", "--by-hand", dsn=dsn).stdout


def test_a_brand_is_kept_while_its_colour_is_refused(run: Run, dsn: str) -> None:
    result = run("brands", "add-with-color", "Aurora", "1", "Green", dsn=dsn)
    assert (result.exit_code, result.stdout) == (0, "added: brand 11, Aurora\n")
    assert "rolled back to the savepoint, the brand 'Aurora' is kept" in result.stderr
    assert "added: colour 3, Green" in run("brands", "add-with-color", "Boreal", "3", "Green", dsn=dsn).stdout


def test_export_writes_csv_to_standard_output_or_a_file(run: Run, dsn: str, tmp_path: Path) -> None:
    printed = run("export", dsn=dsn)
    assert len(printed.stdout.splitlines()) == 1_001
    result = run("export", "--output", "all.csv", "--prefetch", "7", dsn=dsn)
    assert result.stdout == "exported 1,000 rows to all.csv\n"
    assert (tmp_path / "all.csv").read_text() == printed.stdout
    part = run("export", "--skip", "500", "--take", "100", dsn=dsn).stdout.splitlines()
    assert part[1:] == printed.stdout.splitlines()[501:601]


def test_an_export_that_fails_leaves_the_file_as_it_was(run: Run, dsn: str, bare: str, tmp_path: Path) -> None:
    run("export", "--output", "all.csv", "--take", "5", dsn=dsn)
    before = (tmp_path / "all.csv").read_text()
    assert run("export", "--output", "all.csv", dsn=bare).exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["all.csv"]
    assert (tmp_path / "all.csv").read_text() == before


def test_bench_shows_tables_and_writes_the_figures(run: Run, dsn: str, tmp_path: Path) -> None:
    result = run("bench", "-n", "50", "--rounds", "1", "--pool-sizes", "1,2", "--no-index", "--json", "f.json", dsn=dsn)
    assert result.exit_code == 0
    assert result.stdout.count("50 look-ups of") == 3
    measured = json.loads((tmp_path / "f.json").read_text())["measurements"]
    assert len(measured) == 18
    assert {row["indexed"] for row in measured if row["query"] == "key"} == {True}


def test_verbose_says_what_starts_and_ends_on_stderr(run: Run, dsn: str) -> None:
    result = run("lookup", "1", "--verbose", dsn=dsn)
    assert "look_up starts, with <" in result.stderr
    assert "look_up finished in" in result.stderr


def test_the_version(run: Run) -> None:
    assert run("--version").stdout.startswith(f"storefront {__version__}, headrace ")


def test_help_is_there_for_every_command(run: Run) -> None:
    listed = run("--help").stdout
    for command in ("init", "load", "lookup", "batch", "brands", "export", "bench", "demo"):
        assert command in listed
        assert run(command, "--help").exit_code == 0


# A batch


def test_a_batch_reports_by_line_and_its_status_says_whether_all_were_found(run: Run, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("1\nx\n999\n1\n")
    result = run("batch", "order.txt", "-o", "skus.csv", dsn=dsn)
    assert (result.exit_code, result.stdout) == (3, "")
    *reports, summary = result.stderr.splitlines()
    assert reports == [
        "order.txt:2: 'x' is not a product id: expected a whole number from 1 to 2147483647",
        "order.txt:3: no product has the id 999",
        "order.txt:4: product 1 is repeated: its SKUs stand where it came first",
    ]
    assert summary.startswith("order.txt: 4 lines, 1 products with ")
    assert summary.endswith(" SKUs, 1 repeated, 1 unknown, 1 malformed")
    assert (tmp_path / "skus.csv").read_text() == run("lookup", "1", "--csv", dsn=dsn).stdout


def test_a_batch_of_known_products_ends_well(run: Run, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("2\n1\n2\n")
    result = run("batch", "order.txt", dsn=dsn)
    assert result.exit_code == 0
    assert result.stdout == run("lookup", "2", "1", "--csv", dsn=dsn).stdout


def test_a_batch_cut_off_says_so_and_is_resumed(
    run: Run, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "order.txt").write_text("1\nx\n2\n")
    run("batch", "order.txt", "-o", "whole.csv", dsn=dsn)

    def disk_full(self: object, line: object) -> None:
        saved(self, line)  # type: ignore[arg-type]
        if line.number == 2:  # type: ignore[attr-defined]
            raise OSError(28, "No space left on device")

    saved = batch._Keeper.settled
    with monkeypatch.context() as patch:
        patch.setattr(batch._Keeper, "settled", disk_full)
        cut_off = run("batch", "order.txt", "-o", "skus.csv", dsn=dsn)
    assert cut_off.exit_code == 1
    assert cut_off.stderr.splitlines()[-1] == (
        "storefront: the batch was cut off, --resume goes on with it: [Errno 28] No space left on device"
    )
    assert_one_line(run("batch", "order.txt", "-o", "skus.csv", dsn=dsn), 2, "--resume goes on with it")
    assert run("batch", "order.txt", "-o", "skus.csv", "--resume", dsn=dsn).exit_code == 3
    assert (tmp_path / "skus.csv").read_text() == (tmp_path / "whole.csv").read_text()


# What goes wrong

BAD_USAGE = [
    (["lookup"], "Missing argument"),
    (["lookup", "abc"], "'abc' is not a product id: expected a whole number from 1 to 2147483647"),
    (["lookup", "0"], "'0' is not a product id"),
    (["lookup", "2147483648"], "is not a product id"),
    (["lookup", "1", "--nonsense"], "No such option"),
    (["nonsense"], "No such command 'nonsense'"),
    (["lookup", "1", "--dsn", "localhost"], "expects a URI such as postgresql://"),
    (["lookup", "1", "--dsn", "postgresql://[::1"], "is not a URI"),
    (["load", "--words", "missing"], "cannot read the word list missing: No such file or directory"),
    (["load", "--brands", "-1"], "number of brands must be from 0"),
    (["load", "--products", "many"], "'--products'"),
    (["load", "--method", "carrier-pigeon"], "carrier-pigeon"),
    (["batch", "missing"], "cannot read missing: no such file"),
    (["batch", "."], "cannot read .: is a directory"),
    (["batch", "order", "--resume"], "--resume takes --output"),
    (["batch", "order", "--window", "0"], "window"),
    (["brands", "add"], "Missing argument"),
    (["brands", "add", " "], "a brand's name is empty"),
    (["brands", "add", "Aurora", "--roll-back"], "--roll-back goes with --by-hand"),
    (["brands", "add-with-color", "Aurora", "0", "Red"], "Invalid value"),
    (["export", "--prefetch", "0"], "prefetch"),
    (["bench", "--pool-sizes", "1,x"], "'1,x': expected whole numbers and commas"),
    (["bench", "--pool-sizes", "0"], "pool sizes must be whole numbers of at least 1"),
    (["bench", "--json", "missing/figures.json"], "its directory does not exist"),
]


@pytest.mark.parametrize(("args", "message"), BAD_USAGE, ids=[" ".join(args) for args, _ in BAD_USAGE])
def test_bad_usage_is_one_line_and_status_2(run: Run, args: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "order").write_text("1\n")
    assert_one_line(run(*args), 2, message)
    assert [path.name for path in tmp_path.iterdir()] == ["order"]


COMMANDS = [["lookup", "1"], ["load"], ["brands", "add", "Aurora"], ["export"], ["bench", "-n", "5"]]


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: args[0])
def test_a_missing_server_is_one_line_and_status_1(run: Run, args: list[str]) -> None:
    assert_one_line(run(*args, "--dsn", "postgresql://someone:secret@127.0.0.1:1/products"), 1, "")
    assert "secret" not in run(*args, "--dsn", "postgresql://someone:secret@127.0.0.1:1/products").stderr


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: args[0])
def test_a_missing_database_says_what_to_do(run: Run, args: list[str], bare: str) -> None:
    assert_one_line(run(*args, dsn=bare), 1, "does not exist: run `storefront init` first")


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: args[0])
def test_a_missing_schema_says_what_to_do(run: Run, args: list[str], postgres: str) -> None:
    assert_one_line(run(*args, dsn=with_database(postgres, "template1")), 1, "run `storefront init` first")


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: args[0])
def test_without_a_catalogue_no_server_is_made(run: Run, args: list[str], tmp_path: Path) -> None:
    assert_one_line(run(*args), 1, "there is no catalogue in .storefront yet: run `storefront init` first")
    assert list(tmp_path.iterdir()) == []


def test_a_full_catalogue_is_not_loaded_twice(run: Run, dsn: str) -> None:
    assert_one_line(run("load", dsn=dsn), 1, "already holds 10 brands, 50 products and 1,000 SKUs: nothing was loaded")


def test_an_error_that_should_not_be_is_not_hidden() -> None:
    assert cli.explain(UsageError("two\nlines")) == ("two lines", 2)
    with pytest.raises(ZeroDivisionError):
        cli.explain(ZeroDivisionError())


# As a program


def program(*args: str, dsn: str) -> subprocess.Popen[str]:
    """Start the program `storefront` as a process group of its own, which a terminal could interrupt.

    What a shell starts in the background ignores interrupts, and so would what these tests start.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "storefront", *args],
        env={**os.environ, "STOREFRONT_DSN": dsn},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_whoever_reads_the_output_may_stop_reading(dsn: str) -> None:
    process = program("export", "--prefetch", "1000", dsn=dsn)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(30) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_an_interrupt_is_one_line_and_rolls_back(empty: str) -> None:
    process = program("load", "--skus", "50000000", "--verbose", dsn=empty)
    assert process.stderr is not None
    assert "load starts" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "storefront: interrupted"
    retried = program("load", "--skus", "10", dsn=empty)
    assert "loaded 100 brands, 1,000 products and 10 SKUs" in retried.communicate(timeout=60)[0]
