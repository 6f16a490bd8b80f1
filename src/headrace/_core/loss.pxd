# What becomes of requests when the connection ends.

from headrace._core.request cimport Request

cdef int lose(Request request, object reason) except -1
cdef int tell(Request request, object error) except -1
cdef object lost_error(object reason, bint sent)
