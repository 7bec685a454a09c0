/* elementary.c - log and exp of arrays. */
#include "elementary.h"

#define NC_TEMPLATE "elementary_map_template.h"
#include "each_level.h"

typedef void (*map_fn)(int64_t n, const double *values, double *out);

static int map(const map_fn *levels, int64_t n, const double *values, double *out) {
    if (n < 0)
        return NC_INVALID;
    levels[nc_simd_level()](n, values, out);
    return NC_OK;
}

int nc_elementary_log(int64_t n, const double *values, double *out) {
    static const map_fn levels[NC_SIMD_LEVELS] = NC_LEVEL_TABLE(map_log);
    return map(levels, n, values, out);
}

int nc_elementary_exp(int64_t n, const double *values, double *out) {
    static const map_fn levels[NC_SIMD_LEVELS] = NC_LEVEL_TABLE(map_exp);
    return map(levels, n, values, out);
}
