"""The type variables of the classes that are generic in the class of their rows.

Their default is for type checkers, which know typing_extensions without an installation of it. It makes `Pool` another
name for `Pool[Record]`. At run time a type variable needs no default.
Source: PEP 696.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._core.rows.record import Record

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    RecordT = TypeVar("RecordT", bound=Record, default=Record)
    RecordT_co = TypeVar("RecordT_co", bound=Record, default=Record, covariant=True)
    RowT_co = TypeVar("RowT_co", default=Record, covariant=True)
else:
    from typing import TypeVar

    RecordT = TypeVar("RecordT", bound=Record)
    RecordT_co = TypeVar("RecordT_co", bound=Record, covariant=True)
    RowT_co = TypeVar("RowT_co", covariant=True)
