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

static uint64_t key_of(float similarity, int64_t other) {
    return (uint64_t)rank_of_float(similarity) << 32 | ~(uint32_t)other;
}

static float similarity_of(uint64_t key) {
    return float_of_rank((uint32_t)(key >> 32));
}

/* After nc_nearest_order the halves of a key have changed places. */
static uint64_t swap_halves(uint64_t key) {
    return key << 32 | key >> 32;
}

static int64_t index_of_swapped(uint64_t key) {
    return (int64_t) ~(uint32_t)(key >> 32);
}

static float similarity_of_swapped(uint64_t key) {
    return float_of_rank((uint32_t)key);
}

static void sift_up(uint64_t *heap, int64_t at) {
    uint64_t key = heap[at];
    for (int64_t parent; at > 0 && heap[parent = (at - 1) / 2] > key; at = parent)
        heap[at] = heap[parent];
    heap[at] = key;
}

static void sift_down(uint64_t *heap, int64_t size, int64_t at) {
    uint64_t key = heap[at];
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= key)
            break;
        heap[at] = heap[child];
    }
    heap[at] = key;
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

void nc_nearest_offer(const nc_discovery *job, int64_t node, int64_t other, float found) {
    uint64_t *heap = job->nearest + node * job->top_k, key = key_of(found, other);
    lock(job->locks + node);
    int64_t held = job->held[node], changed = 1;
    if (held < job->top_k) {
        heap[held] = key;
        sift_up(heap, held++);
        job->held[node] = (int32_t)held;
    } else if (key > heap[0]) {
        heap[0] = key;
        sift_down(heap, held, 0);
    } else {
        changed = 0;
    }
    if (changed && held == job->top_k)
        atomic_store_explicit(job->bounds + node, similarity_of(heap[0]) - job->margin,
                              memory_order_relaxed);
    unlock(job->locks + node);
}

void nc_nearest_order(const nc_discovery *job, int64_t first, int64_t last) {
    for (int64_t node = first; node < last; node++) {
        uint64_t *heap = job->nearest + node * job->top_k;
        int64_t held = job->held[node];
        job->worst[node] = held == job->top_k ? heap[0] : 0;
        for (int64_t at = 0; at < held; at++)
            heap[at] = swap_halves(heap[at]);
        for (int64_t at = held / 2; at-- > 0;)
            sift_down(heap, held, at);
        /* Heap sort leaves the greatest first, which is the lowest index. */
        while (held > 1) {
            uint64_t key = heap[--held];
            heap[held] = heap[0];
            heap[0] = key;
            sift_down(heap, held, 0);
        }
    }
}

/* Whether row `node` has `other` in its own list. */
static int lists(const nc_discovery *job, int64_t node, int64_t other, float similarity) {
    return key_of(similarity, other) >= job->worst[node];
}

void nc_nearest_count(const nc_discovery *job) {
    int64_t *counts = job->row_starts + 1;
    for (int64_t node = 0; node < job->n; node++)
        for (int64_t at = 0; at < job->held[node]; at++) {
            uint64_t key = job->nearest[node * job->top_k + at];
            int64_t other = index_of_swapped(key);
            if (other > node)
                counts[node]++;
            else if (!lists(job, other, node, similarity_of_swapped(key)))
                counts[other]++;
        }
}

/* Give each row the pairs that only their larger end lists; these come in the order of that end. */
static void gather_from_above(const nc_discovery *job, int64_t *ends, int32_t *second,
                              float *similarity) {
    for (int64_t node = 0; node < job->n; node++)
        for (int64_t at = 0; at < job->held[node]; at++) {
            uint64_t key = job->nearest[node * job->top_k + at];
            int64_t other = index_of_swapped(key);
            float found = similarity_of_swapped(key);
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
        int64_t other = index_of_swapped(*own);
        if (end > start && second[end - 1] > other) {
            second[stop] = second[--end];
            similarity[stop] = similarity[end];
        } else {
            second[stop] = (int32_t)other;
            similarity[stop] = similarity_of_swapped(*own--);
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
            if (index_of_swapped(job->nearest[node * job->top_k + at]) < node)
                break;
        merge_own(job, node, start, end, end + own, second, similarity);
        for (int64_t at = start; at < end + own; at++)
            first[at] = (int32_t)node;
        start = end + own;
    }
}
