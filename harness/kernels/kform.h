/* kform.h: a stored form ready to run: every part as its kernels take it, and what its inputs go
 * through first. Products are those of ptq_quant_apply (fp32 instead of fp64 sums).
 *
 * Integer activations: inputs become integers as the form says (struct ptq_act), or of 8 bits with
 * the token's own scale; the vectors and left factors of a form have no integer product and see
 * floats. Float activations: inputs are not rounded at all. */
#ifndef PTQ_KERNELS_KFORM_H
#define PTQ_KERNELS_KFORM_H
#include "kernels/acts.h"

enum ptq_kterm_kind { PTQ_KTERM_WEIGHT, PTQ_KTERM_LOWRANK, PTQ_KTERM_VECTOR };
struct ptq_kterm {
    enum ptq_kterm_kind kind;
    struct ptq_kinputs in;
    struct ptq_kweight weight; /* LOWRANK: the right factor */
    struct ptq_kweight left;   /* LOWRANK */
    struct ptq_kinputs mid;    /* of the left factor: what the right one gave, times left_scale */
    const float *left_scale;   /* [rank] or NULL: 1 */
    struct ptq_kvector vector;
};
struct ptq_kform {
    int64_t rows, cols; /* of the layer */
    int n_terms;
    struct ptq_kterm term[PTQ_MAX_PARTS]; /* they add up */
    unsigned cpu_flags;
    int64_t bytes; /* read by one product of one token, divisors, maps and rotations included */
};

/* All of the form in the arena; quant (valid) is not needed afterwards. A divisor that folds into
 * the producer is left to it: x then comes divided. PTQ_SKIP with the reason where a part has no
 * kernel. */
int ptq_kform_build(const struct ptq_quant *, unsigned cpu_flags, struct ptq_arena *,
                    struct ptq_kform *, struct ptq_status *);

/* Memory that runs need, grown by them and kept for the next. Zeroed at first. */
struct ptq_kwork {
    void *at;
    int64_t bytes;
};
void ptq_kwork_free(struct ptq_kwork *);

struct ptq_kcall {
    struct ptq_pool *pool; /* NULL: serial */
    const float *x;        /* (n x cols) */
    int64_t n;
    bool integers; /* activations */
    float *y;      /* (n x rows) */
};
/* PTQ_SKIP where the activations asked for have no kernel with this form; PTQ_ERR_MEMORY. The same
 * bits for any number of threads. */
int ptq_kform_run(const struct ptq_kform *, const struct ptq_kcall *, struct ptq_kwork *,
                  struct ptq_status *);
#endif
