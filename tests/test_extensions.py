"""Types of extensions: pgvector, PostGIS, hstore and citext, on servers that have them."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace import extensions
from headrace.exceptions import ArgumentError, InterfaceError, ProtocolError, UnsupportedServerFeatureError
from headrace.extensions import Hstore, Pgvector, Postgis, SparseVector

if TYPE_CHECKING:
    from tests.fixtures import MakePool
    from tests.servers import Cluster


async def installed(conn: headrace.Connection, extension: str, schema: str = "public") -> None:
    """Install an extension, or skip the test on a server that comes without it."""
    if not await conn.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = $1", extension):
        pytest.skip(f"this PostgreSQL comes without {extension}")
    await conn.execute(f"CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA {schema}")


# -- registering ----------------------------------------------------------------------------------------------------


async def test_an_extension_that_is_not_installed_names_create_extension(
    connect: Any, server: Cluster, database: str
) -> None:
    with server.database() as empty:
        conn = await connect(database=empty)
        if not await conn.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'hstore'"):
            pytest.skip("this PostgreSQL comes without hstore")
        with pytest.raises(
            UnsupportedServerFeatureError, match=f"hstore is not installed in the database {empty}"
        ) as no:
            await Hstore().register(conn)
        assert no.value.hint == "Run CREATE EXTENSION hstore in it, as a role that may."
        assert await conn.fetchval("SELECT 1") == 1
        await conn.close()


async def test_an_extension_whose_files_the_server_lacks(conn: headrace.Connection) -> None:
    class Unheard(extensions.Extension):
        extension = "unheard_of"
        typenames = ("unheard",)

    with pytest.raises(UnsupportedServerFeatureError, match="unheard_of is not installed") as raised:
        await Unheard().register(conn)
    assert "does not have its files" in str(raised.value.hint)
    assert "CREATE EXTENSION unheard_of" in str(raised.value.hint)


async def test_the_base_of_the_extensions_is_none(conn: headrace.Connection) -> None:
    with pytest.raises(TypeError, match=r"Extension\(\) has no types: write Hstore\(\), Pgvector\(\) or Postgis\(\)"):
        await extensions.Extension().register(conn)


async def test_a_pool_is_told_where_extensions_go(pool: MakePool) -> None:
    with pytest.raises(InterfaceError, match="expected to get a connection, got Pool") as raised:
        await Hstore().register(await pool())
    assert raised.value.hint == "For a pool: create_pool(codecs=[Hstore()])."


async def test_a_pool_registers_extensions_on_each_connection(conn: headrace.Connection, pool: MakePool) -> None:
    await installed(conn, "hstore")
    made = await pool(codecs=[Hstore()], min_size=2, max_size=2)
    assert await made.fetchval("SELECT 'a=>1'::hstore") == {"a": "1"}
    async with made.acquire() as one, made.acquire() as other:
        for each in (one, other):
            assert await each.fetchval("SELECT $1::hstore", {"a": None}) == {"a": None}


async def test_init_may_register_an_extension(conn: headrace.Connection, pool: MakePool) -> None:
    await installed(conn, "hstore")
    made = await pool(init=Hstore().register)
    assert await made.fetchval("SELECT 'a=>1'::hstore") == {"a": "1"}


async def test_a_lease_registers_an_extension(conn: headrace.Connection, pool: MakePool) -> None:
    await installed(conn, "hstore")
    made = await pool()
    async with made.acquire() as lease:
        await Hstore().register(lease)
        assert await lease.fetchval("SELECT 'a=>1'::hstore") == {"a": "1"}


async def test_the_schema_of_an_extension_does_not_matter(connect: Any, server: Cluster) -> None:
    with server.database() as name:
        conn = await connect(database=name)
        await conn.execute('CREATE SCHEMA "else where"')
        await installed(conn, "hstore", '"else where"')
        await Hstore().register(conn)
        assert await conn.fetchval("SELECT 'a=>1'::\"else where\".hstore") == {"a": "1"}
        await conn.close()


async def test_registering_twice_changes_nothing(conn: headrace.Connection) -> None:
    await installed(conn, "hstore")
    for _ in range(2):
        await Hstore().register(conn)
    assert await conn.fetchval("SELECT 'a=>1'::hstore") == {"a": "1"}


# -- hstore and citext ----------------------------------------------------------------------------------------------


async def test_hstore_is_a_dict_in_arrays_too(conn: headrace.Connection) -> None:
    await installed(conn, "hstore")
    await Hstore().register(conn)
    values = [{}, {"a": "1", "b": None, 'q"\\': "ä, =>"}]
    assert await conn.fetchval("SELECT $1::hstore[]", values) == values
    with pytest.raises(ArgumentError, match="expected str, got int"):
        await conn.fetchval("SELECT $1::hstore", {"a": 1})


async def test_citext_is_a_str_without_being_registered(conn: headrace.Connection) -> None:
    await installed(conn, "citext")
    assert await conn.fetchval("SELECT $1::citext = 'ABC'", "abc") is True
    assert await conn.fetchval("SELECT $1::citext[]", ["a", None]) == ["a", None]


# -- pgvector -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        [1, 2.5, -3],
        (1, 2.5, -3),
        array("f", [1, 2.5, -3]),
        array("d", [1, 2.5, -3]),
        memoryview(array("d", [1, 0, 2.5, 0, -3]))[::2],
        "[1,2.5,-3]",
    ],
    ids=["list", "tuple", "floats", "doubles", "steps", "text"],
)
@pytest.mark.parametrize("kind", ["vector", "halfvec"])
async def test_a_vector_is_a_list(conn: headrace.Connection, kind: str, value: Any) -> None:
    await installed(conn, "vector")
    await Pgvector().register(conn)
    assert await conn.fetchval(f"SELECT $1::{kind}", value) == [1.0, 2.5, -3.0]
    assert await conn.fetchval(f"SELECT $1::{kind}::text", value) == "[1,2.5,-3]"


@pytest.mark.parametrize("kind", ["vector", "halfvec"])
async def test_a_vector_may_be_an_array(conn: headrace.Connection, kind: str) -> None:
    await installed(conn, "vector")
    await Pgvector("array").register(conn)
    given = array("f", [1, 2.5, -3])
    found = await conn.fetchval(f"SELECT $1::{kind}", given)
    assert found == given
    assert found.typecode == "f"


@pytest.mark.parametrize(("kind", "dtype"), [("vector", "float32"), ("halfvec", "float16")])
async def test_a_vector_may_be_numpy_s(conn: headrace.Connection, kind: str, dtype: str) -> None:
    numpy = pytest.importorskip("numpy")
    await installed(conn, "vector")
    await Pgvector("numpy").register(conn)
    for given in (numpy.array([1, 2.5, -3], dtype), numpy.array([1, 2.5, -3]), numpy.array([1, 0, 2.5, 0, -3])[::2]):
        found = await conn.fetchval(f"SELECT $1::{kind}", given)
        assert found.dtype == dtype
        assert found.tolist() == [1, 2.5, -3]
        found[0] = 7  # it is the program's own


@pytest.mark.parametrize("vectors", ["list", "array"])
async def test_arrays_of_vectors(conn: headrace.Connection, vectors: Any) -> None:
    await installed(conn, "vector")
    await Pgvector(vectors).register(conn)
    found = await conn.fetchval("SELECT ARRAY['[1,2]', NULL, '[3,4]']::vector[]")
    assert [each and list(each) for each in found] == [[1, 2], None, [3, 4]]
    assert await conn.fetchval("SELECT $1::vector[]", found) == found


async def test_a_sparse_vector(conn: headrace.Connection) -> None:
    await installed(conn, "vector")
    await Pgvector().register(conn)
    value = SparseVector({0: 1.5, 7: -2, 3: 0}, 1000)
    assert await conn.fetchval("SELECT $1::sparsevec", value) == value
    assert await conn.fetchval("SELECT $1::sparsevec::text", value) == "{1:1.5,8:-2}/1000"
    assert await conn.fetchval("SELECT '{2:1}/3'::sparsevec") == SparseVector({1: 1}, 3)


async def test_vectors_are_copied(conn: headrace.Connection) -> None:
    await installed(conn, "vector")
    await Pgvector().register(conn)
    await conn.execute("CREATE TEMP TABLE item (id int, embedding vector(3), half halfvec(2), sparse sparsevec(4))")
    sparse = SparseVector({1: 0.5}, 4)
    await conn.copy_records_to_table("item", records=[(1, [1, 2, 3], [1, 2], sparse), (2, None, None, None)])
    rows = await conn.fetch("SELECT * FROM item ORDER BY id")
    assert [tuple(row) for row in rows] == [(1, [1, 2, 3], [1, 2], sparse), (2, None, None, None)]
    nearest = "SELECT id FROM item WHERE embedding IS NOT NULL ORDER BY embedding <-> $1 LIMIT 1"
    assert await conn.fetchval(nearest, [1, 2, 4]) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1: 2}, "expected a list, array or numpy array of numbers, got dict"),
        (b"abcd", "expected a list, array or numpy array of numbers, got bytes"),
        (7, "expected a list, array or numpy array of numbers, got int"),
        ([1, "2"], "must be real number, not str"),
        ([1, None], "must be real number, not NoneType"),
        ([], "expected 1 to 16,000 numbers, got 0"),
        ([0] * 16_001, "expected 1 to 16,000 numbers, got 16,001"),
        ("1,2", r"expected the text of a vector such as '\[1,2.5\]'"),
        (memoryview(bytes(8)).cast("B", (2, 4)), "expected one dimension, got an array of 2"),
    ],
)
async def test_a_bad_vector_is_refused_before_it_is_sent(conn: headrace.Connection, value: Any, text: str) -> None:
    await installed(conn, "vector")
    await Pgvector().register(conn)
    with pytest.raises(ArgumentError, match=text):
        await conn.fetchval("SELECT $1::vector", value)


def test_a_number_too_great_for_a_halfvec_is_refused() -> None:
    with pytest.raises(OverflowError):
        extensions.encode_half([1e6])


@pytest.mark.parametrize(
    ("decode", "data"),
    [
        (extensions.decode_vector_list, b""),
        (extensions.decode_vector_list, b"\0\2\0\0" + bytes(4)),
        (extensions.decode_vector_array, b"\0\1\0\0" + bytes(5)),
        (extensions.decode_vector_numpy, b"\xff\xff\0\0"),
        (extensions.decode_half_list, b"\0\2\0\0" + bytes(2)),
        (extensions.decode_half_array, b"\0"),
        (extensions.decode_half_numpy, b"\0\1\0\0"),
        (extensions.decode_sparse, b""),
        (extensions.decode_sparse, bytes(11)),
        (extensions.decode_sparse, b"\0\0\0\1\xff\xff\xff\xff\0\0\0\0"),
        (extensions.decode_sparse, b"\0\0\0\1\0\0\0\1\0\0\0\0" + bytes(7)),
    ],
)
def test_malformed_vectors(decode: Callable[[bytes], Any], data: bytes) -> None:
    if "numpy" in decode.__name__:
        pytest.importorskip("numpy")
    with pytest.raises(ProtocolError):
        decode(data)


def test_a_sparse_vector_is_a_value() -> None:
    value = SparseVector({7: -2, 0: 1.5}, 9)
    assert repr(value) == "SparseVector({0: 1.5, 7: -2.0}, 9)"
    assert (value.dimensions(), value.indices(), value.values()) == (9, [0, 7], [1.5, -2.0])
    assert value.to_list() == [1.5, 0, 0, 0, 0, 0, 0, -2, 0]
    assert value == SparseVector(value.to_dict(), 9) != SparseVector(value.to_dict(), 10)
    assert len({value, SparseVector(value.to_dict(), 9)}) == 1
    assert pickle.loads(pickle.dumps(value)) == value
    for index in (-1, 9):
        with pytest.raises(ValueError, match="an index is expected to be from 0 to 8"):
            SparseVector({index: 1}, 9)
    with pytest.raises(ValueError, match="dimensions is expected to be from 1"):
        SparseVector({}, 0)
    for wrong, dimensions in (({1.5: 1}, 9), ({"a": 1}, 9), ({}, "9"), ([1], 9)):
        with pytest.raises(TypeError, match="is expected to be"):
            SparseVector(wrong, dimensions)  # type: ignore[arg-type]


def test_an_element_that_is_zero_as_float4_is_left_out() -> None:
    """The server refuses it."""
    value = SparseVector({1: 2.0**-150, 2: -1e-50, 3: 2.0**-149, 4: 1}, 9)
    assert value.indices() == [3, 4]
    assert struct.unpack_from(">2f", extensions.encode_sparse(value), 20) == (2.0**-149, 1)


def test_an_unknown_form_of_vectors_is_refused() -> None:
    with pytest.raises(ValueError, match="vectors is expected to be 'list', 'array' or 'numpy', got 'tensor'"):
        Pgvector("tensor")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lacking", "call", "remedy"),
    [
        ("numpy", "Pgvector('numpy')", "pip install numpy"),
        ("shapely", "Postgis()", "pip install 'headrace[postgis]', or pass shapely=False"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(lacking: str, call: str, remedy: str) -> None:
    program = f"import sys; sys.modules[{lacking!r}] = None; from headrace.extensions import *; {call}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert remedy in done.stderr


def test_neither_numpy_nor_shapely_is_imported_without_need() -> None:
    program = "import sys; from headrace import extensions as e; e.Pgvector(); e.Postgis(shapely=False)"
    program += "; print(sys.modules.keys() & {'numpy', 'shapely'})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# -- PostGIS --------------------------------------------------------------------------------------------------------


async def test_a_geometry_is_shapely_s(conn: headrace.Connection) -> None:
    shapely = pytest.importorskip("shapely")
    await installed(conn, "postgis")
    await Postgis().register(conn)
    for text in ("POINT (1 2)", "LINESTRING Z (0 0 1, 1 1 2)", "POLYGON ((0 0, 1 0, 1 1, 0 0))", "POINT EMPTY"):
        value = shapely.from_wkt(text)
        assert await conn.fetchval("SELECT $1::geometry", value) == value
    place = shapely.set_srid(shapely.Point(-21.9, 64.1), 4326)
    found = await conn.fetchval("SELECT $1::geography", place)
    assert found == place
    assert shapely.get_srid(found) == 4326
    assert await conn.fetchval("SELECT ST_SRID($1::geometry)", place) == 4326
    assert await conn.fetchval("SELECT $1::geometry[]", [place, None]) == [place, None]
    with pytest.raises(ArgumentError, match="expected a geometry of shapely, or EWKB as bytes, got str"):
        await conn.fetchval("SELECT $1::geometry", "POINT(1 2)")


async def test_what_has_a_geo_interface_is_a_geometry(conn: headrace.Connection) -> None:
    shapely = pytest.importorskip("shapely")
    await installed(conn, "postgis")
    await Postgis().register(conn)

    class Place:
        @property
        def __geo_interface__(self) -> dict[str, Any]:
            return {"type": "Point", "coordinates": (1, 2)}

    assert await conn.fetchval("SELECT $1::geometry", Place()) == shapely.Point(1, 2)


async def test_a_geometry_is_ewkb_without_shapely(conn: headrace.Connection) -> None:
    await installed(conn, "postgis")
    await Postgis(shapely=False).register(conn)
    point = await conn.fetchval("SELECT 'SRID=4326;POINT(1 2)'::geometry")
    assert point == bytes.fromhex("0101000020e6100000000000000000f03f0000000000000040")
    assert await conn.fetchval("SELECT ST_AsEWKT($1::geometry)", point) == "SRID=4326;POINT(1 2)"
    with pytest.raises(ArgumentError, match="expected EWKB as bytes, got str"):
        await conn.fetchval("SELECT $1::geometry", "POINT(1 2)")


@pytest.mark.parametrize("has_shapely", [True, False])
def test_what_is_too_short_for_ewkb_is_not_sent(has_shapely: bool) -> None:
    """PostGIS 3.3 ends the server process on an empty value, and so all connections."""
    if has_shapely:
        pytest.importorskip("shapely")
    encode = extensions.shapely_functions()[0] if has_shapely else extensions.ewkb_of
    for short in (b"", bytearray(4), memoryview(b"")):
        with pytest.raises(ValueError, match="expected EWKB, which has 5 bytes or more, got"):
            encode(short)
    assert encode(bytes(5)) == bytes(5)
