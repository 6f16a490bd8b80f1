"""Streams of events: one connection that listens for all, and nothing that is kept after a browser has gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from storefront import open_connection
from storefront.jobs import PROGRESS_CHANNEL
from storefront.service.application import create_application
from storefront.service.events import (
    ACTIVITY_CHANNEL,
    COMMENT,
    MOST_WAITING,
    EventHub,
    EventStream,
    Subscription,
    encode_event,
    job_topic,
)
from storefront.service.service import Service
from storefront.service.settings import ServiceSettings
from tools.event_client import EventClient


@pytest.fixture
def service(application: FastAPI) -> Service:
    """The service of an open application."""
    found: Service = application.state.service
    return found


async def echo(subscription: Subscription) -> AsyncIterator[bytes]:
    """Tell each notification."""
    while not subscription.is_closed:
        for payload in await subscription.take(3_600):
            yield encode_event("update", {"payload": payload})


class Application:
    """An ASGI application that is a stream of events."""

    def __init__(self, hub: EventHub, produce: Callable[[Subscription], AsyncIterator[bytes]]) -> None:
        self.hub = hub
        self._produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await EventStream(self.hub, "topic", self._produce)(scope, receive, send)


async def hear(service: Service, subscription: Subscription, job_id: int) -> list[str | None]:
    """Notify the progress of a job until the hub, which may be about to listen, has heard it."""
    while True:
        await service.pool.execute("SELECT pg_notify($1, $2)", PROGRESS_CHANNEL, json.dumps({"job_id": job_id}))
        if any(taken := await subscription.take(0.1)):
            return taken


async def test_a_notification_reaches_every_stream_of_its_topic(service: Service) -> None:
    one, two, other = (service.events.subscribe(topic) for topic in (job_topic(1), job_topic(1), job_topic(2)))
    heard = await hear(service, one, 1)
    assert json.loads(heard[-1] or "null") == {"job_id": 1}
    assert [each for each in await two.take(0) if each] == [each for each in heard if each]
    assert [each for each in await other.take(0) if each] == []


async def test_one_connection_listens_for_all_streams(service: Service, dsn: str) -> None:
    streams = [service.events.subscribe(job_topic(number)) for number in range(50)]
    await hear(service, streams[0], 0)
    async with open_connection(dsn) as connection:
        count = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE $1",
            f"LISTEN%{ACTIVITY_CHANNEL}%",
        )
    assert count == 1


async def test_streams_look_again_after_the_connection_was_lost(service: Service, dsn: str) -> None:
    subscription = service.events.subscribe(job_topic(1))
    await hear(service, subscription, 1)
    await subscription.take(0)
    async with open_connection(dsn) as connection:
        await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'"
        )
    assert None in await subscription.take(30)


@pytest.mark.parametrize("payload", ["", "x", "[]", "{}", "null", '{"job_id": [1]}', "1e999", '{"job_id": {"a": 1}}'])
async def test_a_notification_that_is_nonsense_does_no_harm(service: Service, payload: str) -> None:
    subscription = service.events.subscribe(job_topic(1))
    for channel in (PROGRESS_CHANNEL, ACTIVITY_CHANNEL):
        await service.pool.execute("SELECT pg_notify($1, $2)", channel, payload)
    heard = await hear(service, subscription, 1)
    assert {each for each in heard if each} == {'{"job_id": 1}'}
    assert service.activity.by_process() == {}


async def test_a_browser_that_goes_away_ends_its_stream_at_once() -> None:
    closed = asyncio.Event()

    async def produce(subscription: Subscription) -> AsyncIterator[bytes]:
        try:
            yield COMMENT
            await subscription.take(3_600)
        finally:
            closed.set()

    hub = EventHub()
    client = await EventClient(Application(hub, produce), "/").open()
    assert await client.next_raw() == ": still here"
    assert len(hub) == 1
    await client.leave()
    assert closed.is_set()
    assert len(hub) == 0


@pytest.mark.parametrize("ticks", range(8))
@pytest.mark.parametrize("first", ["notification", "browser"])
async def test_a_browser_that_goes_away_when_a_notification_comes_ends_its_stream(ticks: int, first: str) -> None:
    hub = EventHub()
    client = await EventClient(Application(hub, echo), "/").open()
    for _ in range(10):
        await asyncio.sleep(0)
    steps = [lambda: hub.publish("topic", "news"), client.go]
    if first == "browser":
        steps.reverse()
    steps[0]()
    for _ in range(ticks):
        await asyncio.sleep(0)
    steps[1]()
    await client.task
    assert len(hub) == 0


async def test_a_browser_that_does_not_read_is_left_behind_when_it_goes() -> None:
    hub = EventHub()
    blocked, gone = asyncio.Event(), asyncio.Event()

    async def send(message: object) -> None:
        blocked.set()
        await asyncio.Event().wait()

    async def receive() -> dict[str, object]:
        await gone.wait()
        return {"type": "http.disconnect"}

    stream = asyncio.create_task(Application(hub, echo)({"type": "http"}, receive, send))
    await blocked.wait()
    gone.set()
    await stream
    assert len(hub) == 0


async def test_a_request_that_is_cancelled_frees_its_place() -> None:
    hub = EventHub()
    client = await EventClient(Application(hub, echo), "/").open()
    assert len(hub) == 1
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.task
    assert len(hub) == 0


async def test_an_error_of_a_stream_is_raised_and_frees_its_place() -> None:
    async def produce(subscription: Subscription) -> AsyncIterator[bytes]:
        yield COMMENT
        raise RuntimeError("the stream has failed")

    hub = EventHub()
    client = await EventClient(Application(hub, produce), "/").open()
    with pytest.raises(RuntimeError, match="the stream has failed"):
        await client.task
    assert len(hub) == 0


async def test_the_number_of_streams_is_limited() -> None:
    application = Application(EventHub(most_streams=2), echo)
    clients = [await EventClient(application, "/").open() for _ in range(3)]
    assert [client.status for client in clients] == [200, 200, 503]
    assert clients[2].headers["retry-after"] == "2"
    await clients[0].leave()
    assert (await EventClient(application, "/").open()).status == 200
    application.hub.close()
    for client in clients[1:]:
        await client.task


async def test_closing_the_hub_ends_all_streams_and_refuses_others() -> None:
    hub = EventHub()
    clients = [await EventClient(Application(hub, echo), "/").open() for _ in range(3)]
    hub.close()
    for client in clients:
        assert await client.next() is None
        await client.task
    late = await EventClient(Application(hub, echo), "/").open()
    assert late.status == 503


async def test_a_stream_that_is_too_slow_is_told_that_it_has_missed_something() -> None:
    hub = EventHub()
    with hub.subscribe("topic") as slow:
        for number in range(MOST_WAITING):
            hub.publish("topic", str(number))
        assert await slow.take(0) == [str(number) for number in range(MOST_WAITING)]
        for number in range(MOST_WAITING + 1):
            hub.publish("topic", str(number))
        assert await slow.take(0) == [None]


async def test_the_wait_for_a_notification_ends_by_the_timeout_and_by_the_end() -> None:
    hub = EventHub()
    with hub.subscribe("topic") as subscription:
        assert await subscription.take(0.001) == []
        waiting = asyncio.create_task(subscription.take(3_600))
        await asyncio.sleep(0)
        hub.close()
        assert await waiting == []
        assert await subscription.take(3_600) == []


def test_an_event_has_its_data_on_one_line() -> None:
    encoded = encode_event("update", {"text": "a\nb\r\u2028"}, "7")
    assert encoded == b'id: 7\nevent: update\ndata: {"text": "a\\nb\\r\\u2028"}\n\n'


async def test_the_end_of_the_service_ends_the_streams(settings: ServiceSettings) -> None:
    application = create_application(settings)
    async with application.router.lifespan_context(application):
        events = await EventClient(application, "/operator/events").open()
        assert events.status == 200
        assert (await events.next()).name == "update"
    assert await events.next() is None
