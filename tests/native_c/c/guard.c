/* guard.c - the pages of guard.h. */
#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE /* MAP_ANONYMOUS */
#endif
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "guard.h"

#define PATTERN 0xA5

static const char *volatile doing = "nothing that was told";

/*
 * Pairs of an open and a forbidden page that were given back, for the next small memory: a mapping
 * costs more than a kernel takes for a few numbers. For one thread, as all of this file.
 */
#define MOST_KEPT 64
static guarded kept[MOST_KEPT];

static int64_t page_bytes(void) {
    return (int64_t)sysconf(_SC_PAGESIZE);
}

/* The pages that may be touched. */
static char *open_pages(const guarded *memory) {
    return memory->pages + (memory->side == GUARD_BEFORE ? page_bytes() : 0);
}

/* Pages [open, open + page) of which the last or the first is forbidden; the rest can be written.
 */
static char *take_pages(int64_t open, enum guard_side side) {
    int before = side == GUARD_BEFORE;
    size_t page = (size_t)page_bytes(), n_bytes = (size_t)open + page;
    for (int i = 0; open == page_bytes() && i < MOST_KEPT; i++)
        if (kept[i].pages && (kept[i].side == GUARD_BEFORE) == before) {
            char *pages = kept[i].pages;
            kept[i].pages = NULL;
            CHECK(mprotect(pages + (before ? page : 0), (size_t)open, PROT_READ | PROT_WRITE) == 0);
            return pages;
        }
    char *pages = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    CHECK(mprotect(pages + (before ? 0 : open), page, PROT_NONE) == 0);
    return pages;
}

guarded guard_make(int64_t n_bytes, enum guard_side side) {
    guarded memory = {.n_bytes = n_bytes, .side = side};
    if (n_bytes == 0 && side == GUARD_NULL)
        return memory;
    int64_t page = page_bytes(), open = (n_bytes + page - 1) / page * page;
    memory.n_pages_bytes = open + page;
    memory.pages = take_pages(open, side);
    memset(open_pages(&memory), PATTERN, (size_t)open);
    int before = side == GUARD_BEFORE && n_bytes > 0;
    memory.data = before ? memory.pages + page : memory.pages + open - n_bytes;
    if (side == GUARD_BEFORE && n_bytes == 0)
        memory.data = memory.pages;
    return memory;
}

void guard_forbid_writing(const guarded *memory) {
    int64_t open = memory->n_pages_bytes - page_bytes();
    if (memory->pages && open > 0)
        CHECK(mprotect(open_pages(memory), (size_t)open, PROT_READ) == 0);
}

void guard_check(const guarded *memory) {
    if (!memory->pages || memory->n_bytes == 0)
        return;
    int64_t page = page_bytes(), gap = memory->n_pages_bytes - page - memory->n_bytes;
    const char *beside =
        memory->side == GUARD_BEFORE ? memory->data + memory->n_bytes : memory->data - gap;
    static char untouched[1 << 16];
    CHECK(gap <= (int64_t)sizeof untouched);
    if (untouched[0] == 0)
        memset(untouched, PATTERN, sizeof untouched);
    CHECK(memcmp(beside, untouched, (size_t)gap) == 0);
}

void guard_free(guarded *memory) {
    int is_pair = memory->n_pages_bytes == 2 * page_bytes();
    for (int i = 0; is_pair && memory->pages && i < MOST_KEPT; i++)
        if (!kept[i].pages) {
            kept[i] = *memory;
            memory->pages = NULL;
        }
    if (memory->pages)
        CHECK(munmap(memory->pages, (size_t)memory->n_pages_bytes) == 0);
    memory->pages = NULL;
}

static void say_and_die(int signal_number) {
    static const char head[] = "a forbidden access, in: ";
    if (write(2, head, sizeof head - 1) < 0 || write(2, doing, strlen(doing)) < 0 ||
        write(2, "\n", 1) < 0)
        _exit(1);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void guard_report(const char *where) {
    doing = where;
    signal(SIGSEGV, say_and_die);
    signal(SIGBUS, say_and_die);
}
