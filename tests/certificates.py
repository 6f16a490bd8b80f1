"""A certificate authority for tests, made with the openssl program: real files, as users have them.

authority = Authority(tmp_path)
server = authority.issue("server", names=["localhost"])     # server.certificate, server.key
authority.revoke(authority.issue("stolen"))
authority.revoked()                                          # a list of revoked certificates
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KEYS: dict[str, list[str]] = {
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ec": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ed25519": ["-algorithm", "ED25519"],
    "ed448": ["-algorithm", "ED448"],
}
"""Kinds of keys -> arguments of `openssl genpkey`."""

_CONFIGURATION = """\
[ca]
default_ca = authority
[authority]
new_certs_dir = {directory}
database = {directory}/index.txt
serial = {directory}/serial
crlnumber = {directory}/crlnumber
certificate = {directory}/root.crt
private_key = {directory}/root.key
default_md = {digest}
default_days = 30
default_crl_days = 30
policy = anything
unique_subject = no
copy_extensions = copy
[anything]
commonName = supplied
[req]
distinguished_name = nothing
[nothing]
[authority_extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""


def openssl(*arguments: str | Path) -> bytes:
    """Run openssl and return what it prints; RuntimeError, with what it complains of, where it fails."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {' '.join(map(str, arguments))}:\n{done.stderr.decode()}")
    return done.stdout


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as files in PEM; the key has mode 0600."""

    certificate: Path
    key: Path

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return openssl("x509", "-in", self.certificate, "-outform", "DER")


class Authority:
    """A certificate authority in a directory of its own, with `root.crt` to trust."""

    def __init__(self, directory: Path, *, key: str = "ec", digest: str = "sha256") -> None:
        """Make the authority's key and its own certificate. `key` and `digest` are what it signs with."""
        self._directory = directory
        self._signs_itself = key in ("ed25519", "ed448")
        directory.mkdir(exist_ok=True)
        self._configuration = directory / "openssl.cnf"
        digest = "default" if self._signs_itself else digest
        self._configuration.write_text(_CONFIGURATION.format(directory=directory, digest=digest))
        (directory / "index.txt").touch()
        (directory / "serial").write_text("1000\n")
        (directory / "crlnumber").write_text("1000\n")
        self.root = directory / "root.crt"
        root_key = self._make_key("root", key)
        openssl(
            *("req", "-x509", "-config", self._configuration, "-extensions", "authority_extensions"),
            *("-key", root_key, "-subj", "/CN=Authority for tests", "-days", "30", "-out", self.root),
        )

    def _make_key(self, name: str, kind: str) -> Path:
        path = self._directory / f"{name}.key"
        openssl("genpkey", *KEYS[kind], "-out", path)
        path.chmod(0o600)
        return path

    def issue(
        self,
        name: str,
        *,
        names: Sequence[str] = (),
        addresses: Sequence[str] = (),
        common_name: str | None = None,
        key: str = "ec",
        expired: bool = False,
        pss: bool = False,
    ) -> Issued:
        """Issue a certificate for the given host names and IP addresses, in files called `name`.

        `common_name` is `name` unless given. `expired`: it was good until some years ago. `pss`: signed by RSASSA-PSS,
        for authorities with an RSA key.
        """
        made = Issued(self._directory / f"{name}.crt", self._make_key(name, key))
        request = self._directory / f"{name}.csr"
        also = [*(f"DNS:{each}" for each in names), *(f"IP:{each}" for each in addresses)]
        extensions = ["-addext", f"subjectAltName={','.join(also)}"] if also else []
        openssl(
            *("req", "-new", "-config", self._configuration, "-key", made.key, "-subj", f"/CN={common_name or name}"),
            *extensions,
            *("-out", request),
        )
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"] if expired else []
        padding = ["-sigopt", "rsa_padding_mode:pss"] if pss else []
        openssl(
            *("ca", "-batch", "-notext", "-config", self._configuration),
            *dates,
            *padding,
            *("-in", request, "-out", made.certificate),
        )
        return made

    def revoke(self, issued: Issued) -> None:
        """Revoke a certificate: the next `revoked()` names it."""
        openssl("ca", "-config", self._configuration, "-revoke", issued.certificate)

    def revoked(self) -> Path:
        """Write the list of revoked certificates and return its path."""
        path = self._directory / "root.crl"
        openssl("ca", "-config", self._configuration, "-gencrl", "-out", path)
        return path
