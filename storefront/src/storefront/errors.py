"""What can go wrong in the storefront itself, each as one clear sentence.

Errors of the database keep the driver's own classes; these are for what the database knows nothing of. The
command line prints their text as its single line on stderr, so a message is one line and says how to mend
what it complains of.
"""

from __future__ import annotations

from enum import IntEnum

import headrace


class ExitStatus(IntEnum):
    """The exit status of the program."""

    DONE = 0
    FAILED = 1
    """The request could not be carried out."""
    BAD_USAGE = 2
    """The request makes no sense."""
    NOT_ALL_FOUND = 3
    """A batch is complete, but not every product was found."""
    INTERRUPTED = 130
    """Ctrl-C: 128 and the number of SIGINT, as shells report it."""


class StorefrontError(Exception):
    """What the storefront was asked for could not be done; the text says what and why (exit status 1)."""


class UsageError(StorefrontError):
    """The request itself makes no sense: a bad id, a missing file, options at odds (exit status 2)."""


class UnknownProductError(StorefrontError):
    """No product has this id."""

    def __init__(self, product_id: int) -> None:
        super().__init__(f"no product has the id {product_id}")
        self.product_id = product_id


class CatalogueNotEmptyError(StorefrontError):
    """Sample data was to be loaded into a catalogue that holds rows already; nothing was changed."""


class EmbeddedServerError(StorefrontError):
    """The embedded server could not be created, started or stopped."""


def reason(error: headrace.PostgresError) -> str:
    """Why the server refused, in one line: its message, and the detail that names the row."""
    # str() of an error may bring the detail along, on lines of its own.
    message = str(error).split("\n", 1)[0]
    return f"{message} ({error.detail})" if error.detail else message
