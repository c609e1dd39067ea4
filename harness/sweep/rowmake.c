/* rowmake.c: rows as they are written (row.h). Fields are added in one order, so that equal results
 * are equal text. */
#include "core/clock.h"
#include "sweep/job.h"
#include "sweep/layerfile.h"
#include <math.h>
#include <string.h>

static void put_text(json_t *row, const char *field, const char *text)
{
    json_object_set_new(row, field, json_string(text ? text : ""));
}

static void put_int(json_t *row, const char *field, int64_t v)
{
    json_object_set_new(row, field, json_integer(v));
}

/* ---- identity ----------------------------------------------------------------------------------
 */

static void put_point(json_t *row, const struct ptq_point *p)
{
    put_text(row, "method", p->spec->name);
    put_text(row, "label", p->spec->label);
    put_text(row, "base", p->spec->entry->name);
    put_text(row, "options", p->spec->canonical);
    put_text(row, "method_version", p->spec->entry->version);
    put_int(row, "bits", p->cell.w_bits);
    if (p->cell.a_bits)
        put_int(row, "a_bits", p->cell.a_bits);
    put_int(row, "group_size", p->cell.group_size);
    put_int(row, "sym", p->cell.sym);
    put_text(row, "sym_kind", ptq_sym_kind_words[p->cell.sym_kind]);
    put_text(row, "grid", ptq_grid_words[p->cell.grid]);
    put_int(row, "zero_in_range", p->cell.zero_in_range);
    put_text(row, "scale", ptq_scale_words[p->cell.scale_fmt - PTQ_FMT_F16]);
    put_int(row, "seed", (int64_t)p->cell.seed);
}

static int64_t longest(const struct ptq_tokens *t)
{
    int64_t most = 0;
    for (int64_t s = 0; s < t->n_seq; s++)
        most = t->len[s] > most ? t->len[s] : most;
    return most;
}

static void put_stats(json_t *row, const struct ptq_job *job, const char *kind,
                      const struct ptq_point *p)
{
    const struct ptq_config_calib *c = &job->cfg->calib;
    if (job->layerfile) {
        put_text(row, "stats", "given");
        return;
    }
    const struct ptq_draw *d = &job->draws[p->draw];
    put_text(row, "stats", c->stats == PTQ_STATS_FP ? "fp" : "sequential");
    if (c->stats == PTQ_STATS_SEQUENTIAL)
        put_int(row, "true_sequential", c->true_sequential);
    put_text(row, "calib", d->text.name);
    put_int(row, "calib_seed", d->seed);
    put_int(row, "nsamples", d->text.tokens.n_seq);
    put_int(row, "seqlen", longest(&d->text.tokens));
    put_text(row, "calib_draw", d->text.protocol);
    if (d->text.note)
        put_text(row, "calib_note", d->text.note);
    put_text(row, "calib_key", d->text.key);
    if (job->has_heldout) {
        put_text(row, "heldout", job->heldout.text.name);
        put_text(row, "heldout_key", job->heldout.text.key);
    }
    if (d->in_domain && !strcmp(kind, "model") && ptq_sees_stats(p->spec, &p->cell))
        put_text(row, "in_domain", d->in_domain);
}

static void put_grid_of_weights(json_t *row, const struct ptq_job *job)
{
    const struct ptq_model_info *info = job->model ? ptq_model_info(job->model) : NULL;
    if (!info || !info->quantized_as)
        return;
    put_text(row, "weights_on_grid", info->quantized_as);
    put_int(row, "weights_grid_bits", info->grid_bits);
}

json_t *ptq_row_begin(const struct ptq_job *job, const char *kind, const struct ptq_want *w,
                      const struct ptq_point *p)
{
    json_t *row = json_object();
    put_int(row, "schema", PTQ_ROW_SCHEMA);
    put_text(row, "kind", kind);
    put_text(row, "key", w->key);
    put_text(row, "form", w->form);
    put_text(row, "status", "ok");
    put_text(row, "model", job->model_name);
    put_text(row, "source", job->cfg->model.source);
    if (*job->model_key)
        put_text(row, "model_key", job->model_key);
    put_grid_of_weights(row, job);
    if (p)
        put_point(row, p);
    put_text(row, "precision", job->cfg->run.precision == PTQ_SINGLE ? "single" : "double");
    if (p)
        put_stats(row, job, kind, p);
    return row;
}

void ptq_row_add_layer(json_t *row, const struct ptq_entry *e)
{
    put_text(row, "layer", e->name);
    put_text(row, "role", ptq_role_name(e->role));
    put_int(row, "block", e->block);
    put_int(row, "rows", e->rows);
    put_int(row, "cols", e->cols);
    if (*e->given || !e->input)
        put_text(row, "weights_key", e->weights);
    if (*e->given)
        put_text(row, "given_key", e->given);
}

void ptq_row_add_eval(json_t *row, const struct ptq_text *text, const struct ptq_eval *eval)
{
    put_text(row, "protocol", text->protocol);
    put_text(row, "rules", text->rules);
    put_text(row, "text", text->name);
    put_text(row, "text_key", text->key);
    if (text->note)
        put_text(row, "text_note", text->note);
    put_int(row, "n_windows", text->tokens.n_seq);
    if (!eval || !eval->nll_window)
        return;
    json_t *nll = json_array(), *tokens = json_array();
    bool equal = true;
    for (int64_t i = 0; i < eval->n_windows; i++) {
        equal = equal && eval->n_window[i] == eval->n_window[0];
        json_array_append_new(nll, ptq_json_num(eval->nll_window[i]));
        json_array_append_new(tokens, json_integer(eval->n_window[i]));
    }
    json_object_set_new(row, "nll_windows", nll);
    if (!equal)
        json_object_set(row, "window_tokens", tokens);
    json_decref(tokens);
}

void ptq_row_set_outcome(json_t *row, int code, const char *reason)
{
    put_text(row, "status", code == PTQ_SKIP ? "skipped" : "failed");
    put_text(row, "reason", *reason ? reason : "no reason was given (a bug)");
}

void ptq_row_add_notes(json_t *row, const struct ptq_note_value *notes, int n)
{
    json_t *object = json_object();
    for (int i = 0; i < n; i++)
        json_object_set_new(object, notes[i].key, ptq_json_num(notes[i].value));
    json_object_set_new(row, "notes", object);
}

/* ---- metrics -----------------------------------------------------------------------------------
 */

static bool of_kind(const struct ptq_metric *m, const struct ptq_entry *e)
{
    return e ? m->layer != NULL : m->model != NULL;
}

/* Attention's statistics are no part of what a row is evaluated on, so that a method that asks for
 * them changes no key of the others; the values of metrics that read them are. */
static const char *attention_of(const struct ptq_job *job, const struct ptq_entry *e)
{
    const bool projects = e && e->lin >= 0 &&
                          (e->role == PTQ_ROLE_Q || e->role == PTQ_ROLE_K || e->role == PTQ_ROLE_V);
    if (job->layerfile || !projects || job->cfg->calib.stats != PTQ_STATS_FP)
        return ""; /* none, whatever the setting */
    return job->stats_options.attention == PTQ_ATTN_ALL    ? "all"
           : job->stats_options.attention == PTQ_ATTN_ROWS ? "rows"
                                                           : "";
}

static void metric_key(const struct ptq_job *job, const struct ptq_entry *e,
                       const struct ptq_want *w, const struct ptq_metric_entry *m, const char *on,
                       char out[PTQ_KEY_CHARS])
{
    char with[PTQ_KEY_CHARS];
    const char *attention = m->metric->of_attention ? attention_of(job, e) : "";
    if (*attention)
        ptq_key_of(with, "attention", on, attention, (char *)NULL);
    ptq_metric_key(w->form, m->metric->id, m->version, *attention ? with : on, out);
}

static const char *const metric_fields[] = {"metrics", "absent", "intervals", "metric_keys", NULL};

static void put_value(json_t *row, const char *id, const struct ptq_value *v, const char *key)
{
    json_object_set_new(json_object_get(row, "metrics"), id, ptq_json_num(v->v));
    if (!isfinite(v->v))
        put_text(json_object_get(row, "absent"), id, v->reason ? v->reason : "not finite");
    if (isfinite(v->lo) && isfinite(v->hi))
        json_object_set_new(json_object_get(row, "intervals"), id,
                            json_pack("[f,f]", v->lo, v->hi));
    put_text(json_object_get(row, "metric_keys"), id, key);
}

/* A metric that is not wanted now stays in the row as long as its key holds: a sweep of fewer
 * metrics takes nothing away. */
static void keep_value(json_t *row, const json_t *before, const char *id, const char *key)
{
    if (strcmp(ptq_row_text(json_object_get(before, "metric_keys"), id), key) != 0)
        return;
    for (int i = 0; metric_fields[i]; i++) {
        json_t *v = json_object_get(json_object_get(before, metric_fields[i]), id);
        if (v)
            json_object_set(json_object_get(row, metric_fields[i]), id, v);
    }
}

void ptq_row_add_metrics(json_t *row, const struct ptq_job *job, const struct ptq_entry *e,
                         const struct ptq_want *w, const char *on, const struct ptq_value *values)
{
    int n;
    const struct ptq_metric_entry *all = ptq_metrics(&n);
    const json_t *before = ptq_store_find(job->store, w->key);
    for (int i = 0; metric_fields[i]; i++)
        json_object_set_new(row, metric_fields[i], json_object());
    for (int i = 0; i < n; i++) {
        const char *id = all[i].metric->id;
        char key[PTQ_KEY_CHARS];
        if (!of_kind(all[i].metric, e))
            continue;
        metric_key(job, e, w, &all[i], on, key);
        if (ptq_metric_wanted(job, id))
            put_value(row, id, &values[i], key);
        else
            keep_value(row, before, id, key);
    }
}

bool ptq_row_complete(const struct ptq_job *job, const json_t *row, const struct ptq_entry *e,
                      const struct ptq_want *w, const char *on)
{
    int n;
    const struct ptq_metric_entry *all = ptq_metrics(&n);
    const json_t *keys = json_object_get(row, "metric_keys");
    if (strcmp(ptq_row_text(row, "status"), "ok") != 0)
        return true;
    if (!ptq_noise_complete(job, row, e, w))
        return false;
    for (int i = 0; i < n; i++) {
        char key[PTQ_KEY_CHARS];
        if (!of_kind(all[i].metric, e) || !ptq_metric_wanted(job, all[i].metric->id))
            continue;
        metric_key(job, e, w, &all[i], on, key);
        if (strcmp(key, ptq_row_text(keys, all[i].metric->id)) != 0)
            return false;
    }
    return true;
}

/* ---- the end of a row --------------------------------------------------------------------------
 */

static void put_host(json_t *row, const struct ptq_job *job)
{
    const struct ptq_machine *m = job->args->machine;
    json_t *host = json_object();
    put_int(host, "threads", ptq_pool_threads(job->args->pool));
    put_text(host, "cpu", m->cpu);
    put_text(host, "blas_core", m->blas_core);
    put_text(host, "isa", ptq_isa_name(m->isa));
    put_int(host, "peak_bytes", ptq_peak_rss_bytes());
    put_text(host, "started", job->started);
    put_int(host, "seq", ptq_store_next_seq(job->store));
    json_object_set_new(row, "host", host);
}

int ptq_row_finish(struct ptq_job *job, json_t *row, const struct ptq_times *t,
                   struct ptq_status *st)
{
    json_t *time = json_object();
    json_object_set_new(time, "prepare_s", ptq_json_num(t->prepare_s));
    json_object_set_new(time, "quantize_s", ptq_json_num(t->quantize_s));
    json_object_set_new(time, "score_s", ptq_json_num(t->score_s));
    json_object_set_new(time, "total_s", ptq_json_num(1e-9 * (double)(ptq_now_ns() - t->begin_ns)));
    json_object_set_new(row, "time", time);
    put_host(row, job);
    int code = ptq_store_append(job->store, row, st);
    json_decref(row);
    if (code < 0)
        ptq_job_fatal(job, st);
    return code;
}
