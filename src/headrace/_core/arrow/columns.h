/* Small parts of columns: reference counts that any thread may change, and the check for UTF-8. */

#ifndef HEADRACE_ARROW_COLUMNS_H
#define HEADRACE_ARROW_COLUMNS_H

#include <stdint.h>
#include <string.h>

static inline void count_up(int64_t *references) { __atomic_add_fetch(references, 1, __ATOMIC_RELAXED); }

/* Returns whether this was the last reference. */
static inline int count_down(int64_t *references) { return __atomic_sub_fetch(references, 1, __ATOMIC_ACQ_REL) == 0; }

static inline int is_continuation(unsigned char byte) { return (byte & 0xc0) == 0x80; }

/* Returns whether the bytes are UTF-8 as Unicode defines it: neither overlong forms nor surrogates. */
static inline int is_utf8(const char *text, int64_t size) {
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *end = at + size;
    while (at < end) {
        if (end - at >= 8) {
            uint64_t eight;
            memcpy(&eight, at, 8);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                at += 8;
                continue;
            }
        }
        if (at[0] < 0x80) {
            at += 1;
        } else if (at[0] < 0xe0) {
            if (at[0] < 0xc2 || end - at < 2 || !is_continuation(at[1])) return 0;
            at += 2;
        } else if (at[0] < 0xf0) {
            if (end - at < 3 || !is_continuation(at[1]) || !is_continuation(at[2])) return 0;
            if (at[0] == 0xe0 && at[1] < 0xa0) return 0;
            if (at[0] == 0xed && at[1] > 0x9f) return 0;
            at += 3;
        } else {
            if (at[0] > 0xf4 || end - at < 4) return 0;
            if (!is_continuation(at[1]) || !is_continuation(at[2]) || !is_continuation(at[3])) return 0;
            if (at[0] == 0xf0 && at[1] < 0x90) return 0;
            if (at[0] == 0xf4 && at[1] > 0x8f) return 0;
            at += 4;
        }
    }
    return 1;
}

/* Stores a number of 32-bit digits, the lowest first, as one integer in the machine's byte order. */
static inline void store_integer(char *at, const uint32_t *digits, int count) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (int i = 0; i < count; i++) memcpy(at + 4 * i, &digits[count - 1 - i], 4);
#else
    memcpy(at, digits, 4 * (size_t)count);
#endif
}

#endif
