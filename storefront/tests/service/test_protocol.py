"""The HTTP protocol hangs up."""

from __future__ import annotations

import asyncio
import socket

from uvicorn.config import Config
from uvicorn.server import ServerState

from storefront.service.protocol import protocol_with
from storefront.service.settings import ServiceSettings


async def test_a_client_that_reads_in_time_gets_everything_before_the_end() -> None:
    config = Config(app=lambda scope, receive, send: None)
    config.load()
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_accepted_socket(
        lambda: protocol_with(ServiceSettings("postgresql://"))(config, ServerState(), {}), ours
    )
    reader, writer = await asyncio.open_connection(sock=theirs)
    sent = bytes(2**22)
    transport.write(sent)
    hanging_up = asyncio.create_task(protocol.hang_up(60.0))
    assert await reader.read() == sent
    await hanging_up
    writer.close()
    await writer.wait_closed()
