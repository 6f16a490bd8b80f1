# Rows, or record batches, handed out one by one.

cdef class Stream:
    cdef:
        object source                # more(), open(), close(), abandon(): see the module
        list rows                    # the batch that is being handed out
        Py_ssize_t at                # the next of them
        Py_ssize_t count
        object turn                  # the coroutine that fetches the next batch
        object waiting_task          # the task that waits for it
        bint asked                   # __anext__() was called, and has not given a row yet
        bint closed
        object __weakref__

    cdef object resume(self, bint *suspended)
    cdef object fetch(self, bint *suspended)
    cdef object begin(self, list rows)
    cdef int end(self) except -1
