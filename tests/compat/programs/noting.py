"""Programs that asyncpg and headrace both run: the driver is chosen first, and what is seen is noted for comparison.

    import noting  # before anything that imports asyncpg

    async def program(note: noting.Notes, dsn: str) -> None: ...

    noting.main(program)

`python some_program.py DRIVER DSN` writes a line of JSON for each note. DRIVER is asyncpg, headrace in its place, or
`dialect`: headrace with its own dialect of SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

DRIVER = sys.argv[1]

if DRIVER != "asyncpg":
    import headrace

    headrace.install_as_asyncpg()

import asyncpg  # noqa: E402

PATIENCE = 60.0
"""Seconds after which a program gives up."""


def url(dsn: str) -> str:
    """Return the URL for SQLAlchemy of a DSN."""
    return dsn.replace("postgresql://", "postgresql+headrace://" if DRIVER == "dialect" else "postgresql+asyncpg://")


class Notes:
    """What a program has seen, in order."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __call__(self, label: str, *values: object) -> None:
        """Note some values."""
        self.lines.append({"label": label, "seen": [shown(value) for value in values], "causes": [], "hint": None})

    async def attempt(self, label: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Note what a function or coroutine function returns, or what it raises."""
        try:
            result = call(*args, **kwargs)
            self(label, await result if inspect.isawaitable(result) else result)
        except Exception as error:
            self.raised(label, error)

    def raised(self, label: str, error: BaseException) -> None:
        """Note an error: its class, what SQLAlchemy made of it, and the driver's own behind it.

        The message is compared where it is the server's, and its hint where asyncpg's error has one. The classes of the
        driver's error are noted all, because headrace's may be a subclass of asyncpg's.
        """
        seen, hint = [type(error).__name__], None
        original = getattr(error, "orig", None)
        if original is not None:
            names = ("pgcode", "sqlstate", "detail")
            seen += [type(original).__name__, *(repr(getattr(original, name, None)) for name in names)]
            seen.append(f"invalidated: {getattr(error, 'connection_invalidated', None)}")
            error = original.__cause__ or original
        stale = isinstance(error, asyncpg.InvalidCachedStatementError)  # each driver has words of its own for that
        if getattr(error, "server_source_function", None) and not stale:
            fields = error.as_dict()  # type: ignore[attr-defined]
            hint = fields.pop("hint", None)
            text = without_place(str(error)).removesuffix(f"\nHINT:  {hint}")
            seen += [text, repr(sorted((key, str(value)) for key, value in fields.items()))]
        causes = [each.__name__ for each in type(error).__mro__]
        self.lines.append({"label": label, "seen": seen, "causes": causes, "hint": hint})


def without_place(text: str) -> str:
    """Return the text of an error without the line and the caret, which headrace adds to the server's message."""
    return re.sub(r"\nLINE \d+: .*\n *\^", "", text).partition("\nQUERY:")[0]


def shown(value: object) -> str:
    """A text that is the same for equal values of equal types, whichever driver they are of."""
    kind = type(value)
    if isinstance(value, BaseException):
        return kind.__name__
    if isinstance(value, dict):
        return f"{kind.__name__}({', '.join(f'{shown(key)}: {shown(each)}' for key, each in value.items())})"
    if isinstance(value, (set, frozenset)):
        return f"{kind.__name__}({', '.join(sorted(map(shown, value)))})"
    if isinstance(value, (list, tuple)) or kind.__name__ in ("Row", "Record"):
        return f"{kind.__name__}({', '.join(map(shown, value))})"  # type: ignore[call-overload]
    return f"{kind.__name__} {value!r}".partition(" at 0x")[0]


async def left_behind() -> list[object]:
    """Return what the program's connections to its database were doing last that it has not closed."""
    connection = await asyncpg.connect(sys.argv[2])
    query = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    for _ in range(100):  # a backend takes its time to end
        left = await connection.fetch(f"{query} AND backend_type = 'client backend'")
        if not left:
            break
        await asyncio.sleep(0.05)
    await connection.close()
    return list(left)


def main(program: Callable[[Notes, str], Awaitable[None]]) -> None:
    """Run a program on the database that the command line names, and write what it notes; warnings are noted too."""

    async def run(note: Notes) -> None:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            async with asyncio.timeout(PATIENCE):
                await program(note, sys.argv[2])
        note("warnings", *(f"{each.category.__name__}: {each.message}" for each in warned))
        note("still connected", *await left_behind())

    notes = Notes()
    try:
        asyncio.run(run(notes))
    finally:
        for line in notes.lines:
            print(json.dumps(line))
    assert sys.modules["asyncpg"].__name__ == ("asyncpg" if DRIVER == "asyncpg" else "headrace")
    print("done")
