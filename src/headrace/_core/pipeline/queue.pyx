"""Requests in order, linked through their `next`: those not sent yet, and those whose replies are due."""

cimport cython

from headrace._core.pipeline.requests cimport DONE, Request


# Freed in a loop, from the front: were it left to the requests, each would free the next from within its own
# deallocation, and a long queue that is dropped whole would overflow the C stack. For the same reason the cyclic
# garbage collector must not cut the chain at a place of its own choice.
@cython.final
@cython.no_gc_clear
cdef class Queue:
    """A first-in, first-out queue of requests; a request is in one queue at most."""

    def __dealloc__(self):
        while self.first is not None:
            self.pop()

    def __iter__(self):
        cdef Request request = self.first
        while request is not None:
            yield request
            request = request.next

    cdef int append(self, Request request) except -1:
        if self.last is None:
            self.first = request
        else:
            self.last.next = request
        self.last = request
        return self.enter(request)

    cdef int push_front(self, Request request) except -1:
        request.next = self.first
        self.first = request
        if self.last is None:
            self.last = request
        return self.enter(request)

    cdef int enter(self, Request request) except -1:
        """Count a request; among all that were ever queued it counts once, however often it is run again."""
        self.count += 1
        if not request.counted:
            request.counted = True
            self.total += 1
        return 0

    cdef int put_back(self, Request request) except -1:
        """Queue a request a second time: ahead of all others, but behind those put back before it."""
        if self.again is None:
            self.push_front(request)
        else:
            self.insert_after(request, self.again)
        self.again = request
        return 0

    cdef int insert_after(self, Request request, Request place) except -1:
        request.next = place.next
        place.next = request
        if self.last is place:
            self.last = request
        return self.enter(request)

    cdef int insert_before(self, Request request, Request place) except -1:
        """Queue a request right before `place`, or at the end if that is not in the queue."""
        cdef Request ahead = self.first
        if ahead is place:
            return self.push_front(request)
        while ahead is not None and ahead.next is not place:
            ahead = ahead.next
        if ahead is None:
            return self.append(request)
        return self.insert_after(request, ahead)

    cdef int remove(self, Request request) except -1:
        """Take a request out of the queue, at any position; nothing happens if it is not in it."""
        cdef Request ahead = self.first
        if ahead is request:
            self.pop()
            return 0
        while ahead is not None and ahead.next is not request:
            ahead = ahead.next
        if ahead is None:
            return 0
        ahead.next = request.next
        request.next = None
        if self.last is request:
            self.last = ahead
        if self.again is request:
            self.again = ahead
        self.count -= 1
        return 0

    cdef Request pop(self):
        """Take the first request out of the queue, which must not be empty."""
        cdef Request request = self.first
        self.first = request.next
        request.next = None
        if self.first is None:
            self.last = None
        if self.again is request:
            self.again = None
        self.count -= 1
        return request

    cdef int skip_done(self) except -1:
        """Take out the requests at the front that were dropped while they stood in the queue."""
        while self.first is not None and self.first.state == DONE:
            self.pop()
        return 0
