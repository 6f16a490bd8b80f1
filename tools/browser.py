"""A real browser for tests and pictures: Chromium without a window, driven by chromedriver.

It speaks the WebDriver protocol (W3C) over HTTP with the standard library, so it needs no package. `available()` tells
whether both programs are installed; Debian has them as chromium and chromium-driver.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The name under which the protocol refers to an element."""

KEYS = {"tab": "\ue004", "enter": "\ue007", "space": "\ue00d"}


def available() -> bool:
    """Return whether Chromium and chromedriver are installed."""
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Browser:
    """A window of the browser."""

    def __init__(self, driver: str, session: str) -> None:
        self._base = f"{driver}/session/{session}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return call(method, self._base + path, body)

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is loaded."""
        self._call("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        """The address of the page."""
        return str(self._call("GET", "/url"))

    @property
    def title(self) -> str:
        """The title of the page."""
        return str(self._call("GET", "/title"))

    def resize(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """Set the size of the page in CSS pixels, and whether the user prefers dark colours."""
        self.cdp(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", features=[scheme])

    def scripts(self, allowed: bool) -> None:
        """Switch JavaScript on or off, from the next page on."""
        self.cdp("Emulation.setScriptExecutionDisabled", value=not allowed)

    def cdp(self, command: str, **parameters: Any) -> Any:
        """Run a command of the Chrome DevTools Protocol."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def find(self, selector: str) -> str:
        """Return the first element that matches a selector of CSS. Raises RuntimeError if there is none."""
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[ELEMENT])

    def has(self, selector: str) -> bool:
        """Return whether an element matches a selector of CSS."""
        return bool(self._call("POST", "/elements", {"using": "css selector", "value": selector}))

    def text(self, selector: str) -> str:
        """Return the text of an element as it is shown."""
        return str(self._call("GET", f"/element/{self.find(selector)}/text"))

    def type(self, selector: str, text: str) -> None:
        """Type into an element. For an input of a file, the text is its path."""
        self._call("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click an element. A page that this opens may still be on its way: wait for one of its elements."""
        self._call("POST", f"/element/{self.find(selector)}/click", {})

    def press(self, *keys: str) -> None:
        """Press keys one after another: names of KEYS, or characters."""
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def run(self, script: str, *args: Any) -> Any:
        """Run a function body of JavaScript and return its result."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def wait_for(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true. Raises RuntimeError if it is not within two minutes."""
        wait_until(lambda: self.run(f"return Boolean({condition})"), f"{condition} has not become true")

    def wait_for_element(self, selector: str) -> None:
        """Wait until an element matches, without JavaScript. Raises RuntimeError if none does within two minutes."""
        wait_until(lambda: self.has(selector), f"no element matches {selector}")

    def messages(self) -> list[str]:
        """Return what the browser has complained about since the last call, such as a refused script."""
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [str(entry["message"]) for entry in entries]

    def picture(self, *, whole: bool = False) -> bytes:
        """Return the page as PNG: what the window shows, or all of it."""
        if not whole:
            return base64.b64decode(self._call("GET", "/screenshot"))
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return base64.b64decode(self.cdp("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"])


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    """Wait until a condition holds. Raises RuntimeError with a message if it does not within two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.05)


def call(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    """Send a command to chromedriver and return its value. Raises RuntimeError with its message if it fails."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(json.load(error)["value"]["message"]) from None


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="browser") as profile:
        driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert driver.stdout is not None
            for line in driver.stdout:
                if "started successfully" in line:
                    break
            base = f"http://127.0.0.1:{port}"
            options = {
                # A container has neither user namespaces nor much of /dev/shm.
                "args": [
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-dev-shm-usage",
                    "--disable-gpu",
                    "--hide-scrollbars",
                    "--force-color-profile=srgb",
                    f"--user-data-dir={profile}",
                ]
            }
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = call("POST", f"{base}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            try:
                yield Browser(base, session)
            finally:
                call("DELETE", f"{base}/session/{session}")
        finally:
            driver.terminate()
            driver.communicate()
