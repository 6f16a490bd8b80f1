"""What the actors do: each action is a coroutine function of a turn, with a weight that says how often it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.soak.actions import copies, cursors, leases, locks, notifications, queries, statements, transactions, writes
from tests.soak.turn import Turn

Action = Callable[[Turn], Awaitable[None]]

WEIGHTS: dict[Action, int] = {
    queries.one: 10,
    queries.row_after_row: 6,
    queries.crowd: 12,
    queries.running_head: 5,
    queries.late_cancel: 4,
    queries.errors_between: 5,
    writes.single: 10,
    writes.batch: 6,
    writes.batch_that_fails: 4,
    writes.at_once: 6,
    transactions.nested: 10,
    transactions.by_hand: 5,
    transactions.cancelled_at_an_end: 4,
    transactions.commit_of_a_failed_one: 3,
    transactions.typed_by_hand: 3,
    cursors.iterated: 4,
    cursors.streamed: 4,
    cursors.stepwise: 4,
    cursors.two_at_once: 2,
    cursors.forgotten: 3,
    copies.records_in: 3,
    copies.bytes_in: 3,
    copies.written: 3,
    copies.bytes_out: 3,
    copies.rows_out: 3,
    statements.prepared: 5,
    statements.of_a_changing_table: 6,
    statements.change_a_table: 1,
    statements.discard: 2,
    notifications.listener: 4,
    notifications.events: 2,
    notifications.abandoned_events: 1,
    leases.marked: 4,
    leases.marked_through_the_pool: 2,
    leases.pristine: 6,
    leases.in_line: 3,
    leases.impatient: 3,
    leases.expired: 1,
    leases.closed_under_way: 3,
    locks.holder_asks_the_pool: 4,
    locks.slow: 3,
    locks.full_pipeline: 2,
    locks.changed_by_a_body: 2,
}

ACTIONS: dict[str, Action] = {f"{action.__module__.rpartition('.')[2]}.{action.__name__}": action for action in WEIGHTS}
"""By name: their module and their own."""
