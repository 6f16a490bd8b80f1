"""A Kerberos key distribution centre of MIT Kerberos (Debian's krb5-kdc and krb5-admin-server) on a loopback port.

with Kdc(tmp_path) as kdc:
    kdc.add("alice", "alice.keytab")
    ...with kdc.environment() in os.environ, for clients and servers alike...
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.postmaster import free_port, until

REALM = "HEADRACE.TEST"

PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local")

_KRB5_CONF = """\
[libdefaults]
default_realm = {realm}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
[realms]
{realm} = {{
    kdc = 127.0.0.1:{port}
}}
[dbmodules]
db_module_dir = {modules}
"""

_KDC_CONF = """\
[kdcdefaults]
kdc_listen = 127.0.0.1:{port}
kdc_tcp_listen = 127.0.0.1:{port}
[realms]
{realm} = {{
    database_name = {directory}/principal
    key_stash_file = {directory}/stash
    acl_file = {directory}/acl
}}
"""


def find(program: str) -> str | None:
    """Return the path of a program; that of an administrator may be outside of an ordinary PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [program for program in PROGRAMS if find(program) is None]


class Kdc:
    """A realm with a database of its own; gone when the `with` block is left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        kdc = find("krb5kdc")
        assert kdc is not None
        # The database's module lies where the program was installed.
        modules = next(Path(kdc).parent.parent.glob("lib/*/krb5/plugins/kdb"), "")
        port = free_port()
        values = {"realm": REALM, "port": port, "directory": self.directory, "modules": modules}
        (self.directory / "krb5.conf").write_text(_KRB5_CONF.format(**values))
        (self.directory / "kdc.conf").write_text(_KDC_CONF.format(**values))
        self._run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
        self._process = subprocess.Popen(
            [kdc, "-n"], env={**os.environ, **self.environment()}, stdin=subprocess.DEVNULL
        )
        until(lambda: self._answers(port), "the KDC starts", within=20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def environment(self) -> dict[str, str]:
        """Return the variables that make a process belong to the realm."""
        return {"KRB5_CONFIG": str(self.directory / "krb5.conf"), "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf")}

    def add(self, principal: str, keytab: Path) -> None:
        """Make a principal with a random key, and put that into a keytab."""
        self._run("kadmin.local", "-r", REALM, "-q", f"addprinc -randkey {principal}")
        self._run("kadmin.local", "-r", REALM, "-q", f"ktadd -k {keytab} {principal}")

    def _run(self, program: str, *arguments: str) -> None:
        path = find(program)
        assert path is not None
        subprocess.run(
            [path, *arguments], check=True, capture_output=True, env={**os.environ, **self.environment()}, timeout=60
        )

    def _answers(self, port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
