"""The first run of a statement: it is prepared, described and executed in one request.

Parse, Describe, Bind, Execute and Sync are sent together if the text shows the types of all parameters. Bind must say in
which formats the columns come before they are known. It asks for all of them in binary, which is right for most types. If
a type travels as text, or the server has no binary form of it, the request is executed once more, now that the columns are
known. So only plain reads outside of transaction blocks run in this way, and requests whose rows nobody reads.

Nothing is sent behind a first run until its reply is there, as nothing is sent behind a request that waits for its
statement: executed once more, it would otherwise read what those behind it have written.

Source: PostgreSQL documentation, "Extended Query" (protocol-flow-ext-query).
"""

cimport cython

from headrace._core.wire.backend cimport parameter_description, row_description
from headrace._core.wire.frontend cimport put_describe, put_execute, put_sync
from headrace._core.codecs.base cimport Codec
from headrace._core.pipeline.plan cimport make_plan

from headrace.exceptions import OutdatedSchemaCacheError

# One format code for all columns: binary.
cdef bytes ALL_BINARY = b'\0\1\0\1'

# The errors of Parse that come of a parameter of another type than is meant: no cast, no such function or operator, types
# that do not match, or more than one function that might be meant.
cdef frozenset WRONG_TYPES = frozenset(('42846', '42883', '42804', '42725'))

# Stands for the outcome of a request that is to be executed once more. No caller gets it.
cdef object FORMATS_DIFFER = OutdatedSchemaCacheError('the columns travel in other formats than Bind has asked for')


@cython.final
cdef class FirstRun:
    """How a request prepares its statement: what it sends for that, and what the reply says of the statement."""

    def __cinit__(self, Statement statement not None, tuple parameter_oids not None, bint reads_rows, bint may_differ):
        self.statement = statement
        self.plan = make_plan(statement.name, parameter_oids, [], statement.types, statement.results)
        if reads_rows:
            self.plan.bind_tail = ALL_BINARY
        self.may_differ = may_differ

    cdef int put(self, WriteBuffer out, object args, int limit) except -1:
        """Write the messages."""
        self.statement.put_parse(out, self.plan.parameter_oids)
        put_describe(out, b'S', self.statement.name)
        self.plan.put_bind(out, b'', args, -1, self.statement.query)
        put_execute(out, b'', limit)
        return put_sync(out)

    cdef bint take(self, char kind, const char *data, Py_ssize_t size) except -1:
        """Take a part of the description; returns whether it is one that belongs here."""
        if self.is_described:
            return False
        if self.parameter_oids is None:
            if kind != b't':
                return False
            self.parameter_oids = parameter_description(data, size)
            return True
        if kind == b'T':
            self.columns = row_description(data, size)
            self.returns_rows = True
        elif kind != b'n':
            return False
        self.is_described = True
        return True

    cdef bint fits(self) except -1:
        """Return whether the parameters are those that the text has shown."""
        return self.parameter_oids == self.plan.parameter_oids

    cdef bint shows_wrong_types(self, object error) except -1:
        """Return whether Parse may have failed because the names of types mean others than those of pg_catalog."""
        return self.may_differ and not self.is_described and getattr(error, 'sqlstate', None) in WRONG_TYPES


cdef bint all_binary(Plan plan) except -1:
    """Return whether all columns are read from the binary format."""
    cdef Codec codec
    for codec in plan.column_codecs:
        if codec.format != 1:
            return False
    return True
