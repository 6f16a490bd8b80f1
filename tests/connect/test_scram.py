"""SCRAM-SHA-256: the exchange of RFC 7677, passwords as PostgreSQL prepares them, and servers that break the
rules."""

from __future__ import annotations

import base64
import hashlib
import hmac
import pickle
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import pq

from headrace._connect.params.secret import Secret
from headrace._connect.saslprep import saslprep
from headrace._connect.scram import Challenge, ScramClient, ScramKeys, derive_keys
from headrace.exceptions import ProtocolError

# RFC 7677, section 3.
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def begun(**options: Any) -> ScramClient:
    """Return a client that has sent its first message, as in RFC 7677."""
    client = ScramClient(username="user", nonce=NONCE, **options)
    client.client_first()
    return client


def challenged() -> ScramClient:
    """Return a client that has sent its proof too."""
    client = begun()
    client.client_final(derive_keys(Secret("pencil"), client.challenge(SERVER_FIRST)))
    return client


def test_the_exchange_of_rfc_7677() -> None:
    client = ScramClient(username="user", nonce=NONCE)
    assert client.mechanism == "SCRAM-SHA-256"
    assert client.client_first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    challenge = client.challenge(SERVER_FIRST)
    assert challenge.iterations == 4096
    assert client.client_final(derive_keys(Secret("pencil"), challenge)) == CLIENT_FINAL
    assert not client.verified
    client.verify(SERVER_FINAL)
    assert client.verified


def test_a_client_that_could_bind_says_so() -> None:
    client = ScramClient(binding_possible=True, nonce=NONCE)
    assert client.client_first() == b"y,,n=,r=" + NONCE.encode()
    final = client.client_final(derive_keys(Secret("pencil"), client.challenge(SERVER_FIRST)))
    assert final.startswith(b"c=" + base64.b64encode(b"y,,") + b",")


def test_a_client_that_binds_sends_the_binding_data_with_its_proof() -> None:
    client = ScramClient(binding=b"hash of the certificate", nonce=NONCE)
    assert client.mechanism == "SCRAM-SHA-256-PLUS"
    assert client.client_first() == b"p=tls-server-end-point,,n=,r=" + NONCE.encode()
    final = client.client_final(derive_keys(Secret("pencil"), client.challenge(SERVER_FIRST)))
    bound = base64.b64encode(b"p=tls-server-end-point,,hash of the certificate")
    assert final.startswith(b"c=" + bound + b",")


def test_every_exchange_has_a_nonce_of_its_own() -> None:
    first = {ScramClient().client_first() for _ in range(100)}
    assert len(first) == 100
    assert all(len(base64.b64decode(message.partition(b"r=")[2])) == 18 for message in first)


def test_keys_stand_in_for_the_password() -> None:
    client = begun()
    challenge = client.challenge(SERVER_FIRST)
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", challenge.salt, 4096)
    keys = ScramKeys(hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256"))
    assert client.client_final(keys) == CLIENT_FINAL


# ---- servers that break the rules


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "malformed"),
        (b"r=,s=,i=", "malformed"),
        (SERVER_FIRST.replace(b"i=4096", b"i=0"), "malformed"),
        (SERVER_FIRST.replace(b"i=4096", b"i=-1"), "malformed"),
        (SERVER_FIRST.replace(b"i=4096", b"i=1e3"), "malformed"),
        (SERVER_FIRST.replace(b"i=4096", b"i=1000000000"), "1000000000 SCRAM iterations"),
        (SERVER_FIRST.replace(b"i=4096", b"i=99999999999"), "malformed"),
        (SERVER_FIRST.replace(NONCE.encode(), b"another"), "does not extend"),
        (b"r=" + NONCE.encode() + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "does not extend"),
        (SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s="), "malformed"),
        (SERVER_FIRST.replace(b"gQ==", b"gQ="), "base64"),
        (SERVER_FIRST + b",x=extension", "malformed"),
        (b"m=mandatory," + SERVER_FIRST, "malformed"),
        (SERVER_FIRST.replace(b"hvYD", b"hv YD"), "malformed"),
        (SERVER_FIRST.replace(b"hvYD", "hvé".encode()), "malformed"),
        (SERVER_FIRST + b"\0", "malformed"),
        (SERVER_FIRST.replace(b"hvYD", b"x" * 2_000), "nonce is"),
        (SERVER_FIRST.replace(b"hvYD", b"x" * 2**20), "malformed"),
        (SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=" + b"AAAA" * 400), "salt is 1200 bytes"),
    ],
)
def test_a_first_message_that_breaks_the_rules_ends_the_exchange(message: bytes, reason: str) -> None:
    client = begun()
    with pytest.raises(ProtocolError, match=reason):
        client.challenge(message)
    with pytest.raises(ProtocolError, match="out of turn"):
        client.challenge(SERVER_FIRST)


@pytest.mark.parametrize(("least", "most", "allowed"), [(4096, 4096, True), (4097, 10_000, False), (1, 4095, False)])
def test_the_iterations_have_limits_that_can_be_set(least: int, most: int, allowed: bool) -> None:
    client = begun(min_iterations=least, max_iterations=most)
    if allowed:
        client.challenge(SERVER_FIRST)
    else:
        with pytest.raises(ProtocolError, match="scram_min_iterations, scram_max_iterations"):
            client.challenge(SERVER_FIRST)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (SERVER_FINAL.replace(b"v=6", b"v=7"), "signature is wrong"),
        (b"v=" + base64.b64encode(b"short"), "signature is wrong"),
        (b"v=====", "base64"),
        (b"", "malformed"),
        (b"v=", "malformed"),
        (SERVER_FINAL + b",x", "malformed"),
        (b"e=invalid-proof", "'invalid-proof'"),
        (b"e=" + b"x" * 200, "malformed"),
        (b"e=\x1b[31mred", "malformed"),
    ],
)
def test_a_server_that_does_not_prove_itself_is_not_verified(message: bytes, reason: str) -> None:
    client = challenged()
    with pytest.raises(ProtocolError, match=reason):
        client.verify(message)
    assert not client.verified
    with pytest.raises(ProtocolError, match="out of turn"):
        client.verify(SERVER_FINAL)


def test_messages_come_in_their_order() -> None:
    with pytest.raises(ProtocolError, match="out of turn"):
        ScramClient().challenge(SERVER_FIRST)
    with pytest.raises(ProtocolError, match="out of turn"):
        begun().verify(SERVER_FINAL)
    client = challenged()
    client.verify(SERVER_FINAL)
    with pytest.raises(ProtocolError, match="out of turn"):
        client.verify(SERVER_FINAL)


@given(st.binary(max_size=200))
def test_whatever_a_server_sends_is_a_protocol_error_or_right(message: bytes) -> None:
    for step in (begun().challenge, challenged_once().verify):
        with pytest.raises(ProtocolError):
            step(message)


def challenged_once() -> ScramClient:
    """Return a client that waits for the server's proof, made without hashing."""
    client = begun()
    client.challenge(SERVER_FIRST)
    client.client_final(ScramKeys(bytes(32), bytes(32)))
    return client


def test_keys_and_challenges_show_no_secret() -> None:
    challenge = begun().challenge(SERVER_FIRST)
    keys = derive_keys(Secret("pencil"), challenge)
    assert repr(keys) == "<ScramKeys>"
    assert repr(Secret("pencil")) == "<secret>"
    assert "%hvYDpWUa2" not in repr(challenge)
    for secret in (keys, Secret("pencil")):
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(secret)


# ---- SASLprep: what the server has hashed is what the client hashes


@pytest.fixture(scope="module")
def libpq() -> pq.abc.PGconn:
    """libpq hashes a password as the server does; without a connection it can do so all the same."""
    return pq.PGconn.connect_start(b"host=/nowhere")


def verifier_fits(verifier: str, password: str) -> bool:
    """Tell whether SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey is of this password."""
    _, costs, made = verifier.split("$")
    iterations, salt = costs.split(":")
    stored_key, server_key = (base64.b64decode(key) for key in made.split(":"))
    keys = derive_keys(Secret(password), Challenge(base64.b64decode(salt), int(iterations), b"", b""))
    return (hashlib.sha256(keys.client_key).digest(), keys.server_key) == (stored_key, server_key)


@settings(max_examples=300, deadline=None)
@given(password=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8))
@example(password="pencil")
@example(password="I\u00adX")  # the soft hyphen goes away (RFC 4013, 3)
@example(password="\u00aa")  # becomes a
@example(password="\u2168")  # becomes IX
@example(password="a\u00a0b")  # the no-break space becomes a space
@example(password="\u0007é")  # a control character: taken as it is
@example(password="\u0627\u0031")  # wrong direction: taken as it is
@example(password="\u0627\u0031\u0628")
@example(password="\u00ad")  # nothing would be left: taken as it is
@example(password="\u0221")  # not in Unicode 3.2: taken as it is
@example(password="🐘")
@example(password="\u1e9b\u0323")
@example(password="\u2f868")
def test_a_password_is_prepared_as_postgresql_prepares_it(libpq: pq.abc.PGconn, password: str) -> None:
    verifier = libpq.encrypt_password(password.encode(), b"user", b"scram-sha-256").decode()
    assert verifier_fits(verifier, password)


def test_the_examples_of_rfc_4013() -> None:
    assert saslprep("I\u00adX") == b"IX"
    assert saslprep("user") == b"user"
    assert saslprep("USER") == b"USER"
    assert saslprep("\u00aa") == b"a"
    assert saslprep("\u2168") == b"IX"


def test_what_saslprep_forbids_is_taken_as_it_is() -> None:
    assert saslprep("\u0007") == b"\x07"
    assert saslprep("\u0627\u0031") == "\u0627\u0031".encode()


def test_bytes_that_are_no_utf_8_are_taken_as_they_are() -> None:
    assert saslprep(b"\xff\xe9".decode("utf-8", "surrogateescape")) == b"\xff\xe9"
