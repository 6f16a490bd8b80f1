"""`storefront export`."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest
from typer.testing import Result

from storefront.formats import Compression, Format
from storefront.rows import output_file


def test_export_writes_csv_to_standard_output_or_a_file(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    printed = run("export", dsn=dsn)
    assert len(printed.stdout.splitlines()) == 1_001
    result = run("export", "--output", "all.csv", "--prefetch", "7", dsn=dsn)
    assert result.stdout == "exported 1,000 SKUs to all.csv\n"
    assert (tmp_path / "all.csv").read_text() == printed.stdout
    part = run("export", "--skip", "500", "--take", "100", dsn=dsn).stdout.splitlines()
    assert part[1:] == printed.stdout.splitlines()[501:601]


def test_an_export_that_fails_leaves_the_file_as_it_was(
    run: Callable[..., Result], dsn: str, bare: str, tmp_path: Path
) -> None:
    run("export", "--output", "all.csv", "--take", "5", dsn=dsn)
    before = (tmp_path / "all.csv").read_text()
    assert run("export", "--output", "all.csv", dsn=bare).exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["all.csv"]
    assert (tmp_path / "all.csv").read_text() == before


def test_a_directory_that_cannot_be_written_is_named(
    fails: Callable[..., None], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.unlink

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        # A file system that is mounted read-only refuses also if the file does not exist.
        if self.parent == Path("/proc"):
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        real(self)

    monkeypatch.setattr(Path, "unlink", refuse)
    fails("export", "--output", "/proc/all.csv", status=2, message="cannot write /proc/all.csv: ", dsn=dsn)


@pytest.mark.parametrize("option", ["--skip", "--take"])
def test_a_count_beyond_int8_is_refused(fails: Callable[..., None], option: str) -> None:
    fails("export", option, str(2**63), status=2, message=option)


def test_two_exports_do_not_write_one_file(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    with output_file(tmp_path / "all.csv", Format.CSV, Compression.NONE, ("a",)) as one:
        one.write(b"1\n")
        refused = run("export", "-o", "all.csv", dsn=dsn)
        assert (refused.exit_code, refused.stderr) == (
            2,
            "storefront: another command is writing all.csv: wait for its end, or choose another file\n",
        )
    assert (tmp_path / "all.csv").read_bytes() == b"a\n1\n"
    assert run("export", "-o", "all.csv", dsn=dsn).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv"]


@pytest.mark.parametrize("number", ["0", "2147483648"])
def test_a_prefetch_that_no_cursor_takes_is_refused(fails: Callable[..., None], dsn: str, number: str) -> None:
    fails("export", "--prefetch", number, status=2, message="prefetch", dsn=dsn)


def test_an_export_is_written_as_its_name_says(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    expected = run("export", dsn=dsn).stdout
    for name in ("all.csv.gz", "all.ndjson", "all.parquet"):
        assert run("export", "-o", name, dsn=dsn).stdout == f"exported 1,000 SKUs to {name}\n"
    assert gzip.decompress((tmp_path / "all.csv.gz").read_bytes()).decode() == expected
    assert [json.loads(line)["sku_id"] for line in (tmp_path / "all.ndjson").read_text().splitlines()] == list(
        range(1, 1_001)
    )
    assert pyarrow.parquet.read_table(tmp_path / "all.parquet")["sku_id"].to_pylist() == list(range(1, 1_001))
    printed = run("export", "--format", "ndjson", "-o", "-", dsn=dsn).stdout
    assert printed == (tmp_path / "all.ndjson").read_text()


@pytest.mark.parametrize("more", [[], ["--prefetch", "9"]])
def test_an_export_of_later_skus(run: Callable[..., Result], dsn: str, more: list[str]) -> None:
    header, *rows = run("export", dsn=dsn).stdout.splitlines()
    assert run("export", "--since", "990", *more, dsn=dsn).stdout.splitlines() == [header, *rows[990:]]
    part = run("export", "--since", "990", "--skip", "2", "--take", "3", *more, dsn=dsn).stdout.splitlines()
    assert part == [header, *rows[992:995]]


def test_bad_usage_is_refused(fails: Callable[..., None], dsn: str) -> None:
    fails("export", "--since", str(2**31), status=2, message="'--since'", dsn=dsn)
    message = "cannot write nowhere/all.csv: No such file or directory\n"
    fails("export", "--output", "nowhere/all.csv", status=2, message=message, dsn=dsn)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("output_format", ["csv", "ndjson", "parquet"])
def test_a_full_disk_is_named(fails: Callable[..., None], dsn: str, output_format: str) -> None:
    message = "cannot write /dev/full: No space left on device"
    fails("export", "--format", output_format, "--output", "/dev/full", status=1, message=message, dsn=dsn)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_standard_output_that_is_full_is_named(dsn: str) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "storefront", "export", "--dsn", dsn]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (result.returncode, result.stderr) == (
        1,
        b"storefront: cannot write standard output: No space left on device\n",
    )
