"""Text and bytes, and documents: JSON, XML, text search."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from headrace import BitString
from tests.core.codecs.on_server import literals
from tests.core.codecs.on_server.samples.sample import Sample

CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
TEXT = st.text(CHARACTERS, max_size=30)
WORD = st.text(CHARACTERS, min_size=1, max_size=12)

EDGES = ("", " ", 'a "b"', "a\\b", "{}", "NULL", "(,)", "'", "\t\r\n", "ä€😀", "\x01\x7f\uffff\U0010ffff")


def text(name: str, values: SearchStrategy[str] = TEXT) -> Sample:
    return Sample(name, values, edges=EDGES)


def bit_string(digits: Iterable[int]) -> BitString:
    return BitString(digits)


BITS = st.lists(st.integers(0, 1), max_size=70).map(bit_string)
BIT_EDGES = (BitString(""), BitString("1"), BitString("1" * 8), BitString("01" * 33))

# JSON as jsonb prints it: keys by length and then by their bytes, and a space after each comma and colon.


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: ordered(value[key]) for key in keys}
    return [ordered(item) for item in value] if isinstance(value, list) else value


def as_json(value: Any) -> str:
    return json.dumps(ordered(value), ensure_ascii=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(TEXT, parts, max_size=4),
    max_leaves=10,
).map(as_json)

XML = st.text(st.characters(codec="utf-8", min_codepoint=32, max_codepoint=0xFFFD)).map(escape).map("<a>{}</a>".format)

KEY = st.text(st.sampled_from("abcxyzäß€漢"), min_size=1, max_size=8)


def as_jsonpath(steps: list[str | int]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in steps)


# Text search: words in the order of their bytes, with ' and \\ doubled.


def as_word(word: str) -> str:
    doubled = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"


def as_tsvector(words: dict[str, list[tuple[int, str]]]) -> str:
    def lexeme(word: str) -> str:
        at = ",".join(f"{place}{weight}" for place, weight in sorted(words[word]))
        return as_word(word) + (f":{at}" if at else "")

    return " ".join(map(lexeme, sorted(words, key=str.encode)))


def as_tsquery(alternatives: list[list[tuple[bool, str]]]) -> str:
    return " | ".join(" & ".join("!" * negated + as_word(word) for negated, word in terms) for terms in alternatives)


PLACES = st.lists(
    st.tuples(st.integers(1, 16383), st.sampled_from(("A", "B", "C", ""))),
    max_size=3,
    unique_by=lambda place: place[0],
)

TEXTS = [
    text("text"),
    text("varchar"),
    text("bpchar"),
    # At most 63 bytes.
    text("name", st.text(CHARACTERS, max_size=15)),
    text("refcursor"),
    Sample(
        "bytea",
        st.binary(max_size=40),
        literals.hexadecimal,
        edges=(b"", b"\0", b"\\", bytes(range(256))),
    ),
    Sample(
        "char",
        st.binary(min_size=1, max_size=1),
        literals.byte,
        edges=(b"\0", b" ", b"\\", b'"', b"\x7f", b"\x80", b"\xff"),
    ),
    Sample("bit", BITS, literals.bits, edges=BIT_EDGES),
    Sample("varbit", BITS, literals.bits, edges=BIT_EDGES),
]

DOCUMENTS = [
    # json keeps the text as it is, spaces and all.
    Sample("json", JSON.map(lambda document: f" {document}\n"), edges=('{"a":1,"a":2}', " null ")),
    Sample("jsonb", JSON, edges=("null", "{}", "[]", '""', '{"a": 1.50}')),
    Sample("jsonpath", st.lists(KEY | st.integers(0, 99), max_size=5).map(as_jsonpath), edges=("$",)),
    Sample("xml", XML, edges=("", "<a b='c'/>", "&lt;", '<?xml version="1.1"?><a/>')),
    Sample(
        "tsvector",
        st.dictionaries(WORD, PLACES, max_size=5).map(as_tsvector),
        edges=("", "'a':1A,2 'b'", "'''' '\\\\'"),
    ),
    Sample(
        "tsquery",
        st.lists(st.lists(st.tuples(st.booleans(), WORD), min_size=1, max_size=3), max_size=3).map(as_tsquery),
        edges=("", "'a' <-> 'b'", "( 'a' | 'b' ) & !'c':*A"),
    ),
]
