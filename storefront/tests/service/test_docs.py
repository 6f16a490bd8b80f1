"""The examples of docs/storefront.md: each block of shell commands runs as it stands."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from storefront.service.server import GracefulServer

PAGE = Path(__file__).parents[3] / "docs" / "storefront.md"

BLOCKS = [
    block
    for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    if "http://localhost:8000/v1/" in block
]


def test_the_page_has_examples() -> None:
    assert len(BLOCKS) >= 5


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
async def test_an_example_runs(serving: GracefulServer, new_partner: Any, tmp_path: Path, block: str) -> None:
    address = serving.address  # type: ignore[attr-defined]
    process = await asyncio.create_subprocess_exec(
        "bash",
        *("-euo", "pipefail", "-c", block.replace("http://localhost:8000", address)),
        cwd=tmp_path,
        env={**os.environ, "KEY": (await new_partner()).key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    written = [output, *(path.read_bytes() for path in tmp_path.iterdir())]
    assert b"product_id" in b"".join(written)
