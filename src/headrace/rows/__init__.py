"""Typed rows: rows as objects of users' classes."""

from headrace.rows.shape import checked_record_class, rows_as

__all__ = ["checked_record_class", "rows_as"]
