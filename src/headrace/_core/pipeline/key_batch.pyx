"""The keys that a loader sends in one statement, and who waits for which of them.

A batch is the argument of the statement's array parameter. It is encoded by the codecs of the connection that the
statement is sent on, key by key: a key that cannot be encoded fails alone. Keys are equal if they have the same bytes,
or if the driver knows that they are one value of the type for the server, such as 1, 1.0 and 1.00 for numeric: a join
to unnest() would return a row for each of them. A row belongs to the keys whose bytes decode to the value in its key
column, or, if the column has positions, to the key at that position.

Errors: a key that cannot be encoded, or decoded again, gets an ArgumentError. A key without a row gets a LoaderKeyError
if there is a row whose key nobody has asked for: these may be the same key in the eyes of the server. If each key has a
list of rows, such a row may be missing in any list, so all keys get that error. For citext, for char(n) beside text,
and for jsonb the driver knows which keys the server finds equal. A key whose rows may have gone to another key gets the
error too. Lists get it for all such keys, because a join returns a row for each of them.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint32_t
from libc.string cimport memcmp

from headrace._core.wire.buffer cimport (
    WriteBuffer, begin_length, end_length, load_i32, put_byte, reserve, store_u32,
)
from headrace._core.codecs.array cimport ArrayCodec
from headrace._core.codecs.base cimport Codec, builtin
from headrace._core.codecs.composite cimport CompositeCodec, accepted
from headrace._core.codecs.container_text cimport put_quoted
from headrace._core.codecs.domain cimport AliasCodec
from headrace._core.codecs.range cimport MultirangeCodec, RangeCodec
from headrace._core.codecs.text cimport argument_error
from headrace._core.pipeline.key_future cimport PENDING, KeyFuture, KeysFuture, Wakeups
from headrace._core.rows.keyed_rows cimport KeyedShape

import copy
import json
from datetime import time
from decimal import Decimal

from headrace._core.codecs import builtin as _registered  # noqa: F401  registers the codecs
from headrace._core.codecs.base import builtin_codecs
from headrace.exceptions import ArgumentError, InterfaceError, LoaderKeyError
from headrace.exceptions._values import shown

# In the place of the row of a key: there is none, or several although one was expected.
cdef object NONE = object()
cdef object SEVERAL = object()

cdef enum:
    NOT_SENT = -1                    # nobody waits for it any more
    FAILED = -2                      # it has an error of its own

cdef enum:
    BPCHAR = 1042
    TIMETZ = 1266

# Stands for every NaN of a float, as they are equal for the server.
cdef object NAN = float('nan')

# The codec of jsonb unless the program has set another one: its values are texts.
cdef object JSONB = builtin_codecs()[3802]

cdef str POSITION_HINT = ('If the server compares the keys in another way than Python does, as for citext, char(n) and '
                          'collations, pass position= and join unnest($1::text[]) WITH ORDINALITY.')


@cython.final
cdef class KeyBatch(ArrayWriter):
    """The keys of one statement. As the argument of a query it writes each distinct key once."""

    def __cinit__(self, Wakeups wakeups not None, KeyedShape shape not None, bint many):
        self.wakeups = wakeups
        self.shape = shape
        self.many = many
        self.waiters = []
        self.errors = {}

    def __init__(self, *args):
        list.__init__(self)

    def __dealloc__(self):
        PyMem_Free(self.entries)

    @property
    def sent(self) -> bool:
        """True if the keys were encoded as an array."""
        return self.written

    @property
    def distinct_count(self) -> int:
        """The number of distinct keys that were encoded."""
        return len(self.distinct) if self.written else 0

    # -- asking --------------------------------------------------------------------------------------------------------

    cdef int add(self, object key, KeyFuture waiter, Py_ssize_t at) except -1:
        cdef:
            Py_ssize_t count = PyList_GET_SIZE(self.waiters)
            Entry *entries
        if count == self.capacity:
            entries = <Entry *>PyMem_Realloc(self.entries, <size_t>(max(count * 2, 16)) * sizeof(Entry))
            if entries == NULL:
                raise MemoryError()
            self.entries = entries
            self.capacity = max(count * 2, 16)
        self.entries[count].at = at
        self.entries[count].group = NOT_SENT
        list.append(self, key)
        self.waiters.append(waiter)
        if not isinstance(waiter, KeysFuture):
            waiter.batch = self
            self.wanted += 1
        elif not waiter.batch or (<list>waiter.batch)[len(<list>waiter.batch) - 1] is not self:
            if waiter.batch is None:
                waiter.batch = []
            (<list>waiter.batch).append(self)
            self.wanted += 1
        return 0

    cdef object key_at(self, Py_ssize_t i):
        """Return a key. The list may have been changed by a query logger, which gets it as the query's argument."""
        return <object>PyList_GET_ITEM(self, i) if i < PyList_GET_SIZE(self) else None

    def ask(self, key):
        """Add a key; returns the future of its row or rows."""
        cdef KeyFuture future = self.wakeups.future()
        self.add(key, future, 0)
        return future

    def ask_all(self, list keys not None, list positions, list results not None, bint return_errors):
        """Add keys; returns the future of a list with their rows, in order.

        `results` is that list. If `positions` is not None, it has the place of each key there; the other places are
        filled already.
        """
        cdef:
            Py_ssize_t i
            KeysFuture future = self.wakeups.keys_future(results, len(keys), return_errors)
        for i in range(len(keys)):
            self.add(keys[i], future, i if positions is None else positions[i])
        return future

    def divide(self, Py_ssize_t limit) -> list:
        """Return batches of at most so many keys that together have those of this one; equal keys stay together."""
        cdef:
            Py_ssize_t i, room = 0
            list waiters = self.waiters
            KeyBatch batch = None, found
            KeyFuture waiter
            dict batches = {}
            list result = []
        if len(waiters) <= limit:
            return [self]
        for i in range(len(waiters)):
            waiter = waiters[i]
            if waiter.state != PENDING:
                continue
            key = self.key_at(i)
            try:
                found = batches.get(key)
            except Exception:
                # It cannot be hashed.
                found = None
            if found is None:
                if room == 0:
                    batch = KeyBatch(self.wakeups, self.shape, self.many)
                    result.append(batch)
                    room = limit
                room -= 1
                found = batch
                try:
                    batches[key] = batch
                except Exception:
                    pass
            found.add(key, waiter, self.entries[i].at)
        return result

    def halves(self) -> list:
        """Return two batches, each with a half of the distinct keys. The keys with errors of their own fail here."""
        cdef:
            KeyBatch first = KeyBatch(self.wakeups, self.shape, self.many)
            KeyBatch second = KeyBatch(self.wakeups, self.shape, self.many)
            Py_ssize_t i, group, middle = len(self.distinct) // 2
            KeyFuture waiter
            list waiters = self.waiters
        for i in range(len(waiters)):
            waiter = waiters[i]
            group = self.entries[i].group
            if group == FAILED:
                waiter.answer(self.entries[i].at, None, self.errors[i])
            elif waiter.state == PENDING:
                (first if group < middle else second).add(self.key_at(i), waiter, self.entries[i].at)
        self.end()
        return [batch for batch in (first, second) if batch]

    def left(self) -> None:
        """One of the futures no longer waits. If none does, the statement is cancelled."""
        self.wanted -= 1
        if self.wanted == 0 and self.task is not None:
            self.task.cancel()

    # -- the argument of the statement ---------------------------------------------------------------------------------

    cdef int write(self, ArrayCodec codec, WriteBuffer out) except -1:
        cdef:
            Codec element = codec.element
            Py_ssize_t mark, i
            char *at
            bint binary = codec.format == 1
            WriteBuffer scratch = out if binary else WriteBuffer()
        self.shape.check_parameter(element)
        self.element = element
        mark = begin_length(out)
        if binary:
            at = reserve(out, 20)
            store_u32(at, 1)
            store_u32(at + 4, 0)
            store_u32(at + 8, element.oid)
            store_u32(at + 16, <uint32_t>codec.lower)
        if not self.written:
            self.write_keys(element, scratch, binary)
            self.written = True
        elif binary:
            # It was sent on another connection before, and may be read from either.
            for key in self.distinct:
                element.encode(element, out, key)
        if not self.distinct:
            raise ArgumentError('none of the keys can be sent')
        if binary:
            store_u32(out.data + mark + 12, <uint32_t>len(self.distinct))
            return end_length(out, mark)
        for i in range(len(self.distinct)):
            put_byte(out, codec.delimiter if i else b'{')
            put_quoted(out, element, self.distinct[i], False)
        put_byte(out, b'}')
        return end_length(out, mark)

    cdef int write_keys(self, Codec element, WriteBuffer out, bint binary) except -1:
        """Write each distinct key once; set the group or the error of each entry."""
        cdef:
            list waiters = self.waiters
            Py_ssize_t i, start, count = len(waiters)
            Span *spans = NULL
            bint padded = is_char(element)
            object key
        self.distinct = []
        self.groups = {}
        self.aliases = None
        self.errors = {}
        spans = <Span *>PyMem_Realloc(NULL, <size_t>count * sizeof(Span) + 1)
        if spans == NULL:
            raise MemoryError()
        try:
            for i in range(count):
                if PyList_GET_SIZE(self) != count:
                    raise InterfaceError('the keys of a loader were changed while they were sent')
                if (<KeyFuture>waiters[i]).state != PENDING:
                    self.entries[i].group = NOT_SENT
                    continue
                key = <object>PyList_GET_ITEM(self, i)
                start = out.length
                try:
                    element.encode(element, out, key)
                    if load_i32(out.data + start) < 0:
                        raise ValueError('its encoder turns it into NULL')
                    self.join_group(element, padded, i, key, out, spans, start)
                    if self.entries[i].group != len(self.distinct) - 1 or spans[self.entries[i].group].start != start:
                        out.length = start
                except MemoryError:
                    raise
                except Exception as error:
                    out.length = start
                    self.entries[i].group = FAILED
                    self.errors[i] = bad_key(element, key, error)
        finally:
            PyMem_Free(spans)
        return 0

    cdef int join_group(
        self, Codec element, bint padded, Py_ssize_t entry, object key, WriteBuffer out, Span *spans,
        Py_ssize_t start) except -1:
        """Find the group of an entry whose bytes, with a length word, are at the end of `out`; or begin a new one."""
        cdef:
            object value, found, alias
            Py_ssize_t group, size = out.length - start, new = len(self.distinct)
        if self.shape.positions:
            value = PyBytes_FromStringAndSize(out.data + start, size)
        else:
            value = comparable(padded, element.decode(element, out.data + start + 4, size - 4))
        try:
            found = self.groups.get(value)
        except TypeError as error:
            raise TypeError(f'rows cannot be matched with it: {error}; with position= they can') from error
        if found is not None:
            group = found
            while True:
                if spans[group].size == size \
                        and memcmp(out.data + spans[group].start, out.data + start, <size_t>size) == 0:
                    self.entries[entry].group = group
                    return 0
                alias = self.aliases.get(group) if self.aliases is not None else None
                if alias is None:
                    break
                group = alias
            if equal_as_in_python(element):
                self.entries[entry].group = group
                return 0
            if has_zone(value) \
                    or type(element.decode(element, out.data + spans[group].start + 4, spans[group].size - 4)) \
                    is not type(value):
                # 12:00+00 and 13:00+01, or 1 and true, as a codec for jsonb may read them.
                raise ValueError(f'it equals {shown(self.distinct[group])} in Python, but not in PostgreSQL; '
                                 'with position= both can be asked for')
            if self.aliases is None:
                self.aliases = {}
            self.aliases[group] = new
        else:
            self.groups[value] = new
        spans[new].start = start
        spans[new].size = size
        self.distinct.append(key)
        self.entries[entry].group = new
        return 0

    # -- the answers ---------------------------------------------------------------------------------------------------

    def hand_out(self, rows, list answered=None) -> None:
        """Give the rows, pairs of a key and a row, to the futures. Pairs of key and result are added to `answered`.

        Raises InterfaceError, before any future has its row, if a key cannot be compared.
        """
        if not self.written:
            raise InterfaceError('the query of the loader was not sent with the keys that it was given')
        cdef:
            Py_ssize_t i, group, count = len(self.distinct)
            list found = [NONE] * count
            bytearray given = bytearray(count)
            object key, row, index, result, other, returned, stranger = NONE
            object fold = None if self.shape.positions else folding(self.shape.key_codec, self.element)
            dict confused = None
            KeyFuture waiter
            list waiters = self.waiters
            bint padded = is_char(self.shape.key_codec) and is_char(self.element)
        for key, row in rows:
            if self.shape.positions:
                if type(key) is int and 0 < key <= count:
                    self.keep(found, key - 1, row)
                elif stranger is NONE:
                    stranger = key
                continue
            key = comparable(padded, key)
            try:
                index = self.groups.get(key)
            except TypeError as error:
                raise InterfaceError(
                    f'the column {self.shape.column} has a value that keys cannot be compared with: {error}',
                    hint=POSITION_HINT) from error
            if index is None:
                if stranger is NONE:
                    stranger = key
                continue
            self.keep(found, index, row)
            while self.aliases is not None and index is not None:
                index = self.aliases.get(index)
                if index is not None:
                    self.keep(found, index, row)
        if fold is not None:
            confused = self.confused_keys(fold, rows, found)
        for i in range(len(waiters)):
            waiter = waiters[i]
            group = self.entries[i].group
            if group < 0:
                if group == FAILED:
                    waiter.answer(self.entries[i].at, None, self.errors[i])
                continue
            result = found[group]
            if stranger is not NONE and (result is NONE or self.many):
                waiter.answer(self.entries[i].at, None, stranger_error(self.shape, count, self.key_at(i), stranger))
                continue
            if confused and group in confused:
                other, returned = confused[group]
                waiter.answer(self.entries[i].at, None, confused_error(self.shape, self.key_at(i), other, returned))
                continue
            if result is NONE:
                result = [] if self.many else None
            elif result is SEVERAL:
                waiter.answer(self.entries[i].at, None, several_error(self.key_at(i)))
                continue
            elif self.many:
                # Each caller may change the list that it gets.
                if given[group]:
                    result = list(<list>result)
                given[group] = 1
            if answered is not None:
                answered.append((self.key_at(i), result))
            waiter.answer(self.entries[i].at, result, None)
        self.end()

    cdef dict confused_keys(self, object fold, list rows, list found):
        """Return the distinct keys whose rows may have gone to another key, or may have come for another one as well.

        With each is the other key, and whether that was returned.
        """
        cdef:
            dict returned = {}
            dict asked = {}
            dict confused = {}
            object key, other, row, group, folded
        for key, row in rows:
            if isinstance(key, str):
                returned.setdefault(fold(key), {})[key] = None
        for key, group in self.groups.items():
            if isinstance(key, str) and (self.many or found[group] is NONE):
                folded = fold(key)
                if folded not in returned:
                    continue
                for other in returned[folded]:
                    if other != key:
                        confused[group] = other, True
                        break
                if self.many and folded in asked:
                    other = asked[folded]
                    confused.setdefault(group, (other, False))
                    confused.setdefault(self.groups[other], (key, False))
                asked[folded] = key
        return confused

    cdef int keep(self, list found, Py_ssize_t group, object row) except -1:
        """Take a row of a distinct key."""
        if self.many:
            if found[group] is NONE:
                found[group] = [row]
            else:
                (<list>found[group]).append(row)
        else:
            found[group] = row if found[group] is NONE else SEVERAL
        return 0

    def fail(self, error not None) -> None:
        """Raise an error in all futures that wait, but for those whose keys have an error of their own."""
        cdef:
            Py_ssize_t i
            KeyFuture waiter
            list waiters = self.waiters
            object raised = error
        for i in range(len(waiters)):
            waiter = waiters[i]
            if waiter.state != PENDING:
                continue
            if i in self.errors:
                waiter.answer(self.entries[i].at, None, self.errors[i])
                continue
            waiter.answer(self.entries[i].at, None, raised)
            raised = copy_of(error)
        self.end()

    def cancel(self) -> None:
        """Cancel all futures that wait."""
        cdef:
            KeyFuture waiter
            list waiters = self.waiters
        self.task = None
        for waiter in waiters:
            waiter.cancel()
        self.end()

    cdef int end(self) except -1:
        """Refer to the futures no longer: query loggers may keep the keys."""
        self.task = None
        self.waiters = []
        return 0


cdef bint has_zone(object value):
    """Return whether it is a timetz: Python compares the points in time, PostgreSQL the zones as well."""
    return type(value) is time and value.tzinfo is not None


cdef object comparable(bint padded, object value):
    """Return a value that is equal to those of keys that are equal for the server, if Python tells these apart.

    The server ignores the blanks at the end of a `padded` text.
    """
    if type(value) is float:
        return value if value == value else NAN
    return value.rstrip(' ') if padded and type(value) is str else value


cdef bint is_char(Codec codec):
    """Return whether it is char(n), read as it is."""
    return codec is not None and base_of(codec) is builtin(BPCHAR)


cdef bint equal_as_in_python(Codec codec) except -1:
    """Return whether values that are equal in Python are equal for the server too, although their bytes differ."""
    codec = base_of(codec)
    if isinstance(codec, RangeCodec):
        return equal_as_in_python((<RangeCodec>codec).subtype)
    if isinstance(codec, MultirangeCodec):
        return equal_as_in_python((<MultirangeCodec>codec).range)
    if isinstance(codec, CompositeCodec):
        for attribute in (<CompositeCodec>codec).attributes:
            if not equal_as_in_python(attribute):
                return False
        return True
    # Nothing is known of the values that a codec of a program returns.
    return codec.oid != TIMETZ and codec is builtin(codec.oid) and codec.kind == 'scalar'


cdef Codec base_of(Codec codec):
    """Return the codec of the base type of a domain, and any other as it is."""
    while isinstance(codec, AliasCodec):
        codec = (<AliasCodec>codec).base
    return codec


cdef object folding(Codec column, Codec element):
    """Return a function that gives equal texts for keys that are equal for the server, if Python tells them apart."""
    if column is None or element is None:
        return None
    if is_char(column) and is_char(element):
        return None
    if column.oid == BPCHAR or element.oid == BPCHAR:
        return without_padding
    if column.name == 'citext' and element.name == 'citext':
        return str.lower
    if column is JSONB and element is JSONB:
        return normal_json
    return None


def without_padding(str text):
    """Return the value of a char(n) that is compared."""
    return text.rstrip(' ')


def normal_json(str text):
    """Return a jsonb in one form for all texts that are equal for the server."""
    try:
        return json.dumps(json.loads(text, parse_int=normal_number, parse_float=normal_number), sort_keys=True)
    except RecursionError:
        return text


def normal_number(str digits):
    """Return a number as a list, which is in one form for all equal ones, and equal to no text."""
    return [0, str(Decimal(digits).normalize())]


cdef object confused_error(KeyedShape shape, object key, object other, bint returned):
    """Return the error of a key that is equal for the server to another one, which has or shares its rows."""
    cdef str text
    if returned:
        text = f'the loader asked for the key {shown(key)}, and got a row with {shape.column} = {shown(other)}, ' \
               'which is the same key for the server'
    else:
        text = f'the loader asked for the keys {shown(key)} and {shown(other)}, which are the same key for the ' \
               'server: it may have returned each row twice'
    error = LoaderKeyError(text, hint=POSITION_HINT)
    error.key = key
    error.returned = other if returned else key
    return error


cdef object stranger_error(KeyedShape shape, Py_ssize_t count, object key, object returned):
    """Return the error of a key, of `count` that were sent, if a row belongs to none of them and might be its row."""
    cdef str text, hint = POSITION_HINT
    if shape.positions:
        text = f'the loader asked for the key {shown(key)}, and got a row with {shape.column} = {shown(returned)}, ' \
               f'which is no position from 1 to {count}'
        hint = 'Select the ordinality of unnest($1) WITH ORDINALITY.'
    else:
        text = f'the loader asked for the key {shown(key)}, and got a row with {shape.column} = {shown(returned)}, ' \
               'which nobody asked for'
    error = LoaderKeyError(text, hint=hint)
    error.key = key
    error.returned = returned
    return error


cdef object several_error(object key):
    return InterfaceError(f'the query of the loader returned several rows for the key {shown(key)}, expected one',
                          hint='Pass many=True to get a list of rows for each key.')


cdef object copy_of(object error):
    """Return a copy of an error for another future: a traceback is part of an error."""
    try:
        made = copy.copy(error)
    except Exception:
        return error
    if type(made) is not type(error):
        return error
    made.__cause__ = error.__cause__
    made.__context__ = error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made


cdef object bad_key(Codec codec, object key, object error):
    """Return the error for a key that cannot be sent, or not matched with rows."""
    try:
        shown = repr(key[:200] if isinstance(key, (str, bytes, bytearray)) else key)
    except Exception:
        shown = f'<{type(key).__name__}>'
    if len(shown) > 200:
        shown = shown[:197] + '...'
    made = argument_error(error)(
        f'invalid key for a loader: {shown} ({error}) [{codec.name} parameter, {type(key).__name__} given]',
        hint=f'Pass {accepted(codec)}.')
    made.__cause__ = error
    return made
