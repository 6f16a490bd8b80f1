"""Check that this machine can build headrace. If it cannot, print what to install.

`make` runs this first, with any `python3`, so it uses only the standard library and syntax of Python 3.8. The exit
status is 0 on success, 1 with a message on stderr otherwise.

Environment: CC names the C compiler, as for any other extension module.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile

NEEDED = (3, 11)

PROGRAM = "#include <Python.h>\nint main(void) { return PY_MAJOR_VERSION == 3 ? 0 : 1; }\n"


def python_problem() -> str:
    """Return the problem with this Python's version, or an empty string."""
    if sys.version_info >= NEEDED:
        return ""
    needed, found = (".".join(map(str, version[:2])) for version in (NEEDED, sys.version_info))
    return f"Python {needed} is needed; {sys.executable} is {found}. To use another: make PYTHON=python3.13"


def venv_problem() -> str:
    """Return what is missing for `python3 -m venv`, or an empty string."""
    try:
        # Debian ships venv without ensurepip in python3, and both in python3-venv.
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        return f"Python's venv module is incomplete: {error}"
    return ""


def compiler() -> list[str]:
    """Return the command of the C compiler that setuptools will use."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def compiler_problem() -> str:
    """Return what is missing to compile an extension module, or an empty string."""
    command = compiler()
    if shutil.which(command[0]) is None:
        return f"there is no C compiler: {command[0]} is not found"
    include = sysconfig.get_paths()["include"]
    if not os.path.exists(os.path.join(include, "Python.h")):
        return f"Python's header files are missing: there is no {include}/Python.h"
    with tempfile.TemporaryDirectory() as directory:
        source = os.path.join(directory, "preflight.c")
        with open(source, "w") as file:
            file.write(PROGRAM)
        compile_it = [*command, "-I" + include, "-c", source, "-o", os.path.join(directory, "preflight.o")]
        try:
            done = subprocess.run(compile_it, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except OSError as error:
            return f"the C compiler {command[0]} cannot be run: {error}"
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace").strip() or "it prints nothing"
        return f"the C compiler {' '.join(command)} cannot compile a program with Python.h:\n{output}"
    return ""


def remedies() -> list[tuple[str, str]]:
    """Return known systems, each with the command that installs the requirements."""
    # Debian's own python3 needs python3-dev; another one, installed as python3.13, needs python3.13-dev.
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    debian = "python3" if os.path.basename(os.path.realpath("/usr/bin/python3")) == "python" + version else ""
    python = debian or ("python" + version if sys.version_info >= NEEDED else "python3")
    return [
        ("Debian, Ubuntu", f"sudo apt-get install gcc libc6-dev {python}-dev {python}-venv"),
        ("Fedora, RHEL", f"sudo dnf install gcc {python}-devel"),
        ("macOS", "xcode-select --install; and a Python from python.org or `brew install python`"),
    ]


def main() -> int:
    """Check everything; print all problems at once, with the remedy for each system."""
    problems = [problem for problem in (python_problem(), venv_problem(), compiler_problem()) if problem]
    if not problems:
        return 0
    lines = ["headrace cannot be built here:"]
    lines.extend("  - " + problem.replace("\n", "\n    ") for problem in problems)
    lines.append("To install what is needed:")
    lines.extend(f"  {system + ':':<16}{command}" for system, command in remedies())
    print("\n".join(lines), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
