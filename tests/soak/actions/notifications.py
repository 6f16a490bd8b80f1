"""LISTEN and NOTIFY, by listeners and by pool.listen()."""

from __future__ import annotations

import asyncio

from headrace.pool import Gap
from tests.soak.actions.echoes import echo
from tests.soak.figures import Crossed
from tests.soak.turn import Turn


async def listener(turn: Turn) -> None:
    """A listener gets what is sent once it listens, among the replies to other queries."""
    async with turn.session() as connection:
        channel, token = f"channel {turn.rng.randrange(5)}", turn.token()
        arrived = asyncio.get_running_loop().create_future()

        def on_notification(connection: object, pid: int, channel: str, payload: str) -> None:
            if payload == token and not arrived.done():
                arrived.set_result(None)

        def on_end(connection: object) -> None:
            if not arrived.done():
                arrived.set_result(None)

        connection.add_termination_listener(on_end)
        await connection.add_listener(channel, on_notification)
        if turn.chance(0.5):
            await turn.routes["news"].pool.execute("SELECT pg_notify($1, $2)", channel, token)
        else:
            await connection.fetchval("SELECT pg_notify($1, $2)::text", channel, token)
        await echo(turn, connection)
        await arrived
        turn.figures.count("notifications")
        if turn.chance(0.8) and not connection.is_closed():
            # Else the lease's end takes it away, with a warning.
            connection.remove_termination_listener(on_end)
            await connection.remove_listener(channel, on_notification)


async def events(turn: Turn) -> None:
    """pool.listen(): each notification, or a gap in whose place it may be missing."""
    pool = turn.route.pool
    channel = f"events {turn.rng.randrange(5)}"
    tokens = turn.tokens(3)
    async with turn.route.places, pool.listen(channel) as stream:
        waiting = list(tokens)
        for token in tokens:
            await pool.execute("SELECT pg_notify($1, $2)", channel, token)
        while waiting:
            event = await stream.next()
            if isinstance(event, Gap):
                turn.figures.count("gaps")
                for token in waiting:
                    await pool.execute("SELECT pg_notify($1, $2)", channel, token)
            elif event is None:
                turn.same(event, waiting[0], "a notification")
            elif event.payload in waiting:
                if event.payload != waiting[0]:
                    # Sent one after the other: in another order only where one was sent again after a gap.
                    if not turn.route.is_lossy:
                        raise Crossed(f"a notification: got {event.payload!r}, expected {waiting[0]!r}")
                    turn.figures.count("notifications out of order")
                waiting.remove(event.payload)
                turn.figures.count("notifications")


async def abandoned_events(turn: Turn) -> None:
    """An iteration over pool.listen() that is left early."""
    channel, token = f"abandoned {turn.rng.randrange(3)}", turn.token()
    async with turn.route.places, turn.route.pool.listen(channel) as stream:
        await turn.route.pool.execute("SELECT pg_notify($1, $2)", channel, token)
        async for _ in stream:
            break
    turn.figures.count("generators abandoned")
