# The proleptic Gregorian calendar in whole days, and dates as the server prints them.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

# Macros, so that divisions by them become multiplications.
cdef extern from *:
    """
    #define HR_FIRST_DAY (-730119)
    #define HR_LAST_DAY 2921939
    #define HR_DAY INT64_C(86400000000)
    """
    int64_t FIRST_DAY "HR_FIRST_DAY"         # 0001-01-01 in days from 2000-01-01, where PostgreSQL's calendar begins
    int64_t LAST_DAY "HR_LAST_DAY"           # 9999-12-31
    int64_t DAY "HR_DAY"                     # microseconds

cdef struct civil:
    int32_t year
    int32_t month
    int32_t day


cdef inline civil civil_from_days(int64_t days) noexcept nogil:
    """The date `days` after 2000-01-01, for any date in PostgreSQL's range; year 0 is 1 BC.

    Years are counted from 1 March, so that the leap day comes last, in eras of 400 years (146,097 days).
    """
    cdef:
        civil date
        int64_t since = days + 730425        # from 0000-03-01
        int64_t era = (since if since >= 0 else since - 146096) // 146097
        uint32_t day_of_era = <uint32_t>(since - era * 146097)
        uint32_t year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
        uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
        uint32_t month = (5 * day_of_year + 2) // 153          # 0 is March
    date.day = <int32_t>(day_of_year - (153 * month + 2) // 5 + 1)
    date.month = <int32_t>(month + 3 if month < 10 else month - 9)
    date.year = <int32_t>(era * 400 + year_of_era) + (1 if date.month <= 2 else 0)
    return date


cdef inline int64_t days_from_civil(int64_t year, uint32_t month, uint32_t day) noexcept nogil:
    """The days from 2000-01-01 to a date of year 0 or later."""
    cdef:
        uint32_t years = <uint32_t>(year - 1 if month <= 2 else year) + 400       # an era more keeps year 0 positive
        uint32_t era = years // 400
        uint32_t year_of_era = years - era * 400
        uint32_t day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
        uint32_t day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return <int64_t>era * 146097 + day_of_era - 146097 - 730425


cdef str date_text(int64_t days)
cdef str time_text(uint64_t microseconds)
cdef str zone_text(int64_t offset)
cdef str timestamp_text(int64_t microseconds, str zone)
cdef str interval_text(int64_t months, int64_t days, int64_t microseconds)
