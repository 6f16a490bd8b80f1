"""executemany() and fetchmany(): many executions of one statement in one request (invariant 2)."""

from headrace._core.wire.backend cimport command_tag
from headrace._core.pipeline.requests cimport READS, REBINDABLE, STAGED
from headrace._core.rows.row_plan cimport HELD
from headrace._core.wire.frontend cimport put_execute, put_sync

from headrace.exceptions import ArgumentError, ProtocolError
from headrace.exceptions._values import shown
from headrace._sql.classify import classify

cdef Py_ssize_t CHUNK = 1 << 16
# A portal that cannot exist: executing it makes the server roll back what a half-sent batch has done (34000).
cdef bytes NO_PORTAL = b'headrace: the rest of the batch could not be encoded'


cdef class Batch(ExtendedQuery):
    """One statement executed for each element of a sequence, as one implicit transaction.

    The elements are encoded a chunk at a time while the server works on those before. The first chunk is encoded in
    the caller; if a later element is bad, the server rolls back all that was sent, and the caller gets the error.
    If the server refuses the statement as stale, the batch is run again, unless its elements came from an iterator
    and are gone.
    """

    def __cinit__(self, object waiter, object statement not None, object elements, object record_class,
                  bint collects, bint shared=False):
        self.waiter = waiter
        if type(statement) is str:
            self.query = <str>statement
        else:
            self.statement = <Statement?>statement
            self.query = self.statement.query
        self.given = elements
        self.elements = iter(elements)
        self.once = self.elements is elements
        self.traits = STAGED | READS if self.once else STAGED | READS | REBINDABLE
        self.record_class = record_class
        self.collects = collects
        self.shared = shared

    cdef int encode(self, WriteBuffer out) except -1:
        if self.begun:
            self.elements = iter(self.given)
            self.element = 0
            self.completed = 0
        self.begun = True
        self.start(self.statement.current_plan())
        self.has_more = True
        self.message = self._chunk(out)
        return 0

    cdef bytes _chunk(self, WriteBuffer out):
        cdef object args
        while out.length < CHUNK:
            try:
                args = next(self.elements)
            except StopIteration:
                self.has_more = False
                put_sync(out)
                break
            if not isinstance(args, (tuple, list)):
                args = checked_element(args, self.element, 'executemany() argument sequence')
            self.statement.put_bind(out, self.plan, b'', args, self.element)
            put_execute(out, b'', 0)
            self.element += 1
        return out.take()

    cdef bytes more(self, WriteBuffer out):
        try:
            if self.error is None:
                return self._chunk(out)
        except BaseException as error:
            self.error = error
            out.length = 0
        return self._undo(out)

    cdef bytes _undo(self, WriteBuffer out):
        """End the request. The server must not commit what it has: an error there rolls it back."""
        self.has_more = False
        put_execute(out, NO_PORTAL, 0)
        put_sync(out)
        return out.take()

    cdef int receive(self, char kind, const char *data, Py_ssize_t size) except -1:
        cdef object made
        if kind == b'C' and self.stage == 2:
            self.status = command_tag(data, size)
            self.completed += 1
            self.stage = 3
            if self.row_plan.grouped and self.collects:
                self.take_last()
        elif kind == b'2' and (self.stage == 1 or self.stage == 3):
            self.stage = 2
        elif kind == b'D' and self.stage == 2:
            if self.collects and self.error is None:
                try:
                    if self.rows is None:
                        self.rows = []
                    made = self.row_plan.row(data, size)
                    if made is not HELD:
                        self.rows.append(made)
                except ProtocolError:
                    raise
                except Exception as error:
                    self.error = error
        elif kind == b'1' and self.stage == 0:
            self.stage = 1
        elif (kind == b'T' or kind == b'n') and self.describing and self.stage == 2:
            self.described(kind, data, size)
        elif kind == b'I' and self.stage == 2:
            self.completed += 1
            self.stage = 3
        else:
            return self.unexpected(kind)
        return 0

    cdef int finished(self) except -1:
        if self.completed != self.element:
            raise ProtocolError(f'the server is ready for queries after {self.completed} of {self.element} executions')
        return 0

    cdef bint can_encode_again(self) except -1:
        return not (self.once and self.begun)

    @property
    def arguments(self):
        return self.given

    @property
    def executions(self):
        """How many executions are complete, for query hooks."""
        return self.completed

    cdef object outcome(self):
        cdef object rows = self.rows
        self.rows = None
        if not self.collects:
            return None
        return rows if rows is not None else []


cdef class StreamedBatch(Batch):
    """A batch whose elements come from an asynchronous source.

    Its owner calls open() once the statement is prepared, add() for each element and finish() after the last. It queues the
    request when the first chunk is full; until then the server knows nothing of it. While nothing is ready to be sent the
    request keeps the wire to itself (stalls()). If the request is_full the owner waits for `room`.
    """

    def __cinit__(self, object waiter, object statement not None, object elements, object record_class,
                  bint collects, bint shared=False):
        self.once = True
        self.traits = STAGED | READS
        self.ahead = WriteBuffer()

    def open(self, source) -> None:
        """Choose the codecs. Raises InterfaceError if the rows do not fit their class, or for a COPY."""
        self.given = source
        self.begun = True
        self.start(self.statement.current_plan())

    def add(self, args) -> None:
        """Encode one element; raises ArgumentError for one that does not fit, and nothing of it is kept."""
        self.adding = True
        try:
            if not isinstance(args, (tuple, list)):
                args = checked_element(args, self.element, 'executemany() argument sequence')
            self.statement.put_bind(self.ahead, self.plan, b'', args, self.element)
            put_execute(self.ahead, b'', 0)
            self.element += 1
        finally:
            self.adding = False

    def finish(self) -> None:
        """There are no more elements."""
        put_sync(self.ahead)
        self.complete = True

    def failed(self, error) -> None:
        """Note why there will be no more elements: the cause of the errors in a transaction that fails by it."""
        if self.error is None:
            self.error = error

    @property
    def is_full(self) -> bool:
        """Return whether a chunk is ready and has not been taken."""
        return self.ahead.length >= CHUNK

    cdef bint is_bound(self) except -1:
        # Its elements were encoded by the plan that open() has chosen.
        return True

    cdef bint stalls(self) except -1:
        return self.adding or self.error is None and not self.complete and self.ahead.length == 0

    cdef int encode(self, WriteBuffer out) except -1:
        self.has_more = not self.complete
        self.message = self.ahead.take()
        return 0

    cdef bytes more(self, WriteBuffer out):
        cdef object room = self.room
        self.room = None
        if room is not None and not room.done():
            room.set_result(None)
        if self.error is not None:
            return self._undo(out)
        self.has_more = not self.complete
        return self.ahead.take()


cdef object checked_element(object args, Py_ssize_t element, str where):
    """Return an element if it is a sequence of arguments; raises ArgumentError if not. `where` names what it is an element of."""
    if isinstance(args, (str, bytes, bytearray)) or not hasattr(args, '__getitem__') or not hasattr(args, '__len__') \
            or isinstance(args, dict):
        raise ArgumentError(
            f'invalid input in {where} element #{element}: expected a sequence, '
            f'got {type(args).__name__} {shown(args)}', hint=element_hint(args))
    return args


cdef str element_hint(object args):
    if isinstance(args, dict):
        return ('Pass the values in the order of $1, $2, ...: [tuple(each.values()) for each in elements]; or name the '
                'parameters: executemany(headrace.sql("... :name"), elements).')
    return 'Pass one tuple or list of arguments for each execution: [(value,) for value in elements] for single values.'
