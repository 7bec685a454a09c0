/* sort.c - radix sort of 64-bit keys, by insertion where that is quicker. */
#include "sort.h"

/* So many keys are sorted by insertion alone. */
#define INSERTION_MOST 64
/* Digits that are sorted before insertion is tried, and its moves per key before it gives up. */
#define FIRST_BITS 24
#define MOVES_PER_KEY 4

/* Stable counting sorts by eight bits at a time, from `low_bit` up; equal digits cost no move. */
static void radix_sort(uint64_t *keys, uint64_t *spare, int64_t n, int low_bit) {
    uint64_t *from = keys, *to = spare;
    for (int shift = low_bit; shift < 64; shift += 8) {
        int64_t start[256] = {0}, next = 0;
        for (int64_t i = 0; i < n; i++)
            start[(from[i] >> shift) & 255]++;
        if (start[(from[0] >> shift) & 255] == n)
            continue;
        for (int digit = 0; digit < 256; digit++) {
            int64_t count = start[digit];
            start[digit] = next;
            next += count;
        }
        for (int64_t i = 0; i < n; i++)
            to[start[(from[i] >> shift) & 255]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != keys)
        memcpy(keys, from, (size_t)n * sizeof *keys);
}

/* Sort by insertion; give up, leaving a permutation, after `moves` moves. 1 when sorted. */
static int insertion_sort(uint64_t *keys, int64_t n, int64_t moves) {
    for (int64_t i = 1; i < n; i++) {
        uint64_t key = keys[i];
        int64_t j = i;
        for (; j > 0 && keys[j - 1] > key; j--)
            keys[j] = keys[j - 1];
        keys[j] = key;
        moves -= i - j;
        if (moves < 0)
            return 0;
    }
    return 1;
}

/*
 * Three digits below the common prefix nearly sort what is spread; insertion does the rest. Where
 * they do not, as for 1e9 + noise with one outlier, all digits are sorted.
 */
void nc_sort_keys(uint64_t *keys, uint64_t *spare, int64_t n) {
    if (n <= INSERTION_MOST) {
        insertion_sort(keys, n, n * n);
        return;
    }
    uint64_t differ = 0;
    for (int64_t i = 1; i < n; i++)
        differ |= keys[i] ^ keys[0];
    if (!differ)
        return;
    int low_bit = 64 - __builtin_clzll(differ) - FIRST_BITS;
    radix_sort(keys, spare, n, low_bit < 0 ? 0 : low_bit);
    if (low_bit > 0 && !insertion_sort(keys, n, MOVES_PER_KEY * n))
        radix_sort(keys, spare, n, 0);
}
