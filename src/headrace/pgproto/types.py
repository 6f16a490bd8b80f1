"""Names that programs import from `asyncpg.pgproto.types`."""

from headrace.types import BitString, Box, Circle, Line, LineSegment, Path, Point, Polygon

__all__ = ["BitString", "Box", "Circle", "Line", "LineSegment", "Path", "Point", "Polygon"]
