"""The program `storefront`: its commands, its exit status, and errors as one line on stderr."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import headrace
import storefront
from storefront.commands import COMMANDS
from storefront.errors import ExitStatus, StorefrontError, UsageError, reason


class OneLineErrors(TyperGroup):
    """A command group that shows an error as one line on stderr and an exit status, without a traceback or a box."""

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
            status = ExitStatus.INTERRUPTED
        except Exception as error:
            message, status = explain(error)
            print(f"storefront: {message}", file=sys.stderr)
        if status == ExitStatus.INTERRUPTED:
            print("storefront: interrupted", file=sys.stderr)
        sys.exit(status if isinstance(status, int) else ExitStatus.DONE)


def explain(error: Exception) -> tuple[str, int]:
    """Return a line that tells what went wrong, and the exit status. An unexpected error is raised again."""
    status: int = ExitStatus.FAILED
    match error:
        case UsageError():
            text, status = str(error), ExitStatus.BAD_USAGE
        case StorefrontError():
            text = str(error)
        case headrace.InvalidCatalogNameError() | headrace.UndefinedTableError():
            text = f"{reason(error)}: run `storefront init` first"
        case headrace.PostgresError():
            text = reason(error)
        case headrace.InterfaceError():
            text = str(error)
        case TimeoutError():
            text = f"timed out: {error}" if str(error) else "timed out waiting for the server"
        case ConnectionError() | socket.gaierror():
            text = f"cannot reach the server: {error}"
        case OSError():
            text = str(error) or type(error).__name__
        case _ if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            # An error of the command line's parser. The module that defines its class depends on the version of typer.
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
for command in COMMANDS:
    app.add_typer(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"storefront {storefront.__version__}, headrace {headrace.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the versions and exit."),
    ] = False,
) -> None:
    """An online shop's product catalogue on headrace: pipelined look-ups against PostgreSQL."""


def main() -> None:
    """Run the program `storefront`."""
    app()
