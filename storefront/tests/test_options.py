"""The options that every command takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def test_without_a_catalogue_no_server_is_made(fails: Callable[..., None], needs_catalogue: list[str]) -> None:
    message = "there is no catalogue in .storefront yet: run `storefront init` first"
    fails(*needs_catalogue, status=1, message=message)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lookup", "1", "--dsn", "localhost"], "expects a URI such as postgresql://"),
        (["lookup", "1", "--dsn", "postgresql://[::1"], "is not a URI"),
    ],
)
def test_a_bad_dsn_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
