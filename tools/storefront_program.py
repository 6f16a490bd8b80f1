"""The storefront as a program, for the tools that take pictures of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def serving(*args: str) -> Iterator[str]:
    """Serve for the time of the block. Yield the address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "storefront", "serve", "--port", "0", *args], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://\S+", line):
                yield found[0]
                return
        raise RuntimeError("storefront serve has ended")
    finally:
        process.terminate()
        process.communicate()
