"""An online shop's product catalogue on headrace.

Each command of the program `storefront` is a function here. The functions take a connection or a pool of headrace, or
the DSN of a database. They do not depend on the command line. `EmbeddedServer` starts a server to try them on.

A name is imported from its module when it is first used, so a command loads only what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storefront.batch import Answered, ProductBatch, Strategy, answer, answers
    from storefront.benchmark import BenchmarkQuery, Measurement, Plan, Way, bench
    from storefront.brands import (
        BrandWithColor,
        add_brand_with_color,
        add_brands,
        add_brands_by_hand,
        list_brands,
        remove_brand,
        remove_brands,
        rename_brand,
    )
    from storefront.catalogue import look_up, parse_product_id
    from storefront.catalogue_file import CatalogueFile, CatalogueLine, RefusedLine
    from storefront.checkpoint import Checkpoint, Tally
    from storefront.database import create_database, open_connection
    from storefront.embedded import EmbeddedServer
    from storefront.errors import (
        BrandHasProductsError,
        BrandNameTakenError,
        CatalogueNotEmptyError,
        EmbeddedServerError,
        StorefrontError,
        UnknownBrandError,
        UnknownProductError,
        UsageError,
    )
    from storefront.formats import Compression, Encoder, Format, encoder
    from storefront.importing import ImportReport, import_catalogue
    from storefront.iteration import take
    from storefront.loading import Loaded, Method, load
    from storefront.orders import InputFormat, Order, OrderLine, lines_of, open_order
    from storefront.reports import Problem, ProblemKind, ReportFile
    from storefront.rows import RowWriter
    from storefront.sample import Sample, read_words
    from storefront.schema import create_schema
    from storefront.searching import search
    from storefront.stream import export, stream_catalogue
    from storefront.timing import timed
    from storefront.tour import demo

__version__ = "0.1.0"

__all__ = [
    "Answered",
    "BenchmarkQuery",
    "BrandHasProductsError",
    "BrandNameTakenError",
    "BrandWithColor",
    "CatalogueFile",
    "CatalogueLine",
    "CatalogueNotEmptyError",
    "Checkpoint",
    "Compression",
    "EmbeddedServer",
    "EmbeddedServerError",
    "ImportReport",
    "Encoder",
    "Format",
    "InputFormat",
    "Loaded",
    "Measurement",
    "Method",
    "Order",
    "OrderLine",
    "Plan",
    "Problem",
    "ProblemKind",
    "ProductBatch",
    "RefusedLine",
    "ReportFile",
    "RowWriter",
    "Sample",
    "StorefrontError",
    "Strategy",
    "Tally",
    "UnknownBrandError",
    "UnknownProductError",
    "UsageError",
    "Way",
    "add_brand_with_color",
    "add_brands",
    "add_brands_by_hand",
    "answer",
    "answers",
    "bench",
    "create_database",
    "create_schema",
    "demo",
    "encoder",
    "export",
    "import_catalogue",
    "list_brands",
    "lines_of",
    "load",
    "look_up",
    "open_connection",
    "open_order",
    "parse_product_id",
    "read_words",
    "remove_brand",
    "remove_brands",
    "rename_brand",
    "search",
    "stream_catalogue",
    "take",
    "timed",
]

_NAMES = {
    "batch": ("Answered", "ProductBatch", "Strategy", "answer", "answers"),
    "benchmark": ("BenchmarkQuery", "Measurement", "Plan", "Way", "bench"),
    "brands": (
        "BrandWithColor",
        "add_brand_with_color",
        "add_brands",
        "add_brands_by_hand",
        "list_brands",
        "remove_brand",
        "remove_brands",
        "rename_brand",
    ),
    "catalogue": ("look_up", "parse_product_id"),
    "catalogue_file": ("CatalogueFile", "CatalogueLine", "RefusedLine"),
    "checkpoint": ("Checkpoint", "Tally"),
    "database": ("create_database", "open_connection"),
    "embedded": ("EmbeddedServer",),
    "errors": (
        "BrandHasProductsError",
        "BrandNameTakenError",
        "CatalogueNotEmptyError",
        "EmbeddedServerError",
        "StorefrontError",
        "UnknownBrandError",
        "UnknownProductError",
        "UsageError",
    ),
    "formats": ("Compression", "Encoder", "Format", "encoder"),
    "importing": ("ImportReport", "import_catalogue"),
    "iteration": ("take",),
    "loading": ("Loaded", "Method", "load"),
    "orders": ("InputFormat", "Order", "OrderLine", "lines_of", "open_order"),
    "reports": ("Problem", "ProblemKind", "ReportFile"),
    "rows": ("RowWriter",),
    "sample": ("Sample", "read_words"),
    "schema": ("create_schema",),
    "searching": ("search",),
    "stream": ("export", "stream_catalogue"),
    "timing": ("timed",),
    "tour": ("demo",),
}
"""The names of each module, as type checkers see them above."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a name from its module at its first use."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"storefront.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
