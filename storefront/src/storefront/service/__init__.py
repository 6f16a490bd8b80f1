"""The catalogue over HTTP, for partners' programs: `storefront serve`.

Begin with `application`, which puts the parts together, and `service`, which has what all requests share. `api` has the
addresses below /v1.
"""

from importlib import import_module


def missing_library() -> str | None:
    """Return the name of a library that the service needs and that is not installed, or None."""
    try:
        import_module("storefront.service.server")
    except ModuleNotFoundError as error:
        return error.name
    return None
