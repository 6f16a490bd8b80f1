"""Cancellation: what may be cancelled, when a CancelRequest is sent, and what follows from it.

All of the policy is in this module, and all of its state but the two marks that the send queue looks at. The driver
carries it out: it runs one timer and sends the CancelRequests.

A request that was not sent is dropped. A request that was sent is abandoned: its reply is passed over when it comes. If
the server works on it, a CancelRequest is sent on a connection of its own.

A CancelRequest names a backend, not a query: it hits whatever the backend works on when the signal arrives. The cancel
window opens with the decision to send one at the head of what is in flight. It closes once both its delivery and the
head's ReadyForQuery are known. Nothing is written meanwhile, so a signal that comes late can hit only what was in flight
already: the requests marked `may_be_cancelled`. If one of these gets a 57014 it is run again, and its caller never learns
of it (retry). So each of them must be a plain read, or there is no CancelRequest: a write that has failed with 57014 may
have taken effect all the same, on the remote server of a foreign table or in a function that commits elsewhere.

Requests that are written after the window cannot be hit: the signal was raised before, and a backend drops a cancel that
it finds while it reads its next command. But a request that is run again runs behind them. So nothing that begins a
transaction or changes the session is written until the last of the requests that may be cancelled has its reply.

Some abandoned heads must not be signalled at once, and others come to the head after they were abandoned. The timer is set
for these, and for every window:

    an abandoned head               ABANDONED_GRACE   it is signalled if nothing stands in the way
    an abandoned head, no key       CANCEL_TIMEOUT    the connection is closed
    a window that is open           CANCEL_TIMEOUT    the connection is closed

Source: PostgreSQL documentation, "Canceling Requests in Progress" (protocol-flow-canceling);
src/backend/tcop/postgres.c, ProcessInterrupts and DoingCommandRead.
"""

cimport cython

from headrace._core.pipeline.requests cimport ABANDONED, DONE, QUEUED, UNCANCELLABLE, ExtendedQuery, Query
from headrace._core.pipeline.statement_cache cimport Statement

from headrace.exceptions import ConnectionDoesNotExistError, FeatureNotSupportedError, InterfaceError

# Seconds until a cancellation whose delivery or effect is still uncertain closes the connection.
CANCEL_TIMEOUT = 5.0
# Seconds until another CancelRequest follows one that had no effect; twice as long before each further one.
CANCEL_PAUSE = 0.02
# Seconds an abandoned request may go on at the head before it is cancelled on the server.
ABANDONED_GRACE = 0.1


@cython.final
cdef class Cancellation:
    """The cancellations on one session.

    `events` is told when the window has closed, and when to call time_is_up().
    """

    def __cinit__(self, SendQueue send_queue not None, Statements statements not None):
        self.send_queue = send_queue
        self.sent = send_queue.sent
        self.statements = statements

    # -- asked by the driver -----------------------------------------------------------------------------------------

    cpdef CancelAction give_up(self, Request request) except *:
        """Cancel a request whose caller no longer waits, without disturbing any other.

        Returns DROPPED, DRAINED, or SIGNAL if the server works on it and nothing stands in the way.
        """
        cdef Request head = self.sent.first
        if request.state == DONE:
            return DRAINED
        if request.state <= QUEUED:
            if request.traits & UNCANCELLABLE:
                return DRAINED
            self.drop(request)
            return DROPPED
        request.state = ABANDONED
        if self.send_queue.streaming is request:
            self.send_queue.end_stream(InterfaceError('the caller has given up'))
        elif self.send_queue.withdraw(request):
            # More is done only if it stays at the head for a while.
            self.head_abandoned()
            return DRAINED
        # The head may have been abandoned before. Then this may have been the last request that stood in the way.
        return self.aim(head) if request is head or head.state == ABANDONED else DRAINED

    cdef bint take_back(self, Request request) except -1:
        """Take back a request that was not sent, for another connection to do; returns whether it was here."""
        cdef list waiting
        if request.state > QUEUED:
            return False
        self.statements.search_path.withdrawn(request)
        if request.prepares is not None and isinstance(request, Query) and (<Query>request).first is not None:
            self.statements.take_off(<Query>request)
        if isinstance(request, ExtendedQuery) and (<ExtendedQuery>request).statement is not None:
            waiting = (<ExtendedQuery>request).statement.waiting
            if request in waiting:
                waiting.remove(request)
                if (<ExtendedQuery>request).shared:
                    self.statements.parked -= 1
        self.send_queue.unsent.remove(request)
        return True

    def interrupt(self) -> CancelAction:
        """Cancel the request that the server works on, for a connection that is being closed.

        The caller gets the server's QueryCanceledError.
        """
        cdef Request head = self.sent.first
        if head is None or head.traits & UNCANCELLABLE or self.is_open or self.key is None:
            return DRAINED
        if self.send_queue.streaming is head:
            self.send_queue.end_stream(InterfaceError('the connection is being closed'))
        else:
            self.send_queue.withdraw(head)
        self.open(head)
        return SIGNAL

    def time_is_up(self) -> CancelAction:
        """The timer that set_cancel_timer() has asked for has run out."""
        cdef Request head = self.sent.first
        cdef bint is_endured = head is not None and head is self.endured
        self.timer_runs = False
        self.endured = None
        if self.is_open:
            self.overdue = ConnectionDoesNotExistError(
                f'the server did not answer a CancelRequest within {CANCEL_TIMEOUT:g} seconds')
            return FAIL
        if head is None or head.state != ABANDONED:
            return DRAINED
        if is_endured:
            self.overdue = FeatureNotSupportedError(
                'the server gave no key to cancel queries with (BackendKeyData), and a query that nobody waits for went '
                f'on for {CANCEL_TIMEOUT:g} seconds')
            return FAIL
        return self.aim(head)

    def delivered(self) -> None:
        """The server has closed the connection that carried a CancelRequest, which so has done all that it will do."""
        if self.is_open:
            self.was_delivered = True
            if self.target is None:
                self.close()

    def is_followed(self, double pause, bint connected) -> bool:
        """Return whether another CancelRequest may follow in `pause` seconds, now that one was delivered.

        A CancelRequest may come too early: a backend that has not begun with its query passes it over. After the
        connection was closed nobody can tell any more, and a few are sent all the same.
        """
        return self.is_open if connected else pause <= 16 * CANCEL_PAUSE

    def repeat(self, Request target not None) -> bool:
        """Return whether to send another CancelRequest now, because the target goes on; the window stays open for it."""
        if self.target is not target:
            return False
        self.was_delivered = False
        return True

    # -- told by the session -----------------------------------------------------------------------------------------

    cdef int head_answered(self, Request head) except -1:
        """ReadyForQuery came for the head."""
        if self.target is head:
            self.target = None
            if self.was_delivered:
                self.close()
        return 0

    cdef int next_head(self) except -1:
        """The server begins with the next request."""
        if self.sent.first is not None and self.sent.first.state == ABANDONED and not self.is_open:
            self.head_abandoned()
        return 0

    cdef int connection_lost(self) except -1:
        """The connection is gone."""
        self.target = self.endured = self.send_queue.last_may_be_cancelled = None
        self.is_open = self.send_queue.held = False
        return 0

    # -- decided -----------------------------------------------------------------------------------------------------

    cdef int drop(self, Request request) except -1:
        """Forget a request that was not sent, and the preparation that it alone was waiting for."""
        cdef:
            Statement statement
            Request head = self.sent.first
        request.state = DONE
        request.message = None
        request.forget_deadline()
        request.release()
        if isinstance(request, ExtendedQuery):
            statement = (<ExtendedQuery>request).statement
            if statement is not None:
                self.statements.dropped(<ExtendedQuery>request)
            if statement is not None and head is not None and head is statement.prepare and head.state == ABANDONED:
                self.head_abandoned()
        self.statements.find_waiting()
        return 0

    cdef int head_abandoned(self) except -1:
        """The server works on a request that nobody waits for: act on it unless it ends soon by itself."""
        if self.timer_runs or self.is_open:
            # It is looked at again when the window closes.
            return 0
        self.timer_runs = True
        if self.key is None:
            self.endured = self.sent.first
        self.events.set_cancel_timer(ABANDONED_GRACE if self.key is not None else CANCEL_TIMEOUT)
        return 0

    cdef CancelAction aim(self, Request head) except *:
        """Open the window for an abandoned request that the server works on, unless a signal could do harm."""
        if self.key is None:
            self.head_abandoned()
            return DRAINED
        if self.is_open or head.traits & UNCANCELLABLE or not self.can_signal(head):
            return DRAINED
        self.open(head)
        return SIGNAL

    cdef bint can_signal(self, Request head) except -1:
        """Return whether a signal that misses the head does no harm; marks the requests that it may hit then."""
        cdef:
            Request follower = head.next
            bint all_abandoned = True
        while follower is not None:
            all_abandoned = all_abandoned and follower.state == ABANDONED and not follower.traits & UNCANCELLABLE
            follower = follower.next
        if all_abandoned:
            return True
        # Somebody waits for a reply behind it. All of that must be such that it can be run again unseen. It cannot be
        # inside a transaction block, and the head must not open one.
        if not self.send_queue.idle or not head.session_safe():
            return False
        follower = head.next
        while follower is not None:
            if not follower.repeatable():
                return False
            follower = follower.next
        follower = head.next
        while follower is not None:
            follower.may_be_cancelled = True
            self.send_queue.last_may_be_cancelled = follower
            follower = follower.next
        return True

    cdef int open(self, Request head) except -1:
        self.target = head
        self.was_delivered = False
        self.is_open = self.send_queue.held = True
        self.timer_runs = True
        self.endured = None
        self.events.set_cancel_timer(CANCEL_TIMEOUT)
        return 0

    cdef int close(self) except -1:
        """The CancelRequest can hit nothing any more: go on writing."""
        self.is_open = self.send_queue.held = self.timer_runs = False
        self.events.set_cancel_timer(0)
        self.events.writable()
        return self.next_head()
