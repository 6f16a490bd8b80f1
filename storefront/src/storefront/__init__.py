"""An online shop's product catalogue on headrace.

Each command of the program `storefront` is a function here. The functions take a connection or a pool of headrace, or
the DSN of a database. They do not depend on the command line. `EmbeddedServer` starts a server to try them on.
"""

from storefront.batch import Answered, ProductBatch, Strategy, answer, answers
from storefront.benchmark import BenchmarkQuery, Measurement, Plan, Way, bench
from storefront.brands import (
    BrandWithColor,
    add_brand_with_color,
    add_brands,
    add_brands_by_hand,
    remove_brands,
)
from storefront.catalogue import look_up, parse_product_id
from storefront.catalogue_file import CatalogueFile, CatalogueLine, RefusedLine
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
from storefront.formats import Compression, Encoder, Format, encoder
from storefront.importing import ImportReport, import_catalogue
from storefront.iteration import take
from storefront.loading import Loaded, Method, load
from storefront.orders import InputFormat, Order, OrderLine, lines_of, open_order
from storefront.reports import Problem, ProblemKind, ReportFile
from storefront.rows import RowWriter
from storefront.sample import Sample, read_words
from storefront.schema import create_schema
from storefront.search import search
from storefront.stream import export, stream_catalogue
from storefront.timing import timed
from storefront.tour import demo

__version__ = "0.1.0"

__all__ = [
    "Answered",
    "BenchmarkQuery",
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
    "lines_of",
    "load",
    "look_up",
    "open_connection",
    "open_order",
    "parse_product_id",
    "read_words",
    "remove_brands",
    "search",
    "stream_catalogue",
    "take",
    "timed",
]
