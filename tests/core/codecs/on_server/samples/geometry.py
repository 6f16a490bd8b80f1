"""The geometric types."""

from __future__ import annotations

from hypothesis import strategies as st

from headrace import Box, Circle, Line, LineSegment, Path, Point, Polygon
from tests.core.codecs.on_server import literals
from tests.core.codecs.on_server.samples.sample import Sample

INFINITY = float("inf")
EPSILON = 1e-6
"""Below which the server takes a coefficient of a line for zero (geo_decls.h)."""

COORDINATES = st.floats(allow_nan=False)
POINTS = st.builds(Point, COORDINATES, COORDINATES)
POINT_LISTS = st.lists(POINTS, min_size=1, max_size=5)

A_POINT = Point(1.5, -0.0)


def by_corners(value: Box) -> Box:
    """Return what box holds: the upper right corner and the lower left one, of whichever two were given."""
    (x1, y1), (x2, y2) = value.high, value.low
    if x1 < x2:
        x1, x2 = x2, x1
    if y1 < y2:
        y1, y2 = y2, y1
    return Box(Point(x1, y1), Point(x2, y2))


GEOMETRY = [
    Sample("point", POINTS, literals.point, edges=(A_POINT, Point(INFINITY, -INFINITY), Point(float("nan"), 0))),
    Sample(
        "line",
        st.builds(Line, COORDINATES, COORDINATES, COORDINATES).filter(
            lambda line: abs(line.A) > EPSILON or abs(line.B) > EPSILON
        ),
        literals.line,
        edges=(Line(1, 0, 0), Line(0, -1, 2.5)),
    ),
    Sample("lseg", st.builds(LineSegment, POINTS, POINTS), literals.segment, edges=(LineSegment(A_POINT, A_POINT),)),
    Sample(
        "box",
        st.builds(Box, POINTS, POINTS),
        literals.box,
        edges=(Box((0, 1), (1, 0)), Box((1, 1), (1, 1))),
        returned=by_corners,
        delimiter=";",
    ),
    Sample(
        "path",
        st.builds(lambda points, closed: Path(*points, is_closed=closed), POINT_LISTS, st.booleans()),
        literals.path,
        edges=(Path(A_POINT), Path(A_POINT, is_closed=True)),
    ),
    Sample("polygon", POINT_LISTS.map(lambda points: Polygon(*points)), literals.path, edges=(Polygon(A_POINT),)),
    Sample(
        "circle",
        st.builds(Circle, POINTS, st.floats(min_value=0)),
        literals.circle,
        edges=(Circle(A_POINT, 0), Circle((0, 0), INFINITY)),
    ),
]
