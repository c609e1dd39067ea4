/* sequential.c: stats = sequential: a model cell is one walk. Each block sees the hidden states
 * that the quantized blocks before it leave, and with true_sequential each stage of a block those
 * of the quantized stages before it, as the papers do. Layer rows are scored under the
 * full-precision model's Hessian all the same, so that rows of both kinds compare. */
#include "core/clock.h"
#include "model/attnstats.h"
#include "sweep/job.h"
#include <string.h>

struct seq_walk { /* one cell, on one thread */
    struct ptq_job *job;
    int64_t index;
    const struct ptq_point *point;
    struct ptq_arena arena; /* as long as the walk: hidden states */
    /* fp: the calibration text in the full-precision model, beside which cross is taken */
    struct ptq_hidden calib, fp, eval;
    bool runs_calib, runs_fp, runs_eval;
    struct ptq_tokens windows; /* those of ptq_module_loss */
    struct ptq_model_sum sum;
    /* of the block in work: */
    struct ptq_modules *modules; /* NULL: nobody asks */
    struct ptq_arena scratch;
    struct ptq_block block, fp_block;
    struct ptq_result forms[PTQ_MAX_LINEARS];
    int n_forms;
    struct ptq_input_stats stats[PTQ_MAX_STAGES];
    int n_stats;
};

/* ---- one layer ---------------------------------------------------------------------------------
 */

static struct ptq_want *want_of(const struct seq_walk *w, int64_t entry)
{
    return ptq_layer_want(w->job, w->index, entry);
}

struct scored { /* a layer under the full-precision model's statistics */
    struct ptq_layer layer, heldout;
    struct ptq_layer_truth truth;
    struct ptq_noise noise; /* of scoring alone */
};

static int score_under_fp(const struct seq_walk *w, const struct ptq_entry *e,
                          struct ptq_arena *arena, struct scored *s, struct ptq_status *st)
{
    struct ptq_job *job = w->job;
    const struct ptq_linear *lin = &w->block.lin[e->lin];
    struct ptq_input_stats *stats = ptq_arena_alloc(arena, st, 2, sizeof *stats);
    int code = stats ? ptq_read_stats(&job->draws[w->point->draw], e->input, arena, &stats[0], st)
                     : PTQ_ERR_MEMORY;
    if (code >= 0 && job->has_heldout)
        code = ptq_read_stats(&job->heldout, e->input, arena, &stats[1], st);
    if (code < 0)
        return code;
    ptq_layer_from_model(lin, e->block, &stats[0], &s->layer);
    if (job->has_heldout)
        ptq_layer_from_model(lin, e->block, &stats[1], &s->heldout);
    s->truth = (struct ptq_layer_truth){.wanted = ptq_metric_wanted_hook, .wanted_arg = job};
    code = ptq_layer_truth_init(&s->truth, &s->layer, job->has_heldout ? &s->heldout : NULL,
                                job->args->pool, arena, st);
    const struct ptq_noise noise = {.job = job, .truth = &s->truth, .heldout = &stats[1]};
    return code < 0 || !ptq_noise_wanted(job) ? code : ptq_noise_init(&s->noise, &noise, arena, st);
}

/* What the method sees: statistics of the quantized prefix, or nothing. */
static void seen_layer(const struct seq_walk *w, const struct ptq_entry *e, struct ptq_layer *out,
                       struct ptq_neighbours *near)
{
    ptq_layer_from_model(&w->block.lin[e->lin], e->block,
                         ptq_stats_find(w->stats, w->n_stats, e->input), out);
    if (ptq_sees_stats(w->point->spec, &w->point->cell))
        ptq_layer_place(out, &w->block, e->lin, ptq_modules_module(w->modules), near);
    else
        *out = ptq_layer_blind(out);
}

static int quantize_layer(struct seq_walk *w, int64_t entry, struct ptq_status *st)
{
    struct ptq_job *job = w->job;
    const struct ptq_entry *e = &job->entries[entry];
    struct ptq_layer_cell cell = {.job = job,
                                  .point = w->point,
                                  .entry = e,
                                  .want = want_of(w, entry),
                                  .pool = job->args->pool};
    struct scored s;
    struct ptq_layer seen;
    struct ptq_neighbours near;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    seen_layer(w, e, &seen, &near);
    struct ptq_session_args args = {&seen, (enum ptq_precision)job->cfg->run.precision,
                                    job->args->pool, NULL, job->args->cancel};
    int code = ptq_layer_check(&seen, job->cfg->model.source, st);
    if (code >= 0 && cell.want->need_row)
        code = score_under_fp(w, e, &arena, &s, st);
    if (code >= 0 && cell.want->need_row)
        code = ptq_job_health(job, &s.layer, &cell.health, st);
    if (code >= 0)
        code = ptq_session_new(&cell.session, &args, st);
    cell.truth = &s.truth;
    cell.noise = cell.want->need_row && ptq_noise_wanted(job) ? &s.noise : NULL;
    if (code >= 0)
        code = ptq_layer_cell_run(&cell, &w->forms[w->n_forms], st);
    ptq_session_free(cell.session);
    ptq_arena_clear(&arena);
    return code;
}

static int take_layer(struct seq_walk *w, int64_t entry, struct ptq_status *st)
{
    int code = quantize_layer(w, entry, st);
    if (code != PTQ_OK)
        return code;
    w->n_forms++;
    return ptq_model_sum_add(&w->sum, &w->forms[w->n_forms - 1], st);
}

/* ---- one block ---------------------------------------------------------------------------------
 */

static bool lacks_form(const struct seq_walk *w, int64_t entry)
{
    return !ptq_pack_has(w->job->pack, want_of(w, entry)->form);
}

/* stage < 0: any of the block. */
static bool stage_needs_stats(const struct seq_walk *w, int stage)
{
    for (int i = 0; i < w->block.n_linears; i++) {
        int64_t e = ptq_entry_of(w->job, w->block.index, i);
        if (e >= 0 && (stage < 0 || w->block.lin[i].stage == stage) && lacks_form(w, e))
            return w->runs_calib;
    }
    return false;
}

static const char *input_of_stage(const struct ptq_block *b, int stage)
{
    for (int i = 0; i < b->n_linears; i++)
        if (b->lin[i].stage == stage)
            return b->lin[i].input;
    return NULL;
}

static bool needs(const struct ptq_point *p, unsigned what)
{
    return ptq_spec_needs(p->spec) & what;
}

static int take_stats(struct seq_walk *w, int stage, struct ptq_status *st)
{
    const char *only = stage < 0 ? NULL : input_of_stage(&w->block, stage);
    const struct ptq_fp_walk fp = {&w->fp_block, &w->fp};
    struct ptq_stats_options o = w->job->stats_options;
    w->n_stats = 0;
    if (!stage_needs_stats(w, stage))
        return PTQ_OK;
    o.fp = w->runs_fp ? &fp : NULL;
    if (!needs(w->point, PTQ_NEEDS_ATTN))
        o.attention = PTQ_ATTN_NONE;
    return ptq_stats_block(w->job->model, &w->block, w->job->args->pool, &w->calib, &o, only,
                           &w->scratch, w->stats, &w->n_stats, st);
}

/* Quantizes the linears of a stage (stage < 0: all) and puts them in place afterwards: they see the
 * same inputs. */
static int run_stage(struct seq_walk *w, int stage, struct ptq_status *st)
{
    const struct ptq_result *taken[PTQ_MAX_LINEARS] = {NULL};
    int code = take_stats(w, stage, st);
    for (int i = 0; code == PTQ_OK && i < w->block.n_linears; i++) {
        int64_t e = ptq_entry_of(w->job, w->block.index, i);
        if (ptq_job_stop(w->job))
            return PTQ_ERR_CANCELLED;
        if (e < 0 || (stage >= 0 && w->block.lin[i].stage != stage))
            continue;
        code = take_layer(w, e, st);
        if (code == PTQ_OK)
            taken[i] = &w->forms[w->n_forms - 1];
    }
    for (int i = 0; code == PTQ_OK && i < w->block.n_linears; i++)
        if (taken[i])
            code = ptq_linear_take(&w->block.lin[i], taken[i], &w->scratch, st);
    return code;
}

static int run_stages(struct seq_walk *w, struct ptq_status *st)
{
    if (!w->job->cfg->calib.true_sequential)
        return run_stage(w, -1, st);
    int code = PTQ_OK;
    for (int s = 0; code == PTQ_OK && s < w->block.n_stages; s++)
        code = run_stage(w, s, st);
    return code;
}

/* On the states that the quantized blocks leave, against this block's own weights. */
static int take_modules(struct seq_walk *w, struct ptq_status *st)
{
    const struct ptq_modules_args args = {.model = w->job->model,
                                          .exact = &w->fp_block,
                                          .current = &w->block,
                                          .hidden = &w->calib,
                                          .windows = &w->windows,
                                          .stop = ptq_job_stop_hook,
                                          .stop_arg = w->job};
    w->modules = NULL;
    return w->runs_calib && ptq_needs_module(w->point) ? ptq_modules_new(&w->modules, &args, st)
                                                       : PTQ_OK;
}

static int walk_block(struct seq_walk *w, int index, struct ptq_status *st)
{
    struct ptq_pool *pool = w->job->args->pool;
    const struct ptq_model *model = w->job->model;
    const struct ptq_block_tap tap = {.stop = ptq_job_stop_hook, .stop_arg = w->job};
    ptq_arena_init(&w->scratch, 0);
    w->n_forms = 0;
    int code = ptq_model_load_block(model, index, &w->scratch, &w->block, st);
    w->fp_block = w->block;
    if (code >= 0)
        code = take_modules(w, st);
    if (code >= 0)
        code = run_stages(w, st);
    ptq_modules_free(w->modules);
    w->modules = NULL;
    if (code == PTQ_OK && w->runs_calib)
        code = ptq_block_run(model, &w->block, pool, &w->calib, &tap, st);
    if (code == PTQ_OK && w->runs_fp)
        code = ptq_block_run(model, &w->fp_block, pool, &w->fp, &tap, st);
    if (code == PTQ_OK && w->runs_eval)
        code = ptq_block_run(model, &w->block, pool, &w->eval, &tap, st);
    for (int i = 0; i < w->n_forms; i++)
        ptq_result_release(&w->forms[i]);
    ptq_arena_clear(&w->scratch);
    return code;
}

/* ---- one cell ----------------------------------------------------------------------------------
 */

static bool any_form_missing(const struct seq_walk *w)
{
    for (int64_t e = 0; e < w->job->n_entries; e++)
        if (lacks_form(w, e))
            return true;
    return false;
}

static int walk(struct seq_walk *w, struct ptq_status *st)
{
    struct ptq_job *job = w->job;
    struct ptq_times t = {.begin_ns = ptq_now_ns()};
    int64_t n_blocks = ptq_model_info(job->model)->n_blocks;
    w->runs_eval = job->has_eval && job->model_wants[w->index].need_row;
    w->runs_calib = ptq_sees_stats(w->point->spec, &w->point->cell) && any_form_missing(w);
    w->runs_fp = w->runs_calib && needs(w->point, PTQ_NEEDS_CROSS);
    const struct ptq_tokens *tokens = &job->draws[w->point->draw].text.tokens;
    int code = PTQ_OK;
    if (w->runs_calib)
        code = ptq_model_embed(job->model, tokens, &w->arena, &w->calib, st);
    if (code >= 0 && w->runs_calib && ptq_needs_module(w->point))
        code =
            ptq_sample_windows(tokens, job->cfg->calib.module_tokens, &w->arena, &w->windows, st);
    if (code >= 0 && w->runs_fp)
        code = ptq_model_embed(job->model, tokens, &w->arena, &w->fp, st);
    if (code >= 0 && w->runs_eval)
        code = ptq_model_embed(job->model, &job->eval_text.tokens, &w->arena, &w->eval, st);
    for (int64_t b = 0; code == PTQ_OK && b < n_blocks; b++)
        code = ptq_job_stop(job) ? PTQ_ERR_CANCELLED : walk_block(w, (int)b, st);
    if (code == PTQ_OK && w->runs_eval)
        return ptq_model_row(job, w->index, &w->sum, &w->eval, job->args->pool, &t, st);
    if (code == PTQ_OK)
        ptq_progress_step(job->progress, w->point->spec->label);
    return code;
}

/* Rows that the walk did not reach say which layer stopped it. */
static int fail_rest(struct seq_walk *w, int code, const char *reason, struct ptq_status *st)
{
    struct ptq_job *job = w->job;
    char text[1100];
    struct ptq_times t = {.begin_ns = job->begin_ns};
    snprintf(text, sizeof text, "the walk through the model stopped: %.1000s", reason);
    int done = PTQ_OK;
    for (int64_t e = 0; done >= 0 && e < job->n_entries; e++) {
        const struct ptq_want *want = want_of(w, e);
        if (!want->need_row || ptq_store_find(job->store, want->key))
            continue;
        json_t *row = ptq_row_begin(job, "layer", want, w->point);
        ptq_row_add_layer(row, &job->entries[e]);
        ptq_row_set_outcome(row, code, text);
        done = ptq_row_finish(job, row, &t, st);
    }
    if (done >= 0 && job->has_eval && job->model_wants[w->index].need_row)
        done = ptq_model_outcome(job, w->index, code, reason, st);
    return done;
}

static void run_cell(struct ptq_job *job, int64_t point)
{
    struct seq_walk w = {.job = job, .index = point, .point = &job->points[point]};
    struct ptq_status st = {0}, io = {0};
    ptq_arena_init(&w.arena, 0);
    w.arena.spill = ptq_job_spill(job);
    int code = walk(&w, &st);
    if (ptq_job_cell_ended(job, code, &st) == PTQ_LEAVES_ROW)
        fail_rest(&w, code, st.text, &io);
    ptq_arena_clear(&w.arena);
}

/* Statistics of attention, and a second walk with its sums, where a method of the sweep takes them.
 */
static double extra_bytes(const struct ptq_job *job, double widest)
{
    const struct ptq_model_info *i = ptq_model_info(job->model);
    const struct ptq_tokens *t = &job->draws[0].text.tokens;
    bool attention = false, cross = false;
    for (int64_t p = 0; p < job->n_points; p++) {
        attention = attention || needs(&job->points[p], PTQ_NEEDS_ATTN);
        cross = cross || needs(&job->points[p], PTQ_NEEDS_CROSS);
    }
    return (attention ? ptq_attn_cost(i, t, &job->stats_options, ptq_pool_threads(job->args->pool))
                            .memory_bytes
                      : 0) +
           (cross ? 4 * (double)t->n_total * (double)i->d_model + 3 * 8 * widest * widest : 0);
}

static double cell_bytes(const struct ptq_job *job)
{
    const struct ptq_model_info *i = ptq_model_info(job->model);
    double block = (double)i->n_block_params / (double)(i->n_blocks ? i->n_blocks : 1);
    double tokens = (double)job->draws[0].text.tokens.n_total +
                    (double)(job->has_eval ? job->eval_text.tokens.n_total : 0);
    double widest = (double)(i->d_ff > i->d_model ? i->d_ff : i->d_model);
    return 4 * tokens * (double)i->d_model + 12 * block + 6 * 8 * widest * widest +
           extra_bytes(job, widest) + ptq_module_bytes(job) + ptq_runs_bytes(job) +
           ptq_scoring_bytes(job);
}

static bool pending(const struct ptq_job *job, int64_t point)
{
    bool any = job->has_eval && job->model_wants[point].need_row;
    for (int64_t e = 0; e < job->n_entries; e++)
        any = any || ptq_layer_want(job, point, e)->need_row ||
              ptq_layer_want(job, point, e)->need_form;
    return any;
}

static int capture_needed(struct ptq_job *job, const int64_t *points, int64_t n,
                          struct ptq_status *st)
{
    int code = PTQ_OK;
    for (int64_t i = 0; code >= 0 && i < n; i++) {
        struct ptq_draw *d = &job->draws[job->points[points[i]].draw];
        if (needs(&job->points[points[i]], PTQ_NEEDS_ATTN))
            code = ptq_attn_check(ptq_model_info(job->model), &d->text.tokens, &job->stats_options,
                                  ptq_pool_threads(job->args->pool), job->memory_bytes, st);
        if (code >= 0)
            code = ptq_job_capture(job, d, st);
    }
    if (code >= 0 && job->has_heldout)
        code = ptq_job_capture(job, &job->heldout, st);
    return code;
}

int ptq_sequential_phase(struct ptq_job *job, struct ptq_status *st)
{
    int64_t *points, n = 0;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    points = ptq_arena_alloc(&arena, st, job->n_points, sizeof *points);
    for (int64_t p = 0; points && p < job->n_points; p++)
        if (pending(job, p))
            points[n++] = p;
    int code = points ? PTQ_OK : PTQ_ERR_MEMORY;
    if (code >= 0 && n)
        code = capture_needed(job, points, n, st);
    if (code >= 0 && job->has_eval && (n || job->reference_want.need_row) && !ptq_job_stop(job))
        code = ptq_model_reference(job, st);
    if (code >= 0 && n)
        ptq_job_each_model(job, points, n, cell_bytes(job), run_cell);
    ptq_arena_clear(&arena);
    return code;
}
