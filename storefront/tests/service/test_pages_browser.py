"""The pages in a real browser: Chromium, by the keyboard alone, on a phone, and without JavaScript.

The service runs on a port of its own. These tests are skipped where Chromium or chromedriver is not installed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import uvicorn

from storefront import open_connection
from storefront.partners import add_partner
from storefront.service.application import create_application
from storefront.service.server import configuration
from storefront.service.settings import ServiceSettings
from storefront.service_schema import create_service_tables
from tools.browser import Browser, available, open_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="chromium and chromium-driver are not installed"),
]


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """A window of the browser."""
    with open_browser() as browser:
        yield browser


@pytest.fixture
def site(settings: ServiceSettings) -> Iterator[str]:
    """The address of a service on the small catalogue, with a worker."""
    ready, ended = threading.Event(), []
    address: list[str] = []

    async def run() -> None:
        wanted = replace(settings, port=0, workers=1)
        application = create_application(wanted)
        async with application.router.lifespan_context(application):
            server = uvicorn.Server(configuration(application, wanted))
            loop = asyncio.get_running_loop()

            def end() -> None:
                application.state.service.events.close()
                server.should_exit = True

            ended.append(lambda: loop.call_soon_threadsafe(end))
            serving = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            address.append(f"http://127.0.0.1:{port}")
            ready.set()
            await serving

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(60)
    yield address[0]
    ended[0]()
    thread.join()


@pytest.fixture
def browser(window: Browser, site: str) -> Browser:
    """The window, on the first page of the service, without cookies."""
    window.scripts(allowed=True)
    window.resize(1000, 700)
    window.open(site)
    window.cdp("Network.clearBrowserCookies")
    window.messages()
    return window


@pytest.fixture
def key(dsn: str, site: str) -> str:
    """The key of a partner."""

    async def add() -> str:
        async with open_connection(dsn) as connection:
            await create_service_tables(connection)
            return (await add_partner(connection, "Aurora")).key

    return asyncio.run(add())


def focused(browser: Browser) -> str:
    """Return the text or the name of the element that has the focus."""
    return str(browser.run("const e = document.activeElement; return e.innerText || e.name || e.tagName"))


def tab_to(browser: Browser, wanted: str) -> None:
    """Press the Tab key until an element has the focus."""
    for _ in range(100):
        browser.press("tab")
        if focused(browser) == wanted:
            return
    raise AssertionError(f"the Tab key does not reach {wanted!r}")


def test_a_product_is_found_by_the_keyboard_alone(browser: Browser) -> None:
    browser.press("tab")
    assert focused(browser) == "Skip to the content"
    browser.press("enter")
    browser.press("tab")
    assert focused(browser) == "q"
    browser.press(*"17", "enter")
    browser.wait_for("location.pathname === '/search' && document.readyState === 'complete'")
    name = browser.text(".results .title")
    tab_to(browser, name)
    # The focus can be seen.
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("enter")
    browser.wait_for("location.pathname === '/products/17' && document.readyState === 'complete'")
    assert browser.text("h1") == name


def test_a_batch_is_sent_by_the_keyboard_alone(browser: Browser, site: str, key: str) -> None:
    browser.open(f"{site}/batch")
    tab_to(browser, "key")
    browser.press(*key, "enter")
    browser.wait_for("location.pathname === '/batch' && document.readyState === 'complete'")
    tab_to(browser, "ids")
    browser.press("1", "enter", "2")
    tab_to(browser, "Look up")
    browser.press("enter")
    browser.wait_for("document.title.startsWith('Answer') && document.readyState === 'complete'")
    assert browser.text("h1").endswith("SKUs of 2 products")


ADDRESSES = ["/", "/brands", "/brands/1", "/products/1", "/search?q=a", "/batch", "/jobs", "/operator", "/nothing"]


@pytest.fixture
def signed_in_browser(browser: Browser, site: str, key: str) -> Browser:
    """The window, in which a partner has signed in."""
    browser.open(f"{site}/login")
    browser.type("#key", key)
    browser.click("main button")
    browser.wait_for_element("#ids")
    return browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_fit_on_a_phone_and_the_browser_refuses_nothing(
    signed_in_browser: Browser, site: str, dark: bool
) -> None:
    browser = signed_in_browser
    browser.resize(375, 667, dark=dark)
    for address in ADDRESSES:
        browser.open(site + address)
        assert browser.run("return document.documentElement.scrollWidth") <= 375, address
        small = browser.run(
            "return Array.from(document.querySelectorAll('button, .button, nav a, input:not([type=hidden])'))"
            ".filter(e => e.type !== 'radio' && !e.closest('.trail'))"
            ".filter(e => e.getBoundingClientRect().height < 44).map(e => e.outerHTML)"
        )
        assert small == [], address
    # Nothing was refused by the content security policy, and no script has failed.
    complaints = [message for message in browser.messages() if "404 (Not Found)" not in message]
    assert [message for message in complaints if "Password forms" not in message] == []


def test_the_colours_follow_what_the_user_prefers(browser: Browser) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    browser.resize(1000, 700, dark=False)
    light = browser.run(ground)
    browser.resize(1000, 700, dark=True)
    assert (light, browser.run(ground)) == ("rgb(247, 246, 242)", "rgb(17, 22, 20)")


def test_the_page_of_a_job_follows_it_to_the_end(signed_in_browser: Browser, site: str) -> None:
    browser = signed_in_browser
    browser.open(f"{site}/batch?answer=job")
    browser.run("document.querySelector('#ids').value = Array.from({length: 30000}, (_, i) => i + 1).join('\\n')")
    browser.click("main button[type=submit]")
    # The page is loaded anew at the end, and offers the result.
    browser.wait_for("document.querySelector('a[href$=\"/result\"]') && document.querySelector('.state.done')")
    assert "30,000 of 30,000" in browser.text(".panel")


def test_the_operators_page_is_kept_up_to_date(browser: Browser, site: str) -> None:
    browser.open(f"{site}/operator")
    browser.run("window.first = document.querySelector('[data-field=at]').textContent")
    browser.wait_for("document.querySelector('[data-field=at]').textContent !== window.first")


def test_everything_works_without_javascript(window: Browser, site: str, key: str) -> None:
    window.resize(1000, 700)
    window.scripts(allowed=False)
    try:
        window.open(f"{site}/login")
        window.cdp("Network.clearBrowserCookies")
        window.open(f"{site}/login")
        window.type("#key", key)
        window.click("main button")
        window.wait_for_element("#ids")
        assert "Look up a batch" in window.text("h1")
        window.type("#ids", "1\n2\n")
        window.click("#answer-job")
        window.click("main button[type=submit]")
        # The page reloads itself until the job has ended.
        window.wait_for_element("a[href$='/result']")
        assert "2 of 2" in window.text(".panel")
    finally:
        window.scripts(allowed=True)
