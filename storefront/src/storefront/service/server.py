"""Run the application on uvicorn, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from storefront.errors import StorefrontError
from storefront.service.application import create_application
from storefront.service.problems import unavailable
from storefront.service.protocol import ServiceProtocol, protocol_with
from storefront.service.service import Service
from storefront.service.settings import ServiceSettings


class GracefulServer(uvicorn.Server):
    """Ends in steps: new requests are refused, running answers are finished, then connections are closed.

    uvicorn itself closes its sockets at once, and would not answer requests any more. It also raises the signal again
    at the end, which would end the process before the embedded server is stopped.
    """

    def __init__(self, config: uvicorn.Config, service: Service, *, handle_signals: bool = True) -> None:
        super().__init__(config)
        self.service = service
        self.handle_signals = handle_signals
        self.on_startup: Callable[[], None] = lambda: None
        """It is called when signals are handled and requests are answered."""
        self._ending: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle SIGTERM and SIGINT in the event loop for the time of the block, unless others handle them."""
        loop = asyncio.get_running_loop()
        handled = (signal.SIGTERM, signal.SIGINT) if self.handle_signals else ()
        for number in handled:
            loop.add_signal_handler(number, self.end)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
            if self._ending is not None:
                self._ending.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer requests, and tell so."""
        await super().startup(sockets)
        self.on_startup()

    def end(self) -> None:
        """Begin to end. The second call ends running answers at once."""
        if self._ending is not None:
            self._end_streams()
            self.should_exit = True
            return
        self.service.draining = True
        self.service.events.close()
        self._ending = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(self.service.settings.grace):
                await self.service.running_batches.wait_for_none()
        except TimeoutError:
            self._end_streams()
        self.should_exit = True

    def _end_streams(self) -> None:
        self.service.running_batches.end(unavailable("the service is shutting down"))


def configuration(application: FastAPI, settings: ServiceSettings) -> uvicorn.Config:
    """Return uvicorn's configuration. Forwarded headers are believed from the given proxies alone."""
    return uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        http=protocol_with(settings),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        server_header=False,
        h11_max_incomplete_event_size=ServiceProtocol.HEADERS,
        timeout_graceful_shutdown=5,
    )


async def serve(settings: ServiceSettings, ready: Callable[[str, GracefulServer], None]) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is called with the address when requests are answered.

    Raises the driver's errors if the database does not answer at the start, and StorefrontError if the address cannot
    be used.
    """
    application = create_application(settings)
    config = configuration(application, settings)
    # uvicorn would log a port in use, and exit.
    sockets = [listening_socket(settings)]
    try:
        async with application.router.lifespan_context(application):
            server = GracefulServer(config, application.state.service)
            server.on_startup = partial(ready, _address(sockets[0]), server)
            await server.serve(sockets)
    finally:
        for each in sockets:
            each.close()


@asynccontextmanager
async def running(settings: ServiceSettings) -> AsyncIterator[str]:
    """Serve in this event loop for the time of the block, and yield the address. Signals keep their handlers.

    Answers that are still being sent at the end of the block are ended. Raises the driver's errors if the database does
    not answer at the start, and StorefrontError if the address cannot be used.
    """
    application = create_application(settings)
    with listening_socket(settings) as listening:
        async with application.router.lifespan_context(application):
            server = GracefulServer(
                configuration(application, settings), application.state.service, handle_signals=False
            )
            # A request waits in the queue of the socket until the task has started.
            serving = asyncio.create_task(server.serve([listening]))
            try:
                yield _address(listening)
            finally:
                server.end()
                # The second call ends running answers.
                server.end()
                await serving


def listening_socket(settings: ServiceSettings) -> socket.socket:
    """Return a socket that listens. Requests wait in its queue until uvicorn accepts them."""
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        # create_server() adds the address to the text of an error.
        why = str(error.strerror).partition(" (while attempting")[0]
        remedy = ": choose another --port" if error.errno == errno.EADDRINUSE else ""
        raise StorefrontError(f"cannot listen on {host}, port {port}: {why}{remedy}") from error


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
