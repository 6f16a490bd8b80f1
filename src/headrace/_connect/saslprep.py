"""Prepares a password for SCRAM: SASLprep (RFC 4013), as leniently as PostgreSQL.

The server prepares a password when it is set, this driver when it is used, and both must produce the same bytes. So
this module follows PostgreSQL (src/common/saslprep.c) if RFC 4013 differs: a password that SASLprep forbids is used
unchanged instead of refused, and the tables are applied before the normalisation, not after it.
"""

from __future__ import annotations

import stringprep
import unicodedata


def saslprep(password: str) -> bytes:
    """Return the bytes that SCRAM hashes for a password. Never fails."""
    unchanged = password.encode("utf-8", "surrogateescape")
    if password.isascii():
        return unchanged
    try:
        password.encode("utf-8")
    except UnicodeEncodeError:
        return unchanged
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in password
        if not stringprep.in_table_b1(character)
    )
    if not mapped or any(_prohibited(character) for character in mapped) or not _one_direction(mapped):
        return unchanged
    return unicodedata.normalize("NFKC", mapped).encode("utf-8")


def _prohibited(character: str) -> bool:
    """Return whether RFC 4013, 2.3 and 2.5, forbids a character, or Unicode 3.2 does not have it."""
    return (
        stringprep.in_table_c12(character)
        or stringprep.in_table_c21_c22(character)
        or stringprep.in_table_c3(character)
        or stringprep.in_table_c4(character)
        or stringprep.in_table_c5(character)
        or stringprep.in_table_c6(character)
        or stringprep.in_table_c7(character)
        or stringprep.in_table_c8(character)
        or stringprep.in_table_c9(character)
        or stringprep.in_table_a1(character)
    )


def _one_direction(text: str) -> bool:
    """Check the rule for right-to-left text (RFC 3454, 6)."""
    if not any(stringprep.in_table_d1(character) for character in text):
        return True
    if any(stringprep.in_table_d2(character) for character in text):
        return False
    return stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
