/* mcts.c - public functions of mcts.h. */
#include <pthread.h>
#include <stdatomic.h>

#include "elementary.h"
#include "mcts.h"
#include "pool.h"

#if NC_X86
#  include <immintrin.h>
#endif

/* Children per tile: the tile's logs stay in the first-level cache, and its set-up is spread. */
#define UCB1_TILE 1024
/* Lanes of the widest vector: so many parents' logs are stored at once. */
#define UCB1_SPILL 8
/* Logs that are computed side by side, and the bits of counts for which they and quotients take
   shorter ways. */
#define UCB1_LOGS 16
#define UCB1_FEW_BITS 29
/* Counts whose logs are looked up: 8 KB. With others, up to 2^29, a call from Python for 1,000 x 5
   children takes 13% longer: 4.9 us, not 4.35. */
#define UCB1_KNOWN_LOGS 1024
/* Children per chunk of the pool: about 80 us of work. */
#define UCB1_GRAIN 65536

typedef struct ucb1_job ucb1_job;
typedef int (*ucb1_fn)(const ucb1_job *job, int64_t first, int64_t last);

struct ucb1_job {
    int64_t n_nodes, n_children, nodes_per_chunk;
    const int64_t *visits;
    const double *value_sums;
    const int64_t *parent_visits, *child_counts;
    double exploration;
    double *scores;
    int64_t *chosen;
    ucb1_fn nodes; /* the variant of the level in use */
    atomic_int wrong;
};

#if NC_X86
static double ucb1_known_logs[UCB1_KNOWN_LOGS]; /* of 1, 2, ... */

static void ucb1_learn_logs(void) {
    for (int64_t i = 0; i < UCB1_KNOWN_LOGS; i++)
        ucb1_known_logs[i] = nc_log((double)(i + 1));
}

/* The logs of n counts, if all bits of what this returns, those of the counts less 1, are known. */
static uint64_t ucb1_look_up(const int64_t *counts, int64_t n, double *logs, uint64_t *least) {
    uint64_t all = 0, lowest = UINT64_MAX;
    for (int64_t i = 0; i < n; i++) {
        uint64_t less_one = (uint64_t)counts[i] - 1;
        all |= less_one;
        lowest = less_one < lowest ? less_one : lowest;
        logs[i] = ucb1_known_logs[less_one % UCB1_KNOWN_LOGS];
    }
    *least = lowest;
    return all;
}
#endif

#define NC_TEMPLATE "mcts_ucb1_selection_template.h"
#include "each_level.h"

static void ucb1_chunk(void *ctx, int64_t chunk) {
    ucb1_job *job = ctx;
    int64_t first = chunk * job->nodes_per_chunk;
    int64_t last =
        job->n_nodes - first < job->nodes_per_chunk ? job->n_nodes : first + job->nodes_per_chunk;
    if (job->nodes(job, first, last))
        atomic_store(&job->wrong, 1);
}

int nc_mcts_ucb1_selection(int64_t n_nodes, int64_t n_children, const int64_t *visits,
                           const double *value_sums, const int64_t *parent_visits,
                           const int64_t *child_counts, double exploration, double *scores,
                           int64_t *chosen) {
    if (n_nodes < 0 || n_children < 0 || !(exploration >= 0 && exploration < (double)INFINITY))
        return NC_INVALID;
    static const ucb1_fn nodes[NC_SIMD_LEVELS] = NC_LEVEL_TABLE(ucb1_nodes);
    /* Without children the arrays may be NULL, to which C lets nobody add a zero. */
    static const int64_t no_visits;
    static double no_score;
    ucb1_job job = {
        .n_nodes = n_nodes,
        .n_children = n_children,
        .nodes_per_chunk = n_children < UCB1_GRAIN ? UCB1_GRAIN / (n_children + 1) + 1 : 1,
        .visits = n_children ? visits : &no_visits,
        .value_sums = value_sums,
        .parent_visits = parent_visits,
        .child_counts = child_counts,
        .exploration = exploration,
        .scores = n_children ? scores : &no_score,
        .chosen = chosen,
        .nodes = nodes[nc_simd_level()],
    };
#if NC_X86
    static pthread_once_t logs_are_known = PTHREAD_ONCE_INIT;
    pthread_once(&logs_are_known, ucb1_learn_logs);
#endif
    nc_pool_run((n_nodes + job.nodes_per_chunk - 1) / job.nodes_per_chunk, ucb1_chunk, &job);
    return atomic_load(&job.wrong) ? NC_INVALID : NC_OK;
}
