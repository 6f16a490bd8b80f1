"""Standard output, standard error, and the log on either of them."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from storefront.errors import ExitStatus


def stdout() -> Console:
    """Return a console on standard output."""
    return Console(highlight=False)


def stderr() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True, highlight=False)


def print_json(document: object) -> None:
    """Print a JSON document on standard output, in UTF-8 whatever the locale is (RFC 8259, section 8.1)."""
    sys.stdout.flush()
    sys.stdout.buffer.write(json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
    sys.stdout.buffer.flush()


class ConsoleHandler(logging.Handler):
    """Prints log records as dim lines on a console, in order with everything else that the console shows."""

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
    """Send the storefront's log to `console`: warnings, and with `verbose` the start and end of each step."""
    logger = logging.getLogger("storefront")
    logger.handlers = [ConsoleHandler(console, indent)]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logger.propagate = False


@contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """Exit with status 1 and no message if the reader of standard output closes it: `storefront export | head`."""
    try:
        yield
    except BrokenPipeError:
        # The interpreter flushes standard output once more at exit. On the closed pipe that would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitStatus.FAILED) from None
