"""Subinterpreters: each one loads copies of the compiled modules, and has connections of its own.

The programs run in processes of their own, because a mistake here would crash the process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import headrace
from headrace._subinterpreters import CopyLoader, copied

if TYPE_CHECKING:
    from tests.servers import Cluster

PATIENCE = 120.0

needs_subinterpreters = pytest.mark.skipif(sys.version_info < (3, 13), reason="needs Python 3.13 or newer")

both_kinds = pytest.mark.parametrize("kind", ["isolated", "legacy"])
"""With a GIL of its own, and with the GIL of the main interpreter."""

# CPython 3.13 crashes if subinterpreters import datetime at the same time, unless the main interpreter has imported it
# (https://github.com/python/cpython/issues/136423).
BEGIN = """
    import datetime, os, sys, threading, _interpreters

    dsn = sys.argv[1]

    def run(interpreter, code):
        failed = _interpreters.run_string(interpreter, code, shared={"dsn": dsn})
        assert failed is None, failed.formatted

    WORK = '''
    import asyncio, datetime, decimal, headrace

    async def work(pool):
        found = await asyncio.gather(*(pool.fetchval("SELECT $1::int + 1", i) for i in range(200)))
        assert found == list(range(1, 201))
        row = await pool.fetchrow("SELECT date '2020-01-02' AS day, 1.50 AS price, ARRAY[1, 2] AS list")
        assert row == (datetime.date(2020, 1, 2), decimal.Decimal("1.50"), [1, 2])
        assert isinstance(row, headrace.Record)
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("CREATE TEMP TABLE t (a int, b text) ON COMMIT DROP")
            await connection.copy_records_to_table("t", records=[(i, str(i)) for i in range(1000)])
            assert [row["a"] async for row in connection.cursor("TABLE t ORDER BY a")] == list(range(1000))
        try:
            await pool.fetch("SELECT 1/0")
        except headrace.DivisionByZeroError as error:
            assert error.sqlstate == "22012"

    async def main(dsn):
        async with headrace.create_pool(dsn, min_size=1, max_size=2) as pool:
            for _ in range(5):
                await work(pool)
    '''
    WORK = __import__("textwrap").dedent(WORK)
"""


async def run(program: str, *args: str, temporary: Path, begin: str = BEGIN) -> tuple[int, str]:
    """Run a program with a directory for temporary files; return its exit status and what it wrote."""
    text = textwrap.dedent(begin) + textwrap.dedent(program)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "faulthandler", "-c", text, *args,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            written, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, written.decode()


@needs_subinterpreters
@both_kinds
@pytest.mark.slow
async def test_four_interpreters_have_a_pool_each_at_the_same_time(
    server: Cluster, database: str, tmp_path: Path, kind: str
) -> None:
    program = f"""
        def one():
            interpreter = _interpreters.create({kind!r})
            run(interpreter, WORK + "asyncio.run(main(dsn))")
            _interpreters.destroy(interpreter)
            done.append(interpreter)

        done = []
        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        exec(WORK)
        asyncio.run(main(dsn))  # the main interpreter as well
        for thread in threads:
            thread.join()
        assert len(done) == 4
    """
    assert await run(program, server.dsn(database), temporary=tmp_path) == (0, "")


@needs_subinterpreters
@both_kinds
@pytest.mark.slow
async def test_interpreters_in_turn_leave_no_file(server: Cluster, database: str, tmp_path: Path, kind: str) -> None:
    program = f"""
        before = len(os.listdir("/dev/fd"))
        for _ in range(8):
            interpreter = _interpreters.create({kind!r})
            run(interpreter, WORK + "asyncio.run(main(dsn))")
            _interpreters.destroy(interpreter)
            assert os.listdir(os.environ["TMPDIR"]) == []
            assert len(os.listdir("/dev/fd")) == before
    """
    assert await run(program, server.dsn(database), temporary=tmp_path) == (0, "")


@needs_subinterpreters
async def test_an_interpreter_that_ends_with_an_open_pool(server: Cluster, database: str, tmp_path: Path) -> None:
    program = """
        interpreter = _interpreters.create("isolated")
        run(interpreter, '''if True:
            import asyncio, headrace, warnings
            warnings.simplefilter("ignore")

            async def main():
                global pool, kept
                pool = await headrace.create_pool(dsn, min_size=1, max_size=1)
                kept = await pool.fetch("SELECT i, i::text, now() FROM generate_series(1, 1000) i")

            asyncio.run(main())
        ''')
        _interpreters.destroy(interpreter)
        print("destroyed")
    """
    assert await run(program, server.dsn(database), temporary=tmp_path) == (0, "destroyed\n")


@needs_subinterpreters
async def test_a_module_that_is_no_copy_is_refused(tmp_path: Path) -> None:
    program = """
        interpreter = _interpreters.create("isolated")
        run(interpreter, '''if True:
            import importlib.util, sys
            import headrace._subinterpreters
            sys.meta_path = [each for each in sys.meta_path if type(each).__name__ != "Copies"]
            del sys.modules["headrace._core.wire.buffer"]
            try:
                import headrace._core.wire.buffer
            except ImportError as error:
                assert "does not support loading in subinterpreters" in str(error), error
            else:
                raise AssertionError("imported")
        ''')
        _interpreters.destroy(interpreter)
    """
    assert await run(program, "", temporary=tmp_path) == (0, "")


@needs_subinterpreters
async def test_modules_name_their_own_files(tmp_path: Path) -> None:
    program = """
        code = "import headrace._core.wire.buffer as b; assert b.__file__ == b.__spec__.origin == file, b.__file__"
        import headrace._core.wire.buffer
        interpreter = _interpreters.create("isolated")
        run(interpreter, f"file = {headrace._core.wire.buffer.__file__!r}; {code}")
        _interpreters.destroy(interpreter)
    """
    assert await run(program, "", temporary=tmp_path) == (0, "")


@needs_subinterpreters
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
async def test_a_process_that_is_killed_while_it_imports_leaves_no_file(tmp_path: Path) -> None:
    program = """
        run(_interpreters.create("isolated"), '''if True:
            import importlib.machinery, os, signal

            def create_module(self, spec):
                assert os.path.exists(spec.origin)
                os.kill(os.getpid(), signal.SIGKILL)

            importlib.machinery.ExtensionFileLoader.create_module = create_module
            import headrace
        ''')
    """
    assert await run(program, "", temporary=tmp_path) == (-signal.SIGKILL, "")
    assert list(tmp_path.iterdir()) == []


@needs_subinterpreters
async def test_without_files_in_memory_a_temporary_directory_is_used(
    server: Cluster, database: str, tmp_path: Path
) -> None:
    program = """
        interpreter = _interpreters.create("isolated")
        run(interpreter, "import os; os.__dict__.pop('memfd_create', None)")
        run(interpreter, WORK + "asyncio.run(main(dsn))")
        _interpreters.destroy(interpreter)
    """
    assert await run(program, server.dsn(database), temporary=tmp_path) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.version_info < (3, 14), reason="needs Python 3.14 or newer")
async def test_concurrent_interpreters(server: Cluster, database: str, tmp_path: Path) -> None:
    program = """
        from concurrent import interpreters
        from concurrent.futures import InterpreterPoolExecutor

        interpreter = interpreters.create()
        interpreter.prepare_main(dsn=dsn)
        interpreter.exec(WORK + "asyncio.run(main(dsn))")
        interpreter.close()
        with InterpreterPoolExecutor(max_workers=4) as executor:
            calls = [executor.submit(exec, WORK + "asyncio.run(main(dsn))", {"dsn": dsn}) for _ in range(8)]
            for call in calls:
                call.result()
    """
    assert await run(program, server.dsn(database), temporary=tmp_path) == (0, "")


# The copies, in any Python

MODULE = str(headrace._core.wire.buffer.__file__)  # type: ignore[attr-defined]


@pytest.fixture(params=["in memory", "in a directory"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if request.param == "in a directory":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("needs Linux")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("place")
def test_a_copy_is_another_file_and_goes_with_the_block(tmp_path: Path) -> None:
    with copied(MODULE) as one, copied(MODULE) as other:
        assert Path(one).read_bytes() == Path(MODULE).read_bytes()
        assert len({(os.stat(path).st_dev, os.stat(path).st_ino) for path in (MODULE, one, other)}) == 3
        assert one != other
    assert list(tmp_path.iterdir()) == []
    assert not os.path.exists(one)


def test_equal_descriptors_have_different_paths() -> None:
    with copied(MODULE) as one:
        kept = os.open(one, os.O_RDONLY)
    try:
        with copied(MODULE) as other:
            assert one != other
    finally:
        os.close(kept)


def test_no_place_for_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    loader = CopyLoader("headrace._core.wire.buffer", MODULE)
    with pytest.raises(ImportError, match="environment variable TMPDIR") as caught:
        loader.create_module(headrace._core.wire.buffer.__spec__)  # type: ignore[attr-defined]
    assert isinstance(caught.value.__cause__, OSError)
