/* ctx.c: the services of ptq.h that need no numbers: memory, messages, notes, loops, the empty
 * part. */
#include "quant/ctx.h"
#include "core/size.h"
#include <math.h>
#include <string.h>

static struct ptq_arena *arena_of(struct ptq_ctx *ctx, enum ptq_arena_kind kind)
{
    switch (kind) {
    case PTQ_ARENA_CALL: return ctx->call;
    case PTQ_ARENA_RESULT: return ctx->result;
    case PTQ_ARENA_LAYER: return ctx->layer;
    }
    return NULL;
}

void *ptq_alloc(struct ptq_ctx *ctx, enum ptq_arena_kind kind, int64_t n, size_t size)
{
    struct ptq_arena *arena = arena_of(ctx, kind);
    pthread_mutex_lock(&ctx->lock);
    void *p = arena ? ptq_arena_alloc(arena, ctx->st, n, size) : NULL;
    if (!arena)
        ptq_status_set(
            ctx->st, PTQ_ERR_NUMERIC,
            "the method takes memory of an arena that this hook has not (prepare: CALL and LAYER; "
            "quantize: CALL and RESULT; check: CALL)");
    pthread_mutex_unlock(&ctx->lock);
    return p;
}

int ptq_fail(struct ptq_ctx *ctx, enum ptq_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&ctx->lock);
    int rc = ptq_status_vset(ctx->st, code, fmt, ap);
    pthread_mutex_unlock(&ctx->lock);
    va_end(ap);
    return rc;
}

int ptq_skip(struct ptq_ctx *ctx, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&ctx->lock);
    int rc = ptq_status_vset(ctx->st, PTQ_SKIP, fmt, ap);
    pthread_mutex_unlock(&ctx->lock);
    va_end(ap);
    return rc;
}

int ptq_ctx_adopt(struct ptq_ctx *ctx, const struct ptq_status *st)
{
    return ptq_fail(ctx, (enum ptq_code)st->code, "%s", st->text);
}

void ptq_note(struct ptq_ctx *ctx, const char *key, double value)
{
    pthread_mutex_lock(&ctx->lock);
    int i = 0;
    while (i < ctx->n_notes && strcmp(ctx->notes[i].key, key))
        i++;
    if (i == PTQ_METHOD_NOTES || strlen(key) >= sizeof ctx->notes[0].key) {
        ctx->notes_full = true;
    } else {
        strcpy(ctx->notes[i].key, key);
        ctx->notes[i].value = value;
        if (i == ctx->n_notes)
            ctx->n_notes++;
    }
    pthread_mutex_unlock(&ctx->lock);
}

bool ptq_cancelled(struct ptq_ctx *ctx)
{
    return ctx->cancel && atomic_load(ctx->cancel);
}

void ptq_parallel_for(struct ptq_ctx *ctx, int64_t n, int64_t grain,
                      void (*fn)(void *arg, int64_t begin, int64_t end), void *arg)
{
    ptq_pool_for(ctx->pool, n, grain, fn, arg);
}

int ptq_threads(struct ptq_ctx *ctx)
{
    return ptq_pool_inside() ? 1 : ptq_pool_threads(ctx->pool);
}

/* A piece of the loop over slots takes pieces of the method's loop one by one, as whoever is
 * free. */
struct slots {
    void (*fn)(void *arg, int slot, int64_t begin, int64_t end);
    void *arg;
    int64_t n, grain;
    _Atomic int64_t next;
};

static void run_slots(void *arg, int64_t begin, int64_t end)
{
    struct slots *s = arg;
    for (int64_t slot = begin; slot < end; slot++)
        for (;;) {
            int64_t piece = atomic_fetch_add(&s->next, 1);
            if (piece > (s->n - 1) / s->grain)
                break;
            int64_t at = piece * s->grain;
            s->fn(s->arg, (int)slot, at, s->n - at < s->grain ? s->n : at + s->grain);
        }
}

void ptq_parallel_for_slots(struct ptq_ctx *ctx, int64_t n, int64_t grain,
                            void (*fn)(void *arg, int slot, int64_t begin, int64_t end), void *arg)
{
    struct slots s = {.fn = fn, .arg = arg, .n = n, .grain = grain > 0 ? grain : 1};
    if (n > 0)
        ptq_pool_for(ctx->pool, ptq_threads(ctx), 1, run_slots, &s);
}

/* ---- the empty part ---- */

int64_t ptq_group_cols(const struct ptq_cell *cell, int64_t cols)
{
    return cell->group_size > 0 && cell->group_size < cols ? cell->group_size : cols;
}

int64_t ptq_groups_per_row(const struct ptq_cell *cell, int64_t cols)
{
    if (cell->group_size == PTQ_GROUP_TENSOR)
        return 0;
    int64_t g = ptq_group_cols(cell, cols);
    return (cols - 1) / g + 1;
}

int ptq_part_uniform(struct ptq_ctx *ctx, const struct ptq_layer *layer,
                     const struct ptq_cell *cell, struct ptq_part *part, struct ptq_part_arrays *at)
{
    int64_t rows = layer->w.rows, cols = layer->w.cols, n, groups = ptq_groups_per_row(cell, cols);
    if (!ptq_size_mul(rows, cols, &n))
        return ptq_fail(ctx, PTQ_ERR_MEMORY, "%s: %lld x %lld weights overflow a size", layer->name,
                        (long long)rows, (long long)cols);
    at->n_groups = groups ? rows * groups : 1; /* at most rows * cols */
    at->codes = ptq_alloc(ctx, PTQ_ARENA_RESULT, n, sizeof *at->codes);
    at->scale = ptq_alloc(ctx, PTQ_ARENA_RESULT, at->n_groups, sizeof *at->scale);
    at->zero = cell->sym ? NULL : ptq_alloc(ctx, PTQ_ARENA_RESULT, at->n_groups, sizeof *at->zero);
    if (!at->codes || !at->scale || (!cell->sym && !at->zero))
        return PTQ_ERR_MEMORY;
    *part = (struct ptq_part){
        .kind = PTQ_PART_UNIFORM,
        .bits = cell->w_bits,
        .codes = at->codes,
        .group_cols = ptq_group_cols(cell, cols),
        .groups_per_row = groups,
        .scale = {.fmt = cell->scale_fmt, .n = at->n_groups, .at = at->scale},
    };
    if (cell->sym)
        part->zero_const = (float)(1 << (cell->w_bits - 1));
    else
        part->zero = (struct ptq_arr){.fmt = PTQ_FMT_INT,
                                      .bits = cell->zero_in_range ? cell->w_bits : 16,
                                      .is_signed = !cell->zero_in_range,
                                      .n = at->n_groups,
                                      .at = at->zero};
    return PTQ_OK;
}
