"""Register the built-in codecs: importing this module imports each group of types once."""

# These modules export nothing to Python, so they have no stubs.
# mypy: disable-error-code="import-not-found"

import headrace._core.codecs.bits
import headrace._core.codecs.boolean
import headrace._core.codecs.bytea
import headrace._core.codecs.datetime
import headrace._core.codecs.floats
import headrace._core.codecs.geometry
import headrace._core.codecs.integers
import headrace._core.codecs.interval
import headrace._core.codecs.json
import headrace._core.codecs.macaddr
import headrace._core.codecs.network
import headrace._core.codecs.numeric
import headrace._core.codecs.system
import headrace._core.codecs.text
import headrace._core.codecs.text_only
import headrace._core.codecs.uuid

# isort: split

# Arrays, ranges and records of the types above.
import headrace._core.codecs.builtin_containers  # noqa: F401
