"""The channel binding data tls-server-end-point: the hash of the server's certificate (RFC 5929, section 4).

The hash function is the one of the certificate's signature, or SHA-256 if that is MD5 or SHA-1. A signature without a
hash function of its own (Ed25519, Ed448) has no such binding. Python's ssl module does not expose the signature's
algorithm, so this module reads it from the DER.
"""

from __future__ import annotations

import hashlib
from typing import Final

# Contents of the OBJECT IDENTIFIER in DER -> name for hashlib.
_RSA: Final = bytes.fromhex("2a864886f70d0101")  # 1.2.840.113549.1.1, PKCS #1 (RFC 8017, appendix C)
_ECDSA: Final = bytes.fromhex("2a8648ce3d04")  # 1.2.840.10045.4 (RFC 5758)
_NIST: Final = bytes.fromhex("6086480165030403")  # 2.16.840.1.101.3.4.3
_NIST_HASH: Final = bytes.fromhex("6086480165030402")  # 2.16.840.1.101.3.4.2, the hash functions
_RSASSA_PSS: Final = _RSA + b"\x0a"
_SIGNATURE_HASHES: Final[dict[bytes, str]] = {
    _RSA + b"\x04": "sha256",  # md5
    _RSA + b"\x05": "sha256",  # sha1
    _RSA + b"\x0b": "sha256",
    _RSA + b"\x0c": "sha384",
    _RSA + b"\x0d": "sha512",
    _RSA + b"\x0e": "sha224",
    _RSA + b"\x0f": "sha512_224",
    _RSA + b"\x10": "sha512_256",
    _ECDSA + b"\x01": "sha256",  # sha1
    _ECDSA + b"\x03\x01": "sha224",
    _ECDSA + b"\x03\x02": "sha256",
    _ECDSA + b"\x03\x03": "sha384",
    _ECDSA + b"\x03\x04": "sha512",
    bytes.fromhex("2a8648ce380403"): "sha256",  # dsa-with-sha1
    _NIST + b"\x01": "sha224",  # DSA
    _NIST + b"\x02": "sha256",
    _NIST + b"\x03": "sha384",
    _NIST + b"\x04": "sha512",
    _NIST + b"\x09": "sha3_224",  # ECDSA
    _NIST + b"\x0a": "sha3_256",
    _NIST + b"\x0b": "sha3_384",
    _NIST + b"\x0c": "sha3_512",
    _NIST + b"\x0d": "sha3_224",  # RSA
    _NIST + b"\x0e": "sha3_256",
    _NIST + b"\x0f": "sha3_384",
    _NIST + b"\x10": "sha3_512",
}
_HASHES: Final[dict[bytes, str]] = {
    bytes.fromhex("2b0e03021a"): "sha256",  # sha1
    _NIST_HASH + b"\x01": "sha256",
    _NIST_HASH + b"\x02": "sha384",
    _NIST_HASH + b"\x03": "sha512",
    _NIST_HASH + b"\x04": "sha224",
    _NIST_HASH + b"\x05": "sha512_224",
    _NIST_HASH + b"\x06": "sha512_256",
    _NIST_HASH + b"\x07": "sha3_224",
    _NIST_HASH + b"\x08": "sha3_256",
    _NIST_HASH + b"\x09": "sha3_384",
    _NIST_HASH + b"\x0a": "sha3_512",
}

_SEQUENCE: Final = 0x30
_OBJECT_IDENTIFIER: Final = 0x06
_CONTEXT_0: Final = 0xA0


class _NotDer(ValueError):
    """The bytes are not a certificate in DER."""


def tls_server_end_point(certificate: bytes) -> bytes | None:
    """Return the channel binding data for a server's certificate in DER.

    Return None if RFC 5929 defines none: the signature has no hash function or an unknown one, or the bytes are not a
    certificate.
    """
    try:
        name = _hash_name(certificate)
    except _NotDer:
        return None
    if name is None or name not in hashlib.algorithms_available:
        return None
    return hashlib.new(name, certificate).digest()


def _hash_name(certificate: bytes) -> str | None:
    """Return hashlib's name of the hash function (RFC 5280, 4.1: signatureAlgorithm is the second element)."""
    outer, _ = _element(certificate, _SEQUENCE)
    _, rest = _element(outer, _SEQUENCE)
    algorithm, _ = _element(rest, _SEQUENCE)
    oid, parameters = _element(algorithm, _OBJECT_IDENTIFIER)
    if oid == _RSASSA_PSS:
        return _pss_hash_name(parameters)
    return _SIGNATURE_HASHES.get(oid)


def _pss_hash_name(parameters: bytes) -> str | None:
    """Return the hash function in RSASSA-PSS-params. The default is SHA-1, hence SHA-256 (RFC 4055, 3.1)."""
    fields, _ = _element(parameters, _SEQUENCE)
    if not fields or fields[0] != _CONTEXT_0:
        return "sha256"
    tagged, _ = _element(fields, _CONTEXT_0)
    algorithm, _ = _element(tagged, _SEQUENCE)
    oid, _ = _element(algorithm, _OBJECT_IDENTIFIER)
    return _HASHES.get(oid)


def _element(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """Split off the first element, which must have this tag. Return its contents and the rest (X.690, 8.1)."""
    if len(der) < 2 or der[0] != tag:
        raise _NotDer
    length, start = der[1], 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or len(der) < 2 + size:
            raise _NotDer
        start += size
        length = int.from_bytes(der[2:start], "big")
    if len(der) < start + length:
        raise _NotDer
    return der[start : start + length], der[start + length :]
