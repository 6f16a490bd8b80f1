"""Every exception, warning and log message of the driver."""

from typing import TYPE_CHECKING

from . import _base, _derived, _sqlstate
from ._base import *  # noqa: F403
from ._derived import *  # noqa: F403
from ._derived import ending_error as ending_error
from ._derived import is_safe_to_retry as is_safe_to_retry
from ._sqlstate import *  # noqa: F403
from ._transient import is_transient as is_transient

if not TYPE_CHECKING:  # a type checker does not evaluate a sum of lists; it finds the names by the imports above
    __all__ = _base.__all__ + _derived.__all__ + _sqlstate.__all__

# asyncpg has this one in its `exceptions._base` too.
vars(_base)["DataError"] = DataError  # noqa: F405

# Tracebacks and pickles name the public module of the classes, not the private one that defines them.
for _module in (_base, _derived, _sqlstate):
    for _name in _module.__all__:
        globals()[_name].__module__ = __name__
del _module, _name
