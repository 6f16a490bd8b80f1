"""Files that people write: passfiles and service files, read from a file of their own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable

from headrace import exceptions
from headrace._connect.params.options import OPTIONS
from headrace._connect.params.passfile import find_password
from headrace._connect.params.servicefile import read_service
from tests.fuzz.target import Target


class _OwnFile:
    """A file that is written anew for each input, in each process another one."""

    def __init__(self) -> None:
        self._owner = 0
        self._descriptor = -1
        self.path = ""

    def write(self, data: bytes) -> str:
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._descriptor, self.path = tempfile.mkstemp()
            os.unlink(self.path)
            self.path = f"/proc/self/fd/{self._descriptor}"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)
        return self.path


class Passfile(Target):
    """A passfile never raises: a password comes of it, or none."""

    name = "passfile"
    share = 0.02
    words = (
        b"*",
        b":",
        b"\\",
        b"\\:",
        b"#",
        b"\r\n",
        b"\n",
        b"localhost",
        b"5432",
        b"database",
        b"user",
        b"\xff",
        b"::1",
    )

    def __init__(self) -> None:
        self._file = _OwnFile()

    def seeds(self) -> Iterable[bytes]:
        yield b"# comment\nlocalhost:5432:database:user:secret\n"
        yield b"other:*:*:*:no\n*:*:*:*:se\\:cr\\\\et:rest"
        yield b"::1:5432:database:user:pw\r\n\\:\\:1:*:database:*:pw\n"

    def run(self, data: bytes) -> object:
        found = find_password(self._file.write(data), ("localhost", "::1"), 5432, "database", "user")
        if found is None:
            return False
        assert "\n" not in found.reveal()
        return len(found.reveal()).bit_length()


class Servicefile(Target):
    """A service file: the options of the service come of it, or ClientConfigurationError."""

    name = "servicefile"
    share = 0.02
    allowed = (exceptions.ClientConfigurationError,)
    words = (
        *(f"{name}=x".encode() for name in OPTIONS),
        *(
            b"[",
            b"]",
            b"[mine]",
            b"[other]",
            b"#",
            b"=",
            b" ",
            b"\n",
            b"\r\n",
            b"\xff",
            b"\0",
            b"service=",
            b"ldap://x",
        ),
    )

    def __init__(self) -> None:
        self._file = _OwnFile()

    def seeds(self) -> Iterable[bytes]:
        yield b"# comment\n[other]\nhost=a\n[mine]\nhost=b\nport=5433\n\ndbname=d\n[third]\nuser=x\n"
        yield b"[mine]\npassword=p w\nsslmode=require\noptions=-c a=b\n"
        yield b"[mine]\r\nuser =x\r\n"

    def run(self, data: bytes) -> object:
        found = read_service("mine", self._file.write(data), {})
        assert set(found) <= set(OPTIONS)
        return tuple(found)
