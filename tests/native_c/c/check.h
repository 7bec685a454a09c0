/* check.h - the whole test framework of the C tests: a failed CHECK says where and ends the test.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Run the statement after it once with each instruction set of this machine. */
#define ON_EACH_LEVEL                                                                              \
    for (int level_ = 0; level_ < NC_SIMD_LEVELS; level_++)                                        \
        if (nc_set_simd(level_) == NC_OK)

/* 1 under ThreadSanitizer, which lets no forked child start threads. */
#if defined(__SANITIZE_THREAD__)
#  define UNDER_TSAN 1
#elif defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#    define UNDER_TSAN 1
#  endif
#endif
#if !defined(UNDER_TSAN)
#  define UNDER_TSAN 0
#endif

#endif
