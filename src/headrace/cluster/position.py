"""Positions in the write-ahead log, which tell whether a replica has replayed a write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Final

from headrace.exceptions import ForeignPositionError
from headrace.exceptions._values import shown

SHORT_HEADER: Final = 24
LONG_HEADER: Final = 40
"""Bytes of the header of a page of the write-ahead log; that of a segment's first page is long (xlog_internal.h)."""

_TEXT: Final = re.compile(r"([0-9]{1,20})-([0-9]{1,10})-([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


@total_ordering
@dataclass(frozen=True, slots=True)
class Position:
    """A position in the write-ahead log of a cluster: everything committed before it is part of it.

    `str()` makes a text of it, for a cookie or a header, and `Position.parse()` reads that. Positions of one
    cluster are ordered, first by timeline. Positions of several clusters have no order: comparing them raises
    ForeignPositionError. Source: PostgreSQL documentation, "pg_lsn Type" and "Timelines".
    """

    system_identifier: int
    """The identifier that initdb has given to the cluster. Its replicas have the same."""
    timeline: int
    """The number of the timeline. Each promotion of a standby begins one."""
    lsn: int
    """The position in bytes, as the driver returns a pg_lsn."""

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Position):
            return NotImplemented
        other.check_same_cluster(self.system_identifier)
        return (self.timeline, self.lsn) < (other.timeline, other.lsn)

    def __str__(self) -> str:
        return f"{self.system_identifier}-{self.timeline}-{self.lsn >> 32:X}/{self.lsn & 0xFFFFFFFF:X}"

    def check_same_cluster(self, system_identifier: int) -> None:
        """Raise ForeignPositionError unless the position belongs to the cluster with this identifier."""
        if self.system_identifier != system_identifier:
            raise ForeignPositionError(
                f"the position {self} belongs to another cluster: its system identifier is {self.system_identifier}, "
                f"and that of this one is {system_identifier}",
                hint="Forget positions when a database is replaced by another one, as by initdb and a restore.",
            )

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position that `str()` has made a text of; raises ValueError for any other text."""
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(
                f"a position is expected to be a text such as '7311552035842560000-1-0/16B3748', got {shown(text)}"
            )
        system, timeline, high, low = found.groups()
        return cls(int(system), int(timeline), int(high, 16) << 32 | int(low, 16))


def written_up_to(lsn: int, page: int, segment: int) -> int:
    """Return where the last record ends, if the next one is inserted at a position.

    At the beginning of a page that is in front of its header. A replica does not come further before there is a next
    record, so on an idle server, as after pg_switch_wal(), nobody would reach the position behind the header.
    """
    offset = lsn % page
    return lsn - offset if offset == (LONG_HEADER if lsn % segment < page else SHORT_HEADER) else lsn


def checked_position(position: object) -> Position:
    """Return a position, or the one that a text stands for; raises TypeError or ValueError for anything else."""
    if isinstance(position, Position):
        return position
    if isinstance(position, str):
        return Position.parse(position)
    raise TypeError(f"position is expected to be a Position or its text, got {shown(position)}")
