"""What only shows where a pooler stands between a connection and the server.

A pooler such as PgBouncer takes few startup parameters, and one that pools transactions hands a session to another
backend with each of them. What the driver can know of that it says in an error, with the way out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace._core.pipeline.prepare import own_statement
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_VALUE
from headrace.exceptions import FeatureNotSupportedError

if TYPE_CHECKING:
    from headrace._io.driver import Driver
    from headrace.exceptions import PostgresError

INT4 = 23

# PgBouncer's words, in src/client.c: "unsupported startup parameter: NAME", or "... in options: NAME".
_REFUSED_PARAMETER = re.compile(r"unsupported startup parameter(?: in options)?: (\w+)")


def explain_refused_parameter(error: PostgresError) -> None:
    """Add a hint to a pooler's refusal of a startup parameter."""
    found = _REFUSED_PARAMETER.match(str(error))
    if found is not None and error.hint is None:
        error.hint = (
            f"It is a pooler that refuses {found[1]}: leave it out of server_settings or options and set it for the"
            " role or the database (ALTER ROLE ... SET), or have PgBouncer's ignore_startup_parameters name it."
        )


async def check_own_backend(driver: Driver, what: str, timeout: float | None) -> None:
    """Raise FeatureNotSupportedError for `what`, which needs a backend to itself, where a pooler switches backends.

    That is so where statements go unnamed, which is asked for or found out, and the backend that answers is not the one
    that the session was told of at its start.
    """
    session = driver.session
    if not session.unnamed_statements:
        return
    question = own_statement("SELECT pg_catalog.pg_backend_pid()", (), [("pg_backend_pid", INT4)])
    pid = await driver.reply(driver.execute_statement(question, (), KIND_VALUE, 1, 0, Record), timeout)
    if pid != session.backend_pid:
        raise FeatureNotSupportedError(
            f"{what} needs a backend of its own, but a pooler in front of the server switches this session's",
            hint="Use a connection to the server itself, or by a pooler that pools sessions, statement_mode='named'.",
        )
