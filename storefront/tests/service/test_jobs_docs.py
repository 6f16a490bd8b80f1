"""The examples of docs/storefront.md about jobs, which run one after another on a service with a worker."""

from __future__ import annotations

import asyncio
import csv
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "storefront.md"
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_examples_run(
    open_server: Callable[..., Any], changed: Callable[..., Any], new_partner: Callable[..., Any], tmp_path: Path
) -> None:
    assert len(BLOCKS) == 2
    key = (await new_partner()).key
    async with open_server(changed(workers=1)) as server:
        process = await asyncio.create_subprocess_exec(
            "bash",
            *("-euo", "pipefail", "-c", "\n".join(BLOCKS).replace("http://localhost:8000", server.address)),
            cwd=tmp_path,
            env={**os.environ, "KEY": key},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    with open(tmp_path / "skus.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["product_id"] for row in rows} == {str(number) for number in range(1, 51)}
    assert (tmp_path / "problems.ndjson").read_bytes() == b""
