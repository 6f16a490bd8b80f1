"""Any bytes give a value, a ProtocolError or an error of the value, and memory stays small."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode
from headrace.exceptions import ProtocolError

SCALARS = [
    *[
        16,
        17,
        18,
        19,
        20,
        21,
        23,
        25,
        26,
        27,
        28,
        29,
        114,
        142,
        650,
        700,
        701,
        705,
        774,
        790,
        829,
        869,
        1042,
        1043,
    ],
    *[1560, 1562, 1700, 1790, 2275, 2278, 2950, 2970, 3220, 3614, 3802, 4072, 5038, 5069, 6437],
]


@pytest.mark.parametrize("oid", SCALARS)
@given(data=st.binary(max_size=40))
def test_any_bytes(oid: int, data: bytes) -> None:
    try:
        decode(oid, data)
    except ProtocolError:
        pass
    except UnicodeDecodeError as error:
        assert "is not UTF-8" in error.reason  # noqa: PT017


@pytest.mark.parametrize(
    ("oid", "wire"),
    [
        pytest.param(1700, "ffff7fff00003fff", id="numeric of 65,535 digits"),
        pytest.param(1562, "7fffffff", id="varbit of 2**31 - 1 bits"),
        pytest.param(5038, "7fffffff" + "00" * 16, id="pg_snapshot of 2**31 - 1 transactions"),
    ],
)
def test_what_is_promised_is_not_allocated(oid: int, wire: str) -> None:
    data = bytes.fromhex(wire)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode(oid, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
