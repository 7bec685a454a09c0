/*
 * random.h - Philox4x64-10, the counter-based random numbers of every kernel (see core.h).
 *
 * The generator is a keyed bijection of a 256-bit counter, so any draw can be had without those
 * before it, and no state is kept: kernels key it by (seed, stream) and count draws.
 */
#ifndef NC_RANDOM_H
#define NC_RANDOM_H

#include "dispatch.h"

#define NC_WORDS_PER_BLOCK 4

/* High half of the 128-bit product; the low half goes to *low. */
NC_INLINE uint64_t nc_multiply_high(uint64_t a, uint64_t b, uint64_t *low) {
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    *low = (uint64_t)product;
    return (uint64_t)(product >> 64);
}

/* The block that counter [4] has under (key0, key1), into out [4]: ten rounds, as published. */
NC_INLINE void nc_philox(uint64_t key0, uint64_t key1, const uint64_t *counter, uint64_t *out) {
    uint64_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t low0, low1;
        uint64_t high0 = nc_multiply_high(0xD2E7470EE14C6C93u, c0, &low0);
        uint64_t high1 = nc_multiply_high(0xCA5A826395121157u, c2, &low1);
        c0 = high1 ^ c1 ^ key0;
        c2 = high0 ^ c3 ^ key1;
        c1 = low1;
        c3 = low0;
        key0 += 0x9E3779B97F4A7C15u; /* the golden ratio */
        key1 += 0xBB67AE8584CAA73Bu; /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Draws 4 block to 4 block + 3 of the stream (seed, stream), into out [4]. */
NC_INLINE void nc_random_block(uint64_t seed, uint64_t stream, uint64_t block, uint64_t *out) {
    const uint64_t counter[4] = {block + 1, 0, 0, 0};
    nc_philox(seed, stream, counter, out);
}

/* A double in [0, 1) on the grid of 2^-53, from the upper 53 bits of a draw. */
NC_INLINE double nc_unit_double(uint64_t word) {
    return (double)(int64_t)(word >> 11) * 0x1p-53;
}

/* Draw number `index` of the stream alone; in loops take whole blocks instead. */
NC_INLINE uint64_t nc_random_word(uint64_t seed, uint64_t stream, uint64_t index) {
    uint64_t words[NC_WORDS_PER_BLOCK];
    nc_random_block(seed, stream, index / NC_WORDS_PER_BLOCK, words);
    return words[index % NC_WORDS_PER_BLOCK];
}

#endif
