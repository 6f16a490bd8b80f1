# Requests in order.

from headrace._core.pipeline.requests cimport Request


cdef class Queue:
    cdef:
        Request first
        Request last
        Request again                        # the last of those put back
        readonly Py_ssize_t count
        Py_ssize_t limit                     # of the queue in flight: the most requests that it may have
        readonly Py_ssize_t total            # entered for the first time, ever

    cdef int append(self, Request request) except -1
    cdef int push_front(self, Request request) except -1
    cdef int enter(self, Request request) except -1
    cdef int put_back(self, Request request) except -1
    cdef int insert_before(self, Request request, Request place) except -1
    cdef int insert_after(self, Request request, Request place) except -1
    cdef int remove(self, Request request) except -1
    cdef Request pop(self)
    cdef int skip_done(self) except -1
