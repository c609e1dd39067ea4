/* apply.h: the product of a stored form with inputs that it treats: the reference of every kernel.
 *
 * x / divisor, then the pieces of a split, then symmetric integers (ptq.h, struct ptq_act), each
 * step in fp32. Where the stored matrix is one UNIFORM part with whole zeros, without perm and seen
 * no other way, the product is one of integers: int32 sums of input code x (code - zero) over a
 * group, exact; then, in fp64, the sum over groups in their order of scale times that, times the
 * inputs' scale, rounded once to fp32. Other forms: the codes' values times the stored matrix by
 * ptq_gemm_f32. A token with NaN or Inf has outputs of NaN in the first case, and what the product
 * gives in the second. The same bits for any thread count; every token by itself. */
#ifndef PTQ_QUANT_APPLY_H
#define PTQ_QUANT_APPLY_H
#include "core/arena.h"
#include "core/pool.h"
#include "quant/form.h"

/* A form made ready. Without integers or a split it is the plain product with What, which the
 * caller has: a run is of no use then. */
struct ptq_quant_run {
    const struct ptq_quant *quant;
    const int16_t *codes; /* (rows x kcols) code - zero, or NULL */
    int64_t exact_cols;   /* products of so many columns add up in an int32 */
    const float *stored;  /* (rows x kcols) where there are no codes */
};
static inline bool ptq_quant_treats_inputs(const struct ptq_quant *q)
{
    return q->act.bits != 0 || q->split.n_cols != 0;
}
/* Multiply-accumulates of a token: all, and those whose operands both are integers of at most 4
 * bits. */
struct ptq_macs {
    double all, int4;
};
struct ptq_macs ptq_quant_macs(const struct ptq_quant *);
/* The form must be valid and, with what (as ptq_quant_dequant gave it), outlive the run. */
int ptq_quant_run_init(struct ptq_quant_run *, const struct ptq_quant *, const float *what,
                       struct ptq_arena *, struct ptq_status *);
/* y (n x rows) from x (n x cols), both without gaps. */
int ptq_quant_run_apply(const struct ptq_quant_run *, struct ptq_pool *, const float *x, int64_t n,
                        float *y, struct ptq_status *);
/* Both at once; y as above. */
int ptq_quant_apply(const struct ptq_quant *, const float *what, const float *x, int64_t n,
                    float *y, struct ptq_status *);
#endif
