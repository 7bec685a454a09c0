/*
 * fuzz.h - makes arguments of a kernel from the bytes that a fuzzer offers.
 *
 * Each fuzz_<family>.c defines LLVMFuzzerTestOneInput, which calls a family's kernels with such
 * arguments on every level and compares the answers with a scalar reference of its own. A failed
 * CHECK ends the program, and libFuzzer keeps the bytes. Arrays are of the exact size, so that
 * AddressSanitizer sees every step beyond them.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "core.h"

typedef struct {
    const uint8_t *data;
    size_t left;
    uint64_t state; /* goes on where the bytes end, so that short inputs make long arrays */
} offer;

static inline offer offer_of(const uint8_t *data, size_t size) {
    return (offer){data, size, 88172645463325252u};
}

/* The next byte; beyond the end, one that the bytes before it decide (Marsaglia's xorshift64). */
static inline uint8_t next_byte(offer *from) {
    if (from->left > 0) {
        from->left--;
        from->state = (from->state ^ *from->data) * 1099511628211u;
        return *from->data++;
    }
    from->state ^= from->state << 13;
    from->state ^= from->state >> 7;
    from->state ^= from->state << 17;
    return (uint8_t)(from->state >> 24);
}

static inline uint64_t next_word(offer *from) {
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word = word << 8 | next_byte(from);
    return word;
}

/* A whole number in [low, high], a range of less than 2^32. */
static inline int64_t next_in(offer *from, int64_t low, int64_t high) {
    uint64_t word = 0;
    for (uint64_t span = (uint64_t)(high - low); span > 0; span >>= 8)
        word = word << 8 | next_byte(from);
    return low + (int64_t)(word % (uint64_t)(high - low + 1));
}

/* One of the doubles that make trouble, a small number that has many equals, or any double. */
static inline double next_double(offer *from) {
    static const double special[] = {0.0, -0.0,     1.0,       -1.0,      INFINITY, -INFINITY,
                                     NAN, 0x1p1023, 0x1p-1074, 0x1p-1022, 1e300,    -1e-300};
    uint8_t kind = next_byte(from);
    if (kind < 8)
        return special[next_byte(from) % (sizeof special / sizeof *special)];
    if (kind < 200)
        return (double)(int8_t)next_byte(from) / (double)(1 << kind % 4);
    uint64_t word = next_word(from);
    double number;
    memcpy(&number, &word, sizeof number);
    return number;
}

/* A finite one, of moderate size. */
static inline double next_moderate(offer *from) {
    double number = next_double(from);
    return fabs(number) <= 1e100 ? number : (double)next_byte(from);
}

/* A number in [0, 1]. */
static inline double next_unit(offer *from) {
    uint8_t kind = next_byte(from);
    return kind < 128 ? (double)(kind % 2) : (double)next_byte(from) / 255.0;
}

/* Memory of exactly n_bytes, which is not NULL. */
static inline void *take_bytes(int64_t n_bytes) {
    void *memory = malloc(n_bytes > 0 ? (size_t)n_bytes : 1);
    CHECK(memory != NULL);
    return memory;
}

#define TAKE(type, n) ((type *)take_bytes((n) * (int64_t)sizeof(type)))

#endif
