/* elementary_map_template.h - log and exp of each value of an array; no parameters. */

NC_TARGET static void NC_NAME(map_log)(int64_t n, const double *values, double *out) {
    for (int64_t i = 0; i < n; i++)
        out[i] = nc_log(values[i]);
}

NC_TARGET static void NC_NAME(map_exp)(int64_t n, const double *values, double *out) {
    for (int64_t i = 0; i < n; i++)
        out[i] = nc_exp(values[i]);
}
