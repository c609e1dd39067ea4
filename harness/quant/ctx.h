/* ctx.h: what stands behind struct ptq_ctx (ptq.h). Private to quant/, and to
 * the one method that is no file of methods/ (analysis/score_method.c). One context serves one
 * call of one hook. The services lock it, so that the pieces of a parallel loop may call them. */
#ifndef PTQ_QUANT_CTX_H
#define PTQ_QUANT_CTX_H
#include "quant/run.h"
#include <pthread.h>

struct ptq_ctx {
    struct ptq_arena *call, *result, *layer; /* NULL: the hook may not take from it */
    struct ptq_pool *pool;
    struct ptq_factor_cache *cache;
    const atomic_bool *cancel;    /* may be NULL */
    struct ptq_note_value *notes; /* [PTQ_METHOD_NOTES] */
    int n_notes;
    bool notes_full; /* the method's bug: reported when the hook is back */
    struct ptq_status *st;
    pthread_mutex_t lock; /* guards the arenas, notes and st */
};

/* Moves a failed status into the context, like ptq_fail; returns its code. */
int ptq_ctx_adopt(struct ptq_ctx *, const struct ptq_status *);

/* One entry of the factor cache. The first to ask computes it, the others wait; a failure is not
 * kept. */
struct ptq_factor_key {
    uint64_t hess_key;
    int64_t n;
    double percdamp, fill; /* fill: diagonal of dead inputs; NaN: mean of the live ones */
    bool act_order, no_hess, f64;
};
struct ptq_factor_slot {
    struct ptq_factor_slot *next;
    struct ptq_factor_key key;
    bool ready; /* false: being computed */
    struct ptq_arena arena;
    void *factor; /* struct ptq_factor_f32 or _f64 */
};
/* Finds the slot of a key or makes one. *made: the caller must compute the factor and call
 * ..._done. Waits while another thread computes. PTQ_ERR_MEMORY with the status set. */
int ptq_factor_cache_take(struct ptq_factor_cache *, const struct ptq_factor_key *,
                          struct ptq_factor_slot **, bool *made, struct ptq_status *);
/* ok == false: the slot is dropped and the next waiter tries by itself. */
void ptq_factor_cache_done(struct ptq_factor_cache *, struct ptq_factor_slot *, bool ok);
#endif
