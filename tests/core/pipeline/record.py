"""Record the scenes anew from a real server: python -m tests.core.pipeline.record [HOST PORT USER DATABASE]

The server must let the user in without a password. Without arguments one is started for the length of the recording,
the newest that is found.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from headrace._core.pipeline.startup import Startup
from headrace._core.wire.frontend import startup_message
from tests.core.pipeline.recording import PLACE, Recording, Round, play
from tests.core.pipeline.scenes import SCENES, Scene
from tests.core.pipeline.script import Conversation, Waiter
from tests.installations import installations
from tests.servers import Cluster

PATIENCE = 10.0


def connect(host: str, port: int, user: str, database: str) -> tuple[socket.socket, Conversation]:
    """Open a connection, past start-up."""
    connection = socket.create_connection((host, port), timeout=PATIENCE)
    talk = Conversation(greeted=False)
    waiter = Waiter()
    message = startup_message(
        0x30000, {"user": user, "database": database, "TimeZone": "UTC", "client_encoding": "UTF8"}
    )
    talk.submit(Startup(waiter, message, lambda code, payload: None), waiter)
    connection.sendall(talk.session.take_output())
    while not waiter.settled:
        talk.reply(received(connection))
    if waiter.error is not None:
        raise waiter.error
    talk.log.parameters.clear()
    return connection, talk


def received(connection: socket.socket) -> bytes:
    """Return what comes next."""
    data = connection.recv(1 << 16)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def record(scene: Scene, *address: Any) -> Recording:
    """Play one scene to the server."""
    connection, talk = connect(*address)
    rounds: list[Round] = []

    def exchange(sent: list[str]) -> None:
        connection.sendall(b"".join(message.raw for message in talk.messages))
        answer = b""
        while talk.session.sent.count and not talk.session.wants_output():
            data = received(connection)
            answer += data
            talk.reply(data)
        rounds.append(Round(sent, answer))

    with connection:
        outcomes = play(talk, scene, exchange)
        return Recording(talk.session.parameters["server_version"], rounds, outcomes)


def main(arguments: list[str]) -> None:
    """Record all scenes."""
    if arguments:
        host, port, user, database = arguments
        record_all(host, int(port), user, database)
    else:
        newest = max(installations(), key=lambda each: each.version)
        with Cluster(newest) as cluster:
            record_all(cluster.host(), cluster.port, "postgres", "postgres")


def record_all(*address: Any) -> None:
    """Record all scenes from the server at an address."""
    PLACE.mkdir(exist_ok=True)
    for name, scene in SCENES.items():
        recording = record(scene, *address)
        recording.save(name)
        print(f"{name}: {len(recording.rounds)} rounds, {sum(len(each.received) for each in recording.rounds)} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
