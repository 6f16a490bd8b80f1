"""The limit: pgbench, PostgreSQL's own load generator in C, with the same statements on the same server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.measurement import Sample
from bench.workloads.workload import Limit

RATE = re.compile(
    r"^tps = ([0-9.]+) \((?:without initial connection time|including reconnection times)\)", re.MULTILINE
)
VERSION = re.compile(r"\d+[.\w]*")
SECONDS = 120


class PgbenchError(Exception):
    """pgbench is not installed or has failed. The message has its output."""


class Pgbench:
    """pgbench with prepared statements on one server."""

    def __init__(self, dsn: str, bin_directory: Path | None) -> None:
        found = shutil.which("pgbench", path=str(bin_directory) if bin_directory else None)
        if found is None:
            raise PgbenchError("pgbench is not installed")
        self._program = found
        self._dsn = dsn

    def version(self) -> str:
        """Return the version, e.g. ``18.4``."""
        done = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=True)
        found = VERSION.search(done.stdout)
        return found[0] if found else "unknown"

    def sample(self, limit: Limit) -> Sample:
        """Run a script once. Raises PgbenchError if it fails.

        The rate is pgbench's own. It excludes connecting, unless connecting is measured.
        """
        transactions = max(1, limit.queries // limit.clients // limit.pipeline)
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(_pipelined(limit))
            script.flush()
            command = [self._program, "--no-vacuum", "--protocol=prepared", f"--file={script.name}"]
            command += [f"--client={limit.clients}", f"--jobs={min(limit.clients, os.cpu_count() or 1)}"]
            command += [
                f"--transactions={transactions}",
                *(["--connect"] if limit.reconnect else []),
                self._dsn,
            ]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            except subprocess.TimeoutExpired as error:
                raise PgbenchError(f"pgbench took more than {SECONDS} s") from error
        rate = RATE.search(done.stdout)
        if done.returncode or rate is None:
            raise PgbenchError(f"pgbench failed: {(done.stderr or done.stdout).strip()[-500:]}")
        units = transactions * limit.clients * limit.pipeline
        return Sample(units, units / (float(rate[1]) * limit.pipeline))


def _pipelined(limit: Limit) -> str:
    if limit.pipeline == 1:
        return limit.script
    return "\\startpipeline\n" + limit.script * limit.pipeline + "\\endpipeline\n"
