/*
 * core.h - what every kernel of native_c shares: statuses, instruction sets, threads, random
 * numbers.
 *
 * Conventions of all public functions of this library:
 *
 *   Status     A function that can fail returns an int of enum nc_status; NC_OK is 0.
 *   Ownership  The caller owns every array, inputs and outputs; nothing returned needs freeing.
 *   Arrays     C order, aligned for their type, native byte order; sizes are int64_t. Inputs and
 *              outputs must not overlap. An array of size zero may be any pointer.
 *   On error   Outputs hold unspecified values, and nothing leaks.
 *   Threads    Every function may be called from any thread at any time, also after fork(). Two
 *              calls may not write to the same output.
 *   Bits       The same inputs give the same output bits on any number of threads.
 */
#ifndef NC_CORE_H
#define NC_CORE_H

#include <stdint.h>

#define NC_VERSION "0.1.0"

/* cffi: begin */

/* What a call came to. */
enum nc_status {
    NC_OK = 0,            /* done */
    NC_INVALID = 1,       /* an argument is outside its documented range */
    NC_NO_MEMORY = 2,     /* an allocation failed */
    NC_SINGULAR = 3,      /* a matrix has no inverse or no factorization */
    NC_NOT_CONVERGED = 4, /* the iteration ended before its tolerance was met */
    NC_AGAIN = 5,         /* a stepped kernel has work left: call its step again */
    NC_UNSUPPORTED = 6    /* this processor lacks what was asked for */
};

/* Instruction sets that kernels are compiled for. */
enum nc_simd {
    NC_SIMD_PORTABLE = 0, /* the compiler's baseline: SSE2 on x86-64 */
    NC_SIMD_AVX2 = 1,     /* AVX2, FMA, BMI2 */
    NC_SIMD_AVX512 = 2,   /* AVX-512 F, DQ, BW, VL, CD, on top of AVX2 */
    NC_SIMD_NEON = 3,     /* Advanced SIMD of arm64 */
    NC_SIMD_LEVELS = 4
};

/* The version of this library, "major.minor.patch"; static text. */
const char *nc_version(void);

/* The compiler that built this library; static text. */
const char *nc_compiler(void);

/* 1 if this processor and its operating system run `level`, else 0 (also for no level at all). */
int nc_simd_supported(int level);

/* The level in use: the best supported one until nc_set_simd chooses another. */
int nc_simd_level(void);

/*
 * Use `level` in every call that starts from now on, in all threads.
 * Returns NC_OK, or NC_UNSUPPORTED (and changes nothing) where nc_simd_supported(level) is 0.
 */
int nc_set_simd(int level);

/*
 * Use at most `n_threads` threads for one call, its caller included; 1 to 256.
 * Returns NC_OK, or NC_INVALID (and changes nothing) outside that range.
 * Threads start with the first call that is large enough for them.
 */
int nc_set_threads(int n_threads);

/* The limit in force: the processors this process may run on until nc_set_threads says else. */
int nc_get_threads(void);

/* Threads that the last kernel called on this very thread was spread over; 1 when it ran inline. */
int nc_threads_used(void);

/*
 * Stop and join all threads of the pool; the next call that needs them starts new ones. Waits for
 * the call that uses them to end. For tests and for leak checkers: a program needs it nowhere.
 */
void nc_stop_threads(void);

/*
 * Draws `first` to `first + n - 1` of the random stream (seed, stream), 64 bits each, into out [n].
 *
 * The generator is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * 2011) under the key (seed, stream): draw i is word i % 4 of the block with counter i / 4 + 1.
 * So draws 0, 1, 2, ... are those of numpy.random.Philox(key=[seed, stream]), which steps its
 * counter before each block. Draws are independent of how they are grouped into calls.
 * Returns NC_OK, or NC_INVALID for a negative n.
 */
int nc_random_words(uint64_t seed, uint64_t stream, uint64_t first, int64_t n, uint64_t *out);

/* The same draws as doubles in [0, 1): (word >> 11) * 2^-53, as numpy.random.Generator.random. */
int nc_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, int64_t n, double *out);

/*
 * Natural logarithm and exponential of values [n] into out [n], with the same bits on every
 * instruction set and in the NumPy twin, within 2 ulp. Special values as in C: log(0) = -inf,
 * log(x < 0) = nan, exp(-inf) = 0; exp overflows to inf and underflows through subnormals to 0.
 * Return NC_OK, or NC_INVALID for a negative n.
 */
int nc_elementary_log(int64_t n, const double *values, double *out);
int nc_elementary_exp(int64_t n, const double *values, double *out);

/* cffi: end */

#endif
