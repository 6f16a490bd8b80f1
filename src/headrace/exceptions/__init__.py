"""Every exception, warning and log message of the driver."""

from typing import TYPE_CHECKING

from . import _base, _derived, _sqlstate
from ._base import *  # noqa: F403
from ._derived import *  # noqa: F403
from ._derived import ending_error as ending_error
from ._derived import is_safe_to_retry as is_safe_to_retry
from ._sqlstate import *  # noqa: F403
from ._transient import time_may_mend as time_may_mend

if not TYPE_CHECKING:  # a type checker takes a sum for no list at all; it finds the names through the imports above
    __all__ = _base.__all__ + _derived.__all__ + _sqlstate.__all__

# asyncpg has that one in its `exceptions._base` as well.
vars(_base)["DataError"] = DataError  # noqa: F405

# Tracebacks and pickles name the classes by where users find them, not by the file they happen to stand in.
for _module in (_base, _derived, _sqlstate):
    for _name in _module.__all__:
        globals()[_name].__module__ = __name__
del _module, _name
