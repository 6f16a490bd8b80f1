"""Programs run once, each in a process of its own: how long they take, and what of processor and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

STOREFRONT = """
import re, sys
from storefront.cli import main
peak = sys.argv.pop(1)
sys.argv[0] = "storefront"
try:
    main()
finally:
    with open("/proc/self/status") as status, open(peak, "w") as file:
        file.write(re.search(r"VmHWM:\\s*(\\d+)", status.read())[1])
"""
"""The program `storefront`. It writes its peak memory to the file of its first argument, as kilobytes.

The kernel's figure for a child that has ended would be that of its parent, if this is larger."""


class ProgramError(Exception):
    """A program has failed. The text has its last words."""


@dataclass(frozen=True)
class Run:
    """One run of a program. `processor` is in seconds, `peak` is the resident memory at most, in bytes (0: unknown)."""

    seconds: float
    processor: float
    peak: int = 0


def run_program(command: Iterable[str | Path], output: Path | None = None, *, statuses: tuple[int, ...] = (0,)) -> Run:
    """Run a program, with its standard output into a file. Raises ProgramError for another exit status."""
    # An installed program has its bytecode, so the first run may write it: compiling takes longer than the whole start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with open(output or os.devnull, "wb") as file, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen([str(each) for each in command], stdout=file, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in statuses:
            errors.seek(0)
            raise ProgramError(errors.read().decode(errors="replace").strip()[-2000:])
    return Run(seconds, usage.ru_utime + usage.ru_stime)


def run_storefront(*arguments: str | Path, output: Path | None = None, statuses: tuple[int, ...] = (0,)) -> Run:
    """Run a command of the storefront. Raises ProgramError for another exit status."""
    with tempfile.NamedTemporaryFile() as peak:
        run = run_program([sys.executable, "-c", STOREFRONT, peak.name, *arguments], output, statuses=statuses)
        return Run(run.seconds, run.processor, int(peak.read()) * 1024)
