"""`storefront serve`: the catalogue over HTTP."""

from __future__ import annotations

import ipaddress
import secrets
from contextlib import suppress
from typing import Annotated

import typer

from storefront.console import log_to_stderr
from storefront.database import POOL_SIZE
from storefront.errors import StorefrontError, UsageError
from storefront.options import DATA_DIR, DataDirOption, DsnOption, VerboseOption, run_on_server

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on. Only this machine reaches the default.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 for a free one.")] = 8000,
    pool_size: Annotated[int, typer.Option(min=1, help="The number of connections.")] = POOL_SIZE,
    workers: Annotated[int, typer.Option(min=0, help="The number of workers for jobs in this process.")] = 1,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for running answers to end at a shutdown.")] = 30.0,
    proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="A proxy, or a network of them, whose X-Forwarded headers are believed."),
    ] = None,
    operator_token: Annotated[
        str | None,
        typer.Option(
            envvar="STOREFRONT_OPERATOR_TOKEN",
            show_envvar=True,
            help="The token for /metrics and the operator's pages. Without it they answer this machine alone.",
        ),
    ] = None,
    cookie_secret: Annotated[
        str | None,
        typer.Option(
            envvar="STOREFRONT_COOKIE_SECRET",
            show_envvar=True,
            help="Signs cookies; the same for all processes. Without it sessions end with the process.",
        ),
    ] = None,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Serve the catalogue over HTTP until Ctrl-C or SIGTERM. Running answers are finished within the grace time."""
    log_to_stderr(verbose=verbose)
    for each in proxy or ():
        _check_proxy(each)
    try:
        from storefront.service import server
        from storefront.service.settings import ServiceSettings
    except ModuleNotFoundError as error:
        raise StorefrontError(
            f"serve needs {error.name}, which is not installed: pip install 'storefront[serve]'"
        ) from error

    async def work(target: str) -> None:
        settings = ServiceSettings(
            target,
            host=host,
            port=port,
            pool_size=pool_size,
            workers=workers,
            grace=grace,
            proxies=tuple(proxy or ()),
            operator_token=operator_token or None,
            cookie_secret=cookie_secret or secrets.token_urlsafe(32),
        )
        await server.serve(settings, lambda address, _server: _announce(address))

    run_on_server(dsn, data_dir, work)


def _check_proxy(address: str) -> None:
    """Raise UsageError if a proxy is not an address or a network: uvicorn takes any other text for a name."""
    try:
        ipaddress.ip_network(address)
    except ValueError as error:
        raise UsageError(
            f"--proxy expects an address or a network, such as 10.0.0.1 or 10.0.0.0/8, got {address!r}"
        ) from error


def _announce(address: str) -> None:
    # It serves also if nobody can read that.
    with suppress(OSError):
        typer.echo(f"serving on {address}")
