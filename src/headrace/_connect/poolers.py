"""Problems that only appear with a pooler between a connection and the server.

A pooler such as PgBouncer accepts few startup parameters, and in transaction mode it assigns each transaction of a
session to another backend. If the driver notices, its error says so and how to fix it.
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

# The message of PgBouncer's src/client.c: "unsupported startup parameter: NAME", or "... in options: NAME".
_REFUSED_PARAMETER = re.compile(r"unsupported startup parameter(?: in options)?: (\w+)")


def explain_refused_parameter(error: PostgresError) -> None:
    """Add a hint to a pooler's refusal of a startup parameter."""
    found = _REFUSED_PARAMETER.match(str(error))
    if found is not None and error.hint is None:
        error.hint = (
            f"A pooler refuses {found[1]}: leave it out of server_settings or options and set it for the role or the"
            " database (ALTER ROLE ... SET), or add it to PgBouncer's ignore_startup_parameters."
        )


async def check_own_backend(driver: Driver, what: str, timeout: float | None) -> None:
    """Raise FeatureNotSupportedError for `what`, which needs a backend to itself, if a pooler switches backends.

    A pooler does so if statements are unnamed, by argument or detection, and another backend answers than the one that
    the session was told at its start.
    """
    session = driver.session
    if not session.statements.unnamed:
        return
    question = own_statement("SELECT pg_catalog.pg_backend_pid()", (), [("pg_backend_pid", INT4)])
    pid = await driver.reply(driver.execute_statement(question, (), KIND_VALUE, 1, 0, Record), timeout)
    if pid != session.types.backend_pid:
        raise FeatureNotSupportedError(
            f"{what} needs a backend of its own, but a pooler in front of the server switches this session's",
            hint="Connect to the server directly, or use a pooler in session mode with statement_mode='named'.",
        )
