/* model_phase.c: model rows: the quantized model is put together from stored forms, block by block,
 * and scored on the evaluation text against the full-precision model. Cells run side by side as far
 * as memory goes. */
#include "core/clock.h"
#include "sweep/job.h"
#include <math.h>
#include <string.h>

/* ---- sums over layers --------------------------------------------------------------------------
 */

static bool is_count(const char *key)
{
    return !strncmp(key, "n_", 2) || !strcmp(key, "retries");
}

/* Counts, which the name tells (ptq.h), add up over the layers; of other notes (damping) the
 * largest is kept. */
static void add_note(struct ptq_model_sum *s, const struct ptq_note_value *note)
{
    for (int i = 0; i < s->n_notes; i++)
        if (!strcmp(s->notes[i].key, note->key)) {
            double *v = &s->notes[i].value;
            *v = is_count(note->key) ? *v + note->value : fmax(*v, note->value);
            return;
        }
    if (s->n_notes < PTQ_MAX_NOTES)
        s->notes[s->n_notes++] = *note;
}

int ptq_model_sum_add(struct ptq_model_sum *s, const struct ptq_result *r, struct ptq_status *st)
{
    struct ptq_ledger ledger;
    char hash[PTQ_KEY_CHARS];
    double n = (double)r->quant.rows * (double)r->quant.cols;
    (void)st;
    ptq_quant_ledger(&r->quant, &ledger);
    ptq_quant_hash(&r->quant, hash);
    ptq_key_of(s->codes, s->codes, hash, (char *)NULL);
    s->bits_stored += ledger.total;
    s->bits_nominal += n * ledger.nominal;
    s->bits_paper += n * ledger.paper;
    s->n_weights += n;
    const struct ptq_macs macs = ptq_quant_macs(&r->quant);
    s->macs.all += macs.all;
    s->macs.int4 += macs.int4;
    s->prepare_s += r->prepare_s;
    s->quantize_s += r->quantize_s;
    for (int i = 0; i < r->n_notes; i++)
        add_note(s, &r->notes[i]);
    return PTQ_OK;
}

/* What weights that are left alone count in bits_model: 16 bits, as models are published. */
enum { REST_BITS = 16 };

/* ---- rows --------------------------------------------------------------------------------------
 */

static int metrics_of(const struct ptq_job *job, const struct ptq_model_sum *s,
                      const struct ptq_eval *eval, struct ptq_value *values, struct ptq_status *st)
{
    const struct ptq_model_info *info = ptq_model_info(job->model);
    struct ptq_model_eval m = {.eval = eval,
                               .info = info,
                               .bits_stored_total = s->bits_stored,
                               .n_quantized_weights = s->n_weights,
                               .bits_rest_total =
                                   REST_BITS * ((double)info->n_params - s->n_weights),
                               .bits_nominal = s->n_weights ? s->bits_nominal / s->n_weights : NAN,
                               .bits_paper = s->n_weights ? s->bits_paper / s->n_weights : NAN,
                               .macs = s->macs};
    return ptq_metrics_model_eval(&m, values, st);
}

static int write_row(struct ptq_job *job, const char *kind, const struct ptq_want *w,
                     const struct ptq_point *p, const struct ptq_model_sum *s,
                     const struct ptq_eval *eval, const struct ptq_times *t, struct ptq_status *st)
{
    int n;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    ptq_metrics(&n);
    struct ptq_value *values = ptq_arena_alloc(&arena, st, n, sizeof *values);
    int code = values ? metrics_of(job, s, eval, values, st) : PTQ_ERR_MEMORY;
    if (code >= 0) {
        json_t *row = ptq_row_begin(job, kind, w, p);
        ptq_row_add_eval(row, &job->eval_text, eval);
        if (p)
            json_object_set_new(row, "codes_hash", json_string(s->codes));
        ptq_row_add_metrics(row, job, NULL, w, job->eval_key, values);
        ptq_row_add_notes(row, s->notes, s->n_notes);
        code = ptq_row_finish(job, row, t, st);
    }
    ptq_arena_clear(&arena);
    return code;
}

int ptq_model_row(struct ptq_job *job, int64_t point, struct ptq_model_sum *s,
                  const struct ptq_hidden *hidden, struct ptq_pool *pool,
                  const struct ptq_times *begun, struct ptq_status *st)
{
    struct ptq_eval_args args = {.model = job->model,
                                 .text = &job->eval_text,
                                 .pool = pool,
                                 .reference = job->reference,
                                 .stop = ptq_job_stop_hook,
                                 .stop_arg = job};
    struct ptq_times t = *begun;
    struct ptq_arena arena;
    struct ptq_eval eval;
    int64_t score_ns = ptq_now_ns();
    char label[256];
    ptq_arena_init(&arena, 0);
    int code = ptq_eval_score(&args, hidden, &arena, &eval, st);
    t.prepare_s = s->prepare_s;
    t.quantize_s = s->quantize_s;
    t.score_s = 1e-9 * (double)(ptq_now_ns() - score_ns);
    const struct ptq_point *p = &job->points[point];
    if (code >= 0)
        code = write_row(job, "model", &job->model_wants[point], p, s, &eval, &t, st);
    if (code >= 0) {
        char score[64] = "";
        if (!eval.embedding)
            snprintf(score, sizeof score, ": ppl %.4f", exp(ptq_eval_nll(&eval)));
        char inputs[16] = "";
        if (p->cell.a_bits)
            snprintf(inputs, sizeof inputs, " a%d", p->cell.a_bits);
        snprintf(label, sizeof label, "%s b%d%s g%lld%s", p->spec->label, p->cell.w_bits, inputs,
                 (long long)p->cell.group_size, score);
        ptq_progress_step(job->progress, label);
    }
    ptq_arena_clear(&arena);
    return code;
}

int ptq_model_outcome(struct ptq_job *job, int64_t point, int outcome, const char *reason,
                      struct ptq_status *st)
{
    struct ptq_times t = {.begin_ns = job->begin_ns};
    json_t *row = ptq_row_begin(job, "model", &job->model_wants[point], &job->points[point]);
    ptq_row_add_eval(row, &job->eval_text, NULL);
    ptq_row_set_outcome(row, outcome, reason);
    ptq_progress_step(job->progress, outcome == PTQ_SKIP ? "skipped" : "failed");
    return ptq_row_finish(job, row, &t, st);
}

int ptq_model_reference(struct ptq_job *job, struct ptq_status *st)
{
    struct ptq_eval_args args = {.model = job->model,
                                 .text = &job->eval_text,
                                 .pool = job->args->pool,
                                 .keep_hidden = true,
                                 .stop = ptq_job_stop_hook,
                                 .stop_arg = job,
                                 .spill = ptq_job_spill(job)};
    struct ptq_times t = {.begin_ns = ptq_now_ns()};
    struct ptq_model_sum none = {0};
    struct ptq_eval *eval = ptq_arena_alloc(&job->arena, st, 1, sizeof *eval);
    job->arena.spill = args.spill; /* its last hidden states stay to the end */
    int code = eval ? ptq_eval_model(&args, &job->arena, eval, st) : PTQ_ERR_MEMORY;
    if (code < 0)
        return code;
    job->reference = eval;
    t.score_s = 1e-9 * (double)(ptq_now_ns() - t.begin_ns);
    return job->reference_want.need_row
               ? write_row(job, "reference", &job->reference_want, NULL, &none, eval, &t, st)
               : PTQ_OK;
}

/* ---- walking a quantized model ------------------------------------------------------------------
 */

int ptq_stored_form(struct ptq_job *job, int64_t point, int64_t entry, struct ptq_result *r,
                    struct ptq_status *st)
{
    const struct ptq_entry *e = &job->entries[entry];
    int code = ptq_pack_get(job->pack, ptq_layer_want(job, point, entry)->form, r, st);
    if (code == PTQ_SKIP)
        return ptq_status_set(st, PTQ_ERR_CANCELLED,
                              "%s: its stored form went away; run the same command again", e->name);
    if (code < 0 || (r->quant.rows == e->rows && r->quant.cols == e->cols))
        return code;
    ptq_status_set(st, PTQ_ERR_NUMERIC, "%s: the stored form is %lld x %lld; delete forms.pack",
                   e->name, (long long)r->quant.rows, (long long)r->quant.cols);
    ptq_result_release(r);
    return PTQ_ERR_NUMERIC;
}

struct placing { /* of a model cell */
    struct ptq_job *job;
    int64_t point;
    struct ptq_model_sum *sum;
};

static int form_of(void *arg, const struct ptq_block *block, int lin, struct ptq_result *own,
                   const struct ptq_result **use, struct ptq_status *st)
{
    const struct placing *p = arg;
    const int64_t entry = ptq_entry_of(p->job, block->index, lin);
    (void)use;
    if (entry < 0)
        return PTQ_SKIP;
    int code = ptq_stored_form(p->job, p->point, entry, own, st);
    return code < 0 ? code : ptq_model_sum_add(p->sum, own, st);
}

static int walk(struct ptq_job *job, int64_t point, struct ptq_status *st)
{
    struct ptq_times t = {.begin_ns = ptq_now_ns()};
    struct ptq_model_sum sum = {0};
    struct placing placing = {job, point, &sum};
    const struct ptq_forms forms = {form_of, &placing};
    const struct ptq_block_tap tap = {.stop = ptq_job_stop_hook, .stop_arg = job};
    const struct ptq_placed_args args = {job->model, &forms, job->args->pool, &tap};
    struct ptq_hidden hidden;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    arena.spill = ptq_job_spill(job);
    int64_t n_blocks = ptq_model_info(job->model)->n_blocks;
    int code = ptq_model_embed(job->model, &job->eval_text.tokens, &arena, &hidden, st);
    for (int64_t b = 0; code >= 0 && b < n_blocks; b++)
        code = ptq_job_stop(job) ? PTQ_ERR_CANCELLED : ptq_placed_run(&args, (int)b, &hidden, st);
    if (code >= 0)
        code = ptq_model_row(job, point, &sum, &hidden, job->args->pool, &t, st);
    ptq_arena_clear(&arena);
    return code;
}

/* Many reasons name the layer themselves. */
static void name_layer(const char *layer, const char *why, char *reason, size_t size)
{
    const size_t n = strlen(layer);
    const bool named = !strncmp(why, layer, n) && why[n] == ':';
    snprintf(reason, size, "%s%s%s", named ? "" : layer, named ? "" : ": ", why);
}

int ptq_layers_outcome(struct ptq_job *job, int64_t point, char *reason, size_t size)
{
    int outcome = 0;
    for (int64_t e = 0; e < job->n_entries; e++) {
        const json_t *row = ptq_store_find(job->store, ptq_layer_want(job, point, e)->key);
        const char *status = row ? ptq_row_text(row, "status") : "ok";
        if (job->entries[e].lin < 0 || !strcmp(status, "ok") || outcome < 0)
            continue;
        if (outcome == 0 || strcmp(status, "failed") == 0)
            name_layer(job->entries[e].name, ptq_row_text(row, "reason"), reason, size);
        outcome = strcmp(status, "failed") ? PTQ_SKIP : PTQ_ERR_NUMERIC;
    }
    return outcome;
}

static void run_model(struct ptq_job *job, int64_t point)
{
    struct ptq_status st = {0}, io = {0};
    char reason[sizeof st.text];
    int code = ptq_layers_outcome(job, point, reason, sizeof reason);
    if (code == 0 && (code = walk(job, point, &st)) != PTQ_OK)
        snprintf(reason, sizeof reason, "%s", st.text);
    if (ptq_job_cell_ended(job, code, &st) == PTQ_LEAVES_ROW)
        ptq_model_outcome(job, point, code, reason, &io);
}

/* Hidden states, a block's weights twice (as they were, as they are), what scoring takes. */
static double cell_bytes(const struct ptq_job *job)
{
    const struct ptq_model_info *i = ptq_model_info(job->model);
    double block = (double)i->n_block_params / (double)(i->n_blocks ? i->n_blocks : 1);
    return 4.0 * (double)job->eval_text.tokens.n_total * (double)i->d_model + 8 * block +
           ptq_runs_bytes(job) + ptq_scoring_bytes(job);
}

int ptq_model_phase(struct ptq_job *job, struct ptq_status *st)
{
    int64_t *points, n = 0;
    for (int64_t p = 0; p < job->n_points; p++)
        n += job->model_wants[p].need_row;
    if (ptq_job_stop(job) || (!n && !job->reference_want.need_row))
        return PTQ_OK;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    points = ptq_arena_alloc(&arena, st, n, sizeof *points);
    int code = points ? ptq_model_reference(job, st) : PTQ_ERR_MEMORY;
    n = 0;
    for (int64_t p = 0; code >= 0 && p < job->n_points; p++)
        if (job->model_wants[p].need_row)
            points[n++] = p;
    if (code >= 0 && n)
        ptq_job_each_model(job, points, n, cell_bytes(job), run_model);
    ptq_arena_clear(&arena);
    return code;
}
