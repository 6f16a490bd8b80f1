"""The command line's frame: the application, where its server comes from, and errors as one line.

Exit status: 0 done; 1 it could not be done; 2 the request made no sense; 3 a batch was answered but not every
product found; 130 interrupted.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text
from typer.core import TyperGroup

import headrace
from storefront.database import DATABASE, complete
from storefront.embedded import EmbeddedServer
from storefront.errors import StorefrontError, UsageError, reason

T = TypeVar("T")

FAILED, BAD_USAGE, NOT_ALL_FOUND, INTERRUPTED = 1, 2, 3, 130

DsnOption = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="STOREFRONT_DSN",
        show_envvar=True,
        help="A server of your own, postgresql://user@host:5432/products; without it an embedded one.",
    ),
]
DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="STOREFRONT_DATA_DIR",
        show_envvar=True,
        help="Where the embedded server keeps its data.",
    ),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say on stderr what starts, with what, and how long it took.")
]

DATA_DIR = Path(".storefront")


class OneLineErrors(TyperGroup):
    """A command group whose errors are one line on stderr and an exit status, never a traceback or a box."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and exit with its status."""
        try:
            status = super().main(
                args,
                prog_name or "storefront",
                complete_var,
                False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except (KeyboardInterrupt, typer.Abort):
            status = INTERRUPTED
        except Exception as error:
            message, status = explain(error)
            print(f"storefront: {message}", file=sys.stderr)
        if status == INTERRUPTED:
            print("storefront: interrupted", file=sys.stderr)
        sys.exit(status if isinstance(status, int) else 0)


def explain(error: Exception) -> tuple[str, int]:
    """A line that tells what went wrong, and the exit status; an error that should not be is raised again."""
    match error:
        case UsageError():
            text, status = str(error), BAD_USAGE
        case StorefrontError():
            text, status = str(error), FAILED
        case headrace.InvalidCatalogNameError() | headrace.UndefinedTableError():
            text, status = f"{reason(error)}: run `storefront init` first", FAILED
        case headrace.PostgresError():
            text, status = reason(error), FAILED
        case headrace.InterfaceError():
            text, status = str(error), FAILED
        case TimeoutError():
            text, status = f"timed out: {error}" if str(error) else "timed out waiting for the server", FAILED
        case ConnectionError() | socket.gaierror():
            text, status = f"cannot reach the server: {error}", FAILED
        case OSError():
            text, status = str(error) or type(error).__name__, FAILED
        case _ if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            # The command line's parser speaking; which module its errors come from differs between versions
            # of typer.
            text, status = f"{error.format_message().rstrip('.')} (see --help)", error.exit_code
        case _:
            raise error
    return " ".join(text.split()), status


app = typer.Typer(
    cls=OneLineErrors,
    help="An online shop's product catalogue on headrace: pipelined look-ups against PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def run(dsn: str | None, data_dir: Path, work: Callable[[str], Coroutine[Any, Any, T]], *, make: bool = False) -> T:
    """Run `work` with the DSN of the storefront's database: on the server of `dsn`, or on an embedded one.

    An embedded server's cluster is made only where `make` is set; elsewhere StorefrontError says that there
    is none.
    """
    if dsn is not None:
        return asyncio.run(work(complete(dsn)))
    server = EmbeddedServer(data_dir)
    if server.is_new:
        if not make:
            raise StorefrontError(
                f"there is no catalogue in {data_dir} yet: run `storefront init` first, or name a --dsn"
            )
        if sys.stderr.isatty():
            print(f"making an embedded PostgreSQL in {data_dir} (once, some seconds)", file=sys.stderr)
    with server:
        return asyncio.run(work(server.dsn(DATABASE)))


class ConsoleHandler(logging.Handler):
    """Log records as dim lines on a console, in step with whatever else it shows."""

    def __init__(self, console: Console, indent: int) -> None:
        super().__init__()
        self.console = console
        self.indent = indent

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        text = Text(record.getMessage(), "dim")
        if self.indent:
            self.console.print(Padding(text, (0, 0, 0, self.indent), expand=False))
        else:
            self.console.print(text, soft_wrap=True)


def log_to(console: Console, *, verbose: bool, indent: int = 0) -> None:
    """Send the storefront's log to `console`: warnings, and with `verbose` what starts and what finishes."""
    logger = logging.getLogger("storefront")
    logger.handlers = [ConsoleHandler(console, indent)]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logger.propagate = False


def main() -> None:
    """The program `storefront`."""
    # The commands are defined against `app`; importing them adds them to it.
    from storefront import commands  # noqa: F401

    app()
