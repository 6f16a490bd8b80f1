"""Take the pictures of the storefront's pages for the documentation: `python tools/page_pictures.py [DIRECTORY]`.

It runs the program as a user does, on an embedded server with the sample: load, a partner added, serve. Then it opens
the pages in Chromium, wide and narrow, in light and dark colours. The operator's page is taken while a batch runs.
Pictures are written to docs/images, or to DIRECTORY. chromium and chromium-driver have to be installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.browser import Browser, open_browser  # noqa: E402 - this directory is found by the line before
from tools.storefront_program import serving  # noqa: E402

DESKTOP = (1000, 640)
PHONE = (375, 667)
"""The size of a window in CSS pixels."""


def storefront(*args: str) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(
        [sys.executable, "-m", "storefront", *args], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


class Load(threading.Thread):
    """Sends one batch after another until it is told to stop."""

    def __init__(self, address: str, key: str) -> None:
        super().__init__(daemon=True)
        ids = "\n".join(str(number % 2_000 + 1) for number in range(2_000))
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "text/plain"}
        self._request = urllib.request.Request(f"{address}/v1/batches", ids.encode(), headers)
        self._ended = threading.Event()

    def run(self) -> None:
        """Send batches."""
        while not self._ended.is_set():
            with urllib.request.urlopen(self._request) as answer:
                while answer.read(65_536):
                    pass

    def stop(self) -> None:
        """Stop after the batch that runs."""
        self._ended.set()
        self.join()


def take(browser: Browser, directory: Path, address: str, key: str) -> None:
    """Take all pictures."""

    def save(name: str, size: tuple[int, int], *, dark: bool = False) -> None:
        browser.resize(*size, dark=dark)
        (directory / f"{name}.png").write_bytes(browser.picture())

    browser.resize(*DESKTOP)
    browser.open(f"{address}/search?q=w")
    save("page-search", DESKTOP)
    browser.open(f"{address}/products/17?color=1&size=2")
    save("page-product-phone", PHONE, dark=True)

    browser.open(f"{address}/jobs")
    browser.type("#key", key)
    browser.click("main button")
    load = Load(address, key)
    load.start()
    browser.open(f"{address}/operator")
    # The page shows the last minute. It is taken when the curves are half full.
    browser.wait_for("document.querySelector('[data-curve=skus]').getAttribute('points').split(',31.0').length < 35")
    save("page-operator", (DESKTOP[0], 760), dark=True)
    load.stop()

    browser.open(f"{address}/batch?answer=job")
    browser.run("document.querySelector('#ids').value = Array.from({length: 900000}, (_, i) => i + 1).join('\\n')")
    browser.click("main button[type=submit]")
    browser.wait_for("Number(document.querySelector('progress').value) > 15")
    save("page-job", DESKTOP)


def main(directory: Path) -> None:
    """Serve the sample, and take the pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pages") as data:
        os.environ["STOREFRONT_DATA_DIR"] = data
        storefront("init")
        storefront("load", "--products", "2000", "--skus", "60000")
        added = json.loads(storefront("partners", "add", "Meadow & Co", "--requests-per-minute", "60000", "--json"))
        with serving() as address, open_browser() as browser:
            take(browser, directory, address, added["key"])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
