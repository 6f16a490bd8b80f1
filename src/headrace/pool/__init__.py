"""A pool of connections."""

from headrace.pool.lease import PoolAcquireContext, PoolConnectionProxy
from headrace.pool.listening import Gap, Listening, Notification
from headrace.pool.pool import Pool, create_pool

__all__ = ["Gap", "Listening", "Notification", "Pool", "PoolAcquireContext", "PoolConnectionProxy", "create_pool"]
