"""`storefront batch`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from storefront import Checkpoint, batch, look_up, open_connection


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
    assert summary.startswith("order.txt: 4 lines, 1 products with ")
    assert summary.endswith(" SKUs, 1 repeated, 1 unknown, 1 malformed")
    assert (tmp_path / "skus.csv").read_text() == run("lookup", "1", "--csv", dsn=dsn).stdout


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


@pytest.mark.parametrize("strategy", ["auto", "each", "grouped"])
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


def test_an_interrupted_batch_says_so_and_is_resumed(
    run: Callable[..., Result], fails: Callable[..., None], dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "order.txt").write_text("1\nx\n2\ny\n")
    run("batch", "order.txt", "-o", "whole.csv", "--report", "whole.txt", dsn=dsn)

    def disk_full(self: object, line: object) -> None:
        saved(self, line)  # type: ignore[arg-type]
        if line.number == 2:  # type: ignore[attr-defined]
            raise OSError(28, "No space left on device")

    saved = batch._CheckpointWriter.line_done
    with monkeypatch.context() as patch:
        patch.setattr(batch._CheckpointWriter, "line_done", disk_full)
        interrupted = run("batch", "order.txt", "-o", "skus.csv", "--report", "skus.txt", dsn=dsn)
    assert interrupted.exit_code == 1
    assert interrupted.stderr.splitlines()[-1] == (
        "storefront: the batch was interrupted, continue it with --resume: [Errno 28] No space left on device"
    )
    fails("batch", "order.txt", "-o", "skus.csv", status=2, message="--resume", dsn=dsn)
    resumed = run("batch", "order.txt", "-o", "skus.csv", "--resume", "--report", "skus.txt", dsn=dsn)
    assert resumed.exit_code == 3
    assert (tmp_path / "skus.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert (tmp_path / "skus.txt").read_text() == (tmp_path / "whole.txt").read_text()


@pytest.mark.parametrize("strategy", ["each", "grouped"])
def test_a_batch_is_interrupted_by_ctrl_c_and_resumed(
    program: Callable[..., subprocess.Popen[str]], dsn: str, tmp_path: Path, strategy: str
) -> None:
    order, output = tmp_path / "order.txt", tmp_path / "skus.csv"
    # The program waits for its reports to be read, so it cannot be done when the interrupt comes.
    order.write_text("1\n" + "".join(f"{unknown}\n" for unknown in range(1_000, 11_000)) + "2\n")
    process = program("batch", str(order), "-o", str(output), "--strategy", strategy, dsn=dsn)
    assert process.stderr is not None
    assert "no product has the id 1000" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()[-1]) == (130, "storefront: interrupted")
    checkpoint = Checkpoint.load(Checkpoint.path_for(output))
    assert checkpoint is not None
    assert 0 < checkpoint.tally.lines < 10_002

    resumed = program("batch", str(order), "-o", str(output), "--resume", "--strategy", strategy, dsn=dsn)
    _, errors = resumed.communicate(timeout=60)
    assert resumed.returncode == 3
    assert "10,002 lines, 2 products" in errors.splitlines()[-1]
    assert f"{order}:{checkpoint.tally.lines + 1}: " in errors.splitlines()[0]
    rows = output.read_text().splitlines()
    assert len(rows) == len(set(rows)) == 1 + number_of_skus(dsn, 1, 2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["batch", "missing"], "cannot read missing: no such file"),
        (["batch", "."], "cannot read .: is a directory"),
        (["batch", "order", "--resume"], "--resume requires --output"),
        (["batch", "order", "--window", "0"], "window"),
        (["batch", "order", "--strategy", "best"], "strategy"),
        (["batch", "order", "--report", "./order"], "the report would overwrite"),
        (["batch", "order", "-o", "out", "--report", "out"], "the report would overwrite"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], tmp_path: Path, args: list[str], message: str) -> None:
    (tmp_path / "order").write_text("1\n")
    fails(*args, status=2, message=message)
