/* mcts.c - public functions of mcts.h. */
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
    nc_pool_run((n_nodes + job.nodes_per_chunk - 1) / job.nodes_per_chunk, ucb1_chunk, &job);
    return atomic_load(&job.wrong) ? NC_INVALID : NC_OK;
}
