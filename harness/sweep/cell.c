/* cell.c: one cell of one layer: form from the pack or from the method, score, row. */
#include "core/clock.h"
#include "sweep/job.h"
#include <string.h>

struct ptq_layer ptq_layer_blind(const struct ptq_layer *l)
{
    return (struct ptq_layer){.name = l->name, .block = l->block, .role = l->role, .w = l->w};
}

static bool keeps_forms(const struct ptq_job *job)
{
    return job->has_eval || job->cfg->run.keep_forms;
}

/* A stored form is as good as a new one: same key, same bits. */
static int get_form(const struct ptq_layer_cell *c, struct ptq_result *out, struct ptq_status *st)
{
    int code = ptq_pack_get(c->job->pack, c->want->form, out, st);
    if (code != PTQ_SKIP)
        return code;
    code = ptq_session_quantize(c->session, c->point->spec, &c->point->cell, out, st);
    if (code != PTQ_OK || !keeps_forms(c->job))
        return code;
    code = ptq_pack_put(c->job->pack, c->want->form, out, st);
    if (code != PTQ_OK)
        ptq_result_release(out);
    return code;
}

static json_t *begin_row(const struct ptq_layer_cell *c)
{
    json_t *row = ptq_row_begin(c->job, "layer", c->want, c->point);
    ptq_row_add_layer(row, c->entry);
    return row;
}

static int write_outcome(const struct ptq_layer_cell *c, int outcome, const char *reason,
                         const struct ptq_times *t, struct ptq_status *st)
{
    json_t *row = begin_row(c);
    ptq_row_set_outcome(row, outcome, reason);
    return ptq_row_finish(c->job, row, t, st);
}

/* Beside the notes that the form came with. */
static void add_notes(json_t *row, const struct ptq_result *r, const struct ptq_value *values)
{
    struct ptq_note_value all[PTQ_MAX_NOTES + 1];
    int n = r->n_notes;
    memcpy(all, r->notes, (size_t)n * sizeof *all);
    if (ptq_worse_than_zeros(values))
        all[n++] = (struct ptq_note_value){PTQ_NOTE_WORSE_THAN_ZEROS, 1};
    ptq_row_add_notes(row, all, n);
}

static int write_scores(const struct ptq_layer_cell *c, const struct ptq_result *r,
                        const struct ptq_value *values, const struct ptq_times *t,
                        struct ptq_status *st)
{
    char hash[PTQ_KEY_CHARS], on[PTQ_KEY_CHARS];
    json_t *row = begin_row(c);
    ptq_quant_hash(&r->quant, hash);
    json_object_set_new(row, "codes_hash", json_string(hash));
    ptq_layer_evaluated_on(c->job, c->point, c->entry, on);
    ptq_row_add_metrics(row, c->job, c->entry, c->want, on, values);
    add_notes(row, r, values);
    ptq_row_add_health(row, c->health);
    int code = ptq_row_add_noise(c, r, row, st);
    if (code < 0) {
        json_decref(row);
        return code;
    }
    return ptq_row_finish(c->job, row, t, st);
}

static int score(const struct ptq_layer_cell *c, const struct ptq_result *r, struct ptq_times *t,
                 struct ptq_status *st)
{
    int n;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    ptq_metrics(&n);
    int64_t score_ns = ptq_now_ns();
    struct ptq_value *values = ptq_arena_alloc(&arena, st, n, sizeof *values);
    int code = values ? ptq_metrics_layer_eval(c->truth, &r->quant, r->what, c->pool, values, st)
                      : PTQ_ERR_MEMORY;
    t->prepare_s = r->prepare_s;
    t->quantize_s = r->quantize_s;
    t->score_s = 1e-9 * (double)(ptq_now_ns() - score_ns);
    if (code >= 0)
        code = write_scores(c, r, values, t, st);
    ptq_arena_clear(&arena);
    return code < 0 ? code : PTQ_OK;
}

int ptq_layer_cell_run(const struct ptq_layer_cell *c, struct ptq_result *out,
                       struct ptq_status *st)
{
    struct ptq_times t = {.begin_ns = ptq_now_ns()};
    int code = get_form(c, out, st);
    bool has_form = code == PTQ_OK;
    if (has_form && c->want->need_row)
        code = score(c, out, &t, st);
    if (code != PTQ_OK && has_form)
        ptq_result_release(out);
    if (ptq_job_cell_ended(c->job, code, st) == PTQ_LEAVES_ROW && c->want->need_row) {
        struct ptq_status io = {0};
        if (write_outcome(c, code, st->text, &t, &io) < 0)
            *st = io, code = io.code;
    }
    return code;
}
