"""Drop root's privileges, tie this process to its parent's life, and replace it by a PostgreSQL program.

PostgreSQL refuses to run as root, and a server must not outlive the command that started it. Both must be arranged in
the new process between fork and exec. A multi-threaded Python parent must not run its own code there, so this file is
run as a program: `python launcher.py --parent PID [--user UID GID] [--reach PATH]... -- PROGRAM [ARGUMENT]...`. It
imports nothing from the package.

It does three things, the last two on Linux only:

1. With --user, the process becomes that user permanently.
2. If that user cannot reach a PATH, for example because it is below /root, the process keeps one capability,
   CAP_DAC_OVERRIDE, as an ambient capability (capabilities(7)). The process is still not root, which is all that
   PostgreSQL checks, and no file's mode is changed. initdb checks with access(2) that it can run its sibling
   `postgres`. The kernel ignores capabilities in this check unless the secure bit NO_SETUID_FIXUP is set, so it is set.
3. The kernel sends the process SIGINT when its parent dies (prctl(2), PR_SET_PDEATHSIG). A postmaster takes that as a
   fast shutdown ("Shutting Down the Server"), so a killed parent leaves no server behind.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys

# From <linux/prctl.h>, <linux/capability.h> and <linux/securebits.h>.
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAP_SETPCAP = 8
SECBIT_NO_SETUID_FIXUP = 1 << 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522

CANNOT_LAUNCH = 126
"""The exit status if the program was not started. stderr says why."""


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilitySet(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def _linux(function: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError with its errno if it does not return 0."""
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")


def become(uid: int, gid: int, *, keep_capabilities: bool) -> None:
    """Change to uid and gid permanently, without supplementary groups."""
    if keep_capabilities:
        # Capabilities are kept in the permitted set only. The effective set is cleared, so os.access() in launch()
        # answers for the user without capabilities.
        _linux("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def override_file_modes() -> None:
    """Keep CAP_DAC_OVERRIDE, and nothing else, across the next exec. Raises OSError if that is forbidden."""
    _hold(1 << CAP_DAC_OVERRIDE | 1 << CAP_SETPCAP)
    _linux("prctl", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    _hold(1 << CAP_DAC_OVERRIDE)
    _linux("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def _hold(mask: int) -> None:
    """Set the permitted, effective and inheritable capabilities to exactly these."""
    header = _CapabilityHeader(LINUX_CAPABILITY_VERSION_3, 0)
    sets = (_CapabilitySet * 2)(_CapabilitySet(mask, mask, mask), _CapabilitySet(0, 0, 0))
    _linux("capset", ctypes.byref(header), ctypes.byref(sets))


def die_with(parent: int) -> None:
    """Let the kernel send SIGINT to this process when the process `parent` ends. Exit now if it has already ended."""
    # This must follow the change of user, which clears the setting.
    _linux("prctl", PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(CANNOT_LAUNCH)


def launch(command: list[str], *, parent: int, user: tuple[int, int] | None, reach: list[str]) -> None:
    """Prepare this process as the module's docstring says, then replace it by `command`. Raises OSError on failure."""
    linux = sys.platform == "linux"
    if user is not None:
        become(*user, keep_capabilities=linux)
        shut_out = [path for path in reach if not os.access(path, os.R_OK | os.X_OK)]
        if shut_out and linux:
            override_file_modes()
        elif shut_out:
            raise OSError(f"user id {user[0]} cannot enter {shut_out[0]}")
    if linux:
        die_with(parent)
    os.execv(command[0], command)


def main() -> None:
    """Read the command line and launch. On failure print one line on stderr and exit with status 126."""
    parser = argparse.ArgumentParser(prog="launcher")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--user", type=int, nargs=2, metavar=("UID", "GID"))
    parser.add_argument("--reach", action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    user = (options.user[0], options.user[1]) if options.user else None
    try:
        launch(options.command, parent=options.parent, user=user, reach=options.reach)
    except OSError as error:
        print(f"cannot start {options.command[0]}: {error}", file=sys.stderr)
        sys.exit(CANNOT_LAUNCH)


if __name__ == "__main__":
    main()
