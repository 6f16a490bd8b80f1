/* Values of Arrow columns in the forms that PostgreSQL receives them in.
 *
 * Arrow's values are in the machine's byte order, and a buffer need not be aligned, so all reads use memcpy. */

#ifndef HEADRACE_ARROW_CONVERT_H
#define HEADRACE_ARROW_CONVERT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "abi.h"

static inline int8_t native_i8(const char *data, int64_t i) { return (int8_t)data[i]; }
static inline uint8_t native_u8(const char *data, int64_t i) { return (uint8_t)data[i]; }
#define HR_NATIVE(name, type) \
    static inline type name(const char *data, int64_t i) { \
        type value; \
        memcpy(&value, data + i * (int64_t)sizeof value, sizeof value); \
        return value; \
    }
HR_NATIVE(native_i16, int16_t)
HR_NATIVE(native_u16, uint16_t)
HR_NATIVE(native_i32, int32_t)
HR_NATIVE(native_u32, uint32_t)
HR_NATIVE(native_i64, int64_t)
HR_NATIVE(native_u64, uint64_t)
HR_NATIVE(native_f32, float)
HR_NATIVE(native_f64, double)
#undef HR_NATIVE

/* A bit of a validity bitmap, or of a column of bools. */
static inline int bit_at(const char *bits, int64_t i) { return ((unsigned char)bits[i >> 3] >> (i & 7)) & 1; }

/* A float16, by the bits of IEEE 754 binary16. */
static inline double half_to_double(uint16_t half) {
    int exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    double value;
    if (exponent == 0x1f)
        value = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, -24);
    else
        value = ldexp(fraction | 0x400, exponent - 25);
    return half & 0x8000 ? -value : value;
}

/* --- numeric: digits in base 10000, from integers of up to 256 bits */

enum { HR_LIMBS = 10, HR_NUMERIC_DIGITS = 24 };

/* Multiply a number of 32-bit limbs, the lowest first, by a small factor. */
static inline void limbs_multiply(uint32_t *limbs, int count, uint32_t factor) {
    uint64_t carry = 0;
    for (int i = 0; i < count; i++) {
        carry += (uint64_t)limbs[i] * factor;
        limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

/* Read a signed integer of `size` bytes (at most 32), in two's complement and the machine's byte order, as its magnitude.
 * Returns whether it is negative. */
static inline int limbs_read(uint32_t *limbs, const char *data, int size) {
    int count = size / 4, negative;
    memset(limbs, 0, HR_LIMBS * sizeof *limbs);
    memcpy(limbs, data, (size_t)size);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (int i = 0; i < count / 2; i++) {
        uint32_t other = limbs[i];
        limbs[i] = limbs[count - 1 - i];
        limbs[count - 1 - i] = other;
    }
#endif
    negative = limbs[count - 1] >> 31;
    if (negative) {
        uint64_t carry = 1;
        for (int i = 0; i < count; i++) {
            carry += (uint32_t)~limbs[i];
            limbs[i] = (uint32_t)carry;
            carry >>= 32;
        }
    }
    return negative;
}

/* Take a number apart into digits in base 10000, the lowest first; returns how many. The limbs are used up. */
static inline int limbs_digits(uint32_t *limbs, uint16_t *digits) {
    int top = HR_LIMBS, count = 0;
    while (top > 0 && limbs[top - 1] == 0)
        top--;
    while (top > 2) {
        uint64_t rest = 0;
        for (int i = top - 1; i >= 0; i--) {
            rest = rest << 32 | limbs[i];
            limbs[i] = (uint32_t)(rest / 100000000);
            rest %= 100000000;
        }
        digits[count++] = (uint16_t)(rest % 10000);
        digits[count++] = (uint16_t)(rest / 10000);
        while (top > 0 && limbs[top - 1] == 0)
            top--;
    }
    uint64_t value = top > 1 ? (uint64_t)limbs[1] << 32 | limbs[0] : top > 0 ? limbs[0] : 0;
    while (value) {
        digits[count++] = (uint16_t)(value % 10000);
        value /= 10000;
    }
    while (count > 0 && digits[count - 1] == 0)
        count--;
    return count;
}

/* --- calls of a foreign stream, which are made without the GIL */

static inline int stream_schema(struct ArrowArrayStream *stream, struct ArrowSchema *schema) {
    return stream->get_schema(stream, schema);
}

static inline int stream_next(struct ArrowArrayStream *stream, struct ArrowArray *array) {
    return stream->get_next(stream, array);
}

static inline const char *stream_error(struct ArrowArrayStream *stream) { return stream->get_last_error(stream); }

static inline void stream_release(struct ArrowArrayStream *stream) {
    if (stream->release != NULL)
        stream->release(stream);
    stream->release = NULL;
}

static inline void array_release(struct ArrowArray *array) {
    if (array->release != NULL)
        array->release(array);
    array->release = NULL;
}

static inline void schema_release(struct ArrowSchema *schema) {
    if (schema->release != NULL)
        schema->release(schema);
    schema->release = NULL;
}

#endif
