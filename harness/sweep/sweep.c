/* sweep.c: a sweep from its configuration to its rows: open, plan, look at what is there, run what
 * is missing. */
#include "sweep/sweep.h"
#include "core/clock.h"
#include "sweep/job.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- control -----------------------------------------------------------------------------------
 */

bool ptq_job_out_of_budget(const struct ptq_job *job)
{
    double budget_s = job->cfg->run.budget_s;
    return budget_s > 0 && 1e-9 * (double)(ptq_now_ns() - job->begin_ns) > budget_s;
}

bool ptq_job_stop(const struct ptq_job *job)
{
    return (job->args->cancel && atomic_load(job->args->cancel)) || atomic_load(&job->failed) ||
           ptq_job_out_of_budget(job);
}

bool ptq_job_stop_hook(void *job)
{
    return ptq_job_stop(job);
}

void ptq_job_fatal(struct ptq_job *job, const struct ptq_status *st)
{
    pthread_mutex_lock(&job->lock);
    if (!atomic_load(&job->failed))
        job->fatal = *st;
    atomic_store(&job->failed, true);
    pthread_mutex_unlock(&job->lock);
}

static void note_no_memory(struct ptq_job *job, const char *why)
{
    pthread_mutex_lock(&job->lock);
    bool first = !*job->no_memory;
    if (first)
        snprintf(job->no_memory, sizeof job->no_memory, "%s", why);
    pthread_mutex_unlock(&job->lock);
    if (first)
        ptq_progress_note(job->progress, "a cell was left: %s", why);
}

enum ptq_leaves ptq_job_cell_ended(struct ptq_job *job, int code, const struct ptq_status *st)
{
    if (code == PTQ_ERR_IO)
        ptq_job_fatal(job, st);
    if (code == PTQ_ERR_MEMORY)
        note_no_memory(job, *st->text ? st->text : "out of memory");
    return code == PTQ_OK || code == PTQ_ERR_IO || code == PTQ_ERR_CANCELLED ||
                   code == PTQ_ERR_MEMORY
               ? PTQ_LEAVES_NOTHING
               : PTQ_LEAVES_ROW;
}

/* Codes (2 bytes), dequantized and difference (4 each), working copies in fp32 and fp64, transients
 * of products. */
double ptq_layer_cell_bytes(int64_t rows, int64_t cols)
{
    return 32.0 * (double)rows * (double)cols;
}

int ptq_job_at_most(const struct ptq_job *job, double bytes_per_cell)
{
    double left = (double)job->memory_bytes - (double)ptq_peak_rss_bytes();
    double n = left / (bytes_per_cell > 1 ? bytes_per_cell : 1);
    int threads = ptq_pool_threads(job->args->pool);
    return n < 1 ? 1 : n > threads ? threads : (int)n;
}

struct models {
    struct ptq_job *job;
    const int64_t *points;
    void (*run)(struct ptq_job *, int64_t point);
};

static void run_models(void *arg, int64_t begin, int64_t end)
{
    const struct models *m = arg;
    for (int64_t i = begin; i < end && !ptq_job_stop(m->job); i++)
        m->run(m->job, m->points[i]);
}

void ptq_job_each_model(struct ptq_job *job, const int64_t *points, int64_t n,
                        double bytes_per_cell, void (*run)(struct ptq_job *, int64_t point))
{
    struct models m = {job, points, run};
    struct ptq_pool *pool = job->args->pool;
    job->progress = ptq_progress_new("models", n, job->args->quiet);
    if (n < ptq_pool_threads(pool))
        run_models(&m, 0, n);
    else
        ptq_pool_for_at_most(pool, ptq_job_at_most(job, bytes_per_cell), n, 1, run_models, &m);
    ptq_progress_free(job->progress);
    job->progress = NULL;
}

struct ptq_spill ptq_job_spill(const struct ptq_job *job)
{
    return (struct ptq_spill){job->run_dir,
                              job->memory_bytes / (2 * ptq_pool_threads(job->args->pool))};
}

static int64_t machine_memory(void)
{
    int64_t pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? pages * size / 4 * 3 : INT64_C(4) << 30;
}

/* ---- the parts ---------------------------------------------------------------------------------
 */

static int job_init(struct ptq_job *job, const struct ptq_sweep_args *args, struct ptq_status *st)
{
    time_t now = time(NULL);
    struct tm utc;
    *job = (struct ptq_job){.args = args, .cfg = args->config, .begin_ns = ptq_now_ns()};
    ptq_arena_init(&job->arena, 0);
    pthread_mutex_init(&job->lock, NULL);
    atomic_init(&job->failed, false);
    gmtime_r(&now, &utc);
    strftime(job->started, sizeof job->started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    job->memory_bytes = job->cfg->run.memory_bytes ? job->cfg->run.memory_bytes : machine_memory();
    if (snprintf(job->run_dir, sizeof job->run_dir, "%s/%s", job->cfg->run.out,
                 job->cfg->run.name) >= (int)sizeof job->run_dir - 64)
        return ptq_status_set(st, PTQ_ERR_USAGE, "[run] out and name: the path is too long");
    return PTQ_OK;
}

static void job_release(struct ptq_job *job)
{
    ptq_pack_close(job->pack);
    ptq_store_close(job->store, NULL);
    ptq_model_close(job->model);
    if (job->layerfile)
        ptq_h5_close(job->layerfile, NULL);
    ptq_arena_clear(&job->arena);
    pthread_mutex_destroy(&job->lock);
}

static int open_results(struct ptq_job *job, struct ptq_status *st)
{
    const struct ptq_sweep_args *a = job->args;
    int code = a->dry_run ? ptq_store_read(&job->store, job->run_dir, st)
                          : ptq_store_open(&job->store, job->run_dir, a->shard, a->n_shards, st);
    if (code >= 0)
        code = a->dry_run ? ptq_pack_read(&job->pack, job->run_dir, st)
                          : ptq_pack_open(&job->pack, job->run_dir, a->shard, a->n_shards, st);
    if (code >= 0 && ptq_store_torn(job->store) && !a->quiet)
        fprintf(stderr, "%s: a row that was cut off by a kill was removed; its cell runs again\n",
                job->run_dir);
    return code;
}

/* For a dry run in a folder that may not exist: what is done is not known, everything is counted.
 */
static void want_everything(struct ptq_job *job)
{
    for (int64_t p = 0; p < job->n_points; p++) {
        struct ptq_want *m = &job->model_wants[p];
        m->need_row = job->has_eval && m->mine && !m->repeated;
        for (int64_t e = 0; e < job->n_entries; e++) {
            struct ptq_want *w = ptq_layer_want(job, p, e);
            w->need_row = w->mine && !w->repeated;
        }
    }
    for (int k = 0; k < PTQ_N_BESIDE; k++)
        for (int64_t i = 0; i < job->beside[k].n; i++)
            job->beside[k].at[i].need_row =
                job->beside[k].at[i].mine && !job->beside[k].at[i].repeated;
    job->reference_want.need_row = job->has_eval && job->reference_want.mine;
}

typedef void (*visit)(struct ptq_job *, const struct ptq_want *, void *);

static void each_want(struct ptq_job *job, visit f, void *arg)
{
    for (int64_t p = 0; p < job->n_points; p++) {
        for (int64_t e = 0; e < job->n_entries; e++)
            f(job, ptq_layer_want(job, p, e), arg);
        if (job->has_eval)
            f(job, &job->model_wants[p], arg);
    }
    for (int k = 0; k < PTQ_N_BESIDE; k++)
        for (int64_t i = 0; i < job->beside[k].n; i++)
            f(job, &job->beside[k].at[i], arg);
    if (job->has_eval)
        f(job, &job->reference_want, arg);
}

static void count_before(struct ptq_job *job, const struct ptq_want *w, void *arg)
{
    struct ptq_sweep_summary *s = arg;
    (void)job;
    if (!w->mine || w->repeated)
        return;
    s->n_cells++;
    s->n_done_before += !w->need_row;
}

static void count_after(struct ptq_job *job, const struct ptq_want *w, void *arg)
{
    struct ptq_sweep_summary *s = arg;
    if (!w->mine || w->repeated)
        return;
    const json_t *row = ptq_store_find(job->store, w->key);
    const char *status = row ? ptq_row_text(row, "status") : "";
    s->n_left += !row;
    s->n_ok += !strcmp(status, "ok");
    s->n_quantized += !strcmp(status, "ok") && w != &job->reference_want;
    s->n_worse += row && !isnan(ptq_row_sub(row, "notes", PTQ_NOTE_WORSE_THAN_ZEROS));
    s->n_few += row && !isnan(ptq_row_sub(row, "notes", PTQ_NOTE_FEW_TOKENS));
    s->n_skipped += !strcmp(status, "skipped");
    s->n_failed += !strcmp(status, "failed");
}

/* Sequential forms are made in their walk; the others layer by layer, and then put together. */
static int run_phases(struct ptq_job *job, struct ptq_status *st)
{
    if (!job->layerfile && job->cfg->calib.stats == PTQ_STATS_SEQUENTIAL)
        return ptq_sequential_phase(job, st);
    int code = ptq_layer_phase(job, st);
    if (code >= 0 && job->has_eval)
        code = ptq_model_phase(job, st);
    return code;
}

/* run.json, which says what was predicted and what it took, is of a start that had cells to do. */
static int run_missing(struct ptq_job *job, struct ptq_sweep_summary *s, struct ptq_status *st)
{
    struct ptq_prediction prediction = {0};
    const bool missing = s->n_done_before < s->n_cells;
    int code = ptq_job_write_plan(job, st);
    if (missing)
        ptq_job_predict(job, &prediction);
    if (missing && !job->args->quiet)
        ptq_job_warn_memory(job, &prediction);
    if (code >= 0 && missing)
        code = ptq_job_write_run(job, &prediction, -1, st);
    if (code >= 0 && missing)
        code = run_phases(job, st);
    if (code >= 0)
        code = ptq_propagation_phase(job, st);
    if (code >= 0)
        code = ptq_proxy_phase(job, st);
    if (code >= 0)
        code = ptq_speed_phase(job, st);
    if (atomic_load(&job->failed)) {
        *st = job->fatal;
        code = st->code;
    }
    if (code >= 0 && missing && !ptq_job_stop(job))
        code =
            ptq_job_write_run(job, &prediction, 1e-9 * (double)(ptq_now_ns() - job->begin_ns), st);
    return code;
}

static int finish(struct ptq_job *job, struct ptq_sweep_summary *s, int code, struct ptq_status *st)
{
    struct ptq_status closing = {0};
    each_want(job, count_after, s);
    s->out_of_budget = ptq_job_out_of_budget(job);
    int closed = ptq_store_close(job->store, &closing);
    job->store = NULL;
    if (code >= 0 && closed < 0) {
        *st = closing;
        return closed;
    }
    bool cancelled = job->args->cancel && atomic_load(job->args->cancel);
    if ((code >= 0 || code == PTQ_ERR_CANCELLED) && s->n_left) {
        ptq_status_clear(st);
        return ptq_status_set(st, PTQ_ERR_CANCELLED,
                              "%s%s%lld of %lld cells done; %srun the same command again to go on",
                              cancelled          ? "interrupted: "
                              : s->out_of_budget ? "out of budget: "
                                                 : job->no_memory,
                              !cancelled && !s->out_of_budget && *job->no_memory ? "; " : "",
                              (long long)(s->n_cells - s->n_left), (long long)s->n_cells,
                              *job->no_memory ? "give more memory or a smaller --memory, then "
                                              : "");
    }
    if (code >= 0 && !job->cfg->run.keep_forms)
        ptq_pack_remove(job->run_dir, job->args->shard, job->args->n_shards);
    return code;
}

/* Options written out may name the very settings of another method in the list: its rows are the
 * same rows. */
static void note_repeated(const struct ptq_job *job)
{
    const struct ptq_config_grid *g = &job->cfg->sweep;
    for (int64_t s = 0; s < g->n_specs; s++) {
        bool all = true;
        for (int64_t p = 0; p < job->n_points && all; p++)
            all = job->points[p].spec != &g->specs[s] || ptq_layer_want(job, p, 0)->repeated;
        if (all)
            fprintf(stderr,
                    "%s: %s has the settings of an earlier method: its rows are that method's\n",
                    job->cfg->file, g->specs[s].label);
    }
}

static int open_and_plan(struct ptq_job *job, struct ptq_status *st)
{
    int code = ptq_job_open_source(job, st);
    if (code >= 0)
        code = ptq_job_plan(job, st);
    if (code >= 0 && !job->args->quiet)
        ptq_job_say_in_domain(job);
    return code;
}

static int run_job(struct ptq_job *job, struct ptq_sweep_summary *s, struct ptq_status *st)
{
    int code = open_and_plan(job, st);
    if (code >= 0)
        code = open_results(job, st);
    if (code >= 0)
        code = ptq_job_look(job, st);
    if (code < 0)
        return code;
    if (!job->args->quiet)
        note_repeated(job);
    each_want(job, count_before, s);
    return finish(job, s, run_missing(job, s, st), st);
}

static int dry_run(struct ptq_job *job, struct ptq_status *st)
{
    struct ptq_prediction prediction = {0};
    bool exists = access(job->run_dir, F_OK) == 0;
    int code = open_and_plan(job, st);
    if (code >= 0 && exists)
        code = open_results(job, st);
    if (code >= 0 && exists)
        code = ptq_job_look(job, st);
    else if (code >= 0)
        want_everything(job);
    if (code < 0)
        return code;
    ptq_job_predict(job, &prediction);
    ptq_job_print_prediction(job, &prediction);
    ptq_job_warn_memory(job, &prediction);
    return PTQ_OK;
}

int ptq_sweep_run(const struct ptq_sweep_args *args, struct ptq_sweep_summary *s,
                  struct ptq_status *st)
{
    struct ptq_job *job = malloc(sizeof *job);
    *s = (struct ptq_sweep_summary){0};
    if (!job)
        return ptq_status_nomem(st, "the sweep", sizeof *job);
    int code = job_init(job, args, st);
    snprintf(s->run_dir, sizeof s->run_dir, "%.500s", job->run_dir);
    if (code >= 0)
        code = args->dry_run ? dry_run(job, st) : run_job(job, s, st);
    job_release(job);
    free(job);
    return code;
}
