"""The SQL lexer: no text makes it raise, and its tokens join to the text again. One bit of the first byte chooses what
'...' means (standard_conforming_strings).
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace._sql.classify import classify, split_statements
from headrace._sql.lexer import tokens
from tests.fuzz.target import Target

TEXTS = (
    "SELECT 1", "select $1::int, $2 from t where a = 'it''s' and b = E'it\\'s' and c = $$x$$ -- no\n",
    "BEGIN; SET x = 1; COMMIT", "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a RETURNING *", "COPY t FROM STDIN",
    "COPY (SELECT 1) TO STDOUT WITH (FORMAT binary)", "SELECT 'a'\n'b' /* /* nested */ */",
    "EXPLAIN (ANALYZE) SELECT 1",
    'SELECT U&"d\\0061t" FROM "t""u"', "SELECT $tag$ $$ $tag$, $1$2, 0x1F, 1_000, 1.5e-10, B'01', X'1f', N'n'",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END; SELECT 3",
    "SELECT a[1:2], b->>'x', c::text, :name, @>, a ? b; ; ;", "CREATE TEMP TABLE t (a int)",
    "SELECT set_config('a', 'b', true)",
    "SELECT * INTO TEMP x FROM pg_temp.y; END PREPARED", "UPDATE pg_settings SET setting = 1", "(((SELECT 1)))",
)  # fmt: skip


def text_of(data: bytes) -> str:
    """Return bytes as text: each is a character, and some are more than ASCII."""
    return data.decode("utf-8", "surrogateescape")


class Lexer(Target):
    """See above."""

    name = "lexer"
    words = (
        *(b"'", b"''", b"E'", b"U&'", b'"', b"$$", b"$a$", b"--", b"/*", b"*/", b"\n", b";", b"(", b")", b"\\", b"$1",
        b"\xc5\xbf"),
        *(b"BEGIN ATOMIC ", b" END ", b"CASE ", b"CREATE FUNCTION ", b" COPY ", b"STDIN", b" INTO ", b"WITH ",
        b" AS ", b"\0"),
    )  # fmt: skip

    def seeds(self) -> Iterable[bytes]:
        for text in TEXTS:
            yield b"\0" + text.encode()
            yield b"\1" + text.encode()

    def run(self, data: bytes) -> object:
        conforming = data[:1] < b"\x80"
        text = text_of(data[1:])
        cut = list(tokens(text, standard_conforming_strings=conforming))
        assert "".join(token.text for token in cut) == text
        traits = classify(text, standard_conforming_strings=conforming)
        assert not (traits.plain_read and traits.session_state)
        assert traits.session_state or not (traits.not_resettable or traits.runs_code or traits.needs_own_session)
        strict = classify(text)
        assert strict.session_state >= traits.session_state
        assert strict.statements >= traits.statements
        assert strict.plain_read <= traits.plain_read
        assert len(split_statements(text, standard_conforming_strings=conforming)) == traits.statements
        return (
            traits.session_state,
            traits.plain_read,
            traits.copy,
            traits.keywords[:2],
            len({token.kind for token in cut}),
        )
