"""The two functions that turn json and jsonb into objects and back: the option `json` of connect().

The default of the option leaves both types as str. A program names a library, or two functions of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from headrace.exceptions._values import shown

__all__ = ["JsonFunctions", "JsonOption", "checked_json"]

Loads = Callable[[Any], Any]
Dumps = Callable[[Any], str | bytes]


class LoadsAndDumps(Protocol):
    """A module or object with `loads` and `dumps`, such as `json` or `orjson`."""

    @property
    def loads(self) -> Loads:
        """Return the object that a JSON text describes."""

    @property
    def dumps(self) -> Dumps:
        """Return the JSON text of an object."""


class DecodeAndEncode(Protocol):
    """A module or object with `decode` and `encode`, such as `msgspec.json`."""

    @property
    def decode(self) -> Loads:
        """Return the object that a JSON text describes."""

    @property
    def encode(self) -> Dumps:
        """Return the JSON text of an object."""


JsonOption = bool | LoadsAndDumps | DecodeAndEncode | tuple[Loads, Dumps]
"""False: json and jsonb are str. True: Python's json. Or an object with the functions, or the pair (loads, dumps)."""

EXPECTED: Final = (
    "json is expected to be True, False, an object with loads and dumps or with decode and encode, "
    "or a pair of functions (loads, dumps)"
)


@dataclass(frozen=True, slots=True)
class JsonFunctions:
    """The functions for json and jsonb. `loads` gets bytes if `takes_bytes`, otherwise a str."""

    loads: Loads
    dumps: Dumps
    takes_bytes: bool
    scan: Callable[[str, int], tuple[Any, int]] | None = None
    """Returns the object at a position of a text, and its end: Python's json has it, and it is faster than `loads`."""


# The server refuses NaN and infinities. Refused here, they are an error that names the argument.
STANDARD: Final = JsonFunctions(
    json.loads,
    json.JSONEncoder(allow_nan=False).encode,
    takes_bytes=False,
    scan=json.JSONDecoder().scan_once,  # type: ignore[attr-defined]
)


def checked_json(option: Any) -> JsonFunctions | None:
    """Return the functions that the option names, None if json and jsonb stay text. Raises ValueError."""
    if option is None or option is False:
        return None
    if option is True:
        return STANDARD
    if isinstance(option, tuple):
        if len(option) != 2 or not all(callable(function) for function in option):
            raise ValueError(f"{EXPECTED}; got {shown(option)}")
        loads, dumps = option
        if _is_named(loads, "dumps", "encode") or _is_named(dumps, "loads", "decode"):
            raise ValueError(f"the pair in json is expected to be (loads, dumps), in this order; got {shown(option)}")
    else:
        for names in (("loads", "dumps"), ("decode", "encode")):
            loads, dumps = (getattr(option, name, None) for name in names)
            if callable(loads) and callable(dumps):
                break
        else:
            raise ValueError(f"{EXPECTED}; got {type(option).__name__} {shown(option)}")
    if loads is json.loads and dumps is json.dumps:
        return STANDARD
    return JsonFunctions(loads, dumps, _takes_bytes(loads))


def _is_named(function: object, *names: str) -> bool:
    return str(getattr(function, "__name__", "")).endswith(names)


def _takes_bytes(loads: Loads) -> bool:
    """Return whether `loads` accepts bytes. Then no str has to be made of the bytes that the server sends."""
    if loads is json.loads:
        # It accepts bytes, but only makes a str of them.
        return False
    try:
        return loads(b"null") is None
    except Exception:
        return False
