"""Named parameters: a text is read, or refused with InterfaceError."""

from __future__ import annotations

from collections.abc import Iterable

from headrace import exceptions
from headrace._sql.lexer import Kind, tokens
from headrace._sql.named_parameters import read_text, sql
from tests.fuzz.target import Target
from tests.fuzz.targets.lexer import TEXTS, Lexer, text_of

NAMED = (
    "SELECT :a, :b, :a", "SELECT a[:x:2], JSON_OBJECT('k':1), x::int, :_y + :\N{LATIN SMALL LETTER E WITH ACUTE}",
    "INSERT INTO t VALUES (:a, :b) -- :c", "SELECT ':a', \":b\", $$:c$$, /* :d */ :e",
    "SELECT :a:b, :1, : a, :=, a:=:b",
)  # fmt: skip


class NamedParameters(Target):
    """See above."""

    name = "named_parameters"
    share = 0.5
    allowed = (exceptions.InterfaceError,)
    words = (*Lexer.words, b":", b":a", b"::", b":=", b"[", b"]")

    def seeds(self) -> Iterable[bytes]:
        return [text.encode() for text in (*NAMED, *TEXTS)]

    def run(self, data: bytes) -> object:
        text = text_of(data)
        found = read_text.__wrapped__(text)
        query = sql(text, **dict.fromkeys(found.names, 1))
        assert len(query.args) == len(found.names)
        numbers = {token.text for token in tokens(query.text) if token.kind is Kind.PARAMETER}
        assert numbers == {f"${number}" for number in range(1, len(found.names) + 1)}, query.text
        return len(found.names), len(found.parts)
