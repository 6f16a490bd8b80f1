"""The differences between POSIX and Windows that connecting meets. `_core/wire/platform.h` has those of the C code.

Type checkers read the module for both systems. On Linux the tests also run the part for Windows.

Source: PostgreSQL documentation, "The Password File", "The Connection Service File" and "Client Verification of Server
Certificates" name the files on each system.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from collections.abc import Mapping
from typing import Final

if sys.platform == "win32":
    UNIX_SOCKETS: Final = False
    AF_UNIX: Final = -1
    """No address family has this number."""
    SOCKET_PATH_MAX: Final = 0
    READ_FLAGS: Final = os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT
    APPEND_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_BINARY | os.O_NOINHERIT
    PASSFILE: Final = "pgpass.conf"
    CERTIFICATES: Final = ""
    DEFAULT_HOSTS: Final[tuple[str, ...]] = ("localhost",)
    """Tried if no host is given."""

    def home(environ: Mapping[str, str]) -> str | None:
        """Return the directory of the user's files, %APPDATA%\\postgresql; None if the system knows none."""
        return os.path.join(environ["APPDATA"], "postgresql") if environ.get("APPDATA") else None

    def user_name() -> str | None:
        """Return the system's name for the user; None if it has none."""
        try:
            return os.getlogin()
        except OSError:
            return None

    def open_to_others(status: os.stat_result, *, root_may_share: bool = False) -> bool:
        """Return whether others than the owner may use a file. Always False: its mode does not say."""
        return False

    def peer_user(sock: socket.socket) -> str | None:
        """Return the user at the other end of a Unix socket; None if the system cannot tell."""
        return None

else:
    import pwd

    UNIX_SOCKETS: Final = True
    AF_UNIX: Final = socket.AF_UNIX
    # sizeof(sun_path) - 1 on Linux and, four bytes less, on macOS and the BSDs.
    SOCKET_PATH_MAX: Final = 107 if sys.platform == "linux" else 103
    # O_NONBLOCK: opening a pipe would wait for its writer.
    READ_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    APPEND_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    PASSFILE: Final = ".pgpass"
    CERTIFICATES: Final = ".postgresql"
    DEFAULT_HOSTS: Final[tuple[str, ...]] = (
        "/run/postgresql",
        "/var/run/postgresql",
        "/tmp",
        "/private/tmp",
        "localhost",
    )
    """Tried if no host is given: the usual socket directories, as in asyncpg, then localhost."""

    # struct ucred of Linux: process, user and group.
    _CREDENTIALS: Final = struct.Struct("3i")

    def home(environ: Mapping[str, str]) -> str | None:
        """Return the user's home directory; None if the system knows none."""
        if environ.get("HOME"):
            return environ["HOME"]
        try:
            return pwd.getpwuid(os.geteuid()).pw_dir or None
        except KeyError:
            return None

    def user_name() -> str | None:
        """Return the system's name for the effective user, as libpq and psql do; None if it has none."""
        try:
            return pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            return None

    def open_to_others(status: os.stat_result, *, root_may_share: bool = False) -> bool:
        """Return whether others than the owner may use a file. `root_may_share`: a group may read a file of root's."""
        if root_may_share and status.st_uid == 0:
            return bool(status.st_mode & (stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO))
        return bool(status.st_mode & (stat.S_IRWXG | stat.S_IRWXO))

    def peer_user(sock: socket.socket) -> str | None:
        """Return the user at the other end of a Unix socket, "uid N" without a name; None if the system cannot tell."""
        if sys.platform != "linux":
            return None
        uid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1]
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"
