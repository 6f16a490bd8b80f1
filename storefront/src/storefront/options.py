"""The options that every command takes, and the server that they choose."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer

from storefront import hints, signals
from storefront.database import DATABASE, complete, named_database, parameters
from storefront.embedded import EmbeddedServer
from storefront.errors import NoCatalogueError

T = TypeVar("T")

DATA_DIR: Path | None = None
"""The value of DataDirOption if it is not given. It stands for `default_data_dir()`."""

OLD_DATA_DIR = Path(".storefront")
"""The data directory of earlier versions, in the working directory."""

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
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="STOREFRONT_DATA_DIR",
        show_envvar=True,
        help="The directory in which the embedded server keeps its data.",
        show_default="in the user's data directory",
    ),
]
EphemeralOption = Annotated[
    bool,
    typer.Option("--ephemeral", help="Use an embedded server in a temporary directory, which is removed at the end."),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print no progress and no summary. Errors are still printed.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, and nothing else there.")
]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Log on stderr each step that starts, its arguments and how long it took."),
]


def default_data_dir() -> Path:
    """Return the embedded server's directory if no option names one. It does not depend on the working directory."""
    # Not needed with --dsn or --data-dir.
    import platformdirs

    return platformdirs.user_data_path("storefront", appauthor=False)


def run_on_server(
    dsn: str | None,
    data_dir: Path | None,
    work: Callable[[str], Coroutine[Any, Any, T]],
    *,
    create: bool = False,
    ephemeral: bool = False,
) -> T:
    """Run `work` with the DSN of the storefront's database, and return its result.

    The database is on the server of `dsn` or, if `dsn` is None, on an embedded server that runs until `work` is done.
    Its directory is `data_dir`, or the user's data directory. With `ephemeral` it is a temporary one, which is removed
    at the end. A new embedded server is created only if `create` or `ephemeral` is set. Otherwise NoCatalogueError is
    raised if there is none yet.

    SIGINT and SIGTERM cancel `work`. They are raised as KeyboardInterrupt and signals.Terminated when the server has
    been stopped.
    """
    with _server(dsn, data_dir, create=create, ephemeral=ephemeral) as target:
        return signals.run(work(target))


@contextmanager
def _server(dsn: str | None, data_dir: Path | None, *, create: bool, ephemeral: bool) -> Iterator[str]:
    """Yield the DSN of the storefront's database. An embedded server runs for the time of the `with` block."""
    if dsn is not None:
        _suggest_dsn(dsn)
        yield complete(dsn)
    elif ephemeral:
        hints.on_server()
        with tempfile.TemporaryDirectory(prefix="storefront-") as directory:
            if os.geteuid() == 0:
                # The server runs as another user, who has to enter the directory.
                os.chmod(directory, 0o755)
            with EmbeddedServer(Path(directory) / "server") as server:
                yield server.dsn(DATABASE)
    else:
        server = EmbeddedServer(_data_dir(data_dir, create=create))
        with server:
            yield server.dsn(DATABASE)


def _data_dir(given: Path | None, *, create: bool) -> Path:
    """Return the directory of the embedded server. Raises NoCatalogueError if there is none and none may be created."""
    hints.on_server(*_options_for("STOREFRONT_DATA_DIR", "--data-dir", given))
    directory = default_data_dir() if given is None else given
    is_new = EmbeddedServer(directory).is_new
    old = given is None and not EmbeddedServer(OLD_DATA_DIR).is_new
    if is_new and not create:
        there = f", but there is one in {OLD_DATA_DIR}, which --data-dir {OLD_DATA_DIR} uses" if old else " yet"
        raise NoCatalogueError(
            f"there is no catalogue in {directory}{there}: run {hints.suggest('init')} first, or name a server by --dsn"
        )
    if old:
        print(
            f"storefront: {OLD_DATA_DIR} holds another catalogue, which --data-dir {OLD_DATA_DIR} uses; "
            f"this command uses {directory}",
            file=sys.stderr,
        )
    if is_new and sys.stderr.isatty():
        print(f"creating an embedded PostgreSQL in {directory} (once; this takes a few seconds)", file=sys.stderr)
    return directory


def _suggest_dsn(dsn: str) -> None:
    """Let suggested command lines name the server of `dsn`. A password is not printed."""
    named_database(dsn)
    if _options_for("STOREFRONT_DSN", "--dsn", dsn) and _has_password(dsn):
        hints.on_server(note="with the same --dsn")
    else:
        hints.on_server(*_options_for("STOREFRONT_DSN", "--dsn", dsn))


def _has_password(dsn: str) -> bool:
    return urlsplit(dsn).password is not None or "password" in dict(parameters(dsn))


def _options_for(variable: str, option: str, value: Path | str | None) -> tuple[str, ...]:
    """Return the option with its value, or nothing if the value comes from the environment."""
    if value is None or os.environ.get(variable) == str(value):
        return ()
    return option, str(value)
