"""The start of a session and its authentication: nothing makes the client believe in a server that has not proved
itself where it must, and no password is sent as it is where the user has not agreed to it.

The first byte of an input chooses the settings, the rest is what the server says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from headrace import exceptions
from headrace._connect.auth import Authenticator, AuthRequest, AuthSettings, Work
from headrace._connect.params.require_auth import parse_require_auth
from headrace._connect.params.secret import Secret
from headrace._core.pipeline.startup import Startup
from headrace._core.wire.frontend import startup_message
from tests.core.pipeline.script import Conversation, Waiter
from tests.fuzz.mutation import Mutation
from tests.fuzz.target import Target
from tests.peers import backend
from tests.peers.scram import ScramServer

HONEST = b"honest"
"""Stands for what a server that knows the password would say here."""

PASSWORD = "secret"
MAX_ITERATIONS = 8

SETTINGS = (
    AuthSettings(scram_max_iterations=MAX_ITERATIONS),
    AuthSettings(scram_max_iterations=MAX_ITERATIONS, require_auth=parse_require_auth("scram-sha-256")),
    AuthSettings(scram_max_iterations=MAX_ITERATIONS, require_auth=parse_require_auth("!password,!md5")),
    AuthSettings(scram_max_iterations=MAX_ITERATIONS, channel_binding="require"),
    AuthSettings(scram_max_iterations=MAX_ITERATIONS, allow_cleartext_password=True),
)
STRICT = (1, 3)
"""The settings under which nothing but SCRAM, carried to its end, may let the session begin."""


class StartOfSession(Target):
    """See above."""

    name = "startup"
    words = (
        *(HONEST, b"R\0\0\0\x08\0\0\0\0", b"SCRAM-SHA-256\0", b"SCRAM-SHA-256-PLUS\0", b"OAUTHBEARER\0"),
        *(b"r=", b",s=", b",i=2", b"v="),
        *(bytes((0, 0, 0, code)) for code in range(14)),
        *(b"\0\3\0\0", b"\0\3\0\2", b"K", b"Z", b"S", b"v"),
    )  # fmt: skip
    # What the client will not do, and says so.
    allowed = (exceptions.InterfaceError,)

    def seeds(self) -> Iterable[bytes]:
        greeting = backend.greeting()
        scram = (
            backend.authentication_sasl("SCRAM-SHA-256")
            + backend.authentication_sasl_continue(HONEST)
            + backend.authentication_sasl_final(HONEST)
        )
        for number in range(len(SETTINGS)):
            choice = bytes((number,))
            yield choice + greeting
            yield choice + scram + greeting
            yield choice + backend.authentication_md5_password() + greeting
            yield choice + backend.authentication_cleartext_password() + greeting
            yield choice + backend.negotiate_protocol_version(0x30000) + greeting
            yield choice + backend.authentication_gss() + greeting
            yield choice + backend.authentication_sasl("OAUTHBEARER") + greeting
            yield choice + backend.error_response("no", code="28P01", severity="FATAL")

    def run(self, data: bytes) -> object:
        number = data[0] % len(SETTINGS) if data else 0
        talk = Conversation(greeted=False)
        sent: list[bytes] = []
        authenticator = Authenticator(
            SETTINGS[number], user="user", password=Secret(PASSWORD), encrypted=False, token=Secret("token")
        )
        server = ScramServer(PASSWORD, iterations=2)
        proved = False

        def honest(code: int) -> bytes:
            nonlocal proved
            with contextlib.suppress(Exception):  # out of turn there is nothing honest to be said
                if code == AuthRequest.SASL_CONTINUE:
                    return server.challenge(sent[-1][sent[-1].index(b"n,,") :])
                if code == AuthRequest.SASL_FINAL:
                    said = server.outcome(sent[-1][5:])
                    proved = True
                    return said
            return HONEST

        def on_authentication(code: int, payload: bytes) -> None:
            reply = authenticator.respond(code, honest(code) if payload == HONEST else payload)
            if isinstance(reply, Work):
                reply = authenticator.resume(reply.run())
            if reply is not None:
                sent.append(reply)

        waiter = Waiter()
        request = Startup(waiter, startup_message(0x30002, {"user": "user"}), on_authentication)
        call = talk.submit(request, waiter)
        talk.session.take_output()
        try:
            talk.feed(data[1:])
        except exceptions.ProtocolError as error:
            talk.session.connection_lost(error)
        began = call.settled and call.waiter.error is None
        talk.session.connection_lost("the end")
        assert call.settled
        if began:
            assert authenticator.done
            assert number not in STRICT or proved
        if number != 4:
            assert not any(PASSWORD.encode() in each for each in sent)
        return began, authenticator.method, len(sent), type(call.waiter.error).__name__

    def mutate(self, mutation: Mutation, data: bytes) -> bytes:
        if mutation.below(8) == 0:
            data = bytes((mutation.below(len(SETTINGS)),)) + data[1:]
        return data[:1] + mutation.messages(data[1:])
