/* layer_phase.c: the layers of a sweep whose statistics do not depend on quantized blocks: a model
 * with stats = fp, or bare layers. One layer's statistics are in memory at a time; its cells run
 * side by side. */
#include "sweep/job.h"
#include "sweep/layerfile.h"
#include <string.h>

struct layer_run { /* the pending cells of one layer */
    struct ptq_job *job;
    const struct ptq_entry *entry;
    int64_t entry_index;
    struct ptq_session *seeing, *blind;
    struct ptq_layer_truth truth;
    const struct ptq_health *health;
    const struct ptq_input_stats *calib, *heldout; /* NULL: bare layers, caches */
    struct ptq_noise noise;
    bool has_noise;
    const int64_t *points;
    int64_t n;
};

/* ---- the cells of a layer ----------------------------------------------------------------------
 */

static void run_point(struct layer_run *r, int64_t i)
{
    const int64_t point = r->points[i];
    const struct ptq_noise *noise = r->has_noise ? &r->noise : NULL;
    const struct ptq_point *p = &r->job->points[point];
    struct ptq_layer_cell cell = {
        .job = r->job,
        .point = p,
        .entry = r->entry,
        .want = ptq_layer_want(r->job, point, r->entry_index),
        .session = ptq_sees_stats(p->spec, &p->cell) ? r->seeing : r->blind,
        .truth = &r->truth,
        .health = r->health,
        .noise = noise,
        .again = noise ? noise->again + i * ptq_noise_replicates(noise) : NULL,
        .pool = r->job->args->pool};
    struct ptq_result result;
    struct ptq_status st = {0};
    if (ptq_layer_cell_run(&cell, &result, &st) == PTQ_OK)
        ptq_result_release(&result);
}

static void piece(void *arg, int64_t begin, int64_t end)
{
    struct layer_run *r = arg;
    for (int64_t i = begin; i < end && !ptq_job_stop(r->job); i++)
        run_point(r, i);
}

static int at_most(const struct layer_run *r)
{
    const int64_t rows = r->entry->rows, cols = r->entry->cols;
    return ptq_job_at_most(r->job, ptq_layer_cell_bytes(rows, cols) +
                                       ptq_noise_cell_bytes(r->job, rows, cols));
}

/* Fewer cells than threads: one after the other, each on all threads. */
static void run_points(struct layer_run *r)
{
    struct ptq_pool *pool = r->job->args->pool;
    if (r->n < ptq_pool_threads(pool))
        piece(r, 0, r->n);
    else
        ptq_pool_for_at_most(pool, at_most(r), r->n, 1, piece, r);
}

/* The layer cannot be worked on at all: each of its cells says why. */
static int fail_points(struct layer_run *r, const struct ptq_status *why, struct ptq_status *st)
{
    int code = PTQ_OK;
    for (int64_t i = 0; code >= 0 && i < r->n; i++) {
        const struct ptq_want *w = ptq_layer_want(r->job, r->points[i], r->entry_index);
        struct ptq_times t = {.begin_ns = r->job->begin_ns};
        if (!w->need_row)
            continue;
        json_t *row = ptq_row_begin(r->job, "layer", w, &r->job->points[r->points[i]]);
        ptq_row_add_layer(row, r->entry);
        ptq_row_set_outcome(row, why->code, why->text);
        code = ptq_row_finish(r->job, row, &t, st);
    }
    return code;
}

static int make_sessions(struct layer_run *r, const struct ptq_layer *seen,
                         const struct ptq_layer *blind, struct ptq_factor_cache *cache,
                         struct ptq_status *st)
{
    struct ptq_session_args args = {seen, (enum ptq_precision)r->job->cfg->run.precision,
                                    r->job->args->pool, cache, r->job->args->cancel};
    int code = ptq_session_new(&r->seeing, &args, st);
    args.layer = blind;
    args.cache = NULL;
    return code < 0 ? code : ptq_session_new(&r->blind, &args, st);
}

static int run_noise(struct layer_run *r, struct ptq_arena *arena, struct ptq_status *st)
{
    const struct ptq_noise args = {
        .job = r->job, .truth = &r->truth, .calib = r->calib, .heldout = r->heldout};
    const struct ptq_noise_cells cells = {r->entry_index, r->points, r->n, at_most(r)};
    if (!r->heldout || !ptq_noise_wanted(r->job))
        return PTQ_OK;
    r->has_noise = true;
    int code = ptq_noise_init(&r->noise, &args, arena, st);
    return code < 0 ? code : ptq_noise_again(&r->noise, &cells, arena, st);
}

/* layer: checked by its source. */
static int run_layer(struct layer_run *r, const struct ptq_layer *layer,
                     const struct ptq_layer *heldout, struct ptq_factor_cache *cache,
                     struct ptq_status *st)
{
    struct ptq_layer blind = ptq_layer_blind(layer);
    struct ptq_arena arena;
    char label[128];
    ptq_arena_init(&arena, 0);
    r->truth.wanted = ptq_metric_wanted_hook;
    r->truth.wanted_arg = r->job;
    int code = ptq_layer_truth_init(&r->truth, layer, heldout, r->job->args->pool, &arena, st);
    if (code >= 0)
        code = ptq_job_health(r->job, layer, &r->health, st);
    if (code >= 0)
        code = make_sessions(r, layer, &blind, cache, st);
    if (code >= 0)
        code = run_noise(r, &arena, st);
    if (code >= 0)
        run_points(r);
    ptq_session_free(r->seeing);
    ptq_session_free(r->blind);
    ptq_arena_clear(&arena);
    snprintf(label, sizeof label, "%s: %lld cells", r->entry->name, (long long)r->n);
    ptq_progress_step(r->job->progress, label);
    return code < 0 ? code : PTQ_OK;
}

/* Pending points of an entry; draw < 0: of any draw. */
static int64_t pending(const struct ptq_job *job, int64_t entry, int draw, int64_t *points)
{
    int64_t n = 0;
    for (int64_t p = 0; p < job->n_points; p++) {
        const struct ptq_want *w = ptq_layer_want(job, p, entry);
        if ((draw < 0 || job->points[p].draw == draw) && (w->need_row || w->need_form)) {
            if (points)
                points[n] = p;
            n++;
        }
    }
    return n;
}

/* ---- bare layers -------------------------------------------------------------------------------
 */

static int run_file_layer(struct ptq_job *job, int64_t entry, int64_t *points,
                          struct ptq_status *st)
{
    struct layer_run r = {
        .job = job, .entry = &job->entries[entry], .entry_index = entry, .points = points};
    struct ptq_layerfile_args args = {r.entry->name, true,
                                      (enum ptq_precision)job->cfg->run.precision, job->args->pool};
    struct ptq_layer layer;
    struct ptq_arena arena;
    r.n = pending(job, entry, -1, points);
    if (!r.n)
        return PTQ_OK;
    ptq_arena_init(&arena, 0);
    int code = ptq_layerfile_read(job->layerfile, &args, &arena, &layer, st);
    if (code >= 0)
        code = run_layer(&r, &layer, NULL, NULL, st);
    ptq_arena_clear(&arena);
    return code;
}

/* ---- a model -----------------------------------------------------------------------------------
 */

/* The windows that ptq_module_loss runs, on their way through the full-precision model. Nothing
 * until a method asks. */
struct sample {
    struct ptq_arena arena;
    struct ptq_tokens windows;
    struct ptq_hidden hidden; /* what enters block `next` */
    bool begun;
    int next;
};

struct block_run {
    struct ptq_job *job;
    int draw;
    struct sample sample;
    struct ptq_modules *modules; /* of the block, or NULL */
    struct ptq_block block;
    struct ptq_arena weights, stats; /* stats: of the input that the last layers read */
    const char *input;               /* its name, or NULL */
    struct ptq_input_stats calib, heldout;
    struct ptq_factor_cache *cache;
    int64_t *points;
};

/* ---- modules */

static int begin_sample(struct block_run *b, struct ptq_status *st)
{
    struct sample *s = &b->sample;
    const struct ptq_tokens *text = &b->job->draws[b->draw].text.tokens;
    int code =
        ptq_sample_windows(text, b->job->cfg->calib.module_tokens, &s->arena, &s->windows, st);
    if (code >= 0)
        code = ptq_model_embed(b->job->model, &s->windows, &s->arena, &s->hidden, st);
    s->begun = code >= 0;
    s->next = 0;
    return code;
}

static int run_sample(struct block_run *b, const struct ptq_block *block, struct ptq_status *st)
{
    const struct ptq_block_tap tap = {.stop = ptq_job_stop_hook, .stop_arg = b->job};
    b->sample.next++;
    return ptq_block_run(b->job->model, block, b->job->args->pool, &b->sample.hidden, &tap, st);
}

static int reach(struct block_run *b, int block, struct ptq_status *st)
{
    int code = b->sample.begun ? PTQ_OK : begin_sample(b, st);
    while (code >= 0 && b->sample.next < block) {
        struct ptq_block passed;
        struct ptq_arena arena;
        ptq_arena_init(&arena, 0);
        code = ptq_model_load_block(b->job->model, b->sample.next, &arena, &passed, st);
        if (code >= 0)
            code = run_sample(b, &passed, st);
        ptq_arena_clear(&arena);
    }
    return code;
}

static bool module_asked(const struct ptq_job *job, int block, int draw)
{
    for (int64_t p = 0; p < job->n_points; p++)
        for (int64_t e = 0; e < job->n_entries; e++) {
            const struct ptq_want *w = ptq_layer_want(job, p, e);
            if (job->entries[e].block == block && job->points[p].draw == draw &&
                ptq_needs_module(&job->points[p]) && (w->need_row || w->need_form))
                return true;
        }
    return false;
}

static int take_modules(struct block_run *b, struct ptq_status *st)
{
    const struct ptq_modules_args args = {.model = b->job->model,
                                          .exact = &b->block,
                                          .current = &b->block,
                                          .hidden = &b->sample.hidden,
                                          .windows = &b->sample.windows,
                                          .stop = ptq_job_stop_hook,
                                          .stop_arg = b->job};
    b->modules = NULL;
    if (!module_asked(b->job, b->block.index, b->draw))
        return PTQ_OK;
    int code = reach(b, b->block.index, st);
    return code < 0 ? code : ptq_modules_new(&b->modules, &args, st);
}

/* The block's own weights are at hand now. */
static int leave_modules(struct block_run *b, struct ptq_status *st)
{
    ptq_modules_free(b->modules);
    b->modules = NULL;
    return b->sample.begun && b->sample.next == b->block.index && !ptq_job_stop(b->job)
               ? run_sample(b, &b->block, st)
               : PTQ_OK;
}

/* ---- one block */

/* q, k, v read one input: its statistics are read once. */
static int get_stats(struct block_run *b, const char *input, struct ptq_status *st)
{
    struct ptq_job *job = b->job;
    if (b->input && !strcmp(b->input, input))
        return PTQ_OK;
    ptq_factor_cache_clear(b->cache);
    ptq_arena_clear(&b->stats);
    b->input = NULL;
    int code = ptq_read_stats(&job->draws[b->draw], input, &b->stats, &b->calib, st);
    if (code >= 0 && job->has_heldout)
        code = ptq_read_stats(&job->heldout, input, &b->stats, &b->heldout, st);
    if (code >= 0)
        b->input = input;
    return code;
}

/* Keys or values of sampled tokens: a matrix that multiplies nothing. */
static struct ptq_layer cache_layer(const struct ptq_entry *e, const struct ptq_input_stats *s)
{
    const float *at = e->role == PTQ_ROLE_KCACHE ? s->kcache : s->vcache;
    return (struct ptq_layer){.name = e->name,
                              .block = e->block,
                              .role = e->role,
                              .w = {at, s->n_cached, s->d_cached, s->d_cached}};
}

static int run_model_layer(struct block_run *b, int64_t entry, struct ptq_status *st)
{
    struct ptq_job *job = b->job;
    struct layer_run r = {
        .job = job, .entry = &job->entries[entry], .entry_index = entry, .points = b->points};
    struct ptq_layer layer, heldout;
    struct ptq_status why = {0};
    r.n = pending(job, entry, b->draw, b->points);
    if (!r.n || ptq_job_stop(job))
        return PTQ_OK;
    int code = get_stats(b, r.entry->input, st);
    if (code < 0)
        return code;
    const bool cache = r.entry->lin < 0, has_heldout = job->has_heldout && !cache;
    const struct ptq_linear *lin = cache ? NULL : &b->block.lin[r.entry->lin];
    if (cache)
        layer = cache_layer(r.entry, &b->calib);
    else
        ptq_layer_from_model(lin, r.entry->block, &b->calib, &layer);
    struct ptq_neighbours near;
    if (!cache)
        ptq_layer_place(&layer, &b->block, r.entry->lin, ptq_modules_module(b->modules), &near);
    if (has_heldout) {
        ptq_layer_from_model(lin, r.entry->block, &b->heldout, &heldout);
        r.calib = &b->calib;
        r.heldout = &b->heldout;
    }
    int checked = ptq_layer_check(&layer, job->cfg->model.source, &why);
    if (checked < 0)
        return ptq_job_cell_ended(job, checked, &why) == PTQ_LEAVES_ROW ? fail_points(&r, &why, st)
                                                                        : PTQ_OK;
    return run_layer(&r, &layer, has_heldout ? &heldout : NULL, b->cache, st);
}

static bool block_pending(const struct ptq_job *job, int block, int draw)
{
    for (int64_t e = 0; e < job->n_entries; e++)
        if (job->entries[e].block == block && pending(job, e, draw, NULL))
            return true;
    return false;
}

static int run_block(struct block_run *b, int block, struct ptq_status *st)
{
    struct ptq_job *job = b->job;
    if (!block_pending(job, block, b->draw) || ptq_job_stop(job))
        return PTQ_OK;
    ptq_arena_init(&b->weights, 0);
    ptq_arena_init(&b->stats, 0);
    b->input = NULL;
    int code = ptq_model_load_block(job->model, block, &b->weights, &b->block, st);
    if (code >= 0)
        code = take_modules(b, st);
    for (int64_t e = 0; code >= 0 && e < job->n_entries; e++)
        if (job->entries[e].block == block)
            code = run_model_layer(b, e, st);
    if (code >= 0)
        code = leave_modules(b, st);
    else
        ptq_modules_free(b->modules);
    b->modules = NULL;
    ptq_factor_cache_clear(b->cache);
    ptq_arena_clear(&b->stats);
    ptq_arena_clear(&b->weights);
    return code;
}

static int run_draw(struct block_run *b, struct ptq_status *st)
{
    struct ptq_job *job = b->job;
    bool any = false;
    for (int64_t e = 0; e < job->n_entries && !any; e++)
        any = pending(job, e, b->draw, NULL) > 0;
    if (!any)
        return PTQ_OK;
    int code = ptq_job_capture(job, &job->draws[b->draw], st);
    if (code >= 0 && job->has_heldout)
        code = ptq_job_capture(job, &job->heldout, st);
    int64_t n_blocks = ptq_model_info(job->model)->n_blocks;
    b->sample = (struct sample){.begun = false};
    ptq_arena_init(&b->sample.arena, 0);
    for (int64_t i = 0; code >= 0 && i < n_blocks; i++)
        code = run_block(b, (int)i, st);
    ptq_arena_clear(&b->sample.arena);
    return code;
}

static int run_model_layers(struct ptq_job *job, int64_t *points, struct ptq_status *st)
{
    struct block_run b = {.job = job, .points = points};
    int code = ptq_factor_cache_new(&b.cache, st);
    for (b.draw = 0; code >= 0 && b.draw < job->cfg->calib.n_seeds; b.draw++)
        code = run_draw(&b, st);
    ptq_factor_cache_free(b.cache);
    return code;
}

int ptq_layer_phase(struct ptq_job *job, struct ptq_status *st)
{
    int64_t n_groups = 0;
    int n_draws = job->layerfile ? 1 : (int)job->cfg->calib.n_seeds;
    for (int64_t e = 0; e < job->n_entries; e++)
        for (int d = 0; d < n_draws; d++)
            n_groups += pending(job, e, d, NULL) > 0;
    if (!n_groups)
        return PTQ_OK;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    int64_t *points = ptq_arena_alloc(&arena, st, job->n_points, sizeof *points);
    int code = points ? PTQ_OK : PTQ_ERR_MEMORY;
    job->progress = ptq_progress_new("layers", n_groups, job->args->quiet);
    if (code >= 0 && !job->layerfile)
        code = run_model_layers(job, points, st);
    for (int64_t e = 0; code >= 0 && job->layerfile && e < job->n_entries && !ptq_job_stop(job);
         e++)
        code = run_file_layer(job, e, points, st);
    ptq_progress_free(job->progress);
    job->progress = NULL;
    ptq_arena_clear(&arena);
    return code;
}
