/* bisect_walk.h: hybrids of two quantized models, run and scored; private to bisect. */
#ifndef PTQ_ANALYSIS_BISECT_WALK_H
#define PTQ_ANALYSIS_BISECT_WALK_H
#include "analysis/bisect.h"

enum { PTQ_OLD, PTQ_NEW };

struct ptq_site { /* a layer that one of the two models quantizes */
    const char *name;
    int block, lin;
    int64_t changed; /* how many layers before it differ */
    bool differs;
};
/* Layers that differ: the first n_new are NEW's, the others OLD's. */
struct ptq_hybrid {
    int64_t n_new;
    /* A layer that is neither's, or NULL: this form takes the place of site `at`. */
    const struct ptq_result *instead;
    int64_t at;
};
/* Hidden states of a hybrid before a block: right for every hybrid that agrees before it. */
struct ptq_waypoint {
    int block;
    float *states; /* malloc: (n_total x d_model) */
};
struct ptq_walk {
    const struct ptq_bisect_args *args;
    struct ptq_picked picked[2];
    struct ptq_model *model;
    struct ptq_text text;
    struct ptq_arena *arena;
    struct ptq_site *site;
    int64_t n_sites, n_changed, n_probes;
    int64_t *changed_site;        /* [n_changed] index of the site */
    char codes[2][PTQ_KEY_CHARS]; /* as model rows have it: chained hashes of the layers */
    double *zero_nll;             /* [n_windows] of OLD */
    int64_t *n_window;
};

/* Picks both rows, opens the model and the text, lists the sites. comparable: see bisect.h. */
int ptq_walk_open(struct ptq_walk *, bool *comparable, struct ptq_status *);
void ptq_walk_close(struct ptq_walk *);
/* The states before block 0. */
int ptq_waypoint_first(struct ptq_walk *, struct ptq_waypoint *, struct ptq_status *);
/* A copy moved on to `block` under the hybrid. */
int ptq_waypoint_at(struct ptq_walk *, const struct ptq_waypoint *from, int block,
                    const struct ptq_hybrid *, struct ptq_waypoint *, struct ptq_status *);
void ptq_waypoint_release(struct ptq_waypoint *);
/* Mean NLL of every window; the hybrid agrees with the waypoint before its block. Counts a probe.
 */
int ptq_walk_score(struct ptq_walk *, const struct ptq_waypoint *, const struct ptq_hybrid *,
                   double *nll_window, struct ptq_status *);
/* b less a, paired by window; windows weigh by their scored tokens. */
void ptq_walk_difference(const struct ptq_walk *, const double *a, const double *b,
                         struct ptq_interval *);
double ptq_walk_nll(const struct ptq_walk *, const double *nll_window);
#endif
