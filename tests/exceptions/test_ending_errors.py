"""Errors by which the server ends the connection: what the server says, and the loss of the connection, in one."""

from __future__ import annotations

import copy
import pickle

import pytest

from headrace import exceptions
from headrace.exceptions import PostgresError, ending_error

SERVERS = [
    cls for cls in vars(exceptions).values() if isinstance(cls, type) and issubclass(cls, exceptions.PostgresError)
]


@pytest.mark.parametrize("sqlstate", ["57P01", "57P05", "25P03", "40001", "08P01", "08003", "58000", "99999", None])
def test_it_is_caught_as_either(sqlstate: str | None) -> None:
    said = PostgresError.new({"M": "over", "D": "why", **({"C": sqlstate} if sqlstate else {})})
    kind = type(said)
    error = ending_error(said)
    assert error is said
    assert isinstance(error, kind)
    assert isinstance(error, exceptions.ConnectionDoesNotExistError)
    assert error.sqlstate == sqlstate
    assert type(error).__name__ == kind.__name__
    assert str(error) == "over\nDETAIL:  why"


@pytest.mark.parametrize("kind", [exceptions.PostgresError, exceptions.PostgresConnectionError])
def test_a_base_of_the_loss_becomes_the_loss(kind: type[exceptions.PostgresError]) -> None:
    error = ending_error(kind("over"))
    assert type(error) is exceptions.ConnectionDoesNotExistError
    assert error.sqlstate == kind.sqlstate


@pytest.mark.parametrize("kind", SERVERS)
def test_every_class_can_be_combined_pickled_and_copied(kind: type[exceptions.PostgresError]) -> None:
    error = ending_error(kind("over"))
    error.safe_to_retry = True
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (again.args, again.sqlstate, again.safe_to_retry) == (("over",), kind.sqlstate, True)


def test_it_is_one_class_for_each() -> None:
    first, second = (ending_error(exceptions.AdminShutdownError("over")) for _ in range(2))
    assert type(first) is type(second)
    assert exceptions.PostgresError.get_message_class_for_sqlstate("57P01") is exceptions.AdminShutdownError


def test_a_programs_own_class_that_cannot_be_combined_stays_as_it_is() -> None:
    class Sealed(exceptions.AdminShutdownError):
        def __init_subclass__(cls, **kwargs: object) -> None:
            raise TypeError("no subclasses")

    error = ending_error(Sealed("over"))
    assert type(error) is Sealed
    assert error.sqlstate == "57P01"
