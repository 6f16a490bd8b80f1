"""The rounds: in each, every peer takes one sample, in an order that moves on by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.measurement import LIMIT, Cell, Line, Sample
from bench.peer_process import PeerProcess
from bench.pgbench import Pgbench, PgbenchError
from bench.worker import CloseWorkload, Opened, OpenWorkload, Refused, Reply, TakeSample
from bench.workloads.workload import Workload

# Their batches are never cut: headrace is what is measured, asyncpg what every requirement is stated against.
WHOLE_BATCHES = ("headrace", "asyncpg")


@dataclass(frozen=True)
class Pace:
    """How long things take.

    rounds: samples of each peer. seconds: one sample of repeated operations, which are short and so get twice
    the rounds and one more. longest: one batch of a peer that is only there for comparison. patience: what a
    peer has for an answer before it counts as hung.
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
    """Measure one workload on all peers and, where it has one, against its limit."""
    cells = {name: Cell() for name in peers}
    patience = pace.memory_patience if workload.memory else pace.patience
    going: list[str] = []
    for name, peer in peers.items():
        progress(f"{name} warms up")
        if workload.memory:
            # A process that has worked before has memory to spare, and its growth would not be seen.
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
    """Mark a cell; samples taken before are dropped, because half a measurement is none."""
    cell.samples.clear()
    cell.missing = reply.reason if isinstance(reply, Refused) else f"unexpected {reply}"
    cell.failed = not isinstance(reply, Refused) or reply.failed
