"""A pool of connections."""

from headrace.pool.lease import PoolAcquireContext, PoolConnectionProxy
from headrace.pool.pool import Pool, create_pool

__all__ = ["Pool", "PoolAcquireContext", "PoolConnectionProxy", "create_pool"]
