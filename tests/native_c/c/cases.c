/* cases.c - the list of all kernel cases, and what every one of them needs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cases.h"
#include "check.h"
#include "core.h"

/* To MemorySanitizer an output is of no value until a kernel gives it one, which it must. */
#if defined(__has_feature)
#  if __has_feature(memory_sanitizer)
#    include <sanitizer/msan_interface.h>
#    define FORGET(data, n_bytes) __msan_poison(data, n_bytes)
#  endif
#endif
#if !defined(FORGET)
#  define FORGET(data, n_bytes) (void)(data)
#endif

static const kernel_case *first_case;
static char doing[160]; /* the last call, in words */

const kernel_case *case_first(void) {
    return first_case;
}

void case_join(kernel_case *one) {
    const kernel_case **at = &first_case;
    while (*at && strcmp((*at)->name, one->name) < 0)
        at = (const kernel_case **)&(*at)->next;
    one->next = *at;
    *at = one;
}

int case_call(const kernel_case *one, int64_t n, enum guard_side side, uint64_t *digest) {
    snprintf(doing, sizeof doing, "%s, n = %lld, level %d, side %d", one->name, (long long)n,
             nc_simd_level(), (int)side);
    guard_report(doing);
    case_run run = {.side = side, .digest = UINT64_C(0xcbf29ce484222325)};
    int status = one->call(&run, n);
    for (int i = 0; i < run.n_arrays; i++) {
        guard_check(&run.arrays[i]);
        guard_free(&run.arrays[i]);
    }
    *digest = run.digest;
    return status;
}

uint64_t case_digest(const kernel_case *one, int64_t n, enum guard_side side) {
    uint64_t digest;
    int status = case_call(one, n, side, &digest);
    int expected = n < one->least ? NC_INVALID : NC_OK;
    if (status != expected)
        fprintf(stderr, "%s: status %d, expected %d\n", doing, status, expected);
    CHECK(status == expected);
    return status == NC_OK ? digest : 0;
}

void case_check_digest(uint64_t digest, uint64_t expected) {
    if (digest != expected)
        fprintf(stderr, "%s: other bits than before\n", doing);
    CHECK(digest == expected);
}

int case_level_is_fused(void) {
    return nc_simd_level() != NC_SIMD_PORTABLE;
}

static guarded *take(case_run *run, int64_t n_bytes) {
    CHECK(run->n_arrays < CASE_ARRAYS);
    guarded *taken = &run->arrays[run->n_arrays++];
    *taken = guard_make(n_bytes, run->side);
    return taken;
}

/* The next number in [0, 1), by splitmix64 (Steele, Lea, Flood 2014): none of our generators. */
static double next_unit(case_run *run) {
    uint64_t x = run->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

#define MAKE_INPUT(type, n, value)                                                                 \
    guarded *input = take(run, (n) * (int64_t)sizeof(type));                                       \
    type *numbers = (type *)(void *)input->data;                                                   \
    for (int64_t i = 0; i < (n); i++)                                                              \
        numbers[i] = (type)(value);                                                                \
    guard_forbid_writing(input);                                                                   \
    return numbers

const double *case_doubles(case_run *run, int64_t n, double low, double high) {
    MAKE_INPUT(double, n, low + next_unit(run) * (high - low));
}

const float *case_floats(case_run *run, int64_t n, float low, float high) {
    MAKE_INPUT(float, n, low + (float)next_unit(run) * (high - low));
}

const int64_t *case_wholes(case_run *run, int64_t n, int64_t low, int64_t high) {
    MAKE_INPUT(int64_t, n, low + (int64_t)(next_unit(run) * (double)(high - low + 1)));
}

const int32_t *case_indices(case_run *run, int64_t n, int32_t low, int32_t high) {
    MAKE_INPUT(int32_t, n, low + (int32_t)(next_unit(run) * (double)(high - low + 1)));
}

void *case_output(case_run *run, int64_t n_bytes) {
    char *data = take(run, n_bytes)->data;
    if (n_bytes > 0)
        FORGET(data, (size_t)n_bytes);
    return data;
}

/* FNV-1a. */
void case_add(case_run *run, const void *output, int64_t n_bytes) {
    const unsigned char *bytes = output;
    for (int64_t i = 0; i < n_bytes; i++)
        run->digest = (run->digest ^ bytes[i]) * UINT64_C(0x100000001b3);
}

void case_add_doubles(case_run *run, const double *output, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double value = isnan(output[i]) ? 0x1p-1074 : output[i];
        case_add(run, &value, sizeof value);
    }
}
