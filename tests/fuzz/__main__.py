"""Fuzz the readers: python -m tests.fuzz [TARGET ...] [--inputs N] [--seed S] [--workers W]

Without targets all of them share the inputs. The first input that fails ends the run: it is written to build/fuzz,
and `python -m tests.fuzz TARGET --replay FILE` runs it again. `--keep N` adds the N shortest that showed something new
to the corpus, which is worth it after a change to what is fuzzed. The same seed, code and corpus make the same inputs.
"""

from __future__ import annotations

import argparse
import faulthandler
import math
import secrets
import sys
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.engine import Failure, Fuzzing, measured, replay
from tests.fuzz.registry import TARGETS

FAILURES = Path("build/fuzz")


def main(arguments: list[str]) -> int:
    """Run; return the exit status: 0 where nothing failed, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; all of them by default"
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="how many, of all targets together")
    parser.add_argument("--seed", type=int, default=None, help="to repeat a run")
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
    parser.add_argument("--keep", type=int, default=0, metavar="N", help="add what showed something new, N at most")
    parser.add_argument("--replay", type=Path, nargs="*", help="run these files alone; without any, the corpus")
    parser.add_argument("--quiet", action="store_true", help="tell the end alone")
    given = parser.parse_args(arguments)
    names = given.targets or list(TARGETS)
    for name in names:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}; the targets are {', '.join(TARGETS)}")
    faulthandler.enable()
    try:
        if given.replay is not None:
            for name in names:
                print(f"{name}: {_replay(name, given.replay)} inputs", flush=True)
            return 0
        _fuzz(names, given)
    except Failure as failure:
        path = failure.save(FAILURES)
        print(f"{failure.target}: {failure.what}\n{failure.data!r:.2000}", file=sys.stderr)
        print(f"Again: python -m tests.fuzz {failure.target} --replay {path}", file=sys.stderr)
        return 1
    return 0


def _replay(name: str, paths: list[Path]) -> int:
    target = TARGETS[name]()
    if not paths:
        return replay(target)
    for path in paths:
        measured(target, path.read_bytes())
    return len(paths)


def _fuzz(names: list[str], given: argparse.Namespace) -> None:
    seed = given.seed if given.seed is not None else secrets.randbelow(2**32)
    print(f"seed {seed}", flush=True)
    shares = sum(TARGETS[name].share for name in names)
    total, seconds = 0, 0.0
    for name in names:
        fuzzing = Fuzzing(TARGETS[name](), seed, workers=given.workers)
        for figures in fuzzing.run(math.ceil(given.inputs * TARGETS[name].share / shares)):
            if not given.quiet:
                print(f"\r{figures}", end="", file=sys.stderr, flush=True)
        if not given.quiet:
            print("\r", end="", file=sys.stderr)
        print(fuzzing.figures, flush=True)
        total += fuzzing.figures.inputs
        seconds += fuzzing.figures.seconds
        if given.keep:
            print(f"{name}: {corpus.add(name, sorted(fuzzing.figures.new, key=len)[: given.keep])} kept")
    print(f"{total:,} inputs, {seconds:,.0f} s, 0 failures", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
