"""Dates and times as the server prints them under DateStyle ISO.

They are needed for values that Python cannot hold: years before 1 and after 9999 (datatype-datetime), the time
24:00:00. The texts are those of EncodeDateOnly() and EncodeDateTime() in the server's datetime.c.
"""

from libc.stdint cimport int64_t, uint64_t


cdef str date_text(int64_t days):
    """Return the date `days` after 2000-01-01, such as "0044-03-15 BC"."""
    cdef civil date = civil_from_days(days)
    if date.year > 0:
        return f'{date.year:04}-{date.month:02}-{date.day:02}'
    return f'{1 - date.year:04}-{date.month:02}-{date.day:02} BC'


cdef str time_text(uint64_t microseconds):
    """Return the time of day without zeros at the end of the fraction: "04:05:06.7"."""
    cdef:
        uint64_t seconds = microseconds // 1_000_000
        uint64_t fraction = microseconds % 1_000_000
        str text = f'{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}'
    if fraction:
        text += f'.{fraction:06}'.rstrip('0')
    return text


cdef str zone_text(int64_t offset):
    """Return the text of an offset in seconds east of Greenwich, such as "+05:30"."""
    cdef:
        str text = '-' if offset < 0 else '+'
        int64_t minutes
    if offset < 0:
        offset = -offset
    minutes = offset // 60
    text += f'{minutes // 60:02}'
    if offset % 3600:
        text += f':{minutes % 60:02}'
    if offset % 60:
        text += f':{offset % 60:02}'
    return text


cdef str timestamp_text(int64_t microseconds, str zone):
    """Return the time `microseconds` after 2000-01-01, followed by `zone`, such as "20000-01-01 00:00:00+00"."""
    cdef:
        int64_t days = microseconds // DAY
        int64_t rest = microseconds - days * DAY
        str date
    if rest < 0:
        rest += DAY
        days -= 1
    date = date_text(days)
    # The era comes last: "0044-03-15 12:00:00 BC".
    return f'{date.removesuffix(" BC")} {time_text(rest)}{zone}{" BC" if date.endswith(" BC") else ""}'


cdef str interval_text(int64_t months, int64_t days, int64_t microseconds):
    """Return the interval under IntervalStyle postgres, such as "1 year 2 mons -3 days +04:05:06.7"."""
    cdef:
        list parts = []
        bint after_negative = False
        int64_t number
        str unit, sign
    # Years and months share a sign; days and time have their own. A plus is written only after a negative part.
    for number, unit in ((months // 12, 'year'), (months % 12, 'mon'), (days, 'day')):
        if number != 0:
            sign = '+' if number > 0 and after_negative else ''
            parts.append(f'{sign}{number} {unit}{"" if number == 1 else "s"}')
            after_negative = number < 0
    if microseconds != 0 or not parts:
        sign = '-' if microseconds < 0 else '+' if after_negative else ''
        # The lowest number has no positive counterpart as int64_t, but has one as uint64_t.
        parts.append(sign + time_text(0 - <uint64_t>microseconds if microseconds < 0 else <uint64_t>microseconds))
    return ' '.join(parts)


def interval_form(months: int, days: int, microseconds: int) -> str:
    """Return interval_text(), for callers in Python."""
    return interval_text(months, days, microseconds)
