/* speed_phase.c: rows of kind "speed": how fast a model cell's stored form multiplies here. All
 * quantized linears of the model, one after another as a token passes them, by the kernels of
 * harness/kernels, their own arithmetic of inputs included (gathers of act-order, pieces of split
 * channels, integers where the cell's inputs are integers); attention, norms and head are not
 * counted. In the same rounds, in turn: fp32 OpenBLAS with the dequantized weights, where these fit
 * into memory. A measurement, so its key names the machine and the threads. */
#include "core/blasref.h"
#include "core/clock.h"
#include "core/rng.h"
#include "core/stat.h"
#include "kernels/kform.h"
#include "sweep/job.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 200, LEAST_ROUNDS = 5 };

struct item {
    struct ptq_kform form;
    float *what; /* malloc, or NULL: fp32 is left out */
};
struct speed {
    struct ptq_job *job;
    struct ptq_arena arena;
    struct item *item;
    int64_t n_items, batch, widest, tallest;
    double macs, bytes;
    bool integers, fp32;
    float *x, *y;
    struct ptq_kwork work;
    struct ptq_status *st;
};
struct measured {
    double ns, fp32_ns; /* medians of a pass; fp32_ns 0: left out */
    double spread;      /* half the distance of the quartiles over the median */
};

/* ---- the model's forms */

static bool fp32_fits(const struct ptq_job *job)
{
    double bytes = 0;
    for (int64_t e = 0; e < job->n_entries; e++)
        bytes += 4.0 * (double)job->entries[e].rows * (double)job->entries[e].cols;
    return bytes < (double)job->memory_bytes / 4;
}

static int add_item(struct speed *s, const struct ptq_result *r)
{
    struct item *it = &s->item[s->n_items];
    const int64_t n = r->quant.rows * r->quant.cols;
    const unsigned flags = ptq_cpu_flags(s->job->args->machine->isa);
    int rc = ptq_kform_build(&r->quant, flags, &s->arena, &it->form, s->st);
    if (rc)
        return rc;
    s->n_items++;
    s->integers = s->integers || r->quant.act.bits;
    s->macs += (double)n;
    s->bytes += (double)it->form.bytes;
    s->widest = r->quant.cols > s->widest ? r->quant.cols : s->widest;
    s->tallest = r->quant.rows > s->tallest ? r->quant.rows : s->tallest;
    if (!s->fp32 || r->quant.split.n_cols)
        return PTQ_OK;
    it->what = malloc((size_t)n * sizeof *it->what);
    if (!it->what)
        return ptq_status_nomem(s->st, "dequantized weights", (size_t)n * sizeof *it->what);
    memcpy(it->what, r->what, (size_t)n * sizeof *it->what);
    return PTQ_OK;
}

static int load(struct speed *s, int64_t point)
{
    struct ptq_job *job = s->job;
    s->item = ptq_arena_alloc(&s->arena, s->st, job->n_entries, sizeof *s->item);
    int rc = s->item ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t e = 0; e < job->n_entries && !rc; e++) {
        struct ptq_result r;
        if (job->entries[e].lin < 0) /* K and V caches multiply nothing */
            continue;
        rc = ptq_pack_get(job->pack, ptq_layer_want(job, point, e)->form, &r, s->st);
        if (rc == PTQ_SKIP)
            return ptq_status_set(s->st, PTQ_SKIP, "%s: its stored form is not here",
                                  job->entries[e].name);
        if (rc)
            return rc;
        rc = add_item(s, &r);
        ptq_result_release(&r);
    }
    return rc;
}

static int make_inputs(struct speed *s)
{
    s->x = ptq_arena_alloc(&s->arena, s->st, s->widest * s->batch, sizeof *s->x);
    s->y = ptq_arena_alloc(&s->arena, s->st, s->tallest * s->batch, sizeof *s->y);
    for (int64_t i = 0; s->x && i < s->widest * s->batch; i++)
        s->x[i] = (float)ptq_normal(1, (uint64_t)i);
    return s->x && s->y ? PTQ_OK : PTQ_ERR_MEMORY;
}

static void release(struct speed *s)
{
    for (int64_t i = 0; i < s->n_items; i++)
        free(s->item[i].what);
    ptq_kwork_free(&s->work);
    ptq_arena_clear(&s->arena);
}

/* ---- time */

static int pass(struct speed *s, int64_t n)
{
    int rc = PTQ_OK;
    for (int64_t i = 0; i < s->n_items && !rc; i++) {
        const struct ptq_kcall call = {s->job->args->pool, s->x, n, s->integers, s->y};
        rc = ptq_kform_run(&s->item[i].form, &call, &s->work, s->st);
    }
    return rc;
}

static void blas_rows(void *arg, int64_t begin, int64_t end)
{
    ptq_blasref_rows(arg, begin, end);
}

static void fp32_pass(struct speed *s, int64_t n)
{
    const int64_t threads = ptq_pool_threads(s->job->args->pool);
    for (int64_t i = 0; i < s->n_items; i++) {
        const struct ptq_kform *f = &s->item[i].form;
        struct ptq_blasref b = {s->item[i].what, s->x, f->rows, f->cols, n, s->y};
        ptq_pool_for(s->job->args->pool, f->rows, (f->rows + threads - 1) / threads, blas_rows, &b);
    }
}

static bool has_fp32(const struct speed *s)
{
    for (int64_t i = 0; i < s->n_items; i++)
        if (!s->item[i].what)
            return false;
    return true;
}

static int measure(struct speed *s, int64_t n, struct measured *m)
{
    double ns[MOST_ROUNDS], fp32[MOST_ROUNDS];
    const bool rival = has_fp32(s);
    int rounds = 0, rc = pass(s, n); /* the first one grows the work memory */
    const int64_t until = ptq_now_ns() + (int64_t)(1e6 * (double)s->job->cfg->bench.ms);
    for (; !rc && rounds < MOST_ROUNDS && (rounds < LEAST_ROUNDS || ptq_now_ns() < until);
         rounds++) {
        int64_t t = ptq_now_ns();
        rc = pass(s, n);
        ns[rounds] = (double)(ptq_now_ns() - t);
        t = ptq_now_ns();
        if (rival)
            fp32_pass(s, n);
        fp32[rounds] = (double)(ptq_now_ns() - t);
        if (ptq_job_stop(s->job))
            return PTQ_ERR_CANCELLED;
    }
    if (rc)
        return rc;
    double unused;
    m->ns = ptq_median_spread(ns, rounds, &m->spread);
    m->fp32_ns = rival ? ptq_median_spread(fp32, rounds, &unused) : 0;
    return PTQ_OK;
}

/* ---- rows */

static void speed_key(const struct ptq_job *job, int64_t point, struct ptq_want *w)
{
    char on[PTQ_KEY_CHARS], threads[48];
    snprintf(threads, sizeof threads, "%d threads, batch %lld", ptq_pool_threads(job->args->pool),
             (long long)job->cfg->bench.batch);
    ptq_key_of(on, job->args->machine->cpu, ptq_isa_name(job->args->machine->isa), threads,
               ptq_kernels_version(), (char *)NULL);
    *w = job->model_wants[point];
    ptq_row_key("speed", w->form, on, w->key);
}

static void put(json_t *o, const char *field, double v)
{
    json_object_set_new(o, field, ptq_json_num(v));
}

static json_t *speed_of(const struct speed *s, const struct measured *one,
                        const struct measured *many)
{
    json_t *o = json_object();
    const double batch = (double)s->batch;
    put(o, "tokens_s", 1e9 / one->ns);
    put(o, "gbs", s->bytes / one->ns);
    put(o, "spread", one->spread);
    put(o, "macs", s->macs);
    put(o, "batch", batch);
    put(o, "batch_tokens_s", 1e9 * batch / many->ns);
    put(o, "batch_gflops", 2 * s->macs * batch / many->ns);
    put(o, "batch_spread", many->spread);
    put(o, "bytes", s->bytes);
    put(o, "fp32_tokens_s", one->fp32_ns > 0 ? 1e9 / one->fp32_ns : NAN);
    put(o, "fp32_batch_gflops", many->fp32_ns > 0 ? 2 * s->macs * batch / many->fp32_ns : NAN);
    json_object_set_new(o, "integer_inputs", json_boolean(s->integers));
    return o;
}

static int measure_point(struct ptq_job *job, int64_t point, const struct ptq_want *w,
                         struct ptq_status *st)
{
    struct ptq_times t = {.begin_ns = ptq_now_ns()};
    struct measured one = {0, 0, 0}, many = {0, 0, 0};
    struct ptq_status why = {0};
    struct speed s = {
        .job = job, .batch = job->cfg->bench.batch, .fp32 = fp32_fits(job), .st = &why};
    ptq_arena_init(&s.arena, 0);
    int rc = load(&s, point);
    rc = rc ? rc : make_inputs(&s);
    rc = rc ? rc : measure(&s, 1, &one);
    rc = rc ? rc : measure(&s, s.batch, &many);
    if (rc == PTQ_OK || ptq_job_cell_ended(job, rc, &why) == PTQ_LEAVES_ROW) {
        json_t *row = ptq_row_begin(job, "speed", w, &job->points[point]);
        if (rc)
            ptq_row_set_outcome(row, rc, why.text);
        else
            json_object_set_new(row, "speed", speed_of(&s, &one, &many));
        rc = ptq_row_finish(job, row, &t, st);
    } else {
        *st = why;
    }
    release(&s);
    return rc < 0 ? rc : PTQ_OK;
}

static bool is_measured(struct ptq_job *job, const struct ptq_want *w)
{
    const json_t *row = ptq_store_find(job->store, w->key);
    return row && !strcmp(ptq_row_text(row, "kind"), "speed");
}

static bool has_model_row(struct ptq_job *job, int64_t point)
{
    const json_t *row = ptq_store_find(job->store, job->model_wants[point].key);
    return row && !strcmp(ptq_row_text(row, "status"), "ok");
}

int ptq_speed_phase(struct ptq_job *job, struct ptq_status *st)
{
    int rc = PTQ_OK;
    if (!job->cfg->bench.speed || !job->has_eval)
        return PTQ_OK;
    for (int64_t p = 0; p < job->n_points && !rc && !ptq_job_stop(job); p++) {
        struct ptq_want w;
        speed_key(job, p, &w);
        if (w.mine && !w.repeated && has_model_row(job, p) && !is_measured(job, &w))
            rc = measure_point(job, p, &w, st);
    }
    return rc;
}
