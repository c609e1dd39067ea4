/* internal.h: what the files of model/ share about an open model. Not for other folders. */
#ifndef PTQ_MODEL_INTERNAL_H
#define PTQ_MODEL_INTERNAL_H
#include "datasets/h5.h"
#include "datasets/llama2c.h"
#include "model/model.h"

struct ptq_model {
    struct ptq_arena arena; /* info's texts and the rotation table */
    struct ptq_model_info info;
    struct ptq_model_options options;
    const struct ptq_arch *arch;
    struct ptq_h5 *h5; /* the container, or NULL: */
    struct ptq_llama2c *bin;
    /* Rotations of the first rope_rows positions: (rope_rows x head_dim / 2); NULL without rotary
     * positions. Later positions are computed when met, by the same function, so the table's
     * length decides speed alone. */
    const float *rope_cos, *rope_sin;
    int64_t rope_rows;
};

/* Rotations of one position: head_dim / 2 values each, angles in fp64. */
void ptq_rope_row(const struct ptq_model_info *, int64_t position, float *cos_out, float *sin_out);
/* A row of the table, or of buf (head_dim floats) when the position lies behind it. */
void ptq_rope_at(const struct ptq_model *, int64_t position, float *buf, const float **cos_out,
                 const float **sin_out);

/* y = x / sqrt(mean(x^2) + eps) * gain, row by row of d values. */
void ptq_norm_rows(const float *gain, double eps, const float *x, int64_t n, int64_t d, float *y);
/* hess_key of statistics read or made. */
struct ptq_input_stats;
uint64_t ptq_stats_key(const struct ptq_input_stats *);
/* hess = hess_rest + hess_sink. */
void ptq_stats_total(struct ptq_input_stats *);
/* Sum of squares and sum of n floats in fp64: 16 interleaved lanes, then the lanes in order. */
double ptq_lanes_sumsq(const float *, int64_t n);
double ptq_lanes_sum(const float *, int64_t n);

/* Table of the architectures, NULL-terminated. */
const struct ptq_arch *const *ptq_archs(void);
#endif
