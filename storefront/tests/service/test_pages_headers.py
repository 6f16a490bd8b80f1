"""Headers that protect pages, static files, and the contrast of the colours."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from httpx import AsyncClient

from tools.html_page import check_page

STATIC = resources.files("storefront.service.pages") / "static"


@pytest.mark.parametrize(
    "address", ["/", "/login", "/nothing", "/healthz", "/v1/openapi.json", "/v1/products/1/skus", "/static/0/style.css"]
)
async def test_every_response_has_the_headers_that_protect_it(browser: AsyncClient, address: str) -> None:
    headers = (await browser.get(address)).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "server" not in headers


async def test_an_error_in_the_program_has_them_too_and_no_traceback(
    browser: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a secret of the program")

    monkeypatch.setattr("storefront.service.pages.catalogue_pages.list_brands", fail)
    answer = await browser.get("/brands")
    assert answer.status_code == 500
    assert "Something went wrong" in check_page(answer.text).text
    assert "secret" not in answer.text
    assert "content-security-policy" in answer.headers


async def test_static_files_are_kept_for_ever_under_the_hash_of_their_content(browser: AsyncClient) -> None:
    page = check_page((await browser.get("/")).text)
    addresses = [found["href"] for found in page.all("link")]
    assert len(addresses) == 2
    for address in addresses:
        assert re.fullmatch(r"/static/[0-9a-f]{16}/[a-z]+\.(css|svg)", address)
        answer = await browser.get(address)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        name = address.rsplit("/", 1)[1]
        assert answer.content == (STATIC / name).read_bytes()
        old = await browser.get(f"/static/0123456789abcdef/{name}")
        assert (old.content, old.headers["cache-control"]) == (answer.content, "no-store")


async def test_static_files_have_their_types(browser: AsyncClient) -> None:
    for name, expected in {
        "style.css": "text/css; charset=utf-8",
        "live.js": "text/javascript; charset=utf-8",
        "mark.svg": "image/svg+xml",
    }.items():
        assert (await browser.get(f"/static/0/{name}")).headers["content-type"] == expected


def test_static_files_load_nothing_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        text = file.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|//[a-z]|@import|url\(", text), file.name


# -- contrast: WCAG 2.2, success criteria 1.4.3 and 1.4.11 ------------------------------------------------------------


def luminance(color: str) -> float:
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def palettes() -> list[dict[str, str]]:
    """Return the colours of the style sheet: those of light, and those of dark."""
    blocks = re.findall(r":root \{(.*?)\}", (STATIC / "style.css").read_text(), re.DOTALL)
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in blocks]


TEXTS = [
    *((text, ground) for text in ("ink", "muted", "accent") for ground in ("ground", "surface", "raised")),
    ("accent-strong", "ground"),
    ("accent-strong", "surface"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("on-soft", "soft"),
    ("bad", "bad-soft"),
    ("bad", "surface"),
    ("bad", "ground"),
    ("warn", "warn-soft"),
]
SHAPES = [("edge", "surface"), ("edge", "ground"), ("accent", "ground"), ("accent", "surface"), ("accent", "raised")]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_and_shapes_stand_out_from_their_ground(scheme: int) -> None:
    colors = palettes()[scheme]
    assert set(colors) == set(palettes()[0])
    poor = [(*pair, contrast(colors[pair[0]], colors[pair[1]])) for pair in TEXTS]
    assert [pair for pair in poor if pair[2] < 4.5] == []
    poor = [(*pair, contrast(colors[pair[0]], colors[pair[1]])) for pair in SHAPES]
    assert [pair for pair in poor if pair[2] < 3] == []


def test_contrast_is_computed_as_wcag_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
