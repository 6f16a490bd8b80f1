# Values of Arrow columns in the forms that PostgreSQL receives them in.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from headrace._core.arrow.abi cimport ArrowArray, ArrowArrayStream, ArrowSchema


cdef extern from "convert.h" nogil:
    int8_t native_i8(const char *data, int64_t i)
    uint8_t native_u8(const char *data, int64_t i)
    int16_t native_i16(const char *data, int64_t i)
    uint16_t native_u16(const char *data, int64_t i)
    int32_t native_i32(const char *data, int64_t i)
    uint32_t native_u32(const char *data, int64_t i)
    int64_t native_i64(const char *data, int64_t i)
    uint64_t native_u64(const char *data, int64_t i)
    float native_f32(const char *data, int64_t i)
    double native_f64(const char *data, int64_t i)
    bint bit_at(const char *bits, int64_t i)
    double half_to_double(uint16_t half)

    enum:
        LIMBS "HR_LIMBS"
        NUMERIC_DIGITS "HR_NUMERIC_DIGITS"

    void limbs_multiply(uint32_t *limbs, int count, uint32_t factor)
    bint limbs_read(uint32_t *limbs, const char *data, int size)
    int limbs_digits(uint32_t *limbs, uint16_t *digits)

    int stream_schema(ArrowArrayStream *stream, ArrowSchema *schema)
    int stream_next(ArrowArrayStream *stream, ArrowArray *array)
    const char *stream_error(ArrowArrayStream *stream)
    void stream_release(ArrowArrayStream *stream)
    void array_release(ArrowArray *array)
    void schema_release(ArrowSchema *schema)
