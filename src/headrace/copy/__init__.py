"""COPY: bulk data in both directions."""

from headrace.copy.reader import CopyReader
from headrace.copy.writer import CopyWriter

__all__ = ["CopyReader", "CopyWriter"]
