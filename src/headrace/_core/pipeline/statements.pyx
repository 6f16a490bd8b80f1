"""The statements of one session: found in the cache or prepared, once for all who wait, and closed when they are not needed.

A request goes out only when its statement is READY, that is after ReadyForQuery followed its ParseComplete (invariant 4).
Until then it waits: at its place in the queue, so that it holds back those behind it, or parked outside of it if it is
shared (invariant 3).

No request waits for ever: each one in the queue that waits for its statement has the request that prepares it ahead of it, in the
queue or in flight. Every change to the queue keeps that true.
"""

cimport cython

from headrace._core.codecs.typemap cimport TypeCatalogue
from headrace._core.pipeline.connection_lost cimport fail_lost
from headrace._core.pipeline.first_run cimport FORMATS_DIFFER
from headrace._core.pipeline.group cimport Group
from headrace._core.pipeline.prepare cimport Identification, Introspection, question_about, question_who
from headrace._core.pipeline.requests cimport ABANDONED, ARROW, BARRIER, DONE, QUEUED, SENT, STATUS, WAITING, Closing, Prepare
from headrace._core.rows.keyed_rows cimport KeyedShape
from headrace._core.pipeline.statement_cache cimport KEEPS, NEW, PREPARING, READY, UNKNOWN, monotonic_seconds

from functools import partial

from headrace._core.codecs.type_names import builtin_oid
from headrace._core.pipeline.connection_lost import transaction_control
from headrace._sql.cast_types import cast_types
from headrace._sql.classify import classify
from headrace.exceptions import ArgumentError, ProtocolError

# How long a statement that has refused an argument counts as up to date, once it was described again.
CONFIRMED_SECONDS = 1.0

# The first words of statements whose parameters the server finds in Parse. It takes other commands as they are: a type that
# Parse gives would count as a parameter, although the command has none, such as PREPARE and CREATE FUNCTION.
cdef frozenset TAKE_PARAMETERS = frozenset(('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'MERGE', 'VALUES', 'TABLE', 'WITH', 'CALL'))

# The most requests ahead of a new statement that are looked through for the beginning of a transaction.
cdef Py_ssize_t MOST_LOOKED_THROUGH = 32

# Texts whose first run had to be executed once more; beyond so many all are forgotten.
cdef Py_ssize_t MOST_REMEMBERED = 1000


@cython.final
cdef class Statements:
    """The cache, and the life of what is in it and of what is not."""

    def __cinit__(self, TypeMap types not None, SendQueue send_queue not None, StatementCache cache not None, bint unnamed):
        self.types = types
        self.send_queue = send_queue
        self.cache = cache
        self.search_path = SearchPath(cache)
        self.unnamed = unnamed
        self.elsewhere = []
        self.described_first = set()

    def cached_queries(self) -> list:
        """Return the texts of the cached statements, most recently used first."""
        return self.cache.queries()

    # -- found ---------------------------------------------------------------------------------------------------

    cdef Statement find(self, str query):
        """The statement for the text: from the cache, or a new one."""
        cdef:
            Statement statement = self.cache.get(query)
            Statement evicted
        if statement is None:
            if self.cache.takes(query):
                statement = Statement(query, self.types, not self.unnamed)
                for evicted in self.cache.put(statement):
                    self.let_go(evicted)
            else:
                statement = Statement(query, self.types, False)
        return statement

    def hold(self, str query not None, *, bint named=True, name=None) -> Statement:
        """Return a statement that is kept until it is released; it is shared with the cache unless the user names it.

        If the cache is turned off, there may be a pooler in front of the server. Then the server keeps no statement
        but those that the user has named, or wants to have a name (`name` is True).
        """
        cdef Statement statement
        if name is True:
            statement = Statement(query, self.types, True)
        elif name is not None:
            statement = Statement(query, self.types, True, name.encode())
        elif named and self.cache.takes(query) and not self.search_path.line:
            statement = self.find(query)
        else:
            statement = Statement(query, self.types, named and self.cache.size > 0 and not self.unnamed)
        statement.users += 1
        return statement

    cdef int find_later(self, ExtendedQuery request) except -1:
        """Queue a request whose statement is found once the search_path is known that it will run under."""
        request.awaits_search_path = True
        self.search_path.line.append(request)
        self.send_queue.unsent.append(request)
        if not request.shared:
            self.search_path.asked(request, self.search_path.effect_of(request.query))
        return 0

    cdef int find_waiting(self) except -1:
        """Find the statements of the requests that need not wait for the search_path any more."""
        cdef ExtendedQuery request = self.search_path.next_to_find()
        while request is not None:
            try:
                self.find_in_place(request)
            except BaseException as error:
                request.fail(error)
            request = self.search_path.next_to_find()
        return 0

    cdef int find_in_place(self, ExtendedQuery request) except -1:
        """Find the statement of a request that is queued already, and encode it, or have the statement prepared ahead of it."""
        cdef:
            Statement statement = self.find(request.query)
        request.statement = statement
        if statement.once and statement.state == READY:
            statement.state = NEW
        if statement.state == READY:
            try:
                self.send_queue.encode(request)
            except ArgumentError as error:
                if not self.describe_again(request, error, request):
                    raise
            else:
                if self.failure is not None:
                    fail_lost(request, self.failure)
                return 0
        else:
            self.see_prepared(statement, request)
            self.park(request)
        if request.shared:
            # It holds back nobody while its statement is prepared.
            self.send_queue.unsent.remove(request)
        return 0

    cdef int see_prepared(self, Statement statement, Request before) except -1:
        """See to it that a statement is prepared: ahead of `before`, or, if that is None, of all that is queued from now on."""
        cdef Prepare prepare = <Prepare>statement.prepare
        if statement.state == NEW:
            self.begin_prepare(statement, before)
        elif not isinstance(prepare, Prepare):
            # Types are looked up, or another request prepares it by its first run.
            return 0
        elif prepare.state == ABANDONED:
            prepare.state = SENT
        elif before is not None and prepare.state <= QUEUED and not self.is_ahead(prepare, before):
            self.send_queue.unsent.remove(prepare)
            self.send_queue.unsent.insert_before(prepare, before)
        return 0

    cdef bint is_ahead(self, Request one, Request other) except -1:
        """Return whether `one` stands in the queue ahead of `other`."""
        cdef Request request = self.send_queue.unsent.first
        while request is not None and request is not other:
            if request is one:
                return True
            request = request.next
        return False

    cdef int note_effect(self, ExtendedQuery request) except -1:
        """Note whether a request that was queued may change the search_path.

        A pool shares no such request: one that is shared only has the words in a constant.
        """
        cdef Statement statement = request.statement
        if statement.effect == UNKNOWN:
            statement.effect = self.search_path.effect_of(statement.query)
        if statement.effect != KEEPS and not request.shared and request.state != DONE:
            self.search_path.asked(request, statement.effect)
        return 0

    # -- waited for ------------------------------------------------------------------------------------------------

    cdef int bind(self, ExtendedQuery request) except -1:
        """Queue a request, and the preparation of its statement if that is NEW."""
        cdef Statement statement = request.statement
        if statement.once and statement.state == READY and not request.is_bound():
            statement.state = NEW
        if statement.state == READY or request.is_bound():
            try:
                self.send_queue.encode(request)
            except ArgumentError as error:
                if not self.describe_again(request, error, None):
                    raise
                if not request.shared:
                    self.send_queue.unsent.append(request)
                return 0
            if request.state == DONE:
                # There was nothing to send: it only waits for the statement.
                return 0
            if self.failure is not None:
                # Closed or lost by what its own encoding has called.
                return fail_lost(request, self.failure)
            self.send_queue.unsent.append(request)
            return 0
        if statement.state == NEW and self.run_first(request):
            return 0
        self.see_prepared(statement, None)
        self.park(request)
        if not request.shared:
            self.send_queue.unsent.append(request)
        return 0

    cdef bint run_first(self, ExtendedQuery asked) except -1:
        """Queue a request that prepares its NEW statement itself; returns False if it has to wait for that."""
        cdef:
            Statement statement = asked.statement
            Query request
        if not isinstance(asked, Query) or isinstance(asked, Group):
            return False
        request = <Query>asked
        if request.kind == ARROW:
            return False
        request.first = self.first_run_of(request)
        if request.first is None:
            return False
        try:
            self.send_queue.encode(request)
        except BaseException as error:
            may_differ = request.first.may_differ
            request.first = None
            if may_differ and isinstance(error, ArgumentError):
                # The server is asked for the types before the argument is refused.
                return False
            raise
        if request.state == DONE:
            request.first = None
            return True
        if self.failure is not None:
            request.first = None
            fail_lost(request, self.failure)
            return True
        if statement.state != NEW:
            # Encoding has called code that has asked for the same text.
            request.first = request.message = None
            request.state = WAITING
            return False
        statement.state = PREPARING
        statement.prepare = request
        request.prepares = statement
        request.traits |= BARRIER
        request.unprepared = request.shared
        self.send_queue.unsent.append(request)
        self.prepared += 1
        return True

    cdef FirstRun first_run_of(self, Query request):
        """Return how a request prepares its NEW statement itself; None if the statement must be prepared first.

        It may be executed once more, see first_run: so its rows must not be wanted, or it is a plain read outside of
        transaction blocks.
        """
        cdef:
            Statement statement = request.statement
            bint reads_rows = request.kind != STATUS
        if statement.plan is not None or statement.users or statement.own_name or statement.probes is not None \
                or request.portal or request.args is None or statement.query in self.described_first:
            return None
        if self.send_queue.put_off:
            # The preparation takes the BEGIN or SAVEPOINT along.
            return None
        if isinstance(request.record_class, KeyedShape):
            # A loader writes its keys by what the columns are.
            return None
        shown = cast_types(statement.query)
        if shown is None or len(shown.names) != len(request.args):
            return None
        traits = classify(statement.query)
        if traits.statements != 1 or traits.copy is not None or reads_rows and not traits.plain_read:
            return None
        if shown.names and traits.keywords[0] not in TAKE_PARAMETERS:
            return None
        if shown.may_differ and self.search_path.names_catalogue:
            return None
        if (reads_rows or shown.may_differ) and not self.is_outside_block():
            return None
        oids = tuple([builtin_oid(name) for name in shown.names])
        return FirstRun(statement, oids, reads_rows, shown.may_differ)

    cdef bint is_outside_block(self) except -1:
        """Return whether a request that is queued now will certainly run outside of transaction blocks.

        Behind a long queue this is not looked into, or the time for n new texts at once would grow with the square of n.
        """
        cdef Request request
        if not self.send_queue.idle or self.send_queue.sent.count + self.send_queue.unsent.count > MOST_LOOKED_THROUGH:
            return False
        for request in self.send_queue.sent:
            if request.ahead is not None:
                return False
            if request.runs_text() and transaction_control(request.query)[3]:
                return False
        for request in self.send_queue.unsent:
            if request.runs_text() and transaction_control(request.query)[3]:
                return False
        return True

    cdef int take_off(self, Query request) except -1:
        """A first run was not sent and will not be: those that wait for its statement have that prepared."""
        cdef:
            Statement statement = request.prepares
            ExtendedQuery other
        request.first = None
        request.prepares = None
        request.traits &= ~BARRIER
        request.unprepared = False
        statement.prepare = None
        statement.state = NEW
        for other in statement.waiting:
            if other.state != DONE:
                self.begin_prepare(statement, self.first_waiting(statement))
                break
        return 0

    cdef bint goes_on(self, Query request, object resume) except -1:
        """ReadyForQuery came for a first run. Returns whether the request needs no more than that: it waits for its statement.

        If the statement was described, it is made READY, whatever has become of its execution.
        """
        cdef:
            FirstRun first = request.first
            Statement statement = request.prepares
            bint again
        if request.error is None and not first.is_described:
            raise ProtocolError('the server is ready for queries before it has described the statement')
        again = self.runs_again(request)
        if not again and request.error is FORMATS_DIFFER:
            # The session is being closed, or nobody waits.
            request.error = None
            first.lacks_types = True
        request.prepares = None
        request.traits &= ~BARRIER
        request.unprepared = False
        statement.prepare = None
        if not again or not first.lacks_types or request.error is not None:
            request.first = None
            if again:
                request.late = None
        if again:
            if request.first is None:
                self.describe_first(statement)
            request.error = None
            request.status = None if request.first is None else request.status
            request.state = WAITING
            (<list>statement.waiting).insert(0, request)
            if request.shared:
                self.parked += 1
                request.unprepared = True
            else:
                self.send_queue.unsent.put_back(request)
        if first.is_described:
            statement.parameter_oids = first.parameter_oids
            statement.returns_rows = first.returns_rows
            statement.columns = first.columns
            self.go_on(statement, resume, None if again or first.lacks_types or request.error is not None else request.plan)
            if not again and first.lacks_types and request.error is None and self.failure is not None:
                fail_lost(request, self.failure)
                return True
            return again
        if statement.name and request.stage != 0:
            self.close_name(statement)
        else:
            statement.rename()
        if again:
            self.hurry(statement)
        else:
            self.has_failed(statement, None, True)
        return again

    cdef int describe_first(self, Statement statement) except -1:
        """Remember that a first run of this text is executed in vain, should it be NEW once more."""
        if len(self.described_first) >= MOST_REMEMBERED:
            self.described_first.clear()
        self.described_first.add(statement.query)
        return 0

    cdef bint runs_again(self, Query request) except -1:
        """Return whether a first run has to wait for its statement: to read its rows, or to be executed once more."""
        cdef:
            FirstRun first = request.first
            object error = request.error
            str code = getattr(error, 'sqlstate', None)
        if request.state == ABANDONED or self.failure is not None:
            return False
        if error is None:
            return first.lacks_types
        if error is FORMATS_DIFFER:
            return True
        if not self.send_queue.idle:
            return False
        if code == '57014' and request.may_be_cancelled and request.repeatable():
            # The CancelRequest was meant for another one.
            request.may_be_cancelled = False
            return True
        # There may be no binary form of a type that is not known yet.
        return first.shows_wrong_types(error) or first.lacks_types and request.stage == 2 and code == '42883'

    cdef bint reads_first(self, Query request, Statement statement) except -1:
        """Settle a first run whose rows have waited for their types; returns False if it must be executed once more."""
        request.first = None
        if statement.once or not request.read_first(statement.plan):
            self.describe_first(statement)
            request.late = None
            return False
        if request.late is not None:
            self.read_late(request)
        else:
            request.settle()
        return True

    cdef bint describe_again(self, ExtendedQuery request, object error, Request before) except -1:
        """Have the text of a READY statement described once more, because an argument was refused; returns False if not.

        Another session may have altered a table since, so that the argument is right by now. The request waits for the
        answer, and the statement serves others meanwhile. If the types are the same, the request fails with `error`.
        Then the statement is not described again for CONFIRMED_SECONDS: bad values cost no more than one round trip each
        such time.
        """
        cdef:
            Statement statement = request.statement
            Statement probe = statement.probe
        if statement.state != READY or statement.results is not self.types or self.failure is not None \
                or request.is_bound():
            return False
        if not request.can_encode_again():
            self.doubt_refused(statement)
            return False
        if statement.confirmed > 0 and monotonic_seconds() - statement.confirmed < CONFIRMED_SECONDS:
            return False
        if probe is None:
            probe = statement.probe = Statement(statement.query, self.types, len(statement.name) > 0)
            probe.probes = statement
        if probe.state == NEW:
            self.types.catalogue.forget(statement.parameter_oids)
        self.see_prepared(probe, before)
        request.refusal = error
        request.statement = probe
        self.park(request)
        return True

    def doubt_refused(self, Statement statement not None) -> None:
        """An argument was refused that cannot be encoded again: have the statement prepared again for the next use.

        As in describe_again() this is done no more than once in CONFIRMED_SECONDS, unless a type may have been altered.
        """
        if statement.state != READY or statement.results is not self.types or self.failure is not None:
            return
        if not self.types.catalogue.made_of(statement.parameter_oids):
            if statement.confirmed > 0 and monotonic_seconds() - statement.confirmed < CONFIRMED_SECONDS:
                return
            statement.confirmed = monotonic_seconds()
        self.doubt(statement)

    cdef int compare(self, Statement probe, bint same, bint accepted) except -1:
        """A statement was described once more: take the new description in its place if anything has changed.

        `same`: the types of the parameters are as before. `accepted`: an argument that was refused before was accepted.
        """
        cdef Statement statement = probe.probes
        probe.probes = statement.probe = None
        if statement.state != READY:
            return 0
        if same and not accepted:
            statement.confirmed = monotonic_seconds()
            return 0
        if statement.cached:
            self.cache.replace(statement, probe)
        # Its users have it described anew.
        return self.close_name(statement)

    cdef int park(self, ExtendedQuery request) except -1:
        """Have a request wait for its statement; unless it is shared its place is in the queue."""
        (<list>request.statement.waiting).append(request)
        if request.shared:
            self.parked += 1
            request.unprepared = True
        return 0

    def barrier(self) -> None:
        """Give those that are parked a place in the queue, and those in flight none behind it should they run again."""
        cdef:
            Request request
            ExtendedQuery bound
            list found = []
        for request in self.send_queue.sent:
            found.append(request)
        for request in self.send_queue.unsent:
            found.append(request)
        for request in found:
            if isinstance(request, ExtendedQuery):
                (<ExtendedQuery>request).shared = False
            if request.prepares is not None:
                for bound in request.prepares.waiting:
                    if bound.shared and bound.state != DONE:
                        bound.shared = False
                        self.parked -= 1
                        self.send_queue.unsent.append(bound)

    cdef list no_longer_waiting(self, Statement statement):
        """Those that waited for the statement."""
        cdef:
            list waiting = statement.waiting
            ExtendedQuery request
        statement.waiting = []
        for request in waiting:
            if request.shared:
                self.parked -= 1
                request.unprepared = False
        return waiting

    cdef Request first_waiting(self, Statement statement):
        """Return the first request in the queue that waits for the statement; None if all are parked."""
        cdef Request request = self.send_queue.unsent.first
        while request is not None:
            if request.state == WAITING and isinstance(request, ExtendedQuery) \
                    and (<ExtendedQuery>request).statement is statement:
                return request
            request = request.next
        return None

    # -- prepared ----------------------------------------------------------------------------------------------------

    cdef int begin_prepare(self, Statement statement, Request before) except -1:
        """Queue the preparation of a NEW statement ahead of `before`, or at the end."""
        cdef Prepare request = Prepare(statement)
        self.send_queue.encode(request)
        statement.state = PREPARING
        statement.prepare = request
        if before is None:
            self.send_queue.unsent.append(request)
        else:
            self.send_queue.unsent.insert_before(request, before)
        self.prepared += 1
        return 0

    cdef int hurry(self, Statement statement) except -1:
        """Have the statement prepared ahead of all that is queued."""
        cdef Prepare prepare = <Prepare>statement.prepare
        if statement.state == NEW:
            self.begin_prepare(statement, self.send_queue.unsent.first)
        elif isinstance(prepare, Prepare) and prepare.state <= QUEUED:
            self.send_queue.unsent.remove(prepare)
            self.send_queue.unsent.push_front(prepare)
        return 0

    cdef int prepared_with(self, Request request, bint idle, bint cancelled, object resume) except -1:
        """ReadyForQuery came for a Prepare, or for the question about the types that the statement is the first to use.

        `idle`: no transaction block is open, so what failed can be tried in another way. `cancelled`: a CancelRequest was
        aimed at it.
        `resume(statement)` is to be called if it goes on because of what another connection has learnt.
        """
        cdef:
            bint outdated = False
            Statement statement = request.prepares
            Prepare prepare
        if isinstance(request, Identification) and not self.types.unidentified:
            # Known, or not to be known. If it has failed inside a transaction, the look-up fails as well.
            statement.question = None
            return self.go_on(statement, resume)
        if request.error is not None:
            statement.prepare = statement.question = None
            # The server keeps what it has parsed, even if describing it failed.
            if statement.name and (not isinstance(request, Prepare) or request.stage > 0):
                self.close_name(statement)
            else:
                statement.rename()
            if statement.name and isinstance(request, Prepare) and statement.refused(request.error):
                # Parsed just now it cannot be outdated: a pooler takes one of the same text for it.
                statement.forget_name()
                outdated = idle
            # It was cancelled because no caller waited any more: one that has come since gets a preparation of its own.
            return self.has_failed(statement, request.error, cancelled or outdated)
        if isinstance(request, Prepare):
            prepare = <Prepare>request
            statement.prepare = None
            statement.parameter_oids = prepare.parameter_oids
            statement.returns_rows = prepare.columns is not None
            statement.columns = prepare.columns
            return self.go_on(statement, resume)
        statement.question = None
        return self.await_others(statement, resume)

    cdef int go_on(self, Statement statement, object resume, Plan plan=None) except -1:
        """The statement was described: have its types looked up, of the server that this turns out to be.

        `plan` is the statement's plan if it could be made already.
        """
        cdef list missing = self.types.to_look_up(statement.oids())
        if not missing:
            return self.is_ready(statement, plan)
        if self.types.unidentified and self.types.catalogues is not None:
            return self.identify(statement)
        return self.look_up(statement, missing, resume)

    cdef int identify(self, Statement statement) except -1:
        """Ask which server this is, ahead of all that waits; the statement goes on by the answer, if there is one."""
        cdef Identification request = question_who(self.types)
        request.prepares = statement
        if statement is not None:
            statement.question = request
        self.send_queue.encode(request)
        self.send_queue.unsent.push_front(request)
        return 0

    cdef int look_up(self, Statement statement, list missing, object resume) except -1:
        """Have types looked up before the statement is READY; those that another connection asks for are awaited."""
        cdef:
            TypeCatalogue catalogue = self.types.catalogue
            list claimed = catalogue.claim(missing)
            Introspection request
        statement.awaited = [oid for oid in missing if oid not in claimed]
        if not claimed:
            return self.await_others(statement, resume)
        request = question_about(claimed, self.types)
        request.prepares = statement
        request.claimed = catalogue
        statement.question = request
        self.send_queue.encode(request)
        self.send_queue.unsent.push_front(request)
        if self.types.unidentified:
            # No other connection shares what is learnt here, so the answers may come together.
            return self.identify(None)
        return 0

    cdef int await_others(self, Statement statement, object resume) except -1:
        """Go on when other connections have their answers: at once, if they have."""
        for oid in statement.awaited:
            calls = self.types.catalogue.asked.get(oid)
            if calls is not None:
                calls.append(partial(resume, statement))
                self.elsewhere.append(statement)
                return 0
        if statement.awaited and self.types.missing(statement.awaited):
            return self.look_up(statement, self.types.missing(statement.awaited), resume)
        return self.is_ready(statement)

    cdef int looked_up(self, Statement statement, object resume) except -1:
        """Another connection has its answer, or has given up."""
        if statement in self.elsewhere:
            self.elsewhere.remove(statement)
            self.await_others(statement, resume)
        return 0

    cdef int doubt(self, Statement statement) except -1:
        """The statement may rest on types as they were before they were altered: for the next use it is prepared again."""
        self.types.catalogue.forget(statement.oids())
        return self.close_name(statement)

    cdef int read_late(self, Query request) except -1:
        """Read the rows of a request that lacked types, and settle it; or ask for the types, and do so then."""
        cdef list missing = self.not_asked(request)
        request.state = DONE
        if not missing:
            try:
                request.read_late()
            except Exception as error:
                request.reason = error
                if self.types.cures(error):
                    missing = self.not_asked(request)
                if not missing:
                    request.give_up_late(None)
                    if isinstance(error, ProtocolError):
                        raise
                    return 0
            else:
                return request.settle()
        if self.failure is not None:
            return request.give_up_late(self.failure)
        request.asked.update(missing)
        return self.ask(missing, request)

    def not_asked(self, Query request) -> list:
        """The OIDs of types that are missing, but for those that were asked for already."""
        if request.asked is None:
            request.asked = set()
        return [oid for oid in self.types.missing(()) if oid not in request.asked]

    cdef int ask(self, list oids, Query decodes) except -1:
        """Have types looked up for the rows of a request."""
        cdef Introspection question = question_about(oids, self.types)
        question.decodes = decodes
        self.send_queue.encode(question)
        self.send_queue.unsent.push_front(question)
        if self.types.unidentified:
            return self.identify(None)
        return 0

    cdef int is_ready(self, Statement statement, Plan plan=None) except -1:
        """Encode all that waited for the statement; each bad argument fails its own request."""
        cdef:
            ExtendedQuery request
            object refusal
            bint same
            bint accepted = False
        statement.once = self.types.asks_again() and not statement.own_name \
            and len(self.types.foreign(statement.oids())) > 0
        if statement.once and statement.name:
            # Without a name it is parsed with the OIDs that were looked up, and described with its rows.
            self.close_name(statement)
            statement.forget_name()
            plan = None
        statement.described(statement.parameter_oids, statement.columns if statement.returns_rows else None, plan)
        same = statement.probes is not None and statement.probes.parameter_oids == statement.parameter_oids
        for request in self.no_longer_waiting(statement):
            if request.state == DONE:
                continue
            if self.failure is not None:
                # Closed or lost by what the encoding of another one has called.
                fail_lost(request, self.failure)
                continue
            if isinstance(request, Query) and (<Query>request).first is not None \
                    and self.reads_first(<Query>request, statement):
                continue
            try:
                self.send_queue.encode(request)
            except BaseException as error:
                refusal = request.refusal
                request.refusal = None
                request.fail(refusal if same and refusal is not None else error)
            else:
                accepted = accepted or request.refusal is not None
                request.refusal = None
                if request.state == DONE:
                    continue
                if self.failure is not None:
                    fail_lost(request, self.failure)
                elif request.shared:
                    self.send_queue.unsent.append(request)
        if statement.probes is not None:
            self.compare(statement, same, accepted)
        return self.let_go(statement)

    cdef int has_failed(self, Statement statement, object error, bint unseen) except -1:
        """The first that waits gets the error, unless it is `unseen`; for the next the text is prepared again.

        If the first one was dropped, nobody gets it: the preparation stood in the place of that one, perhaps in a
        transaction that had failed, and the next may stand behind its end.
        """
        cdef:
            list waiting = self.no_longer_waiting(statement)
            ExtendedQuery request, failed = None
        if waiting and (<ExtendedQuery>waiting[0]).state == DONE:
            unseen = True
        for request in waiting:
            if request.state == DONE:
                continue
            if failed is None and not unseen:
                failed = request
                failed.state = DONE
            else:
                self.park(request)
        if statement.waiting:
            self.begin_prepare(statement, self.first_waiting(statement))
        elif statement.cached:
            self.cache.drop(statement)
        if failed is not None:
            if failed.refusal is not None and getattr(error, 'sqlstate', None) == '25P02':
                # In a failed transaction nothing can be described.
                error = failed.refusal
            failed.refusal = None
            # At last: its waiter may ask for the same statement at once.
            failed.fail(error)
        return 0

    # -- let go --------------------------------------------------------------------------------------------------------

    def release(self, Statement statement not None) -> None:
        """A statement that was held is not needed any more: its prepared statement object is gone."""
        statement.users -= 1
        self.let_go(statement)

    cdef int let_go(self, Statement statement) except -1:
        """Close a statement on the server once neither the cache nor any user needs it."""
        if not statement.cached and statement.users == 0 and not statement.waiting and statement.state == READY:
            self.close_name(statement)
        return 0

    def forget_all(self) -> None:
        """Empty the cache; statements in use stay until they are done with."""
        cdef Statement statement
        for statement in self.cache.clear():
            self.let_go(statement)

    cdef int use_no_names(self) except -1:
        """Have no more statements kept by the server: what is prepared on one backend is missing on the next.

        The descriptions of the cached ones go as well. Those with a preparation under way fail_lost their names when they
        are refused.
        """
        cdef Statement statement
        self.unnamed = True
        self.types.leave()
        for statement in self.cache.table.values():
            if statement.state != PREPARING:
                statement.forget_name()
        return 0

    cdef int renew(self) except -1:
        """DEALLOCATE ALL or DISCARD ALL was asked for: cached statements are prepared anew for later callers.

        The old names are closed too, in case that is not carried out. Statements that are held but not cached are found
        to be stale when they are used.
        """
        cdef:
            Statement statement
            Closing request
            list names = []
        for statement in self.cache.table.values():
            if statement.state == READY and statement.name:
                names.append(statement.rename())
        if names:
            request = Closing(None, 'S', names)
            self.send_queue.encode(request)
            self.send_queue.append_own(request)
        return 0

    cdef int close_name(self, Statement statement) except -1:
        """Have the server forget the statement, behind all that was asked so far; it is NEW again, by another name."""
        cdef:
            bytes name = statement.rename()
            Closing request
        if name and self.failure is None:
            request = Closing(None, 'S', [name])
            self.send_queue.encode(request)
            self.send_queue.append_own(request)
        return 0

    cdef int dropped(self, ExtendedQuery request) except -1:
        """A request was dropped: forget the preparation that it alone was waiting for, if that was not sent.

        If it was, it is abandoned; it may be waiting for a lock.
        """
        cdef:
            Statement statement = request.statement
            Prepare prepare = <Prepare>statement.prepare
            ExtendedQuery other
        if request.prepares is not None:
            if isinstance(request, Query):
                self.take_off(<Query>request)
            return 0
        for other in statement.waiting:
            if other.state != DONE:
                return 0
        if not isinstance(prepare, Prepare):
            if statement.question is not None:
                # It may be a long time in coming: other connections need not wait for it.
                (<Introspection>statement.question).release()
            return 0
        if prepare.state <= QUEUED:
            prepare.state = DONE
            prepare.message = None
            self.no_longer_waiting(statement)
            statement.prepare = None
            statement.state = NEW
        elif prepare.state == SENT:
            prepare.state = ABANDONED
            prepare.timed_out = request.timed_out
        return 0

    cdef int fail_elsewhere(self, object reason) except -1:
        """Settle all that waits for what other connections learn."""
        cdef Statement statement
        while self.elsewhere:
            statement = self.elsewhere.pop()
            self.fail_waiting(statement, reason)
        return 0

    cdef int fail_waiting(self, Statement statement, object reason) except -1:
        """Settle all that waits for a statement, which will not be prepared any more."""
        cdef Request request
        statement.prepare = None
        for request in self.no_longer_waiting(statement):
            if request.state != DONE:
                fail_lost(request, reason)
        return 0
