"""Runs a target on inputs made at random, in processes of their own, so that a crash or a hang is one of its outcomes.

Inputs come in chunks; a chunk is made of the seed, its number and the pool, and so is always the same. The pool grows
by the inputs that show something new: an outcome, such as an error's text, that no input before them had. Every
process writes each input to shared memory before it runs it: there it is found when the process has died or hangs.
"""

from __future__ import annotations

import faulthandler
import gc
import hashlib
import mmap
import os
import pickle
import random
import re
import resource
import signal
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.fuzz import corpus
from tests.fuzz.mutation import Mutation
from tests.fuzz.target import Target

CHUNK = 10_000
"""Inputs of one process."""
ROUND = 4
"""Chunks between two looks at what was new in them; fixed, so that the number of workers changes nothing."""
SAMPLE = 64
"""Of so many inputs one runs under tracemalloc."""
MEMORY = 1_000_000
"""Bytes that reading an input may take at its peak, beside `MEMORY_FACTOR` for each of the input's own."""
MEMORY_FACTOR = 100
ADDRESS_SPACE = 512 << 20
"""Bytes by which a process may grow."""
PATIENCE = 20.0
"""Seconds without a sign of life after which an input counts as one that hangs."""

_NUMBER = re.compile(r"[0-9]+|'[^']*'|\"[^\"]*\"")


@dataclass
class Failure(Exception):
    """An input that something has gone wrong with."""

    target: str
    data: bytes
    what: str

    def save(self, place: Path) -> Path:
        """Write the input to a file, to be run again with --replay."""
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{self.target}-{hashlib.sha256(self.data).hexdigest()[:12]}"
        path.write_bytes(self.data)
        return path


@dataclass
class Figures:
    """How far a run has come."""

    target: str
    inputs: int = 0
    known: int = 0
    """Different outcomes seen."""
    new: list[bytes] = field(default_factory=list)
    """The inputs that were the first to show them, but for the pool's own."""
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = self.inputs / self.seconds if self.seconds else 0
        return f"{self.target}: {self.inputs:,} inputs, {self.known:,} outcomes, {rate:,.0f}/s"


class Slot:
    """Shared memory for the input that a process is at, and for how many it has run."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16 + (1 << 20))

    def write(self, number: int, data: bytes) -> None:
        """Note the input that is to be run next."""
        size = len(data)
        self._memory[16 : 16 + size] = data
        self._memory[:16] = number.to_bytes(8, "big") + size.to_bytes(8, "big")

    def read(self) -> tuple[int, bytes]:
        """Return the number and the input noted last."""
        size = int.from_bytes(self._memory[8:16], "big")
        return int.from_bytes(self._memory[:8], "big"), self._memory[16 : 16 + size]

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()


def outcome(target: Target, data: bytes) -> object:
    """Run one input; return what came of it, for comparison with what came of others.

    Raises Failure for what must not come of it.
    """
    try:
        return target.run(data)
    except target.allowed as error:
        text = str(error)
        if not text:
            raise Failure(target.name, data, f"an error without a text: {error!r}") from error
        return type(error).__name__, _NUMBER.sub("0", text)[:100]
    except BaseException as error:
        raise Failure(target.name, data, "".join(traceback.format_exception(error))) from error


def measured(target: Target, data: bytes) -> object:
    """Run one input like `outcome()`; memory that does not go with its size is a Failure."""
    tracemalloc.start()
    try:
        found = outcome(target, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak > MEMORY + MEMORY_FACTOR * len(data):
        raise Failure(target.name, data, f"{len(data)} bytes have taken {peak} bytes of memory")
    return found


def replay(target: Target) -> int:
    """Run the seeds and the inputs kept, in this process; return how many. Raises Failure."""
    inputs = list(dict.fromkeys((*target.seeds(), *corpus.load(target.name))))
    for data in inputs:
        outcome(target, data)
        measured(target, data)
    return len(inputs)


@dataclass
class _Worker:
    """A process at work on one chunk."""

    number: int
    pid: int
    slot: Slot
    report: IO[bytes]
    running: bool = True
    seen: int = -1
    since: float = field(default_factory=time.monotonic)

    def close(self) -> None:
        """End the process where it runs, and give back what it had."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.report.close()
        self.slot.close()


class Fuzzing:
    """One run over one target."""

    def __init__(self, target: Target, seed: int, *, workers: int = 1, patience: float = PATIENCE) -> None:
        self.target = target
        self.seed = seed
        self.figures = Figures(target.name)
        self._workers = workers
        self._patience = patience
        self._pool = list(dict.fromkeys((*target.seeds(), *corpus.load(target.name))))
        self._known: set[object] = set()

    def run(self, inputs: int) -> Iterator[Figures]:
        """Run so many inputs, and tell now and then how far it has come. Raises Failure at the first that fails."""
        started = time.monotonic()
        for data in self._pool:
            # In this process: they have run before, and are to be in every chunk's memory of what is known.
            self._known.add(outcome(self.target, data))
        chunks = [min(CHUNK, inputs - at) for at in range(0, inputs, CHUNK)]
        for first in range(0, len(chunks), ROUND):
            found = self._round(list(enumerate(chunks))[first : first + ROUND])
            for result, data in found:
                if result not in self._known:
                    self._known.add(result)
                    self._pool.append(data)
                    self.figures.new.append(data)
            self.figures.inputs = sum(chunks[: first + ROUND])
            self.figures.known = len(self._known)
            self.figures.seconds = time.monotonic() - started
            yield self.figures

    def _round(self, chunks: list[tuple[int, int]]) -> list[tuple[object, bytes]]:
        waiting = list(reversed(chunks))
        working: list[_Worker] = []
        found: dict[int, list[tuple[object, bytes]]] = {}
        try:
            while waiting or working:
                while waiting and len(working) < self._workers:
                    working.append(self._start(*waiting.pop()))
                time.sleep(0.01)
                for worker in list(working):
                    if self._ended(worker):
                        working.remove(worker)
                        worker.report.seek(0)
                        found[worker.number] = pickle.load(worker.report)
                        worker.close()
        finally:
            for worker in working:
                worker.close()
        return [each for number in sorted(found) for each in found[number]]

    def _start(self, number: int, size: int) -> _Worker:
        slot = Slot()
        report = tempfile.TemporaryFile()  # noqa: SIM115
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                faulthandler.enable(report.fileno())
                self._work(number, size, slot, report)
                status = 0
            except Failure as failure:
                report.write(failure.what.encode("utf-8", "replace"))
            except BaseException:
                report.write(traceback.format_exc().encode("utf-8", "replace"))
            finally:
                report.flush()
                os._exit(status)
        return _Worker(number, pid, slot, report)

    def _work(self, number: int, size: int, slot: Slot, report: IO[bytes]) -> None:
        """Run one chunk; in a process of its own."""
        _limit_memory()
        gc.freeze()
        mutation = Mutation(random.Random(f"{self.seed}/{self.target.name}/{number}"), self._pool, self.target.words)
        known = self._known
        found: list[tuple[object, bytes]] = []
        target, mutate, other, write = self.target, self.target.mutate, mutation.other, slot.write
        for at in range(size):
            data = mutate(mutation, other())
            write(at, data)
            result = measured(target, data) if at % SAMPLE == 0 else outcome(target, data)
            if result not in known:
                known.add(result)
                found.append((result, data))
        pickle.dump(found, report)

    def _ended(self, worker: _Worker) -> bool:
        """True if the process has come to its end; raises Failure where it came to no good one."""
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        worker.running = pid == 0
        at, data = worker.slot.read()
        if worker.running:
            now = time.monotonic()
            if at != worker.seen:
                worker.seen, worker.since = at, now
            elif now - worker.since > self._patience:
                raise Failure(self.target.name, data, f"hangs: no end after {self._patience:g} s")
            return False
        if status == 0:
            return True
        worker.report.seek(0)
        said = worker.report.read().decode("utf-8", "replace")
        code = os.waitstatus_to_exitcode(status)
        how = f"died of {signal.Signals(-code).name}" if code < 0 else "failed"
        raise Failure(self.target.name, data, f"{how}\n{said}")


def _limit_memory() -> None:
    """Make allocations of absurd size fail; not under AddressSanitizer, which maps terabytes for itself."""
    if "ASAN_OPTIONS" in os.environ:
        return
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESS_SPACE, held + ADDRESS_SPACE))
