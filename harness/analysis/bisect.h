/* bisect.h: where the difference between two quantized models of one model comes from: which layer,
 * and which part of its stored form.
 *
 * Hybrids walk from OLD to NEW: the first k of the layers whose stored values differ, in the order
 * in which the model runs them, are NEW's, all others OLD's. What a range of layers carries is the
 * difference of mean NLL between the hybrids at its ends, so the shares add up to the whole. A
 * range that carries something is halved; one that does not is left alone. So one guilty layer
 * costs about 2 log2(layers) probes. Every probe starts at the block of its first new layer, from
 * hidden states that are kept. */
#ifndef PTQ_ANALYSIS_BISECT_H
#define PTQ_ANALYSIS_BISECT_H
#include "core/stat.h"
#include "model/eval.h"
#include "sweep/pick.h"

struct ptq_bisect_args {
    struct ptq_pick_args side[2]; /* OLD, NEW */
    const char *source;           /* where the model lies now; NULL: where OLD's row says */
    double level;                 /* of the intervals, (0, 1) */
    double share;        /* a range that carries less than this share of the whole is left alone */
    int64_t most_probes; /* then the ranges are reported as they stand */
    struct ptq_pool *pool;
    bool quiet;
    bool (*stop)(void *stop_arg);
    void *stop_arg;
};

/* What NEW does to one layer, all others OLD's. */
struct ptq_bisect_parts {
    bool comparable;                    /* both forms are one uniform grid of the same shape */
    int64_t n_codes, n_scales, n_zeros; /* that differ */
    bool order;                         /* the permutations differ */
    double max_scale;                   /* largest |new / old - 1| of a scale */
    /* Mean NLL less OLD's, with NEW's whole form, its codes on OLD's grid, its grid (scales and
     * zeros) under OLD's codes, its order alone. n == 0: nothing of that kind differs. */
    struct ptq_interval whole, codes, grid, order_alone;
};
struct ptq_bisect_range { /* neighbouring layers that differ */
    const char *first, *last;
    int64_t n_layers;
    struct ptq_interval dnll; /* nats a token, clustered by window */
    bool guilty;              /* the interval excludes 0 and the share is not below args.share */
    bool split;               /* not to the end: out of probes */
    struct ptq_bisect_parts parts; /* of a guilty range of one layer */
};
struct ptq_bisect {
    const char *model, *text, *protocol;
    char title[2][256];
    double nll[2];             /* recomputed; the rows', or bisect fails */
    struct ptq_interval total; /* NEW less OLD */
    int64_t n_layers, n_changed, n_probes, n_ranges;
    struct ptq_bisect_range *range; /* in the order of the model */
};
/* Everything in the arena. PTQ_ERR_USAGE: a row or form is not here, or the two are of another
 * model (st says "not comparable" then and *comparable is false). PTQ_ERR_NUMERIC: a stored form
 * does not give its row's hash or NLL. */
int ptq_bisect(const struct ptq_bisect_args *, struct ptq_arena *, struct ptq_bisect *,
               bool *comparable, struct ptq_status *);
#endif
