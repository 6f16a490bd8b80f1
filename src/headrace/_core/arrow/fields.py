"""Fields of an Arrow schema as headrace reads them: their types, and the names of these types for errors.

Source: Apache Arrow, "The Arrow C data interface", format strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["INTEGERS", "PLAIN", "UNITS", "Field"]

INTEGERS: Final = {
    "c": "int8",
    "C": "uint8",
    "s": "int16",
    "S": "uint16",
    "i": "int32",
    "I": "uint32",
    "l": "int64",
    "L": "uint64",
}
"""The integers by their format strings."""

PLAIN: Final = {
    **INTEGERS,
    "n": "null",
    "b": "bool",
    "e": "float16",
    "f": "float32",
    "g": "float64",
    "z": "binary",
    "Z": "large_binary",
    "vz": "binary_view",
    "u": "string",
    "U": "large_string",
    "vu": "string_view",
    "tdD": "date32",
    "tdm": "date64",
    "tts": "time32[s]",
    "ttm": "time32[ms]",
    "ttu": "time64[us]",
    "ttn": "time64[ns]",
    "tDs": "duration[s]",
    "tDm": "duration[ms]",
    "tDu": "duration[us]",
    "tDn": "duration[ns]",
    "tiM": "interval[months]",
    "tiD": "interval[days, ms]",
    "tin": "interval[months, days, ns]",
}
"""The types whose format string is fixed."""

UNITS: Final = {"s": "s", "m": "ms", "u": "us", "n": "ns"}
"""The units of times by their letter in a format string."""

_FORMATS: Final = re.compile(
    r"[ncCsSiIlLefgbzZuU]|v[zu]|w:\d{1,9}|d:\d{1,4},-?\d{1,4}(,\d{1,4})?|td[Dm]|tt[smun]|ts[smun]:.*|tD[smun]|ti[MDn]"
    r"|\+[lLsmr]|\+v[lL]|\+w:\d{1,9}|\+u[ds]:.*",
    re.DOTALL | re.ASCII,
)
"""The format strings."""

LISTS: Final = {"+l": "list", "+L": "large_list", "+vl": "list_view", "+vL": "large_list_view"}


@dataclass(frozen=True)
class Field:
    """A field of a schema: its name, its type as a format string, and the fields of the parts of its type."""

    name: str
    format: str
    children: tuple[Field, ...] = ()
    dictionary: Field | None = None
    """The values of a dictionary; `format` is then that of the indexes."""

    extension: str = ""
    """The name of the extension type, such as arrow.uuid; '' for none."""

    @property
    def type(self) -> str:
        """The name of the type, for errors."""
        name = self._storage()
        return f"{self.extension} ({name})" if self.extension else name

    @property
    def is_known(self) -> bool:
        """True if headrace knows the format string."""
        return _FORMATS.fullmatch(self.format) is not None

    @property
    def decimal(self) -> tuple[int, int, int]:
        """Precision, scale and bits of a decimal, if the format is known."""
        numbers = [int(number) for number in self.format[2:].split(",")]
        precision, scale = numbers[:2]
        return precision, scale, numbers[2] if len(numbers) > 2 else 128

    def _storage(self) -> str:
        form = self.format
        if not self.is_known:
            return f"a type with the format {form!r}"
        if self.dictionary is not None:
            return f"dictionary<{self.dictionary.type}>"
        if form in PLAIN:
            return PLAIN[form]
        if form in LISTS:
            return f"{LISTS[form]}<{self._parts()}>"
        if form.startswith("+w:"):
            return f"fixed_size_list<{self._parts()}>[{form[3:]}]"
        if form == "+s":
            fields = [f"{child.name}: {child.type}" for child in self.children]
            return f"struct<{', '.join(fields[:8])}{', ...' if len(fields) > 8 else ''}>"
        if form == "+m":
            return "map"
        if form == "+r":
            return f"run_end_encoded<{self.children[-1].type}>" if self.children else "run_end_encoded"
        if form.startswith(("+ud:", "+us:")):
            return "union"
        if form.startswith("w:"):
            return f"fixed_size_binary[{form[2:]}]"
        if form.startswith("d:"):
            precision, scale, bits = self.decimal
            return f"decimal{bits}({precision}, {scale})"
        zone = form[4:]
        return f"timestamp[{UNITS[form[2]]}{', ' + zone if zone else ''}]"

    def _parts(self) -> str:
        return ", ".join(child.type for child in self.children)
