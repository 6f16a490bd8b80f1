"""The end of a connection: the outcome of each request, and what its caller is told.

A backend works on requests in order, and TCP delivers a prefix of what it has said. So the last message of a backend
that ends itself proves that it never started anything behind the head. Only PostgreSQL's own words prove that: a pooler
or another server sends a FATAL of its own while what it had forwarded runs on. After a bare EOF or reset nothing is known
of what was sent.

A request that was provably never started, or that only reads, can be made again: `safe_to_retry`. Inside a transaction
block none can: the block is gone, and all of it has to be repeated.

Source: src/backend/tcop/postgres.c, ProcessInterrupts() and quickdie(); src/backend/replication/syncrep.c,
SyncRepWaitForLSN().
"""

cimport cython

from headrace._core.pipeline.requests cimport ABANDONED, SENT

import re
from functools import lru_cache

from headrace.exceptions import ConnectionDoesNotExistError, PostgresError
from headrace._sql.classify import classify, split_statements
from headrace._sql.lexer import Kind, tokens

# The functions in which a backend ends itself between two steps of its work, and the SQLSTATEs that it then gives.
cdef object ENDING_ROUTINES = frozenset(('ProcessInterrupts', 'ProcessRecoveryConflictInterrupt', 'ProcessRecoveryConflictInterrupts'))
cdef object ENDING_STATES = frozenset(('57P01', '57P04', '57P05', '25P03', '25P04', '40001'))
# These end a session that waits for its next command; the server looks for them once more before it starts one.
cdef object IDLE_STATES = frozenset(('57P05', '25P03'))

cdef str QUICKDIE = 'quickdie'
cdef str SYNC_REP = 'SyncRepWaitForLSN'

cdef object MAY_CONTROL = re.compile(r'\b(?:begin|start|commit|end|rollback|abort|prepare|savepoint|release)\b', re.IGNORECASE).search

cdef object DATA_COMMANDS = frozenset(('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'MERGE', 'VALUES', 'TABLE', 'WITH'))

cdef str COMMIT_UNKNOWN = 'whether the transaction was committed is unknown'
cdef str REPEAT_ALL = 'the transaction was rolled back, repeat all of it'


cdef Proof proof_of(object fatal, dict notice) except *:
    """Return what the server's last words prove: a FATAL error or the fields of a parting notice, None if there is none."""
    if notice is not None:
        return COMMITTED if notice['R'] == SYNC_REP else BEHIND
    if fatal is None or fatal.severity_en != 'FATAL' or fatal.server_source_function not in ENDING_ROUTINES \
            or fatal.sqlstate not in ENDING_STATES:
        return NO_PROOF
    return IDLE if fatal.sqlstate in IDLE_STATES else BEHIND


cdef bint is_parting(dict fields) except -1:
    """Return whether a notice is the last word of a backend: in a crash or an immediate shutdown, or terminated while it waits
    for synchronous replication."""
    cdef object routine = fields.get('R')
    if routine == QUICKDIE:
        return fields.get('C') in ('57P01', '57P02')
    return routine == SYNC_REP and fields.get('C') == '57P01'


@lru_cache(maxsize=64)
def transaction_control(str query not None) -> tuple[bool, bool, bool, bool | None]:
    """Return what a text does to transaction blocks: whether it has such a command at all, ends the block that it is sent in,
    may commit it, and whether a block is open behind it (None: as before)."""
    cdef:
        bint controls = False
        bint ends = False
        bint commits = False
        object is_open = None
        list words
        str keyword
    if MAY_CONTROL(query) is None:
        return False, False, False, None
    for statement in split_statements(query):
        words = [token.text.upper() for token in tokens(statement) if token.kind is Kind.WORD]
        keyword = words[0] if words else ''
        if keyword == 'BEGIN' or words[:2] == ['START', 'TRANSACTION']:
            controls = True
            is_open = True
        elif keyword in ('COMMIT', 'END', 'ROLLBACK', 'ABORT') or words[:2] == ['PREPARE', 'TRANSACTION']:
            controls = True
            if words[1:2] == ['PREPARED'] or keyword in ('ROLLBACK', 'ABORT') and 'TO' in words:
                continue
            if is_open is None:
                ends = True
                commits = keyword not in ('ROLLBACK', 'ABORT')
            is_open = 'CHAIN' in words and 'NO' not in words
        elif keyword in ('SAVEPOINT', 'RELEASE'):
            controls = True
    return controls, ends, commits, is_open


cdef bint is_undone_whole(str query) except -1:
    """Return whether a text is one SELECT, INSERT, UPDATE, DELETE or MERGE: the server undoes it if it does not complete."""
    traits = classify(query)
    return traits.statements == 1 and traits.keywords[0] in DATA_COMMANDS


cdef str text_of(object reason):
    """A reason in words: of a server's error its message alone."""
    if isinstance(reason, PostgresError) and reason.message:
        return reason.message
    if isinstance(reason, MemoryError):
        return 'out of memory on this side (MemoryError)'
    return str(reason) or type(reason).__name__


@cython.final
cdef class Ending:
    """The end of one connection, as its requests are settled: first those in flight, in order, then the others.

    `last_words`: the error for the head. `in_block`: a transaction block was open at the last ReadyForQuery. `events` is
    asked about every shared request that may run again on another connection.
    """

    def __cinit__(self, object reason, Queue sent not None, Queue unsent not None, bint in_block, Proof proof=NO_PROOF,
                  object last_words=None, object events=None):
        self.reason = reason
        self.proof = proof
        self.head = sent.first
        self.at_head = True
        self.last_words = last_words
        self.events = events
        self.in_block = in_block
        # Number 0 is no block.
        self.unknown = [False, False] if in_block else [False]
        self.mark(sent)
        self.mark(unsent)

    cdef int mark(self, Queue queue) except -1:
        """Note of each request which transaction block it was sent in, and of each block whether it may be committed."""
        cdef Request request = queue.first
        while request is not None:
            if request.ahead is not None:
                for command in request.ahead.commands:
                    self.mark_text(command)
            self.mark_text(request)
            request = request.next
        return 0

    cdef int mark_text(self, Request request) except -1:
        """Note the block that a request or a command was sent in, and that of those behind it."""
        request.block = len(self.unknown) - 1 if self.in_block else 0
        if request.runs_text():
            controls, ends, commits, is_open = transaction_control(request.query)
            request.controls = controls
            if ends and self.in_block:
                self.unknown[request.block] = commits and self.start_of(request) == UNKNOWN
            if ends:
                self.in_block = False
            if is_open and not self.in_block:
                self.in_block = True
                self.unknown.append(False)
        return 0

    cdef Start start_of(self, Request request) except *:
        """Return what is known of how far the server has come with a request."""
        if request.state != SENT and request.state != ABANDONED:
            return NOT_SENT
        if self.proof == NO_PROOF:
            return UNKNOWN
        if request is not self.head:
            return NOT_STARTED
        if self.proof == IDLE or self.proof == BEHIND and request.not_bound():
            return NOT_STARTED
        return UNKNOWN

    cdef int settle(self, Request request) except -1:
        """Hand a request back to be run again, or settle it with an error that says what is known of it."""
        cdef:
            Start start = self.start_of(request)
            object error = self.last_words if self.at_head else None
        if error is None or isinstance(error, PostgresError):
            if request.error is not None:
                # It had failed before.
                return tell(request, request.error)
            if self.hand_back(request, start):
                return 0
        if error is None:
            error = self.error_for(request, start)
        elif not request.is_wanted():
            # No caller waits for the session's own requests: their error is for the first that waits for what they prepare.
            request.error = error
        else:
            self.last_words = None
            text, safe = self.verdict(request, start)
            error.safe_to_retry = safe
            if isinstance(error, PostgresError):
                error.args = (f'{text_of(error)}; {closed(start)}: {text}',)
            request.error = error
        return tell(request, error)

    cdef bint hand_back(self, Request request, Start start) except -1:
        """Offer a request to the owner of the connection, to be run on another one; returns whether it is taken."""
        if self.events is None or not request.shared or request.state == ABANDONED or not request.is_wanted():
            return False
        if request.block or request.controls or not request.can_encode_again():
            return False
        if start == UNKNOWN and (not request.only_reads() or classify(request.query).reads_session):
            return False
        try:
            request.renew()
            return self.events.requeue(request, start == UNKNOWN)
        except Exception:
            # The others must learn of the end all the same.
            return False

    cdef object error_for(self, Request request, Start start):
        """The error for a request that the end of the connection has overtaken."""
        text, safe = self.verdict(request, start)
        error = ConnectionDoesNotExistError(f'{closed(start)}: {text_of(self.reason)}; {text}', safe_to_retry=safe)
        if isinstance(self.reason, BaseException):
            error.__cause__ = self.reason
        return error

    cdef tuple verdict(self, Request request, Start start):
        """Return what is known of a request, in words, and whether it is safe to retry."""
        cdef str text
        if request.block or request.controls:
            return self.verdict_in_block(request, start), False
        if start != UNKNOWN:
            text = 'the request had not been sent' if start == NOT_SENT else 'the server had not started the request'
            if not request.can_encode_again():
                return f'{text}, but its arguments came from an iterator, which has been used', False
            return f'{text}, it is safe to retry', True
        if self.proof == COMMITTED and request is self.head:
            return 'this server has committed it, its synchronous standbys perhaps not', False
        text = 'the request had been sent, whether the server has carried it out is unknown'
        if request.only_reads() and request.can_encode_again():
            return f'{text}; it only reads, it is safe to retry', True
        if self.proof == BEHIND and request is self.head and request.is_unfinished() and is_undone_whole(request.query):
            text = 'the request had been started; this server has rolled it back, what it did elsewhere may remain'
        return text, False

    cdef str of_blocks(self):
        """Return the outcome of the transaction blocks, in words; None if there was none."""
        if len(self.unknown) == 1:
            return None
        return COMMIT_UNKNOWN if True in self.unknown else REPEAT_ALL

    cdef str verdict_in_block(self, Request request, Start start):
        """Return what is known of a request in a transaction block, or of one that begins or ends a block."""
        if not request.block and start == NOT_SENT:
            return 'the request had not been sent, repeat all of the transaction'
        if not request.block and start == NOT_STARTED:
            return 'the server had not started the request, repeat all of the transaction'
        if self.proof == COMMITTED and request is self.head:
            return 'this server has committed it, its synchronous standbys perhaps not'
        if not request.block:
            return 'the request had been sent, whether the server has carried it out is unknown'
        if self.unknown[request.block]:
            return COMMIT_UNKNOWN
        return REPEAT_ALL


cdef str closed(Start start):
    """That the connection was closed, in asyncpg's words."""
    return 'connection was closed' if start == NOT_SENT else 'connection was closed in the middle of operation'


cdef int fail_lost(Request request, object reason) except -1:
    """Settle a request because of what has become of the connection, unless it has an error of its own."""
    if isinstance(reason, Ending):
        return (<Ending>reason).settle(request)
    # It waited for a statement, outside the queue and so outside of transaction blocks.
    error = ConnectionDoesNotExistError(
        f'connection was closed: {text_of(reason)}; the request had not been sent, it is safe to retry', safe_to_retry=True)
    if isinstance(reason, BaseException):
        error.__cause__ = reason
    return tell(request, error)


cdef int tell(Request request, object error) except -1:
    """Settle a request with the error, unless it has one of its own, even if its waiter raises."""
    try:
        request.fail(error)
    except Exception:
        # Its event loop is closed, or the waiter is broken: the others must learn of theirs all the same.
        pass
    return 0
