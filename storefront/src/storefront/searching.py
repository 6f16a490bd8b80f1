"""Find products by words of their name and of their brand's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import headrace
from storefront.catalogue import Executor
from storefront.errors import UsageError
from storefront.timing import timed

LIMIT = 20
"""The number of products that a search returns, unless the caller asks for another."""

MAX_TEXT = 200
"""The longest text that is searched for, in characters."""

MAX_WORDS = 16
"""The largest number of words in a text. Each is a condition of the query."""

COLUMNS = ("product_id", "product_name", "brand_id", "brand_name", "skus", "similar")

CAN_COMPARE = "SELECT to_regprocedure('word_similarity(text, text)') IS NOT NULL"
"""True if the extension pg_trgm is installed in the database, where the search path finds it."""


def parse_words(text: str) -> list[str]:
    """Return the words of a search, each once. Raises UsageError if there is none, or too many."""
    words = list(dict.fromkeys(text.split()))
    if not words:
        raise UsageError("there is nothing to search for: expected words of a product's or a brand's name")
    if len(text) > MAX_TEXT:
        raise UsageError(f"a search has at most {MAX_TEXT} characters, got {len(text)}")
    if len(words) > MAX_WORDS:
        raise UsageError(f"a search has at most {MAX_WORDS} words, got {len(words)}")
    return words


def escape_like(text: str) -> str:
    r"""Return a text as a pattern of LIKE that matches only itself: `%`, `_` and `\` are escaped."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


@timed
async def search(executor: Executor, text: str, *, limit: int = LIMIT, offset: int = 0) -> list[headrace.Record]:
    """Return the products that match a text, as records of COLUMNS, the best first.

    A product matches if each word of the text is a part of its name or of its brand's name. The case of letters does
    not matter, and the text has no wildcards. A name that is the text comes first, then names that begin with it,
    products of the brand of that name, names that contain it, and the others: those in which more of the words begin a
    word of the name, then shorter names, then the smaller id.

    If no product matches and the database has the extension pg_trgm, the products with similar words are returned, and
    their column `similar` is true. That finds words with a mistake. It is not done with an `offset`.

    `skus` is the number of a product's SKUs. Raises UsageError if the text has no word or is too long, or if `limit` or
    `offset` is negative. It is one query, or up to three if nothing matches. A cancellation cancels the query.
    Source: PostgreSQL documentation, LIKE (functions-matching) and pg_trgm.
    """
    words = parse_words(text)
    if limit < 0 or offset < 0:
        raise UsageError(f"limit and offset of a search must be 0 or more, got {limit} and {offset}")
    if not _can_be_in_a_name(text):
        return []
    phrase = " ".join(text.split())
    patterns = [f"%{escape_like(word)}%" for word in words]
    beginnings = [f"% {escape_like(word)}%" for word in words]
    indexed = tuple(_HAS_TRIGRAM.search(word) is not None for word in words)
    found: list[headrace.Record] = await executor.fetch(
        _matching(indexed), limit, offset, phrase, escape_like(phrase), *patterns, *beginnings
    )
    if not found and not offset and await executor.fetchval(CAN_COMPARE):
        found = await executor.fetch(_similar(len(words)), limit, phrase, *words)
    return found


def _can_be_in_a_name(text: str) -> bool:
    """Return whether PostgreSQL can store the text. It has no NUL, and a lone surrogate is not UTF-8."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


# The products of matching brands are found by the index on product.brand_id. With a condition on the joined brand, no
# index could be used.
_CONDITION = """\
(p.product_name{plain} {operator} ${word}
       OR p.brand_id = ANY (ARRAY(SELECT brand_id FROM brand WHERE brand_name{plain} {operator} ${word})))"""

# A word without three letters or digits in a row has no trigram. PostgreSQL would read the whole index for it, which
# takes longer than reading the table. With an expression in place of the column it cannot.
_HAS_TRIGRAM = re.compile(r"[^\W_]{3}")
_NOT_INDEXED = " || ''"

_SELECT = """\
SELECT p.product_id, p.product_name, p.brand_id, b.brand_name,
       (SELECT count(*) FROM sku AS s WHERE s.product_id = p.product_id) AS skus, {similar} AS similar
FROM product AS p
JOIN brand AS b ON b.brand_id = p.brand_id
WHERE {conditions}"""


def _select(operator: str, first: int, indexed: Sequence[bool], *, similar: bool) -> str:
    """Return the query, without its order, for words whose parameters begin with number `first`.

    `indexed` tells of each word whether an index is of use.
    """
    conditions = "\n  AND ".join(
        _CONDITION.format(operator=operator, word=number, plain="" if use else _NOT_INDEXED)
        for number, use in enumerate(indexed, start=first)
    )
    return _SELECT.format(similar=str(similar).lower(), conditions=conditions)


@lru_cache(256)
def _matching(indexed: tuple[bool, ...]) -> str:
    """Return the query for the products in which each word occurs."""
    count = len(indexed)
    begun = " + ".join(
        f"(' ' || p.product_name || ' ' || b.brand_name ILIKE ${number})::int"
        for number in range(5 + count, 5 + 2 * count)
    )
    return f"""\
{_select("ILIKE", 5, indexed, similar=False)}
ORDER BY CASE WHEN lower(p.product_name) = lower($3) THEN 0
              WHEN p.product_name ILIKE $4 || '%' THEN 1
              WHEN lower(b.brand_name) = lower($3) THEN 2
              WHEN p.product_name ILIKE '%' || $4 || '%' THEN 3
              ELSE 4 END,
         {begun} DESC, length(p.product_name), p.product_id
LIMIT $1 OFFSET $2"""


@lru_cache(256)
def _similar(count: int) -> str:
    """Return the query for the products in which there is a word similar to each of `count` words."""
    return f"""\
{_select("%>", 3, [True] * count, similar=True)}
ORDER BY word_similarity($2, p.product_name || ' ' || b.brand_name) DESC, length(p.product_name), p.product_id
LIMIT $1"""
