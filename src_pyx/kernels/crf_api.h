/* The linear-chain CRF's part of the numeric interface: one batch in packed ragged form (how it works: crf.h).
 *
 * Sequences are dealt: `shard` of `shards` takes the sequences b = shard (mod shards) through all their steps. */
#ifndef RNNCORE_CRF_API_H
#define RNNCORE_CRF_API_H
#include <stdint.h>

/* What is peculiar about a sequence. */
enum {
    RC_CRF_EXACT = 1,  /* its scores lie too far apart for the fast recursions */
    RC_CRF_PARTIAL = 2 /* some of its labels are not known */
};

typedef struct {
    long labels, ld; /* K, and K rounded up to whole vectors */
    long steps, sequences;
    const long *offsets, *active;
    const int64_t *length, *last;
    rc_packed onward, back;         /* E and Eᵀ, to be packed after prepare() */
    void *transitions, *start, *end; /* (K, ld), (ld), (ld): scores, -inf where forbidden and in the pads */
    void *factors, *start_factors, *end_factors; /* exp of them, relative to the largest; factors is E */
    void *pads;                      /* (ld): 0, and -inf in the pads */
    double largest, largest_start, largest_end;
    void *reach, *back_reach;  /* (steps, ld): what labels' sums must not fall below, see crf.h; rows: how many differ */
    long reach_rows, back_reach_rows;
    void *scores;              /* (rows, ld): emissions; in the end their gradient, or marginals */
    void *alpha, *gamma, *beta; /* (rows, ld) */
    double *log_total;         /* (sequences) log Z */
    double *lost;              /* (sequences) bound of what has been rounded to zero */
    int *flags;                /* (sequences) */
    const double *weight;      /* (sequences) how much each one's loss counts, or NULL: all as much */
    double *work;              /* 2·steps·K numbers for exact() */
} rc_crf;

typedef struct {
    /* transitions (K, K), start, end (K) with everything forbidden taken out; allowed: K·K + 2K flags, or NULL */
    void (*prepare)(rc_crf *c, const void *transitions, const void *start, const void *end, const char *allowed);
    /* log_total, and flags (PARTIAL is kept, EXACT set where exact() must do it again) */
    void (*forward)(const rc_crf *c, long shard, long shards);
    /* after forward: marginals in beta; expected transitions, weighted, are E∘Σ alpha_{t-1}ᵀ·gamma_t over all rows */
    void (*backward)(const rc_crf *c, long shard, long shards);
    /* log Z of one sequence by slow and safe ways, of the label sequences that agree with `targets` (negative: any) if
     * given. With marginals: sign·(marginals) go to beta (+: overwrite, -: add), -sign·weight·(expected transitions)
     * are added to counts (K, K). */
    double (*exact)(const rc_crf *c, long b, const int64_t *targets, int marginals, double sign, void *counts);
    /* score of one sequence's labels; adds its transitions, each as `weight`, to counts (K, K) if given */
    double (*path_score)(const rc_crf *c, long b, const int64_t *labels, void *counts);
    /* scores = scale·weight·(beta - onehot(targets)), or beta without targets */
    void (*finish)(const rc_crf *c, const int64_t *targets, double scale, long shard, long shards);
    /* d = or += scale·(E∘expected - counts), all (K, K) */
    void (*transition_gradient)(const rc_crf *c, double scale, const void *expected, const void *counts,
                                int accumulate, void *d);
    /* best label sequences; uses alpha */
    void (*viterbi)(const rc_crf *c, long shard, long shards, int64_t *paths);
    /* the `top` best label sequences of one sequence: path r in paths + r·rows, missing ones -1 with score -inf */
    long (*best_work)(const rc_crf *c, long top); /* bytes */
    void (*best)(const rc_crf *c, long b, long top, long rows, void *work, int64_t *paths, double *scores);
} rc_crf_table;
#endif
