"""What a session must do, in plain Python: a server in memory, and a reference that reads along on the wire.

The reference knows nothing of the session. It cuts what is written into units, each up to its Sync or simple query,
and what is read at each ReadyForQuery: the n-th answer belongs to the n-th unit, and a unit to the call whose token is
in it. `Model` asks a session for things, carries bytes between it and the server, and compares: whatever the reference
says that a call has come to, the call must have come to, no sooner and no later.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from headrace import exceptions
from headrace._core.pipeline.copy import CopyIn, CopyOut
from headrace._core.pipeline.requests import Request
from headrace._core.pipeline.statement_cache import Statement
from tests.core.pipeline.script import DROPPED, SIGNAL, Call, Conversation, Waiter, split
from tests.core.pipeline.simulation import BAD, DIVIDE, ECHOES, WRITE, Backend, Refusal
from tests.peers import backend, frontend

_TOKEN = re.compile(r"/\* ([0-9]+) \*/")

STALE = ("26000", "0A000")
CONTROLS = ("BEGIN", "COMMIT", "ROLLBACK")
"""What simple queries begin with that begin or end a transaction."""
CHANGES = ("BEGIN", "COMMIT", "ROLLBACK", "SET", "DEALLOCATE", "DISCARD")
"""What simple queries begin with that change more than tables."""
UNSEEN = (*STALE, "57014")
"""What the session may meet by running a request again."""


class Server(Backend):
    """The small PostgreSQL of the simulation, with COPY, asynchronous messages and an end."""

    def __init__(self) -> None:
        super().__init__()
        self.copying = 0
        self.received: list[bytes] | None = None
        """CopyData of the COPY FROM STDIN that runs; None where none does."""

    def step(self) -> None:
        message = self.inbox[0]
        if self.received is not None:
            self.inbox.pop(0)
            self._copy_in(message)
        elif isinstance(message, (frontend.CopyData, frontend.CopyDone, frontend.CopyFail)):
            self.inbox.pop(0)  # sent before the error had come (protocol-copy)
        elif isinstance(message, frontend.Query) and message.sql.startswith("COPY"):
            self._copy(message)
        else:
            super().step()

    def _copy(self, message: frontend.Query) -> None:
        if not self.busy:
            # In two steps, so that a signal can come in between.
            self.busy = True
            return
        self.inbox.pop(0)
        if self.skipping or self.status == "E":
            if not self.skipping:
                self.refuse(Refusal("25P02"))
            self.sync()
        elif "FROM STDIN" in message.sql:
            self.received = []
            self.say(backend.copy_in_response(0))
        else:
            (token,) = tokens_in(message.sql)
            self.say(backend.copy_out_response(0), *map(backend.copy_data, copied_out(token)), backend.copy_done())
            self.say(backend.command_complete(f"COPY {len(copied_out(token))}"))
            self.sync()

    def _copy_in(self, message: frontend.Message) -> None:
        assert self.received is not None
        if isinstance(message, frontend.CopyData):
            self.received.append(message.data)
        elif isinstance(message, frontend.CopyDone):
            self.say(backend.command_complete(f"COPY {len(self.received)}"))
            self.received = None
            self.sync()
        elif isinstance(message, frontend.CopyFail):
            self.received = None
            self.refuse(Refusal("57014", "COPY from stdin failed"))
            self.sync()
        else:
            raise AssertionError(f"the session sends {message} while the server copies in")

    def signal(self) -> None:
        copying = self.received is not None
        self.received = None
        super().signal()
        if copying:
            self.sync()

    def script(self, sql: str) -> None:
        super().script(sql.partition(" /*")[0])

    def die(self, words: bytes) -> None:
        """Say that it is over, and be gone."""
        self.say(words)
        self.inbox.clear()


def copied_out(token: int) -> list[bytes]:
    """The rows that COPY TO STDOUT gives."""
    return [f"{token}\n".encode()] * (token % 4)


def tokens_in(text: str) -> list[int]:
    """The tokens that a text carries."""
    return [int(found) for found in _TOKEN.findall(text)]


@dataclass
class Unit:
    """What was written up to one Sync or simple query, and what came in answer."""

    sql: str | None = None
    """The text of a simple query."""
    bound: bool = False
    """True if BindComplete has come."""

    tokens: list[int] = field(default_factory=list)
    parsed: list[str] = field(default_factory=list)
    copies: bool = False
    whole: bool = False
    rows: list[int] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    copied: bytes = b""
    error: str | None = None
    status: str | None = None
    """The transaction status of the ReadyForQuery that ended it."""
    commits: bool = False
    """True if it is a COMMIT."""
    changes: bool = False
    """True if it begins or ends a transaction, or changes the session."""
    changes_behind: bool = False
    """True if there was such a one in flight behind it when its answer had come."""


class Reference:
    """Reads along on both sides of the wire."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.answered = 0
        self.status = "I"
        self.told: list[Any] = []
        """Notices, notifications and parameters, in order."""
        self.fatal: str | None = None
        self.proof = False
        """True if the server's last words prove that it started nothing behind the head."""
        self.refused_texts: dict[str, set[str]] = {}
        """SQLSTATEs that preparing a text has come to."""
        self._by_token: dict[int, list[Unit]] = {}
        self._unread = b""

    @property
    def head(self) -> Unit | None:
        """What the server answers now."""
        return self.units[self.answered] if self.answered < len(self.units) else None

    def is_in_block(self, unit: Unit) -> bool:
        """True if a unit in flight stands in a transaction block, or begins or ends one."""
        block = self.status != "I"
        for each in self.units[self.answered :]:
            controls = each.sql is not None and each.sql.startswith(CONTROLS)
            if each is unit:
                return block or controls
            if controls:
                assert each.sql is not None
                block = each.sql.startswith("BEGIN")
        raise AssertionError("the unit is not in flight")

    def may_have_started(self, unit: Unit) -> bool:
        """True if the server may have started a unit in flight."""
        if not self.proof:
            return True
        return unit is self.head and (unit.bound or unit.sql is not None)

    @property
    def in_flight(self) -> int:
        """Units written and not answered."""
        return len(self.units) - self.answered

    def of(self, tokens: Iterable[int]) -> list[Unit]:
        """The units that carry one of the tokens, in order."""
        found = {id(unit): unit for token in tokens for unit in self._by_token.get(token, [])}
        return list(found.values())

    def wrote(self, messages: Iterable[frontend.Message]) -> None:
        """Take what the session has written."""
        for message in messages:
            last = self.units[-1] if self.units else None
            if isinstance(message, (frontend.CopyData, frontend.CopyDone, frontend.CopyFail)):
                assert last is not None, "CopyData without COPY"
                assert last.copies, "CopyData without COPY"
                continue
            if last is None or last.whole:
                assert last is None or not last.copies or last.status is not None, "written behind a COPY that runs"
                last = Unit()
                self.units.append(last)
            self._note(last, message)

    def _note(self, unit: Unit, message: frontend.Message) -> None:
        found: list[int] = []
        if isinstance(message, frontend.Bind):
            if message.values and message.values[0] is not None:
                found = [struct.unpack("!i", message.values[0])[0]]
        elif isinstance(message, frontend.Parse):
            unit.parsed.append(message.sql)
        elif isinstance(message, frontend.Query):
            found = tokens_in(message.sql)
            unit.sql = message.sql
            unit.copies = message.sql.startswith("COPY")
            unit.commits = message.sql.startswith("COMMIT")
            unit.changes = message.sql.startswith(CHANGES)
        unit.whole = isinstance(message, (frontend.Sync, frontend.Query))
        for token in found:
            unit.tokens.append(token)
            units = self._by_token.setdefault(token, [])
            if not units or units[-1] is not unit:
                units.append(unit)

    def read(self, data: bytes) -> None:
        """Take what the session has been fed."""
        self._unread += data
        at = 0
        for kind, body in backend.split(self._unread):
            at += 5 + len(body)
            self._answer(kind, body)
        self._unread = self._unread[at:]

    def _answer(self, kind: bytes, body: bytes) -> None:
        if self.fatal is not None:
            return
        fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part} if kind in b"EN" else {}
        if kind in b"NAS":
            self.told.append(_told(kind, body))
            self.proof = self.proof or fields.get(b"R") == "quickdie"
            return
        unit = self.head
        if kind == b"E":
            if fields[b"S"] == "FATAL":
                self.fatal = fields[b"C"]
                self.proof = self.proof or fields.get(b"R") == "ProcessInterrupts"
                return
            assert unit is not None
            unit.error = unit.error or fields[b"C"]
            for text in unit.parsed:
                self.refused_texts.setdefault(text, set()).add(fields[b"C"])
            return
        assert unit is not None
        if kind == b"D":
            unit.rows.append(struct.unpack("!i", body[6:10])[0])
        elif kind == b"2":
            unit.bound = True
        elif kind == b"C":
            unit.tags.append(body[:-1].decode())
        elif kind == b"d":
            unit.copied += body
        elif kind == b"Z":
            if self.status == "E" and unit.commits and unit.tags == ["ROLLBACK"]:
                unit.error = "25P02"  # the caller is told that nothing was kept
            unit.status = self.status = body.decode()
            self.proof = False
            self.answered += 1
            unit.changes_behind = any(behind.changes for behind in self.units[self.answered :])


def _told(kind: bytes, body: bytes) -> Any:
    if kind == b"A":
        channel, payload, _ = body[4:].split(b"\0")
        return "notification", channel.decode(), payload.decode()
    if kind == b"S":
        name, value, _ = body.split(b"\0")
        return "parameter", name.decode(), value.decode()
    return "notice", next(part[1:] for part in body.split(b"\0") if part[:1] == b"M").decode()


class Listener:
    """Takes what the session tells, in the order in which it does."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.offered: dict[int, bool] = {}
        """Requests that may run again on another connection, by identity, and whether they may have been started."""

    def requeue(self, request: Request, started: bool) -> bool:
        self.offered[id(request)] = started
        return False

    def notice(self, message: exceptions.PostgresLogMessage) -> None:
        self.told.append(("notice", message.message))

    def notification(self, pid: int, channel: str, payload: str) -> None:
        self.told.append(("notification", channel, payload))

    def parameter(self, name: str, value: str) -> None:
        self.told.append(("parameter", name, value))

    def set_cancel_timer(self, seconds: float) -> None:
        pass

    def writable(self) -> None:
        pass


@dataclass
class Asked:
    """A call, and what is known of it from outside."""

    call: Call
    kind: str
    tokens: list[int]
    text: str = ""
    shared: bool = False
    given_up: bool = False
    units_when_dropped: int | None = None


class Model:
    """A session, its server and the reference between them; every method is a thing that may happen."""

    def __init__(self, *, max_pipeline: int = 100, cache: int = 100) -> None:
        self.listener = Listener()
        self.talk = Conversation(log=self.listener, max_pipeline=max_pipeline, statement_cache_size=cache)
        self.listener.told.clear()
        self.session = self.talk.session
        self.server = Server()
        self.reference = Reference()
        self.asked: list[Asked] = []
        self._open: list[Asked] = []
        self.held: list[Statement] = []
        self.tokens = 0
        self.signals = 0
        self.arrived = 0
        self.target: Request | None = None
        self.dead = False
        self._max_pipeline = max_pipeline

    # What callers do

    def token(self) -> int:
        """A token that no call had before."""
        self.tokens += 1
        return self.tokens

    def note(self, call: Call, kind: str, tokens: list[int], text: str = "", *, shared: bool = False) -> Call:
        """Remember a call."""
        self.asked.append(Asked(call, kind, tokens, text, shared))
        self._open.append(self.asked[-1])
        return call

    def fetch(self, text: str, *, shared: bool = False) -> None:
        """Ask for rows; `text` echoes its argument, or fails."""
        token = self.token()
        self.note(self.talk.fetch(text, token, shared=shared), "rows", [token], text, shared=shared)

    def write(self, *, shared: bool = False) -> None:
        """Have a row written."""
        token = self.token()
        self.note(self.talk.execute(WRITE, token, shared=shared), "tag", [token], WRITE, shared=shared)

    def write_many(self, count: int, *, once: bool = False, bad: bool = False) -> None:
        """Have many rows written in one batch, `once`: from an iterator; `bad`: the last of them cannot be encoded."""
        tokens = [self.token() for _ in range(count)]
        elements: list[Any] = [(token,) for token in tokens]
        if bad:
            elements.append(("bad",))
        kind = "bad batch" if bad else "batch once" if once else "batch"
        try:
            call = self.talk.batch(WRITE, iter(elements) if once else elements)
        except exceptions.ArgumentError:
            assert bad, "good arguments are refused"
            return
        self.note(call, kind, tokens, WRITE)

    def run(self, sql: str, *, uncancellable: bool = False) -> None:
        """Run a simple query."""
        token = self.token()
        self.note(self.talk.script(f"{sql} /* {token} */", uncancellable=uncancellable), "script", [token], sql)

    def hold(self, text: str) -> None:
        """Prepare a statement that is kept."""
        statement = self.session.statements.hold(text)
        self.held.append(statement)
        self.note(self.talk.prepare(statement), "statement", [], text)

    def let_go(self) -> None:
        """Let go of a statement that was kept."""
        self.session.statements.release(self.held.pop(0))

    def copy_in(self) -> None:
        """Begin a COPY FROM STDIN."""
        token, waiter = self.token(), Waiter()
        request = CopyIn(waiter, Waiter(), f"COPY t FROM STDIN /* {token} */", None)
        self.note(self.talk.submit(request, waiter), "copy", [token])

    def copy_out(self) -> None:
        """Begin a COPY TO STDOUT."""
        token, waiter = self.token(), Waiter()
        request = CopyOut(waiter, Waiter(), f"COPY t TO STDOUT /* {token} */", None)
        self.note(self.talk.submit(request, waiter), "copy", [token])

    def flowing(self) -> CopyIn | None:
        """The COPY FROM STDIN that takes data now."""
        head = next(iter(self.session.sent), None)
        return head if isinstance(head, CopyIn) and head.flowing else None

    def feed_copy(self, *, end: bool) -> None:
        """Send data of a COPY FROM STDIN that wants it, or end it."""
        request = self.flowing()
        if request is not None:
            self.carry(request.end() if end else request.data_message(b"row\n"))

    def give_up(self, choice: int) -> None:
        """Give up one of the calls that wait, the head for choice 0."""
        waiting = [each for each in self.asked if not each.call.settled and not each.given_up]
        if not waiting:
            return
        head = [each for each in waiting if each.call.request is next(iter(self.session.sent), None)]
        each = head[0] if choice == 0 and head else waiting[choice % len(waiting)]
        each.given_up = True
        each.call.waiter.settled = True
        answer = self.talk.cancel(each.call)
        if answer == DROPPED:
            each.units_when_dropped = len(self.reference.of(each.tokens))
        self._signalled(answer)

    def grace_over(self) -> None:
        """Give up waiting for an abandoned head to end by itself."""
        if not self.session.cancellation.is_open:
            self._signalled(self.session.cancellation.time_is_up())

    def _signalled(self, answer: Any) -> None:
        if answer == SIGNAL:
            self.signals += 1
            self.target = self.session.cancellation.target

    # What the owner of the socket and the server do

    def carry(self, data: bytes) -> None:
        """Carry bytes to the server."""
        messages = split(data)
        self.reference.wrote(messages)
        if not self.dead:
            self.server.inbox += messages

    def write_out(self) -> None:
        """Carry what the session wants written."""
        self.carry(self.session.take_output())
        assert self.reference.in_flight <= self._max_pipeline, "more in flight than allowed"

    @property
    def is_lost(self) -> bool:
        """True if the connection is gone; the model never closes it."""
        return self.session.failure is not None

    def work(self, messages: int) -> None:
        """Let the server read so many messages."""
        for _ in range(messages):
            if self.server.inbox:
                self.server.step()

    def read(self, size: int) -> None:
        """Carry so many bytes of what the server has said."""
        data = bytes(self.server.outbox[:size])
        del self.server.outbox[:size]
        # The reference first: a decoder of ours may fail half way.
        self.reference.read(data)
        self.talk.feed(data)
        if self.session.fatal is not None:
            self.session.connection_lost(self.session.fatal)

    def tell(self, kind: str) -> None:
        """Let the server say something that nobody has asked for."""
        number = self.token()
        if kind == "notice":
            self.server.say(backend.notice_response(f"notice {number}", code="00000"))
        elif kind == "notification":
            self.server.say(backend.notification_response("channel", str(number)))
        else:
            self.server.say(backend.parameter_status("application_name", str(number)))

    def arrive(self) -> None:
        """A CancelRequest comes to the server."""
        if self.signals and not self.dead:
            self.signals -= 1
            self.arrived += 1
            self.server.signal()

    def deliver(self, *, again: bool) -> None:
        """The server closes the connection that carried a CancelRequest; `again`: its owner sends one more in doubt."""
        if self.arrived:
            self.arrived -= 1
            self.session.cancellation.delivered()
            if again and self.session.cancellation.is_open and self.target is not None:
                self.signals += self.session.cancellation.repeat(self.target)

    def die(self, words: bytes) -> None:
        """The server ends with a last word; what it has said before can still be read."""
        self.server.die(words)
        self.dead = True

    def lose(self) -> None:
        """The connection is gone, with whatever was not read."""
        self.dead = True
        self.server.inbox.clear()
        self.server.outbox.clear()
        self.session.connection_lost(ConnectionResetError("cut"))

    def settle_down(self) -> None:
        """Let everything come to an end."""
        for _ in range(1000):
            if not (
                self.session.wants_output() or self.server.inbox or self.server.outbox or self.signals or self.arrived
                or self.flowing()
            ):  # fmt: skip
                break
            self.write_out()
            self.feed_copy(end=True)
            self.work(len(self.server.inbox))
            self.read(len(self.server.outbox))
            self.arrive()
            self.deliver(again=False)
        else:
            raise AssertionError("it never comes to rest")

    # What must hold

    def check(self) -> None:
        """Compare with the reference; raises AssertionError for any difference."""
        reference, session = self.reference, self.session
        assert self.listener.told == reference.told
        if self.is_lost:
            assert self.talk.idle
        else:
            assert session.commands.status == reference.status
            assert session.sent.count == reference.in_flight
        for each in list(self._open):
            if not each.given_up:
                self._compare(each, reference.of(each.tokens))
            if each.call.settled:
                self._open.remove(each)

    def check_all(self) -> None:
        """Compare once more when nothing is left to happen."""
        self.check()
        assert not self._open
        for each in self.asked:
            if each.units_when_dropped is not None:
                units = self.reference.of(each.tokens)
                assert len(units) == each.units_when_dropped, f"{each} was sent although it was dropped"
        self._check_order()

    def _compare(self, each: Asked, units: list[Unit]) -> None:
        last = units[-1] if units else None
        if not each.call.settled:
            assert not self.is_lost, f"{each} waits for ever"
            if last is not None and last.status is not None:
                assert last.error in UNSEEN, f"{each} was answered, and waits on"
                assert last.status == "I", f"{each} was answered, and waits on"
            return
        error = each.call.waiter.error
        if error is None:
            self._compare_result(each, last)
        elif isinstance(error, exceptions.ArgumentError):
            assert each.kind == "bad batch", f"{each} is refused"
        elif isinstance(error, exceptions.ConnectionDoesNotExistError):
            assert self.is_lost, f"{each} is lost, the connection is not"
            self._compare_safety(each, last, error)
        else:
            assert isinstance(error, exceptions.PostgresError), f"{each}: {error!r}"
            self._compare_error(each, last, str(error.sqlstate), len(units))

    def _compare_result(self, each: Asked, last: Unit | None) -> None:
        value = each.call.value
        if each.kind == "statement":
            assert value.query == each.text
            return
        assert last is not None, f"{each} has a result, and was not sent"
        assert last.status is not None, f"{each} has a result before its answer has come"
        assert last.error is None, f"{each} has a result, but failed with {last.error}"
        assert last.tokens == each.tokens
        if each.kind == "rows":
            assert value == [(row,) for row in last.rows] == [(token,) for token in each.tokens]
        elif "batch" in each.kind:
            assert value is None
            assert len(last.tags) == len(each.tokens)
        else:
            assert value == last.tags[-1]
        if isinstance(each.call.request, CopyOut):
            assert each.call.request.take() in (last.copied, b"")

    def _compare_safety(self, each: Asked, last: Unit | None, error: Any) -> None:
        """Compare whether a call that the end has overtaken says that it is safe to retry, and is offered to others."""
        reference, sent = self.reference, last is not None and last.status is None
        assert ("it is safe to retry" in str(error)) == error.safe_to_retry, f"{each}: {error}"
        if sent:
            assert last is not None
            block = reference.is_in_block(last)
            started = reference.may_have_started(last)
        else:
            controls = [reference.of(other.tokens) for other in self.asked if other.text.startswith(CONTROLS)]
            block = reference.status != "I"
            started = False
            if any(not units or units[-1].status is None for units in controls) or (block and each.shared):
                # What stands ahead of it, and whether it is in the queue at all, cannot be seen from outside.
                return
            if each.kind in ("batch once", "bad batch"):
                return
        again = each.text in READS or (each.kind not in ("batch once", "bad batch") and not started)
        if each.kind == "bad batch":
            return
        assert error.safe_to_retry == (again and not block), f"{each}: {error}"
        request = each.call.request
        assert (id(request) in self.listener.offered) == (each.shared and error.safe_to_retry), f"{each} is offered"
        assert self.listener.offered.get(id(request), started) == started, f"{each} is offered as something else"

    def _compare_error(self, each: Asked, last: Unit | None, code: str, runs: int) -> None:
        reference = self.reference
        if self.is_lost and code == reference.fatal:
            head = reference.head
            assert head is not None
            assert head is last or each.text in head.parsed or not head.tokens, f"{each} is no head, but got {code}"
            own = last.error if last is not None and last is head else None
            assert own is None or (own in UNSEEN and reference.status == "I"), f"{each} had failed with {own} before"
            self._compare_safety(each, last, each.call.waiter.error)
            return
        if code in reference.refused_texts.get(each.text, ()):
            return
        assert last is not None, f"{each} failed with {code}, and was not sent"
        assert last.error == code, f"{each} failed with {code}, the server said {last.error}"
        assert last.status is not None or self.is_lost, f"{each} failed before its answer has ended"
        assert code != "57014" or each.kind == "copy", f"{each} was cancelled by somebody else"
        if code in STALE:
            # In a transaction, the second time, with no elements left to run a batch again, or where it would have run
            # in a transaction that was begun behind it.
            excused = last.status != "I" or runs > 1 or each.kind in ("batch once", "bad batch") or last.changes_behind
            assert excused, f"{each}: {code}"

    def _check_order(self) -> None:
        """Calls that are not shared are first sent in the order in which they were made."""
        places = {id(unit): place for place, unit in enumerate(self.reference.units)}
        first = [
            places[id(units[0])]
            for each in self.asked
            if not each.shared and (units := self.reference.of(each.tokens))
        ]  # fmt: skip
        assert first == sorted(first), "out of order"


READS = (*ECHOES, DIVIDE, "SELECT 1")
"""Queries that only read."""

LAST_WORDS = (
    backend.error_response("terminating connection", code="57P01", severity="FATAL", routine="ProcessInterrupts"),
    backend.error_response("query timeout", code="08P01", severity="FATAL"),
    backend.notice_response("terminating connection", code="57P02", severity="WARNING", routine="quickdie"),
)
"""What a backend says that is terminated, a pooler that gives up, and a backend in a crash."""

FAILING = (DIVIDE, BAD)
"""Queries that fail when they run, and when they are parsed."""


def live(seed: int, moves: int = 100) -> Model:
    """Have a model live at random, to its end; raises AssertionError for whatever must not happen.

    Signals come often and the end comes seldom, so that pipelines form under cancellation.
    """
    chance = random.Random(seed)
    plain = chance.random() < 0.4
    model = Model(max_pipeline=chance.choice([100, 100, 3, 1]), cache=chance.choice([100, 100, 3, 1, 0]))
    texts = ECHOES[:1] if plain else ECHOES

    def calls() -> list[tuple[int, Callable[[], object]]]:
        shared = chance.random() < 0.4
        common: list[tuple[int, Callable[[], object]]] = [
            (8, lambda: model.fetch(chance.choice(texts), shared=shared)),
            (4, lambda: model.write(shared=shared)),
            (1, lambda: model.fetch(DIVIDE if plain else chance.choice(FAILING), shared=shared)),
            (4, lambda: model.give_up(chance.choice([0, chance.randrange(100)]))),
            (1, model.grace_over),
            (6, model.write_out),
            (8, lambda: model.work(chance.choice([1, 2, 5, 20]))),
            (7, lambda: model.read(chance.choice([1, 10, 100, 1 << 30]))),
            (6, model.arrive),
            (4, lambda: model.deliver(again=chance.random() < 0.3)),
            (2, lambda: model.tell(chance.choice(["notice", "notification", "parameter"]))),
        ]
        if plain:
            return common
        return [
            *common,
            (1, lambda: model.write_many(chance.choice([1, 2, 5, 2500]), once=shared, bad=chance.random() < 0.2)),
            (3, lambda: model.run(chance.choice(["BEGIN", "COMMIT", "ROLLBACK", "SELECT 1", "DEALLOCATE ALL"]))),
            (1, lambda: model.hold(chance.choice([*texts, *FAILING]))),
            (1, lambda: model.let_go() if model.held else None),
            (1, model.copy_in),
            (1, model.copy_out),
            (3, lambda: model.feed_copy(end=chance.random() < 0.3)),
            (2, model.server.invalidate),
        ]

    for _ in range(moves):
        weights, actions = zip(*calls(), strict=True)
        chance.choices(actions, weights)[0]()
        model.check()
    end = chance.randrange(6)
    if end == 0:
        model.lose()
    elif end == 1:
        model.die(chance.choice(LAST_WORDS))
        model.read(chance.choice([1, 30, 1 << 30]))
        model.session.connection_lost(ConnectionResetError("gone"))
    else:
        model.settle_down()
        assert model.talk.idle, "something waits for ever"
        model.check()
        model.session.connection_lost("the end")
    model.check_all()
    return model
