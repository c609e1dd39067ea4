/* run.c: a block over all sequences. Threads take whole sequences, each with a scratch of its own
 * from a small stack. */
#include "model/internal.h"
#include "core/size.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct job {
    const struct ptq_model *model;
    const struct ptq_block *block;
    const struct ptq_hidden *hidden;
    const struct ptq_block_tap *tap;
    bool keep; /* run on a copy of x, which lies behind the architecture's scratch */
    int64_t arch_floats;
    struct ptq_pool *pool;
    pthread_mutex_t lock; /* guards all below */
    float **free_scratch;
    int n_free;
    int64_t failed; /* lowest sequence that failed, or -1: the message does not depend on threads */
    struct ptq_status status;
};

static float *scratch_take(struct job *j)
{
    pthread_mutex_lock(&j->lock);
    float *p = j->free_scratch[--j->n_free];
    pthread_mutex_unlock(&j->lock);
    return p;
}

static void scratch_give(struct job *j, float *p, int64_t s, int rc, const struct ptq_status *st)
{
    pthread_mutex_lock(&j->lock);
    j->free_scratch[j->n_free++] = p;
    if (rc && (j->failed < 0 || s < j->failed)) {
        j->failed = s;
        j->status = *st;
        j->status.code = rc;
    }
    pthread_mutex_unlock(&j->lock);
}

static void piece(void *arg, int64_t begin, int64_t end)
{
    struct job *j = arg;
    const struct ptq_tokens *t = j->hidden->tokens;
    const int64_t d = j->hidden->d_model;
    for (int64_t s = begin; s < end; s++) {
        struct ptq_status st = {0};
        float *scratch = scratch_take(j), *x = j->hidden->at + t->offset[s] * d;
        if (j->keep)
            x = memcpy(scratch + j->arch_floats, x, (size_t)(t->len[s] * d) * sizeof *x);
        struct ptq_sequence q = {
            j->model,
            j->block,
            s,
            t->len[s],
            x,
            scratch,
            j->pool,
            j->tap && (j->tap->see || j->tap->see_attention || j->tap->half) ? j->tap : NULL};
        int rc = j->tap && j->tap->stop && j->tap->stop(j->tap->stop_arg)
                     ? ptq_status_set(&st, PTQ_ERR_CANCELLED, "cancelled")
                     : j->model->arch->run_sequence(&q, &st);
        if (j->hidden->spilled)
            ptq_spill_rest(j->hidden->at + t->offset[s] * d, (size_t)(t->len[s] * d) * sizeof *x);
        scratch_give(j, scratch, s, rc, &st);
    }
}

static int64_t longest(const struct ptq_tokens *t)
{
    int64_t most = 0;
    for (int64_t s = 0; s < t->n_seq; s++)
        most = t->len[s] > most ? t->len[s] : most;
    return most;
}

static int run_all(struct job *j, struct ptq_status *st)
{
    pthread_mutex_init(&j->lock, NULL);
    ptq_pool_for(j->pool, j->hidden->tokens->n_seq, 1, piece, j);
    pthread_mutex_destroy(&j->lock);
    return j->failed < 0 ? PTQ_OK : ptq_status_set(st, j->status.code, "%s", j->status.text);
}

int ptq_block_run(const struct ptq_model *m, const struct ptq_block *b, struct ptq_pool *pool,
                  struct ptq_hidden *h, const struct ptq_block_tap *tap, struct ptq_status *st)
{
    const int64_t len = longest(h->tokens);
    struct job j = {m,
                    b,
                    h,
                    tap,
                    tap && (tap->keep || tap->only),
                    m->arch->scratch_floats(&m->info, len),
                    pool,
                    .failed = -1};
    int64_t copy = 0, floats;
    if (j.arch_floats < 0 || (j.keep && !ptq_size_mul(len, h->d_model, &copy)) ||
        !ptq_size_add(j.arch_floats, copy, &floats))
        return ptq_status_set(st, PTQ_ERR_MEMORY,
                              "a sequence of %lld tokens is too long for memory", (long long)len);
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    int n = ptq_pool_threads(pool), rc = PTQ_OK;
    if (n > h->tokens->n_seq)
        n = (int)h->tokens->n_seq;
    j.free_scratch = ptq_arena_alloc(&a, st, n, sizeof *j.free_scratch);
    for (; j.free_scratch && j.n_free < n; j.n_free++)
        if (!(j.free_scratch[j.n_free] = ptq_arena_alloc(&a, st, floats, sizeof(float))))
            break;
    rc = j.n_free < n ? PTQ_ERR_MEMORY : run_all(&j, st);
    ptq_arena_clear(&a);
    return rc;
}
