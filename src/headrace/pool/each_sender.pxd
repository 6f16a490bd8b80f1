# The requests of an iteration on the connections of a pool.

from headrace._io.each_sender cimport EachSender
from headrace.pool.dispatcher cimport Dispatcher, QueryProfile


cdef class PoolSender(EachSender):
    cdef:
        Dispatcher dispatcher
        QueryProfile profile
