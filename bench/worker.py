"""The process of one peer. It opens workloads and takes samples on command.

Every peer has a process of its own, so that the threads, garbage or hangs of a driver do not affect another one. The
processes take samples one after another.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.measurement import Sample
from bench.peers.peer import Peer, Unsupported
from bench.peers.registry import load_peer
from bench.workloads.registry import find
from bench.workloads.workload import Job, Scale, Workload

WARM_OPERATIONS = 500


@dataclass(frozen=True)
class Settings:
    """The settings of a worker. collect: the garbage collector runs during measurements."""

    peer: str
    loop: str
    dsn: str
    scale: Scale
    collect: bool = True


@dataclass(frozen=True)
class OpenWorkload:
    """Open a workload, warm it up and determine how many operations make a sample.

    seconds: how long a sample of repeated operations should take. longest: a batch that would take longer is cut; None
    never cuts.
    """

    workload: str
    seconds: float
    longest: float | None


@dataclass(frozen=True)
class TakeSample:
    """Take one sample of the open workload."""


@dataclass(frozen=True)
class CloseWorkload:
    """Close the open workload."""


@dataclass(frozen=True)
class Ready:
    """The peer is available, in this version. After CloseWorkload: it is free again."""

    version: str


@dataclass(frozen=True)
class Opened:
    """The workload is open and warmed up."""

    note: str


@dataclass(frozen=True)
class Refused:
    """The command cannot be executed. ``failed`` if the driver failed, not if it lacks the feature."""

    reason: str
    failed: bool


Command = OpenWorkload | TakeSample | CloseWorkload
Reply = Ready | Opened | Sample | Refused


def serve(pipe: Connection, settings: Settings) -> None:
    """Run a worker until its parent closes the pipe."""
    # Ctrl-C reaches the whole process group; the parent ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (
        contextlib.suppress(EOFError, ConnectionError),
        asyncio.Runner(loop_factory=loop_factory(settings.loop)) as runner,
    ):
        runner.run(_serve(pipe, settings))


def loop_factory(name: str) -> Any:
    """Return the factory of an event loop; None for the default one. Raises ValueError for an unknown name."""
    match name:
        case "asyncio":
            return None
        case "uvloop":
            import uvloop

            return uvloop.new_event_loop
    raise ValueError(f"loop: expected asyncio or uvloop, got {name!r}")


async def _serve(pipe: Connection, settings: Settings) -> None:
    try:
        peer = load_peer(settings.peer)
    except ImportError as error:
        pipe.send(Refused(f"not installed ({error})", failed=False))
        return
    # Objects from the imports must not be traversed again in every round.
    gc.collect()
    gc.freeze()
    if not settings.collect:
        gc.disable()
    pipe.send(Ready(peer.version()))
    async for command in _commands(pipe):
        if isinstance(command, OpenWorkload):
            await _workload(pipe, peer, settings, command)


async def _workload(pipe: Connection, peer: Peer, settings: Settings, command: OpenWorkload) -> None:
    workload = find(settings.scale, command.workload)
    try:
        async with opened(workload, peer, settings.dsn) as job:
            operations = await _operations(workload, job, command)
            pipe.send(Opened(job.note))
            async for next_command in _commands(pipe):
                if isinstance(next_command, CloseWorkload):
                    break
                pipe.send(await take_sample(job, operations))
    except Unsupported as missing:
        pipe.send(Refused(str(missing), failed=False))
    except NotImplementedError as missing:
        pipe.send(Refused(f"not implemented {missing}".strip(), failed=False))
    except Exception as error:
        # The first line alone: it becomes an item of a list.
        pipe.send(Refused(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", failed=True))
    else:
        pipe.send(Ready(peer.version()))


@contextlib.asynccontextmanager
async def opened(workload: Workload, peer: Peer, dsn: str) -> AsyncIterator[Job]:
    """Open a workload on a peer. Raises Unsupported if the peer is not measured on it."""
    if peer.only_at_once and not workload.at_once:
        raise Unsupported("no different from the driver without it")
    async with workload.open(peer, dsn) as job:
        yield job


async def warm(job: Job, operations: int) -> float:
    """Run the operations, check the result, and run them again. Return the seconds of the second run."""
    await _reset(job)
    result = await job.run(operations)
    await job.check(result)
    await _reset(job)
    start = time.perf_counter()
    await job.run(operations)
    return time.perf_counter() - start


async def take_sample(job: Job, operations: int) -> Sample:
    """Measure the operations."""
    await _reset(job)
    gc.collect()
    before = _reset_peak()
    cpu, start = time.process_time(), time.perf_counter()
    await job.run(operations)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    growth = None if before is None else max(0, _memory("VmHWM") - before)
    return Sample(operations * job.units, seconds, cpu, growth)


async def _operations(workload: Workload, job: Job, command: OpenWorkload) -> int:
    if workload.batch is None:
        seconds = await warm(job, 1)
        trial = max(1, round(command.seconds / 5 / seconds))
        return max(1, round(command.seconds * trial / await warm(job, trial)))
    operations = min(workload.batch, WARM_OPERATIONS)
    seconds = await warm(job, operations)
    if command.longest is None or workload.memory:
        return workload.batch
    return max(operations, min(workload.batch, round(operations * command.longest / seconds)))


async def _commands(pipe: Connection) -> AsyncIterator[Command]:
    loop = asyncio.get_running_loop()
    while True:
        # This runs in a thread, so that the loop can run background tasks of a pool.
        command: Command = await loop.run_in_executor(None, pipe.recv)
        yield command


async def _reset(job: Job) -> None:
    if job.reset is not None:
        await job.reset()


def _reset_peak() -> int | None:
    """Reset the peak of resident memory to its present value and return that; None if the kernel cannot."""
    try:
        # proc_pid_clear_refs(5): writing 5 resets VmHWM.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _memory("VmRSS")


def _memory(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
