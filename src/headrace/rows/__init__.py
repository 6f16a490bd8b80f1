"""Typed rows: rows as objects of users' classes."""

from headrace.rows.annotations import key
from headrace.rows.shape import checked_record_class, one_object_a_row, rows_as

__all__ = ["checked_record_class", "key", "one_object_a_row", "rows_as"]
