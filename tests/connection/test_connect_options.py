"""`ConnectOptions`: the options that type checkers know in the overloads of `connect()`."""

from __future__ import annotations

import inspect

import headrace
from headrace._connect.params.arguments import ConnectArguments
from headrace.connection import ConnectOptions

CLASSES = {"connection_class", "record_class"}
"""The parameters that the overloads have by themselves, because the result depends on them."""


def test_the_overloads_of_connect_take_the_options_of_connect() -> None:
    parameters = inspect.signature(headrace.connect).parameters.values()
    options = {each.name: each.annotation for each in parameters if each.kind is each.KEYWORD_ONLY}
    own = {
        name: each
        for name, each in ConnectOptions.__annotations__.items()
        if name not in ConnectArguments.__annotations__
    }
    assert {name: each.__forward_arg__ for name, each in own.items()} == {
        name: annotation for name, annotation in options.items() if name not in CLASSES
    }
