"""Server-sent events for browsers: one connection that listens to the database, and a stream for each open page.

The hub listens by `pool.listen()` for the whole process and passes notifications on to the streams of their topic. A
stream that is slower than the notifications loses the oldest, and is told to look again. A stream ends when the browser
goes away, when its generator ends, or when the hub is closed. It holds no connection of the pool.

The format is that of the HTML standard, section "Server-sent events".
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

import headrace
from storefront.jobs import PROGRESS_CHANNEL
from storefront.service.head import send_headers_only, wants_headers_only
from storefront.service.problems import unavailable

ACTIVITY_CHANNEL: Final = "storefront_activity"
"""The channel on which each process of the service tells what it is doing."""

Listened: TypeAlias = headrace.Pool | headrace.Cluster
"""A pool, or a cluster, whose listen() follows the primary."""

MOST_STREAMS: Final = 200
"""The number of streams that a process has open at once."""

MOST_WAITING: Final = 64
"""The number of notifications that wait for a slow stream."""

HEARTBEAT: Final = 4.0
"""Seconds of silence after which a comment is sent. Proxies close silent connections, and sessions are checked then."""

RETRY: Final = 3_000
"""Milliseconds after which a browser that was disconnected connects again."""

COMMENT: Final = b": still here\n\n"
"""A heartbeat. Browsers ignore it."""


def encode_event(name: str, data: Mapping[str, object], event_id: str | None = None) -> bytes:
    """Return an event with JSON as its data, which has no line breaks."""
    lines = [f"event: {name}", f"data: {json.dumps(data)}"]
    if event_id is not None:
        lines.insert(0, f"id: {event_id}")
    return ("\n".join(lines) + "\n\n").encode()


class TooManyStreamsError(Exception):
    """The process has as many streams open as it may have."""


class Subscription:
    """The notifications of one topic, for one stream. It is a context manager that ends the subscription."""

    def __init__(self, hub: EventHub, topic: str) -> None:
        self.topic = topic
        self._hub = hub
        self._waiting: deque[str | None] = deque()
        self._arrived = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hub.unsubscribe(self)

    @property
    def is_closed(self) -> bool:
        """True if the hub was closed. No notification will follow."""
        return self._hub.is_closed

    def put(self, payload: str | None) -> None:
        """Add a notification. None means that some were missed."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.clear()
            payload = None
        self._waiting.append(payload)
        self._arrived.set()

    def wake(self) -> None:
        """End a wait without a notification."""
        self._arrived.set()

    async def take(self, timeout: float) -> list[str | None]:
        """Wait for notifications, at most `timeout` seconds. Return all that have arrived; None stands for missed ones.

        The list is empty after the timeout and when the hub was closed.
        """
        if not self._waiting and not self.is_closed:
            self._arrived.clear()
            # Not wait_for(): before Python 3.12 it may swallow a cancellation, and the stream would never end.
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._arrived.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class EventHub:
    """Passes the notifications of the database on to the streams of a process."""

    def __init__(self, *, most_streams: int = MOST_STREAMS, heartbeat: float = HEARTBEAT) -> None:
        self.heartbeat = heartbeat
        self.is_closed = False
        self._most_streams = most_streams
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._observers: dict[str, Callable[[str], None]] = {}

    def __len__(self) -> int:
        """Return the number of open streams."""
        return sum(map(len, self._subscriptions.values()))

    def observe(self, topic: str, observer: Callable[[str], None]) -> None:
        """Call a function with each notification of a topic, before the streams get it.

        The topic PROGRESS_CHANNEL stands for the progress of all jobs.
        """
        self._observers[topic] = observer

    def subscribe(self, topic: str) -> Subscription:
        """Return a subscription. Raises TooManyStreamsError if there are too many, or if the hub was closed."""
        if self.is_closed or len(self) >= self._most_streams:
            raise TooManyStreamsError
        subscription = Subscription(self, topic)
        self._subscriptions.setdefault(topic, set()).add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription. Doing so again does no harm."""
        others = self._subscriptions.get(subscription.topic, set())
        others.discard(subscription)
        if not others:
            self._subscriptions.pop(subscription.topic, None)

    def publish(self, topic: str, payload: str) -> None:
        """Pass a notification on to the streams of its topic."""
        if observer := self._observers.get(topic):
            observer(payload)
        for subscription in self._subscriptions.get(topic, ()):
            subscription.put(payload)

    def close(self) -> None:
        """End all streams, and refuse others."""
        self.is_closed = True
        for subscription in self._all():
            subscription.wake()

    async def listen(self, pool: Listened) -> None:
        """Listen to the database until the task is cancelled. Raises the driver's errors if it cannot begin.

        After a lost connection, which is replaced, every stream is told to look again.
        """
        async with pool.listen(PROGRESS_CHANNEL, ACTIVITY_CHANNEL) as events:
            self._look_again()
            async for event in events:
                if isinstance(event, headrace.Gap):
                    self._look_again()
                elif event.channel == ACTIVITY_CHANNEL:
                    self.publish(ACTIVITY_CHANNEL, event.payload)
                elif (topic := _job_topic_of(event.payload)) is not None:
                    if observer := self._observers.get(PROGRESS_CHANNEL):
                        observer(event.payload)
                    self.publish(topic, event.payload)

    def _look_again(self) -> None:
        for subscription in self._all():
            subscription.put(None)

    def _all(self) -> list[Subscription]:
        return [each for topic in self._subscriptions.values() for each in topic]


class PagesOfService(Protocol):
    """The part of a service that listens for its pages."""

    @property
    def pool(self) -> Listened:
        """It is listened to."""

    events: EventHub


async def listen_for_pages(service: PagesOfService) -> None:
    """Pass the notifications of the database on to the pages of a process, until the task is cancelled."""
    await service.events.listen(service.pool)


def job_topic(job_id: object) -> str:
    """Return the topic of a job's progress."""
    return f"job {job_id}"


def _job_topic_of(payload: str) -> str | None:
    # Anybody who may connect to the database can send a notification.
    try:
        return job_topic(json.loads(payload)["job_id"])
    except (ValueError, KeyError, TypeError):
        return None


class EventStream(Response):
    """A response that is a stream of events, for as long as the browser stays.

    `produce` is called with the subscription and yields encoded events. It is closed as soon as the browser goes away.
    If there are too many streams, the response is a problem with status 503 instead.
    """

    media_type = "text/event-stream"

    def __init__(self, hub: EventHub, topic: str, produce: Callable[[Subscription], AsyncIterator[bytes]]) -> None:
        # Proxies must neither keep the events back nor keep them.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["Content-Length"]
        self._hub = hub
        self._topic = topic
        self._produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the generator ends or the browser goes away."""
        if wants_headers_only(scope):
            await send_headers_only(send, self.status_code, self.raw_headers)
            return
        try:
            subscription = self._hub.subscribe(self._topic)
        except TooManyStreamsError:
            await unavailable("too many pages are open that show progress").response()(scope, receive, send)
            return
        with subscription:
            sending = asyncio.create_task(self._send_events(send, subscription))
            leaving = asyncio.create_task(_wait_for_disconnect(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                leaving.cancel()
                results = await asyncio.gather(sending, leaving, return_exceptions=True)
        # A browser that went away is no error.
        error = results[0]
        if isinstance(error, Exception) and not isinstance(error, OSError):
            raise error

    async def _send_events(self, send: Send, subscription: Subscription) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _send_piece(send, f"retry: {RETRY}\n\n".encode())
        events = self._produce(subscription)
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                await _send_piece(send, event)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
