/* runjson.c: run.json and plan.txt: what a run was made from and with, and which rows it wants. */
#include "core/clock.h"
#include "sweep/job.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static void put_text(json_t *object, const char *field, const char *text)
{
    json_object_set_new(object, field, json_string(text ? text : ""));
}

/* Versions of what is loaded, not of the headers; by name, since only two files may include those
 * libraries' headers. */
static json_t *libraries(const struct ptq_machine *m)
{
    json_t *l = json_object();
    char text[64] = "unknown";
    unsigned v[3];
    union {
        void *symbol;
        int (*call)(unsigned *, unsigned *, unsigned *);
    } hdf5 = {dlsym(RTLD_DEFAULT, "H5get_libversion")};
    const char *const *gsl = dlsym(RTLD_DEFAULT, "gsl_version");
    if (hdf5.symbol && hdf5.call(&v[0], &v[1], &v[2]) >= 0)
        snprintf(text, sizeof text, "%u.%u.%u", v[0], v[1], v[2]);
    put_text(l, "blas", m->blas_library);
    put_text(l, "blas_config", m->blas_config);
    put_text(l, "hdf5", text);
    put_text(l, "gsl", gsl ? *gsl : "unknown");
    put_text(l, "jansson", JANSSON_VERSION);
    return l;
}

static json_t *machine(const struct ptq_job *job)
{
    const struct ptq_machine *m = job->args->machine;
    json_t *o = json_object();
    put_text(o, "cpu", m->cpu);
    put_text(o, "isa", ptq_isa_name(m->isa));
    put_text(o, "blas_core", m->blas_core);
    put_text(o, "blas_inherited", m->blas_inherited);
    json_object_set_new(o, "blas_repaired", json_boolean(m->blas_repaired));
    json_object_set_new(o, "threads", json_integer(ptq_pool_threads(job->args->pool)));
    json_object_set_new(o, "memory_bytes", json_integer(job->memory_bytes));
    return o;
}

static json_t *text_input(const struct ptq_text *t, const char *key)
{
    json_t *o = json_object();
    put_text(o, "source", t->source);
    put_text(o, "name", t->name);
    put_text(o, "sha256", t->sha256);
    put_text(o, "text_key", t->key);
    put_text(o, "protocol", t->protocol);
    if (t->note)
        put_text(o, "note", t->note);
    if (key)
        put_text(o, "stats_key", key);
    return o;
}

static json_t *inputs(const struct ptq_job *job)
{
    json_t *o = json_object(), *calib = json_array();
    put_text(o, "model", job->model_name);
    put_text(o, "source", job->cfg->model.source);
    put_text(o, "model_key", job->model_key);
    if (job->model && ptq_model_info(job->model)->quantized_as)
        put_text(o, "weights_on_grid", ptq_model_info(job->model)->quantized_as);
    for (int64_t d = 0; job->model && d < job->cfg->calib.n_seeds; d++)
        json_array_append_new(calib, text_input(&job->draws[d].text, job->draws[d].key));
    json_object_set_new(o, "calib", calib);
    if (job->has_heldout)
        json_object_set_new(o, "heldout", text_input(&job->heldout.text, job->heldout.key));
    if (job->has_eval)
        json_object_set_new(o, "eval", text_input(&job->eval_text, NULL));
    json_t *layers = json_object(); /* bare layers have no model key: each its own */
    for (int64_t e = 0; job->layerfile && e < job->n_entries; e++)
        json_object_set_new(layers, job->entries[e].name,
                            json_pack("[s,s]", job->entries[e].weights, job->entries[e].given));
    json_object_set_new(o, "layers", layers);
    return o;
}

static json_t *predicted(const struct ptq_prediction *p)
{
    json_t *o = json_object();
    json_object_set_new(o, "seconds", ptq_json_num(p->seconds));
    json_object_set_new(o, "flops", ptq_json_num(p->flops));
    json_object_set_new(o, "bytes", ptq_json_num(p->bytes));
    json_object_set_new(o, "peak_bytes", ptq_json_num(p->peak_bytes));
    json_object_set_new(o, "gflops_per_thread", ptq_json_num(p->gflops_per_thread));
    json_object_set_new(o, "layer_rows", json_integer(p->n_left_layers));
    json_object_set_new(o, "model_rows", json_integer(p->n_left_models));
    return o;
}

static json_t *actual(double wall_s)
{
    json_t *o = json_object();
    json_object_set_new(o, "seconds", ptq_json_num(wall_s));
    json_object_set_new(o, "peak_bytes", json_integer(ptq_peak_rss_bytes()));
    return o;
}

/* wall_s < 0: the run begins; else it is done. predicted and actual are of this start's rows. */
int ptq_job_write_run(const struct ptq_job *job, const struct ptq_prediction *p, double wall_s,
                      struct ptq_status *st)
{
    char path[PATH_MAX];
    json_t *o = json_object();
    json_object_set_new(o, "schema", json_integer(PTQ_ROW_SCHEMA));
    put_text(o, "name", job->cfg->run.name);
    put_text(o, "commit", ptq_build_commit());
    put_text(o, "compiler", ptq_build_compiler());
    put_text(o, "build", ptq_build_kind());
    put_text(o, "harness", ptq_harness_hash());
    put_text(o, "started", job->started);
    put_text(o, "command", job->args->command);
    put_text(o, "config_file", job->cfg->file);
    put_text(o, "config", job->cfg->text);
    json_object_set_new(o, "full", json_boolean(job->cfg->full));
    json_object_set_new(o, "machine", machine(job));
    json_object_set_new(o, "libraries", libraries(job->args->machine));
    json_object_set_new(o, "inputs", inputs(job));
    json_object_set_new(o, "predicted", predicted(p));
    if (wall_s >= 0)
        json_object_set_new(o, "actual", actual(wall_s));
    char *text = json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(o);
    bool first = job->args->shard == 0; /* the first shard speaks for the run */
    int code = ptq_run_file(path, sizeof path, job->run_dir, "run", "json", job->args->shard,
                            first ? 1 : job->args->n_shards, st);
    if (code >= 0)
        code = text ? ptq_write_file(path, text, strlen(text), st)
                    : ptq_status_nomem(st, "run.json", 0);
    free(text);
    return code;
}

static size_t add_key(char *to, const struct ptq_want *w)
{
    if (w->repeated)
        return 0;
    memcpy(to, w->key, PTQ_KEY_CHARS - 1);
    to[PTQ_KEY_CHARS - 1] = '\n';
    return PTQ_KEY_CHARS;
}

static bool holds(const char *path, const char *text, size_t bytes)
{
    char *there = NULL;
    size_t n = 0;
    struct ptq_status absent = {0};
    bool same = ptq_read_file(path, (size_t)1 << 32, &there, &n, &absent) >= 0 && n == bytes &&
                !memcmp(there, text, n);
    free(there);
    return same;
}

/* The whole sweep's rows, of all shards: each shard writes the same file, and one that was
 * overtaken while writing finds it done. */
int ptq_job_write_plan(const struct ptq_job *job, struct ptq_status *st)
{
    char path[PATH_MAX];
    size_t n = 0, rows = (size_t)(job->n_points * (job->n_entries + 1) + 1);
    for (int k = 0; k < PTQ_N_BESIDE; k++)
        rows += (size_t)job->beside[k].n;
    const size_t room = rows * PTQ_KEY_CHARS;
    char *text = malloc(room);
    if (!text)
        return ptq_status_nomem(st, "the plan", room);
    for (int64_t p = 0; p < job->n_points; p++) {
        for (int64_t e = 0; e < job->n_entries; e++)
            n += add_key(text + n, ptq_layer_want(job, p, e));
        if (job->has_eval)
            n += add_key(text + n, &job->model_wants[p]);
    }
    for (int k = 0; k < PTQ_N_BESIDE; k++)
        for (int64_t i = 0; i < job->beside[k].n; i++)
            n += add_key(text + n, &job->beside[k].at[i]);
    if (job->has_eval)
        n += add_key(text + n, &job->reference_want);
    snprintf(path, sizeof path, "%.4000s/plan.txt", job->run_dir);
    struct ptq_status written = {0};
    int code = holds(path, text, n) ? PTQ_OK : ptq_write_file(path, text, n, &written);
    if (code < 0 && holds(path, text, n))
        code = PTQ_OK;
    if (code < 0)
        ptq_status_set(st, (enum ptq_code)code, "%s", written.text);
    free(text);
    return code;
}
