/* random.c - fills arrays with the draws of a random stream. */
#include <string.h>

#include "core.h"
#include "random.h"

int nc_random_words(uint64_t seed, uint64_t stream, uint64_t first, int64_t n, uint64_t *out) {
    if (n < 0)
        return NC_INVALID;
    uint64_t words[NC_WORDS_PER_BLOCK];
    for (int64_t i = 0; i < n;) {
        uint64_t index = first + (uint64_t)i;
        int64_t skip = (int64_t)(index % NC_WORDS_PER_BLOCK);
        int64_t count = NC_WORDS_PER_BLOCK - skip < n - i ? NC_WORDS_PER_BLOCK - skip : n - i;
        nc_random_block(seed, stream, index / NC_WORDS_PER_BLOCK, words);
        memcpy(out + i, words + skip, (size_t)count * sizeof *words);
        i += count;
    }
    return NC_OK;
}

int nc_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, int64_t n, double *out) {
    uint64_t words[64 * NC_WORDS_PER_BLOCK];
    const int64_t capacity = (int64_t)(sizeof words / sizeof *words);
    if (n < 0)
        return NC_INVALID;
    for (int64_t i = 0; i < n; i += capacity) {
        int64_t count = n - i < capacity ? n - i : capacity;
        nc_random_words(seed, stream, first + (uint64_t)i, count, words);
        for (int64_t j = 0; j < count; j++)
            out[i + j] = nc_unit_double(words[j]);
    }
    return NC_OK;
}
