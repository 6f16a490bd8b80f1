"""Waiting for a request: time-outs and cancellation, the same for every method that asks something of the server."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace._core.request import Request
    from headrace.driver import Driver


async def wait(driver: Driver, request: Request, timeout: float | None) -> Any:
    """Return the request's result once the server has answered it.

    On cancellation the request is dropped where it was not sent, drained where it waits behind others, and cancelled
    on the server where that is what runs; either way the caller gets CancelledError at once. After `timeout` seconds
    the same happens, and the caller gets TimeoutError.
    """
    if timeout is not None:
        return await _wait_until(driver, request, timeout)
    try:
        return await request.waiter
    except CancelledError:
        driver.give_up(request)
        raise


async def _wait_until(driver: Driver, request: Request, timeout: float) -> Any:
    if request.waiter.done():
        return request.waiter.result()
    if timeout <= 0:
        driver.time_out(request)
    deadline = driver.loop.call_later(timeout, driver.time_out, request)
    try:
        return await request.waiter
    except CancelledError:
        driver.give_up(request)
        raise
    finally:
        deadline.cancel()


def checked_timeout(timeout: object, default: float | None) -> float | None:
    """Return the seconds to wait, the default for None; raises ValueError for anything but a number."""
    if timeout is None:
        return default
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        try:
            seconds = float(timeout) if not isinstance(timeout, bool) else None  # type: ignore[arg-type]
        except (TypeError, ValueError):
            seconds = None
        if seconds is None:
            raise ValueError(f"invalid timeout value: expected a number of seconds or None, got {timeout!r}")
        return seconds
    return timeout
