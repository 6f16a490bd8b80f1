"""The program `storefront`: its commands, its exit status, and errors as one line on stderr."""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Sequence
from typing import Annotated, Any, BinaryIO, cast

import typer
from typer.core import TyperGroup

import headrace
import storefront
from storefront import hints, signals
from storefront.commands import COMMANDS, find_command
from storefront.errors import ExitStatus, LastingError, StorefrontError, UsageError, reason


class _InterruptedError(Exception):
    """Carries a KeyboardInterrupt past typer, which would replace it."""


class OneLineErrors(TyperGroup):
    """A command group that shows an error as one line on stderr and an exit status, without a traceback or a box."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None if there is none of this name."""
        return find_command(cmd_name) if cmd_name in COMMANDS else None

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Read the options of the program. An interrupt leaves it as _InterruptedError."""
        try:
            return super().make_context(*arguments, **more)
        except KeyboardInterrupt as error:
            raise _InterruptedError from error

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An interrupt leaves it as _InterruptedError."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _InterruptedError from error

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
        hints.on_server()
        status: Any
        try:
            with signals.sigterm_interrupts():
                status = super().main(
                    args,
                    prog_name or "storefront",
                    complete_var,
                    False,
                    windows_expand_args=windows_expand_args,
                    **extra,
                )
        except (KeyboardInterrupt, typer.Abort) as error:
            message, status = _interruption(error)
            print(f"storefront: {message}", file=sys.stderr)
        except _InterruptedError as error:
            message, status = _interruption(error.__cause__)
            print(f"storefront: {message}", file=sys.stderr)
        except Exception as error:
            message, status = explain(error)
            if message:
                print(f"storefront: {message}", file=sys.stderr)
        sys.exit(status if isinstance(status, int) else ExitStatus.DONE)


def _interruption(error: BaseException | None) -> tuple[str, int]:
    """Return the message and the exit status of a command that a signal has ended.

    A command may raise KeyboardInterrupt again, with a text that says how to go on.
    """
    how_to_go_on = f": {error}" if isinstance(error, KeyboardInterrupt) and str(error) else ""
    if isinstance(error, signals.Terminated):
        return f"terminated{how_to_go_on}", ExitStatus.TERMINATED
    return f"interrupted{how_to_go_on}", ExitStatus.INTERRUPTED


def explain(error: Exception) -> tuple[str, int]:
    """Return a line that tells what went wrong, and the exit status. An unexpected error is raised again.

    The line is empty if there is nothing to add: a group of commands without a command has printed its help.
    """
    status: int = ExitStatus.FAILED
    match error:
        case LastingError() if isinstance(error.__cause__, Exception):
            text, status = explain(error.__cause__)[0], ExitStatus.BAD_USAGE
        case UsageError():
            text, status = str(error), ExitStatus.BAD_USAGE
        case StorefrontError():
            text = str(error)
        case headrace.InvalidCatalogNameError() | headrace.UndefinedTableError():
            text = f"{reason(error)}: run {hints.suggest('init')} first"
        case headrace.PostgresError():
            text = reason(error)
        case headrace.InterfaceError() | headrace.InternalClientError():
            # The server is of another kind than target_session_attrs says, or is no PostgreSQL.
            text = str(error)
        case TimeoutError():
            text = f"timed out: {error}" if str(error) else "timed out waiting for the server"
        case ConnectionError() | socket.gaierror():
            text = f"cannot reach the server: {error}"
        case OSError():
            text = str(error) or type(error).__name__
        case _ if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            # An error of the command line's parser. The module that defines its class depends on the version of typer.
            text, status = error.format_message().rstrip("."), error.exit_code
            text = f"{text} (see --help)" if text else ""
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


def open_standard_streams() -> None:
    """Open the standard streams that are closed, so that using one is an error of the system.

    A program may be started by `storefront export >&-`. The next file or socket would get the number of standard
    output, and what is printed would be written there.
    """
    for number, name, flags in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, flags)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        # Nothing waits to be written, so that the interpreter has nothing left to say at its exit.
        raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
        if number == 0:
            sys.stdin = io.TextIOWrapper(io.BufferedReader(raw), "utf-8")
        else:
            setattr(sys, name, io.TextIOWrapper(cast(BinaryIO, raw), "utf-8", write_through=True))


def show_any_text() -> None:
    """Have standard output show characters that its encoding does not have as escapes, as standard error does."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and (stream.errors == "strict" or stream.encoding.lower() != "utf-8"):
        stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the program `storefront`."""
    open_standard_streams()
    show_any_text()
    # pyarrow's own allocator keeps memory that was freed: a batch to Parquet takes 20 MB more with it.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    app()
