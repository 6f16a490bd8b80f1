"""The state of a session that later statements can see: queried from the server, compared, and restored.

A pool queries it after `init`, to know the state in which the next caller must find the session, and again after code
whose text does not show its effects. Some state is not queried, because the server does not report it: settings with a
dot in their names that no loaded extension defines, the seed of random(), loaded libraries, and the contents of
temporary tables.

Source: PostgreSQL documentation, pg_settings (view-pg-settings), pg_prepared_statements
(view-pg-prepared-statements), pg_depend (catalog-pg-depend) and System Information Functions (functions-info).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from headrace._connect.server_kind import server_kind
from headrace._core.pipeline.prepare import own_statement
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_FIRST_ROW
from headrace._sql.quoting import quote_literal

if TYPE_CHECKING:
    from headrace._io.driver import Driver

TEXT, TEXTS = 25, 1009

# Names are qualified, because the session may have any search_path by now. The temporary schema is compared with its
# contents, because the schema stays when its last table is dropped.
QUESTION: Final = """
SELECT session_user::pg_catalog.text AS session_user,
    pg_catalog.current_setting('role') AS role,
    ARRAY(
        SELECT pg_catalog.concat(classid, ' ', objid)
        FROM pg_catalog.pg_depend
        WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND refobjid = pg_catalog.pg_my_temp_schema()
        UNION ALL
        SELECT pg_catalog.concat('schema ', pg_catalog.pg_my_temp_schema())
        WHERE pg_catalog.pg_my_temp_schema() <> 0
    ) AS temporary,
    ARRAY(
        SELECT ARRAY[name, statement] FROM pg_catalog.pg_prepared_statements WHERE from_sql
    ) AS prepared,
    ARRAY(
        SELECT ARRAY[name, coalesce(setting, ''), context]
        FROM pg_catalog.pg_settings WHERE source = 'session' ORDER BY name
    ) AS settings,
    pg_catalog.current_setting('is_superuser') AS superuser
"""

COLUMNS: Final = [
    ("session_user", TEXT),
    ("role", TEXT),
    ("temporary", TEXTS),
    ("prepared", TEXTS),
    ("settings", TEXTS),
    ("superuser", TEXT),
]

STATE_TIMEOUT = 5.0
"""Seconds in which the server must report the state of a session."""

ROLE_SETTINGS: Final = frozenset(("session_authorization", "is_superuser"))
"""Settings that the server reports but pg_settings does not show. They follow from the roles."""


@dataclass(frozen=True)
class SessionState:
    """The state of a session as the next statement sees it. Two are equal if nothing has changed."""

    session_user: str
    role: str = "none"
    temporary: frozenset[str] = frozenset()
    """The session's temporary schema, and the objects in it."""
    prepared: frozenset[tuple[str, str]] = frozenset()
    """Names and texts of statements made by PREPARE."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings made in the session, by SET or set_config()."""
    denied: frozenset[str] = field(default=frozenset(), compare=False)
    """Settings that the current role is not allowed to make again."""

    @cached_property
    def restoring(self) -> str:
        """The statement that restores the settings after RESET ALL; '' if there are none."""
        calls = [
            f"pg_catalog.set_config({quote_literal(name)}, {quote_literal(value)}, false)"
            for name, value in self.settings.items()
            if name not in self.denied
        ]
        return f"SELECT {', '.join(calls)};" if calls else ""

    def has_same_settings(self, other: SessionState, names: Iterable[str]) -> bool:
        """Return whether none of these settings has changed in the session between the two states.

        A setting whose source is not the session, such as the server's configuration, may have changed.
        """
        for name in names:
            if name in ROLE_SETTINGS:
                if (self.session_user, self.role) != (other.session_user, other.role):
                    return False
            elif self.settings.get(name) != other.settings.get(name):
                return False
        return True


def first_state(driver: Driver) -> SessionState | None:
    """Return the state of a new session; None if the server cannot report later states."""
    parameters = driver.session.parameters
    if not server_kind(parameters).tells_state or "session_authorization" not in parameters:
        return None
    return SessionState(parameters["session_authorization"])


async def session_state(driver: Driver) -> SessionState | None:
    """Query the state of a session, after all earlier requests; return None if the server does not report it.

    Raises PostgresError if the server refuses, TimeoutError after STATE_TIMEOUT and InterfaceError if the connection is
    closed. On cancellation the query is drained or cancelled like any other.
    """
    if not server_kind(driver.session.parameters).tells_state:
        return None
    question = own_statement(QUESTION, (), COLUMNS)
    request = driver.execute_statement(question, (), KIND_FIRST_ROW, 1, 0, Record)
    row = await driver.reply(request, STATE_TIMEOUT, False)
    return SessionState(
        row["session_user"],
        row["role"],
        frozenset(row["temporary"]),
        frozenset((name, statement) for name, statement in row["prepared"]),
        {name: value for name, value, _ in row["settings"]},
        frozenset(name for name, _, context in row["settings"] if context != "user" and row["superuser"] != "on"),
    )
