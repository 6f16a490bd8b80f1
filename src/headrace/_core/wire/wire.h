/* Big-endian loads and stores for the frontend/backend protocol.
 *
 * All accesses use memcpy, so no unaligned pointer is dereferenced. Compilers turn each function into one load or store
 * and a byte swap.
 */
#ifndef HEADRACE_WIRE_H
#define HEADRACE_WIRE_H

#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define HR_BE16(x) (x)
#define HR_BE32(x) (x)
#define HR_BE64(x) (x)
#elif defined(_MSC_VER)
#include <stdlib.h>
#define HR_BE16(x) _byteswap_ushort(x)
#define HR_BE32(x) _byteswap_ulong(x)
#define HR_BE64(x) _byteswap_uint64(x)
#else
#define HR_BE16(x) __builtin_bswap16(x)
#define HR_BE32(x) __builtin_bswap32(x)
#define HR_BE64(x) __builtin_bswap64(x)
#endif

static inline uint16_t load_u16(const char *p) { uint16_t v; memcpy(&v, p, 2); return HR_BE16(v); }
static inline uint32_t load_u32(const char *p) { uint32_t v; memcpy(&v, p, 4); return HR_BE32(v); }
static inline uint64_t load_u64(const char *p) { uint64_t v; memcpy(&v, p, 8); return HR_BE64(v); }
static inline int16_t load_i16(const char *p) { return (int16_t)load_u16(p); }
static inline int32_t load_i32(const char *p) { return (int32_t)load_u32(p); }
static inline int64_t load_i64(const char *p) { return (int64_t)load_u64(p); }
static inline float load_f32(const char *p) { uint32_t v = load_u32(p); float f; memcpy(&f, &v, 4); return f; }
static inline double load_f64(const char *p) { uint64_t v = load_u64(p); double f; memcpy(&f, &v, 8); return f; }

static inline void store_u16(char *p, uint16_t v) { v = HR_BE16(v); memcpy(p, &v, 2); }
static inline void store_u32(char *p, uint32_t v) { v = HR_BE32(v); memcpy(p, &v, 4); }
static inline void store_u64(char *p, uint64_t v) { v = HR_BE64(v); memcpy(p, &v, 8); }
static inline void store_f32(char *p, float f) { uint32_t v; memcpy(&v, &f, 4); store_u32(p, v); }
static inline void store_f64(char *p, double f) { uint64_t v; memcpy(&v, &f, 8); store_u64(p, v); }

#endif
