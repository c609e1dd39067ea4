/* ops.h: what architecture files put blocks together from. Arithmetic as in model.h: fp32, sums in
 * fp64 in a fixed order. */
#ifndef PTQ_MODEL_OPS_H
#define PTQ_MODEL_OPS_H
#include "model/model.h"

/* y = x / sqrt(mean(x^2) + eps) * gain, row by row of d values; y may be x. */
void ptq_norm_rows(const float *gain, double eps, const float *x, int64_t n, int64_t d, float *y);
/* y = (x - mean) / sqrt(var + eps) * gain + bias; bias NULL: none; y may be x. */
void ptq_layer_norm_rows(const float *gain, const float *bias, double eps, const float *x,
                         int64_t n, int64_t d, float *y);
void ptq_add_to(float *x, const float *y, int64_t n); /* x += y */
/* Sums in fp64: sum += x. */
void ptq_sum_f32(double *sum, const float *x, int64_t n);
void ptq_sum_f64(double *sum, const double *x, int64_t n);
void ptq_add_rows(float *x, const float *bias, int64_t n, int64_t d);
/* In place; gelu is x Phi(x) with erf, gelu_tanh its tanh form (GPT-2's gelu_new, BLOOM's). */
void ptq_activate(enum ptq_activation, float *x, int64_t n);
void ptq_gate(float *x, const float *up, int64_t n); /* x = silu(x) * up */

/* y (len x d_out) = x W^T + bias of the block's linear; bias: a slot of vec, or -1. */
int ptq_linear_run(const struct ptq_sequence *, int linear, int bias, const float *x, float *y,
                   struct ptq_status *);
/* Shows the input of a stage to the tap. PTQ_SKIP: the run was to stop here. */
int ptq_tap_show(const struct ptq_sequence *, int stage, const float *x, struct ptq_status *);
/* Shows the attention that the projections of a stage lead to, before it is run. PTQ_SKIP: the run
 * was to stop here. */
int ptq_tap_attention(const struct ptq_sequence *, int stage, const struct ptq_shown_attention *,
                      struct ptq_status *);
/* Whether a half of the block is to be run. */
bool ptq_runs_half(const struct ptq_sequence *, enum ptq_half);
/* Shows what a half adds. PTQ_SKIP: the run was to stop here. */
int ptq_tap_output(const struct ptq_sequence *, const float *y, struct ptq_status *);
/* Turns the heads of q (or k): (len x heads head_dim) by their positions. spin: head_dim floats. */
void ptq_rope_turn(const struct ptq_sequence *, int64_t heads, float *x, float *spin);

/* Filling a layout: a table of the block's linears and vectors. Inputs are the stages' names:
 * "blk.N.attn_in". */
struct ptq_linear_spec {
    const char *suffix; /* "attn_q" */
    enum ptq_role role;
    int stage;
    int64_t d_out, d_in;
};
struct ptq_vector_spec {
    const char *suffix; /* NULL: absent */
    int64_t n;
};
struct ptq_layout_spec {
    const struct ptq_linear_spec *lin;
    const struct ptq_vector_spec *vec;
    int n_linears, n_vectors, n_stages;
    const char *const *input;          /* [n_stages] "attn_in" */
    const enum ptq_producer *producer; /* [n_stages] */
};
int ptq_layout_fill(const struct ptq_layout_spec *, int index, struct ptq_arena *,
                    struct ptq_block *, struct ptq_status *);
#endif
