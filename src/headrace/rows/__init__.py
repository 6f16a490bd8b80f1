"""Typed rows: how rows become objects of the caller's own classes."""

from headrace.rows.shape import checked_record_class, rows_as

__all__ = ["checked_record_class", "rows_as"]
