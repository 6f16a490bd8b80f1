"""The dispatcher: carries out the scheduler's decisions for the calls that share connections.

A call is a request from the start. It waits in the scheduler's queue, is encoded when it is assigned to a connection,
and may be assigned to another one if that connection ends before the server has begun with it. The calling task sleeps
all the time.
"""

cimport cython

from headrace._core.pipeline.batch cimport Batch
from headrace._core.pipeline.requests cimport ABANDONED, ARROW, DONE, QUEUED, ROWS, SENT, STATUS, VALUE, ExtendedQuery, UnpreparedQuery, Query, Request, repetition_of
from headrace._core.pipeline.workload cimport boot_seconds
from headrace._io.driver cimport Driver, PoolCallbacks

import asyncio
import logging
from asyncio import get_running_loop

from headrace._client.timeouts import checked_timeout
from headrace._core.rows.record import Record
from headrace._sql.classify import classify
from headrace.exceptions import InterfaceError
from headrace.rows import checked_record_class

log = logging.getLogger('headrace.pool')

# Number and length of the texts whose profiles are cached.
MOST_PROFILES = 4096
LONGEST_TEXT = 8192

# Seconds in which a connection that was idle must answer a ping.
PING_TIMEOUT = 5.0

# Seconds that callers wait, with all connections leased, before a warning is logged.
STARVATION = 1.0

# Upper bounds of the histogram of wait times, in seconds. One more bucket has no bound.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
cdef double[13] BUCKETS = BOUNDS

WRITES = frozenset(('INSERT', 'UPDATE', 'DELETE', 'MERGE'))


@cython.final
cdef class QueryProfile:
    """The profile of a query text: its effects on the session, and its cost."""

    def __init__(self, traits, bint pipelined, bint movable):
        self.traits = traits
        self.cost = Cost()
        self.leases = traits.session_state
        self.pipelined = pipelined and not self.leases
        self.movable = movable and not self.leases


@cython.final
cdef class LeaseClaim(Claim):
    """A claim to a connection until it is released."""

    def __init__(self, waiter):
        self.waiter = waiter


@cython.final
cdef class Dispatcher(PoolCallbacks):
    """The shared calls of one pool: from the call to the reply.

    `maintenance` opens and retires connections. With `repeat_reads` off no plain read is repeated. With
    `pipeline_writes` single INSERT, UPDATE, DELETE and MERGE statements are sent behind others too.
    """

    def __init__(self, Scheduler scheduler not None, maintenance, *, bint repeat_reads=True, bint pipeline_writes=False):
        self.scheduler = scheduler
        self.maintenance = maintenance
        self.repeat_reads = repeat_reads
        self.pipeline_writes = pipeline_writes
        self.profiles = {}

    def start(self, loop) -> None:
        """Prepare to accept calls from tasks of this event loop."""
        self.loop = loop
        self.wakeup_batch = WakeupBatch(loop, asyncio.CancelledError, True)

    def open(self) -> None:
        """Accept calls: the first connections are open."""
        self.running = True

    def stop(self) -> None:
        """Accept no more calls. Those in flight go on."""
        self.running = False
        for timer in (self.overrun_check, self.starvation_check):
            if timer is not None:
                timer.cancel()
        self.overrun_check = self.starvation_check = None

    # -- calls -----------------------------------------------------------------------------------------------------

    cdef QueryProfile profile(self, str query):
        cdef QueryProfile profile = <QueryProfile>self.profiles.get(query)
        if profile is not None:
            return profile
        traits = classify(query)
        profile = QueryProfile(
            traits,
            traits.plain_read and not traits.reads_session
            or self.pipeline_writes and traits.statements == 1 and traits.keywords[0] in WRITES,
            traits.plain_read and not traits.reads_session and self.repeat_reads)
        if len(query) <= LONGEST_TEXT:
            if len(self.profiles) >= MOST_PROFILES:
                # Drop the older half. A text in use is soon learnt again.
                for known in list(self.profiles)[:MOST_PROFILES // 2]:
                    del self.profiles[known]
            self.profiles[query] = profile
        return profile

    def is_plain_read(self, str query not None) -> bool:
        """Return whether a text is a plain read that does not read its session."""
        traits = self.profile(query).traits
        return traits.plain_read and not traits.reads_session

    def leases(self, str query not None) -> bool:
        """Return whether a text needs a connection of its own."""
        return self.profile(query).leases

    cpdef Query query(self, str query, tuple args, int kind, int limit, object column, object record_class, object timeout,
                      object watched=None):
        """Request one execution of a statement on a shared connection; return the request, to be awaited.

        Return None if the text needs a lease. `watched` is the operation for query hooks, None if there are none.
        """
        cdef:
            QueryProfile profile = self.profile(query)
            Query request
        if profile.leases:
            return None
        request = Query(None, query, args, kind, limit, column, record_class, True)
        # Columns may be a long reply, so they are asked for on an idle connection.
        request.pipelined = kind != ARROW and profile.pipelined
        request.cost = profile.cost
        request.movable = profile.movable
        if watched is None:
            self.submit(request, timeout)
        else:
            self.submit_watched(request, timeout, watched)
        return request

    cpdef UnpreparedQuery direct(self, str query, object timeout, object watched=None):
        """Request one execution of a statement without arguments; return the request, or None as query() does."""
        cdef:
            QueryProfile profile = self.profile(query)
            UnpreparedQuery request
        if profile.leases or profile.traits.statements != 1:
            return None
        request = UnpreparedQuery(None, query)
        request.cost = profile.cost
        # It cannot be repeated, so a plain read must not get stuck behind others either.
        request.pipelined = profile.pipelined and not profile.movable
        if watched is None:
            self.submit(request, timeout)
        else:
            self.submit_watched(request, timeout, watched)
        return request

    cpdef Batch batch(self, str query, object elements, object record_class, bint collects, object timeout, object watched=None):
        """Request one execution for each element, as one atomic request; return it, or None as query() does."""
        cdef Batch request
        if self.profile(query).leases:
            return None
        request = Batch(None, query, elements, record_class, collects, True)
        if watched is None:
            self.submit(request, timeout)
        else:
            self.submit_watched(request, timeout, watched)
        return request

    cdef int submit_watched(self, Request request, object timeout, object watched) except -1:
        """Submit a request, and tell query hooks of its start; the server may be at work meanwhile."""
        request.observer = watched
        self.submit(request, timeout)
        watched.begin()
        return 0

    def pair(self, str probe not None, tuple probe_args not None, str query not None, tuple args not None, int kind,
             int limit, object column, object record_class, object timeout):
        """Request one value of a probe, and a plain read behind it on the same connection; return both requests.

        Neither is moved to another connection or asked twice, so that the server works on the probe first: see
        `in_order()`. Return None if no connection can take both now.
        """
        cdef:
            Query first = Query(None, probe, probe_args, VALUE, 1, 0, Record, False)
            Query second = Query(None, query, args, kind, limit, column, record_class, False)
            QueryProfile profile = self.profile(probe)
            PooledConnection pooled
            double now = boot_seconds()
        if not self.running or get_running_loop() is not self.loop:
            self.maintenance.check()
        first.cost = profile.cost
        second.cost = self.profile(query).cost
        first.pipelined = second.pipelined = True
        pooled = self.scheduler.submit(first, now)
        if pooled is None:
            self.scheduler.withdraw(first)
            return None
        if (<Driver>pooled.driver).session.failure is not None:
            # The connection is just ending.
            first.release()
            pooled.blocked = True
            return None
        if pooled.work.count == 1 and now - pooled.work.replied_at >= self.scheduler.ping_after:
            (<Driver>pooled.driver).ping(PING_TIMEOUT)
        self.scheduler.tickets += 1
        second.ticket = self.scheduler.tickets
        pooled.work.add(second)
        for request in (first, second):
            self.prepare(<Request>request, timeout, now)
        self.send(pooled, first, False)
        # This fails if an argument cannot be encoded. The probe is sent all the same.
        self.send(pooled, second, False)
        (<Driver>pooled.driver).transport.flush_soon()
        return first, second

    def take_waiting(self) -> list:
        """Remove the waiting shared calls from the queue and return them, for `adopt()` of another pool.

        Those that are pinned stay.
        Meanwhile they belong to no queue. A call that is given up, or whose time is up, ends by itself.
        """
        cdef Claim claim
        taken = []
        for claim in self.scheduler.claims():
            if isinstance(claim, Request) and not call_of(<Request>claim).pinned:
                self.scheduler.withdraw(claim)
                taken.append(claim)
        return taken

    def adopt(self, requests) -> int:
        """Serve calls that were taken from another pool of the same event loop; return how many of them are wanted."""
        cdef:
            Request request, call
            double now = boot_seconds()
            int adopted = 0
        if not self.running:
            self.maintenance.check()
        for request in requests:
            if request.state == DONE or not request.is_wanted():
                continue
            call = call_of(request)
            self.scheduler.forget_losses(call)
            request.owner = call.owner = self
            self.move_deadline(call)
            self.scheduler.tickets += 1
            request.ticket = self.scheduler.tickets
            self.scheduler.enqueue(request, now)
            adopted += 1
        if adopted:
            self.serve()
            if self.scheduler.can_grow:
                self.maintenance.refill()
            if self.overrun_check is None:
                self.watch(now)
        return adopted

    cdef int move_deadline(self, Request request) except -1:
        """Have this dispatcher end a request when its time is up."""
        cdef object timer = request.deadline
        if timer is not None:
            timer.cancel()
            request.deadline = self.loop.call_at(timer.when(), self.time_out, request)
        return 0

    cdef int prepare(self, Request request, object timeout, double now) except -1:
        """Set who owns a request, and when its time is up."""
        request.wakeup_batch = self.wakeup_batch
        request.owner = self
        request.timeout = timeout
        request.asked_at = now
        if timeout is not None and timeout > 0:
            request.limited = True
            request.deadline = self.loop.call_later(timeout, self.time_out, request)
        return 0

    cdef int submit(self, Request request, object timeout) except -1:
        cdef PooledConnection pooled
        if not self.running or get_running_loop() is not self.loop:
            self.maintenance.check()
        cdef double now = boot_seconds()
        self.prepare(request, timeout, now)
        if timeout is not None and timeout <= 0:
            self.time_out(request)
            return 0
        pooled = self.scheduler.submit(request, now)
        if pooled is None:
            if self.scheduler.can_grow:
                self.maintenance.refill()
            self.watch_starvation()
            if self.overrun_check is None:
                self.watch(now)
            return 0
        if pooled.work.count > 1:
            if self.scheduler.can_grow and not self.scheduler.opening:
                self.maintenance.open_one()
            if self.overrun_check is None:
                self.watch(now)
        elif now - pooled.work.replied_at >= self.scheduler.ping_after:
            (<Driver>pooled.driver).ping(PING_TIMEOUT)
        return self.send(pooled, request, True)

    cdef int send(self, PooledConnection pooled, Request request, bint flush) except -1:
        """Queue a request on the connection that it was assigned to."""
        cdef Driver driver = <Driver>pooled.driver
        if driver.session.failure is not None:
            # The connection is just ending.
            pooled.blocked = True
            self.scheduler.put_back(request, boot_seconds())
            return 0
        try:
            driver.accept(request)
        except BaseException as error:
            request.fail(error)
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                raise
            # It was not sent, so the connection may be idle.
            if pooled.work.count == 0 and flush:
                self.fill(pooled, True)
            return 0
        if flush:
            driver.transport.flush_soon()
        return 0

    cdef int fill(self, PooledConnection pooled, bint flush) except -1:
        """Assign to a connection all waiting claims that it can serve now."""
        cdef:
            double now
            Claim claim
            Scheduler scheduler = self.scheduler
            bint given = False
        if scheduler.pipelined.count == 0 and scheduler.alone.count == 0:
            return 0
        now = boot_seconds()
        while True:
            claim = scheduler.next_claim(pooled, now)
            if claim is None:
                break
            self.count_wait(now - claim.since)
            if isinstance(claim, LeaseClaim):
                claim.release()
                if (<LeaseClaim>claim).waiter.done():
                    # It was cancelled in this tick of the loop.
                    continue
                if not self.looks_alive(pooled, now):
                    scheduler.put_back(claim, now)
                    break
                scheduler.begin_lease(pooled)
                (<LeaseClaim>claim).waiter.set_result(pooled)
                break
            if not (<Request>claim).is_wanted():
                claim.release()
                (<Request>claim).state = DONE
                continue
            if pooled.work.count == 1 and now - pooled.work.replied_at >= self.scheduler.ping_after:
                (<Driver>pooled.driver).ping(PING_TIMEOUT)
            self.send(pooled, <Request>claim, False)
            given = True
        if given:
            if flush:
                (<Driver>pooled.driver).transport.flush_soon()
            if self.overrun_check is None and pooled.work.count > 1:
                self.watch(now)
        return 0

    def serve(self) -> None:
        """Assign to all connections the waiting claims that they can serve now."""
        cdef PooledConnection pooled
        if self.starvation_check is not None and self.scheduler.available:
            self.starvation_check.cancel()
            self.starvation_check = None
        for pooled in list(self.scheduler.available):
            self.fill(pooled, True)

    def lease_now(self):
        """Lease an idle connection and return it; None if there is none, or others wait for one."""
        cdef:
            PooledConnection pooled
            double now
        if self.scheduler.alone.count or self.scheduler.pipelined.count \
                or self.scheduler.is_held_back(self.scheduler.tickets + 1):
            return None
        now = boot_seconds()
        while True:
            pooled = self.scheduler.find_idle(now)
            if pooled is None:
                return None
            if self.looks_alive(pooled, now):
                self.scheduler.begin_lease(pooled)
                return pooled

    cdef bint looks_alive(self, PooledConnection pooled, double now) except -1:
        """Return whether a connection may be leased. After a stop of the process or machine its end may be unread."""
        cdef Driver driver = <Driver>pooled.driver
        pooled.needs_check = now - pooled.work.replied_at >= self.scheduler.ping_after
        if driver.transport.is_gone():
            if not driver.transport.connected:
                # It is removed from the pool in this tick of the loop.
                pooled.blocked = True
                return False
            # It is encrypted, so only the event loop can read the data that has arrived.
            pooled.needs_check = True
        return True

    def wait_to_lease(self, bint limited):
        """Queue a claim for a lease and return it. `limited`: the caller has a time limit."""
        cdef LeaseClaim claim = LeaseClaim(self.loop.create_future())
        self.scheduler.tickets += 1
        claim.ticket = self.scheduler.tickets
        claim.limited = limited
        self.scheduler.enqueue(claim, boot_seconds())
        self.watch_starvation()
        return claim

    def withdraw(self, Claim claim not None) -> None:
        """Remove a claim from the wait queue because its caller has given up."""
        if claim.waits:
            self.count_wait(boot_seconds() - claim.since)
            self.scheduler.withdraw(claim)

    # -- time limits and cancellation ------------------------------------------------------------------------------

    def time_out(self, Request request not None) -> None:
        """Fail a request with TimeoutError because its time is up."""
        cdef object error
        if request.is_wanted():
            error = TimeoutError(f'the command timed out after {max(request.timeout, 0):g} seconds')
            if request.waits:
                self.maintenance.explain(error)
            elif request.state <= QUEUED and request.can_encode_again():
                # The connection has not sent it, and drops it now.
                error.safe_to_retry = True
            request.deliver(None, error)
        self.give_up(request)

    def give_up(self, Request request not None) -> None:
        """Abandon a request that its caller no longer waits for."""
        cdef:
            PooledConnection pooled
            Request repetition = request.repetition
        if self.loop.is_closed():
            return
        request.forget_deadline()
        if repetition is not None:
            request.repetition = None
            self.give_up(repetition)
        if request.state == DONE:
            return
        if request.waits:
            self.scheduler.withdraw(request)
            self.count_wait(boot_seconds() - request.since)
        elif request.work is not None:
            pooled = request.work.pooled
            (<Driver>pooled.driver).give_up(request)
            if pooled.work.count == 0:
                self.fill(pooled, True)

    # -- events of the connections ---------------------------------------------------------------------------------

    def join(self, PooledConnection pooled not None) -> None:
        """Begin to share a connection."""
        (<Driver>pooled.driver).join(self, pooled, self.wakeup_batch)

    cdef int replied(self, Driver driver) except -1:
        cdef:
            PooledConnection pooled = <PooledConnection>driver.pooled
            bint held_back
        if pooled.leased or pooled.gone:
            if self.scheduler.holds_back:
                # The read was sent before the replacement of this connection was decided.
                self.loop.call_soon(self.serve)
            return 0
        if driver.session.commands.on_server() and pooled.is_reset:
            self.maintenance.quarantine(pooled)
            return 0
        held_back = self.scheduler.holds_back
        self.fill(pooled, False)
        if held_back or self.scheduler.holds_back:
            # A read that held back another claim may be done, and that claim may use any connection.
            self.loop.call_soon(self.serve)
        if self.overrun_check is None and pooled.work.first is not None and pooled.work.head().asked_twice:
            self.watch(boot_seconds())
        return 0

    cdef int held(self, Driver driver) except -1:
        cdef PooledConnection pooled = <PooledConnection>driver.pooled
        pooled.blocked = True
        if not pooled.leased and not pooled.gone:
            self.move(pooled)
            if self.scheduler.alone.count or self.scheduler.pipelined.count:
                # Other connections may be idle. This call may come in the middle of a reply.
                self.loop.call_soon(self.serve)
        return 0

    cdef int resumed(self, Driver driver) except -1:
        cdef PooledConnection pooled = <PooledConnection>driver.pooled
        pooled.blocked = pooled.reported is not None
        self.look_at_overrun_head(pooled)
        return self.fill(pooled, False)

    cdef int reported(self, Driver driver, str name) except -1:
        """Block the connection until it is known whether a shared call has changed the setting."""
        cdef PooledConnection pooled = <PooledConnection>driver.pooled
        if name == 'in_hot_standby':
            # The server's role is not a setting.
            self.maintenance.role_reported(pooled)
            return 0
        if pooled.leased or pooled.gone or not pooled.is_reset:
            # The reset of a lease undoes its changes. Only a change of the server's configuration stays.
            if name == 'default_transaction_read_only':
                self.maintenance.role_unsure(pooled)
            return 0
        if pooled.reported is None:
            pooled.reported = set()
            pooled.blocked = True
            self.maintenance.settings_reported(pooled)
        pooled.reported.add(name)
        return 0

    def take_unsent(self, PooledConnection pooled not None) -> None:
        """Move requests that are queued on a connection and were not sent to other connections."""
        self.move(pooled, False)
        self.serve()

    def unblock(self, PooledConnection pooled not None) -> None:
        """Use a connection again after its session was found unchanged."""
        pooled.reported = None
        pooled.blocked = (<Driver>pooled.driver).session.cancellation.is_open
        self.look_at_overrun_head(pooled)
        self.fill(pooled, True)

    cdef bint take_back(self, Driver driver, Request request, bint started) except -1:
        cdef:
            object fatal = driver.session.fatal
            object sqlstate = None if fatal is None else getattr(fatal, 'sqlstate', None) or ''
            double now = boot_seconds()
            bint again = self.running and self.scheduler.may_be_sent_again(
                call_of(request), <PooledConnection>driver.pooled, sqlstate, started, now)
        if request.repetition is not None and (again or not request.repetition.waits):
            # The repetition is still in flight, or is sent later.
            request.release()
            return True
        if not again or not request.is_wanted():
            return False
        self.scheduler.put_back(request, now)
        return True

    # -- leases that wait for the pool ------------------------------------------------------------------------------

    cdef int watch_starvation(self) except -1:
        """While all connections are leased, check after a second whether callers still wait, and log it once."""
        if self.starvation_check is None and not self.scheduler.available and not self.scheduler.opening:
            self.starvation_check = self.loop.call_later(STARVATION, self._check_starvation)
        return 0

    def _check_starvation(self):
        if self.running and self.scheduler.waiting and not self.scheduler.available and not self.scheduler.opening:
            # The timer is kept, so this is reported only once until a connection is shared again.
            self.maintenance.report_starvation()
        else:
            self.starvation_check = None

    # -- overrun heads ---------------------------------------------------------------------------------------------

    cdef int watch(self, double now) except -1:
        """Schedule the next check for heads that have overrun with other requests behind them."""
        cdef double seconds = self.scheduler.next_check(now)
        if seconds >= 0 and self.running:
            self.overrun_check = self.loop.call_later(seconds, self._check_overruns)
        return 0

    def _check_overruns(self):
        cdef:
            PooledConnection pooled
            Driver driver
            Claim head
            Query repetition
            double now = boot_seconds()
            list found = []
        self.overrun_check = None
        for pooled in self.scheduler.overrunning(now):
            driver = <Driver>pooled.driver
            if driver.transport.socket_state is not None and driver.transport.socket_state.has_unread():
                # The reply has arrived; only this event loop is late.
                pooled.work.head_since = now
                continue
            self.scheduler.mark_overrun(pooled)
            self.move(pooled)
            found.append(pooled)
        if found:
            self.preempt()
            for pooled in found:
                head = pooled.work.head()
                if isinstance(head, Query) and (<Query>head).repetition is not None and (<Query>head).state != ABANDONED \
                        and (<Driver>pooled.driver).is_head(<Query>head):
                    # It is no longer stuck, and must not occupy two connections.
                    repetition, (<Query>head).repetition = (<Query>head).repetition, None
                    self.give_up(repetition)
            self.serve()
            if self.scheduler.can_grow:
                self.maintenance.refill()
        self.watch(now)

    cdef int look_at_overrun_head(self, PooledConnection pooled) except -1:
        """Preempt the head of a connection that is no longer blocked, if it has overrun while it could not be preempted."""
        if pooled.work.overrun and not pooled.blocked and self.running:
            # This call may come in the middle of a reply.
            self.loop.call_soon(self.preempt)
        return 0

    cpdef int preempt(self) except -1:
        """Preempt plain reads in favour of earlier claims. The reads are repeated later."""
        cdef:
            Query request, original
            Driver driver
            double now = boot_seconds()
        for claim in self.scheduler.to_preempt():
            if not isinstance(claim, Query):
                continue
            request = original = <Query>claim
            driver = <Driver>request.work.pooled.driver
            if request.state != SENT or not driver.is_head(request) or not request.is_wanted() \
                    or driver.session.cancellation.key is None:
                continue
            if request.is_repetition:
                original, request.original = request.original, None
                original.repetition = None
            if original.repetition is None:
                self.scheduler.put_back(repetition_of(original), now)
            driver.give_up(request)
        return 0

    cdef int move(self, PooledConnection pooled, bint repeats=True) except -1:
        """Move the requests that are stuck on a connection to others.

        A request that was not sent is moved. A plain read that was sent behind the head is repeated if `repeats` says
        so.
        """
        cdef:
            Driver driver = <Driver>pooled.driver
            Request request
            double now = boot_seconds()
        if not self.running:
            # Waiting claims would not be served any more, so the requests stay here.
            return 0
        for request in list(pooled.work):
            if request.state == SENT:
                if repeats and request.movable and not request.asked_twice \
                        and not driver.is_head(request) and request.is_wanted():
                    self.scheduler.put_back(repetition_of(<Query>request), now)
            elif request.state <= QUEUED and request.shared and not driver.is_head(request) \
                    and request.can_encode_again() and driver.session.cancellation.take_back(request):
                request.renew()
                self.scheduler.put_back(request, now)
        return 0

    # -- statistics ------------------------------------------------------------------------------------------------

    cdef int count_wait(self, double seconds) except -1:
        cdef int at = 0
        while at < 13 and seconds > BUCKETS[at]:
            at += 1
        self.waits[at] += 1
        self.waited += seconds
        return 0

    def wait_counts(self) -> tuple:
        """Return how many callers waited, for each bucket of BOUNDS and the one above."""
        return tuple([self.waits[at] for at in range(14)])

    @property
    def seconds_waited(self) -> float:
        """Total seconds that callers have waited."""
        return self.waited

    def fail(self, Claim claim not None, error: BaseException) -> None:
        """Raise an error in the caller of a claim that was removed from the wait queue."""
        if isinstance(claim, LeaseClaim):
            if not (<LeaseClaim>claim).waiter.done():
                (<LeaseClaim>claim).waiter.set_exception(error)
        else:
            (<Request>claim).fail(error)


cdef Request call_of(Request request):
    """Return the request that the caller awaits: that which this one repeats, or itself."""
    if isinstance(request, Query) and (<Query>request).original is not None:
        return (<Query>request).original
    return request


def in_order(Query first not None, Query second not None) -> bool:
    """Return whether the second request of a pair was sent behind the first, and neither was sent again since."""
    return 0 < first.sent_at <= second.sent_at and first.repeated == 0


@cython.final
cdef class SharedCalls:
    """The query methods of a pool as shared calls, with the pool's defaults.

    This is compiled because it runs for every call. With `off` no call is shared.
    """

    def __init__(self, Dispatcher dispatcher not None, connection_class, record_class, command_timeout, bint off):
        self.dispatcher = dispatcher
        self.connection_class = connection_class
        self.record_class = record_class
        self.command_timeout = command_timeout
        self.off = off

    cpdef bint takes(self, method) except -1:
        """Return whether calls of a query method may be shared.

        They may not if the connection class, a tracing tool or a mock has another function in its place.
        """
        return not self.off and getattr(self.connection_class, method.name) is method.original

    def request(self, method, query, args, column, rows, timeout):
        """Request a call of a query method on a shared connection; return the request, to be awaited.

        Return None if the call needs a lease.
        """
        if not self.takes(method):
            return None
        cdef:
            Dispatcher dispatcher = self.dispatcher
            object seconds = self.command_timeout if timeout is None else checked_timeout(timeout)
            object row_class = self.record_class if rows is None else checked_record_class(rows)
            object watched = None
            int kind = method.kind
        if self.hooks is not None:
            watched = self.hooks.watched('batch' if method.many else 'query', query, args, seconds)
        if method.many:
            return dispatcher.batch(query, args, row_class, kind == ROWS, seconds, watched)
        if args or kind != STATUS:
            return dispatcher.query(query, args, kind, method.limit, column, row_class, seconds, watched)
        return dispatcher.direct(query, seconds, watched)
