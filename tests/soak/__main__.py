"""`python -m tests.soak`: run the soak on a server of its own, and print the report."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import warnings

import uvloop

from tests.installations import Installation, installations
from tests.servers import Cluster
from tests.soak.options import Options
from tests.soak.report import Report
from tests.soak.run import soak


def main() -> int:
    """Run it; the exit status is 0 where nothing was found."""
    arguments = _arguments()
    seed = random.randrange(1_000_000) if arguments.seed is None else arguments.seed
    options = Options(seed, arguments.actors, arguments.turns, arguments.epochs, arguments.seconds, arguments.patience)
    warnings.simplefilter("error")
    print(f"seed {seed}", flush=True)
    with Cluster(_installation(arguments.pg)) as cluster, cluster.database() as database:
        factory = uvloop.new_event_loop if arguments.loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(debug=arguments.debug, loop_factory=factory) as runner:
            report = runner.run(_run(cluster, database, options))
    print(report.text())
    return 1 if report.findings else 0


async def _run(cluster: Cluster, database: str, options: Options) -> Report:
    return await soak(cluster, database, options, lambda text: print(text, flush=True))


def _installation(version: int | None) -> Installation:
    found = installations()
    for each in found:
        if version in (None, each.version):
            return each
    sys.exit(
        f"--pg {version}: no such PostgreSQL here; found: {', '.join(str(each.version) for each in found) or 'none'}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="of all decisions; without it one is drawn, and printed")
    parser.add_argument(
        "--pg", type=int, metavar="VERSION", help="the PostgreSQL to run on: by default the first found"
    )
    parser.add_argument("--actors", type=int, default=Options.actors, help="tasks at once (%(default)s)")
    parser.add_argument("--turns", type=int, default=Options.turns, help="turns of each in an epoch (%(default)s)")
    parser.add_argument("--epochs", type=int, default=Options.epochs, help="how many epochs (%(default)s)")
    parser.add_argument("--seconds", type=float, help="go on for so long instead, to the end of the epoch")
    parser.add_argument(
        "--patience", type=float, default=Options.patience, help="seconds until a turn hangs (%(default)s)"
    )
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="the event loop (%(default)s)")
    parser.add_argument("--debug", action="store_true", help="run asyncio in debug mode")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
