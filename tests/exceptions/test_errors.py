"""Exceptions: their classes, what they hold and print, and how they come from the server's messages."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from headrace import exceptions
from headrace.exceptions import PostgresError, PostgresLogMessage
from tools.generate_errors import SOURCE, read_conditions

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [getattr(exceptions, name) for name in exceptions.__all__]
RAISABLE = [cls for cls in CLASSES if issubclass(cls, BaseException)]

UNIQUE_VIOLATION = {
    "S": "FEHLER",
    "V": "ERROR",
    "C": "23505",
    "M": 'duplicate key value violates unique constraint "x_pkey"',
    "D": "Key (a)=(1) already exists.",
    "s": "public",
    "t": "x",
    "n": "x_pkey",
    "F": "nbtinsert.c",
    "L": "664",
    "R": "_bt_check_unique",
}
"""An ErrorResponse as a server sends it."""


class TestClasses:
    @pytest.mark.parametrize("name", asyncpg.exceptions.__all__)
    def test_every_exception_of_asyncpg_is_here_with_its_sqlstate_and_bases(self, name: str) -> None:
        theirs = getattr(asyncpg.exceptions, name)
        ours = getattr(exceptions, name)
        assert getattr(ours, "sqlstate", None) == getattr(theirs, "sqlstate", None)
        assert [base.__name__ for base in ours.__mro__] == [base.__name__ for base in theirs.__mro__]

    def test_every_sqlstate_of_the_server_has_a_class(self) -> None:
        conditions = read_conditions(SOURCE.read_text(encoding="utf-8"))
        listed = {condition.sqlstate for condition in conditions if condition.level != "S"}
        assert len(listed) > 250
        assert listed == {cls.sqlstate for cls in CLASSES if getattr(cls, "sqlstate", None)}

    def test_the_generated_module_is_up_to_date(self) -> None:
        tool = [sys.executable, str(ROOT / "tools" / "generate_errors.py"), "--check"]
        assert subprocess.run(tool, check=False).returncode == 0

    @pytest.mark.parametrize("cls", CLASSES)
    def test_a_class_names_itself_by_where_users_find_it(self, cls: type) -> None:
        assert cls.__module__ == "headrace.exceptions"
        assert getattr(exceptions, cls.__name__) is cls

    @pytest.mark.parametrize("cls", RAISABLE)
    @pytest.mark.parametrize("again", [lambda v: pickle.loads(pickle.dumps(v)), copy.copy, copy.deepcopy])
    def test_a_pickle_or_a_copy_is_the_same(self, cls: type[BaseException], again: Callable[[Any], Any]) -> None:
        error = cls("what happened")
        error.__dict__.update(hint="what to do", safe_to_retry=True)
        twin = again(error)
        assert type(twin) is cls
        assert twin.args == error.args
        assert twin.__dict__ == error.__dict__
        assert str(twin) == str(error)

    @pytest.mark.parametrize(
        ("name", "builtin"), [("ArgumentError", ValueError), ("ClientConfigurationError", ValueError)]
    )
    def test_a_wrong_value_is_a_value_error(self, name: str, builtin: type[Exception]) -> None:
        with pytest.raises(builtin):
            raise getattr(exceptions, name)("wrong")

    def test_an_argument_error_is_caught_as_data_error_and_interface_error(self) -> None:
        error = exceptions.ArgumentError("argument $1", detail="a list", hint="Pass one value.")
        assert isinstance(error, exceptions.DataError)
        assert isinstance(error, exceptions.InterfaceError)
        assert error.as_dict() == {"sqlstate": "22000", "detail": "a list", "hint": "Pass one value."}
        assert str(error) == "argument $1\nDETAIL:  a list\nHINT:  Pass one value."

    def test_a_missing_password_is_caught_as_a_wrong_one_and_as_a_wrong_configuration(self) -> None:
        error = exceptions.MissingPasswordError("none is given", hint="Give password=...")
        assert isinstance(error, exceptions.InvalidPasswordError)
        assert isinstance(error, exceptions.ClientConfigurationError)
        assert error.as_dict() == {"sqlstate": "28P01", "hint": "Give password=..."}
        assert str(error) == "none is given\nHINT:  Give password=..."


class TestErrors:
    def test_every_field_becomes_an_attribute(self) -> None:
        codes = {code: code * 2 for code in "SVCMDHPpqWstcdnFLR"}
        error = PostgresError.new(codes, "select 1")
        assert error.as_dict() == {
            "severity": "SS",
            "severity_en": "VV",
            "sqlstate": "CC",
            "message": "MM",
            "detail": "DD",
            "hint": "HH",
            "position": "PP",
            "internal_position": "pp",
            "internal_query": "qq",
            "context": "WW",
            "schema_name": "ss",
            "table_name": "tt",
            "column_name": "cc",
            "data_type_name": "dd",
            "constraint_name": "nn",
            "server_source_filename": "FF",
            "server_source_line": "LL",
            "server_source_function": "RR",
        }
        assert error.query == "select 1"
        assert error.args == ("MM",)

    def test_a_field_that_was_not_sent_is_none(self) -> None:
        error = PostgresError.new(UNIQUE_VIOLATION)
        assert error.hint is None
        assert error.position is None
        assert error.query is None
        assert "hint" not in error.as_dict()

    def test_it_prints_message_detail_and_hint(self) -> None:
        assert str(PostgresError.new(UNIQUE_VIOLATION)) == (
            'duplicate key value violates unique constraint "x_pkey"\nDETAIL:  Key (a)=(1) already exists.'
        )
        assert str(PostgresError.new({"M": "no", "H": "Try again."})) == "no\nHINT:  Try again."
        assert repr(PostgresError.new({"C": "57014", "M": "no", "H": "Try again."})) == "QueryCanceledError('no')"

    def test_what_the_server_sent_survives_a_pickle(self) -> None:
        error = PostgresError.new(UNIQUE_VIOLATION, "insert into x values (1)")
        twin = pickle.loads(pickle.dumps(error))
        assert type(twin) is exceptions.UniqueViolationError
        assert twin.as_dict() == error.as_dict()
        assert twin.query == error.query

    @pytest.mark.parametrize(
        ("fields", "cls"),
        [
            (UNIQUE_VIOLATION, exceptions.UniqueViolationError),
            ({"C": "23000"}, exceptions.IntegrityConstraintViolationError),
            ({"C": "42P01"}, exceptions.UndefinedTableError),
            ({"C": "57P01", "S": "FATAL"}, exceptions.AdminShutdownError),
            ({"C": "0A000", "M": "no such thing"}, exceptions.FeatureNotSupportedError),
            ({"C": "0A000", "R": "RevalidateCachedQuery"}, exceptions.InvalidCachedStatementError),
            (
                {"C": "0A000", "M": "cached plan must not change result type"},
                exceptions.InvalidCachedStatementError,
            ),
            ({"C": "42601", "R": "RevalidateCachedQuery"}, exceptions.PostgresSyntaxError),
        ],
    )
    def test_the_sqlstate_says_the_class(self, fields: dict[str, str], cls: type) -> None:
        assert type(PostgresError.new(fields)) is cls

    def test_an_unknown_sqlstate_of_a_known_class_is_an_error_of_that_class(self) -> None:
        error = PostgresError.new({"C": "23ZZZ", "M": "no"})
        assert type(error) is exceptions.IntegrityConstraintViolationError
        assert error.sqlstate == "23ZZZ"

    @pytest.mark.parametrize("sqlstate", ["ZZ001", "00000", "01000", "02000"])
    def test_an_error_with_no_class_of_its_own_is_a_postgres_error_all_the_same(self, sqlstate: str) -> None:
        # A function may RAISE EXCEPTION with any SQLSTATE, that of success or of a warning among them.
        error = PostgresError.new({"C": sqlstate, "M": "no"})
        assert type(error) is exceptions.UnknownPostgresError
        assert error.sqlstate == sqlstate

    @pytest.mark.parametrize("fields", [{}, {"C": ""}, {"M": "no"}])
    def test_an_error_without_sqlstate(self, fields: dict[str, str]) -> None:
        error = PostgresError.new(fields)
        assert type(error) is exceptions.UnknownPostgresError
        assert error.sqlstate is None
        assert str(error) == fields.get("M", "")

    def test_a_stale_plan_says_what_to_do(self) -> None:
        error = PostgresError.new({"C": "0A000", "M": "cached plan must not change result type"})
        assert error.hint == "The schema has changed since the statement was prepared. Run the transaction again."

    def test_nothing_is_safe_to_retry_unless_said_so(self) -> None:
        assert not PostgresError.new({"C": "08006"}).safe_to_retry
        assert not exceptions.ConnectionDoesNotExistError("lost").safe_to_retry
        assert not exceptions.InterfaceError("lost").safe_to_retry
        assert not exceptions.ProtocolError("lost").safe_to_retry
        unsent = exceptions.ConnectionDoesNotExistError("lost", hint="Run it again.", safe_to_retry=True)
        assert unsent.safe_to_retry
        assert pickle.loads(pickle.dumps(unsent)).safe_to_retry
        assert "safe_to_retry" not in unsent.as_dict()

    def test_only_an_error_that_says_so_is_safe_to_retry(self) -> None:
        assert headrace.is_safe_to_retry(exceptions.InterfaceError("lost", safe_to_retry=True))
        for error in (exceptions.InterfaceError("lost"), OSError("lost"), TimeoutError(), KeyError("x"), SystemExit()):
            assert not headrace.is_safe_to_retry(error)

    @given(st.dictionaries(st.sampled_from([*"SVCMDHPpqWstcdnFLRXZ", "", "é"]), st.text()), st.text())
    def test_no_field_makes_it_raise(self, fields: dict[str, str], query: str) -> None:
        error = PostgresError.new(fields, query)
        assert str(error).startswith(fields.get("M", ""))
        assert str(PostgresLogMessage.new(fields, query)).endswith(str(fields.get("M")))

    def test_no_position_makes_it_raise(self) -> None:
        for position in ("", "0", "-1", "x", "٣", "²", "9" * 10_000):
            PostgresError.new({"C": "42601", "P": position}, "select 1 in $1")


class TestNotices:
    @pytest.mark.parametrize(
        ("sqlstate", "cls"),
        [
            ("00000", exceptions.PostgresLogMessage),
            ("01000", exceptions.PostgresWarning),
            ("01003", exceptions.NullValueEliminatedInSetFunction),
            ("01ZZZ", exceptions.PostgresWarning),
            ("02000", exceptions.NoData),
            ("57P01", exceptions.PostgresLogMessage),
            ("ZZZZZ", exceptions.PostgresLogMessage),
        ],
    )
    def test_the_sqlstate_says_the_class(self, sqlstate: str, cls: type) -> None:
        notice = PostgresLogMessage.new({"C": sqlstate, "S": "NOTICE", "M": "look"}, "select 1")
        assert type(notice) is cls
        assert notice.sqlstate == sqlstate
        assert notice.message == "look"
        assert notice.query == "select 1"
        assert str(notice) == f"{cls.__name__}: look"

    @pytest.mark.parametrize("sqlstate", ["00000", "01000"])
    def test_it_is_immutable_and_yet_can_be_pickled_and_copied(self, sqlstate: str) -> None:
        notice = PostgresLogMessage.new({"C": sqlstate, "S": "WARNING", "M": "look", "D": "there"})
        with pytest.raises(TypeError, match="cannot set 'message'.*immutable"):
            notice.message = "look away"
        for twin in (pickle.loads(pickle.dumps(notice)), copy.copy(notice), copy.deepcopy(notice)):
            assert type(twin) is type(notice)
            assert twin.as_dict() == notice.as_dict()

    def test_a_warning_can_be_raised(self) -> None:
        warning = PostgresLogMessage.new({"C": "01000", "M": "look"})
        assert isinstance(warning, exceptions.PostgresWarning)
        assert warning.args == ("look",)
        warning.add_note("Python sets this one.")
        with pytest.raises(exceptions.PostgresWarning, match="look"):
            raise warning


class TestInterfaceErrors:
    def test_detail_and_hint_are_printed(self) -> None:
        error = exceptions.InterfaceError("wrong", detail="why", hint="how to mend it")
        assert str(error) == "wrong\nDETAIL:  why\nHINT:  how to mend it"
        assert str(exceptions.InterfaceWarning("odd", hint="how to mend it")) == "odd\nHINT:  how to mend it"
        assert str(exceptions.ClientConfigurationError("wrong")) == "wrong"

    def test_another_message_leaves_the_rest_as_it_is(self) -> None:
        try:
            try:
                raise asyncio.CancelledError
            except asyncio.CancelledError as cancelled:
                raise exceptions.UnsupportedServerFeatureError("wrong", hint="how", safe_to_retry=True) from cancelled
        except exceptions.InterfaceError as raised:
            error = raised
        other = error.with_msg("quite wrong")
        assert type(other) is type(error)
        assert str(other) == "quite wrong\nHINT:  how"
        assert other.safe_to_retry
        assert other.__cause__ is error.__cause__
        assert other.__traceback__ is error.__traceback__
        assert str(error) == "wrong\nHINT:  how"

    def test_an_outdated_schema_names_the_type(self) -> None:
        error = exceptions.OutdatedSchemaCacheError("outdated", schema="public", data_type="t", position=2)
        assert (error.schema_name, error.data_type_name, error.position) == ("public", "t", 2)
