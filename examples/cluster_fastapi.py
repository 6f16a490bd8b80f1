"""A web service on a primary and its replicas: users see their own writes, also through a failover.

python examples/cluster_fastapi.py postgresql://a.example.com,b.example.com/test

It needs fastapi and httpx. A server runs `app` by: uvicorn cluster_fastapi:app. Here httpx calls it without a network.
With one server there are no replicas, and the primary answers everything.

Writes go to the primary. Each response has the position of the user's writes in a cookie, and reads go to replicas
that have replayed it. A write has a key of the user's own, so it can be repeated if its connection was lost.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
from fastapi import Cookie, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

import headrace
from headrace.cluster import Session

SCHEMA = """
    CREATE SCHEMA cluster_fastapi;
    CREATE TABLE cluster_fastapi.note (note_id uuid PRIMARY KEY, note text NOT NULL);
"""
WRITE = "INSERT INTO cluster_fastapi.note VALUES ($1, $2) ON CONFLICT (note_id) DO NOTHING"
READ = "SELECT note FROM cluster_fastapi.note WHERE note_id = $1"
ATTEMPTS = 5


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the cluster, which all requests share."""
    cluster = headrace.create_cluster(
        os.environ["DATABASE_URL"], min_size=1, max_size=6, max_lag=5.0, failover_timeout=20.0, timeout=3
    )
    async with cluster:
        app.state.cluster = cluster
        yield


app = FastAPI(lifespan=lifespan)


def session_of(request: Request, position: str | None) -> Session:
    """Return the session of a request: it reads what the user has written before."""
    try:
        session: Session = request.app.state.cluster.session(after=position)
    except ValueError:
        # A text that is no position, or the position of another cluster.
        session = request.app.state.cluster.session()
    return session


@app.exception_handler(headrace.NoPrimaryError)
async def no_primary(request: Request, error: Exception) -> JSONResponse:
    """Answer that the service is away for a moment. Nothing was sent to a server."""
    return JSONResponse({"detail": "no primary"}, status_code=503, headers={"Retry-After": "5"})


@app.put("/notes/{note_id}")
async def write(
    note_id: uuid.UUID,
    note: str,
    request: Request,
    response: Response,
    position: Annotated[str | None, Cookie()] = None,
) -> dict[str, str]:
    session = session_of(request, position)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await session.execute(WRITE, note_id, note)
            written = await session.position()
        except (headrace.ConnectionDoesNotExistError, headrace.NoPrimaryError):
            # The outcome of the write may be unknown. The key makes it safe to write again.
            if attempt == ATTEMPTS:
                raise
        else:
            response.set_cookie("position", str(written), max_age=60, httponly=True)
            break
    return {"note": note}


@app.get("/notes/{note_id}")
async def read(
    note_id: uuid.UUID, request: Request, position: Annotated[str | None, Cookie()] = None
) -> dict[str, str]:
    note: str | None = await session_of(request, position).replicas.fetchval(READ, note_id)
    if note is None:
        raise HTTPException(404)
    return {"note": note}


@app.get("/health")
async def health(request: Request) -> list[dict[str, object]]:
    return [
        {"host": info.host, "role": info.role, "state": info.state, "lag": info.lag}
        for info in request.app.state.cluster.hosts()
    ]


async def use(client: httpx.AsyncClient, count: int) -> int:
    """Write notes and read each of them at once; returns how many were there."""
    seen = 0
    for number in range(count):
        note_id = uuid.uuid4()
        (await client.put(f"/notes/{note_id}", params={"note": f"note {number}"})).raise_for_status()
        seen += (await client.get(f"/notes/{note_id}")).status_code == 200
    return seen


async def main(dsn: str) -> None:
    """Create the table, use the service, and drop the table."""
    os.environ["DATABASE_URL"] = dsn
    async with headrace.create_cluster(dsn, min_size=1) as cluster:
        await cluster.execute(SCHEMA)
        try:
            async with (
                lifespan(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://notes") as client,
            ):
                print((await client.get("/health")).json())
                print(await use(client, 50), "of 50 own writes were read")
        finally:
            await cluster.execute("DROP SCHEMA cluster_fastapi CASCADE")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
