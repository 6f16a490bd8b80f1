"""tls-server-end-point: the hash of the server's certificate, for every kind of signature (RFC 5929, 4.1)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._connect.channel_binding import tls_server_end_point
from tests.certificates import Authority


@pytest.mark.parametrize(
    ("key", "signature", "pss", "expected"),
    [
        ("rsa", "md5", False, "sha256"),
        ("rsa", "sha1", False, "sha256"),
        ("rsa", "sha224", False, "sha224"),
        ("rsa", "sha256", False, "sha256"),
        ("rsa", "sha384", False, "sha384"),
        ("rsa", "sha512", False, "sha512"),
        ("rsa", "sha512-256", False, "sha512_256"),
        ("rsa", "sha3-384", False, "sha3_384"),
        ("rsa", "sha1", True, "sha256"),
        ("rsa", "sha256", True, "sha256"),
        ("rsa", "sha384", True, "sha384"),
        ("ec", "sha1", False, "sha256"),
        ("ec", "sha256", False, "sha256"),
        ("ec", "sha384", False, "sha384"),
        ("ec", "sha512", False, "sha512"),
        ("ec", "sha3-256", False, "sha3_256"),
    ],
)
def test_the_hash_is_the_one_of_the_signature(
    tmp_path: Path, key: str, signature: str, pss: bool, expected: str
) -> None:
    issued = Authority(tmp_path, key=key, digest=signature).issue("server", pss=pss)
    assert tls_server_end_point(issued.der) == hashlib.new(expected, issued.der).digest()


@pytest.mark.parametrize("key", ["ed25519", "ed448"])
def test_a_signature_without_a_hash_has_no_binding(tmp_path: Path, key: str) -> None:
    issued = Authority(tmp_path, key=key).issue("server")
    assert tls_server_end_point(issued.der) is None


def test_it_is_the_authoritys_signature_that_counts(tmp_path: Path) -> None:
    # The server's own key is Ed25519, but its certificate is signed with ECDSA and SHA-384.
    issued = Authority(tmp_path, key="ec", digest="sha384").issue("server", key="ed25519")
    assert tls_server_end_point(issued.der) == hashlib.sha384(issued.der).digest()


def test_a_certificate_that_was_cut_off_has_no_binding(tmp_path: Path) -> None:
    der = Authority(tmp_path).issue("server").der
    assert all(tls_server_end_point(der[:length]) is None for length in range(len(der)))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_certificate_have_no_binding(data: bytes) -> None:
    assert tls_server_end_point(data) is None
