"""The errors of the storefront, and the exit status of the program.

Errors of the database keep the driver's classes. The classes here are for problems that the database does not know
about. The command line prints the text of an error as one line on stderr, so a message is one line and says how to
fix the problem.
"""

from __future__ import annotations

import errno
from enum import IntEnum

import headrace
from storefront.wording import counted


class ExitStatus(IntEnum):
    """The exit status of the program."""

    DONE = 0
    FAILED = 1
    """The request could not be carried out."""
    BAD_USAGE = 2
    """The request makes no sense. `batch` also ends so if a repetition of the command cannot help; see `is_lasting`."""
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


class DamagedInputError(UsageError):
    """A file that is read is damaged or cut off."""


class CannotResumeError(UsageError):
    """A batch cannot be continued from its checkpoint, because a file is not as it was."""


class LastingError(Exception):
    """Carries an error that a repetition of the command cannot mend to the command line (exit status 2)."""


class NoCatalogueError(StorefrontError):
    """There is no embedded server yet."""


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


_LASTING_CLASSES = ("0A", "22", "28", "3D", "3F", "42")
"""Classes of SQLSTATE: a feature, a value, a password, a database, a schema, and a table or a right that is missing.

Source: PostgreSQL documentation, appendix "PostgreSQL Error Codes".
"""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EAGAIN)


def is_lasting(error: Exception) -> bool:
    """Return whether the same command fails in the same way until somebody changes something.

    A server that cannot be reached, and a disk that is full, are not lasting.
    """
    match error:
        case UsageError() | NoCatalogueError() | EmbeddedServerError():
            return True
        case headrace.PostgresError():
            return (error.sqlstate or "")[:2] in _LASTING_CLASSES
        case headrace.InterfaceError():
            # The DSN has a mistake.
            return isinstance(error, ValueError)
        case OSError():
            # The file has the wrong rights, its directory is missing, or its name is too long.
            return error.filename is not None and error.errno not in _FULL
        case _:
            return False


def reason(error: headrace.PostgresError) -> str:
    """Return why the server refused, in one line: the message and, if there is one, the detail that names the row."""
    # str() of an error may append the detail on further lines.
    message = str(error).split("\n", 1)[0]
    return f"{message} ({error.detail})" if error.detail else message
