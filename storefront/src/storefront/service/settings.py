"""The settings of the service."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from storefront.database import POOL_SIZE
from storefront.jobs import JobLimits


@dataclass(frozen=True)
class ServiceSettings:
    """The settings of one process of the service. Times are in seconds, sizes in bytes."""

    dsn: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    pool_size: int = POOL_SIZE
    operator_token: str | None = field(default=None, repr=False)
    """The token for the operator's pages and /metrics. Without one they answer requests from the same machine alone."""
    cookie_secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """Signs cookies. Several processes need the same."""
    proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    workers: int = 1
    """The number of workers for jobs in this process."""
    job_limits: JobLimits = field(default_factory=JobLimits)
    """The limits of each partner's jobs, and how long results are kept."""
    grace: float = 30.0
    """How long running answers may take to end after SIGTERM or SIGINT."""
    body_limit: int = 8 * 2**20
    """The largest body of a request, before and after it is decompressed."""
    header_timeout: float = 10.0
    """How long a client may take to send the headers of a request."""
    body_timeout: float = 20.0
    """How long a client may take to send a body, in addition to the time at `body_rate`."""
    body_rate: float = 16 * 2**10
    """The number of bytes a second that a client has to send at least."""
    send_timeout: float = 60.0
    """How long a client may read nothing of an answer that waits for it."""
    farewell: float = 2.0
    """How long a client may take to read why its answer has failed."""
    query_timeout: float = 5.0
    """How long a query may take, the wait for a connection included."""
    key_cache: float = 2.0
    """How long a key that was found valid is believed. A revocation is noticed earlier by its notification."""
    poll_interval: float = 2.0
    """How often the keys of running answers are checked, in case a notification was missed."""
    lease_seconds: float = 20.0
    """How long a batch counts for its partner after the last renewal, which is done at a quarter of this."""
