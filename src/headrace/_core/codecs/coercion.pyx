"""What an encoder does with a value that is not of the one type it takes at full speed.

Nothing here guesses: a value is taken where it can be sent without loss, and refused by TypeError or
ValueError otherwise.
"""

from enum import Enum
from numbers import Number

from cpython.long cimport PyLong_Check
from cpython.number cimport PyIndex_Check, PyNumber_Index


cdef object enum_value(object value):
    """The value of an enum member, anything else as it is."""
    if isinstance(value, Enum):
        return value.value
    return value


cdef object whole_number(object value):
    """An int equal to `value`.

    Taken are ints and their subclasses, what has `__index__` (numpy's integers), enum members with such a
    value, and numbers of other kinds (float, Decimal, Fraction) that are whole: 2.0, but not 2.5, which no
    integer type can hold.
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
    number = int(value)  # for an infinity or NaN Python's own OverflowError or ValueError says what is wrong
    if number != value:
        raise ValueError(f'expected a whole number, got {value!r}')
    return number
