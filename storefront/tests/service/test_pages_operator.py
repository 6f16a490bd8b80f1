"""The operator's page: who may see it, and the figures on it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from httpx import AsyncClient

import headrace
from storefront import Tally
from storefront.service import activity
from storefront.service.activity import ActivityLog, PoolState, Sample, Throughput, notify_sample
from storefront.service.application import create_application
from storefront.service.operator_pages import FRESH, GAUGES, SECONDS, points, series, view_of
from storefront.service.service import Service
from storefront.service.settings import ServiceSettings
from tools.event_client import EventClient
from tools.html_page import Page, check_page

TOKEN = "the operator's token of the tests"
NOW = 1_800_000_000.0

SAMPLE = Sample(
    process="shop:1",
    number=1,
    at=NOW,
    requests=2.0,
    ids=300.0,
    skus=4_000.0,
    running=1,
    request_ms=5.0,
    database_ms=0.5,
    pool=PoolState(size=3, max_size=6, idle=1, leased=1, in_flight=7, queued=8, waiting=9),
)


@pytest.fixture
def service(application: FastAPI) -> Service:
    """The service behind the page."""
    found: Service = application.state.service
    return found


@pytest.fixture
async def guarded(changed: Callable[..., ServiceSettings]) -> AsyncIterator[FastAPI]:
    """An application with an operator's token."""
    application = create_application(changed(operator_token=TOKEN))
    async with application.router.lifespan_context(application):
        yield application


def browse(application: FastAPI, *, client: str = "127.0.0.1", url: str = "http://localhost") -> AsyncClient:
    transport = httpx.ASGITransport(application, client=(client, 1), raise_app_exceptions=False)
    return AsyncClient(transport=transport, base_url=url, headers={"Accept": "text/html"})


def gauge(page: Page, name: str) -> str:
    return next(title for field, title, _ in GAUGES if field == name)


# -- who may see it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/operator", "/operator/events"])
async def test_without_a_token_only_this_machine_sees_it(application: FastAPI, path: str) -> None:
    if path == "/operator":
        async with browse(application) as browser:
            assert (await browser.get(path)).status_code == 200
    async with browse(application, client="192.0.2.7") as browser:
        answer = await browser.get(path)
        assert answer.status_code == 403
        check_page(answer.text)
    async with browse(application, url="http://shop.example") as browser:
        # Another site may have its own name resolved to 127.0.0.1.
        assert (await browser.get(path)).status_code == 403
    async with browse(application) as browser:
        assert (await browser.get(path, headers={"X-Forwarded-For": "192.0.2.7"})).status_code == 403


@pytest.mark.parametrize("path", ["/operator", "/operator/events"])
async def test_with_a_token_everybody_has_to_sign_in(guarded: FastAPI, path: str) -> None:
    async with browse(guarded) as browser:
        answer = await browser.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/operator/login?next=")


async def test_the_operator_signs_in_and_out(guarded: FastAPI) -> None:
    async with browse(guarded, client="192.0.2.7", url="https://shop.example") as browser:
        form = check_page((await browser.get("/operator/login")).text)
        data = {"token": form.field("token"), "operator_token": "x"}
        answer = await browser.post("/operator/login", data=data)
        assert answer.status_code == 403
        assert "This is not the operator's token." in check_page(answer.text).text
        answer = await browser.post("/operator/login", data={**data, "operator_token": f" {TOKEN}\n"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/operator")
        cookie = answer.headers["set-cookie"].lower()
        assert cookie.startswith("__host-storefront_operator=")
        assert "httponly" in cookie
        assert "secure" in cookie
        assert TOKEN not in answer.headers["set-cookie"]
        page = check_page((await browser.get("/operator")).text)
        await browser.post("/operator/logout", data={"token": page.field("token")})
        assert (await browser.get("/operator")).status_code == 303


async def test_another_token_ends_the_operators_session(
    guarded: FastAPI, changed: Callable[..., ServiceSettings]
) -> None:
    async with browse(guarded) as browser:
        form = check_page((await browser.get("/operator/login")).text)
        await browser.post("/operator/login", data={"token": form.field("token"), "operator_token": TOKEN})
        assert (await browser.get("/operator")).status_code == 200
        guarded.state.service.settings = changed(operator_token="another token")
        assert (await browser.get("/operator")).status_code == 303


async def test_a_partner_is_no_operator(guarded: FastAPI, new_partner: Callable[..., Any]) -> None:
    key = (await new_partner()).key
    async with browse(guarded) as browser:
        form = check_page((await browser.get("/login")).text)
        await browser.post("/login", data={"token": form.field("token"), "key": key})
        assert (await browser.get("/batch")).status_code == 200
        session = browser.cookies["storefront_session"]
        for cookie in (f"storefront_session={session}", f"storefront_operator={session}"):
            assert (await browser.get("/operator", headers={"Cookie": cookie})).status_code == 303


async def test_without_a_token_there_is_nothing_to_sign_in_with(application: FastAPI) -> None:
    async with browse(application) as browser:
        assert (await browser.get("/operator/login")).headers["location"] == "/operator"
        token = check_page((await browser.get("/login")).text).field("token")
        answer = await browser.post("/operator/login", data={"token": token, "operator_token": ""})
        assert answer.status_code == 403


# -- the figures -----------------------------------------------------------------------------------------------------


async def test_the_page_shows_figures_without_javascript(browser: AsyncClient, service: Service) -> None:
    service.activity.add(replace(SAMPLE, at=view_time()).encoded())
    page = check_page((await browser.get("/operator")).text)
    assert page.all("meta", http_equiv="refresh")
    for text in ("SKUs of batches and jobs 4,000 a second", "Ids answered 300 a second", "Database, round trip 0.5 ms"):
        assert text in page.text
    assert "shop:1 3 6 1 1 7 8 9" in page.text
    assert service.sampler.process in page.text
    assert len(page.all("polyline")) == len(GAUGES)


def view_time() -> float:
    import time

    return time.time()


async def test_a_sample_of_any_process_reaches_the_page_by_an_event(application: FastAPI, service: Service) -> None:
    events = await EventClient(application, "/operator/events").open()
    assert (await events.next()).data["fields"]["skus"] == "0"
    sample = replace(SAMPLE, process="<b>other</b>:2", at=view_time())
    event = None
    while event is None or "<b>other</b>:2" not in event.data["processes"]:
        # The process may still be about to listen.
        await notify_sample(service.pool, sample, service.events)
        event = await events.next()
    assert event.event_id == "<b>other</b>:2/1"
    # The page has a row less than there are processes, so it is loaded anew.
    assert event.data["layout"] == " ".join(sorted(["<b>other</b>:2", service.sampler.process]))
    await events.leave()
    again = await EventClient(application, "/operator/events", last_event_id=event.event_id).open()
    service.events.close()
    assert await again.next() is None


async def test_names_of_processes_are_escaped(browser: AsyncClient, service: Service) -> None:
    service.activity.add(replace(SAMPLE, process='<b>"other"</b>').encoded())
    page = check_page((await browser.get("/operator")).text)
    assert page.all("b") == []
    assert '<b>"other"</b>' in page.text


async def test_a_sample_tells_what_was_done_since_the_one_before(service: Service) -> None:
    sampler = service.sampler
    sampler.sample(now=100.0)
    service.metrics.request_seconds.labels("/brands").observe(0.25)
    service.metrics.request_seconds.labels("/brands").observe(0.75)
    service.metrics.request_seconds.labels("/jobs/{job}/events").observe(3_600)
    with service.throughput.count(Tally(lines=30, skus=400)):
        sample = sampler.sample(0.5, now=102.0)
    assert (sample.requests, sample.request_ms, sample.ids, sample.skus) == (1.0, 500.0, 15.0, 200.0)
    assert sample.database_ms == 0.5
    assert sample.pool.max_size == 4
    assert not sample.is_idle
    nothing = sampler.sample(now=103.0)
    assert (nothing.requests, nothing.request_ms, nothing.ids, nothing.skus) == (0, None, 0, 0)
    assert nothing.is_idle
    assert nothing.number == sample.number + 1


def test_throughput_is_counted_while_batches_run_and_kept_after_them() -> None:
    throughput, one, two = Throughput(), Tally(), Tally()
    with throughput.count(one):
        with throughput.count(two):
            one.lines, two.lines, two.skus = 1, 2, 5
            assert (throughput.ids, throughput.skus) == (3, 5)
        assert (throughput.ids, throughput.skus) == (3, 5)
        one.skus += 1
    assert (throughput.ids, throughput.skus) == (3, 6)
    with pytest.raises(RuntimeError), throughput.count(Tally(lines=1)):
        raise RuntimeError
    assert throughput.ids == 4


async def test_a_busy_process_reports_and_an_idle_one_is_silent(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Sample] = []
    rounds = 0

    async def notify(pool: object, sample: Sample, hub: object) -> float:
        reported.append(sample)
        return 1.5

    async def pause(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            service.metrics.request_seconds.labels("/").observe(0.1)
        if rounds == 6:
            raise ConnectionAbortedError

    monkeypatch.setattr(activity, "notify_sample", notify)
    with pytest.raises(ConnectionAbortedError):
        await activity.report_activity(service, pause)
    assert [sample.is_idle for sample in reported] == [True, False, True]
    assert reported[1].database_ms == 1.5


async def test_if_the_database_does_not_answer_the_pages_of_the_process_get_the_sample(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object, **kwargs: object) -> None:
        raise headrace.CannotConnectNowError("starting up")

    monkeypatch.setattr(service.pool, "execute", fail)
    assert await notify_sample(service.pool, SAMPLE, service.events) is None
    assert service.activity.by_process() == {"shop:1": [SAMPLE]}


def test_a_sample_survives_its_way_through_the_database() -> None:
    assert Sample.decoded(SAMPLE.encoded()) == SAMPLE
    assert len(SAMPLE.encoded()) < 1_000


@pytest.mark.parametrize(
    "change",
    [
        {"process": "a\nevent: x"},
        {"process": "a" * 101},
        {"at": float("nan")},
        {"skus": float("inf")},
        {"skus": "many"},
        {"number": None},
        {"pool": {}},
        {"pool": 7},
    ],
)
def test_a_notification_that_is_no_sample_is_ignored(change: dict[str, object]) -> None:
    log = ActivityLog()
    log.add(json.dumps({**json.loads(SAMPLE.encoded()), **change}))
    assert (log.by_process(), log.latest_id) == ({}, None)


async def test_the_progress_of_jobs_is_a_part_of_the_throughput(service: Service) -> None:
    def progress(job_id: str, lines_done: int, rows: int, state: str = "running") -> str:
        return json.dumps({"job_id": job_id, "state": state, "lines_done": lines_done, "skus": rows})

    log = service.activity
    # A job that was begun earlier is counted from here on.
    log.add_progress(progress("a", 5_000, 9_000), NOW - 2)
    log.add_progress(progress("b", 0, 0, "queued"), NOW - 2)
    assert list(log.job_steps) == []
    log.add_progress(progress("a", 5_300, 9_600), NOW - 1)
    log.add_progress(progress("b", 30, 60, "done"), NOW - 1)
    log.add_progress(json.dumps({"job_id": "a", "state": "deleted"}), NOW)
    assert [(step.ids, step.skus) for step in log.job_steps] == [(300, 600), (30, 60)]
    view = view_of(service, NOW)
    assert (view["fields"]["ids"], view["fields"]["ids_peak"]) == ("110", "330")
    assert (view["fields"]["skus"], view["fields"]["skus_peak"]) == ("220", "660")
    assert view_of(service, NOW + SECONDS)["fields"]["skus_peak"] == "0"


@pytest.mark.parametrize("payload", ["", "[]", "7", "{}", '{"job_id": 1}', '{"job_id": 1, "state": 1, "skus": "x"}'])
def test_progress_that_is_nonsense_is_ignored(payload: str) -> None:
    log = ActivityLog()
    log.add_progress(payload)
    assert list(log.job_steps) == []


def test_the_log_is_bounded_in_samples_and_processes() -> None:
    log = ActivityLog()
    for number in range(activity.KEPT + 10):
        log.add(replace(SAMPLE, number=number, at=NOW + number).encoded())
    assert len(log.by_process()["shop:1"]) == activity.KEPT
    for number in range(activity.MOST_PROCESSES):
        log.add(replace(SAMPLE, process=f"shop:{number + 2}", at=NOW + 1_000 + number).encoded())
    assert len(log.by_process()) == activity.MOST_PROCESSES
    assert "shop:1" not in log.by_process()


def test_a_process_that_has_long_been_silent_is_not_shown() -> None:
    log = ActivityLog()
    log.add(SAMPLE.encoded())
    log.add(replace(SAMPLE, process="shop:2", at=NOW + activity.STALE + 1).encoded())
    assert list(log.by_process()) == ["shop:2"]


def test_a_curve_has_a_point_for_each_second_and_sums_the_processes() -> None:
    samples = {
        "a": [replace(SAMPLE, at=NOW - 2, skus=5.0, request_ms=3.0), replace(SAMPLE, at=NOW - SECONDS - 1)],
        "b": [replace(SAMPLE, at=NOW - 2.4, skus=7.0, request_ms=9.0)],
        "c": [replace(SAMPLE, at=NOW, request_ms=None)],
    }
    skus = series(samples, "skus", NOW)
    assert len(skus) == SECONDS
    assert (skus[-3], skus[-1], sum(skus)) == (12.0, 4_000.0, 4_012.0)
    assert series(samples, "request_ms", NOW)[-3] == 9.0
    assert points([0.0, 1.0, 4.0], 4.0) == "0,31.0 1,24.0 2,3.0"
    assert points([0.0, 0.0], 0.0) == "0,31.0 1,31.0"


def test_a_sample_that_is_late_stands_for_the_time_since_the_one_before() -> None:
    samples = [replace(SAMPLE, at=NOW - 4.5, skus=5.0), replace(SAMPLE, at=NOW - 2.5, skus=7.0)]
    assert series({"a": samples}, "skus", NOW)[-6:] == [0.0, 5.0, 7.0, 7.0, 0.0, 0.0]
    # After a pause the process was idle.
    samples = [replace(SAMPLE, at=NOW - 40, skus=5.0), replace(SAMPLE, at=NOW - 2.5, skus=7.0)]
    assert series({"a": samples}, "skus", NOW)[-6:] == [0.0, 0.0, 0.0, 7.0, 0.0, 0.0]
    # Two samples in the same second do not add up to more than there was.
    samples = [replace(SAMPLE, at=NOW - 2.9, skus=5.0), replace(SAMPLE, at=NOW - 2.1, skus=7.0)]
    assert max(series({"a": samples}, "skus", NOW)) <= 7.0


async def test_an_old_sample_does_not_stand_for_the_present(service: Service) -> None:
    service.activity.add(SAMPLE.encoded())
    assert view_of(service, NOW)["fields"]["skus"] == "4,000"
    assert view_of(service, NOW + FRESH + 1)["fields"]["skus"] == "0"
    assert view_of(service, NOW + FRESH + 1)["fields"]["database_ms"] == "\N{EN DASH}"
    assert view_of(service, NOW + FRESH + 1)["fields"]["skus_peak"] == "4,000"
