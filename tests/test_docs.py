"""Every piece of Python in the documentation and the README runs, on a real server, in the order of its page.

What a page takes for granted, its tables and the names it does not explain, is in `PAGES`. A piece that loops for ever
is left by raising `Enough` from one of those names.
"""

from __future__ import annotations

import ast
import asyncio
import datetime
import decimal
import inspect
import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import headrace
from tests.certificates import Authority
from tests.secure import Secure
from tests.servers import Cluster

ROOT = Path(__file__).resolve().parents[1]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE = 60.0
"""Seconds after which a piece is taken for hanging."""

HOSTS = ("localhost", "pgbouncer", "db.example.com", "a.example.com", "b.example.com", "c.example.com")
DATABASES = ("shop", "products")
ROLES = ("shop", "user", "app")

Namespace = dict[str, Any]


class Enough(Exception):
    """Ends a piece that would go on for ever."""


@dataclass(frozen=True)
class Page:
    """What a page takes for granted."""

    sql: str = ""
    names: Callable[[], Namespace] = dict
    meanwhile: Callable[[headrace.Connection], Awaitable[None]] | None = None
    """What somebody else does as long as the page's pieces run."""
    needs_tls: bool = False
    extension: str | None = None


def copy_names() -> Namespace:
    async def queue() -> AsyncIterator[SimpleNamespace]:
        for number in range(3):
            yield SimpleNamespace(id=number, name=f"message {number}")

    return {"queue": queue()}


def query_names() -> Namespace:
    async def lines() -> AsyncIterator[str]:
        for number in range(5, 8):
            yield f"{number} colour-{number}\n"

    return {"lines": lines()}


def notification_names() -> Namespace:
    def handle(channel: str, payload: str) -> None:
        raise Enough

    return {"handle": handle, "look_at_the_tables": None}


async def send_notifications(connection: headrace.Connection) -> None:
    while True:
        await connection.execute("SELECT pg_notify('orders', 'order 18')")
        await asyncio.sleep(0.05)


def connecting_names() -> Namespace:
    async def fetch_token() -> str:
        return "secret"

    async def database_token(host: str, user: str) -> str:
        return f"token of {user} for {host}"

    return {
        "fetch_token": fetch_token,
        "cloud": SimpleNamespace(database_token=database_token),
        "dsn": "postgresql://localhost/shop",
    }


def typed_names() -> Namespace:
    import attrs
    import msgspec
    import pydantic

    return {"Decimal": decimal.Decimal, "attrs": attrs, "field": field, "msgspec": msgspec, "pydantic": pydantic} | {
        "dataclass": dataclass
    }


SHOP = re.findall(
    r"psql shop <<'SQL'\n(.*?)^SQL$", (ROOT / "docs/howto/index.md").read_text(encoding="utf-8"), re.M | re.S
)[0]
"""The tables that the how-to guides tell their readers to make."""

ACCOUNT_NUMBER = """
CREATE TYPE account_number;
CREATE FUNCTION account_in(cstring) RETURNS account_number LANGUAGE internal STRICT IMMUTABLE AS 'int8in';
CREATE FUNCTION account_out(account_number) RETURNS cstring LANGUAGE internal STRICT IMMUTABLE AS 'int8out';
CREATE FUNCTION account_recv(internal) RETURNS account_number LANGUAGE internal STRICT IMMUTABLE AS 'int8recv';
CREATE FUNCTION account_send(account_number) RETURNS bytea LANGUAGE internal STRICT IMMUTABLE AS 'int8send';
CREATE TYPE account_number (
    INPUT = account_in, OUTPUT = account_out, RECEIVE = account_recv, SEND = account_send, LIKE = int8
);
"""

PAGES = {
    "README.md": Page(SHOP),
    "docs/from-asyncpg.md": Page(SHOP),
    "docs/index.md": Page(SHOP),
    "docs/cluster.md": Page(SHOP),
    "docs/connecting.md": Page(names=connecting_names, needs_tls=True),
    "docs/arrow.md": Page(
        "CREATE TABLE product (id int, name text, price numeric(9, 2)); INSERT INTO product VALUES (1, 'chair', 4.5)"
    ),
    "docs/copy.md": Page(
        "CREATE TABLE product (id int, name text, price numeric); INSERT INTO product VALUES (1, 'chair', 4.5);"
        "CREATE TABLE event (id int, name text, day date)",
        copy_names,
    ),
    "docs/inserting.md": Page(
        "CREATE TABLE product (id serial, name text, tags text[]); CREATE TABLE event (id int, name text);"
        "CREATE TABLE price (id int PRIMARY KEY, price int)",
        copy_names,
    ),
    "docs/custom-codecs.md": Page(ACCOUNT_NUMBER, lambda: {"dsn": "postgresql://localhost/shop"}, extension="hstore"),
    "docs/loader.md": Page(SHOP),
    "docs/each.md": Page(SHOP),
    "docs/logging.md": Page(names=lambda: {"dsn": "postgresql://localhost/shop"}),
    "docs/named-parameters.md": Page(
        "CREATE TABLE product (id int, name text, brand int, price numeric)",
        lambda: {"brand": 7, "ids": [1, 2], "column": "price", "limit": 100},
    ),
    "docs/notifications.md": Page(names=notification_names, meanwhile=send_notifications),
    "docs/pool.md": Page(
        SHOP + "CREATE TABLE stock (sku int, amount int); CREATE TABLE sale (sku int)",
        lambda: {"dsn": "postgresql://localhost/shop", "sku": 1},
    ),
    "docs/queries.md": Page(SHOP, query_names),
    "docs/streams.md": Page(SHOP),
    **{
        f"docs/howto/{name}.md": Page(SHOP)
        for name in (
            "from-psycopg",
            "from-sqlalchemy",
            "live",
            "migrations",
            "serverless",
            "sqlalchemy",
            "shutdown",
            "testing",
            "web",
        )
    },
    "docs/howto/tracing.md": Page(SHOP),
    "docs/howto/pgvector.md": Page(extension="vector"),
    "docs/howto/postgis.md": Page(extension="postgis"),
    "docs/performance.md": Page(SHOP),
    "docs/scaling.md": Page(SHOP),
    "docs/howto/cloud.md": Page(names=connecting_names, needs_tls=True),
    "docs/typed-rows.md": Page(
        "CREATE TABLE product (id int, name text, price numeric); INSERT INTO product VALUES (5, 'chair', 4.5);"
        "CREATE TABLE sku (id int, product_id int, colour text); INSERT INTO sku VALUES (1, 5, 'red'), (2, 5, 'blue')",
        typed_names,
    ),
}
NOTHING = Page()


def documents() -> list[str]:
    """The pages with Python in them."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(page.relative_to(ROOT)) for page in pages if PYTHON.search(page.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def shop(server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """A server of the same version as `server` that has the names and roles of the documentation, and TLS if it can."""
    authority = Authority(tmp_path_factory.mktemp("pki-of-docs"), key="rsa")
    with Cluster(server.postmaster.installation) as cluster:
        for role in ROLES:
            cluster.sql(f'CREATE ROLE "{role}" SUPERUSER LOGIN')
        found = Secure(cluster, SimpleNamespace(root=authority.root, crl=authority.revoked()))  # type: ignore[arg-type]
        if not found.has_tls:
            yield found
        else:
            with found.presenting(authority.issue("docs", names=list(HOSTS), addresses=["127.0.0.1"])):
                yield found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a page opens without closing it."""
    made: list[Any] = []
    connect, create_pool = headrace.connect, headrace.create_pool

    async def recording_connect(*args: Any, **kwargs: Any) -> Any:
        made.append(await connect(*args, **kwargs))
        return made[-1]

    def recording_pool(*args: Any, **kwargs: Any) -> Any:
        made.append(create_pool(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(headrace, "connect", recording_connect)
    monkeypatch.setattr(headrace, "create_pool", recording_pool)
    return made


TO_FOLLOW = [page for page in documents() if page.startswith(("docs/howto/", "docs/tutorial", "docs/poolers"))]
"""The pages whose pieces a reader copies into a file, from the first on."""


@pytest.mark.parametrize("page", TO_FOLLOW)
def test_a_page_to_follow_makes_what_it_uses(page: str) -> None:
    made = set()
    for piece in PYTHON.findall((ROOT / page).read_text(encoding="utf-8")):
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        nodes = list(ast.walk(compile(piece, page, "exec", flags)))
        made |= {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
        made |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        names = [node for node in nodes if isinstance(node, ast.Name)]
        made |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
        used = {node.id for node in names} & {"asyncio", "headrace", "connection", "pool", "exporter"}
        assert used <= made, piece


@pytest.mark.parametrize("page", [page for page in TO_FOLLOW if page.startswith("docs/howto/")])
def test_a_how_to_guide_names_its_tables(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    uses = any(re.search(r"(FROM|UPDATE) (brand|product)\b", piece) for piece in PYTHON.findall(text))
    assert uses == ("index.md#before-you-begin" in text)


@pytest.mark.parametrize("page", documents())
async def test_page(
    page: str, shop: Secure, opened: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = PAGES.get(page, NOTHING)
    cluster = shop.cluster
    if world.needs_tls and not shop.has_tls:
        pytest.skip(f"{cluster.name} is built without OpenSSL")
    available = cluster.sql("SELECT 1 FROM pg_available_extensions WHERE name = %s", world.extension)
    if world.extension and not available:
        pytest.skip(f"{cluster.name} comes without {world.extension}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    variables = {"PGHOST": "127.0.0.1", "PGPORT": str(cluster.port), "PGUSER": "shop", "PGDATABASE": "shop"}
    for name, value in {**variables, "PGSSLROOTCERT": str(shop.pki.root), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    look_up(monkeypatch, cluster.port)
    try:
        for database in DATABASES:
            cluster.sql(f"CREATE DATABASE {database}")
            for statements in (world.sql, world.extension and f"CREATE EXTENSION {world.extension}"):
                if statements:
                    cluster.sql(statements, database=database)
        with asyncpg_hidden():
            await run_all(page, world, tmp_path)
    finally:
        for saved in tmp_path.glob("*.py"):
            sys.modules.pop(saved.stem, None)
        for each in opened:
            # A pool that nobody has awaited or entered has nothing to drop, and says so.
            with suppress(headrace.InterfaceError):
                each.terminate()
        for database in DATABASES:
            cluster.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


@contextmanager
def asyncpg_hidden() -> Iterator[None]:
    """Run a block as if nobody had imported asyncpg: a page shows how to put headrace in its place."""
    hidden = {name: sys.modules.pop(name) for name in asyncpg_modules()}
    try:
        yield
    finally:
        for name in asyncpg_modules():
            del sys.modules[name]
        sys.modules.update(hidden)


def asyncpg_modules() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "asyncpg"]


def look_up(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Have the names of the documentation, with whatever port, be the server."""
    getaddrinfo = socket.getaddrinfo

    def known(host: Any, number: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in HOSTS or kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
            return getaddrinfo(host, number, *args, **kwargs)
        return getaddrinfo("127.0.0.1", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", known)


async def run_all(page: str, world: Page, directory: Path) -> None:
    """Run the pieces of a page one after the other, in one namespace. Those to be saved are saved in a directory."""
    connection, other = await headrace.connect(), await headrace.connect()
    pool = await headrace.create_pool(min_size=0)
    given: Namespace = {"asyncio": asyncio, "datetime": datetime, "headrace": headrace, "json": json, "sys": sys}
    given |= {"connection": connection, "pool": pool, **world.names()}
    names: Namespace = {}
    read = 0
    text = (ROOT / page).read_text(encoding="utf-8")
    meanwhile = asyncio.ensure_future(world.meanwhile(other)) if world.meanwhile else None
    try:
        for found in PYTHON.finditer(text):
            source = found[1]
            if save := re.search(r"Save this as `(\w+\.py)`", text[read : found.start()]):
                (directory / save[1]).write_text(source, encoding="utf-8")
            read = found.end()
            if sys.version_info < (3, 14) and re.search(r'\bt"', source):
                continue
            # A piece may have closed what it has put in the place of one of these.
            names |= given
            # As many empty lines as stand before it, so that a traceback names the line of the page.
            above = "\n" * (text.count("\n", 0, found.start()) + 1)
            async with asyncio.timeout(PATIENCE):
                await run(
                    compile(above + source, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True), names
                )
    finally:
        if meanwhile is not None:
            meanwhile.cancel()
            with suppress(asyncio.CancelledError):
                await meanwhile


async def run(code: Any, names: Namespace) -> None:
    """Run one piece, which may be a program of its own or something out of a coroutine function."""
    with suppress(Enough):
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, names)
        else:
            await asyncio.to_thread(exec, code, names)


def test_the_page_of_the_api_has_every_public_name() -> None:
    shown = set(re.findall(r"^::: [\w.]*?(\w+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE))
    shown |= {"exceptions", "__version__", *headrace.types.__all__, *vars(headrace.exceptions)["__all__"]}
    assert set(headrace.__all__) - shown == set()


def source_texts() -> str:
    """Return the code of headrace, with the pieces of its literals put together."""
    package = ROOT / "src" / "headrace"
    files = [path for pattern in ("*.py", "*.pyx") for path in sorted(package.rglob(pattern))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return re.sub(r"""(['"])\s*\n\s*f?(['"])""", "", text)


@pytest.mark.skipif(not (ROOT / "src").exists(), reason="needs the sources")
def test_every_text_of_headrace_in_the_troubleshooting_page_is_one_of_its_errors() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (.*)$", page, re.MULTILINE)
    texts = [text for heading in headings for text in re.findall(r"`([^`]+)`", heading)]
    assert len(headings) >= 40
    source = source_texts()
    assert [text for text in texts if text not in source] == []
