"""The options that every command takes, and the server that they choose."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from storefront.database import DATABASE, complete
from storefront.embedded import EmbeddedServer
from storefront.errors import StorefrontError

T = TypeVar("T")

DATA_DIR = Path(".storefront")

DsnOption = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="STOREFRONT_DSN",
        show_envvar=True,
        help="A server of your own, postgresql://user@host:5432/products. Without it, an embedded server is used.",
    ),
]
DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="STOREFRONT_DATA_DIR",
        show_envvar=True,
        help="The directory in which the embedded server keeps its data.",
    ),
]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Log on stderr each step that starts, its arguments and how long it took."),
]


def run_on_server(
    dsn: str | None, data_dir: Path, work: Callable[[str], Coroutine[Any, Any, T]], *, create: bool = False
) -> T:
    """Run `work` with the DSN of the storefront's database, and return its result.

    The database is on the server of `dsn` or, if `dsn` is None, on an embedded server in `data_dir` that runs until
    `work` is done. A new embedded server is created only if `create` is set. Otherwise StorefrontError is raised if
    there is none yet.
    """
    if dsn is not None:
        return asyncio.run(work(complete(dsn)))
    server = EmbeddedServer(data_dir)
    if server.is_new:
        if not create:
            raise StorefrontError(
                f"there is no catalogue in {data_dir} yet: run `storefront init` first, or name a server by --dsn"
            )
        if sys.stderr.isatty():
            print(f"creating an embedded PostgreSQL in {data_dir} (once; this takes a few seconds)", file=sys.stderr)
    with server:
        return asyncio.run(work(server.dsn(DATABASE)))
