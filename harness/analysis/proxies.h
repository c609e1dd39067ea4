/* proxies.h: proxies of perplexity and what they are worth: numbers that are had without the
 * evaluation text (errors of layers, their sums, short runs), against the loss that was measured on
 * it, over the quantized models of a run. */
#ifndef PTQ_ANALYSIS_PROXIES_H
#define PTQ_ANALYSIS_PROXIES_H
#include "analysis/proxy_stats.h"
#include "analysis/tables.h"

struct ptq_proxy {
    const char *id, *title;
    bool in_nats;             /* it claims to be the loss itself */
    double *value;            /* [cells of the study] less is better; NaN: the cell has none */
    struct ptq_proxy_fit fit; /* fit.n_strata 0: nothing to tell */
};
struct ptq_proxies {
    const struct ptq_board *d;
    /* Why there is no study (no perplexity, too few settings, ...); NULL: there is one. */
    const char *none;
    struct ptq_proxy_study study;
    const struct ptq_point **cell;    /* [study.of.n] */
    const struct ptq_point **stratum; /* [study.of.n_strata] one of its cells */
    struct ptq_proxy *at;
    int64_t n;
    /* Settings that take no part: not ranked or without windows; of other stored bits than their
     * stratum (by 5 %); copies of another's codes. */
    int64_t n_unfit, n_other_bits, n_copies;
    /* What the short runs ran over ("synth:facts:6666, 16 windows"); NULL: there were none. */
    const char *runs;
    /* Geometric mean over layers of the coefficient at the larger level of noise over that at the
     * smaller: 1 where a layer's loss is linear in its squared error. NaN: not known. */
    double linearity;
};
/* Of the models of a board, in the arena of the tables. */
int ptq_proxies(const struct ptq_tables *, const struct ptq_board *, struct ptq_proxies *);
/* NULL: there is none of that id with a figure. */
const struct ptq_proxy *ptq_proxy_find(const struct ptq_proxies *, const char *id);
/* "3 bits, groups of 32", of a stratum; in the arena. */
const char *ptq_stratum_text(const struct ptq_tables *, const struct ptq_point *);
/* What stands under a table that prints errors of layers beside perplexity: the rank correlation of
 * each of them, or why there is none. */
const char *ptq_proxies_line(const struct ptq_tables *, const struct ptq_board *);
const struct ptq_proxies *ptq_proxies_of(const struct ptq_tables *, const struct ptq_board *);

/* ---- table_proxies.c ---- */
int ptq_table_proxies(const struct ptq_tables *, const struct ptq_proxies *, struct ptq_sheet *);
/* Of each the stratum that it orders worst, and of the decided pairs that it has the wrong way
 * round the one with the widest gap. */
int ptq_table_breaks(const struct ptq_tables *, const struct ptq_proxies *, struct ptq_sheet *);
int ptq_table_proxies_exact(const struct ptq_tables *, struct ptq_sheet *); /* every board */
/* What a reader must know beside the table, one line each, NULL-terminated; in the arena. */
const char **ptq_proxies_notes(const struct ptq_tables *, const struct ptq_proxies *);
#endif
