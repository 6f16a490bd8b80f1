"""The options that were given, the source of each, and their conversion to numbers, booleans and choices.

An error names the option, its source, what was expected and, unless the option is secret, what was found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from headrace._connect.params.options import OPTIONS
from headrace._connect.params.secret import Secret
from headrace.exceptions import ClientConfigurationError
from headrace.exceptions._values import shown

DEFAULT: Final = "default"

_INTEGER: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,20})[ \t\n\v\f\r]*", re.ASCII)
_INT_MAX: Final = 2**31 - 1


class Values:
    """Texts of the options by name. The first source that gives an option determines it."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._sources: dict[str, str] = {}

    def add(self, values: Mapping[str, str], source: str) -> None:
        """Add the values of options that are not set yet. Raises ClientConfigurationError if any has a NUL."""
        for name, text in values.items():
            if "\0" in text:
                raise ClientConfigurationError(
                    f"{name} ({source}) contains a NUL character, which no parameter can contain"
                )
            if name not in self._texts:
                self._texts[name] = text
                self._sources[name] = source

    def __contains__(self, name: str) -> bool:
        return name in self._texts

    def __repr__(self) -> str:
        return f"<Values of {', '.join(self._texts)}>"

    def source(self, name: str) -> str:
        """Return the source of the value, for an error message."""
        return self._sources.get(name, DEFAULT)

    def given(self, name: str) -> bool:
        """Return whether a source gave the option a value that is not empty."""
        return bool(self._texts.get(name)) and self._sources[name] != DEFAULT

    def raw(self, name: str) -> str | None:
        """Return the text unchanged, perhaps not Unicode: for passwords and file names. Empty is None."""
        return self._texts.get(name) or None

    def text(self, name: str) -> str | None:
        """Return the text, which must be Unicode because it is sent to the server. Empty is None."""
        text = self.raw(name)
        if text is not None:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                raise self.error(name, "text in UTF-8", found="bytes that are not") from None
        return text

    def secret(self, name: str) -> Secret | None:
        """Return the value as a `Secret`. Empty is None."""
        text = self.raw(name)
        return None if text is None else Secret(text)

    def integer(self, name: str, *, minimum: int = 0, maximum: int = _INT_MAX) -> int | None:
        """Return a whole number; None if not given."""
        text = self.raw(name)
        return None if text is None else self.to_integer(name, text, minimum=minimum, maximum=maximum)

    def to_integer(self, name: str, text: str, *, minimum: int, maximum: int) -> int:
        """Convert one whole number of the option, whose value may be a list of them."""
        match = _INTEGER.fullmatch(text)
        if match is None or not minimum <= int(match[1]) <= maximum:
            raise self.error(name, f"a whole number from {minimum} to {maximum}", found=text)
        return int(match[1])

    def seconds(self, name: str) -> float | None:
        """Return a duration in seconds; None for no limit: zero, negative or not given."""
        text = self.raw(name)
        if text is None:
            return None
        try:
            duration = float(text)
        except ValueError:
            raise self.error(name, "a number of seconds", found=text) from None
        if not math.isfinite(duration):
            raise self.error(name, "a finite number of seconds", found=text)
        return duration if duration > 0 else None

    def boolean(self, name: str) -> bool:
        """Return whether the option is on. libpq has "0" and "1"; true, false, on, off, yes and no are accepted too."""
        text = (self.raw(name) or OPTIONS[name].default or "0").strip()
        if text.lower() in ("1", "true", "on", "yes"):
            return True
        if text.lower() in ("0", "false", "off", "no"):
            return False
        raise self.error(name, "0 or 1", found=text)

    def choice(self, name: str) -> str:
        """Return the value, which must be one of the option's choices. Empty means the default."""
        option = OPTIONS[name]
        text = self.raw(name) or option.default or ""
        if text not in option.choices:
            if option.status == "refused":
                raise self.error(name, "nothing: the option is not supported", found=text, hint=option.meaning)
            choices = ", ".join(repr(choice) for choice in option.choices if choice)
            raise self.error(name, f"one of {choices}", found=text, hint=option.note or None)
        return text

    def error(
        self, name: str, expected: str, *, found: str | None = None, hint: str | None = None
    ) -> ClientConfigurationError:
        """Return the error for an invalid value of an option."""
        if found is None or OPTIONS[name].secret:
            got = ""
        elif name == "port" and self.source(name) == "DSN":
            # An unescaped "/" in a password makes the text before it a host and a port.
            got = ", got something else (not shown: it may be part of the password)"
            hint = hint or 'Percent-encode "/", "@", ":" and "?" inside the password of a URI.'
        else:
            got = f", got {shown(found)}"
        return ClientConfigurationError(f"{name} ({self.source(name)}) must be {expected}{got}", hint=hint)
