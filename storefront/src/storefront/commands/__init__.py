"""The commands of the program, one module each.

A module defines `app`, a `typer.Typer` with one command, or a named one with a group of them. The command declares its
options, calls a function of the package, and shows the outcome. COMMANDS lists every module's `app`.
"""

from storefront.commands import (
    batch,
    bench,
    brands,
    demo,
    export,
    import_,
    init,
    load,
    lookup,
    partners,
    search,
    serve,
    work,
)

COMMANDS = (
    init.app,
    load.app,
    import_.app,
    lookup.app,
    search.app,
    batch.app,
    export.app,
    bench.app,
    serve.app,
    work.app,
    demo.app,
    brands.app,
    partners.app,
)
"""In the order in which `storefront --help` lists them."""
