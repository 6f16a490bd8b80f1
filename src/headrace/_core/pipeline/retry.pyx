"""Requests that have failed for no fault of their own, and are run again, unseen.

Two kinds do: one whose statement the server refuses as stale, outside of transactions and MOST_REPEATS times at most; and
one that a CancelRequest has hit in its target's place. They go ahead of all that was never sent, and are not run again
where something in flight might give them another place: inside a transaction that somebody has begun meanwhile.
"""

from headrace._core.pipeline.batch cimport Batch
from headrace._core.pipeline.group cimport Group
from headrace._core.pipeline.requests cimport ABANDONED, WAITING, Prepare
from headrace._core.pipeline.statement_cache cimport PREPARING, READY

from headrace._core.pipeline.connection_lost import transaction_control

# How often a request is run again because its statement went stale in between: a migration changes tables in a row.
cdef int MOST_REPEATS = 10
# From so many on it is no migration: a pooler hands the session to backends that have never seen the statement.
cdef int MANY_REPEATS = 3

MISSING_HINT = ('This connection had prepared it; either a DEALLOCATE or DISCARD has removed it, or a pooler in front of '
                'the server switches backends between transactions: for that connect with statement_mode="unnamed".')


cdef bint may_bind_again(ExtendedQuery request) except -1:
    """Return whether the server has refused the statement of a request, which then is prepared again."""
    if request.plan is None:
        return False
    if request.plan.name:
        return request.repeated < MOST_REPEATS and request.statement.refused(request.error) \
            or not request.repeated and looks_stale(request)
    return not request.repeated and request.statement.refused_unnamed(request.error, request.stage)


cdef bint looks_stale(ExtendedQuery request) except -1:
    """Return whether the server has refused Bind as it does if a table or type was altered, or dropped and made again.

    RevalidateCachedQuery() in plancache.c analyses the text anew with the parameters' former types. An error of class 42
    shows that they no longer fit, as where a column was text and is jsonb now. record_recv() in rowtypes.c raises 42804 for
    other columns than a composite has; XX000 is what becomes of an OID that is gone. Nothing was executed then, but for
    elements of a batch, which the server has rolled back, and those of a group, which only read.
    """
    cdef str code = getattr(request.error, 'sqlstate', None)
    if code is None:
        return False
    if request.stage == 1 and code[:2] == '42' and code != '42501' and not request.repeated:
        # 42501: privileges are checked in Bind, too.
        return True
    if code not in ('42804', 'XX000'):
        return False
    if request.stage != 1 and not (isinstance(request, (Batch, Group)) and request.stage == 3):
        return False
    return len(request.statement.types.catalogue.made_of(request.statement.oids())) > 0


cdef class Retry:
    """Decides what is run again on one session, and puts it where it belongs."""

    def __cinit__(self, Statements statements not None, SendQueue send_queue not None):
        self.statements = statements
        self.send_queue = send_queue
        self.sent = send_queue.sent
        self.unsent = send_queue.unsent

    cdef bint queue_again(self, Request request, bint idle, object events) except -1:
        """Queue a failed request again if its failure was not its own; returns whether it is.

        `idle`: the server is outside of transactions.
        """
        cdef:
            ExtendedQuery bound
            Statement statement
            # The COMMIT that is queued behind it rolls back, so that it can be asked for again.
            bint is_undone = idle or request.ahead is not None and request.ahead.alone
        if isinstance(request, ExtendedQuery):
            bound = <ExtendedQuery>request
            statement = bound.statement
            if statement.state == READY and bound.plan is not None and bound.plan.name == statement.name:
                # It is the first to find out. The next user of the statement has it prepared again.
                self.note_refusal(bound, statement, is_undone, events)
        if not self.can_retry(request, idle):
            if isinstance(request, ExtendedQuery) and getattr(request.error, 'sqlstate', None) == '26000' \
                    and request.error.hint is None and statement.refused(request.error):
                request.error.hint = MISSING_HINT
            if is_undone and isinstance(request, ExtendedQuery) and (request.not_bound() or not idle) and request.can_encode_again() \
                    and may_bind_again(<ExtendedQuery>request) and not transaction_control(request.query)[0]:
                # It was not begun: where it cannot be run again here, it can elsewhere.
                request.error.safe_to_retry = True
            return False
        if request.may_be_cancelled and request.error.sqlstate == '57014':
            # Run again it is out of that signal's reach.
            request.may_be_cancelled = False
        else:
            request.repeated += 1
        return self.run_again(request)

    cdef int note_refusal(self, ExtendedQuery request, Statement statement, bint idle, object events) except -1:
        """Have a statement that the server no longer accepts prepared before it is used again."""
        if not statement.name:
            if not request.repeated and statement.refused_unnamed(request.error, request.stage):
                self.statements.doubt(statement)
        elif looks_stale(request):
            self.statements.doubt(statement)
        elif not statement.refused(request.error):
            pass
        elif request.error.sqlstate == '26000':
            if not self.statements.unnamed and request.repeated >= MANY_REPEATS and idle:
                # Prepared a moment ago under a name that is unique, and gone.
                self.statements.use_no_names()
                events.backends_switched()
            if self.statements.unnamed:
                statement.forget_name()
            else:
                statement.rename()
        else:
            self.statements.close_name(statement)
            if request.repeated >= MANY_REPEATS:
                # Prepared anew it is refused again: a pooler takes the old one for it, which has the same text.
                statement.forget_name()
        return 0

    cdef bint can_retry(self, Request request, bint idle) except -1:
        """Return whether a request has failed for a reason that is not its own, and can be run again."""
        if request.state == ABANDONED or not idle or request.ahead is not None:
            return False
        if getattr(request.error, 'sqlstate', None) == '57014':
            return request.may_be_cancelled and request.repeatable()
        return isinstance(request, ExtendedQuery) and request.rebindable() and may_bind_again(<ExtendedQuery>request) \
            and self.may_go_behind()

    cdef bint may_go_behind(self) except -1:
        """Return whether a request may run behind all that is in flight, and not inside a transaction that begins there."""
        cdef Request follower = self.sent.first
        while follower is not None:
            if not follower.session_safe():
                return False
            follower = follower.next
        return True

    cdef bint run_again(self, Request request) except -1:
        """Queue a request again, ahead of all that was never sent; returns False if its arguments are bad by now."""
        cdef Statement statement
        request.error = None
        request.state = WAITING
        if isinstance(request, Prepare):
            # The server may have kept what it parsed.
            statement = request.prepares
            if request.stage > 0:
                self.statements.close_name(statement)
            else:
                statement.rename()
            statement.state = PREPARING
        elif isinstance(request, ExtendedQuery):
            statement = (<ExtendedQuery>request).statement
            if statement.state != READY:
                self.statements.park(<ExtendedQuery>request)
                if not (<ExtendedQuery>request).shared:
                    self.unsent.put_back(request)
                self.statements.hurry(statement)
                return True
        request.stage = 0
        try:
            self.send_queue.encode(request)
        except Exception as raised:
            request.error = raised
            return False
        if request.prepares is not None:
            self.unsent.push_front(request)
        else:
            self.unsent.put_back(request)
        return True
