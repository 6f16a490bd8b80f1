"""`storefront batch`."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import zstandard
from typer.testing import Result

from storefront import Checkpoint, batch, look_up, open_connection
from storefront.database import with_database


def with_parameter(dsn: str, parameter: str) -> str:
    return f"{dsn}{'&' if '?' in dsn else '?'}{parameter}"


def execute(dsn: str, statement: str) -> None:
    """Run a statement."""

    async def run() -> None:
        async with open_connection(dsn) as connection:
            await connection.execute(statement)

    asyncio.run(run())


def number_of_skus(dsn: str, *ids: int) -> int:
    """Return how many SKUs these products have together."""

    async def count() -> int:
        async with open_connection(dsn) as connection:
            return sum([len(await look_up(connection, product_id)) for product_id in ids])

    return asyncio.run(count())


def test_a_batch_reports_by_line_and_exits_with_status_3(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("1\nx\n999\n1\n")
    result = run("batch", "order.txt", "-o", "skus.csv", dsn=dsn)
    assert (result.exit_code, result.stdout) == (3, "")
    *reports, summary = result.stderr.splitlines()
    assert reports == [
        "order.txt:2: 'x' is not a product id: expected a whole number from 1 to 9223372036854775807",
        "order.txt:3: no product has the id 999",
    ]
    assert summary.startswith("order.txt: 4 lines, 1 product with ")
    assert summary.endswith(" SKUs, 1 unknown, 1 malformed, 1 repeated")
    assert (tmp_path / "skus.csv").read_text() == run("lookup", "1", "--csv", dsn=dsn).stdout


def test_the_first_problems_are_shown_and_all_are_counted(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("".join(f"{number}\n" for number in range(1_001, 1_101)))
    lines = run("batch", "order.txt", "-o", "skus.csv", dsn=dsn).stderr.splitlines()
    assert lines[:10] == [f"order.txt:{n}: no product has the id {1_000 + n}" for n in range(1, 11)]
    assert lines[10:] == [
        "order.txt: 90 more; --report FILE has them all",
        "order.txt: 100 lines, 0 products with 0 SKUs, 100 unknown",
    ]


def test_a_report_has_every_line_and_repeated_ids_too(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("1\nx\n999\n1\n")
    result = run("batch", "order.txt", "-o", "skus.csv", "--report", "report.txt", dsn=dsn)
    assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)
    report = [
        "order.txt:2: 'x' is not a product id: expected a whole number from 1 to 9223372036854775807",
        "order.txt:3: no product has the id 999",
        "order.txt:4: product 1 is repeated: its SKUs are listed where it first appears",
    ]
    assert (tmp_path / "report.txt").read_text().splitlines() == report
    # A new batch starts a new report.
    run("batch", "order.txt", "--report", "report.txt", dsn=dsn)
    assert (tmp_path / "report.txt").read_text().splitlines() == report


def test_a_report_for_programs_is_csv_or_ndjson(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("1\nx\n999\n1\n")
    run("batch", "order.txt", "-o", "skus.csv", "--report", "report.csv", dsn=dsn)
    run("batch", "order.txt", "-o", "skus.csv", "--report", "report.ndjson", dsn=dsn)
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    objects = [json.loads(line) for line in (tmp_path / "report.ndjson").read_text().splitlines()]
    assert [(row["line"], row["problem"], row["product_id"]) for row in rows] == [
        ("2", "malformed", ""),
        ("3", "unknown", "999"),
        ("4", "repeated", "1"),
    ]
    assert [(each["line"], each["problem"], each["product_id"]) for each in objects] == [
        (2, "malformed", None),
        (3, "unknown", 999),
        (4, "repeated", 1),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("order.txt", b"3\n1\n2\n"),
        ("order.csv", b'name;product_id\nred;3\n"a\nb";1\nblue;2\n'),
        ("order.ndjson", b'{"product_id": 3}\n1\n{"product_id": 2, "note": "x"}\n'),
        ("order", b"Product_ID,quantity\r\n3,1\r\n1,1\r\n2,5\r\n"),
        ("order.csv.gz", gzip.compress(b"product_id\n3\n1\n", mtime=0) + gzip.compress(b"2\n", mtime=0)),
        ("order.zst", zstandard.compress(b"3\n") + zstandard.compress(b"1\n2\n")),
        ("order.txt.zip", gzip.compress(b"3\n1\n2\n", mtime=0)),
    ],
)
def test_an_order_is_read_in_any_format(
    run: Callable[..., Result], dsn: str, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    result = run("batch", name, dsn=dsn)
    assert (result.exit_code, result.stdout) == (0, run("lookup", "3", "1", "2", "--csv", dsn=dsn).stdout)


def test_the_format_of_an_order_can_be_given(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text('3\n{"product_id": 1}\n')
    assert "1 malformed" in run("batch", "order.txt", dsn=dsn).stderr
    result = run("batch", "order.txt", "--input-format", "ndjson", dsn=dsn)
    assert result.stdout == run("lookup", "3", "1", "--csv", dsn=dsn).stdout


def test_the_output_is_written_as_its_name_says(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("3\n1\n")
    expected = run("batch", "order.txt", dsn=dsn).stdout
    ids = [row["sku_id"] for row in csv.DictReader(expected.splitlines())]
    for name in ("skus.csv", "skus.csv.gz", "skus.csv.zst", "skus.ndjson", "skus.parquet"):
        assert run("batch", "order.txt", "-o", name, dsn=dsn).exit_code == 0
    assert (tmp_path / "skus.csv").read_text() == expected
    assert gzip.decompress((tmp_path / "skus.csv.gz").read_bytes()).decode() == expected
    assert [str(json.loads(line)["sku_id"]) for line in (tmp_path / "skus.ndjson").read_text().splitlines()] == ids
    assert [str(each) for each in pyarrow.parquet.read_table(tmp_path / "skus.parquet")["sku_id"].to_pylist()] == ids
    printed = run("batch", "order.txt", "--format", "ndjson", "-o", "-", dsn=dsn).stdout
    assert printed == (tmp_path / "skus.ndjson").read_text()


def test_a_batch_from_standard_input(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.ndjson").write_text('{"product_id": 3}\n1\n')
    command = [sys.executable, "-m", "storefront", "batch", "-", "-o", str(tmp_path / "skus.csv.gz"), "--json"]
    with (tmp_path / "order.ndjson").open() as order:
        done = subprocess.run(
            command, stdin=order, capture_output=True, text=True, env={**os.environ, "STOREFRONT_DSN": dsn}, check=True
        )
    summary = json.loads(done.stdout)
    assert (summary["lines"], summary["products"], summary["skus"]) == (2, 2, number_of_skus(dsn, 1, 3))
    rows = gzip.decompress((tmp_path / "skus.csv.gz").read_bytes()).splitlines()
    assert len(rows) == 1 + summary["skus"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["order.ndjson", "skus.csv.gz"]


def test_messages_name_standard_input(dsn: str) -> None:
    command = [sys.executable, "-m", "storefront", "batch", "-"]
    done = subprocess.run(
        command, input=b"999\n", capture_output=True, env={**os.environ, "STOREFRONT_DSN": dsn}, check=False
    )
    assert done.returncode == 3
    assert done.stderr.decode().splitlines() == [
        "standard input:1: no product has the id 999",
        "standard input: 1 line, 0 products with 0 SKUs, 1 unknown",
    ]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_wait_for_standard_input(dsn: str, number: signal.Signals, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "storefront", "batch", "-", "--strategy", "grouped", "--verbose"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "STOREFRONT_DSN": dsn},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"1\n")
        process.stdin.flush()
        assert b"answer starts" in process.stderr.readline()
        process.send_signal(number)
        # The pipe stays open. Reading to its end would wait for ever.
        process.wait(timeout=60)
        assert process.returncode == status
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("strategy", ["auto", "each", "grouped", "table"])
def test_every_strategy_gives_the_same_answer(
    run: Callable[..., Result], dsn: str, tmp_path: Path, strategy: str
) -> None:
    (tmp_path / "order.txt").write_text("3\n1\n2\n")
    result = run("batch", "order.txt", "--strategy", strategy, dsn=dsn)
    assert result.stdout == run("lookup", "3", "1", "2", "--csv", dsn=dsn).stdout


def test_a_batch_of_known_products_exits_with_status_0(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("2\n1\n2\n")
    result = run("batch", "order.txt", dsn=dsn)
    assert result.exit_code == 0
    assert result.stdout == run("lookup", "2", "1", "--csv", dsn=dsn).stdout
    assert run("batch", "order.txt", "--quiet", dsn=dsn).stderr == ""


def suggested(line: str) -> list[str]:
    """Return the arguments of the command line that a message suggests in backquotes."""
    _, command, _ = line.split("`")
    arguments = shlex.split(command)
    return arguments[arguments.index("batch") :]


def test_an_interrupted_batch_says_how_it_is_resumed(
    run: Callable[..., Result], fails: Callable[..., None], dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "order.txt").write_text("1\nx\n2\ny\n")
    run("batch", "order.txt", "-o", "whole.csv", "--report", "whole.txt", dsn=dsn)

    def disk_full(self: object, *args: object) -> None:
        raise OSError(28, "No space left on device")

    options = ["--window", "1", "--strategy", "each"]
    with monkeypatch.context() as patch:
        patch.setattr(batch._Writer, "_tell", disk_full)
        interrupted = run("batch", "order.txt", "-o", "my skus.csv", "--report", "skus.txt", *options, dsn=dsn)
    assert interrupted.exit_code == 1
    (line,) = interrupted.stderr.splitlines()
    assert line.startswith(
        "storefront: the batch was interrupted: [Errno 28] No space left on device: continue it with `"
    )
    assert "--output 'my skus.csv' --resume" in line
    fails("batch", "order.txt", "-o", "my skus.csv", status=2, message="--resume", dsn=dsn)
    resumed = run(*suggested(line), dsn=dsn)
    assert resumed.exit_code == 3
    assert (tmp_path / "my skus.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert (tmp_path / "skus.txt").read_text() == (tmp_path / "whole.txt").read_text()


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("strategy", ["grouped", "table"])
def test_a_batch_that_a_signal_ends_is_resumed_as_it_says(
    program: Callable[..., subprocess.Popen[str]],
    dsn: str,
    tmp_path: Path,
    strategy: str,
    number: signal.Signals,
    status: int,
    said: str,
) -> None:
    order, output = tmp_path / "order.txt", tmp_path / "skus.csv"
    # The program cannot be done when the signal comes, because its order is longer than any that is answered so soon.
    order.write_text("1\n" + "".join(f"{unknown}\n" for unknown in range(1_000, 1_200_000)) + "2\n")
    process = program("batch", str(order), "-o", str(output), "--strategy", strategy, dsn=dsn)
    while not Checkpoint.path_for(output).exists():
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    line = errors.splitlines()[-1]
    assert (process.returncode, line.partition(": continue it with `")[0]) == (status, f"storefront: {said}")
    checkpoint = Checkpoint.load(Checkpoint.path_for(output))
    assert checkpoint is not None
    assert checkpoint.tally.lines < 1_199_002

    # The rest is shorter, so that the test is.
    lines = order.read_text().splitlines(keepends=True)[: checkpoint.tally.lines]
    order.write_text("".join([*lines, "2\n", "999\n"]))
    resumed = program(*suggested(line), dsn=dsn)
    _, errors = resumed.communicate(timeout=60)
    assert resumed.returncode == 3
    assert f"{checkpoint.tally.lines + 2:,} lines, " in errors.splitlines()[-1]
    rows = output.read_text().splitlines()
    expected = number_of_skus(dsn, 1, 2) if checkpoint.tally.lines else number_of_skus(dsn, 2)
    assert len(rows) == len(set(rows)) == 1 + expected


def run_with_limit(dsn: str, size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program, which can write no file of more than `size` bytes, as on a full disk."""
    return subprocess.run(
        [sys.executable, "-m", "storefront", *arguments],
        env={**os.environ, "STOREFRONT_DSN": dsn},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["skus.csv", "skus.csv.gz", "skus.parquet"])
def test_a_batch_goes_on_when_there_is_space_again(
    run: Callable[..., Result], dsn: str, tmp_path: Path, name: str
) -> None:
    order, output = tmp_path / "order.txt", tmp_path / name
    order.write_text("".join(f"{number}\n" for number in range(1, 51)))
    failed = run_with_limit(dsn, 2_000, "batch", str(order), "-o", str(output), "--strategy", "each", "--window", "16")
    assert failed.returncode == 1, failed.stderr
    (line,) = failed.stderr.splitlines()
    assert line.startswith(f"storefront: the batch was interrupted: cannot write {output}")
    assert ": File too large: continue it with `" in line
    assert run(*suggested(line), dsn=dsn).exit_code == 0
    run("batch", "order.txt", "-o", f"whole-{name}", dsn=dsn)
    if name == "skus.parquet":
        tables = [pyarrow.parquet.read_table(tmp_path / each) for each in (name, f"whole-{name}")]
        assert tables[0] == tables[1]
    else:
        read = gzip.decompress if name.endswith(".gz") else bytes
        assert read(output.read_bytes()) == read((tmp_path / f"whole-{name}").read_bytes())


@pytest.mark.parametrize("name", ["skus.csv", "skus.parquet"])
def test_two_batches_do_not_write_one_output(
    run: Callable[..., Result], dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As if one was stopped by Ctrl-Z, and is resumed by another before it goes on."""
    (tmp_path / "order.txt").write_text("1\n3\n2\n")
    take = batch._Writer._take
    others: list[Any] = []

    def take_beside_another(self: batch._Writer, part: batch.Answered) -> None:
        if not others:
            others.append(None)
            command = [sys.executable, "-m", "storefront", "batch", "order.txt", "-o", name, "--resume"]
            environment = {**os.environ, "STOREFRONT_DSN": dsn}
            others[0] = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        take(self, part)

    with monkeypatch.context() as patch:
        patch.setattr(batch._Writer, "_take", take_beside_another)
        assert run("batch", "order.txt", "-o", name, dsn=dsn).exit_code == 0
    assert others[0].returncode == 2
    assert f"another command is writing {name}" in others[0].stderr
    run("batch", "order.txt", "-o", f"whole-{name}", dsn=dsn)
    if name == "skus.parquet":
        tables = [pyarrow.parquet.read_table(tmp_path / each) for each in (name, f"whole-{name}")]
        assert tables[0] == tables[1]
    else:
        assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()


def test_a_full_device_is_an_error(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("1\n")
    for command in (["batch", "order.txt"], ["export"]):
        result = run(*command, "-o", "/dev/full", dsn=dsn)
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (
            1,
            "storefront: cannot write /dev/full: No space left on device",
        )


def test_a_damaged_order_is_an_error_and_the_batch_goes_on_when_it_is_mended(
    run: Callable[..., Result], dsn: str, tmp_path: Path
) -> None:
    choose = random.Random(1)
    whole = b"".join(b"%d\n" % number for number in [*range(1, 51), *choose.sample(range(100, 10**9), 40_000)])
    for name, compressed in (("order.gz", gzip.compress(whole, mtime=0)), ("order.zst", zstandard.compress(whole))):
        (tmp_path / name).write_bytes(compressed[:-50_000])
        result = run("batch", name, "-o", "skus.csv", "--quiet", dsn=dsn)
        assert result.exit_code == 2, result.stderr
        (line,) = result.stderr.splitlines()
        assert f"the batch was interrupted: {name} is damaged or cut off: " in line
        assert ": mend that, then continue it with `" in line
        (tmp_path / name).write_bytes(compressed)
        assert "40,050 lines, 50 products with 1,000 SKUs, 40,000 unknown" in run(*suggested(line), dsn=dsn).stderr
        assert len((tmp_path / "skus.csv").read_text().splitlines()) == 1_001
        (tmp_path / name).write_bytes(b"not compressed")
        assert "is damaged or cut off" in run("batch", name, dsn=dsn).stderr


@pytest.mark.parametrize("args", [["order.txt", "-o", "skus.csv", "--resume"], ["order.txt"]])
@pytest.mark.parametrize(
    ("lasts", "change"),
    [
        (True, lambda dsn: with_database(dsn, "no_such_database")),
        (True, lambda dsn: with_database(dsn, "template1")),
        (True, lambda dsn: with_parameter(dsn, "user=nobody_of_this_name")),
        (True, lambda dsn: with_parameter(dsn, "sslmode=nonsense")),
        (True, lambda dsn: None),
        (False, lambda dsn: "postgresql://someone:secret@127.0.0.1:1/products"),
    ],
    ids=["database", "schema", "user", "option", "catalogue", "server"],
)
def test_a_fault_that_a_repetition_does_not_mend_has_a_status_of_its_own(
    run: Callable[..., Result], dsn: str, tmp_path: Path, lasts: bool, change: Callable[[str], str], args: list[str]
) -> None:
    (tmp_path / "order.txt").write_text("1\n")
    result = run("batch", *args, dsn=change(dsn))
    assert (result.exit_code, len(result.stderr.splitlines())) == (2 if lasts else 1, 1), result.stderr


@pytest.mark.parametrize("output", ["missing/skus.csv", "directory", "x" * 300, "missing/skus.parquet"])
def test_an_output_that_cannot_be_made_is_bad_usage(
    fails: Callable[..., None], dsn: str, tmp_path: Path, output: str
) -> None:
    (tmp_path / "order.txt").write_text("1\n")
    (tmp_path / "directory").mkdir()
    fails("batch", "order.txt", "-o", output, "--resume", status=2, message="", dsn=dsn)


def test_a_table_that_is_lost_in_the_middle_is_mended_before_the_batch_goes_on(
    run: Callable[..., Result], dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "order.txt").write_text("1\n2\n")
    execute(dsn, "ALTER TABLE sku RENAME TO gone")
    result = run("batch", "order.txt", "-o", "skus.csv", dsn=dsn)
    (line,) = result.stderr.splitlines()
    assert (result.exit_code, ": mend that, then continue it with `" in line) == (2, True)
    execute(dsn, "ALTER TABLE gone RENAME TO sku")
    assert run(*suggested(line), dsn=dsn).exit_code == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: Path("order.txt").write_text("2\n1\n"), "order.txt has changed since the batch was interrupted"),
        (lambda: Path("skus.csv").write_bytes(b""), "skus.csv is shorter than when the batch was interrupted"),
        (lambda: Path("skus.csv.checkpoint").write_text("{}"), "is not a checkpoint of the storefront"),
    ],
    ids=["order", "output", "checkpoint"],
)
def test_a_batch_that_cannot_be_resumed_is_bad_usage(
    run: Callable[..., Result],
    fails: Callable[..., None],
    dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[], object],
    message: str,
) -> None:
    take = batch._Writer._take

    def disk_full(self: batch._Writer, part: batch.Answered) -> None:
        if self.tally.lines:
            raise OSError(28, "No space left on device")
        take(self, part)

    (tmp_path / "order.txt").write_text("1\n3\n2\n")
    with monkeypatch.context() as patch:
        patch.setattr(batch._Writer, "_take", disk_full)
        run("batch", "order.txt", "-o", "skus.csv", "--window", "1", "--strategy", "each", dsn=dsn)
    spoil()
    fails("batch", "order.txt", "-o", "skus.csv", "--resume", status=2, message=message, dsn=dsn)


@pytest.mark.parametrize("mended", [False, True], ids=["damaged", "whole"])
def test_the_loop_of_the_readme_ends(dsn: str, tmp_path: Path, mended: bool) -> None:
    """It would sleep before it repeats the command."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (loop,) = [line.strip() for line in readme.splitlines() if line.startswith("    until storefront batch ")]
    whole = gzip.compress(b"".join(b"%d\n" % number for number in range(1, 51)))
    (tmp_path / "order.txt").write_bytes(whole if mended else whole[:-20])
    program = f'storefront() {{ {shlex.quote(sys.executable)} -m storefront "$@"; }}; sleep() {{ echo again; exit; }}\n'
    ended = subprocess.run(
        ["sh", "-c", program + loop],
        cwd=tmp_path,
        env={**os.environ, "STOREFRONT_DSN": dsn},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == ""
    assert ("damaged or cut off" in ended.stderr) is not mended


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "order.csv is empty: expected product ids"),
        ("product_id\n1\n".encode("utf-16"), "order.csv is in UTF-16 or UTF-32, expected UTF-8: convert it"),
        ("1\n2\n".encode("utf-16-le"), "order.csv is in UTF-16 or UTF-32"),
        (b"sku,name\n1,x\n", "order.csv has no column product_id or id: its header is 'sku,name'"),
        (b"PAR1\x15\x04", "order.csv is a Parquet file: expected ids, CSV or NDJSON"),
    ],
)
def test_a_file_that_is_not_an_order_is_refused(
    fails: Callable[..., None], dsn: str, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "order.csv").write_bytes(content)
    fails("batch", "order.csv", "-o", "skus.csv", status=2, message=message, dsn=dsn)
    fails("batch", "order.csv", status=2, message=message, dsn=dsn)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["batch", "missing"], "cannot read missing: No such file or directory"),
        (["batch", "."], "cannot read .: Is a directory"),
        (["batch", "order", "--resume"], "--resume requires --output"),
        (["batch", "order", "-o", "-", "--resume"], "--resume requires --output"),
        (["batch", "-", "-o", "skus.csv", "--resume"], "standard input cannot be read again from the middle"),
        (["batch", "order", "--json"], "--json requires --output"),
        (["batch", "order", "-o", "skus.parquet.gz"], "name the output skus.parquet instead"),
        (["batch", "order", "--format", "parquet"], "cannot be written to standard output"),
        (["batch", "order", "--window", "0"], "window"),
        (["batch", "order", "--strategy", "best"], "strategy"),
        (["batch", "order", "--report", "-"], "--report requires the name of a file, got -"),
        (["batch", "order", "--report", "./order"], "the report would overwrite"),
        (["batch", "order", "-o", "out", "--report", "out"], "the report would overwrite"),
        (["batch", "order", "-o", "out", "--report", "link"], "the report would overwrite"),
        (["batch", "loop"], "cannot read loop: Too many levels of symbolic links"),
        (["batch", "order", "-o", "loop", "--report", "loop"], "the report would overwrite"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], tmp_path: Path, args: list[str], message: str) -> None:
    (tmp_path / "order").write_text("1\n")
    os.link(tmp_path / "order", tmp_path / "link")
    (tmp_path / "loop").symlink_to("loop")
    fails(*args, status=2, message=message)
