/*
 * digests.c - prints the bits of every kernel's answers, a line for each case and size: what two
 * compilers, two processors or two levels print can be compared. A kernel whose levels with and
 * without a fused multiply-add differ, as its header says, has a line for each of the two.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cases.h"
#include "check.h"
#include "core.h"

static const int64_t sizes[] = {1, 2, 9, 17, 65, 2049};

static void print_case(const kernel_case *one, int64_t n) {
    uint64_t digests[2];
    int known[2] = {0};
    ON_EACH_LEVEL {
        uint64_t digest = case_digest(one, n, GUARD_AFTER);
        int kind = one->fused && case_level_is_fused();
        if (known[kind])
            case_check_digest(digest, digests[kind]);
        digests[kind] = digest;
        known[kind] = 1;
    }
    for (int kind = 0; kind < 2; kind++)
        if (known[kind])
            printf("%s %" PRId64 " %s %016" PRIx64 "\n", one->name, n,
                   !one->fused ? "all"
                   : kind      ? "fused"
                               : "portable",
                   digests[kind]);
}

int main(void) {
    for (const kernel_case *one = case_first(); one; one = one->next) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            print_case(one, sizes[s]);
        if (one->pooled)
            print_case(one, one->pooled);
    }
    nc_stop_threads();
    return 0;
}
