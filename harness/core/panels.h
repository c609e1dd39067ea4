/* panels.h: fp32 products C = op(A) op(B) on our own kernel (fmatile.h); private to linalg. An
 * element is a function of its row of op(A) and its column of op(B) alone: the same bits whatever
 * the other sizes, the place, the threads, on any processor that fuses. */
#ifndef PTQ_CORE_PANELS_H
#define PTQ_CORE_PANELS_H
#include "core/linalg.h"

/* alpha == 1, beta == 0, and a processor that fuses. */
bool ptq_panels_fit(const struct ptq_gemm_f32 *);
void ptq_panels_run(struct ptq_pool *, const struct ptq_gemm_f32 *);
#endif
