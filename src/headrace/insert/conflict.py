"""The arguments of `insert_records()` about conflicts, checked, and the ON CONFLICT clause that they make.

Source: PostgreSQL documentation, INSERT, "ON CONFLICT Clause" (sql-on-conflict).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from headrace._sql.quoting import checked_text, quote_identifier
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

OnConflict = Literal["ignore", "update"] | tuple[Literal["ignore", "update"], Iterable[str]]
Update = Iterable[str] | Mapping[str, str]
OnDuplicate = Literal["last", "error"]

EXPECTED = 'on_conflict is expected to be "ignore", ("ignore", columns) or ("update", columns)'


class Conflict:
    """The policy for records that conflict with rows. `clause()` is the SQL for it.

    Raises InterfaceError for arguments that do not go together.
    """

    def __init__(
        self,
        on_conflict: OnConflict | None,
        update: Update | None,
        constraint: str | None,
        where: str | None,
        on_duplicate: OnDuplicate,
    ) -> None:
        action, target = _action(on_conflict)
        if action is None:
            for name, value in (("update", update), ("constraint", constraint), ("where", where)):
                if value is not None:
                    raise InterfaceError(f"{name} needs on_conflict: it says what counts as a conflict, and what to do")
        if constraint is not None and target is not None:
            raise InterfaceError("constraint and columns in on_conflict cannot both be given: either names the index")
        if where is not None and target is None:
            raise InterfaceError("where needs columns in on_conflict: it is the condition of a partial index on them")
        if action == "update" and target is None and constraint is None:
            raise InterfaceError("on_conflict='update' needs the columns of a unique index, or constraint=")
        if action == "ignore" and update is not None:
            raise InterfaceError("update goes with on_conflict=('update', columns), not with 'ignore'")
        if on_duplicate not in ("last", "error"):
            raise InterfaceError(f"on_duplicate is expected to be 'last' or 'error', got {shown(on_duplicate)}")
        if on_duplicate == "error" and action != "update":
            raise InterfaceError("on_duplicate='error' goes with on_conflict=('update', columns) alone")
        self._target = target
        self._constraint = constraint
        self._where = where if where is None else checked_text(where, "where")
        self._update = _update(update)
        self._action = action
        self.refuses_duplicates = on_duplicate == "error"

    @property
    def is_possible(self) -> bool:
        """True unless a conflict is an error."""
        return self._action is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that records are compared by, if they are named."""
        return self._target or ()

    def updates(self, columns: Sequence[str]) -> bool:
        """Return whether a conflicting row is updated, by records of these columns."""
        return self._action == "update" and bool(self._assignments(columns))

    def clause(self, columns: Sequence[str]) -> str:
        """Return ON CONFLICT for records of these columns, with a space before it; '' if a conflict is an error."""
        if self._action is None:
            return ""
        target = ""
        if self._constraint is not None:
            target = f" ON CONSTRAINT {quote_identifier(self._constraint, 'constraint')}"
        elif self._target is not None:
            names = ", ".join(quote_identifier(name, "a name in on_conflict") for name in self._target)
            # The condition may end in a comment, so a line break follows it.
            target = f" ({names})" + (f" WHERE ({self._where}\n)" if self._where is not None else "")
        assignments = ", ".join(self._assignments(columns)) if self._action == "update" else ""
        return f" ON CONFLICT{target} DO " + (f"UPDATE SET {assignments}" if assignments else "NOTHING")

    def _assignments(self, columns: Sequence[str]) -> list[str]:
        update = self._update
        if isinstance(update, Mapping):
            return [f"{quote_identifier(name, 'a name in update')} = ({sql}\n)" for name, sql in update.items()]
        chosen = [name for name in columns if name not in self.columns] if update is None else update
        names = [quote_identifier(name, "a name in update") for name in chosen]
        return [f"{name} = EXCLUDED.{name}" for name in names]


def _action(on_conflict: Any) -> tuple[str | None, tuple[str, ...] | None]:
    if on_conflict is None or on_conflict in ("ignore", "update"):
        return on_conflict, None
    if (
        not isinstance(on_conflict, (tuple, list))
        or len(on_conflict) != 2
        or on_conflict[0] not in ("ignore", "update")
    ):
        raise InterfaceError(f"{EXPECTED}, got {shown(on_conflict)}")
    action, columns = on_conflict
    names = _names(columns, "on_conflict")
    if not names:
        raise InterfaceError(f"{EXPECTED}, got no columns")
    return action, names


def _update(update: Update | None) -> tuple[str, ...] | Mapping[str, str] | None:
    if update is None:
        return None
    if isinstance(update, Mapping):
        given: Mapping[str, str] = {name: checked_text(sql, f"update[{name!r}]") for name, sql in update.items()}
    else:
        given = dict.fromkeys(_names(update, "update"), "")
    if not given:
        raise InterfaceError("update is expected to name at least one column; on_conflict='ignore' updates nothing")
    return given if isinstance(update, Mapping) else tuple(given)


def _names(columns: Any, what: str) -> tuple[str, ...]:
    if isinstance(columns, (str, bytes)) or not isinstance(columns, Iterable):
        raise InterfaceError(
            f"{what} is expected to have a list of column names, got {type(columns).__name__} {shown(columns)}"
        )
    names = tuple(columns)
    for name in names:
        checked_text(name, f"a name in {what}")
    return names
