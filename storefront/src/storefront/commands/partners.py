"""`storefront partners`: add, list and revoke the keys of partners."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from storefront import partners
from storefront.console import log_to_stderr, print_json, stdout
from storefront.database import open_connection
from storefront.options import DATA_DIR, DataDirOption, DsnOption, JsonOption, VerboseOption, run_on_server
from storefront.service_schema import create_service_tables

app = typer.Typer(
    name="partners", help="Add, list and revoke the partners that may use the service.", no_args_is_help=True
)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The name of the partner.")],
    requests_per_minute: Annotated[
        int, typer.Option(min=1, help="The number of requests a minute.")
    ] = partners.REQUESTS_PER_MINUTE,
    batch_ids: Annotated[int, typer.Option(min=1, help="The number of ids in a batch.")] = partners.BATCH_IDS,
    batches_at_once: Annotated[
        int, typer.Option(min=1, help="The number of batches that may run at once.")
    ] = partners.BATCHES_AT_ONCE,
    json: JsonOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Add a partner and show its key, once. A partner whose key was revoked gets a new one."""
    log_to_stderr(verbose=verbose)

    async def work(target: str) -> partners.NewPartner:
        async with open_connection(target) as connection:
            await create_service_tables(connection)
            return await partners.add_partner(
                connection,
                name,
                requests_per_minute=requests_per_minute,
                batch_ids=batch_ids,
                batches_at_once=batches_at_once,
            )

    new = run_on_server(dsn, data_dir, work)
    if json:
        print_json({**asdict(new.partner), "key": new.key})
        return
    # The key alone is on standard output, so that KEY=$(storefront partners add NAME) works.
    typer.echo(f"added: partner {new.partner.partner_id}, {name}; this is its key, which is not shown again:", err=True)
    typer.echo(new.key)


@app.command("list")
def list_all(
    json: JsonOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """List all partners with their limits. The keys themselves are stored nowhere."""
    log_to_stderr(verbose=verbose)

    async def work(target: str) -> list[partners.PartnerEntry]:
        async with open_connection(target) as connection:
            await create_service_tables(connection)
            return await partners.list_partners(connection)

    entries = run_on_server(dsn, data_dir, work)
    if json:
        print_json(
            {
                "partners": [
                    {
                        **asdict(entry.partner),
                        "added_at": entry.added_at.isoformat(),
                        "revoked_at": entry.revoked_at.isoformat() if entry.revoked_at else None,
                    }
                    for entry in entries
                ]
            }
        )
        return
    table = Table(box=None, pad_edge=False)
    for title in ("id", "partner", "key", "requests/min", "ids/batch", "at once", "added", "revoked"):
        number = title in ("id", "requests/min", "ids/batch", "at once")
        table.add_column(title, justify="right" if number else "left", no_wrap=title != "partner", overflow="fold")
    for entry in entries:
        partner = entry.partner
        table.add_row(
            str(partner.partner_id),
            partner.partner_name.replace("[", "\\["),
            f"sf_{partner.key_prefix}",
            f"{partner.requests_per_minute:,}",
            f"{partner.batch_ids:,}",
            f"{partner.batches_at_once:,}",
            f"{entry.added_at:%Y-%m-%d}",
            f"{entry.revoked_at:%Y-%m-%d}" if entry.revoked_at else "",
        )
    stdout().print(table, soft_wrap=True)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The name of the partner.")],
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Revoke a partner's key. Its requests are refused and its running batches end within 5 seconds."""
    log_to_stderr(verbose=verbose)

    async def work(target: str) -> None:
        async with open_connection(target) as connection:
            await create_service_tables(connection)
            await partners.revoke_partner(connection, name)

    run_on_server(dsn, data_dir, work)
    typer.echo(f"revoked: the key of {name}")
