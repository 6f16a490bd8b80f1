"""`storefront import`."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from storefront import cli

HEADER = "brand_name,product_name,color,size"
GOOD = "Aurora,Chair,Blue,Small"
BAD = "Aurora,,Blue,Small"


def write(*lines: str, name: str = "shop.csv") -> None:
    Path(name).write_text("\n".join([HEADER, *lines, ""]))


def test_import_tells_what_it_has_done(run: Callable[..., Result], empty: str) -> None:
    write(GOOD, "Boreal,Chair,Red,Small")
    first = run("import", "shop.csv", dsn=empty)
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.splitlines() == [
        "imported: shop.csv, 2 lines, 0 refused",
        "added: 2 brands, 2 products, 2 SKUs, 1 colour, 0 sizes",
        "changed: 0 products, 0 SKUs; unchanged: 0 SKUs",
        "new colours: Red",
    ]
    second = run("import", "shop.csv", dsn=empty)
    assert "unchanged: 2 SKUs" in second.stdout


def test_refused_lines_are_written_to_a_file(run: Callable[..., Result], empty: str) -> None:
    write(GOOD, BAD, "Aurora,Chair", GOOD)
    result = run("import", "shop.csv", "--refused", "refused.csv", dsn=empty)
    assert (result.exit_code, result.stderr) == (3, "")
    assert "4 lines, 2 refused" in result.stdout
    with open("refused.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["line", "reason", "text"],
            ["3", "product_name is missing", BAD],
            ["4", "it has 2 fields, and the first line has 4", "Aurora,Chair"],
        ]


def test_nothing_is_imported_if_the_refused_lines_cannot_be_written(run: Callable[..., Result], empty: str) -> None:
    write(GOOD, BAD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        failed = run("import", "shop.csv", "--refused", "refused.csv", dsn=empty)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (failed.exit_code, failed.stderr) == (1, "storefront: cannot write refused.csv: File too large\n")
    assert "added: 1 brand, " in run("import", "shop.csv", dsn=empty).stdout


def test_without_a_file_the_first_refused_lines_are_shown(run: Callable[..., Result], empty: str) -> None:
    write(*[BAD] * 1_000)
    result = run("import", "shop.csv", dsn=empty)
    assert result.exit_code == 3
    *shown, last = result.stderr.splitlines()
    assert shown == [f"shop.csv:{number}: product_name is missing" for number in range(2, 12)]
    assert last == "shop.csv: 990 more lines were refused; --refused FILE lists all"


def test_json_is_one_document_and_quiet_is_silent(run: Callable[..., Result], empty: str) -> None:
    write(GOOD, BAD)
    checked = run("import", "shop.csv", "--dry-run", "--json", "--refused", "refused.csv", dsn=empty)
    document = json.loads(checked.stdout)
    assert (document["lines"], document["refused"], document["skus_added"], document["dry_run"]) == (2, 1, 1, True)
    quiet = run("import", "shop.csv", "--quiet", "--refused", "refused.csv", dsn=empty)
    assert (quiet.exit_code, quiet.output) == (3, "")
    assert json.loads(run("import", "shop.csv", "--json", dsn=empty).stdout)["skus_unchanged"] == 1


def test_a_dash_is_standard_input(empty: str) -> None:
    text = f"{HEADER}\n{GOOD}\n"
    result = CliRunner().invoke(
        cli.app, ["import", "-", "--format", "csv", "--json"], input=text, env={"STOREFRONT_DSN": empty}
    )
    assert json.loads(result.stdout)["skus_added"] == 1


def test_strict_imports_nothing(run: Callable[..., Result], empty: str) -> None:
    write(GOOD, BAD)
    result = run("import", "shop.csv", "--strict", dsn=empty)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "storefront: nothing was imported, because 1 line was refused" in result.stderr


def test_an_export_can_be_imported(run: Callable[..., Result], dsn: str, empty: str) -> None:
    run("export", "--output", "all.csv", dsn=dsn)
    assert run("import", "all.csv", dsn=empty).exit_code == 0
    assert run("export", dsn=empty).stdout == Path("all.csv").read_text()


def test_without_a_schema_the_next_step_is_named(fails: Callable[..., None], bare: str) -> None:
    write(GOOD)
    fails("import", "shop.csv", status=1, message="run `storefront init` first", dsn=bare)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["import"], "Missing argument"),
        (["import", "missing.csv"], "cannot read missing.csv: No such file or directory"),
        (["import", "shop.csv", "--format", "xls"], "'xls' is not a format"),
        (["import", "shop.csv", "--refused", "./shop.csv"], "would overwrite shop.csv"),
        (["import", "shop.csv", "--refused", "-"], "--refused requires the name of a file, got -"),
        (["import", "shop.csv", "--encoding", "klingon"], "is not known"),
        (["import", "-"], "pass --format"),
        (["import", "broken.csv"], "broken.csv has no column"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    write(GOOD)
    Path("broken.csv").write_text("a,b\n")
    fails(*args, status=2, message=message)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_catalogue_unchanged(
    program: Callable[..., subprocess.Popen[str]],
    run: Callable[..., Result],
    empty: str,
    tmp_path: Path,
    sent: signal.Signals,
) -> None:
    # The program waits for the rest of a named pipe, which does not end.
    os.mkfifo(tmp_path / "shop.csv")
    process = program("import", str(tmp_path / "shop.csv"), "--verbose", dsn=empty)
    with open(tmp_path / "shop.csv", "w") as pipe:
        pipe.write("\n".join([HEADER, *[GOOD] * 20_000]))
        pipe.flush()
        assert process.stderr is not None
        assert "import_catalogue starts" in process.stderr.readline()
        process.send_signal(sent)
        assert process.wait(60) == 128 + sent
    write(GOOD, name="again.csv")
    assert "added: 1 brand, " in run("import", "again.csv", dsn=empty).stdout
