"""The names of the storefront: a reader who meets one of them never takes it for a name of the driver."""

from __future__ import annotations

import importlib
import pkgutil

import headrace
import storefront


def public_names() -> dict[str, str]:
    """Return every public class and function that a module of the storefront defines, with that module."""
    names = {}
    for found in pkgutil.walk_packages(storefront.__path__, "storefront."):
        if found.name == "storefront.__main__":
            continue
        for name, value in vars(importlib.import_module(found.name)).items():
            if not name.startswith("_") and getattr(value, "__module__", None) == found.name:
                names[name] = found.name
    return names


def test_no_name_is_also_a_name_of_the_driver() -> None:
    drivers = set(headrace.__all__)
    assert {name: module for name, module in public_names().items() if name in drivers} == {}
    assert drivers.isdisjoint(storefront.__all__)
