"""Conversion of values that are not of the type an encoder expects first.

A value is accepted if it can be sent without loss. Any other raises TypeError or ValueError.
"""

from enum import Enum
from numbers import Number

from cpython.long cimport PyLong_Check
from cpython.number cimport PyIndex_Check, PyNumber_Index
from headrace.exceptions._values import shown


cdef object enum_value(object value):
    """Return the value of an enum member; any other object unchanged."""
    if isinstance(value, Enum):
        return value.value
    return value


cdef object whole_number(object value):
    """Return an int equal to `value`.

    Accepted are ints and their subclasses, objects with `__index__` (numpy's integers), enum members with such a
    value, and whole numbers of other types (float, Decimal, Fraction): 2.0, but not 2.5.
    """
    cdef object number
    if not PyLong_Check(value):
        value = enum_value(value)
    if PyLong_Check(value):
        return value
    if PyIndex_Check(value):
        return PyNumber_Index(value)
    if not isinstance(value, Number) or isinstance(value, complex):
        raise TypeError(
            f"an integer is required: '{type(value).__name__}' object cannot be interpreted as an integer")
    number = int(value)  # Python's own OverflowError or ValueError is clear about infinities and NaN
    if number != value:
        raise ValueError(f'expected a whole number, got {shown(value)}')
    return number
