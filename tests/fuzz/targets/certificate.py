"""The server's certificate, where channel binding finds the name of a hash function: it does, or does not."""

from __future__ import annotations

from collections.abc import Iterable

from headrace._connect.channel_binding import tls_server_end_point
from tests.fuzz.target import Target

RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
PSS_SHA512 = bytes.fromhex("301e06092a864886f70d01010a3011a00f300d06096086480165030402030500")


def certificate(algorithm: bytes) -> bytes:
    """Return what is a certificate as far as this is looked at: the two elements before the signature."""
    body = b"\x30\x03\x02\x01\x01" + algorithm + b"\x03\x01\0"
    return b"\x30\x81" + bytes((len(body),)) + body


class Certificate(Target):
    """See above."""

    name = "certificate"
    share = 0.25
    words = (
        b"\x30",
        b"\x06",
        b"\xa0",
        b"\x80",
        b"\x81\xff",
        b"\x84\x7f\xff\xff\xff",
        b"\x84\xff\xff\xff\xff",
        RSA_SHA256,
        PSS_SHA512,
    )

    def seeds(self) -> Iterable[bytes]:
        return [certificate(algorithm) for algorithm in (RSA_SHA256, ECDSA_SHA384, PSS_SHA512)]

    def run(self, data: bytes) -> object:
        found = tls_server_end_point(data)
        return None if found is None else len(found)
