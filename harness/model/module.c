#include "model/module.h"
#include "core/size.h"
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- neighbours */

void ptq_layer_place(struct ptq_layer *layer, const struct ptq_block *b, int lin,
                     const struct ptq_module *module, struct ptq_neighbours *n)
{
    const struct ptq_linear *self = &b->lin[lin];
    layer->producer = self->producer;
    layer->module = module;
    layer->siblings = n->at;
    layer->n_siblings = 0;
    for (int i = 0; i < b->n_linears; i++) {
        const struct ptq_linear *l = &b->lin[i];
        if (strcmp(l->input, self->input) != 0)
            continue;
        n->layer[i] = (struct ptq_layer){.name = l->name,
                                         .block = b->index,
                                         .role = l->role,
                                         .w = {l->w, l->d_out, l->d_in, l->d_in}};
        n->at[layer->n_siblings++] = i == lin ? layer : &n->layer[i];
    }
}

/* ---- windows */

int ptq_sample_windows(const struct ptq_tokens *t, int64_t n_tokens, struct ptq_arena *a,
                       struct ptq_tokens *out, struct ptq_status *st)
{
    int64_t *len = ptq_arena_alloc(a, st, t->n_seq, sizeof *len);
    int64_t *offset = ptq_arena_alloc(a, st, t->n_seq, sizeof *offset);
    *out = (struct ptq_tokens){0, 0, len, offset, t->id + t->offset[0]};
    if (!len || !offset)
        return PTQ_ERR_MEMORY;
    for (int64_t s = 0; s < t->n_seq; s++) {
        const int64_t room = n_tokens - out->n_total;
        if (s && t->len[s] > room)
            break;
        len[s] = t->len[s] < room ? t->len[s] : room;
        offset[s] = t->offset[s] - t->offset[0];
        out->n_total = offset[s] + len[s];
        out->n_seq++;
    }
    return PTQ_OK;
}

/* ---- the modules of a block */

enum { ATTENTION, MLP, N_HALVES };

struct ptq_modules {
    struct ptq_modules_args args;
    struct ptq_module module;
    struct ptq_arena arena;
    struct ptq_hidden in[N_HALVES]; /* what enters each half */
    float *exact[N_HALVES];         /* what full precision adds to it, (n_total x d_model) */
    pthread_mutex_t lock;
    bool ready[N_HALVES];
};

static enum ptq_half half_of(int half)
{
    return half == ATTENTION ? PTQ_ATTENTION_HALF : PTQ_MLP_HALF;
}

static struct ptq_block_tap tap_of(const struct ptq_modules *m, int half)
{
    return (struct ptq_block_tap){
        .half = half_of(half), .stop = m->args.stop, .stop_arg = m->args.stop_arg};
}

struct looking { /* at outputs */
    const struct ptq_modules *m;
    int half;
    float *copy;         /* takes them, or NULL: */
    double *of_sequence; /* [n_seq] squared difference to the exact ones */
};

static int see(void *arg, int64_t s, const float *y, int64_t len, int64_t d, struct ptq_status *st)
{
    const struct looking *k = arg;
    const int64_t first = k->m->args.windows->offset[s] * d;
    (void)st;
    if (k->copy) {
        memcpy(k->copy + first, y, (size_t)(len * d) * sizeof *y);
        return PTQ_OK;
    }
    const float *exact = k->m->exact[k->half] + first;
    double sum = 0;
    for (int64_t i = 0; i < len * d; i++) {
        double e = (double)y[i] - (double)exact[i];
        sum += e * e;
    }
    k->of_sequence[s] = sum;
    return PTQ_OK;
}

static int look(const struct looking *k, const struct ptq_block *b, struct ptq_pool *pool,
                struct ptq_status *st)
{
    struct ptq_hidden in = k->m->in[k->half];
    struct ptq_block_tap tap = tap_of(k->m, k->half);
    struct looking own = *k;
    tap.see_output = see;
    tap.arg = &own;
    return ptq_block_run(k->m->args.model, b, pool, &in, &tap, st);
}

/* The states behind the attention half. */
static int enter_mlp(struct ptq_modules *m, struct ptq_pool *pool, struct ptq_status *st)
{
    const struct ptq_hidden *x = &m->in[ATTENTION];
    struct ptq_block_tap tap = tap_of(m, ATTENTION);
    const int64_t n = x->tokens->n_total * x->d_model;
    struct ptq_hidden *h = &m->in[MLP];
    *h = *x;
    if (!(h->at = ptq_arena_alloc(&m->arena, st, n, sizeof *h->at)))
        return PTQ_ERR_MEMORY;
    memcpy(h->at, x->at, (size_t)n * sizeof *h->at);
    return ptq_block_run(m->args.model, m->args.current, pool, h, &tap, st);
}

static int make_ready(struct ptq_modules *m, int half, struct ptq_pool *pool, struct ptq_status *st)
{
    const int64_t n = m->args.windows->n_total * m->in[ATTENTION].d_model;
    const struct looking k = {m, half, ptq_arena_alloc(&m->arena, st, n, sizeof(float)), NULL};
    int rc = k.copy ? PTQ_OK : PTQ_ERR_MEMORY;
    if (!rc && half == MLP)
        rc = enter_mlp(m, pool, st);
    if (!rc)
        rc = look(&k, m->args.exact, pool, st);
    m->exact[half] = k.copy;
    return rc;
}

/* The first to ask makes it, alone; a failure is not kept. */
static int get_ready(struct ptq_modules *m, int half, struct ptq_pool *pool, struct ptq_status *st)
{
    pthread_mutex_lock(&m->lock);
    int rc = m->ready[half] ? PTQ_OK : make_ready(m, half, pool, st);
    m->ready[half] = rc == PTQ_OK;
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static const struct ptq_linear *linear_of(const struct ptq_modules *m, const struct ptq_layer *l)
{
    const struct ptq_block *b = m->args.current;
    for (int i = 0; i < b->n_linears; i++)
        if (!strcmp(b->lin[i].name, l->name))
            return &b->lin[i];
    assert(!"a layer of this block");
    return NULL;
}

static const char *input(void *arg, const struct ptq_layer *l)
{
    return linear_of(arg, l)->input;
}

static bool in_attention(enum ptq_role r)
{
    return r == PTQ_ROLE_Q || r == PTQ_ROLE_K || r == PTQ_ROLE_V || r == PTQ_ROLE_O;
}

static int mean_error(struct ptq_modules *m, int half, const struct ptq_block *b,
                      struct ptq_pool *pool, double *out, struct ptq_status *st)
{
    const struct ptq_tokens *t = m->args.windows;
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    struct looking k = {m, half, NULL, ptq_arena_alloc(&a, st, t->n_seq, sizeof(double))};
    int rc = k.of_sequence ? look(&k, b, pool, st) : PTQ_ERR_MEMORY;
    double sum = 0;
    int64_t n = 0;
    for (int64_t s = 0; !rc && s < t->n_seq; s++) {
        sum += k.of_sequence[s];
        n += t->len[s];
    }
    ptq_arena_clear(&a);
    if (!rc) /* a candidate that overflows is worse than any other */
        *out = isfinite(sum) ? sum / ((double)n * (double)m->in[half].d_model) : INFINITY;
    return rc;
}

static int loss(void *arg, const struct ptq_layer *layer, const float *const *candidate,
                struct ptq_pool *pool, double *out, struct ptq_status *st)
{
    struct ptq_modules *m = arg;
    const int half = in_attention(layer->role) ? ATTENTION : MLP;
    const char *reads = input(m, layer);
    struct ptq_block b = *m->args.current;
    for (int i = 0, c = 0; i < b.n_linears; i++)
        if (!strcmp(b.lin[i].input, reads)) {
            b.lin[i].w = candidate[c++];
            b.lin[i].run = NULL;
        }
    int rc = get_ready(m, half, pool, st);
    return rc ? rc : mean_error(m, half, &b, pool, out, st);
}

static int copy_states(struct ptq_modules *m, const struct ptq_hidden *from, struct ptq_status *st)
{
    const struct ptq_tokens *t = m->args.windows;
    const int64_t d = from->d_model;
    int64_t n;
    struct ptq_hidden *x = &m->in[ATTENTION];
    if (!ptq_size_mul(t->n_total, d, &n))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "%lld sampled tokens overflow a size",
                              (long long)t->n_total);
    *x = (struct ptq_hidden){t, d, ptq_arena_alloc(&m->arena, st, n, sizeof *x->at), false};
    if (!x->at)
        return PTQ_ERR_MEMORY;
    for (int64_t s = 0; s < t->n_seq; s++)
        memcpy(x->at + t->offset[s] * d, from->at + from->tokens->offset[s] * d,
               (size_t)(t->len[s] * d) * sizeof *x->at);
    return PTQ_OK;
}

int ptq_modules_new(struct ptq_modules **out, const struct ptq_modules_args *args,
                    struct ptq_status *st)
{
    struct ptq_modules *m = calloc(1, sizeof *m);
    *out = m;
    if (!m)
        return ptq_status_nomem(st, "the modules of a block", sizeof *m);
    m->args = *args;
    m->module = (struct ptq_module){.loss = loss, .input = input, .arg = m};
    ptq_arena_init(&m->arena, 0);
    pthread_mutex_init(&m->lock, NULL);
    int rc = copy_states(m, args->hidden, st);
    if (!rc)
        rc = ptq_module_memo_new(&m->module.memo, st);
    if (rc) {
        ptq_modules_free(m);
        *out = NULL;
    }
    return rc;
}

void ptq_modules_free(struct ptq_modules *m)
{
    if (!m)
        return;
    ptq_module_memo_free(m->module.memo);
    ptq_arena_clear(&m->arena);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

const struct ptq_module *ptq_modules_module(const struct ptq_modules *m)
{
    return m ? &m->module : NULL;
}
