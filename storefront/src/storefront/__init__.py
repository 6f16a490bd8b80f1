"""An online shop's product catalogue on headrace.

Each command of the program `storefront` is a function here. The functions take a connection or a pool of headrace, or
the DSN of a database. They do not depend on the command line. `EmbeddedServer` starts a server to try them on.
"""

from storefront.batch import ProductBatch, Strategy, answer
from storefront.benchmark import BenchmarkQuery, Measurement, Plan, Way, bench
from storefront.brands import (
    BrandWithColor,
    add_brand_with_color,
    add_brands,
    add_brands_by_hand,
    remove_brands,
)
from storefront.catalogue import look_up, parse_product_id
from storefront.checkpoint import Checkpoint, Tally
from storefront.database import create_database, open_connection
from storefront.embedded import EmbeddedServer
from storefront.errors import (
    CatalogueNotEmptyError,
    EmbeddedServerError,
    StorefrontError,
    UnknownProductError,
    UsageError,
)
from storefront.iteration import take
from storefront.loading import Loaded, Method, load
from storefront.orders import Order, OrderLine
from storefront.rows import RowWriter
from storefront.sample import Sample, read_words
from storefront.schema import create_schema
from storefront.search import search
from storefront.stream import export, stream_catalogue
from storefront.timing import timed
from storefront.tour import demo

__version__ = "0.1.0"

__all__ = [
    "BenchmarkQuery",
    "BrandWithColor",
    "CatalogueNotEmptyError",
    "Checkpoint",
    "EmbeddedServer",
    "EmbeddedServerError",
    "Loaded",
    "Measurement",
    "Method",
    "Order",
    "OrderLine",
    "Plan",
    "ProductBatch",
    "RowWriter",
    "Sample",
    "StorefrontError",
    "Strategy",
    "Tally",
    "UnknownProductError",
    "UsageError",
    "Way",
    "add_brand_with_color",
    "add_brands",
    "add_brands_by_hand",
    "answer",
    "bench",
    "create_database",
    "create_schema",
    "demo",
    "export",
    "load",
    "look_up",
    "open_connection",
    "parse_product_id",
    "read_words",
    "remove_brands",
    "search",
    "stream_catalogue",
    "take",
    "timed",
]
