"""All workloads, in the order of the table's rows."""

from __future__ import annotations

from fnmatch import fnmatchcase

from bench.workloads import bulk, connections, families, loads, lookups, rows, streams, typed, writes
from bench.workloads.workload import Scale, Workload

SUBJECTS = (lookups, loads, writes, rows, typed, bulk, connections, streams, families)


def all_workloads(scale: Scale) -> list[Workload]:
    """Return every workload at a scale."""
    return [workload for subject in SUBJECTS for workload in subject.workloads(scale)]


def select(scale: Scale, pattern: str | None) -> list[Workload]:
    """Return the workloads whose name matches a shell pattern or contains the text; None for all.

    Raises ValueError, which lists the workloads, if none matches.
    """
    known = all_workloads(scale)
    if pattern is None:
        return known
    found = [w for w in known if fnmatchcase(w.name, pattern) or pattern in w.name]
    if not found:
        raise ValueError(f"expected a pattern that matches one of {', '.join(w.name for w in known)}; got {pattern!r}")
    return found


def find(scale: Scale, name: str) -> Workload:
    """Return the workload with this name. Raises ValueError if there is none."""
    for workload in all_workloads(scale):
        if workload.name == name:
            return workload
    known = ", ".join(workload.name for workload in all_workloads(scale))
    raise ValueError(f"expected a workload ({known}), got {name!r}")
