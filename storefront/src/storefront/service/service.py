"""The objects that all requests of a process share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeAlias

from fastapi import Depends, Request

from storefront.batch import Strategy, choose_strategy
from storefront.database import AnyPool, Database
from storefront.jobs import PROGRESS_CHANNEL
from storefront.service.activity import ActivityLog, Sampler, Throughput
from storefront.service.events import ACTIVITY_CHANNEL, EventHub
from storefront.service.limits import Limits
from storefront.service.metrics import Metrics
from storefront.service.partner_cache import PartnerCache
from storefront.service.running import RunningStreams
from storefront.service.settings import ServiceSettings

log = logging.getLogger(__name__)

RESTART_PAUSE: Final = 1.0
"""How long a part of the service that runs in the background pauses after an error."""

STRATEGY_SECONDS: Final = 60.0
"""How long the choice of a strategy is kept."""

Background: TypeAlias = Callable[["Service"], Awaitable[None]]
"""A part of the service that runs in the background until it is cancelled."""


class Service:
    """One process of the service, found by requests as `application.state.service`."""

    def __init__(self, settings: ServiceSettings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.pool = pool = database.primary
        """Everything that partners and jobs need is read and written at the primary."""
        self.draining = False
        """True from SIGTERM on: running answers are finished, and new requests are refused."""
        self.running_batches = RunningStreams()
        self.partners = PartnerCache(pool, settings.key_cache)
        self.limits = Limits(pool, settings.lease_seconds)
        self.metrics = Metrics(database, self.running_batches)
        self._strategy: tuple[float, Strategy] | None = None
        self.activity = ActivityLog()
        self.throughput = Throughput()
        self.sampler = Sampler(self.metrics, database, self.running_batches, self.throughput)
        self.events = EventHub()
        self.events.observe(ACTIVITY_CHANNEL, self.activity.add)
        self.events.observe(PROGRESS_CHANNEL, self.activity.add_progress)
        self.background: list[Background] = []
        """The parts that run in the background. They are started after the pool was opened."""

    @property
    def reads(self) -> AnyPool:
        """The pool to read the catalogue from: the replicas, if there are any."""
        return self.database.reads

    async def strategy(self) -> Strategy:
        """Return the strategy of batches, which is chosen anew each minute."""
        now = time.monotonic()
        if self._strategy is None or now >= self._strategy[0]:
            self._strategy = (now + STRATEGY_SECONDS, await choose_strategy(self.reads))
        return self._strategy[1]

    async def keep_running(self, part: Background) -> None:
        """Run a part of the service, and run it again after an error."""
        while True:
            try:
                await part(self)
                return
            except Exception as error:
                log.warning("%s has failed and is started again: %s: %s", part.__name__, type(error).__name__, error)
            await asyncio.sleep(RESTART_PAUSE)


async def follow_catalogue(service: Service) -> None:
    """See the changes of the catalogue that commands tell of, also where replicas answer."""
    await service.database.follow()


async def get_service(request: Request) -> Service:
    """Return the service that a request is for. FastAPI would call a plain function in a thread."""
    service: Service = request.app.state.service
    return service


ServiceDependency = Annotated[Service, Depends(get_service)]
