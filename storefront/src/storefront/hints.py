"""Command lines that messages suggest. Pasted into the same shell, they work as printed, and on the same server."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

_server: tuple[str, ...] = ()
_note = ""


def on_server(*options: str, note: str = "") -> None:
    """Let the suggestions from now on choose a server, by these options or, if they must not be printed, by a note."""
    global _server, _note
    _server, _note = options, note


def suggest(*arguments: str) -> str:
    """Return a command line of the storefront in backquotes, with the options that choose the same server."""
    line = shlex.join((*_program(), *arguments, *_server))
    return f"`{line}` {_note}" if _note else f"`{line}`"


def _program() -> tuple[str, ...]:
    """Return how this program was started, or `storefront` if it is used as a library."""
    started = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path("storefront")
    if started.parts[-2:] == ("storefront", "__main__.py"):
        python = Path(sys.executable)
        found = shutil.which(python.name)
        return (python.name if found and Path(found) == python else str(python), "-m", "storefront")
    if started.name != "storefront":
        return ("storefront",)
    found = shutil.which("storefront")
    # A symbolic link to it is as good, for example from a virtual environment that was activated.
    if found and os.path.realpath(found) == os.path.realpath(started):
        return ("storefront",)
    return (str(started),)
