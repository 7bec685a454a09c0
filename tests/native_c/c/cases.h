/*
 * cases.h - a call of every public kernel at any size, for the tests that treat all kernels alike:
 * bounds, leaks, failing allocations, bits. A kernel joins them by a case in cases_<family>.c:
 *
 *     KERNEL_CASE(ucb1_selection_of_nodes, .pooled = 20000) {
 *         const double *sums = case_doubles(run, n, -3, 7);
 *         double *scores = case_output(run, n * (int64_t)sizeof *scores);
 *         int status = nc_mcts_...(n, sums, scores);
 *         case_add_doubles(run, scores, n);
 *         return status;
 *     }
 *
 * A test in tests/native_c/test_cases.py holds that no public function is missing.
 */
#ifndef CASES_H
#define CASES_H

#include <stdint.h>

#include "guard.h"

#define CASE_ARRAYS 32

/* One call: the arrays that it was given, and what came out. */
typedef struct {
    enum guard_side side;
    int n_arrays;
    guarded arrays[CASE_ARRAYS];
    uint64_t state;  /* of the numbers that fill the inputs */
    uint64_t digest; /* of the outputs */
} case_run;

typedef struct kernel_case kernel_case;
struct kernel_case {
    const char *name;
    int (*call)(case_run *run, int64_t n); /* returns the kernel's status */
    int64_t least;                         /* smaller sizes are NC_INVALID */
    int64_t pooled; /* a size at which the work is spread over threads, or 0 when it never is */
    int64_t block;  /* a size at which it begins to work otherwise, or 0 for none but the usual */
    int fused;      /* levels with a fused multiply-add have other bits than those without */
    const kernel_case *next;
};

#define KERNEL_CASE(function, ...)                                                                 \
    static int function(case_run *run, int64_t n);                                                 \
    __attribute__((constructor)) static void function##_joins(void) {                              \
        static kernel_case one = {.name = #function, .call = function, __VA_ARGS__};               \
        case_join(&one);                                                                           \
    }                                                                                              \
    static int function(case_run *run, int64_t n)

/* All cases, ordered by name. */
const kernel_case *case_first(void);
void case_join(kernel_case *one);

/* Call a case at size n on memory guarded at `side`; return its digest. Ends the program where the
 * status is not the one to expect, or where the kernel wrote beside its outputs. */
uint64_t case_digest(const kernel_case *one, int64_t n, enum guard_side side);

/* The same, but give back whatever status the kernel returns. */
int case_call(const kernel_case *one, int64_t n, enum guard_side side, uint64_t *digest);

/* End the program, saying which call it was, unless the digest of the last call is `expected`. */
void case_check_digest(uint64_t digest, uint64_t expected);

/* Whether the level in use multiplies and adds with one rounding. */
int case_level_is_fused(void);

/* Inputs: memory that cannot be written to, filled with numbers in [low, high]. */
const double *case_doubles(case_run *run, int64_t n, double low, double high);
const float *case_floats(case_run *run, int64_t n, float low, float high);
const int64_t *case_wholes(case_run *run, int64_t n, int64_t low, int64_t high);
const int32_t *case_indices(case_run *run, int64_t n, int32_t low, int32_t high);

/* Memory for an output or for work space, of any content. */
void *case_output(case_run *run, int64_t n_bytes);

/* Enter outputs into the digest. A NaN counts as a NaN whatever its bits, which IEEE leaves open.
 */
void case_add(case_run *run, const void *output, int64_t n_bytes);
void case_add_doubles(case_run *run, const double *output, int64_t n);

#endif
