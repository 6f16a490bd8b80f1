"""The commands of transactions that are put off, the note of the block that they belong to, and the transaction status.

BEGIN, SAVEPOINT and RELEASE wait in the send queue until a request is queued behind them, and travel with that one
(send_queue, Ahead). A command whose counterpart comes before that is dropped.

From the call of begin() on a block counts as open. If it turns out that the server has none, because it has refused BEGIN or
because a statement has ended the block, no request of the block is sent any more: it would run outside of transactions.

Source: PostgreSQL documentation, "Pipelining" (protocol-flow-pipelining).
"""

cimport cython

from headrace._core.pipeline.connection_lost cimport text_of
from headrace._core.pipeline.queue cimport Queue
from headrace._core.pipeline.requests cimport ABANDONED, DONE, OWN, PUT_OFF, QUEUED, WAITING, ExtendedQuery, Request, SimpleQuery

from headrace._core.pipeline.connection_lost import transaction_control
from headrace.exceptions import InFailedSQLTransactionError, NoActiveSQLTransactionError, ProtocolError
from headrace._sql.classify import classify

LOST_HINT = 'A pooler may have switched to another backend. Behind a pooler, connect with statement_mode="unnamed".'


@cython.final
cdef class Block:
    """The note of a transaction block, from the call that begins it until the request that ends it is queued."""

    def has_begun(self) -> None:
        """BEGIN was executed."""
        self.is_begun = True
        self.end = None

    def ends_with(self, Request request not None) -> None:
        """Note the COMMIT of the block: it fails if BEGIN is refused."""
        if not self.is_begun:
            self.end = request

    cdef object error(self, bint is_told=True):
        """Return the error for one of its requests: the server has no such block. `is_told`: somebody gets it."""
        cdef object error
        if not self.is_refused:
            error = NoActiveSQLTransactionError(
                f'the transaction was no longer open on the server after {self.failure!r}: nothing else of it is executed',
                hint=LOST_HINT)
            return error
        if not self.is_known:
            self.is_known = is_told
            return self.failure
        error = InFailedSQLTransactionError(
            f'the transaction could not begin, so nothing of it is executed: {text_of(self.failure)}')
        error.__cause__ = self.failure
        return error


@cython.final
cdef class Commands:
    """The commands of one session that are put off, the note of its open block, and what the server says of that."""

    def __cinit__(self, SendQueue send_queue not None, Statements statements not None):
        self.send_queue = send_queue
        self.statements = statements

    # -- what transactions ask for -----------------------------------------------------------------------------------

    def begin(self, str query not None, observer=None, bint alone=False):
        """Put a BEGIN off; the block counts as open. Returns the command.

        With `alone` the block is one request. The caller queues it next, then ends the block and queues its COMMIT, and
        all of that may travel at once: if the request fails, so does the transaction, and COMMIT rolls it back.

        `observer.sent()` is told that it is sent, and `observer.shared()` of its end, or `observer.skipped()`.
        """
        cdef Block block = self.begin_block()
        block.command = self.queue(query, block, observer)
        block.command.alone = alone
        return block.command

    def begun(self) -> None:
        """Note that a BEGIN that was not put off has succeeded."""
        self.begin_block().is_begun = True

    def put_off(self, str query not None, observer=None):
        """Put a SAVEPOINT or RELEASE off; returns the command. Raises if the server has no block."""
        self.check()
        return self.queue(query, None, observer)

    def take_back(self, Command command not None) -> bool:
        """Drop a command, and those behind it, if no request was queued behind it; returns whether it is dropped."""
        if not self.is_last(command):
            return False
        self.send_queue.take_back(command)
        return True

    def is_droppable(self, Command command not None, Request commit not None) -> bool:
        """Return whether neither a BEGIN nor the COMMIT of its block was sent, and nothing was queued behind them."""
        return command.state == WAITING and self.send_queue.unsent.last is commit

    def drop_unsent(self) -> None:
        """Drop all commands that no request was queued behind."""
        self.send_queue.take_back(self.send_queue.first_put_off())

    def end_block(self):
        """Note that nothing is queued in the block from here on; returns the block, None if there is none."""
        cdef Block block = self.block
        self.block = None
        return block

    def forget_block(self) -> bool:
        """The block is rolled back by what is queued from here on; returns whether its BEGIN had not been sent."""
        cdef bint unsent = self.is_unsent
        self.drop_unsent()
        self.end_block()
        return unsent

    def refusal(self):
        """Return the error for the COMMIT of a block whose BEGIN was refused; None if it was not."""
        return self.block.error() if self.block is not None and self.block.is_refused else None

    @property
    def is_open(self) -> bool:
        """Return whether a block was begun, and the server is not known to have none."""
        return self.block is not None and self.block.failure is None

    @property
    def is_unsent(self) -> bool:
        """Return whether a block was begun whose BEGIN no request was queued behind."""
        return self.block is not None and self.block.command is not None and self.block.command.state == WAITING \
            and self.is_last(self.block.command)

    @property
    def is_refused(self) -> bool:
        """Return whether the server has refused the BEGIN of the open block."""
        return self.block is not None and self.block.is_refused

    @property
    def is_over(self) -> bool:
        """Return whether a block was begun that the server does not have (any more)."""
        return self.block is not None and self.block.failure is not None

    @property
    def status(self) -> str:
        """The transaction status of the last ReadyForQuery: I idle, T in a transaction, E in a failed one; '' before."""
        return chr(self.status_byte) if self.status_byte else ''

    def is_idle_behind(self) -> bool:
        """Return whether no transaction will be open behind all that is queued, as far as the texts of it tell."""
        cdef:
            bint idle = self.send_queue.idle
            Queue queue
            Request request
        if self.block is not None:
            return False
        for queue in (self.send_queue.sent, self.send_queue.unsent):
            request = queue.first
            while request is not None:
                # A BEGIN that was put off has its COMMIT behind it, or the block would be open.
                if request.state != DONE and not request.traits & PUT_OFF:
                    is_open = transaction_control(request.query)[3]
                    if is_open or is_open is not None and classify(request.query).statements != 1:
                        # If one of several statements fails, those behind it are not executed.
                        return False
                    idle = idle or is_open is not None
                request = request.next
        return idle

    # -- what the session and the driver ask --------------------------------------------------------------------------

    cdef bint on_server(self) noexcept:
        """Return whether a transaction block was open at the last ReadyForQuery."""
        return self.status_byte == b'T' or self.status_byte == b'E'

    cdef bint in_block(self) noexcept:
        """Return whether a transaction block is open: at the last ReadyForQuery, or by the note."""
        return self.on_server() or self.block is not None and self.block.failure is None

    cdef Block begin_block(self):
        """Note that what is queued from here on belongs to a new block."""
        self.blocks += 1
        self.block = Block()
        self.block.number = self.blocks
        return self.block

    cdef int check(self) except -1:
        """Raise if the block is open by the note alone."""
        if self.block is not None and self.block.failure is not None:
            raise self.block.error()
        return 0

    cdef bint is_last(self, Command command) except -1:
        """Return whether no request was queued behind a command."""
        cdef Request request = self.send_queue.first_put_off()
        while request is not None and request is not command:
            request = request.next
        return request is not None

    cdef Command queue(self, str query, Block begins, object observer):
        cdef Command command = Command(query, begins)
        command.observer = observer
        command.within = self.block.number if self.block is not None else 0
        self.send_queue.unsent.append(command)
        self.send_queue.put_off += 1
        return command

    cdef bint takes_along(self, str query) except -1:
        """Return whether a text without arguments is one statement that can take commands along, and there are some."""
        cdef str lowered
        if self.send_queue.first_put_off() is None:
            return False
        traits = classify(query)
        if traits.statements > 1 or traits.copy is not None:
            return False
        lowered = query.lower()
        return 'deallocate' not in lowered and 'discard' not in lowered

    cdef Block answered(self, Request head, bint idle):
        """ReadyForQuery came for a request; returns the block that the server turns out not to have, or None."""
        cdef Block block
        if head.ahead is not None:
            if head.error is None and head.ahead.answered < head.ahead.count:
                raise ProtocolError('the server is ready for queries before it has answered the commands ahead of the request')
            block = <Block>head.ahead.block
            if block is not None and not block.is_begun:
                block.failure = head.ahead.error if head.ahead.error is not None else head.error
                block.is_refused = True
                block.is_known = is_told(head)
                return block
        block = self.block
        if block is None or not block.is_begun or block.failure is not None:
            return None
        if not idle:
            if begins_another(head):
                # The savepoints have ended with the block.
                self.block = Block()
                self.block.number = block.number
                self.block.is_begun = True
            return None
        if transaction_control(head.query)[1]:
            # The program has ended it by a statement of its own, and goes on outside of it.
            self.block = None
            return None
        block.failure = head.query
        return block

    cdef int fail_block(self, Block block) except -1:
        """Fail the requests of a block that the server does not have."""
        cdef Request request
        for request in list(self.send_queue.unsent):
            if request.within != block.number or request.state > QUEUED:
                continue
            if request.traits & PUT_OFF:
                request.state = DONE
                self.send_queue.unsent.remove(request)
                self.send_queue.put_off -= 1
            elif not request.traits & OWN:
                self.fail(request, block.error(request.is_wanted()))
        if block.end is not None and block.is_refused and block.end.state <= QUEUED:
            self.fail(block.end, block.error(block.end.is_wanted()))
        return 0

    cdef int fail(self, Request request, object error) except -1:
        """Fail a request that was not sent."""
        cdef ExtendedQuery bound
        request.state = DONE
        if isinstance(request, ExtendedQuery):
            bound = <ExtendedQuery>request
            if bound.statement is not None:
                self.statements.dropped(bound)
        return request.fail(error)

    cdef int connection_lost(self) except -1:
        """No command is sent any more."""
        self.send_queue.put_off = 0
        return 0


cdef bint begins_another(Request head) except -1:
    """Return whether the server has ended the block of a request and begun another one, as COMMIT AND CHAIN asks for."""
    if isinstance(head, SimpleQuery):
        if not (<SimpleQuery>head).has_ended:
            return False
    elif head.status != 'COMMIT' and head.status != 'ROLLBACK':
        return False
    return transaction_control(head.query)[1]


cdef bint is_told(Request head) except -1:
    """Return whether somebody gets the error of a request."""
    cdef list waiting
    if head.prepares is None:
        return head.state != ABANDONED and head.is_wanted()
    waiting = head.prepares.waiting
    return len(waiting) > 0 and (<Request>waiting[0]).state != DONE
