/*
 * guard.h - memory that ends at a page nobody may touch, or begins right after one.
 *
 * An access one byte beyond such memory ends the program at once, on every compiler and processor,
 * also where a sanitizer does not look: in vector loads of hand-written kernels. What shares the
 * memory's own pages is filled with a pattern and checked, so that writes on the open side show.
 */
#ifndef GUARD_H
#define GUARD_H

#include <stdint.h>

/* Where the forbidden page lies. Memory of size zero is no more than an address in that page. */
enum guard_side {
    GUARD_AFTER,  /* the memory ends at it */
    GUARD_BEFORE, /* the memory begins right after it */
    GUARD_NULL,   /* as GUARD_AFTER, but memory of size zero is NULL */
    GUARD_SIDES
};

typedef struct {
    char *pages; /* as they were mapped, the forbidden one included; NULL when there are none */
    int64_t n_pages_bytes, n_bytes;
    char *data;
    enum guard_side side;
} guarded;

/* Map n_bytes of memory that can be read and written; ends the program where there is none. */
guarded guard_make(int64_t n_bytes, enum guard_side side);

/* From now on the memory may be read alone. */
void guard_forbid_writing(const guarded *memory);

/* End the program unless what surrounds the memory on its own pages is as it was. */
void guard_check(const guarded *memory);

void guard_free(guarded *memory);

/* Say `where` before the program dies of a forbidden access. The text must live on. */
void guard_report(const char *where);

#endif
