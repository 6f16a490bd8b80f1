"""Register every codec with a fixed OID: importing this module imports each family of types once."""

# The families show nothing to Python and so have no stubs.
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

# What is made of the types above.
import headrace._core.codecs.builtin_containers  # noqa: F401
