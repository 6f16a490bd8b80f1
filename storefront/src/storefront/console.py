"""Standard output, standard error, and the log on either of them.

rich is imported when something is printed with it: a command that prints nothing, or JSON, starts sooner.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from storefront.errors import ExitStatus

if TYPE_CHECKING:
    from rich.console import Console


def stdout() -> Console:
    """Return a console on standard output."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Console:
    """Return a console on standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(document: object) -> None:
    """Print a JSON document on standard output, in UTF-8 whatever the locale is (RFC 8259, section 8.1)."""
    sys.stdout.flush()
    text = json.dumps(document, indent=2, ensure_ascii=False)
    # The name of a file may have bytes that are no text, which are halves of surrogate pairs here. JSON escapes them.
    sys.stdout.buffer.write(text.encode(errors="backslashreplace") + b"\n")
    sys.stdout.buffer.flush()


class _StderrHandler(logging.Handler):
    """Prints log records as dim lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        from rich.text import Text

        stderr().print(Text(record.getMessage(), "dim"), soft_wrap=True)


def log_to_stderr(*, verbose: bool) -> None:
    """Print the storefront's log on standard error: warnings, and with `verbose` the start and end of each step."""
    log_by(_StderrHandler(), logging.INFO if verbose else logging.WARNING)


def log_by(handler: logging.Handler, level: int) -> None:
    """Send the storefront's log to a handler alone, from a level on."""
    logger = logging.getLogger("storefront")
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


def print_indented(console: Console, text: str, style: str = "", indent: int = 3) -> None:
    """Print a text, wrapped and indented, without spaces at the end of its lines."""
    from rich.text import Text

    for line in Text(text, style).wrap(console, max(console.width - indent, 20)):
        line.rstrip()
        console.print(Text(" " * indent) + line, soft_wrap=True)


@contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """Exit with status 1 and no message if the reader of standard output closes it: `storefront export | head`."""
    try:
        yield
    except BrokenPipeError:
        # The interpreter flushes standard output once more at exit. On the closed pipe that would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitStatus.FAILED) from None
