"""The cancel window: whether a CancelRequest may be sent, and when it is certain to have done all it will do.

A CancelRequest names a backend, not a query: it hits whatever the backend works on when the signal arrives. The window
opens with the decision to send one at the head of what is in flight, and closes once both its delivery and the head's
ReadyForQuery are known. Nothing is written meanwhile, so a signal that comes late can hit only what was in flight
already: the requests marked `may_be_cancelled`. One of these that gets a 57014 is run again by the session, and its caller never
learns of it. So each of them must be a plain read, or there is no CancelRequest: a write that has failed with 57014 may
have taken effect all the same, on the remote server of a foreign table or in a function that commits elsewhere. What is written after the window cannot be hit: the signal was raised before, and a backend drops a cancel
that it finds while it reads its next command. But what is run again runs behind it, so nothing that begins a transaction
or changes the session is written until the last of the may_be_cancelled has its reply.

Source: PostgreSQL documentation, "Canceling Requests in Progress" (protocol-flow-canceling);
src/backend/tcop/postgres.c, ProcessInterrupts and DoingCommandRead.
"""

cimport cython


@cython.final
cdef class CancelWindow:
    """Whether a CancelRequest is under way, and at what it was aimed."""

    cdef bint aim(self, Request head, bint idle) except -1:
        """Open the window for an abandoned request that the server works on, unless a signal could do harm.

        `idle`: no transaction block is open. Returns whether a CancelRequest is to be sent.
        """
        cdef:
            Request follower = head.next
            bint all_abandoned = True
        if self.is_open or head.cancelled or head.uncancellable:
            return False
        while follower is not None:
            all_abandoned = all_abandoned and follower.abandoned and not follower.uncancellable
            follower = follower.next
        if not all_abandoned:
            # Somebody waits for a reply behind it. All of that must be such that it can be run again unseen. It cannot
            # be inside a transaction block, and the head must not open one.
            if not idle or not head.session_safe():
                return False
            follower = head.next
            while follower is not None:
                if not follower.repeatable():
                    return False
                follower = follower.next
            follower = head.next
            while follower is not None:
                follower.may_be_cancelled = True
                self.last_may_be_cancelled = follower
                follower = follower.next
        self.open(head)
        return True

    cdef int open(self, Request head) except -1:
        head.cancelled = True
        self.target = head
        self.delivered = False
        self.is_open = True
        return 0

    cdef bint answered(self, Request head) except -1:
        """ReadyForQuery came for `head`; returns whether this closes the window."""
        if self.target is not head:
            return False
        self.target = None
        if self.delivered:
            self.is_open = False
        return not self.is_open

    cdef bint was_delivered(self) except -1:
        """The server has closed the connection that carried the CancelRequest; returns whether this closes the window."""
        self.delivered = True
        if self.target is None:
            self.is_open = False
        return not self.is_open

    cdef bint reopen(self, Request target) except -1:
        """Make ready for another CancelRequest where the one delivered had no effect: the target goes on."""
        if self.target is not target:
            return False
        self.delivered = False
        return True

    cdef int close(self) except -1:
        """The connection is gone."""
        self.target = self.last_may_be_cancelled = None
        self.is_open = False
        return 0
