"""A pool of connections."""

from headrace.pool.notifications import Gap, Listening, Notification
from headrace.pool.pool import Pool, create_pool
from headrace.pool.proxy import PoolAcquireContext, PoolConnectionProxy, PoolConnectionProxyMeta
from headrace.pool.stats import Histogram, PoolStats

__all__ = [
    "Gap",
    "Histogram",
    "Listening",
    "Notification",
    "Pool",
    "PoolAcquireContext",
    "PoolConnectionProxy",
    "PoolConnectionProxyMeta",
    "PoolStats",
    "create_pool",
]
