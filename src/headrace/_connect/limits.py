"""The limits of a session, cached statements and pipelined requests, and how it reads values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from headrace._core.codecs.json_functions import JsonFunctions, JsonOption, checked_json
from headrace._core.codecs.typemap import TypeMap
from headrace._core.pipeline.session import Session
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from headrace._core.pipeline.events import Events

StatementMode = Literal["named", "unnamed", "describe"]
"""named: the server keeps statements under names. unnamed: only descriptions are cached, here. describe: no cache."""

OutOfRange = Literal["error", "text"]
"""The result of dates, times and intervals that Python's types cannot represent: an error, or their text form."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The limits of a session's statement cache and pipeline. The values are checked on creation."""

    statement_cache_size: int
    max_cached_statement_lifetime: float
    max_cacheable_statement_size: int
    max_pipeline: int
    statement_mode: StatementMode = "named"
    out_of_range: OutOfRange = "error"
    single_server: bool = False
    json: JsonOption = False
    json_functions: JsonFunctions | None = field(init=False)

    def __post_init__(self) -> None:
        if self.statement_mode not in get_args(StatementMode):
            raise ValueError(
                f"statement_mode is expected to be 'named', 'unnamed' or 'describe', got {shown(self.statement_mode)}"
            )
        if self.out_of_range not in get_args(OutOfRange):
            raise ValueError(f"out_of_range is expected to be 'error' or 'text', got {shown(self.out_of_range)}")
        if not isinstance(self.single_server, bool):
            raise ValueError(f"single_server is expected to be True or False, got {shown(self.single_server)}")
        object.__setattr__(self, "json_functions", checked_json(self.json))
        for name, minimum in (
            ("statement_cache_size", 0),
            ("max_cached_statement_lifetime", 0),
            ("max_cacheable_statement_size", 0),
            ("max_pipeline", 1),
        ):
            value = getattr(self, name)
            number = (int, float) if name == "max_cached_statement_lifetime" else int
            if isinstance(value, bool) or not isinstance(value, number) or value < minimum:
                raise ValueError(f"{name} is expected to be greater or equal to {minimum}, got {shown(value)}")

    def session(self, events: Events | Any) -> Session:
        """Return a new session, which tells `events` of what belongs to no request."""
        return Session(
            TypeMap(
                lenient=self.out_of_range == "text",
                pooled=self.statement_mode != "named",
                unidentified=True,
                single_server=self.single_server,
                json=self.json_functions,
            ),
            events=events,
            statement_cache_size=0 if self.statement_mode == "describe" else self.statement_cache_size,
            max_cached_statement_lifetime=self.max_cached_statement_lifetime,
            max_cacheable_statement_size=self.max_cacheable_statement_size,
            max_pipeline=self.max_pipeline,
            unnamed_statements=self.statement_mode != "named",
        )
