/* fusion_nearest.c - the lists of fusion_nearest.h. */
#include <sched.h>
#include <string.h>

#include "fusion_nearest.h"

/* The bits of a float in an order of unsigned integers that is its own; -0 counts as 0. */
static uint32_t rank_of_float(float x) {
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 31 ? ~bits : bits | UINT32_C(1) << 31;
}

static float float_of_rank(uint32_t rank) {
    uint32_t bits = rank >> 31 ? rank & ~(UINT32_C(1) << 31) : ~rank;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* In the lower half: 31 bits for the row, and one that tells an exact similarity. */
#define EXACT UINT64_C(1)

static uint64_t key_of(float similarity, int64_t other, int exact) {
    return (uint64_t)rank_of_float(similarity) << 32 | (uint32_t)~(uint32_t)other << 1 |
           (exact ? EXACT : 0);
}

static float similarity_of(uint64_t key) {
    return float_of_rank((uint32_t)(key >> 32));
}

static int64_t index_of(uint64_t key) {
    return (int64_t)(~(uint32_t)key >> 1);
}

/* For an order in which the index counts first. */
static uint64_t swap_halves(uint64_t key) {
    return key << 32 | key >> 32;
}

static void make_exact(const nc_discovery *job, int64_t node, uint64_t *key) {
    int64_t other = index_of(*key);
    if (!(*key & EXACT))
        *key = key_of(job->kernels->exact(job, node, other), other, 1);
}

/* Whether *a is better than *b in the list of `node`; either becomes exact where that decides. */
static int beats(const nc_discovery *job, int64_t node, uint64_t *a, uint64_t *b) {
    float lead = similarity_of(*a) - similarity_of(*b);
    if (lead > 2 * job->margin || lead < -2 * job->margin)
        return lead > 0;
    make_exact(job, node, a);
    make_exact(job, node, b);
    return *a > *b;
}

/* Put `key` into the heap that is free at its last place. */
static void sift_up(const nc_discovery *job, int64_t node, uint64_t *heap, int64_t at,
                    uint64_t key) {
    for (int64_t parent; at > 0; at = parent) {
        parent = (at - 1) / 2;
        if (!beats(job, node, heap + parent, &key))
            break;
        heap[at] = heap[parent];
    }
    heap[at] = key;
}

/* Put `key` into the heap that is free at its top. */
static void sift_down(const nc_discovery *job, int64_t node, uint64_t *heap, int64_t size,
                      uint64_t key) {
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && beats(job, node, heap + child, heap + child + 1))
            child++;
        if (!beats(job, node, &key, heap + child))
            break;
        heap[at] = heap[child];
    }
    heap[at] = key;
}

/* The same for keys that are compared as numbers, free at any place. */
static void sift_number(uint64_t *heap, int64_t size, int64_t at, uint64_t key) {
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && heap[child + 1] < heap[child])
            child++;
        if (key <= heap[child])
            break;
        heap[at] = heap[child];
    }
    heap[at] = key;
}

/* Heap sort, the greatest first. */
static void sort_numbers(uint64_t *heap, int64_t size) {
    for (int64_t at = size / 2; at-- > 0;)
        sift_number(heap, size, at, heap[at]);
    while (size > 1) {
        uint64_t key = heap[--size];
        heap[size] = heap[0];
        sift_number(heap, size, 0, key);
    }
}

/* Held for some tens of nanoseconds; a holder that lost its processor is waited for politely. */
static void lock(atomic_flag *flag) {
    for (int tries = 0; atomic_flag_test_and_set_explicit(flag, memory_order_acquire); tries++)
        if (tries >= 100)
            sched_yield();
}

static void unlock(atomic_flag *flag) {
    atomic_flag_clear_explicit(flag, memory_order_release);
}

void nc_nearest_clear(nc_discovery *job) {
    for (int64_t i = 0; i < job->n; i++) {
        job->held[i] = 0;
        atomic_init(job->bounds + i, job->threshold - job->margin);
        atomic_flag_clear(job->locks + i);
    }
}

void nc_nearest_offer(const nc_discovery *job, int64_t node, int64_t other, float found,
                      int exact) {
    uint64_t *heap = job->nearest + node * job->top_k, key = key_of(found, other, exact);
    lock(job->locks + node);
    int64_t held = job->held[node];
    if (held < job->top_k) {
        sift_up(job, node, heap, held++, key);
        job->held[node] = (int32_t)held;
    } else if (beats(job, node, &key, heap)) {
        sift_down(job, node, heap, held, key);
    }
    /* Twice the margin: neither the worst of the list nor what is compared with it need be exact.
     */
    if (held == job->top_k)
        atomic_store_explicit(job->bounds + node, similarity_of(heap[0]) - 2 * job->margin,
                              memory_order_relaxed);
    unlock(job->locks + node);
}

void nc_nearest_order(const nc_discovery *job, int64_t first, int64_t last) {
    for (int64_t node = first; node < last; node++) {
        uint64_t *keys = job->nearest + node * job->top_k;
        int64_t held = job->held[node];
        for (int64_t at = 0; at < held; at++)
            make_exact(job, node, keys + at);
        /* Exact keys keep the heap's order. */
        job->worst[node] = held == job->top_k ? keys[0] : 0;
        for (int64_t at = 0; at < held; at++)
            keys[at] = swap_halves(keys[at]);
        sort_numbers(keys, held);
        for (int64_t at = 0; at < held; at++)
            keys[at] = swap_halves(keys[at]);
    }
}

/* Whether row `node` has `other` in its own list. */
static int lists(const nc_discovery *job, int64_t node, int64_t other, float similarity) {
    return key_of(similarity, other, 1) >= job->worst[node];
}

void nc_nearest_count(const nc_discovery *job) {
    int64_t *counts = job->row_starts + 1;
    for (int64_t node = 0; node < job->n; node++)
        for (int64_t at = 0; at < job->held[node]; at++) {
            uint64_t key = job->nearest[node * job->top_k + at];
            int64_t other = index_of(key);
            if (other > node)
                counts[node]++;
            else if (!lists(job, other, node, similarity_of(key)))
                counts[other]++;
        }
}

/* Give each row the pairs that only their larger end lists; these come in the order of that end. */
static void gather_from_above(const nc_discovery *job, int64_t *ends, int32_t *second,
                              float *similarity) {
    for (int64_t node = 0; node < job->n; node++)
        for (int64_t at = 0; at < job->held[node]; at++) {
            uint64_t key = job->nearest[node * job->top_k + at];
            int64_t other = index_of(key);
            float found = similarity_of(key);
            if (other > node)
                break;
            if (lists(job, other, node, found))
                continue;
            second[ends[other]] = (int32_t)node;
            similarity[ends[other]++] = found;
        }
}

/* Merge a row's own list, from its back, with the pairs [start, end) that it has from above. */
static void merge_own(const nc_discovery *job, int64_t node, int64_t start, int64_t end,
                      int64_t stop, int32_t *second, float *similarity) {
    const uint64_t *own = job->nearest + node * job->top_k + job->held[node] - 1;
    while (stop-- > end) {
        int64_t other = index_of(*own);
        if (end > start && second[end - 1] > other) {
            second[stop] = second[--end];
            similarity[stop] = similarity[end];
        } else {
            second[stop] = (int32_t)other;
            similarity[stop] = similarity_of(*own--);
        }
    }
}

void nc_nearest_gather(const nc_discovery *job, int32_t *first, int32_t *second,
                       float *similarity) {
    /* The starts serve as ends that grow; the next row's start is then no longer needed. */
    int64_t *ends = job->row_starts;
    gather_from_above(job, ends, second, similarity);
    for (int64_t node = 0, start = 0; node < job->n; node++) {
        int64_t own = 0, end = ends[node];
        for (int64_t at = job->held[node]; at-- > 0; own++)
            if (index_of(job->nearest[node * job->top_k + at]) < node)
                break;
        merge_own(job, node, start, end, end + own, second, similarity);
        for (int64_t at = start; at < end + own; at++)
            first[at] = (int32_t)node;
        start = end + own;
    }
}
