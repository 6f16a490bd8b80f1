"""A statement known to the server, and the cache of them.

The life of a statement: NEW -> PREPARING (Parse and Describe are under way) -> READY. A statement that the server no
longer accepts goes back to NEW under another name: names are never reused, so a late reply cannot be taken for another
statement's.

Source: PostgreSQL documentation, "Extended Query" (protocol-flow-ext-query).
"""

import os

from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.domain cimport AliasCodec
from headrace._core.wire.frontend cimport put_describe, put_parse, query_bytes
from headrace._core.pipeline.plan cimport make_plan

from headrace.exceptions import InterfaceError, InvalidCachedStatementError
from headrace._sql.classify import classify
from headrace._sql.lexer import highest_parameter

# Bind and ParameterDescription count parameters in 16 bits.
cdef Py_ssize_t MAX_PARAMETERS = 0xffff
cdef str ONE_TOO_MANY = f'${MAX_PARAMETERS + 1}'

cdef long names_given = 0
cdef bytes process_name = b''


def name_process() -> None:
    """Take a new part for the names of statements that no other process has.

    Behind a pooler that switches backends two clients meet on one of them: were their names alike, one would run the
    other's statement.
    """
    global process_name
    process_name = os.urandom(6).hex().encode()


name_process()
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=name_process)


cdef bytes next_name():
    global names_given
    names_given += 1
    return b'headrace_%b_%x' % (process_name, names_given)


cdef int check_parameters(str query) except -1:
    """Raise InterfaceError if the text has more parameters than can be bound."""
    # The server would tell, but keep the statement. It takes no number without all of those before it.
    if ONE_TOO_MANY in query:
        highest = highest_parameter(query)
        if highest > MAX_PARAMETERS:
            raise too_many_parameters(highest)
    return 0


cdef object too_many_parameters(Py_ssize_t count):
    return InterfaceError(f'a query is expected to have at most {MAX_PARAMETERS} parameters, got {count}',
                          hint='Pass the values as one array: "= ANY($1)", or "unnest($1::int[])" in place of VALUES.')


cdef class Statement:
    """One SQL text as the server knows it, and how its parameters and columns are coded."""

    def __cinit__(self, str query not None, TypeMap types not None, bint named, bytes name=None):
        self.query = query
        self.query_bytes = query_bytes(query)
        check_parameters(query)
        self.types = self.results = types
        self.name = b'' if not named else name if name is not None else next_name()
        self.own_name = name is not None
        self.checked = not named
        self.state = NEW
        self.effect = UNKNOWN
        self.waiting = []

    cdef bytes rename(self):
        """Forget the server's side after it refused the statement as stale; returns the name given up."""
        cdef bytes former = self.name
        if former:
            self.name = next_name()
        self.state = NEW
        return former

    cdef int forget_name(self) except -1:
        """Have it parsed with each execution from now on."""
        self.name = b''
        self.checked = True
        self.state = NEW
        return 0

    cdef int described(self, tuple parameter_oids, list columns, Plan plan=None) except -1:
        """Take what ParameterDescription and RowDescription (None for NoData) said, and the plan made of it, if there is one."""
        self.parameter_oids = parameter_oids
        self.returns_rows = columns is not None
        self.columns = columns if columns is not None else []
        if plan is None:
            plan = make_plan(self.name, self.parameter_oids, self.columns, self.types, self.results)
        self.plan = plan
        self.state = READY
        return 0

    cdef Plan current_plan(self):
        """The plan for an execution that begins now: made anew if codecs have changed."""
        if self.plan.version != self.types.version:
            self.plan = make_plan(self.name, self.parameter_oids, self.columns, self.types, self.results)
        return self.plan

    cdef bint refused(self, object error) except -1:
        """Return whether an error of an execution means that the server no longer accepts the statement as it was prepared.

        It was closed (26000, by DEALLOCATE or DISCARD; with EXECUTE and DEALLOCATE it is another statement that is
        missing), or what it returns has changed (0A000 from RevalidateCachedQuery() in plancache.c).
        """
        if getattr(error, 'sqlstate', None) == '26000':
            return classify(self.query).keywords not in (('EXECUTE',), ('DEALLOCATE',))
        return isinstance(error, InvalidCachedStatementError)

    cdef list oids(self):
        """The types of its parameters and columns."""
        return [*self.parameter_oids, *[column[3] for column in self.columns or ()]]

    cdef bint refused_unnamed(self, object error, int stage) except -1:
        """Return whether an unnamed statement fails because it is no longer what it was when it was described.

        It was refused in Parse (stage 0) or Bind (1), so nothing has been executed. If the fault is the query's own
        the server says so once more when it is described again. A plan that went stale between Parse and one of the
        Binds of a batch says so itself.
        """
        cdef str code = getattr(error, 'sqlstate', None)
        if self.checked and isinstance(error, InvalidCachedStatementError):
            return True
        return self.checked and stage < 2 and code is not None and (code[:2] == '42' or code in ('08P01', 'XX000'))

    cdef int put_parse(self, WriteBuffer out, tuple parameter_oids=()) except -1:
        return put_parse(out, self.name, self.query_bytes, parameter_oids)

    cdef int put_bind(self, WriteBuffer out, Plan plan, bytes portal, object args, Py_ssize_t element) except -1:
        """Write Bind; if the statement is unnamed, between Parse and a Describe of what is bound.

        Parse names the types that the arguments are encoded as; by now the server might take them for others.
        `element` is the position in executemany()'s sequence, or -1; the first stands for all, which reach the same
        backend. On an error nothing of this call is left in `out`.
        """
        cdef Py_ssize_t start = out.length
        plan.check_count(args, element, self.query)
        try:
            if not self.name and element <= 0:
                self.put_parse(out, self.parameter_oids if self.checked else ())
            plan.put_bind(out, portal, args, element, self.query)
            if self.checked and element <= 0:
                put_describe(out, b'P', portal)
        except BaseException:
            out.length = start
            raise
        return 0

    def parameter_types(self) -> tuple:
        """(oid, name, kind, schema) of each parameter."""
        return tuple([(oid, c.name, documented_kind(c), c.schema)
                      for oid, c in zip(self.parameter_oids, self.plan.parameter_codecs)])

    def column_types(self) -> tuple:
        """(column name, oid, type name, kind, schema) of each column."""
        return tuple([(column[0], column[3], c.name, documented_kind(c), c.schema)
                      for column, c in zip(self.columns, self.plan.column_codecs)])


cdef str documented_kind(Codec codec):
    """Return what headrace.types.Type tells of a codec's kind: a domain is of the kind of the type that it is based on."""
    while codec.kind == 'domain' and isinstance(codec, AliasCodec):
        codec = (<AliasCodec>codec).base
    return codec.kind if codec.kind in ('array', 'composite', 'range', 'multirange') else 'scalar'


cdef class StatementCache:
    """The statements of one connection by their text and the search_path. The least recently used statement is evicted first.

    `size` is the highest number of statements; 0 turns the cache off. `lifetime` is in seconds and counts from the
    preparation; 0 means no limit. Texts of more than `max_length` characters are not cached; 0 means no limit.

    The dictionary is in the order of use: a statement that is used moves to its end. Its keys are texts under the
    search_path that the session began with, and pairs of search_path and text under any other.
    """

    def __cinit__(self, Py_ssize_t size, double lifetime, Py_ssize_t max_length):
        self.table = {}
        self.size = size
        self.lifetime = lifetime
        self.max_length = max_length

    def __len__(self) -> int:
        return len(self.table)

    def queries(self) -> list:
        """The cached texts, most recently used first."""
        return [(<Statement>statement).query for statement in reversed(self.table.values())]

    cdef bint takes(self, str query) except -1:
        return self.size > 0 and (self.max_length == 0 or len(query) <= self.max_length)

    cdef object key_of(self, str query):
        return query if self.search_path is None else (self.search_path, query)

    cdef Statement get(self, str query):
        """The statement for the text, now the most recently used, or None."""
        cdef:
            object key = query if self.search_path is None else (self.search_path, query)
            Statement statement = <Statement>self.table.get(key)
        if statement is None:
            return None
        if self.lifetime > 0 and monotonic_seconds() > statement.expires:
            return None
        if statement is not self.newest:
            del self.table[key]
            self.table[key] = self.newest = statement
        return statement

    cdef list put(self, Statement statement):
        """Add the statement; returns the statements that were evicted for it."""
        cdef:
            list evicted = []
            object key = self.key_of(statement.query)
            Statement oldest, former = <Statement>self.table.get(key)
        if former is not None:
            self.drop(former)
            evicted.append(former)
        while len(self.table) >= self.size:
            oldest = next(iter(self.table.values()))
            self.drop(oldest)
            evicted.append(oldest)
        self.table[key] = self.newest = statement
        statement.key = key
        statement.cached = True
        if self.lifetime > 0:
            statement.expires = monotonic_seconds() + self.lifetime
        return evicted

    cdef int replace(self, Statement former, Statement statement) except -1:
        """Put a statement in the place of another one of the same text."""
        statement.key = former.key
        statement.cached = True
        if self.lifetime > 0:
            statement.expires = monotonic_seconds() + self.lifetime
        self.table[former.key] = statement
        former.cached = False
        if self.newest is former:
            self.newest = statement
        return 0

    cdef int drop(self, Statement statement) except -1:
        if statement.cached and self.table.get(statement.key) is statement:
            del self.table[statement.key]
        if statement is self.newest:
            self.newest = None
        statement.cached = False
        return 0

    cdef list clear(self):
        """Remove all statements; returns them."""
        cdef:
            list dropped = list(self.table.values())
            Statement statement
        for statement in dropped:
            self.drop(statement)
        return dropped
