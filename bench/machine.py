"""The machine and software that figures depend on, without paths and host names."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import psycopg


def facts(dsn: str, transport: str) -> dict[str, str]:
    """Return the facts that the figures depend on, by name. Queries the server's version."""
    with psycopg.connect(dsn) as connection:
        # Distributors add their own version in parentheses.
        server = (connection.info.parameter_status("server_version") or "unknown").split()[0]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": f"{len(os.sched_getaffinity(0))}, shared by client and server",
        "processor": _processor(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"PostgreSQL {server}, {transport}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
