"""What becomes of requests when the connection ends: errors that say whether it is safe to ask again."""

from headrace._core.request cimport SENT, Request

from headrace.errors import ConnectionDoesNotExistError


cdef int lose(Request request, object reason) except -1:
    """Settle a request because of what has become of the connection, unless it has an error of its own."""
    return tell(request, lost_error(reason, request.state == SENT))


cdef int tell(Request request, object error) except -1:
    """Settle a request with the error, unless it has one of its own, whatever its waiter makes of it."""
    try:
        request.fail(error)
    except Exception:
        # Its event loop is closed, or the waiter is broken: the others must learn of theirs all the same.
        pass
    return 0


cdef object lost_error(object reason, bint sent):
    """The error for a request that the end of the connection has overtaken; `safe_to_retry` where it was not sent."""
    if sent:
        error = ConnectionDoesNotExistError(
            f'connection was closed in the middle of operation: {reason}; the request had been sent, '
            'whether the server has carried it out is unknown')
    else:
        error = ConnectionDoesNotExistError(
            f'connection was closed: {reason}; the request had not been sent, it is safe to retry')
        error.safe_to_retry = True
    if isinstance(reason, BaseException):
        error.__cause__ = reason
    return error
