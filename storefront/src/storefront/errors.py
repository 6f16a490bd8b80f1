"""The errors of the storefront, and the exit status of the program.

Errors of the database keep the driver's classes. The classes here are for problems that the database does not know
about. The command line prints the text of an error as one line on stderr, so a message is one line and says how to
fix the problem.
"""

from __future__ import annotations

from enum import IntEnum

import headrace
from storefront.wording import counted


class ExitStatus(IntEnum):
    """The exit status of the program."""

    DONE = 0
    FAILED = 1
    """The request could not be carried out."""
    BAD_USAGE = 2
    """The request makes no sense."""
    NOT_ALL_FOUND = 3
    """A batch is complete, but not every product was found. An import is complete, but some lines were refused."""
    INTERRUPTED = 130
    """Ctrl-C: 128 and the number of SIGINT, as shells report it."""
    TERMINATED = 143
    """SIGTERM: 128 and its number."""


class StorefrontError(Exception):
    """A request could not be carried out. The text says which one and why (exit status 1)."""


class UsageError(StorefrontError):
    """A request makes no sense: a bad id, a missing file, contradictory options (exit status 2)."""


class UnknownProductError(StorefrontError):
    """No product has this id."""

    def __init__(self, product_id: int) -> None:
        super().__init__(f"no product has the id {product_id}")
        self.product_id = product_id


class UnknownBrandError(StorefrontError):
    """No brand has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no brand has the name {name!r}")
        self.name = name


class BrandNameTakenError(StorefrontError):
    """A brand cannot be renamed, because another one has the name. Nothing was changed."""


class BrandHasProductsError(StorefrontError):
    """A brand cannot be removed, because there are products of it. Nothing was changed."""

    def __init__(self, name: str, products: int) -> None:
        has = f"the brand {name!r} has {counted(products, 'product')}"
        super().__init__(f"{has}, so nothing was removed: --move-products-to BRAND gives them to another")
        self.name = name
        self.products = products


class CatalogueNotEmptyError(StorefrontError):
    """Sample data cannot be loaded because the catalogue already holds rows. Nothing was changed."""


class EmbeddedServerError(StorefrontError):
    """The embedded server could not be created, started or stopped."""


def reason(error: headrace.PostgresError) -> str:
    """Return why the server refused, in one line: the message and, if there is one, the detail that names the row."""
    # str() of an error may append the detail on further lines.
    message = str(error).split("\n", 1)[0]
    return f"{message} ({error.detail})" if error.detail else message
