"""The command `headrace`, also `python -m headrace`.

    headrace ping [DSN]      connect, and report the connection in a few lines

The exit status is 0 on success, 1 if the connection fails, with one line on stderr, and 2 for bad usage, including a
malformed DSN.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
import time
import warnings
from typing import TYPE_CHECKING

from headrace._connect.connector import Opened, open_driver
from headrace._connect.limits import SessionLimits
from headrace._connect.params.resolve import resolve
from headrace._version import __version__
from headrace.connection import Connection
from headrace.exceptions import ClientConfigurationError, InterfaceWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._connect.params.resolve import ConnectParams

FAILURE = 1
USAGE = 2
INTERRUPTED = 130

ROUND_TRIPS = 10

PING = """\
Connect as a program would, and report: address, TLS version and cipher, authentication, channel binding, server
version, whether the server accepts writes, and the time of a round trip.

DSN is a URI (postgresql://user@host:5432/database) or libpq's keyword/value text (host=... dbname=...). Parameters that
it does not give come from the PG* environment variables, the service file and the passfile. Other users of this machine
can read a password in the DSN while the command runs; use the passfile to avoid that.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process; return the exit status."""
    parser = argparse.ArgumentParser(prog="headrace", description="Tools of headrace, a PostgreSQL driver for Python.")
    parser.add_argument("--version", action="version", version=f"headrace {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    command = commands.add_parser(
        "ping",
        help="connect, and report the connection",
        description=PING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("dsn", metavar="DSN", nargs="?", help="where to connect, and as which user")
    command.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="to connect, and for each answer; default: 10"
    )
    given = parser.parse_args(arguments)
    return ping(given.dsn, given.timeout)


def ping(dsn: str | None, timeout: float) -> int:
    """Connect, print the report, and return the exit status."""
    try:
        params = resolve(dsn)
    except ClientConfigurationError as error:
        return _fail(error, USAGE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", InterfaceWarning)
            warnings.showwarning = _show_warning
            report = asyncio.run(_ping(params, timeout))
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _fail(error, FAILURE)
    width = max(len(name) for name, _ in report)
    for name, value in report:
        print(f"{name:<{width}}  {value}")
    return 0


async def _ping(params: ConnectParams, timeout: float) -> list[tuple[str, str]]:
    # No statement is cached and nothing is pipelined, so that it works with any pooler.
    limits = SessionLimits(0, 0, 0, 1)
    began = time.perf_counter()
    opened = await open_driver(params, limits.session, timeout)
    took = time.perf_counter() - began
    connection = Connection(opened.driver, params, command_timeout=timeout, address=opened.endpoint.address)
    try:
        return [
            *_security(opened, params),
            ("server", await _server(connection)),
            ("mode", await _mode(connection)),
            ("connected in", f"{took * 1000:.1f} ms"),
            ("round trip", f"{await _round_trip(connection) * 1000:.2f} ms, the fastest of {ROUND_TRIPS}"),
        ]
    finally:
        await connection.close()


def _security(opened: Opened, params: ConnectParams) -> list[tuple[str, str]]:
    """Return the address, and how the connection is secured."""
    endpoint, authenticator = opened.endpoint, opened.authenticator
    connection: ssl.SSLObject | None = opened.driver.transport.get_extra_info("ssl_object")
    tls, certificate = "no", "none"
    if connection is not None and endpoint.context is not None:
        cipher = connection.cipher()
        tls = f"{connection.version()}, {cipher[0] if cipher else 'unknown cipher'}"
        if endpoint.context.verify_mode == ssl.CERT_NONE:
            certificate = "not verified: only sslmode=verify-full proves which server this is"
        elif not endpoint.context.check_hostname:
            certificate = "verified, but not the name in it (sslmode=verify-full does that too)"
        else:
            certificate = "verified, and the name in it"
    method = authenticator.method
    return [
        ("host", str(endpoint)),
        ("database", f"{params.database}, as {params.user}"),
        ("TLS", tls),
        ("certificate", certificate),
        ("authentication", "none: the server trusts the client" if method == "none" else method),
        ("channel binding", "yes, tls-server-end-point" if authenticator.channel_bound else "no"),
        ("protocol", f"{opened.protocol >> 16}.{opened.protocol & 0xFFFF}"),
    ]


async def _server(connection: Connection) -> str:
    return f"PostgreSQL {await connection.fetchval('SHOW server_version')}"


async def _mode(connection: Connection) -> str:
    if await connection.fetchval("SELECT pg_catalog.pg_is_in_recovery()"):
        return "read-only: it is a standby"
    read_only = await connection.fetchval("SELECT pg_catalog.current_setting('transaction_read_only')")
    return "read-only: default_transaction_read_only is on" if read_only == "on" else "read-write"


async def _round_trip(connection: Connection) -> float:
    """Return the time of the fastest of several empty queries, in seconds."""
    times: list[float] = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await connection.execute("")
        times.append(time.perf_counter() - began)
    return min(times)


def _seconds(text: str) -> float:
    """Parse a positive number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return seconds


def _fail(error: Exception, status: int) -> int:
    """Print the error and its notes on one line, and return the status."""
    texts = [str(error) or type(error).__name__, *getattr(error, "__notes__", ())]
    lines = [" ".join(line.split()) for text in texts for line in text.splitlines()]
    print("headrace:", "; ".join(lines).replace(":;", ":"), file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning, such as one about an ignored passfile, on one line."""
    print("headrace: warning:", " ".join(str(message).splitlines()), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
