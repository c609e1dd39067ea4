/* proxy_phase.c: what proxies of perplexity need beside layer errors: short runs over the first
 * `[eval] proxies` windows of the held-out text (without one, of the first calibration draw), so
 * that no token of the evaluation text enters a proxy.
 *
 * kind "perturbed": the full-precision model with Gaussian noise in the weights of one layer, its
 * size a share of the layer's |W|^2 (the level, which is the noise's w_relerr). Its KL to the model
 * without noise gives the layer's coefficient of a linear sum of layer errors; the levels tell
 * whether that is linear. KL and not the difference of NLL: for a model that predicts its text well
 * both agree in the mean, and the first is a sum of squares, so that few tokens do. The
 * coefficients never see a quantized model (Malinovskii et al., HIGGS, arXiv:2411.17525, section
 * 3, on linearity). kind "few": KL and NLL of the quantized models themselves on these windows. */
#include "core/clock.h"
#include "core/rng.h"
#include "core/stat.h"
#include "sweep/job.h"
#include "sweep/placed.h"
#include "version.inc"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double levels[] = {.01, .04};
enum { N_LEVELS = sizeof levels / sizeof *levels };

struct probe {
    struct ptq_job *job;
    struct ptq_text text;   /* the first windows */
    char on[PTQ_KEY_CHARS]; /* names text and arithmetic in keys */
    struct ptq_eval *fp;    /* the full-precision model on the text; made when first needed */
    struct ptq_arena arena;
    struct ptq_block_tap tap; /* carries the stop */
};

/* ---- the text */

static const struct ptq_text *text_of(const struct ptq_job *job)
{
    return job->has_heldout ? &job->heldout.text : &job->draws[0].text;
}

struct ptq_tokens ptq_proxy_tokens(const struct ptq_job *job)
{
    return ptq_first_windows(&text_of(job)->tokens, job->cfg->eval.proxies);
}

static struct ptq_eval_args scoring(const struct probe *p)
{
    return (struct ptq_eval_args){.model = p->job->model,
                                  .text = &p->text,
                                  .pool = p->job->args->pool,
                                  .reference = p->fp,
                                  .stop = ptq_job_stop_hook,
                                  .stop_arg = p->job,
                                  .spill = ptq_job_spill(p->job)};
}

static int full_precision(struct probe *p, struct ptq_status *st)
{
    struct ptq_eval_args args = scoring(p);
    if (p->fp)
        return PTQ_OK;
    struct ptq_eval *fp = ptq_arena_alloc(&p->arena, st, 1, sizeof *fp);
    args.keep_hidden = true;
    int code = fp ? ptq_eval_model(&args, &p->arena, fp, st) : PTQ_ERR_MEMORY;
    if (!code)
        p->fp = fp;
    return code;
}

/* ---- rows */

static json_t *score_of(const struct probe *p, const struct ptq_eval *e)
{
    json_t *o = json_object();
    json_object_set_new(o, "kl", ptq_json_num(ptq_mean(e->kl, e->n_scored)));
    json_object_set_new(o, "dnll", ptq_json_num(ptq_eval_nll(e) - ptq_eval_nll(p->fp)));
    json_object_set_new(o, "n_tokens", json_integer(e->n_scored));
    json_object_set_new(o, "n_windows", json_integer(e->n_windows));
    json_object_set_new(o, "text", json_string(p->text.name));
    json_object_set_new(o, "text_key", json_string(p->text.key));
    return o;
}

/* Of states that left the last block; *out is the caller's. */
static int score(const struct probe *p, const struct ptq_hidden *hidden, struct ptq_arena *arena,
                 json_t **out, struct ptq_status *st)
{
    const struct ptq_eval_args args = scoring(p);
    struct ptq_eval eval;
    int code = ptq_eval_score(&args, hidden, arena, &eval, st);
    if (!code)
        *out = score_of(p, &eval);
    return code;
}

/* ---- one layer with noise */

struct noisy { /* a run with noise in one layer */
    struct probe *p;
    const struct ptq_entry *entry;
    const struct ptq_want *want;
    double level;
    const struct ptq_hidden *before; /* states that enter the layer's block */
    double w_relerr;                 /* of the weights as they were run; comes out at the level */
};

/* Noise of a layer does not depend on the order of the work: its stream is the layer's name. One
 * draw for all levels, so that their losses differ by the level alone. */
static uint64_t stream_of(const char *layer)
{
    uint64_t h = 1;
    for (const char *s = layer; *s; s++)
        h = ptq_hash_u64(h, (unsigned char)*s);
    return h;
}

static int add_noise(struct noisy *n, struct ptq_linear *lin, struct ptq_arena *arena,
                     struct ptq_status *st)
{
    const int64_t size = lin->d_out * lin->d_in;
    const uint64_t stream = stream_of(lin->name);
    double w2 = 0, g2 = 0, dw2 = 0;
    float *w = ptq_arena_alloc(arena, st, size, sizeof *w);
    for (int64_t i = 0; w && i < size; i++) {
        const double g = ptq_normal(stream, (uint64_t)i);
        w2 += (double)lin->w[i] * lin->w[i];
        g2 += g * g;
    }
    const double scale = sqrt(n->level * w2 / g2); /* exactly the level, not in the mean */
    for (int64_t i = 0; w && i < size; i++) {
        w[i] = (float)(lin->w[i] + scale * ptq_normal(stream, (uint64_t)i));
        const double dw = (double)w[i] - lin->w[i];
        dw2 += dw * dw;
    }
    n->w_relerr = dw2 / w2;
    lin->w = w;
    return w ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int run_exact(const struct probe *p, int index, struct ptq_hidden *hidden,
                     struct ptq_status *st)
{
    const struct ptq_placed_args args = {p->job->model, NULL, p->job->args->pool, &p->tap};
    return ptq_job_stop(p->job) ? PTQ_ERR_CANCELLED : ptq_placed_run(&args, index, hidden, st);
}

/* Copies of the states, moved through the noisy block and the rest of the model. */
static int run_noisy(struct noisy *n, struct ptq_arena *arena, struct ptq_hidden *hidden,
                     struct ptq_status *st)
{
    const struct probe *p = n->p;
    struct ptq_arena own;
    struct ptq_block block;
    const int64_t size = p->text.tokens.n_total * n->before->d_model;
    *hidden = *n->before;
    hidden->at = ptq_arena_alloc(arena, st, size, sizeof *hidden->at);
    if (!hidden->at)
        return PTQ_ERR_MEMORY;
    memcpy(hidden->at, n->before->at, (size_t)size * sizeof *hidden->at);
    ptq_arena_init(&own, 0);
    int code = ptq_model_load_block(p->job->model, n->entry->block, &own, &block, st);
    if (!code)
        code = add_noise(n, &block.lin[n->entry->lin], &own, st);
    if (!code)
        code = ptq_block_run(p->job->model, &block, p->job->args->pool, hidden, &p->tap, st);
    ptq_arena_clear(&own);
    for (int b = n->entry->block + 1; !code && b < ptq_model_info(p->job->model)->n_blocks; b++)
        code = run_exact(p, b, hidden, st);
    return code;
}

static int perturb(struct noisy *n, struct ptq_status *st)
{
    const struct ptq_job *job = n->p->job;
    const struct ptq_times t = {.begin_ns = ptq_now_ns()};
    struct ptq_hidden hidden;
    struct ptq_arena arena;
    json_t *found = NULL;
    ptq_arena_init(&arena, 0);
    arena.spill = ptq_job_spill(job);
    int code = run_noisy(n, &arena, &hidden, st);
    if (!code)
        code = score(n->p, &hidden, &arena, &found, st);
    ptq_arena_clear(&arena);
    if (code)
        return code;
    json_t *row = ptq_row_begin(job, "perturbed", n->want, NULL);
    ptq_row_add_layer(row, n->entry);
    json_object_set_new(found, "level", ptq_json_num(n->level));
    json_object_set_new(found, "w_relerr", ptq_json_num(n->w_relerr));
    json_object_set_new(row, "perturbed", found);
    ptq_progress_step(job->progress, n->entry->name);
    return ptq_row_finish(n->p->job, row, &t, st);
}

static const struct ptq_want *noisy_want(const struct probe *p, int64_t entry, int level)
{
    return &p->job->beside[PTQ_PERTURBED].at[entry * N_LEVELS + level];
}

/* The last block that has a layer to do: no state moves on behind it. -1: none has. */
static int last_to_perturb(const struct probe *p)
{
    int last = -1;
    for (int64_t e = 0; e < p->job->n_entries; e++)
        for (int k = 0; k < N_LEVELS; k++)
            if (noisy_want(p, e, k)->need_row && p->job->entries[e].block > last)
                last = p->job->entries[e].block;
    return last;
}

static int perturb_block(struct probe *p, int block, const struct ptq_hidden *before,
                         struct ptq_status *st)
{
    int code = PTQ_OK;
    for (int64_t e = 0; e < p->job->n_entries; e++)
        for (int k = 0; k < N_LEVELS && !code; k++) {
            struct noisy n = {.p = p,
                              .entry = &p->job->entries[e],
                              .want = noisy_want(p, e, k),
                              .level = levels[k],
                              .before = before};
            if (n.entry->block == block && n.want->need_row)
                code = ptq_job_stop(p->job) ? PTQ_ERR_CANCELLED : perturb(&n, st);
        }
    return code;
}

static int perturb_layers(struct probe *p, struct ptq_status *st)
{
    const int last = last_to_perturb(p);
    struct ptq_hidden hidden;
    struct ptq_arena arena;
    if (last < 0)
        return PTQ_OK;
    ptq_arena_init(&arena, 0);
    arena.spill = ptq_job_spill(p->job);
    int code = full_precision(p, st);
    if (!code)
        code = ptq_model_embed(p->job->model, &p->text.tokens, &arena, &hidden, st);
    for (int b = 0; !code && b <= last; b++) {
        code = perturb_block(p, b, &hidden, st);
        if (!code && b < last)
            code = run_exact(p, b, &hidden, st);
    }
    ptq_arena_clear(&arena);
    return code;
}

/* ---- quantized models on few tokens */

struct few {
    struct ptq_job *job;
    int64_t point;
};

static int form_of(void *arg, const struct ptq_block *block, int lin, struct ptq_result *own,
                   const struct ptq_result **use, struct ptq_status *st)
{
    const struct few *f = arg;
    const int64_t entry = ptq_entry_of(f->job, block->index, lin);
    (void)use;
    return entry < 0 ? PTQ_SKIP : ptq_stored_form(f->job, f->point, entry, own, st);
}

static int run_few(struct probe *p, int64_t point, const struct ptq_want *w, struct ptq_status *st)
{
    struct few few = {p->job, point};
    const struct ptq_forms forms = {form_of, &few};
    const struct ptq_placed_args args = {p->job->model, &forms, p->job->args->pool, &p->tap};
    const struct ptq_times t = {.begin_ns = ptq_now_ns()};
    struct ptq_hidden hidden;
    struct ptq_arena arena;
    json_t *found = NULL;
    ptq_arena_init(&arena, 0);
    arena.spill = ptq_job_spill(p->job);
    int code = ptq_model_embed(p->job->model, &p->text.tokens, &arena, &hidden, st);
    for (int b = 0; !code && b < ptq_model_info(p->job->model)->n_blocks; b++)
        code = ptq_job_stop(p->job) ? PTQ_ERR_CANCELLED : ptq_placed_run(&args, b, &hidden, st);
    if (!code)
        code = score(p, &hidden, &arena, &found, st);
    ptq_arena_clear(&arena);
    if (code)
        return code;
    json_t *row = ptq_row_begin(p->job, "few", w, &p->job->points[point]);
    json_object_set_new(row, "few", found);
    ptq_progress_step(p->job->progress, p->job->points[point].spec->label);
    return ptq_row_finish(p->job, row, &t, st);
}

static int few_models(struct probe *p, struct ptq_status *st)
{
    const struct ptq_wants *few = &p->job->beside[PTQ_FEW];
    char reason[1024];
    int code = PTQ_OK;
    for (int64_t i = 0; i < few->n && !code && !ptq_job_stop(p->job); i++) {
        if (!few->at[i].need_row || ptq_layers_outcome(p->job, i, reason, sizeof reason))
            continue;
        code = full_precision(p, st);
        code = code ? code : run_few(p, i, &few->at[i], st);
    }
    return code;
}

/* ---- what is asked for */

static void plan_noisy(const struct ptq_job *job, const char *on, int64_t entry, int level)
{
    char noise[64];
    const struct ptq_entry *e = &job->entries[entry];
    struct ptq_want *w = &job->beside[PTQ_PERTURBED].at[entry * N_LEVELS + level];
    snprintf(noise, sizeof noise, "noise %.17g", levels[level]);
    ptq_key_of(w->form, e->name, e->weights, noise, (char *)NULL);
    ptq_row_key("perturbed", w->form, on, w->key);
    w->mine = e->lin >= 0 && entry % job->args->n_shards == job->args->shard;
}

int ptq_proxy_plan(struct ptq_job *job, struct ptq_status *st)
{
    char on[PTQ_KEY_CHARS], count[32], arithmetic[PTQ_KEY_CHARS];
    struct ptq_wants *few = &job->beside[PTQ_FEW], *noisy = &job->beside[PTQ_PERTURBED];
    if (!job->has_eval || !job->cfg->eval.proxies || job->args->reference_only)
        return PTQ_OK;
    few->at = ptq_arena_alloc(&job->arena, st, job->n_points, sizeof *few->at);
    noisy->at = ptq_arena_alloc(&job->arena, st, job->n_entries * N_LEVELS, sizeof *noisy->at);
    if (!few->at || !noisy->at)
        return PTQ_ERR_MEMORY;
    few->n = job->n_points;
    noisy->n = job->n_entries * N_LEVELS;
    snprintf(count, sizeof count, "first %lld", (long long)ptq_proxy_tokens(job).n_seq);
    ptq_arithmetic_key((enum ptq_precision)job->cfg->run.precision, job->args->machine, arithmetic);
    ptq_key_of(on, text_of(job)->key, count, job->model_key, arithmetic, PTQ_BESIDE_HASH,
               (char *)NULL);
    for (int64_t p = 0; p < few->n; p++) {
        few->at[p] = job->model_wants[p];
        ptq_row_key("few", few->at[p].form, on, few->at[p].key);
    }
    for (int64_t e = 0; e < job->n_entries; e++)
        for (int k = 0; k < N_LEVELS; k++)
            plan_noisy(job, on, e, k);
    return PTQ_OK;
}

int ptq_proxy_phase(struct ptq_job *job, struct ptq_status *st)
{
    if (!job->beside[PTQ_FEW].n || ptq_job_stop(job))
        return PTQ_OK;
    struct probe p = {
        .job = job, .text = *text_of(job), .tap = {.stop = ptq_job_stop_hook, .stop_arg = job}};
    p.text.tokens = ptq_proxy_tokens(job);
    ptq_arena_init(&p.arena, 0);
    p.arena.spill = ptq_job_spill(job);
    int code = perturb_layers(&p, st);
    if (!code)
        code = few_models(&p, st);
    ptq_arena_clear(&p.arena);
    return code;
}
