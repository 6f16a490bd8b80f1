"""Run a PostgreSQL program without root's privileges, for as long as somebody needs it.

PostgreSQL refuses to run as root, and a server must not outlive the commands that use it. A multi-threaded Python
parent must not run its own code between fork and exec, so this file is run as a program:
`python launcher.py (--parent PID | --users FD) [--user UID GID] [--reach PATH]... -- PROGRAM [ARGUMENT]...`. It imports
nothing from the package.

With --parent, this process is replaced by the program, which ends with its parent. With --users, the program is a child
of this process and runs until the last command that uses it has ended. Each of them holds a shared flock(2) on a file.
FD is open on the same file, and the exclusive lock is granted when all of them are gone, even if they were killed.
Then the program gets SIGINT, which is a fast shutdown for a postmaster. The lock is held until the program has ended,
so that no command begins to use it meanwhile.

Three things are done first, the last two on Linux only:

1. With --user, the process becomes that user permanently.
2. If that user cannot reach a PATH, for example because it is below /root, the process keeps one capability,
   CAP_DAC_OVERRIDE, as an ambient capability (capabilities(7)). The process is still not root, which is all that
   PostgreSQL checks, and no file's mode is changed. initdb checks with access(2) that it can run its sibling
   `postgres`. The kernel ignores capabilities in this check unless the secure bit NO_SETUID_FIXUP is set, so it is set.
3. The kernel sends the program SIGINT when its parent dies (prctl(2), PR_SET_PDEATHSIG). A postmaster takes that as a
   fast shutdown ("Shutting Down the Server"), so a killed launcher leaves no server behind.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from contextlib import suppress

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

STOP_TIMEOUT = 30.0
"""The number of seconds that the program may take to end, before it is told so more firmly."""


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


def prepare(user: tuple[int, int] | None, reach: list[str]) -> None:
    """Become the user of the program, who must be able to reach some paths. Raises OSError if that is impossible."""
    if user is None:
        return
    linux = sys.platform == "linux"
    become(*user, keep_capabilities=linux)
    shut_out = [path for path in reach if not os.access(path, os.R_OK | os.X_OK)]
    if shut_out and linux:
        override_file_modes()
    elif shut_out:
        raise OSError(f"user id {user[0]} cannot enter {shut_out[0]}")


def execute(command: list[str], *, parent: int) -> None:
    """Replace this process by a program that ends with its parent. Raises OSError on failure."""
    if sys.platform == "linux":
        die_with(parent)
    os.execv(command[0], command)


def supervise(command: list[str], users: int) -> int:
    """Run a program until it ends or nobody uses it any more. Return its exit status."""
    # If it was ignored, which is inherited, the program's exit status would not be kept.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    launcher = os.getpid()
    program = os.fork()
    if program == 0:
        # The lock would be held for as long as the program has the file open.
        os.set_inheritable(users, False)
        _execute_or_exit(command, launcher)

    def end_without_users() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        with suppress(ProcessLookupError):
            for request in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                os.kill(program, request)
                time.sleep(STOP_TIMEOUT)

    # Two threads, because a signal that tells of the program's end is lost if it comes right before the wait for the
    # lock. The thread that has forked lives as long as this process: the program ends with it (PR_SET_PDEATHSIG).
    threading.Thread(target=end_without_users, daemon=True).start()
    return os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])


def _execute_or_exit(command: list[str], parent: int) -> None:
    try:
        execute(command, parent=parent)
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(CANNOT_LAUNCH)


def main() -> None:
    """Read the command line and launch. On failure print one line on stderr and exit with status 126."""
    parser = argparse.ArgumentParser(prog="launcher")
    lifetime = parser.add_mutually_exclusive_group(required=True)
    lifetime.add_argument("--parent", type=int)
    lifetime.add_argument("--users", type=int, metavar="FD")
    parser.add_argument("--user", type=int, nargs=2, metavar=("UID", "GID"))
    parser.add_argument("--reach", action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    try:
        prepare((options.user[0], options.user[1]) if options.user else None, options.reach)
        if options.users is None:
            execute(options.command, parent=options.parent)
        status = supervise(options.command, options.users)
    except OSError as error:
        print(f"cannot start {options.command[0]}: {error}", file=sys.stderr)
        sys.exit(CANNOT_LAUNCH)
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
