"""SQLAlchemy's dialect for headrace: `create_async_engine("postgresql+headrace://user@host/database")`.

It needs SQLAlchemy 2.0.40 or newer, with its asyncio support: `pip install 'headrace[sqlalchemy]'`. Nothing else in
headrace imports it.
"""

from __future__ import annotations

try:
    import greenlet  # noqa: F401  # SQLAlchemy 2.0 would miss it later, and say less
    import sqlalchemy.ext.asyncio
except ImportError as error:
    raise ImportError(
        "the dialect postgresql+headrace needs SQLAlchemy with greenlet: pip install 'headrace[sqlalchemy]'"
    ) from error

OLDEST = (2, 0, 40)
"""The oldest version of SQLAlchemy that the dialect works with."""

version = tuple(int(part) for part in sqlalchemy.__version__.split(".")[:3] if part.isdigit())
if version[:2] < OLDEST[:2] or (version[:2] == OLDEST[:2] and len(version) == 3 and version < OLDEST):
    raise ImportError(
        f"the dialect postgresql+headrace needs SQLAlchemy {'.'.join(map(str, OLDEST))} or newer, found "
        f"{sqlalchemy.__version__}: pip install 'headrace[sqlalchemy]'"
    )

from headrace.sqlalchemy.dialect import HeadraceDialect  # noqa: E402  # it imports what was looked for above

dialect = HeadraceDialect
"""The name under which SQLAlchemy looks for the class."""

__all__ = ["HeadraceDialect", "dialect"]
