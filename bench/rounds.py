"""The rounds: in each, every peer takes one sample, in an order that rotates by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.measurement import LIMIT, Cell, Line, Sample
from bench.peer_process import PeerProcess
from bench.pgbench import Pgbench, PgbenchError
from bench.worker import CloseWorkload, Opened, OpenWorkload, Refused, Reply, TakeSample
from bench.workloads.workload import Workload

# Batches of these are never cut: headrace is the subject, and every requirement refers to asyncpg.
WHOLE_BATCHES = ("headrace", "asyncpg")


@dataclass(frozen=True)
class Pace:
    """The number and length of the samples.

    rounds: samples of each peer. seconds: length of a sample of repeated operations, which is short, so that there are
    twice as many rounds plus one. longest: seconds for a batch of a peer that is only there for comparison. patience:
    seconds after which a peer that does not answer counts as hung.
    """

    rounds: int = 5
    seconds: float = 0.06
    longest: float = 0.8
    patience: float = 20.0
    memory_patience: float = 180.0

    def rounds_of(self, workload: Workload) -> int:
        """Return how many samples each peer takes of a workload."""
        if workload.memory:
            return 1
        return self.rounds if workload.batch is not None else 2 * self.rounds + 1


def measure(
    workload: Workload,
    peers: dict[str, PeerProcess],
    pgbench: Pgbench | None,
    pace: Pace,
    progress: Callable[[str], None] = lambda step: None,
) -> Line:
    """Measure one workload on all peers and, if it has one, its limit."""
    cells = {name: Cell() for name in peers}
    patience = pace.memory_patience if workload.memory else pace.patience
    going: list[str] = []
    for name, peer in peers.items():
        progress(f"{name} warms up")
        if workload.memory:
            # A process that has already worked has free memory, which would hide the growth.
            peer.stop()
        reply = peer.ask(OpenWorkload(workload.name, pace.seconds, _longest(name, pace)), patience)
        if isinstance(reply, Opened):
            cells[name].note = reply.note
            going.append(name)
        else:
            _refuse(cells[name], reply)
    if pgbench is not None and workload.limit is not None:
        cells[LIMIT] = Cell()
        going.append(LIMIT)

    for number in range(pace.rounds_of(workload)):
        first = number % max(1, len(going))
        for name in going[first:] + going[:first]:
            if cells[name].missing:
                continue
            progress(f"round {number + 1}, {name}")
            if name == LIMIT:
                assert pgbench is not None
                _take_limit(cells[name], pgbench, workload)
                continue
            reply = peers[name].ask(TakeSample(), patience)
            if isinstance(reply, Sample):
                cells[name].samples.append(reply)
            else:
                _refuse(cells[name], reply)

    for name in going:
        if name != LIMIT and not cells[name].missing:
            peers[name].ask(CloseWorkload(), patience)
            if workload.memory:
                peers[name].stop()
    return Line(workload, cells)


def _longest(name: str, pace: Pace) -> float | None:
    return None if name in WHOLE_BATCHES else pace.longest


def _take_limit(cell: Cell, pgbench: Pgbench, workload: Workload) -> None:
    assert workload.limit is not None
    try:
        cell.samples.append(pgbench.sample(workload.limit))
    except PgbenchError as error:
        _refuse(cell, Refused(str(error), failed=True))


def _refuse(cell: Cell, reply: Reply) -> None:
    """Mark a cell as failed or missing. Its samples are dropped, because they are incomplete."""
    cell.samples.clear()
    cell.missing = reply.reason if isinstance(reply, Refused) else f"unexpected {reply}"
    cell.failed = not isinstance(reply, Refused) or reply.failed
