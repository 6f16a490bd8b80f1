"""The authentication of one connection, message by message: faults 14 to 17 without a network.

The server's side is played by hand; `ScramServer` checks the client's proof as a real server does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import struct
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._connect.auth import Authenticator, AuthRequest, AuthSettings, Reply, Work
from headrace._connect.params.require_auth import METHODS, parse_require_auth
from headrace._connect.params.secret import Secret
from headrace._connect.scram import Challenge, derive_keys
from headrace.exceptions import (
    ClientConfigurationError,
    InterfaceError,
    ProtocolError,
    UnsupportedClientFeatureError,
)
from tests.peers.scram import ScramServer

OK, CLEARTEXT, MD5, GSS, GSS_CONTINUE, SSPI, SASL, CONTINUE, FINAL = 0, 3, 5, 7, 8, 9, 10, 11, 12
PASSWORD = "hunter2"
SCRAM = b"SCRAM-SHA-256\0\0"
BOTH = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
PLUS = b"SCRAM-SHA-256-PLUS\0\0"
OAUTH = b"OAUTHBEARER\0\0"


def rsa_certificate() -> bytes:
    """Return DER that is a certificate as far as its signature algorithm goes: sha256WithRSAEncryption."""
    oid = bytes.fromhex("06092a864886f70d01010b")
    algorithm = b"\x30" + bytes([len(oid) + 2]) + oid + b"\x05\x00"
    content = b"\x30\x00" + algorithm + b"\x03\x01\x00"
    return b"\x30" + bytes([len(content)]) + content


CERTIFICATE = rsa_certificate()
ED25519 = bytes.fromhex("300e 3000 3005 06032b6570 030300aabb")


def client(
    *,
    password: str | None = PASSWORD,
    token: str | None = None,
    encrypted: bool = False,
    local: bool = False,
    certificate: bytes | None = None,
    certificate_sent: bool | None = None,
    **settings: Any,
) -> Authenticator:
    """Return the client's side."""
    if "require_auth" in settings:
        settings["require_auth"] = parse_require_auth(settings["require_auth"])
    return Authenticator(
        AuthSettings(**settings),
        user="me",
        password=None if password is None else Secret(password),
        token=None if token is None else Secret(token),
        encrypted=encrypted,
        local=local,
        certificate=certificate,
        certificate_sent=certificate_sent,
        host="server",
    )


def sent(reply: Reply) -> bytes:
    """Return what a message 'p' carries."""
    assert isinstance(reply, bytes)
    assert reply[:1] == b"p"
    assert struct.unpack("!i", reply[1:5]) == (len(reply) - 1,)
    return reply[5:]


def finished(authenticator: Authenticator) -> bool:
    """Tell whether AuthenticationOk counted. (A property read twice in one test confuses type checkers.)"""
    return authenticator.done


def initial(reply: Reply) -> tuple[str, bytes]:
    """Return the mechanism and the response of a SASLInitialResponse."""
    mechanism, _, rest = sent(reply).partition(b"\0")
    assert struct.unpack("!i", rest[:4]) == (len(rest) - 4,)
    return mechanism.decode(), rest[4:]


def prove(authenticator: Authenticator, server: ScramServer, offered: bytes = SCRAM) -> str:
    """Go through SCRAM up to the client's proof, checked by the server; return the mechanism."""
    mechanism, first = initial(authenticator.respond(SASL, offered))
    work = authenticator.respond(CONTINUE, server.challenge(first))
    assert isinstance(work, Work)
    final = sent(authenticator.resume(work.run()))
    assert authenticator.respond(FINAL, server.outcome(final)) is None
    return mechanism


# ---- each method


def test_a_server_that_trusts_asks_for_nothing() -> None:
    authenticator = client()
    assert authenticator.respond(OK, b"") is None
    assert finished(authenticator)
    assert authenticator.method == "none"


def test_md5_is_hashed_with_the_role_and_the_salt() -> None:
    authenticator = client()
    inner = hashlib.md5(b"hunter2me").hexdigest().encode()
    expected = b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode() + b"\0"
    assert sent(authenticator.respond(MD5, b"salt")) == expected
    assert not finished(authenticator)
    authenticator.respond(OK, b"")
    assert finished(authenticator)
    assert authenticator.method == "md5"


@pytest.mark.parametrize("where", [{"encrypted": True}, {"local": True}, {"allow_cleartext_password": True}])
def test_a_cleartext_password_is_sent_where_nobody_reads_it_or_by_consent(where: dict[str, Any]) -> None:
    authenticator = client(**where)
    assert sent(authenticator.respond(CLEARTEXT, b"")) == b"hunter2\0"
    authenticator.respond(OK, b"")
    assert authenticator.method == "password"


def test_a_cleartext_password_is_not_sent_otherwise() -> None:
    with pytest.raises(InterfaceError, match="in cleartext") as caught:
        client().respond(CLEARTEXT, b"")
    assert "allow_cleartext_password=True" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_scram_proves_both_sides() -> None:
    authenticator = client()
    assert prove(authenticator, ScramServer(PASSWORD)) == "SCRAM-SHA-256"
    assert not finished(authenticator)
    authenticator.respond(OK, b"")
    assert finished(authenticator)
    assert authenticator.method == "scram-sha-256"
    assert not authenticator.channel_bound


def test_scram_takes_keys_for_a_password() -> None:
    server = ScramServer(PASSWORD)
    keys = derive_keys(Secret(PASSWORD), Challenge(server.salt, server.iterations, b"", b""))
    authenticator = client(password=None, scram_keys=keys)
    _, first = initial(authenticator.respond(SASL, SCRAM))
    # No work: there is nothing to hash.
    final = sent(authenticator.respond(CONTINUE, server.challenge(first)))
    authenticator.respond(FINAL, server.outcome(final))
    authenticator.respond(OK, b"")
    assert finished(authenticator)


def test_the_work_touches_no_state_and_runs_in_any_thread() -> None:
    authenticator = client()
    server = ScramServer(PASSWORD)
    _, first = initial(authenticator.respond(SASL, SCRAM))
    work = authenticator.respond(CONTINUE, server.challenge(first))
    assert isinstance(work, Work)
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.extend([work.run(), work.run()]))
    thread.start()
    thread.join()
    assert results[0] == results[1]
    server.outcome(sent(authenticator.resume(results[0])))


def test_oauth_sends_the_token_and_no_more() -> None:
    authenticator = client(password=None, token="abc", encrypted=True)
    assert initial(authenticator.respond(SASL, OAUTH)) == ("OAUTHBEARER", b"n,,\x01auth=Bearer abc\x01\x01")


def test_oauth_ends_with_authentication_ok_without_a_final_message() -> None:
    authenticator = client(token="abc", encrypted=True)
    authenticator.respond(SASL, OAUTH)
    authenticator.respond(OK, b"")
    assert finished(authenticator)
    assert authenticator.method == "oauth"


def test_oauth_that_the_server_refuses_is_ended_so_that_the_server_can_say_why() -> None:
    authenticator = client(token="abc", encrypted=True)
    authenticator.respond(SASL, OAUTH)
    assert sent(authenticator.respond(CONTINUE, b'{"status": "invalid_token"}')) == b"\x01"
    with pytest.raises(ProtocolError):
        authenticator.respond(OK, b"")


def test_a_token_is_not_sent_in_cleartext_either() -> None:
    with pytest.raises(InterfaceError, match="OAuth token in cleartext"):
        client(token="abc").respond(SASL, OAUTH)


@pytest.mark.parametrize("token", ["a b", "abc\x01host=other", "abc\r\n", "", "é"])
def test_what_is_no_bearer_token_is_not_sent(token: str) -> None:
    with pytest.raises(ClientConfigurationError, match="no bearer token"):
        client(token=token, encrypted=True).respond(SASL, OAUTH)


@pytest.mark.parametrize(("code", "payload"), [(CLEARTEXT, b""), (MD5, b"salt"), (SASL, SCRAM)])
def test_a_password_with_a_nul_is_not_sent(code: int, payload: bytes) -> None:
    with pytest.raises(ClientConfigurationError, match="NUL"):
        client(password="a\0b", local=True).respond(code, payload)


def test_oauth_without_a_token_says_where_to_put_one() -> None:
    with pytest.raises(ClientConfigurationError, match="oauth_token=..."):
        client(encrypted=True).respond(SASL, OAUTH)


@pytest.mark.parametrize(("code", "payload"), [(CLEARTEXT, b""), (MD5, b"salt"), (SASL, SCRAM)])
def test_without_a_password_the_error_says_where_to_put_one(code: int, payload: bytes) -> None:
    with pytest.raises(ClientConfigurationError) as caught:
        client(password=None, local=True).respond(code, payload)
    for place in ("password=", "DSN", "passfile", "PGPASSWORD", "'me'"):
        assert place in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("gssapi") is not None, reason="gssapi is installed")
def test_gssapi_needs_its_package() -> None:
    with pytest.raises(UnsupportedClientFeatureError, match="needs the package gssapi"):
        client().respond(GSS, b"")


@pytest.mark.parametrize(("code", "payload"), [(SSPI, b""), (2, b""), (6, b""), (SASL, b"SCRAM-SHA-1\0PLAIN\0\0")])
def test_methods_that_are_not_supported_are_named(code: int, payload: bytes) -> None:
    with pytest.raises(UnsupportedClientFeatureError, match="SSPI|KERBEROS|SCM|SCRAM-SHA-1, PLAIN"):
        client().respond(code, payload)


# ---- fault 14: require_auth


REQUESTS = {
    "password": (CLEARTEXT, b""),
    "md5": (MD5, b"salt"),
    "sspi": (SSPI, b""),
    "gss": (GSS, b""),
    "scram-sha-256": (SASL, SCRAM),
    "oauth": (SASL, OAUTH),
    "none": (OK, b""),
}


@pytest.mark.fault(number=14)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("negated", [False, True])
def test_only_methods_that_require_auth_leaves_are_answered(method: str, negated: bool) -> None:
    for asked, (code, payload) in REQUESTS.items():
        authenticator = client(local=True, token="t", require_auth=f"!{method}" if negated else method)
        refusal = f"(method {asked}|without authentication), which require_auth=!?{method} forbids"
        if (asked == method) is negated:
            with pytest.raises(InterfaceError, match=refusal):
                authenticator.respond(code, payload)
        else:
            try:
                authenticator.respond(code, payload)
            except UnsupportedClientFeatureError:
                assert asked in ("gss", "sspi")


@pytest.mark.fault(number=14)
def test_several_methods_may_be_left() -> None:
    for asked in ("md5", "scram-sha-256"):
        assert client(require_auth="scram-sha-256,md5").respond(*REQUESTS[asked])
    with pytest.raises(InterfaceError):
        client(require_auth="scram-sha-256,md5").respond(OK, b"")
    with pytest.raises(InterfaceError):
        client(require_auth="!md5,!none").respond(OK, b"")


# ---- fault 15: the server proves itself, in its order


@pytest.mark.fault(number=15)
def test_no_authentication_ok_before_the_server_has_proved_itself() -> None:
    server = ScramServer(PASSWORD)
    for steps in range(1, 4):
        authenticator = client()
        _, first = initial(authenticator.respond(SASL, SCRAM))
        if steps > 1:
            work = authenticator.respond(CONTINUE, server.challenge(first))
            assert isinstance(work, Work)
            if steps > 2:
                authenticator.resume(work.run())
        with pytest.raises(ProtocolError, match="in the middle of the exchange for scram-sha-256"):
            authenticator.respond(OK, b"")
        assert not finished(authenticator)


@pytest.mark.fault(number=15)
def test_a_false_signature_is_found_out() -> None:
    with pytest.raises(ProtocolError, match="signature is wrong"):
        prove(client(), ScramServer(PASSWORD, signature=b"x" * 32))


@pytest.mark.fault(number=15)
def test_a_nonce_that_does_not_extend_the_clients_is_found_out() -> None:
    with pytest.raises(ProtocolError, match="nonce"):
        prove(client(), ScramServer(PASSWORD, nonce="stale"))


@pytest.mark.fault(number=15)
def test_a_nonce_of_a_megabyte_is_refused() -> None:
    with pytest.raises(ProtocolError, match="1048576 bytes|bytes"):
        prove(client(), ScramServer(PASSWORD, nonce="x" * 2**20))


FIRST_REQUESTS = [(CLEARTEXT, b""), (MD5, b"salt"), (SASL, SCRAM)]


@pytest.mark.fault(number=15)
@pytest.mark.parametrize(
    ("first", "second"),
    list(itertools.product(FIRST_REQUESTS, [*FIRST_REQUESTS, (FINAL, b"v=x"), (GSS_CONTINUE, b"")])),
)
def test_the_server_asks_once(first: tuple[int, bytes], second: tuple[int, bytes]) -> None:
    authenticator = client(local=True)
    authenticator.respond(*first)
    with pytest.raises(ProtocolError, match="in the middle of|out of turn"):
        authenticator.respond(*second)


@pytest.mark.fault(number=15)
@pytest.mark.parametrize("request_", [(CONTINUE, b"r=x"), (FINAL, b"v=x"), (GSS_CONTINUE, b"")])
def test_nothing_goes_on_that_has_not_begun(request_: tuple[int, bytes]) -> None:
    with pytest.raises(ProtocolError, match="out of turn"):
        client().respond(*request_)


@pytest.mark.fault(number=15)
def test_after_authentication_ok_there_is_nothing_to_ask() -> None:
    for request_ in [*FIRST_REQUESTS, (OK, b""), (FINAL, b"")]:
        authenticator = client(local=True)
        authenticator.respond(OK, b"")
        with pytest.raises(ProtocolError):
            authenticator.respond(*request_)
        assert not finished(authenticator)


def test_after_an_error_nothing_counts_any_more() -> None:
    authenticator = client()
    with pytest.raises(InterfaceError):
        authenticator.respond(CLEARTEXT, b"")
    with pytest.raises(ProtocolError):
        authenticator.respond(OK, b"")
    with pytest.raises(RuntimeError):
        authenticator.resume(None)


# ---- fault 16: iterations


@pytest.mark.fault(number=16)
@pytest.mark.parametrize("iterations", [0, 10**9])
def test_absurd_iterations_are_refused_before_any_hashing(iterations: int) -> None:
    authenticator = client()
    _, first = initial(authenticator.respond(SASL, SCRAM))
    with pytest.raises(ProtocolError):
        authenticator.respond(CONTINUE, ScramServer(PASSWORD, iterations=iterations).challenge(first))


@pytest.mark.fault(number=16)
def test_the_limits_come_from_the_settings() -> None:
    with pytest.raises(ProtocolError, match="4096 SCRAM iterations, allowed are 5000 to 6000"):
        prove(client(scram_min_iterations=5000, scram_max_iterations=6000), ScramServer(PASSWORD))


# ---- fault 17: channel binding


def binding() -> bytes:
    """Return the hash of the certificate, as the server computes it."""
    return hashlib.sha256(CERTIFICATE).digest()


@pytest.mark.fault(number=17)
def test_a_server_that_offers_it_is_bound() -> None:
    for wanted in ("prefer", "require"):
        authenticator = client(encrypted=True, certificate=CERTIFICATE, channel_binding=wanted)
        server = ScramServer(PASSWORD, channel_binding=binding())
        assert prove(authenticator, server, BOTH) == "SCRAM-SHA-256-PLUS"
        assert server.gs2_header == b"p=tls-server-end-point,,"
        authenticator.respond(OK, b"")
        assert authenticator.channel_bound


@pytest.mark.fault(number=17)
def test_an_offer_that_was_taken_away_is_told_to_the_server() -> None:
    authenticator = client(encrypted=True, certificate=CERTIFICATE)
    server = ScramServer(PASSWORD)
    assert prove(authenticator, server, SCRAM) == "SCRAM-SHA-256"
    assert server.gs2_header == b"y,,"


@pytest.mark.fault(number=17)
@pytest.mark.parametrize(
    ("offered", "encrypted", "channel_binding", "header"),
    [(SCRAM, False, "prefer", b"n,,"), (BOTH, True, "disable", b"n,,"), (SCRAM, True, "disable", b"n,,")],
)
def test_without_binding(offered: bytes, encrypted: bool, channel_binding: str, header: bytes) -> None:
    authenticator = client(encrypted=encrypted, certificate=CERTIFICATE, channel_binding=channel_binding)
    server = ScramServer(PASSWORD)
    assert prove(authenticator, server, offered) == "SCRAM-SHA-256"
    assert server.gs2_header == header


@pytest.mark.fault(number=17)
@pytest.mark.parametrize(
    ("request_", "encrypted"),
    [
        ((SASL, SCRAM), True),
        ((SASL, SCRAM), False),
        ((MD5, b"salt"), True),
        ((CLEARTEXT, b""), True),
        ((SASL, OAUTH), True),
        ((GSS, b""), True),
        ((OK, b""), True),
    ],
)
def test_when_binding_is_required_nothing_else_will_do(request_: tuple[int, bytes], encrypted: bool) -> None:
    authenticator = client(encrypted=encrypted, certificate=CERTIFICATE, token="t", channel_binding="require")
    with pytest.raises(InterfaceError, match="channel_binding=require"):
        authenticator.respond(*request_)


@pytest.mark.fault(number=17)
def test_an_offer_without_tls_is_a_lie() -> None:
    with pytest.raises(ProtocolError, match="not encrypted"):
        client().respond(SASL, BOTH)


@pytest.mark.fault(number=17)
@pytest.mark.parametrize("channel_binding", ["prefer", "require"])
def test_a_certificate_without_a_hash_is_no_silent_downgrade(channel_binding: str) -> None:
    authenticator = client(encrypted=True, certificate=ED25519, channel_binding=channel_binding)
    with pytest.raises(InterfaceError, match="set channel_binding=disable"):
        authenticator.respond(SASL, BOTH)


@pytest.mark.fault(number=17)
def test_turned_off_the_certificate_does_not_matter() -> None:
    authenticator = client(encrypted=True, certificate=ED25519, channel_binding="disable")
    assert prove(authenticator, ScramServer(PASSWORD), BOTH) == "SCRAM-SHA-256"
    with pytest.raises(InterfaceError, match="SCRAM-SHA-256-PLUS alone"):
        client(encrypted=True, channel_binding="disable").respond(SASL, PLUS)


# ---- sslcertmode=require


def test_the_clients_certificate_must_have_been_asked_for() -> None:
    client(certificate_required=True, certificate_sent=True).respond(OK, b"")
    for sent_ in (False, None):
        with pytest.raises(InterfaceError, match="sslcertmode=require"):
            client(certificate_required=True, certificate_sent=sent_).respond(OK, b"")


# ---- malformed messages


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        (OK, b"x"),
        (CLEARTEXT, b"x"),
        (MD5, b""),
        (MD5, b"sal"),
        (MD5, b"salty"),
        (GSS, b"x"),
        (SASL, b""),
        (SASL, b"\0"),
        (SASL, b"\0\0"),
        (SASL, b"SCRAM-SHA-256"),
        (SASL, b"SCRAM-SHA-256\0"),
        (SASL, b"SCRAM-SHA-256\0\0PLAIN\0\0"),
        (SASL, "SCRÄM\0\0".encode()),
        (SASL, b"\x1b[31m\0\0"),
        (SASL, b"A\0" * 1_000 + b"\0"),
        (CONTINUE, b"x" * 100_000),
        (1, b""),
        (4, b""),
        (13, b""),
        (-1, b""),
        (2**31 - 1, b""),
    ],
)
def test_a_malformed_message_is_a_protocol_error(code: int, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        client(local=True).respond(code, payload)


@given(
    st.lists(
        st.tuples(st.integers(-1, 14), st.binary(max_size=40) | st.sampled_from([SCRAM, BOTH, b"", b"salt"])),
        max_size=5,
    )
)
def test_whatever_the_server_sends_is_answered_or_refused(requests: list[tuple[int, bytes]]) -> None:
    authenticator = client(encrypted=True, certificate=CERTIFICATE, token="t")
    for code, payload in requests:
        try:
            reply = authenticator.respond(code, payload)
        except (ProtocolError, InterfaceError):
            assert not finished(authenticator)
            return
        assert reply is None or isinstance(reply, (bytes, Work))
        if isinstance(reply, bytes):
            sent(reply)


def test_work_is_resumed_with_its_own_result_alone() -> None:
    authenticator = client()
    server = ScramServer(PASSWORD)
    _, first = initial(authenticator.respond(SASL, SCRAM))
    authenticator.respond(CONTINUE, server.challenge(first))
    with pytest.raises(RuntimeError):
        authenticator.resume(b"something else")


def test_the_codes_are_the_protocols() -> None:
    assert {request.name: request.value for request in AuthRequest} == {
        "OK": 0,
        "KERBEROS_V5": 2,
        "CLEARTEXT_PASSWORD": 3,
        "MD5_PASSWORD": 5,
        "SCM_CREDENTIAL": 6,
        "GSS": 7,
        "GSS_CONTINUE": 8,
        "SSPI": 9,
        "SASL": 10,
        "SASL_CONTINUE": 11,
        "SASL_FINAL": 12,
    }


@pytest.mark.fault(number=20)
def test_nothing_that_is_printed_shows_the_password() -> None:
    authenticator = client(token="abcdef")
    assert repr(authenticator) == "<Authenticator none START>"
    _, first = initial(authenticator.respond(SASL, SCRAM))
    work = authenticator.respond(CONTINUE, ScramServer(PASSWORD).challenge(first))
    for printed in (repr(authenticator), repr(vars(authenticator)), repr(work)):
        assert PASSWORD not in printed
        assert "abcdef" not in printed
