"""A partner's program and a browser, as small as the demo needs them. The functions block until the answer has come."""

from __future__ import annotations

import html
import json
import re
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from storefront.errors import StorefrontError

TIMEOUT: Final = 60.0
"""The number of seconds in which the service has to send something."""

WIDTH: Final = 77
"""The number of columns of a line for people."""


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answer to a batch: its lines without the last, the last one, and the seconds until it had come."""

    lines: list[str]
    last: str
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """The counts of the last line."""
        return {name: count for name, count in json.loads(self.last).items() if name != "outcome"}


def batch_command(address: str, first: int, last: int) -> list[str]:
    """Return the lines of a shell command that does what `send_batch` does, with the key in the variable KEY."""
    return [
        f'seq {first} {last} | curl --silent -H "Authorization: Bearer $KEY" \\',
        '    -H "Content-Type: text/plain" --data-binary @- \\',
        f"    {address}/v1/batches",
    ]


def send_batch(address: str, key: str, first: int, last: int) -> BatchAnswer:
    """Send the ids from `first` to `last` as a batch. Raises StorefrontError if the answer is not complete."""
    body = "".join(f"{product_id}\n" for product_id in range(first, last + 1)).encode()
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "text/plain"}
    *lines, end = _request("POST", address, "/v1/batches", body, headers).splitlines()
    seconds = time.perf_counter() - began
    if json.loads(end).get("outcome") != "complete":
        raise StorefrontError(f"the service did not answer the whole batch: {end}")
    return BatchAnswer(lines, end, seconds)


def page_title(address: str, path: str) -> str:
    """Fetch a page and return its title. Raises StorefrontError if there is no such page."""
    found = re.search("<title>(.*?)</title>", _request("GET", address, path), re.DOTALL)
    return html.unescape(found[1]).strip() if found else ""


def pretty(line: str) -> list[str]:
    """Return a line of an answer for people: the product's name is shortened, and it is broken between members."""
    members: dict[str, Any] = json.loads(line)
    words = str(members.get("product_name", "")).split()
    if len(words) > 2:
        members["product_name"] = f"{words[0]} {words[1]} ..."
    text = json.dumps(members, ensure_ascii=False, separators=(", ", ":"))
    return textwrap.wrap(text, WIDTH, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)


def _request(
    method: str, address: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> str:
    # urllib.request would ask a proxy that the environment names.
    connection = HTTPConnection(urlsplit(address).netloc, timeout=TIMEOUT)
    try:
        connection.request(method, path, body, {**(headers or {}), "Connection": "close"})
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, HTTPException) as error:
        raise StorefrontError(
            f"the service on {address} does not answer: {str(error) or type(error).__name__}"
        ) from error
    finally:
        connection.close()
    if response.status != 200:
        raise StorefrontError(f"the service answered {method} {path} by status {response.status}: {text[:200]}")
    return text
