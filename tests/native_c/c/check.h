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

/*
 * 1 under gcc's ThreadSanitizer, which ends a child that was forked from many threads as soon as it
 * starts one ("dup thread with used id"). Clang's lets it live, with die_after_fork=0.
 */
#if defined(__SANITIZE_THREAD__)
#  define CHILDREN_MAY_NOT_START_THREADS 1
#else
#  define CHILDREN_MAY_NOT_START_THREADS 0
#endif

#endif
