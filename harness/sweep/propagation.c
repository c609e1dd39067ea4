#include "sweep/propagation.h"
#include "core/size.h"
#include <string.h>

struct walk {
    const struct ptq_propagation_args *a;
    int64_t d;
    /* behind the last block: full precision, quantized; and one beside them */
    struct ptq_hidden exact, quant, beside;
    struct ptq_block_errors *part; /* [n_seq] of the block in work */
};

/* ---- sums */

static void add_local(double *sum, const float *exact, const float *beside, int64_t d)
{
    for (int64_t i = 0; i < d; i++) {
        const double f = exact[i], local = (double)beside[i] - f;
        sum[PTQ_ERROR_NORM] += f * f;
        sum[PTQ_ERROR_LOCAL] += local * local;
    }
}

static void add_rest(double *sum, const float *exact, const float *quant, const float *beside,
                     int64_t d)
{
    for (int64_t i = 0; i < d; i++) {
        const double own = (double)quant[i] - (double)beside[i],
                     inherited = (double)beside[i] - (double)exact[i],
                     total = (double)quant[i] - (double)exact[i];
        sum[PTQ_ERROR_OWN] += own * own;
        sum[PTQ_ERROR_INHERITED] += inherited * inherited;
        sum[PTQ_ERROR_TOTAL] += total * total;
        sum[PTQ_ERROR_CROSS] += own * inherited;
    }
}

static void each_token(struct walk *w, int64_t s, bool local)
{
    const struct ptq_tokens *t = w->a->tokens;
    const size_t bytes = (size_t)(t->len[s] * w->d) * sizeof(float);
    const int64_t first = t->offset[s] * w->d;
    for (int64_t k = 0; k < t->len[s]; k++) {
        const int64_t at = first + k * w->d;
        const int class = k < w->a->sink_tokens ? PTQ_SINK_TOKENS : PTQ_REST_TOKENS;
        if (local)
            add_local(w->part[s].sum[class], w->exact.at + at, w->beside.at + at, w->d);
        else
            add_rest(w->part[s].sum[class], w->exact.at + at, w->quant.at + at, w->beside.at + at,
                     w->d);
    }
    const struct ptq_hidden *const all[] = {&w->exact, &w->quant, &w->beside};
    for (int i = 0; i < 3; i++)
        if (all[i]->spilled)
            ptq_spill_rest(all[i]->at + first, bytes);
}

static void local_piece(void *walk, int64_t begin, int64_t end)
{
    for (int64_t s = begin; s < end; s++)
        each_token(walk, s, true);
}

static void rest_piece(void *walk, int64_t begin, int64_t end)
{
    for (int64_t s = begin; s < end; s++)
        each_token(walk, s, false);
}

static void add_up(const struct walk *w, struct ptq_block_errors *out)
{
    memset(out, 0, sizeof *out);
    for (int64_t s = 0; s < w->a->tokens->n_seq; s++)
        for (int c = 0; c < PTQ_N_TOKEN_CLASSES; c++)
            for (int k = 0; k < PTQ_N_ERROR_SUMS; k++)
                out->sum[c][k] += w->part[s].sum[c][k];
}

/* ---- the walk */

static void copy_states(struct walk *w, const struct ptq_hidden *from)
{
    memcpy(w->beside.at, from->at, (size_t)(w->a->tokens->n_total * w->d) * sizeof *w->beside.at);
}

static int run(struct walk *w, const struct ptq_block *b, struct ptq_hidden *states,
               struct ptq_status *st)
{
    const struct ptq_block_tap tap = {.stop = w->a->stop, .stop_arg = w->a->stop_arg};
    return ptq_block_run(w->a->model, b, w->a->pool, states, &tap, st);
}

/* Each of both states goes through each of both blocks; the second time it may go in place. */
static int walk_block(struct walk *w, const struct ptq_placed *p, struct ptq_block_errors *out,
                      struct ptq_status *st)
{
    const int64_t n = w->a->tokens->n_seq;
    memset(w->part, 0, (size_t)n * sizeof *w->part);
    copy_states(w, &w->exact);
    int code = run(w, &p->block, &w->beside, st);
    if (!code)
        code = run(w, &p->exact, &w->exact, st);
    if (code)
        return code;
    ptq_pool_for(w->a->pool, n, 1, local_piece, w);
    copy_states(w, &w->quant);
    code = run(w, &p->exact, &w->beside, st);
    if (!code)
        code = run(w, &p->block, &w->quant, st);
    if (code)
        return code;
    ptq_pool_for(w->a->pool, n, 1, rest_piece, w);
    add_up(w, out);
    return PTQ_OK;
}

static int more_states(const struct walk *w, struct ptq_arena *arena, struct ptq_hidden *states,
                       struct ptq_status *st)
{
    int64_t n;
    if (!ptq_size_mul(w->a->tokens->n_total, w->d, &n))
        return ptq_status_nomem(st, "hidden states", SIZE_MAX);
    *states = w->exact;
    states->at = ptq_arena_alloc(arena, st, n, sizeof *states->at);
    states->spilled = states->at && ptq_arena_is_spilled(arena, states->at);
    return states->at ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int open_walk(struct walk *w, struct ptq_arena *arena, struct ptq_status *st)
{
    int code = ptq_model_embed(w->a->model, w->a->tokens, arena, &w->exact, st);
    if (!code)
        code = more_states(w, arena, &w->quant, st);
    if (!code)
        code = more_states(w, arena, &w->beside, st);
    if (code)
        return code;
    memcpy(w->quant.at, w->exact.at, (size_t)(w->a->tokens->n_total * w->d) * sizeof *w->quant.at);
    w->part = ptq_arena_alloc(arena, st, w->a->tokens->n_seq, sizeof *w->part);
    return w->part ? PTQ_OK : PTQ_ERR_MEMORY;
}

int ptq_propagation(const struct ptq_propagation_args *a, struct ptq_block_errors *out,
                    struct ptq_status *st)
{
    const struct ptq_model_info *info = ptq_model_info(a->model);
    struct walk w = {.a = a, .d = info->d_model};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    arena.spill = a->spill;
    int code = open_walk(&w, &arena, st);
    for (int64_t b = 0; b < info->n_blocks && !code; b++) {
        struct ptq_placed p;
        code = ptq_placed_load(&p, a->model, (int)b, a->forms, st);
        if (!code)
            code = walk_block(&w, &p, &out[b], st);
        ptq_placed_release(&p);
    }
    ptq_arena_clear(&arena);
    return code;
}
