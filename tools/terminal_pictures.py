"""Take the pictures of terminals for the documentation: `python tools/terminal_pictures.py [DIRECTORY]`.

It runs the storefront as an operator and a partner do, on an embedded server with a sample. It draws the commands and
what they print. Pictures are written to docs/images, or to DIRECTORY.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.storefront_program import serving  # noqa: E402 - this directory is found by the line before

WIDTH = 96

OPERATOR = (
    "storefront search energy movie --limit 3",
    "storefront lookup 7",
    "storefront batch order.txt --output skus.csv.gz",
)
PARTNER = (
    'curl -sH "Authorization: Bearer $KEY" $SHOP/v1/products/7/skus',
    'printf "7\\n999999\\nseven\\n" > ids.txt',
    'curl -sH "Authorization: Bearer $KEY" -H "Content-Type: text/plain" -T ids.txt -X POST $SHOP/v1/batches',
)


def shell(command: str, **variables: str) -> str:
    """Run a command as at a terminal; returns what it prints."""
    environment = os.environ | {"COLUMNS": str(WIDTH)} | variables
    done = subprocess.run(
        ["sh", "-c", f'storefront() {{ "{sys.executable}" -m storefront "$@"; }}; {command}'],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.stdout


def draw(path: Path, title: str, commands: tuple[str, ...], **variables: str) -> None:
    """Draw a terminal in which some commands have run."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for command in commands:
        console.print(Text("$ ", style="bold green") + Text(command))
        console.print(Text.from_ansi(shell(command, **variables).rstrip("\n")))
        console.print()
    # Without the font that rich would fetch from elsewhere.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)
    path.write_text(svg.replace("Fira Code, monospace", "monospace"), encoding="utf-8")
    print(path)


def main() -> None:
    """Draw both pictures."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["STOREFRONT_DATA_DIR"] = str(Path(home, "data"))
        os.environ.pop("STOREFRONT_DSN", None)
        os.chdir(home)
        shell("storefront init && storefront load --skus 5000")
        Path("order.txt").write_text("".join(f"{number}\n" for number in [*range(1, 400), 5, "seven", 999_999]))
        draw(directory / "terminal-operator.svg", "the operator", OPERATOR)
        key = shell("storefront partners add Aurora 2>/dev/null").strip()
        with serving() as address:
            draw(directory / "terminal-partner.svg", "a partner", PARTNER, KEY=key, SHOP=address)


if __name__ == "__main__":
    main()
