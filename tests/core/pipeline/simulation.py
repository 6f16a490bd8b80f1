"""A small PostgreSQL in memory, and a random life of a session with it.

The backend knows a handful of statements, transactions, stale plans and CancelRequests; it works a message at a time,
so a signal may arrive at any point. Every call carries a token of its own: its argument, which is echoed or written.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from typing import Any

from headrace import exceptions
from headrace._core.pipeline.requests import Request
from tests.core.pipeline.script import DRAINED, DROPPED, INT4, NUMBER, SIGNAL, Call, Conversation, int4, split
from tests.peers import backend, frontend

ECHOES = [f"SELECT $1::int4 AS n, {i}" for i in range(4)]
WRITE = "INSERT INTO t VALUES ($1)"
DIVIDE = "SELECT 1 / $1::int4 AS n"
BAD = "SELEC $1"

NO_PORTAL = "headrace: the rest of the batch could not be encoded"


class Refusal(Exception):
    """The backend answers with an error."""

    def __init__(self, code: str, text: str = "", *, stale: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.text = text
        self.stale = stale


@dataclass
class Statement:
    """A prepared statement, as the backend keeps it."""

    sql: str
    stale: bool = False


class Backend:
    """Reads what the session writes, a message at a time, and answers."""

    def __init__(self) -> None:
        self.inbox: list[frontend.Message] = []
        self.outbox = bytearray()
        self.statements: dict[str, Statement] = {}
        self.bound: tuple[str, int] | None = None
        self.status = "I"
        self.skipping = False
        self.busy = False
        self.unwritten: list[int] = []
        self.written: list[int] = []
        self.runs: list[tuple[int, str]] = []
        """Every execution of a token: what became of it, and in which transaction status."""
        self.refused: dict[int, list[tuple[str, str]]] = {}
        """Every refusal of a token: SQLSTATE, and the transaction status it happened in."""

    def say(self, *messages: bytes) -> None:
        for message in messages:
            self.outbox += message

    def signal(self) -> None:
        """A CancelRequest arrives: what runs fails, and where nothing runs it is forgotten."""
        if self.busy and not self.skipping:
            self.refuse(Refusal("57014", "canceling statement due to user request"))

    def invalidate(self) -> None:
        """What the statements return has changed."""
        for statement in self.statements.values():
            statement.stale = True

    def step(self) -> None:
        """Read one message."""
        message = self.inbox.pop(0)
        if isinstance(message, frontend.Sync):
            self.sync()
        elif isinstance(message, frontend.Query):
            if not self.busy:
                # In two steps, so that a signal can come in between.
                self.busy = True
                self.inbox.insert(0, message)
                return
            if not self.skipping:
                try:
                    self.script(message.sql)
                except Refusal as refusal:
                    self.refuse(refusal)
            self.sync()
        else:
            self.busy = True
            if not self.skipping:
                try:
                    self.work(message)
                except Refusal as refusal:
                    self.refuse(refusal)

    def sync(self) -> None:
        if not self.skipping and self.status == "I":
            self.written += self.unwritten
        if self.status == "I":
            self.unwritten = []
        self.skipping = self.busy = False
        self.bound = None
        self.say(backend.ready_for_query(self.status))

    def refuse(self, refusal: Refusal) -> None:
        if self.bound is not None:
            self.refused.setdefault(self.bound[1], []).append((refusal.code, self.status))
        routine = "RevalidateCachedQuery" if refusal.stale else None
        self.say(backend.error_response(refusal.text or refusal.code, code=refusal.code, routine=routine))
        self.skipping = True
        self.unwritten = [] if self.status == "I" else self.unwritten
        if self.status == "T":
            self.status = "E"

    def work(self, message: frontend.Message) -> None:
        if isinstance(message, frontend.Bind):
            self.bound = ("", struct.unpack("!i", message.values[0] or b"\0\0\0\0")[0])
        if self.status == "E" and not isinstance(message, frontend.Close):
            raise Refusal("25P02")
        if isinstance(message, frontend.Parse):
            if message.sql == BAD:
                raise Refusal("42601")
            if message.name and message.name in self.statements:
                raise Refusal("42P05", f'prepared statement "{message.name}" already exists')
            self.statements[message.name] = Statement(message.sql)
            self.say(backend.parse_complete())
        elif isinstance(message, frontend.Describe) and message.kind == "P":
            assert self.bound is not None, "Describe without Bind"
            self.say(backend.no_data() if self.bound[0] == WRITE else backend.row_description(NUMBER))
        elif isinstance(message, frontend.Describe):
            self.find(message.name)
            self.say(backend.parameter_description(INT4))
            writes = self.statements[message.name].sql == WRITE
            self.say(backend.no_data() if writes else backend.row_description(NUMBER))
        elif isinstance(message, frontend.Bind):
            assert self.bound is not None
            statement = self.find(message.statement)
            if statement.stale:
                raise Refusal("0A000", "cached plan must not change result type", stale=True)
            self.bound = (statement.sql, self.bound[1])
            self.say(backend.bind_complete())
        elif isinstance(message, frontend.Execute):
            self.execute(message)
        elif isinstance(message, frontend.Close):
            self.statements.pop(message.name, None)
            self.say(backend.close_complete())
        else:
            raise AssertionError(f"the session sends {message}")

    def find(self, name: str) -> Statement:
        if name not in self.statements:
            raise Refusal("26000", f'prepared statement "{name}" does not exist')
        return self.statements[name]

    def execute(self, message: frontend.Execute) -> None:
        if message.portal == NO_PORTAL:
            raise Refusal("34000", "portal does not exist")
        assert self.bound is not None, "Execute without Bind"
        sql, token = self.bound
        if sql == DIVIDE:
            raise Refusal("22012", "division by zero")
        self.runs.append((token, self.status))
        if sql == WRITE:
            self.unwritten.append(token)
            self.say(backend.command_complete("INSERT 0 1"))
        else:
            self.say(backend.data_row(int4(token)), backend.command_complete("SELECT 1"))

    def script(self, sql: str) -> None:
        tag = sql
        if self.status == "E" and sql not in ("COMMIT", "ROLLBACK"):
            raise Refusal("25P02")
        if sql == "BEGIN":
            self.status = "T"
        elif sql in ("COMMIT", "ROLLBACK"):
            if sql == "COMMIT" and self.status == "T":
                self.written += self.unwritten
            tag = sql if self.status != "E" else "ROLLBACK"
            self.unwritten = []
            self.status = "I"
        elif sql == "DEALLOCATE ALL":
            self.statements.clear()
        self.say(backend.command_complete(tag))


@dataclass
class Asked:
    """A call, and what is known of it from outside."""

    call: Call
    tokens: list[int]
    kind: str
    shared: bool = False
    inside: bool = False
    """True if it belongs to a transaction."""
    given_up: bool = False
    dropped: bool = False
    expected: Any = None


@dataclass
class Life:
    """One random life; `live()` raises AssertionError for whatever must not happen in it."""

    seed: int
    max_pipeline: int = 100
    cache: int = 3
    unnamed: bool = False
    plain: bool = False
    """Few statements, and such as can be run again: then long pipelines form, whose heads may be signalled."""
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.talk = Conversation(
            max_pipeline=self.max_pipeline, statement_cache_size=self.cache, unnamed_statements=self.unnamed
        )
        self.backend = Backend()
        self.tokens = 0
        self.signals = 0
        self.arrived = 0
        self.target: Request | None = None
        self.inside = False

    # What callers do

    def token(self) -> int:
        self.tokens += 1
        return self.tokens

    def note(self, call: Call, tokens: list[int], kind: str, *, shared: bool = False, expected: Any = None) -> None:
        self.asked.append(Asked(call, tokens, kind, shared, self.inside, expected=expected))

    def fetch(self) -> None:
        token, shared = self.token(), self.random.random() < 0.4
        call = self.talk.fetch(self.random.choice(ECHOES[:1] if self.plain else ECHOES), token, shared=shared)
        self.note(call, [token], "echo", shared=shared, expected=[(token,)])

    def write(self) -> None:
        token, shared = self.token(), self.random.random() < 0.4
        self.note(
            self.talk.execute(WRITE, token, shared=shared), [token], "write", shared=shared, expected="INSERT 0 1"
        )

    def fail(self) -> None:
        token = self.token()
        self.note(self.talk.fetch(DIVIDE if self.plain else self.random.choice([DIVIDE, BAD]), token), [token], "fail")

    def write_many(self) -> None:
        tokens = [self.token() for _ in range(self.random.choice([0, 1, 2, 5] * 8 + [2000]))]
        elements: Any = [(token,) for token in tokens]
        kind = "batch"
        if self.random.random() < 0.3:
            elements, kind = iter(elements), "batch once"
        if self.random.random() < 0.2 and len(tokens) > 1000:
            elements, kind = iter([*elements, ("bad",)]), "bad batch"
        self.note(self.talk.batch(WRITE, elements), tokens, kind)

    def run_script(self) -> None:
        text = self.random.choice(["SELECT 1", "DEALLOCATE ALL", "SET x = 1"])
        self.note(self.talk.script(text), [], "script", expected=text)

    def transact(self) -> None:
        """As on a lease: nobody shares the session meanwhile."""
        self.talk.session.statements.barrier()
        self.inside = True
        self.note(self.talk.script("BEGIN"), [], "begin")
        for _ in range(self.random.randrange(4)):
            self.random.choice([self.fetch, self.write, self.fail, self.write_many])()
        self.note(self.talk.script(self.random.choice(["COMMIT", "ROLLBACK"]), uncancellable=True), [], "end")
        self.inside = False

    def give_up(self) -> None:
        waiting = [each for each in self.asked if not each.call.settled and not each.given_up]
        running = [each for each in waiting if each.call.request is next(iter(self.talk.session.sent), None)]
        if waiting:
            each = self.random.choice(running or waiting if self.random.random() < 0.5 else waiting)
            each.given_up = True
            each.call.waiter.settled = True
            answer = self.talk.cancel(each.call)
            each.dropped = answer == DROPPED
            self.signalled(answer)

    # What the owner of the socket and the server do

    def signalled(self, answer: Any) -> None:
        if answer == SIGNAL:
            self.signals += 1
            self.target = self.talk.session.cancellation.target

    def grace_over(self) -> None:
        if self.talk.session.cancellation.is_open:
            return
        answer = self.talk.session.cancellation.time_is_up()
        assert answer in (DRAINED, SIGNAL)
        self.signalled(answer)

    def write_out(self) -> None:
        self.backend.inbox += split(self.talk.session.take_output())

    def step(self) -> None:
        for _ in range(self.random.choice([1, 2, 5, 20])):
            if self.backend.inbox:
                self.backend.step()

    def read(self) -> None:
        outbox = self.backend.outbox
        size = self.random.choice([len(outbox), self.random.randrange(len(outbox) + 1), 1])
        self.talk.reply(bytes(outbox[:size]))
        del outbox[:size]

    def arrive(self) -> None:
        if self.signals:
            self.signals -= 1
            self.backend.signal()
            self.arrived += 1

    def arrive_late(self) -> None:
        """The signal comes when its target is done and its neighbour has begun."""
        if self.signals:
            while self.backend.busy and self.backend.inbox:
                self.backend.step()
            while not self.backend.busy and self.backend.inbox:
                self.backend.step()
            self.arrive()

    def deliver(self) -> None:
        if self.arrived:
            self.arrived -= 1
            self.talk.session.cancellation.delivered()
            # It came too early, or its effect has not been seen yet: once more.
            if self.talk.session.cancellation.is_open and self.target is not None and self.random.random() < 0.3:
                self.signals += self.talk.session.cancellation.repeat(self.target)

    def invalidate(self) -> None:
        self.backend.invalidate()

    # All of it

    def live(self, moves: int = 150) -> None:
        """Live, settle down, and check what has come of everything."""
        actions = (
            [self.fetch] * 6 + [self.write] * 3 + [self.fail]
            + [self.give_up] * 3 + [self.grace_over]
            + [self.write_out] * 5 + [self.step] * 9 + [self.read] * 7
            + [self.arrive, self.arrive_late] * 8 + [self.deliver] * 4
        )  # fmt: skip
        if not self.plain:
            actions += [self.write_many, self.run_script, self.transact, self.invalidate]
        for _ in range(moves):
            self.random.choice(actions)()
        self.settle_down()
        self.check()

    def settle_down(self) -> None:
        session = self.talk.session
        for _ in range(1000):
            if not (
                session.wants_output() or self.backend.inbox or self.backend.outbox or self.signals or self.arrived
            ):
                break
            self.write_out()
            while self.backend.inbox:
                self.backend.step()
            self.read()
            self.arrive()
            self.deliver()
        else:
            raise AssertionError("it never comes to rest")
        assert self.talk.idle, f"{session.count_pending()} requests wait for ever, in flight: {[*session.sent]}"
        assert not session.cancellation.is_open

    def check(self) -> None:
        for each in self.asked:
            self.check_outcome(each)
        self.check_writes()
        self.check_place()
        self.check_order()

    def check_outcome(self, each: Asked) -> None:
        if each.given_up:
            if each.dropped:
                ran = {token for token, _ in self.backend.runs if token not in self.backend.refused}
                assert ran.isdisjoint(each.tokens), "sent although it was dropped"
            return
        assert each.call.settled, f"{each} waits for ever"
        error = each.call.waiter.error
        if error is None:
            assert each.kind not in ("fail", "bad batch"), f"{each} must fail"
            if each.expected is not None:
                assert each.call.value == each.expected, f"{each} got {each.call.value}"
            return
        if isinstance(error, exceptions.ArgumentError):
            assert each.kind == "bad batch"
            return
        assert isinstance(error, exceptions.PostgresError)
        code = error.sqlstate
        refusals = [refusal for token in each.tokens for refusal in self.backend.refused.get(token, [])]
        stale = [status for code, status in refusals if code in ("26000", "0A000")]
        if each.kind == "fail":
            assert code in ("22012", "42601", "25P02", "26000", "0A000")
        elif code in ("26000", "0A000"):
            # Inside a transaction, the second time, with no elements left to run a batch again, or with a transaction
            # begun behind it.
            excused = stale[-1] != "I" or len(stale) > 1 or each.kind in ("batch once", "bad batch")
            excused = excused or error.safe_to_retry
            assert excused, f"{each}: {code} was to be unseen"
        else:
            # A 57014 may be seen by nobody who did not give up.
            assert code == "25P02", f"{each} got {code}"

    def check_writes(self) -> None:
        written = self.backend.written
        assert len(set(written)) == len(written), "written twice"
        for each in self.asked:
            if each.given_up or "batch" not in each.kind:
                continue
            kept = [token in written for token in each.tokens]
            assert all(kept) or not any(kept), f"{each} is half done"
            if each.call.waiter.error is not None:
                assert not any(kept)

    def check_place(self) -> None:
        """What was asked outside of a transaction has run outside of one, whose end would be its end too."""
        for each in self.asked:
            if not each.inside and not each.given_up and each.call.waiter.error is None:
                for token in each.tokens:
                    assert self.last_status(token) == "I", f"{each} has run inside a transaction"

    def last_status(self, token: int) -> str:
        """The transaction status in which a token was executed last."""
        return [status for ran, status in self.backend.runs if ran == token][-1]

    def check_order(self) -> None:
        """Calls that are not shared run in their order, but for those that had to be run again."""
        strict = {token for each in self.asked if not each.shared and "batch" not in each.kind for token in each.tokens}
        ran: list[int] = []
        for token, _ in self.backend.runs:
            if token in strict and token not in self.backend.refused:
                ran.append(token)
        assert ran == sorted(ran), "out of order"
