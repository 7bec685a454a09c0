/* sort.h - sorts doubles as integers that order as they do. */
#ifndef NC_SORT_H
#define NC_SORT_H

#include <stdint.h>
#include <string.h>

/* An integer that orders as the double does; one for both zeros. Not for NaN. */
static inline uint64_t nc_key_of(double value) {
    uint64_t bits;
    value += 0.0;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 63 ? ~bits : bits | (UINT64_C(1) << 63);
}

/* The double of a key; 0.0 for both zeros. */
static inline double nc_value_of(uint64_t key) {
    uint64_t bits = key >> 63 ? key & ~(UINT64_C(1) << 63) : ~key;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Sort keys [n], with as much space beside them: O(n), or by insertion when they are few. */
void nc_sort_keys(uint64_t *keys, uint64_t *spare, int64_t n);

#endif
