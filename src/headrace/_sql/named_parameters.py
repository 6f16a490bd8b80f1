"""Queries with named parameters, and fragments to build them from: `sql()` and template literals.

The text is split by the lexer, so a `:name` inside a string, a comment or a dollar-quoted body is text, and `::`,
`:=` and the colon of a slice keep their meaning in SQL. Values never become part of a text: each is sent separately
as `$1`, `$2`, ... The parsed form of a text is cached, so the same text gives the same query and finds its prepared
statement again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, NamedTuple

from headrace._sql.lexer import Kind, Token, tokens
from headrace._sql.quoting import quote_identifier
from headrace.exceptions import ArgumentError, InterfaceError
from headrace.exceptions._values import shown

if sys.version_info >= (3, 14):
    from string.templatelib import Template
else:

    class Template:
        """Stands in for the class of template literals in versions of Python without them."""


CACHED_TEXTS: Final = 1024
LONGEST_CACHED: Final = 65_536


class Skeleton(NamedTuple):
    """A parsed text: the parts between its parameters, and the parameter in each gap."""

    parts: tuple[str, ...]
    names: tuple[str, ...]
    """Each parameter once, in order of first appearance."""
    indexes: tuple[int, ...]
    """For each gap between the parts, the index of its parameter."""
    text: str
    """The text with $1, $2, ... in the gaps."""


class Query:
    """A query or a fragment of one, with its arguments. `sql()` makes it; it is immutable.

    It is accepted in place of a query's text and arguments, as in `await connection.fetch(query)`, and as the value of
    a parameter of another query.
    """

    __slots__ = ("_args", "_indexes", "_missing", "_parts", "_text")

    def __init__(
        self,
        parts: tuple[str, ...],
        indexes: tuple[int, ...],
        args: tuple[object, ...],
        text: str | None = None,
        missing: tuple[str, ...] = (),
    ) -> None:
        self._parts = parts
        self._indexes = indexes
        self._args = args
        self._text = text
        self._missing = missing

    @property
    def text(self) -> str:
        """The text with $1, $2, ... for its parameters, in order of first appearance."""
        if self._text is None:
            self._text = _numbered(self._parts, self._indexes)
        return self._text

    @property
    def args(self) -> tuple[object, ...]:
        """The values of $1, $2, ..."""
        return self._args

    def join(self, queries: Iterable[Query]) -> Query:
        """Return one query of these queries, with this one between each two: `sql(" AND ").join(conditions)`."""
        found = [_fragment(each) for each in queries]
        if not found:
            return EMPTY
        values: list[Query] = [found[0]]
        for each in found[1:]:
            values += (self, each)
        return _spliced(("",) * (len(values) + 1), range(len(values)), values)

    def __repr__(self) -> str:
        count = len(self._missing) or len(self._args)
        kind = "parameter" if self._missing else "argument"
        return f"<Query {self.text!r}, {count} {kind}{'' if count == 1 else 's'}>"


class NamedElements:
    """The elements of an executemany(): each mapping becomes a sequence of arguments when it is reached.

    It can be iterated again if the elements can.
    """

    __slots__ = ("_elements", "_names")

    def __init__(self, names: tuple[str, ...], elements: Iterable[Any]) -> None:
        self._names = names
        self._elements = elements

    def __iter__(self) -> Iterator[Sequence[object]]:
        for at, element in enumerate(self._elements):
            yield _arguments(self._names, at, element)


class AsyncNamedElements:
    """The elements of an executemany() that come from an asynchronous iterable. See `NamedElements`."""

    __slots__ = ("_elements", "_names")

    def __init__(self, names: tuple[str, ...], elements: AsyncIterable[Any]) -> None:
        self._names = names
        self._elements = elements

    async def __aiter__(self) -> AsyncIterator[Sequence[object]]:
        iterator = aiter(self._elements)
        at = 0
        try:
            async for element in iterator:
                yield _arguments(self._names, at, element)
                at += 1
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()


def _arguments(names: tuple[str, ...], at: int, element: Any) -> Sequence[object]:
    """Return the arguments in a mapping, the element at position `at`; raises ArgumentError if its names are others."""
    if not isinstance(element, Mapping):
        raise ArgumentError(
            f"invalid input in executemany() argument sequence element #{at}: expected a mapping, "
            f"got {type(element).__name__} {shown(element)}",
            hint=f"The query has named parameters: pass a value for each of {_listed(names)}.",
        )
    try:
        args = [element[name] for name in names]
    except KeyError:
        args = None
    if args is None or len(args) != len(element):
        difference = _difference(names, list(element))
        raise ArgumentError(f"invalid input in executemany() argument sequence element #{at}: {difference}")
    return args


EMPTY: Final = Query(("",), (), (), "")

if sys.version_info >= (3, 14):
    AnyQuery = str | Query | Template
else:
    AnyQuery = str | Query
"""Accepted by the query methods: a text with $1, $2, ...; a query of `sql()`; from Python 3.14 a template literal."""


def sql(text: str | Template, /, **values: object) -> Query:
    """Return a query with named parameters: `sql("SELECT * FROM product WHERE id = :id", id=5)`.

    `:name` stands for the value passed under that name. A name that is used twice is one parameter. A value that is a
    query itself becomes part of the text, with its own parameters. A query without values is for executemany() and
    fetchmany(), which take the values from their elements. A template literal has its values: `sql(t"... {id}")`.

    Raises InterfaceError if the names and the values differ, if the text has $1, $2, ..., or if the text ends inside a
    string, a quoted identifier or a comment.
    """
    if not isinstance(text, str):
        if values:
            raise InterfaceError(f"a template literal brings its values along: {_listed(values)} cannot be passed too")
        return _of_template(text)
    skeleton = read_text(text) if len(text) <= LONGEST_CACHED else read_text.__wrapped__(text)
    names = skeleton.names
    if not values:
        return Query(skeleton.parts, skeleton.indexes, (), skeleton.text, names)
    try:
        given = [values[name] for name in names]
    except KeyError:
        raise _names_differ(text, names, values) from None
    if len(given) != len(values):
        raise _names_differ(text, names, values)
    return _query(skeleton, given)


def identifier(*names: str) -> Query:
    """Return a name as a quoted fragment: `identifier("public", "user")` is "public"."user".

    Raises InterfaceError for a name that is empty or cannot be sent.
    """
    if not names or "" in names:
        raise InterfaceError(f"identifier() expects the parts of a name, none of them empty; got {shown(names)}")
    text = ".".join(quote_identifier(name) for name in names)
    return Query((text,), (), (), text)


def bound(query: object, args: tuple[object, ...]) -> tuple[str, tuple[object, ...]]:
    """Return the text and arguments of an object that was passed as a query.

    Raises TypeError if it is not a query, InterfaceError if arguments are missing or passed twice.
    """
    if isinstance(query, str):
        # The core accepts str only, and a subclass may override its methods.
        return str.__str__(query), args
    found = _as_query(query)
    if found is None:
        raise TypeError(
            f"query is expected to be a str, or what headrace.sql() returns; got {type(query).__name__} {shown(query)}"
        )
    if args:
        raise InterfaceError(
            f"this query brings its arguments along: {len(args)} more {'was' if len(args) == 1 else 'were'} passed",
            hint="Pass all of them to sql(), by name.",
        )
    if found._missing:
        raise InterfaceError(
            f"no value for {_listed(found._missing)}",
            hint=f"Pass it to sql(): sql(text, {found._missing[0]}=...).",
        )
    return found.text, found.args


def bound_each(query: object, elements: Any) -> tuple[str, Any]:
    """Return the text of a query to be run once for each element, and its arguments for each run.

    `elements` is an iterable or asynchronous iterable. The elements of a query with named parameters are mappings.
    Raises like `bound()`. Taking an element that does not have exactly the names of the query raises ArgumentError.
    """
    if isinstance(query, str):
        return str.__str__(query), elements
    found = _as_query(query)
    if found is None:
        return bound(query, ())[0], elements
    if found.args:
        raise InterfaceError(
            "this query brings its arguments along, but each element has arguments of its own",
            hint="Pass the text alone to sql(), and as elements mappings with a value for each name.",
        )
    if not found._missing:
        return found.text, elements
    if hasattr(type(elements), "__aiter__"):
        return found.text, AsyncNamedElements(found._missing, elements)
    named = NamedElements(found._missing, elements)
    return found.text, iter(named) if iter(elements) is elements else named


def unbound_text(query: object, method: str) -> str:
    """Return the text of a query for a method that accepts only text; raises InterfaceError for a `Query`."""
    if _as_query(query) is not None:
        raise InterfaceError(
            f"{method} takes a text with $1, $2, ... for its parameters, not what sql() returns",
            hint="Pass query.text: its parameters are numbered in the order of first appearance.",
        )
    return bound(query, ())[0]


def _as_query(query: object) -> Query | None:
    if isinstance(query, Query):
        return query
    return _of_template(query) if isinstance(query, Template) else None


# -- reading ---------------------------------------------------------------------------------------------------------

# A colon that touches one of these is part of SQL. So does a lone $, which would dollar-quote the number after it.
_OPERANDS: Final = frozenset((Kind.WORD, Kind.QUOTED, Kind.STRING, Kind.NUMBER, Kind.OTHER))
_NOTHING: Final = Token(Kind.SPACE, "", 0)


@lru_cache(CACHED_TEXTS)
def read_text(text: str) -> Skeleton:
    """Find the `:name`s of a text.

    A colon that touches the token before it is part of SQL: array[lower:upper], JSON_OBJECT('key':value).
    """
    parts: list[str] = []
    found: list[str] = []
    end = 0
    colon: Token | None = None
    before = _NOTHING
    for token in tokens(text):
        _check(token)
        if token.kind is Kind.PARAMETER:
            raise InterfaceError(
                f"the text has the numbered parameter {token.text}, at character {token.start + 1}",
                hint="sql() numbers parameters by itself: give this one a name too, such as :id.",
            )
        if colon is not None and token.kind is Kind.WORD:
            if not token.text.isidentifier():
                raise InterfaceError(f"the name of a parameter is expected to be a Python identifier: :{token.text}")
            parts.append(text[end : colon.start])
            found.append(token.text)
            end = token.start + len(token.text)
        touching = before.kind in _OPERANDS or before.text in (")", "]")
        colon = token if token.text == ":" and not touching else None
        before = token
    return _put_together((*parts, text[end:]), found)


@lru_cache(CACHED_TEXTS)
def read_template(strings: tuple[str, ...], names: tuple[str, ...]) -> Skeleton:
    """Check that every interpolation of a template literal is at a position that allows a parameter."""
    text = _numbered(strings, range(len(names)))
    found: dict[int, Token] = {}
    for token in tokens(text):
        _check(token)
        found[token.start] = token
    at = 0
    for number, (part, name) in enumerate(zip(strings, names, strict=False), 1):
        at += len(part)
        placed = f"${number}"
        here = found.pop(at, None)
        if here is None or here.text != placed or strings[number][:1].isidentifier():
            around = here or max((each for each in found.values() if each.start < at), key=lambda each: each.start)
            raise InterfaceError(
                f"the interpolation {{{name}}} stands in or at a {around.kind.value}: {shown(text[around.start :])}",
                hint="Write it outside of quotes and names: a value becomes a parameter.",
            )
        at += len(placed)
    for token in found.values():
        if token.kind is Kind.PARAMETER:
            raise InterfaceError(
                f"the template has the numbered parameter {token.text}: its interpolations are numbered automatically"
            )
    return _put_together(strings, names)


def _check(token: Token) -> None:
    if token.kind is Kind.UNTERMINATED:
        raise InterfaceError(f"the text has {token.kind.value}, from character {token.start + 1}: {shown(token.text)}")


def _put_together(parts: tuple[str, ...], found: Sequence[str]) -> Skeleton:
    names = tuple(dict.fromkeys(found))
    number = {name: at for at, name in enumerate(names)}
    indexes = tuple([number[name] for name in found])
    return Skeleton(parts, names, indexes, _numbered(parts, indexes))


def _of_template(template: Any) -> Query:
    if not isinstance(template, Template):
        raise TypeError(
            f"sql() expects a str, or from Python 3.14 a template literal; got {type(template).__name__} "
            f"{shown(template)}"
        )
    values: dict[str, object] = {}
    names: list[str] = []
    for interpolation in template.interpolations:  # type: ignore[attr-defined, unused-ignore]
        name, value = interpolation.expression.strip(), interpolation.value
        if interpolation.conversion or interpolation.format_spec:
            raise InterfaceError(
                f"the interpolation {{{name}}} has a conversion or format: values are sent unchanged",
                hint="Format it in the query, with to_char() for instance, or convert the value first.",
            )
        # A variable that is used twice is one parameter; a call may return another value each time.
        if not name.isidentifier() or values.setdefault(name, value) is not value:
            name = f"{name} #{len(names) + 1}"
            values[name] = value
        names.append(name)
    skeleton = read_template(template.strings, tuple(names))  # type: ignore[attr-defined, unused-ignore]
    return _query(skeleton, [values[name] for name in skeleton.names])


# -- putting together ------------------------------------------------------------------------------------------------


def _query(skeleton: Skeleton, values: list[Any]) -> Query:
    for value in values:
        if isinstance(value, (Query, Template, list, tuple)):
            break
    else:
        return Query(skeleton.parts, skeleton.indexes, tuple(values), skeleton.text)
    for name, value in zip(skeleton.names, values, strict=True):
        if isinstance(value, (list, tuple)) and value and _as_query(value[0]) is not None:
            raise InterfaceError(
                f"the value of :{name} is a {type(value).__name__} of queries",
                hint="Choose the text between them: sql(', ').join(...).",
            )
    return _spliced(skeleton.parts, skeleton.indexes, values)


def _spliced(parts: Sequence[str], indexes: Iterable[int], values: Sequence[Any]) -> Query:
    """Fill the gaps with values: queries with their texts and arguments, all other values as arguments."""
    args: list[object] = []
    first: dict[int, int] = {}
    texts = [parts[0]]
    numbers: list[int] = []
    for index, after in zip(indexes, parts[1:], strict=True):
        fragment = _as_query(values[index])
        known = index in first
        number = first.setdefault(index, len(args))
        if fragment is None:
            if not known:
                args.append(values[index])
            numbers.append(number)
            texts.append(after)
        else:
            fragment = _fragment(fragment)
            if not known:
                args.extend(fragment._args)
            numbers.extend([number + inner for inner in fragment._indexes])
            texts[-1] = _adjoined(texts[-1], fragment._parts[0])
            texts.extend(fragment._parts[1:])
            texts[-1] = _adjoined(texts[-1], after)
    return Query(tuple(texts), tuple(numbers), tuple(args))


def _fragment(value: object) -> Query:
    query = _as_query(value)
    if query is None:
        raise InterfaceError(f"a query is expected, made by sql(); got {type(value).__name__} {shown(value)}")
    if query._missing:
        raise InterfaceError(
            f"no value for {_listed(query._missing)} of a query inside another",
            hint=f"Pass it to the inner sql(): sql(text, {query._missing[0]}=...).",
        )
    return query


def _adjoined(left: str, right: str) -> str:
    """Join two texts so that no token of one becomes part of a token of the other."""
    if left.rpartition("\n")[2].find("--") >= 0:
        return f"{left}\n{right}"  # the left one may end in a comment
    if not left or not right or left[-1] in " \t\n\r(,.;" or right[0] in " \t\n\r),.;":
        return left + right
    return f"{left} {right}"


def _numbered(parts: Sequence[str], indexes: Iterable[int]) -> str:
    pieces = [parts[0]]
    for index, part in zip(indexes, parts[1:], strict=True):
        pieces += (f"${index + 1}", part)
    return "".join(pieces)


# -- errors ----------------------------------------------------------------------------------------------------------


def _listed(names: Iterable[str]) -> str:
    found = [f":{name}" for name in names]
    return f"the parameter{'s' if len(found) > 1 else ''} {', '.join(found)}"


def _difference(names: Sequence[str], given: Sequence[Any]) -> str:
    missing = [name for name in names if name not in given]
    unknown = [str(name) for name in given if name not in names]
    problems = []
    if missing:
        problems.append(f"no value for {_listed(missing)}")
    if unknown:
        problems.append(f"the query does not have {_listed(unknown)}")
    return "; ".join(problems)


def _names_differ(text: str, names: tuple[str, ...], values: dict[str, object]) -> InterfaceError:
    hint = None
    for name in values.keys() - set(names):
        close = get_close_matches(name, names, 1)
        if re.search(rf":{re.escape(name)}\b", text):
            hint = (
                f"Inside a string, a quoted identifier or a comment :{name} is text, and a colon that touches what "
                "stands before it is SQL's own."
            )
        elif close:
            hint = f"Is :{close[0]} meant?"
    return InterfaceError(_difference(names, list(values)), hint=hint)
