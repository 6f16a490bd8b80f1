# Decoding of backend messages (protocol-message-formats, those marked B).

cdef dict error_fields(const char *data, Py_ssize_t size)
cdef tuple parameter_description(const char *data, Py_ssize_t size)
cdef list row_description(const char *data, Py_ssize_t size)
cdef tuple notification(const char *data, Py_ssize_t size)
cdef tuple parameter_status(const char *data, Py_ssize_t size)
cdef str command_tag(const char *data, Py_ssize_t size)
cdef str text(const char *data, Py_ssize_t size)
