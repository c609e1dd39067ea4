/* score_audit.h: what the codes of one layer tell about how they were made, against the weights
 * they stand for. Counts only: sums over layers are counts of the model. */
#ifndef PTQ_ANALYSIS_SCORE_AUDIT_H
#define PTQ_ANALYSIS_SCORE_AUDIT_H
#include "core/arena.h"
#include "analysis/score_source.h"

struct ptq_score_audit {
    /* Of the grid: that of the form, or the one that plain values were found to lie on. */
    int bits;           /* 0: no grid: nothing below is known but n_weights */
    int64_t group_cols; /* -1: whole rows */
    bool sym, in_order; /* no zeros are stored; groups are neighbours */
    bool found;         /* plain values: taken from the values, not from the file */
    int64_t n_weights, n_groups;
    /* Codes that are the weight's own on this grid: clamp(round(w / scale) + zero). */
    int64_t n_rtn_same;
    /* The same but for ties: the scale that is stored is not quite the one that codes were chosen
     * by. */
    int64_t n_rtn_close;
    int64_t n_clipped;   /* weights more than half a step outside of their grid */
    int64_t n_saturated; /* groups with at least half of their codes at an end of the grid */
    /* Groups whose values all have one sign (or are 0) though their weights have both. */
    int64_t n_one_sided;
    int64_t n_flat; /* groups with one code throughout though their weights differ */
    int64_t n_scale_zero, n_scale_negative,
        n_scale_subnormal; /* of the format they are stored in */
    /* Rows and columns that are multiples of the original's, off by over a tenth, as where a factor
     * went into the matrix before or behind: the layer's own losses then say nothing of the model.
     */
    int64_t n_scaled_rows, n_scaled_cols;
    int64_t n_out_of_range; /* zeros beyond the codes */
};
/* w (rows x cols): the original. */
int ptq_score_audit_layer(const struct ptq_external_layer *, const float *w, int64_t ldw,
                          struct ptq_arena *, struct ptq_score_audit *, struct ptq_status *);
#endif
