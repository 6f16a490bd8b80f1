"""Random sequences of transactions with cancellations and refusals, against a driver that sends each command at once.

BEGIN, SAVEPOINT and RELEASE are put off, and some are never sent. This must not change what the server executes, and in
which block. `Life` lets a connection live with a small server in memory. Then `replay()` gives the same calls, in their
order, to another such server, one command at a time. It takes from the first life what no driver decides: which
commands the server has refused, and which calls were cancelled before they were executed.
"""

from __future__ import annotations

import asyncio
import random
import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace._connect.params.address import Address
from headrace._core.pipeline import cancel
from headrace._core.pipeline.session import Session
from headrace._io.driver import Driver
from headrace.transaction import Transaction
from tests.core.pipeline.script import INT4, NUMBER, Conversation, split
from tests.peers import backend, frontend

if TYPE_CHECKING:
    from collections.abc import Awaitable

WRITE = "INSERT INTO t VALUES ($1)"
DIGITS = re.compile(r"(?<![a-z_$\d])\d+")
INTERRUPTED = "interrupted"

Place = tuple[str | None, tuple[str, ...]]
"""The block that something was executed in, and the savepoints that were set there."""


def number_in(sql: str) -> int:
    """Return the number that makes a text unlike all others; 0 for none."""
    found = DIGITS.search(sql)
    return int(found[0]) if found is not None else 0


class Refusal(Exception):
    """The server answers with an error."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


class Database:
    """One session's transactions: blocks, savepoints, and the numbers that were written and kept."""

    def __init__(self) -> None:
        self.status = "I"
        self.block: str | None = None
        self.savepoints: list[tuple[str, int]] = []
        self.written: list[int] = []
        self.kept: list[int] = []
        self.executed: dict[int, Place] = {}
        self.log: list[str] = []
        """All that has succeeded, and the statements that have failed by themselves."""

    def fail(self) -> None:
        """A statement has failed: so has the block, or what was executed with it."""
        if self.status != "I":
            self.status = "E"
        for token in self.written if self.status == "I" else ():
            del self.executed[token]
            self.log.remove(f"INSERT {token}")
        if self.status == "I":
            self.written.clear()

    def run(self, sql: str, token: int | None = None) -> str:
        """Execute a statement and return its tag; raises Refusal."""
        words = sql.split()
        self.check(sql)
        if words[:1] == ["BEGIN"]:
            assert self.status == "I", "BEGIN inside a block"
            self.status, self.block = "T", words[2]
        elif words[:1] == ["SAVEPOINT"]:
            self.inside(sql)
            self.savepoints.append((words[1], len(self.written)))
        elif words[:1] == ["RELEASE"]:
            self.inside(sql)
            del self.savepoints[self.find(words[-1]) :]
        elif words[:2] == ["ROLLBACK", "TO"]:
            self.inside(sql)
            at = self.find(words[-1])
            del self.written[self.savepoints[at][1] :]
            del self.savepoints[at + 1 :]
            self.status = "T"
        elif words[:1] == ["COMMIT"] or words[:1] == ["ROLLBACK"]:
            return self.end(words)
        elif words[:1] == ["FAIL"]:
            self.log.append(sql)
            raise Refusal("22012", "division by zero")
        elif words[:1] == ["INSERT"]:
            if token is None:
                token = number_in(sql)
            self.executed[token] = self.block, tuple(name for name, _ in self.savepoints)
            self.written.append(token)
            self.log.append(f"INSERT {token}")
            return "INSERT 0 1"
        else:
            assert words == ["SELECT", "1"]
            return "SELECT 1"
        self.log.append(sql)
        return words[0]

    def check(self, sql: str) -> None:
        """Refuse everything in a failed transaction but its end."""
        if self.status == "E" and sql.split()[0] not in ("COMMIT", "ROLLBACK"):
            raise Refusal("25P02", "current transaction is aborted")

    def inside(self, sql: str) -> None:
        assert self.status != "I", f"{sql} outside of a block"

    def find(self, name: str) -> int:
        """Return the index of a savepoint."""
        for at, (each, _) in enumerate(self.savepoints):
            if each == name:
                return at
        raise Refusal("3B001", f"savepoint {name} does not exist")

    def end(self, words: list[str]) -> str:
        if self.status == "I":
            # Of a block that could not begin.
            assert words == ["ROLLBACK"], f"{' '.join(words)} outside of a block"
            return "ROLLBACK"
        tag = words[0] if self.status == "T" else "ROLLBACK"
        if tag == "COMMIT":
            self.kept += self.written
        self.written.clear()
        self.savepoints.clear()
        self.log.append(" ".join(words))
        if "CHAIN" in words:
            self.status, self.block = "T", f"{self.block}+"
        else:
            self.status, self.block = "I", None
        return tag

    def end_request(self) -> None:
        """Keep what was written outside of a block."""
        if self.status == "I":
            self.kept += self.written
            self.written.clear()


class Server(Database):
    """The database behind the protocol. It works a message at a time, and refuses commands by chance."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.inbox: list[frontend.Message] = []
        self.outbox = bytearray()
        self.statements: dict[str, str] = {}
        self.bound = ("", 0)
        self.skipping = self.busy = False
        self.refused: set[str] = set()
        """The blocks and savepoints that could not begin."""

    def step(self) -> None:
        """Read one message."""
        message = self.inbox.pop(0)
        if isinstance(message, frontend.Query) and not self.busy:
            # In two steps, so that a CancelRequest can come in between.
            self.busy = True
            self.bound = (message.sql, 0)
            self.inbox.insert(0, message)
            return
        self.busy = True
        if not self.skipping and not isinstance(message, frontend.Sync):
            try:
                self.work(message)
            except Refusal as refusal:
                self.refuse(refusal)
        elif self.skipping and isinstance(message, frontend.Parse):
            self.note_refused(message.sql)
        if isinstance(message, (frontend.Sync, frontend.Query)):
            self.end_request()
            self.skipping = self.busy = False
            self.outbox += backend.ready_for_query(self.status)

    def refuse(self, refusal: Refusal) -> None:
        self.outbox += backend.error_response(refusal.text or refusal.code, code=refusal.code)
        self.skipping = True
        self.fail()

    def signal(self) -> None:
        """A CancelRequest arrives. If nothing runs it is forgotten."""
        if self.busy and not self.skipping:
            if self.status != "I":
                self.log.append(f"{INTERRUPTED} {self.number_at_work()}")
            self.note_refused(self.bound[0])
            self.refuse(Refusal("57014", "canceling statement due to user request"))

    def number_at_work(self) -> int:
        """Return the number in the request at work, which may stand behind commands; 0 if that only prepares."""
        found = [self.bound]
        for message in self.inbox:
            if isinstance(message, frontend.Sync):
                break
            if isinstance(message, frontend.Parse):
                found.append((message.sql, 0))
            elif isinstance(message, frontend.Bind) and message.values:
                found.append(("", struct.unpack("!i", message.values[0] or b"")[0]))
        return next((number or number_in(sql) for sql, number in reversed(found) if number or number_in(sql)), 0)

    def note_refused(self, sql: str) -> None:
        words = sql.split()
        if words[:1] == ["BEGIN"] and self.block is None:
            self.refused.add(words[2])
        elif words[:1] == ["SAVEPOINT"] and words[1] not in [name for name, _ in self.savepoints]:
            self.refused.add(words[1])

    def work(self, message: frontend.Message) -> None:
        say = self.outbox.__iadd__
        if isinstance(message, frontend.Query):
            for sql in message.sql.split("; "):
                say(backend.command_complete(self.execute(sql, None)) if sql else backend.empty_query_response())
            return
        if isinstance(message, frontend.Parse):
            self.bound = (message.sql, 0)
            self.check(message.sql)
            self.statements[message.name] = message.sql
            say(backend.parse_complete())
        elif isinstance(message, frontend.Bind):
            sql = self.statements[message.statement]
            self.bound = (sql, struct.unpack("!i", message.values[0] or b"")[0] if message.values else 0)
            self.check(sql)
            say(backend.bind_complete())
        elif isinstance(message, frontend.Describe):
            sql = self.statements[message.name] if message.kind == "S" else self.bound[0]
            if message.kind == "S":
                say(backend.parameter_description(*([INT4] if "$1" in sql else [])))
            say(backend.row_description(NUMBER) if sql.startswith("SELECT") else backend.no_data())
        elif isinstance(message, frontend.Execute):
            sql, token = self.bound
            say(backend.command_complete(self.execute(sql, token if "$1" in sql else None)))
        else:
            assert isinstance(message, frontend.Close), message
            self.statements.pop(message.name, None)
            say(backend.close_complete())

    def execute(self, sql: str, token: int | None) -> str:
        kind = sql.partition(" ")[0]
        if kind in ("BEGIN", "SAVEPOINT"):
            try:
                if self.chance.random() < 0.2:
                    raise Refusal("0A000", "not here")
                return self.run(sql, token)
            except Refusal:
                self.note_refused(sql)
                raise
        return self.run(sql, token)


class Wire(asyncio.Transport):
    """The driver writes on this, and the server has it at once."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server

    def write(self, data: Any) -> None:
        self.server.inbox += split(bytes(data))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def abort(self) -> None:
        """The test reads nothing more."""


class Labelled(Transaction):
    """A transaction whose BEGIN has a name."""

    __slots__ = ("label",)

    label: str

    def _begin(self) -> str:
        return f"BEGIN /* {self.label} */"

    @property
    def name(self) -> str:
        return self._savepoint or self.label


@dataclass(eq=False)
class Op:
    """Something that the program does, in the order of its calls."""

    kind: str
    """BEGIN, SAVEPOINT, RELEASE, ROLLBACK TO, COMMIT, ROLLBACK, or ask."""
    name: str = ""
    """The block or savepoint."""
    block: str = ""
    """The outermost transaction that it belongs to; '' for none."""
    sqls: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    task: asyncio.Task[Any] | None = None
    cancelled: bool = False

    @property
    def numbers(self) -> set[int]:
        """The numbers in its texts."""
        return {*self.tokens, number_in(self.sqls[0])} if self.sqls else set()

    @property
    def error(self) -> BaseException | None:
        assert self.task is not None
        assert self.task.done(), f"{self} waits for ever"
        return None if self.task.cancelled() else self.task.exception()


@dataclass
class Life:
    """One random life of a connection."""

    seed: int
    max_pipeline: int = 100
    ops: list[Op] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.server = Server(self.chance)
        self.open: list[Labelled] = []
        self.refusals: list[tuple[str, BaseException]] = []
        """The errors of start(), and the blocks that they came in."""
        self.numbers = 0

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    @property
    def block(self) -> str:
        return self.open[0].label if self.open else ""

    # The steps of the program

    async def ask(self) -> None:
        """Call for something, and have it queued."""
        connection, token = self.connection, self.number()
        session = connection._driver.session
        kind = self.chance.choice(
            ["text"] * 4 + ["argument"] * 4 + ["script", "fail", "batch", "prepare", "chain", "chain"]
        )
        call: Awaitable[Any]
        sqls: tuple[str, ...] = (f"INSERT INTO t VALUES ({token})",)
        tokens: tuple[int, ...] = (token,)
        if kind == "argument":
            call = connection.execute(WRITE, token)
        elif kind == "script":
            sqls += ("SELECT 1",)
            call = connection.execute("; ".join(sqls))
        elif kind == "fail":
            sqls, tokens = (f"FAIL {token}",), ()
            call = connection.execute(sqls[0])
        elif kind == "batch":
            tokens = (token, self.number())
            sqls = tuple(f"INSERT INTO t VALUES ({each})" for each in tokens)
            call = connection.executemany(WRITE, [(each,) for each in tokens])
        elif kind == "prepare":
            # It is described, and then executed.
            call = connection.execute(f"INSERT INTO t VALUES ($1) /* {token} */", token)
        elif kind == "chain" and session.commands.status == "T" and not session.count_pending() and self.has_just_asked:
            sqls, tokens = (f"{self.chance.choice(['COMMIT', 'ROLLBACK'])} AND CHAIN /* {token} */",), ()
            call = connection.execute(sqls[0])
        else:
            call = connection.execute(sqls[0])
        await self.begin(Op("ask", "", self.block, sqls, tokens), call)

    @property
    def has_just_asked(self) -> bool:
        """True if no command is put off, so that the server executes what comes next."""
        last = self.ops[-1]
        if last.kind != "ask" or last.task is None or not last.task.done() or last.cancelled:
            return False
        return last.block == self.block != "" and last.error is None

    async def begin(self, op: Op, call: Awaitable[Any]) -> None:
        self.ops.append(op)
        op.task = asyncio.ensure_future(call)
        await asyncio.sleep(0)

    async def start(self) -> None:
        """Begin a transaction, or set a savepoint."""
        if len(self.open) == 3:
            return
        transaction = Labelled(self.connection)
        transaction.label = f"b{self.number()}"
        try:
            await self.attended(transaction.start())
        except headrace.PostgresError as error:
            # It is refused at once in a transaction that has failed, or that could not begin.
            self.refusals.append((self.block, error))
            if transaction._savepoint in self.server.refused:
                self.ops.append(Op("SAVEPOINT", transaction.name, self.block))
            return
        self.open.append(transaction)
        self.ops.append(Op("SAVEPOINT" if transaction._savepoint else "BEGIN", transaction.name, self.block))

    async def end(self) -> None:
        """End the innermost transaction, or sometimes one around it."""
        if not self.open:
            return
        at = len(self.open) - 1 if self.chance.random() < 0.6 else self.chance.randrange(len(self.open))
        transaction, block = self.open[at], self.block
        del self.open[at:]
        commits = self.chance.random() < 0.6
        if transaction._savepoint:
            kind = "RELEASE" if commits else "ROLLBACK TO"
        else:
            kind = "COMMIT" if commits else "ROLLBACK"
        await self.begin(Op(kind, transaction.name, block), transaction.commit() if commits else transaction.rollback())

    async def give_up(self) -> None:
        running = [op for op in self.ops if op.task is not None and not op.task.done()]
        if running:
            op = self.chance.choice(running)
            op.cancelled = True
            op.task.cancel()  # type: ignore[union-attr]
            await asyncio.sleep(0)

    async def attended(self, call: Awaitable[Any]) -> None:
        """Wait, while the server works and calls are given up."""
        pump = asyncio.create_task(self.pump())
        try:
            await call
        finally:
            pump.cancel()

    async def pump(self) -> None:
        while True:
            self.work()
            await asyncio.sleep(0)
            if self.chance.random() < 0.1:
                await self.give_up()

    # The side of the server

    def work(self) -> None:
        for _ in range(self.chance.choice([1, 2, 5, 20])):
            if self.server.inbox:
                self.server.step()
        self.read()

    async def turn(self) -> None:
        self.work()
        await asyncio.sleep(0)

    def read(self) -> None:
        outbox, transport = self.server.outbox, self.connection._driver.transport
        while outbox:
            buffer = transport.get_buffer(-1)
            size = min(len(buffer), len(outbox))
            buffer[:size] = outbox[:size]
            del outbox[:size]
            transport.buffer_updated(size)

    async def cancel_request(self, pid: int, secret: bytes) -> None:
        await asyncio.sleep(0)
        self.server.signal()

    # All of it

    async def live(self, moves: int = 40) -> None:
        def greeted(events: Any) -> Session:
            return Conversation(log=events, max_pipeline=self.max_pipeline).session

        driver = Driver(asyncio.get_running_loop(), greeted, self.cancel_request)
        driver.transport.connection_made(Wire(self.server))
        self.connection = headrace.Connection(driver, None, address=Address("memory", None, 5432))  # type: ignore[arg-type]
        try:
            actions = [self.ask] * 6 + [self.start] * 4 + [self.end] * 2 + [self.give_up] * 4 + [self.turn] * 5
            for _ in range(moves):
                await self.chance.choice(actions)()
            while self.open:
                await self.end()
            await self.settle()
            await self.ask_last()
        finally:
            driver.terminate()
        self.check()

    async def settle(self) -> None:
        session = self.connection._driver.session
        for _ in range(2000):
            if (
                not session.count_pending()
                and not session.cancellation.is_open
                and all(op.task.done() for op in self.ops if op.task is not None)
            ):
                return
            await self.turn()
        raise AssertionError(f"it never comes to rest: {[*session.sent]}")

    async def ask_last(self) -> None:
        """A request behind all of it is sent alone."""
        assert not self.connection.is_in_transaction()
        del self.server.inbox[:]
        task = asyncio.create_task(self.connection.execute("SELECT 1"))
        await asyncio.sleep(0)
        assert [str(getattr(each, "sql", "")) for each in self.server.inbox] == ["SELECT 1"]
        await self.settle()
        assert await task == "SELECT 1"

    # The checks

    def check(self) -> None:
        plain = self.replay()
        assert plain.executed == self.server.executed
        assert plain.kept == self.server.kept
        for refused in self.server.refused:
            self.check_refusal(refused)

    def replay(self) -> Database:
        """Do what the program has done on another database, one command at a time."""
        plain, log, refused = Database(), list(self.server.log), set(self.server.refused)
        done = 0
        for op in self.ops:
            if op.block in refused:
                # The program would not have come to it.
                continue
            if op.kind != "ask" and op.name in refused:
                if op.kind == "SAVEPOINT":
                    plain.fail()
                continue
            succeeded = self.repeat(plain, op, refused)
            for did in plain.log[done:]:
                # What the other has left out had no effect.
                if log[:1] == [did]:
                    log.pop(0)
            done = len(plain.log)
            while log and log[0].startswith(INTERRUPTED) and number_in(log[0]) in (0, *op.numbers):
                log.pop(0)
                plain.fail()
            plain.end_request()
            if op.task is not None and not op.cancelled and op.name not in refused:
                assert (op.error is None) is succeeded, f"{op}: {op.error!r}"
        assert not log, "the server has executed what no other driver would have sent"
        return plain

    def repeat(self, plain: Database, op: Op, refused: set[str]) -> bool:
        """Do one thing, and return whether it has succeeded."""
        try:
            if op.kind == "ask":
                return self.repeat_call(plain, op)
            if op.kind == "BEGIN":
                plain.run(f"BEGIN /* {op.name} */")
            elif op.kind == "SAVEPOINT":
                plain.run(f"SAVEPOINT {op.name}")
            elif op.kind == "RELEASE":
                plain.run(f"RELEASE SAVEPOINT {op.name}")
            elif op.kind == "ROLLBACK TO":
                plain.run(f"ROLLBACK TO {op.name}")
                plain.run(f"RELEASE {op.name}")
            else:
                return plain.run(op.kind) == op.kind
        except Refusal:
            if op.kind == "SAVEPOINT":
                refused.add(op.name)
            plain.fail()
            return False
        return True

    def repeat_call(self, plain: Database, op: Op) -> bool:
        sqls = list(op.sqls)
        if op.cancelled:
            # What was not sent, or did not get so far, is left out.
            sqls = [sql for sql in sqls if self.was_executed(sql)]
        return all(plain.run(sql) in (sql.split()[0], "INSERT 0 1", "SELECT 1") for sql in sqls)

    def was_executed(self, sql: str) -> bool:
        if sql.startswith("INSERT"):
            return number_in(sql) in self.server.executed
        return sql in self.server.log

    def check_refusal(self, name: str) -> None:
        """The program learns why a block could not begin, unless it does not ask."""
        ops = [op for op in self.ops if op.block == name]
        if not ops or ops[0].name != name:
            return
        asked = [op for op in ops if op.task is not None and not op.cancelled]
        errors = [op.error for op in asked if op.kind in ("ask", "COMMIT")]
        for error in errors:
            assert isinstance(error, headrace.PostgresError), f"{name} could not begin, and nobody knows: {asked}"
        if ops[-1].kind == "COMMIT" and not ops[-1].cancelled:
            errors += [op.error for op in asked if op.kind == "RELEASE"]
            errors += [error for block, error in self.refusals if block == name]
            # rollback() gets it if it returns to a savepoint, and passes it over.
            passed_over = any(op.kind == "ROLLBACK TO" for op in asked)
            itself = [error for error in errors if not isinstance(error, headrace.InFailedSQLTransactionError)]
            assert passed_over or any(itself)


@pytest.mark.parametrize("max_pipeline", [100, 1])
async def test_the_server_executes_what_it_would_if_each_command_was_sent_at_once(
    monkeypatch: pytest.MonkeyPatch, max_pipeline: int
) -> None:
    monkeypatch.setattr(cancel, "CANCEL_PAUSE", 0.0)
    for seed in range(300):
        try:
            await Life(seed, max_pipeline).live()
        except BaseException as error:
            error.add_note(f"again: await Life({seed}, {max_pipeline}).live()")
            raise
