/*
 * failing.h - makes allocations and thread starts of the kernels fail on demand, and counts them.
 *
 * A program that is linked with -Wl,--wrap=malloc and so on (the Makefile does it for all that have
 * failing.c in them) sees the calls of the kernels alone: the C library keeps its own.
 */
#ifndef FAILING_H
#define FAILING_H

#include <stdint.h>

/* What can be made to fail. */
enum failing_kind { FAILING_MEMORY, FAILING_THREADS, FAILING_FORK_HANDLERS, FAILING_KINDS };

/* From now on count calls of this kind from 1 and make those from `first` to `last` fail; first = 0
 * fails none. */
void failing_set(enum failing_kind kind, int64_t first, int64_t last);

/* Calls of this kind since failing_set. */
int64_t failing_calls(enum failing_kind kind);

/* Blocks of memory that were allocated and not freed. */
int64_t failing_blocks(void);

#endif
