/* plan.c: the cross product of the configuration and the keys of its rows. Everything here follows
 * from the configuration and the inputs; what has been done is looked up afterwards (ptq_job_look).
 */
#include "core/size.h"
#include "core/words.h"
#include "sweep/job.h"
#include "sweep/layerfile.h"
#include <string.h>

/* ---- points ------------------------------------------------------------------------------------
 */

static void fill_point(const struct ptq_job *job, int64_t i, struct ptq_point *p)
{
    const struct ptq_config_grid *g = &job->cfg->sweep;
    /* The last factor varies fastest: neighbours share method and draw, so factors stay in use. */
    struct ptq_cell cell = {.w_bits = (int)g->bits[i % g->n_bits]};
    i /= g->n_bits;
    cell.a_bits = (int)g->a_bits[i % g->n_a_bits];
    i /= g->n_a_bits;
    cell.group_size = g->groups[i % g->n_groups];
    i /= g->n_groups;
    cell.scale_fmt = (enum ptq_fmt)g->scale[i % g->n_scale];
    i /= g->n_scale;
    cell.grid = (enum ptq_grid)g->grid[i % g->n_grid];
    i /= g->n_grid;
    cell.sym = g->sym[i % g->n_sym] != 0;
    i /= g->n_sym;
    p->spec = &g->specs[i % g->n_specs];
    p->draw = (int)(i / g->n_specs);
    cell.sym_kind = (enum ptq_sym_kind)g->sym_kind;
    cell.zero_in_range = g->zero_in_range;
    cell.seed = (uint64_t)job->cfg->run.seed;
    ptq_spec_cell(p->spec, &cell, &p->cell);
}

static int make_points(struct ptq_job *job, struct ptq_status *st)
{
    const struct ptq_config_grid *g = &job->cfg->sweep;
    const int64_t factors[] = {g->n_bits, g->n_a_bits, g->n_groups, g->n_scale,
                               g->n_grid, g->n_sym,    g->n_specs,  job->cfg->calib.n_seeds};
    job->n_points = 1;
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++)
        if (!ptq_size_mul(job->n_points, factors[i], &job->n_points) || job->n_points > 1000000)
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: more than a million grid points; split the sweep",
                                  job->cfg->file);
    job->points = ptq_arena_alloc(&job->arena, st, job->n_points, sizeof *job->points);
    for (int64_t i = 0; job->points && i < job->n_points; i++)
        fill_point(job, i, &job->points[i]);
    return job->points ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- layers ------------------------------------------------------------------------------------
 */

static int no_layers(const struct ptq_job *job, struct ptq_status *st)
{
    return ptq_status_set(
        st, PTQ_ERR_USAGE,
        "%s: [sweep] layers = %s matches no layer of %s; `ptq inspect %s` lists them",
        job->cfg->file, job->cfg->sweep.layers, job->cfg->model.source, job->cfg->model.source);
}

static int model_entry(struct ptq_job *job, const struct ptq_block *b, int lin,
                       struct ptq_status *st)
{
    const struct ptq_linear *l = &b->lin[lin];
    if (!ptq_glob(job->cfg->sweep.layers, l->name))
        return PTQ_OK;
    struct ptq_entry *e = &job->entries[job->n_entries++];
    *e = (struct ptq_entry){.role = l->role,
                            .block = b->index,
                            .lin = lin,
                            .stage = l->stage,
                            .rows = l->d_out,
                            .cols = l->d_in};
    e->name = ptq_arena_strdup(&job->arena, st, l->name);
    e->input = ptq_arena_strdup(&job->arena, st, l->input);
    ptq_key_of(e->weights, "weights", job->model_key, l->name, (char *)NULL);
    return e->name && e->input ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* The cache whose rows the linear makes: keys or values. Behind v, so that the statistics of the
 * input are at hand still. */
static int cache_entry(struct ptq_job *job, const struct ptq_block *b, const struct ptq_linear *l,
                       enum ptq_role role, struct ptq_status *st)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s", b->index, ptq_role_name(role));
    if (!ptq_glob(job->cfg->sweep.layers, name))
        return PTQ_OK;
    struct ptq_entry *e = &job->entries[job->n_entries++];
    *e = (struct ptq_entry){.role = role,
                            .block = b->index,
                            .lin = -1,
                            .rows = job->cfg->sweep.kv_tokens,
                            .cols = l->d_out};
    e->name = ptq_arena_strdup(&job->arena, st, name);
    e->input = ptq_arena_strdup(&job->arena, st, l->input);
    snprintf(name, sizeof name, "%lld", (long long)e->rows);
    ptq_key_of(e->weights, "cache", e->name ? e->name : "", name, (char *)NULL);
    return e->name && e->input ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int cache_entries(struct ptq_job *job, const struct ptq_block *b, const struct ptq_linear *l,
                         struct ptq_status *st)
{
    if (!job->cfg->sweep.kv_tokens || l->role != PTQ_ROLE_V)
        return PTQ_OK;
    int code = cache_entry(job, b, l, PTQ_ROLE_KCACHE, st);
    return code < 0 ? code : cache_entry(job, b, l, PTQ_ROLE_VCACHE, st);
}

static int model_entries(struct ptq_job *job, struct ptq_status *st)
{
    int64_t n_blocks = ptq_model_info(job->model)->n_blocks, limit = job->cfg->model.blocks;
    if (limit && limit < n_blocks)
        n_blocks = limit;
    job->entries =
        ptq_arena_alloc(&job->arena, st, n_blocks * (PTQ_MAX_LINEARS + 2), sizeof *job->entries);
    int code = job->entries ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t b = 0; code >= 0 && b < n_blocks; b++) {
        struct ptq_arena arena;
        struct ptq_block block;
        ptq_arena_init(&arena, 0);
        code = ptq_model_layout(job->model, (int)b, &arena, &block, st);
        for (int i = 0; code >= 0 && i < block.n_linears; i++) {
            code = model_entry(job, &block, i, st);
            if (code >= 0)
                code = cache_entries(job, &block, &block.lin[i], st);
        }
        ptq_arena_clear(&arena);
    }
    return code;
}

/* Reads a bare layer for its keys and lets it go again: the file may be larger than memory. */
static int file_entry(struct ptq_job *job, const char *name, struct ptq_status *st)
{
    struct ptq_layerfile_args args = {.name = name};
    struct ptq_layer layer;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    int code = ptq_layerfile_read(job->layerfile, &args, &arena, &layer, st);
    if (code >= 0) {
        struct ptq_entry *e = &job->entries[job->n_entries++];
        *e = (struct ptq_entry){.name = name,
                                .role = layer.role,
                                .block = layer.block,
                                .rows = layer.w.rows,
                                .cols = layer.w.cols};
        ptq_layerfile_keys(&layer, e->weights, e->given);
    }
    ptq_arena_clear(&arena);
    return code;
}

static int file_entries(struct ptq_job *job, struct ptq_status *st)
{
    char **names;
    int64_t n = 0;
    int code = ptq_layerfile_names(job->layerfile, &job->arena, &names, &n, st);
    job->entries = ptq_arena_alloc(&job->arena, st, n, sizeof *job->entries);
    if (code >= 0 && !job->entries)
        code = PTQ_ERR_MEMORY;
    for (int64_t i = 0; code >= 0 && i < n; i++)
        if (ptq_glob(job->cfg->sweep.layers, names[i]))
            code = file_entry(job, names[i], st);
    return code;
}

int64_t ptq_entry_of(const struct ptq_job *job, int block, int lin)
{
    for (int64_t i = 0; i < job->n_entries; i++)
        if (job->entries[i].block == block && job->entries[i].lin == lin)
            return i;
    return -1;
}

static int check_groups(const struct ptq_job *job, struct ptq_status *st)
{
    const struct ptq_config_grid *g = &job->cfg->sweep;
    for (int64_t i = 0; i < g->n_groups; i++)
        for (int64_t e = 0; e < job->n_entries; e++)
            if (g->groups[i] > job->entries[e].cols)
                return ptq_status_set(st, PTQ_ERR_USAGE,
                                      "%s: [sweep] group_size: a group of %lld is larger than the "
                                      "row of %s (%lld columns); take it out, "
                                      "or leave the layer out with [sweep] layers",
                                      job->cfg->file, (long long)g->groups[i], job->entries[e].name,
                                      (long long)job->entries[e].cols);
    return PTQ_OK;
}

/* ---- wants -------------------------------------------------------------------------------------
 */

void ptq_layer_evaluated_on(const struct ptq_job *job, const struct ptq_point *p,
                            const struct ptq_entry *e, char out[PTQ_KEY_CHARS])
{
    if (job->layerfile)
        ptq_key_of(out, "given", e->given, (char *)NULL);
    else
        ptq_key_of(out, "moments", job->draws[p->draw].key,
                   job->has_heldout ? job->heldout.key : "", e->input, (char *)NULL);
}

/* prefix: hash of the layers quantized before this one, which decide its inputs when statistics are
 * sequential. */
static void stats_key(const struct ptq_job *job, const struct ptq_point *p,
                      const struct ptq_entry *e, const char *prefix, char out[PTQ_KEY_CHARS])
{
    char tokens[32];
    if (job->layerfile)
        memcpy(out, e->given, PTQ_KEY_CHARS);
    else if (job->cfg->calib.stats == PTQ_STATS_FP)
        ptq_key_of(out, "fp", job->draws[p->draw].key, e->input, (char *)NULL);
    else
        ptq_key_of(out, job->cfg->calib.true_sequential ? "true-sequential" : "sequential",
                   job->draws[p->draw].key, prefix, e->input, (char *)NULL);
    if (!job->layerfile && ptq_needs_module(p)) {
        snprintf(tokens, sizeof tokens, "%lld", (long long)job->cfg->calib.module_tokens);
        ptq_key_of(out, out, "module", tokens, (char *)NULL);
    }
    if (job->stats_options.attention && (ptq_spec_needs(p->spec) & PTQ_NEEDS_ATTN))
        ptq_key_of(out, "attention", out,
                   job->stats_options.attention == PTQ_ATTN_ALL ? "all" : "rows", (char *)NULL);
}

/* Keys and values are data of a draw of the text. */
static void weights_key(const struct ptq_job *job, const struct ptq_point *p,
                        const struct ptq_entry *e, char out[PTQ_KEY_CHARS])
{
    memcpy(out, e->weights, PTQ_KEY_CHARS);
    if (e->lin < 0)
        ptq_key_of(out, e->weights, job->draws[p->draw].key, (char *)NULL);
}

static void plan_layers(struct ptq_job *job, int64_t point)
{
    const struct ptq_point *p = &job->points[point];
    char prefix[PTQ_KEY_CHARS] = "", stats[PTQ_KEY_CHARS], on[PTQ_KEY_CHARS],
         weights[PTQ_KEY_CHARS];
    for (int64_t i = 0; i < job->n_entries; i++) {
        struct ptq_want *w = ptq_layer_want(job, point, i);
        const struct ptq_entry *e = &job->entries[i];
        stats_key(job, p, e, prefix, stats);
        ptq_key_of(prefix, prefix, e->name, (char *)NULL);
        weights_key(job, p, e, weights);
        struct ptq_form_inputs in = {weights,
                                     stats,
                                     p->spec,
                                     &p->cell,
                                     (enum ptq_precision)job->cfg->run.precision,
                                     job->args->machine};
        ptq_form_key(&in, w->form);
        ptq_layer_evaluated_on(job, p, e, on);
        ptq_row_key("layer", w->form, on, w->key);
        int64_t unit = job->layerfile ? i * job->n_points + point : point;
        w->mine = !job->args->reference_only && unit % job->args->n_shards == job->args->shard;
    }
}

static int plan_model(struct ptq_job *job, int64_t point, struct ptq_status *st)
{
    struct ptq_want *w = &job->model_wants[point];
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    char(*forms)[PTQ_KEY_CHARS] = ptq_arena_alloc(&arena, st, job->n_entries, sizeof *forms);
    int64_t n = 0;
    for (int64_t i = 0; forms && i < job->n_entries; i++)
        if (job->entries[i].lin >= 0)
            memcpy(forms[n++], ptq_layer_want(job, point, i)->form, PTQ_KEY_CHARS);
    if (forms)
        ptq_model_form_key(job->model_key, (const char(*)[PTQ_KEY_CHARS])forms, n, w->form);
    ptq_arena_clear(&arena);
    ptq_row_key("model", w->form, job->eval_key, w->key);
    w->mine = !job->args->reference_only && point % job->args->n_shards == job->args->shard;
    return forms ? PTQ_OK : PTQ_ERR_MEMORY;
}

static void plan_reference(struct ptq_job *job)
{
    char arithmetic[PTQ_KEY_CHARS];
    struct ptq_want *w = &job->reference_want;
    ptq_arithmetic_key((enum ptq_precision)job->cfg->run.precision, job->args->machine, arithmetic);
    ptq_key_of(w->form, "reference", job->model_key, arithmetic, (char *)NULL);
    ptq_row_key("reference", w->form, job->eval_key, w->key);
    w->mine = job->args->shard == 0;
}

static int mark(json_t *seen, struct ptq_want *w, struct ptq_status *st)
{
    w->repeated = json_object_get(seen, w->key) != NULL;
    return json_object_set_new(seen, w->key, json_true()) ? ptq_status_nomem(st, "the plan", 0)
                                                          : PTQ_OK;
}

static int mark_repeated(struct ptq_job *job, struct ptq_status *st)
{
    json_t *seen = json_object();
    int code = seen ? PTQ_OK : ptq_status_nomem(st, "the plan", 0);
    for (int64_t p = 0; code >= 0 && p < job->n_points; p++) {
        for (int64_t i = 0; code >= 0 && i < job->n_entries; i++)
            code = mark(seen, ptq_layer_want(job, p, i), st);
        if (code >= 0 && job->has_eval)
            code = mark(seen, &job->model_wants[p], st);
    }
    for (int k = 0; k < PTQ_N_BESIDE; k++)
        for (int64_t i = 0; code >= 0 && i < job->beside[k].n; i++)
            code = mark(seen, &job->beside[k].at[i], st);
    json_decref(seen);
    return code;
}

static int make_wants(struct ptq_job *job, struct ptq_status *st)
{
    int64_t n;
    if (!ptq_size_mul(job->n_points, job->n_entries, &n))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: too many cells; split the sweep",
                              job->cfg->file);
    job->layer_wants = ptq_arena_alloc(&job->arena, st, n, sizeof *job->layer_wants);
    job->model_wants = ptq_arena_alloc(&job->arena, st, job->n_points, sizeof *job->model_wants);
    if (!job->layer_wants || !job->model_wants)
        return PTQ_ERR_MEMORY;
    int code = PTQ_OK;
    for (int64_t p = 0; code >= 0 && p < job->n_points; p++) {
        plan_layers(job, p);
        if (job->has_eval)
            code = plan_model(job, p, st);
    }
    if (code >= 0 && job->has_eval)
        plan_reference(job);
    if (code >= 0)
        code = ptq_propagation_plan(job, st);
    if (code >= 0)
        code = ptq_proxy_plan(job, st);
    return code < 0 ? code : mark_repeated(job, st);
}

int ptq_job_plan(struct ptq_job *job, struct ptq_status *st)
{
    int code = make_points(job, st);
    if (code >= 0)
        code = job->layerfile ? file_entries(job, st) : model_entries(job, st);
    if (code >= 0 && job->n_entries == 0)
        code = no_layers(job, st);
    if (code >= 0)
        code = check_groups(job, st);
    return code < 0 ? code : make_wants(job, st);
}

/* ---- what is there -----------------------------------------------------------------------------
 */

static bool need_row(const struct ptq_job *job, const struct ptq_entry *e, const struct ptq_want *w,
                     const char *on)
{
    const json_t *row = w->mine && !w->repeated ? ptq_store_find(job->store, w->key) : NULL;
    if (!w->mine || w->repeated)
        return false;
    if (row && job->args->retry_failed && !strcmp(ptq_row_text(row, "status"), "failed"))
        return true;
    return !row || !ptq_row_complete(job, row, e, w, on);
}

/* A layer that was skipped or failed has no form and will have none. */
static bool may_have_form(const struct ptq_job *job, const struct ptq_want *w)
{
    const json_t *row = ptq_store_find(job->store, w->key);
    return w->need_row || !row || !strcmp(ptq_row_text(row, "status"), "ok");
}

static void look_beside(struct ptq_job *job)
{
    for (int k = 0; k < PTQ_N_BESIDE; k++)
        for (int64_t i = 0; i < job->beside[k].n; i++) {
            struct ptq_want *w = &job->beside[k].at[i];
            const json_t *row = ptq_store_find(job->store, w->key);
            const bool again =
                job->args->retry_failed && !strcmp(ptq_row_text(row, "status"), "failed");
            w->need_row = w->mine && !w->repeated && (!row || again);
        }
}

/* Whether a row beside the cells runs the point's forms. */
static bool is_needed_beside(const struct ptq_job *job, int64_t point)
{
    static const int of_points[] = {PTQ_PROPAGATION, PTQ_FEW};
    for (size_t k = 0; k < sizeof of_points / sizeof *of_points; k++) {
        const struct ptq_wants *w = &job->beside[of_points[k]];
        if (w->n && w->at[point].need_row)
            return true;
    }
    return false;
}

int ptq_job_look(struct ptq_job *job, struct ptq_status *st)
{
    char on[PTQ_KEY_CHARS];
    (void)st;
    look_beside(job);
    job->reference_want.need_row =
        job->has_eval && need_row(job, NULL, &job->reference_want, job->eval_key);
    for (int64_t p = 0; p < job->n_points; p++) {
        struct ptq_want *m = &job->model_wants[p];
        m->need_row = job->has_eval && need_row(job, NULL, m, job->eval_key);
        const bool runs = m->need_row || is_needed_beside(job, p);
        for (int64_t i = 0; i < job->n_entries; i++) {
            struct ptq_want *w = ptq_layer_want(job, p, i);
            ptq_layer_evaluated_on(job, &job->points[p], &job->entries[i], on);
            w->need_row = need_row(job, &job->entries[i], w, on);
            w->need_form = runs && job->entries[i].lin >= 0 && may_have_form(job, w) &&
                           !ptq_pack_verify(job->pack, w->form);
        }
    }
    return PTQ_OK;
}

bool ptq_metric_wanted(const struct ptq_job *job, const char *id)
{
    const struct ptq_config_eval *e = &job->cfg->eval;
    for (int64_t i = 0; i < e->n_metrics; i++)
        if (!strcmp(e->metrics[i], id))
            return true;
    return e->n_metrics == 0;
}

bool ptq_metric_wanted_hook(const void *job, const char *id)
{
    return ptq_metric_wanted(job, id);
}
