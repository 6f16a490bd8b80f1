"""Signing in with a partner's key, and what protects sessions and forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from itsdangerous import TimestampSigner

from storefront import open_connection
from storefront.partners import revoke_partner
from storefront.service.pages.session import SESSION_SECONDS, local_path
from tools.html_page import check_page

NewPartner = Callable[..., Any]
OpenBrowser = Callable[[], AbstractAsyncContextManager[AsyncClient]]


async def send_key(browser: AsyncClient, key: str, **changes: str) -> Response:
    """Fill in the form for the key, and send it."""
    form = check_page((await browser.get("/login")).text)
    data = {"key": key, "token": form.field("token"), "next": form.field("next"), **changes}
    return await browser.post("/login", data=data)


def cookies_of(answer: Response) -> dict[str, str]:
    """Return the attributes of the cookies that an answer sets, by name."""
    found = {}
    for header in answer.headers.get_list("set-cookie"):
        name, _, rest = header.partition("=")
        found[name] = rest.partition(";")[2].lower()
    return found


async def test_a_partner_signs_in_and_out(browser: AsyncClient, new_partner: NewPartner) -> None:
    answer = await send_key(browser, (await new_partner("Aurora & Co")).key)
    assert (answer.status_code, answer.headers["location"]) == (303, "/batch")
    page = check_page((await browser.get("/")).text)
    assert "Signed in as Aurora & Co" in page.text
    answer = await browser.post("/logout", data={"token": page.field("token")})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "Signed in" not in check_page((await browser.get("/")).text).text


async def test_spaces_around_a_pasted_key_do_not_matter(browser: AsyncClient, new_partner: NewPartner) -> None:
    assert (await send_key(browser, f"  {(await new_partner()).key}\r\n")).status_code == 303


async def test_the_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(
    browser: AsyncClient, new_partner: NewPartner
) -> None:
    new = await new_partner()
    cookies = cookies_of(await send_key(browser, new.key))
    assert "httponly" in cookies["storefront_session"]
    assert "samesite=lax" in cookies["storefront_session"]
    assert "path=/" in cookies["storefront_session"]
    assert "max-age" not in cookies["storefront_session"]
    assert "secure" not in cookies["storefront_session"]
    # The secret part of the key is not in it.
    assert new.key.split("_", 2)[2] not in browser.cookies["storefront_session"]


async def test_with_https_the_cookies_are_secure(application: FastAPI, new_partner: NewPartner) -> None:
    transport = httpx.ASGITransport(application)
    async with AsyncClient(transport=transport, base_url="https://shop.example") as browser:
        answer = await send_key(browser, (await new_partner()).key)
        for name, attributes in cookies_of(answer).items():
            assert name.startswith("__Host-storefront_")
            assert "secure" in attributes
            assert "domain" not in attributes
        assert (await browser.get("/batch")).status_code == 200


@pytest.mark.parametrize("key", ["", "x", "sf_aaaaaaaa_" + "A" * 43, "<b>", "ключ", "sf_\0"])
async def test_another_key_is_refused(browser: AsyncClient, new_partner: NewPartner, key: str) -> None:
    await new_partner()
    answer = await send_key(browser, key)
    assert answer.status_code == 403
    page = check_page(answer.text)
    assert len(page.all("p", role="alert")) == 1
    assert "value" not in page.all("input", name="key")[0]
    assert "storefront_session" not in browser.cookies


@pytest.mark.parametrize("address", ["/batch", "/batch?answer=job", "/jobs"])
async def test_a_page_for_partners_leads_to_the_sign_in_and_back(
    browser: AsyncClient, new_partner: NewPartner, address: str
) -> None:
    answer = await browser.get(address)
    assert answer.status_code == 303
    form = check_page((await browser.get(answer.headers["location"])).text)
    answer = await browser.post(
        "/login",
        data={"key": (await new_partner()).key, "token": form.field("token"), "next": form.field("next")},
    )
    assert (answer.status_code, answer.headers["location"]) == (303, address)


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "evil",
        "",
        "/a\r\nX: y",
        "/a b",
        "/" + "a" * 3000,
        "/\t/evil.example",
    ],
)
async def test_the_sign_in_leads_to_no_other_site(browser: AsyncClient, new_partner: NewPartner, target: str) -> None:
    assert local_path(target, "/batch") == "/batch"
    answer = await send_key(browser, (await new_partner()).key, next=target)
    assert (answer.status_code, answer.headers["location"]) == (303, "/batch")


async def test_a_revoked_key_ends_the_session(
    partner_browser: AsyncClient, application: FastAPI, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await partner_browser.get("/batch")).status_code == 200
    async with open_connection(dsn) as connection:
        await revoke_partner(connection, "Aurora")
    # The notification of the revocation does this too.
    application.state.service.partners.forget()
    answer = await partner_browser.get("/batch")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fbatch")


async def test_a_new_key_of_the_partner_does_not_revive_a_session(
    partner_browser: AsyncClient, application: FastAPI, dsn: str, new_partner: NewPartner
) -> None:
    async with open_connection(dsn) as connection:
        await revoke_partner(connection, "Aurora")
    await new_partner("Aurora")
    application.state.service.partners.forget()
    assert (await partner_browser.get("/batch")).status_code == 303


async def test_a_session_that_was_changed_or_is_too_old_is_none(
    partner_browser: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = partner_browser.cookies["storefront_session"]
    for changed in (value[:-1] + ("A" if value[-1] != "A" else "B"), "x", value.split(".")[0], ""):
        partner_browser.cookies.set("storefront_session", changed, domain="localhost.local")
        assert (await partner_browser.get("/batch")).status_code == 303, changed
    partner_browser.cookies.clear()
    later = TimestampSigner("x").get_timestamp() + SESSION_SECONDS + 1
    header = {"Cookie": f"storefront_session={value}"}
    assert (await partner_browser.get("/batch", headers=header)).status_code == 200
    monkeypatch.setattr("itsdangerous.timed.TimestampSigner.get_timestamp", lambda signer: later)
    assert (await partner_browser.get("/batch", headers=header)).status_code == 303


async def test_a_cookie_of_another_purpose_is_no_session(browser: AsyncClient) -> None:
    await browser.get("/login")
    value = browser.cookies["storefront_visitor"]
    answer = await browser.get("/batch", headers={"Cookie": f"storefront_session={value}"})
    assert answer.status_code == 303


@pytest.mark.parametrize("address", ["/login", "/logout", "/batch", "/operator/login", "/operator/logout"])
@pytest.mark.parametrize("token", [None, "", "x", "another visitor's"])
async def test_a_form_without_a_token_of_its_visitor_is_refused(
    partner_browser: AsyncClient, open_browser: OpenBrowser, address: str, token: str | None
) -> None:
    data = {"key": "x", "ids": "1"}
    if token == "another visitor's":
        async with open_browser() as another:
            data["token"] = check_page((await another.get("/login")).text).field("token")
    elif token is not None:
        data["token"] = token
    answer = await partner_browser.post(address, data=data)
    assert answer.status_code == 403
    assert "This is not allowed" in check_page(answer.text).text


async def test_a_form_that_another_site_has_sent_is_refused(partner_browser: AsyncClient) -> None:
    token = check_page((await partner_browser.get("/batch")).text).field("token")
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 303)):
        answer = await partner_browser.post("/logout", data={"token": token}, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == status


async def test_a_form_from_before_the_sign_in_is_not_valid_after_it(
    browser: AsyncClient, new_partner: NewPartner
) -> None:
    token = check_page((await browser.get("/login")).text).field("token")
    await send_key(browser, (await new_partner()).key)
    assert (await browser.post("/logout", data={"token": token})).status_code == 403


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data; boundary=x", b"broken", 400),
        ("multipart/form-data", b"--x", 400),
        ("application/json", b"{}", 403),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(50)), 400),
        ("application/x-www-form-urlencoded", b"%ff=%ff&token=%ff%00", 403),
        ("text/plain", b"\xff", 403),
    ],
)
async def test_a_body_that_is_no_form_of_this_service_is_refused(
    browser: AsyncClient, content_type: str, body: bytes, status: int
) -> None:
    answer = await browser.post("/login", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status
    check_page(answer.text)


async def test_a_form_that_is_too_large_is_refused(browser: AsyncClient, application: FastAPI) -> None:
    limit = application.state.service.settings.body_limit
    answer = await browser.post("/login", headers={"Content-Length": str(limit + 1)}, content=b"")
    assert answer.status_code == 413
    assert "That is too large" in check_page(answer.text).text


async def test_pages_with_a_name_on_them_are_not_shared(partner_browser: AsyncClient) -> None:
    for address in ("/", "/brands", "/batch"):
        headers = (await partner_browser.get(address)).headers
        assert "private" in headers["cache-control"]
        assert headers["vary"] == "Cookie"


async def test_a_key_never_appears_in_a_page_or_an_address(browser: AsyncClient, new_partner: NewPartner) -> None:
    key = (await new_partner()).key
    answer = await send_key(browser, key[:-1] + "!")
    assert key[:-1] not in answer.text
    answer = await send_key(browser, key)
    assert not re.search(r"sf_", answer.headers["location"])
