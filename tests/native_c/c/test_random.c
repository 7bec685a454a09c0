/* test_random.c - Philox against its published answers, and draws however they are asked for. */
#include <string.h>

#include "check.h"
#include "core.h"
#include "random.h"

/* The known answers for philox4x64-10 of Random123's kat_vectors: counter, key, block. */
static const uint64_t published[][10] = {
    {0, 0, 0, 0, 0, 0, 0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b,
     0x7e68b68aec7ba23b},
    {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, 0x87b092c3013fe90b,
     0x438c3c67be8d0224, 0x9cc7d7c69cd777b6, 0xa09caebf594f0ba0},
    {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89,
     0x452821e638d01377, 0xbe5466cf34e90c6c, 0xa528f45403e61d95, 0x38c72dbd566e9788,
     0xa5a1610e72fd18b5, 0x57bd43b5e52b7fe6},
};

static void blocks_are_the_published_ones(void) {
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        uint64_t block[4];
        nc_philox(published[i][4], published[i][5], published[i], block);
        CHECK(memcmp(block, published[i] + 6, sizeof block) == 0);
    }
}

static void draws_do_not_depend_on_how_they_are_grouped(void) {
    uint64_t all[700], part[700];
    double units[700];
    CHECK(nc_random_words(7, 11, 0, 700, all) == NC_OK);
    for (int first = 0; first < 9; first++)
        for (int n = 0; n <= 600; n += n < 10 ? 1 : 59) {
            CHECK(nc_random_words(7, 11, (uint64_t)first, n, part) == NC_OK);
            CHECK(memcmp(part, all + first, (size_t)n * sizeof *part) == 0);
            CHECK(nc_random_uniform(7, 11, (uint64_t)first, n, units) == NC_OK);
            for (int i = 0; i < n; i++)
                CHECK(units[i] == (double)(all[first + i] >> 11) / 9007199254740992.0);
        }
    for (uint64_t i = 0; i < 700; i++)
        CHECK(nc_random_word(7, 11, i) == all[i]);
    CHECK(nc_random_words(7, 11, 0, -1, part) == NC_INVALID);
    CHECK(nc_random_uniform(7, 11, 0, -1, units) == NC_INVALID);
}

int main(void) {
    blocks_are_the_published_ones();
    draws_do_not_depend_on_how_they_are_grouped();
    return 0;
}
