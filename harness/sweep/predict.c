/* predict.c: what a sweep will cost, from shapes and a short probe of this machine: for --dry-run,
 * and for run.json so that the report can show predicted beside actual. Counts are of multiply-adds
 * times two; everything smaller than a matrix product is left out, and `efficiency` covers it.
 * Memory is that of the largest phase (capture, layers, models) on top of what the program holds
 * already. */
#include "core/clock.h"
#include "core/linalg.h"
#include "model/attnstats.h"
#include "model/shards.h"
#include "sweep/job.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Small products, fp64 sums and softmax run below the probe's large fp32 product: measured on the
 * demo sweep (128 columns) and on models of 576 and 4096. */
static double efficiency(const struct ptq_job *job)
{
    int64_t widest = 0;
    for (int64_t e = 0; e < job->n_entries; e++)
        widest = job->entries[e].cols > widest ? job->entries[e].cols : widest;
    return widest < 512 ? 0.35 : 0.6;
}

/* Best rate of a 384^3 product on one thread within about 60 ms. */
static double probe_gflops(void)
{
    enum { N = 384 };
    float *a = calloc(3 * N * N, sizeof *a);
    double best = 0;
    int64_t begin = ptq_now_ns();
    for (int i = 0; a && i < 2 * N * N; i++)
        a[i] = (float)(i % 7) - 3;
    while (a && ptq_now_ns() - begin < 60000000) {
        struct ptq_gemm_f32 g = {N, N, N, false, false, 1, 0, a, N, a + N * N, N, a + 2 * N * N, N};
        int64_t t = ptq_now_ns();
        if (ptq_gemm_f32(NULL, &g, NULL) < 0)
            break;
        best = fmax(best, 2.0 * N * N * N / (double)(ptq_now_ns() - t));
    }
    free(a);
    return best > 0 ? best : 10;
}

static double attention_flops(const struct ptq_job *job, const struct ptq_tokens *t)
{
    const struct ptq_model_info *i = ptq_model_info(job->model);
    double sum = 0;
    for (int64_t s = 0; s < t->n_seq; s++)
        sum += (double)t->len[s] * (double)t->len[s];
    return 2 * sum * (double)(i->n_heads * i->head_dim * i->n_blocks);
}

static double forward_flops(const struct ptq_job *job, const struct ptq_tokens *t)
{
    return 2 * (double)ptq_model_info(job->model)->n_block_params * (double)t->n_total +
           attention_flops(job, t);
}

static double head_flops(const struct ptq_job *job, const struct ptq_tokens *t)
{
    const struct ptq_model_info *i = ptq_model_info(job->model);
    if (i->encoder)
        return 0;
    return 2 * (double)i->vocab_size * (double)i->d_model * (double)t->n_total;
}

/* Distinct inputs once; in a block, layers that share an input follow each other. */
static double syrk_flops(const struct ptq_job *job, const struct ptq_tokens *t)
{
    double sum = 0;
    const char *last = "";
    for (int64_t e = 0; e < job->n_entries; e++) {
        if (job->entries[e].input != last)
            sum += (double)job->entries[e].cols * (double)job->entries[e].cols;
        last = job->entries[e].input;
    }
    return sum * (double)t->n_total;
}

/* ---- memory ------------------------------------------------------------------------------------
 */

/* Rows are many small pieces of memory, and each takes a corner of a large piece that a cell has
 * given back, which is then too small for the next cell. About codes, values, and difference of a
 * small layer (10 bytes a weight) are lost a row; arrays that are handed back to the system
 * (cmd_sweep.c: over a megabyte) leave nothing. Measured on the demo sweep. */
static double left_behind(int64_t rows, int64_t cols)
{
    double n = (double)rows * (double)cols;
    return 4 * n < 1 << 20 ? 10 * n : 0;
}

static void phase(struct ptq_prediction *p, double bytes)
{
    p->peak_bytes = fmax(p->peak_bytes, bytes);
}

/* Of a sequence in work: queries, keys, values, outputs and sums as wide as the model, gate, up and
 * their product as wide as the mlp; then the output matrix and logits of two models, of which
 * eval.c takes 2^20 at a time. */
double ptq_scoring_bytes(const struct ptq_job *job)
{
    const struct ptq_model_info *i = ptq_model_info(job->model);
    const struct ptq_tokens *t = &job->eval_text.tokens;
    double logits = i->encoder ? 0 : fmax(1 << 20, 64 * (double)i->vocab_size), longest = 0;
    for (int64_t s = 0; s < t->n_seq; s++)
        longest = fmax(longest, (double)t->len[s]);
    double head = i->encoder ? 0 : 4.0 * (double)i->vocab_size * (double)i->d_embd;
    return 4 * longest * (double)(6 * i->d_model + 3 * i->d_ff) + head + 8 * logits;
}

static double hidden_bytes(const struct ptq_job *job, const struct ptq_tokens *t)
{
    return 4.0 * (double)t->n_total * (double)ptq_model_info(job->model)->d_model;
}

static double block_bytes(const struct ptq_job *job)
{
    const struct ptq_model_info *i = ptq_model_info(job->model);
    return 4.0 * (double)i->n_block_params / (double)(i->n_blocks ? i->n_blocks : 1);
}

/* Hessians of both token classes and their sum in fp64, the sampled rows and the shards, of one
 * input. */
static double input_bytes(const struct ptq_job *job, double d)
{
    return 24 * d * d + 4 * d * (double)job->stats_options.n_acts +
           ptq_shards_bytes(job->cfg->calib.n_shards, d);
}

static struct ptq_attn_cost attention_cost(const struct ptq_job *job, const struct ptq_draw *d)
{
    const struct ptq_stats_options o = ptq_draw_options(job, d);
    return ptq_attn_cost(ptq_model_info(job->model), &d->text.tokens, &o,
                         ptq_pool_threads(job->args->pool));
}

/* Hidden states, a block, its statistics and a partial sum for every sequence in work: four a
 * thread where they are small (stats.c). */
static void memory_of_capture(const struct ptq_job *job, const struct ptq_draw *d,
                              struct ptq_prediction *p)
{
    double stats = 0, sums = 0, slots = 4.0 * ptq_pool_threads(job->args->pool);
    const char *last = "";
    for (int64_t e = 0; e < job->n_entries && job->entries[e].block == job->entries[0].block; e++) {
        double cols = (double)job->entries[e].cols;
        if (strcmp(last, job->entries[e].input) != 0) {
            stats += input_bytes(job, cols);
            sums += (job->stats_options.f64 ? 8 : 4) * cols * cols;
        }
        last = job->entries[e].input;
    }
    phase(p, hidden_bytes(job, &d->text.tokens) + block_bytes(job) + stats + sums * slots +
                 attention_cost(job, d).memory_bytes);
}

/* Sampled windows on their way through the model, copies that enter both halves of a block and what
 * the halves add. */
double ptq_module_bytes(const struct ptq_job *job)
{
    bool any = false;
    for (int64_t p = 0; p < job->n_points; p++)
        any = any || ptq_needs_module(&job->points[p]);
    return any && job->model ? 5 * 4.0 * (double)job->cfg->calib.module_tokens *
                                   (double)ptq_model_info(job->model)->d_model
                             : 0;
}

/* The column factors of v come with the input of q, k and v. */
static double columns_bytes(const struct ptq_job *job, const struct ptq_entry *e)
{
    const bool reads = e->role == PTQ_ROLE_Q || e->role == PTQ_ROLE_K || e->role == PTQ_ROLE_V;
    const double d = (double)e->cols;
    if (!reads || job->stats_options.attention != PTQ_ATTN_ALL)
        return 0;
    return 8 * (double)ptq_model_info(job->model)->n_kv_heads * d * (d + 1) / 2;
}

double ptq_runs_bytes(const struct ptq_job *job)
{
    for (int64_t p = 0; p < job->n_points; p++)
        if (job->points[p].cell.a_bits)
            return block_bytes(job);
    return 0;
}

/* Statistics (calibration, held-out, memoised factors) are shared by the cells of a layer. */
static void memory_of_layer(const struct ptq_job *job, const struct ptq_entry *e, double method,
                            struct ptq_prediction *p)
{
    double d = (double)e->cols, cell = fmax(method, ptq_layer_cell_bytes(e->rows, e->cols)) +
                                       ptq_noise_cell_bytes(job, e->rows, e->cols);
    double shared = 8 * d * d + 4 * (double)e->rows * d;
    if (job->model)
        shared = ptq_module_bytes(job) + block_bytes(job) + 8 * d * d +
                 (job->has_heldout ? 2 : 1) * input_bytes(job, d) + columns_bytes(job, e) +
                 (ptq_noise_wanted(job) ? 16 * d * d : 0); /* one moved Hessian, its factor */
    p->cell_bytes = fmax(p->cell_bytes, shared + cell);
    phase(p, shared + cell * ptq_pool_threads(job->args->pool));
}

/* The reference's last hidden states; a model's own, its block as it was and as it is, and what
 * scoring takes. */
static void memory_of_models(const struct ptq_job *job, struct ptq_prediction *p)
{
    double threads = ptq_pool_threads(job->args->pool);
    double hidden = hidden_bytes(job, &job->eval_text.tokens), calib = 0;
    if (job->cfg->calib.stats == PTQ_STATS_SEQUENTIAL)
        calib = hidden_bytes(job, &job->draws[0].text.tokens);
    double one =
        hidden + calib + 2 * block_bytes(job) + ptq_runs_bytes(job) + ptq_scoring_bytes(job);
    p->cell_bytes = fmax(p->cell_bytes, hidden + one);
    phase(p, hidden + one * threads);
}

void ptq_job_warn_memory(const struct ptq_job *job, const struct ptq_prediction *p)
{
    double need = (double)ptq_peak_rss_bytes() + p->cell_bytes;
    if (need > (double)job->memory_bytes)
        fprintf(stderr,
                "%s: a single cell needs about %.0f MiB, more than the %.0f MiB of [run] memory: "
                "cells are run one at a time, and may not fit\n",
                job->cfg->file, need / 1048576, (double)job->memory_bytes / 1048576);
}

/* ---- sums --------------------------------------------------------------------------------------
 */

static void add_capture(const struct ptq_job *job, const struct ptq_draw *d,
                        struct ptq_prediction *p)
{
    struct stat info;
    if (stat(d->path, &info) == 0)
        return;
    memory_of_capture(job, d, p);
    p->flops += forward_flops(job, &d->text.tokens) + syrk_flops(job, &d->text.tokens) +
                attention_cost(job, d).flops;
    for (int64_t e = 0; e < job->n_entries; e++)
        p->bytes += (8.0 + 2 * (double)job->cfg->calib.n_shards) * (double)job->entries[e].cols *
                    (double)job->entries[e].cols;
}

/* Second moments that a cell is scored under. */
static int moments(const struct ptq_job *job)
{
    int n = ptq_metric_wanted(job, "out_relerr") || ptq_metric_wanted(job, "proxy_loss");
    if (job->layerfile)
        return n;
    n += ptq_metric_wanted(job, "out_relerr_nosink");
    if (job->has_heldout)
        n += ptq_metric_wanted(job, "out_relerr_heldout") +
             ptq_metric_wanted(job, "out_relerr_heldout_nosink");
    return n;
}

/* The product of dW with itself and one with each shard; the cell once more and its error for every
 * replicate. */
static double noise_flops(const struct ptq_job *job, const struct ptq_point *point,
                          const struct ptq_entry *e, double method)
{
    const struct ptq_config *c = job->cfg;
    const double n = (double)e->rows * (double)e->cols, d = (double)e->cols,
                 again = (double)c->noise.resamples +
                         (c->noise.perturb > 0 ? (double)c->noise.repeats : 0);
    if (!ptq_noise_wanted(job) || e->lin < 0)
        return 0;
    return 2 * 2 * n * d * 2 + (double)c->calib.n_shards * d * d +
           (ptq_sees_stats(point->spec, &point->cell) ? again * (method + 2 * 2 * n * d) : 0);
}

static void add_layer(const struct ptq_job *job, const struct ptq_point *point,
                      const struct ptq_entry *e, bool has_form, struct ptq_prediction *p)
{
    double n = (double)e->rows * (double)e->cols;
    const int n_moments = moments(job);
    struct ptq_layer layer = {.name = e->name, .w = {NULL, e->rows, e->cols, e->cols}};
    struct ptq_cost cost = {0}, again = {0};
    if (!has_form) {
        ptq_spec_cost(point->spec, &layer, &point->cell, &cost);
        p->bytes += n * point->cell.w_bits / 8; /* the stored form */
    }
    ptq_spec_cost(point->spec, &layer, &point->cell, &again);
    p->flops += noise_flops(job, point, e, again.flops);
    /* Twice: these products are in fp64. */
    p->flops += cost.flops + 2 * 2 * n * (double)e->cols * n_moments;
    p->bytes += cost.bytes + 4 * n;
    p->left_bytes += left_behind(e->rows, e->cols);
    memory_of_layer(job, e, cost.peak_bytes, p);
}

static void add_model(const struct ptq_job *job, struct ptq_prediction *p)
{
    const struct ptq_model_info *i = ptq_model_info(job->model);
    double hidden = 4.0 * (double)job->eval_text.tokens.n_total * (double)i->d_model;
    const struct ptq_tokens *t = &job->eval_text.tokens;
    p->flops += forward_flops(job, t) + 2 * head_flops(job, t);
    p->bytes += 4 * (double)i->n_params + 2 * hidden * (double)i->n_blocks;
    memory_of_models(job, p);
}

/* Both states go through both blocks. */
static void add_propagation(const struct ptq_job *job, struct ptq_prediction *p)
{
    const struct ptq_tokens *t = &job->eval_text.tokens;
    const double share = (double)job->cfg->eval.propagation / (double)t->n_seq;
    p->flops += 4 * forward_flops(job, t) * (share < 1 ? share : 1);
    p->cell_bytes = fmax(p->cell_bytes, ptq_propagation_bytes(job));
    phase(p, ptq_propagation_bytes(job) * ptq_pool_threads(job->args->pool));
}

/* The layers before the one with noise are run once for all. */
static void add_proxies(const struct ptq_job *job, struct ptq_prediction *p)
{
    const struct ptq_wants *few = &job->beside[PTQ_FEW], *noisy = &job->beside[PTQ_PERTURBED];
    if (!few->n)
        return;
    const struct ptq_tokens t = ptq_proxy_tokens(job);
    const double pass = forward_flops(job, &t), score = 2 * head_flops(job, &t),
                 n_blocks = (double)ptq_model_info(job->model)->n_blocks;
    for (int64_t i = 0; i < few->n; i++)
        p->flops += few->at[i].need_row ? pass + score : 0;
    for (int64_t i = 0; i < noisy->n; i++) {
        const double before = job->entries[i * job->n_entries / noisy->n].block;
        p->flops += noisy->at[i].need_row ? pass * (1 - before / n_blocks) + score : 0;
    }
}

static void count_beside(const struct ptq_job *job, struct ptq_prediction *p)
{
    for (int k = 0; k < PTQ_N_BESIDE; k++)
        for (int64_t i = 0; i < job->beside[k].n; i++) {
            const struct ptq_want *w = &job->beside[k].at[i];
            p->n_beside_rows += w->mine && !w->repeated;
            p->n_left_beside += w->need_row;
        }
}

static void add_point(const struct ptq_job *job, int64_t point, struct ptq_prediction *p)
{
    const struct ptq_want *m = &job->model_wants[point];
    for (int64_t e = 0; e < job->n_entries; e++) {
        const struct ptq_want *w = ptq_layer_want(job, point, e);
        p->n_layer_rows += w->mine && !w->repeated;
        p->n_left_layers += w->need_row;
        if (w->need_row || w->need_form)
            add_layer(job, &job->points[point], &job->entries[e],
                      job->pack && ptq_pack_has(job->pack, w->form), p);
    }
    p->n_model_rows += job->has_eval && m->mine && !m->repeated;
    p->n_left_models += m->need_row;
    if (job->beside[PTQ_PROPAGATION].n && job->beside[PTQ_PROPAGATION].at[point].need_row)
        add_propagation(job, p);
    if (!m->need_row)
        return;
    add_model(job, p);
    if (job->cfg->calib.stats == PTQ_STATS_SEQUENTIAL &&
        ptq_sees_stats(job->points[point].spec, &job->points[point].cell)) {
        const struct ptq_tokens *t = &job->draws[job->points[point].draw].text.tokens;
        /* Up to a stage, then the whole block: about twice the forward pass. */
        p->flops += 2 * forward_flops(job, t) + syrk_flops(job, t);
    }
}

void ptq_job_predict(struct ptq_job *job, struct ptq_prediction *p)
{
    *p = (struct ptq_prediction){0};
    for (int64_t i = 0; i < job->n_points; i++)
        add_point(job, i, p);
    if (job->has_eval && (p->n_left_models || job->reference_want.need_row))
        add_model(job, p);
    p->n_model_rows += job->has_eval && job->reference_want.mine;
    p->n_left_models += job->reference_want.need_row;
    for (int64_t d = 0; job->model && p->n_left_layers && d < job->cfg->calib.n_seeds; d++)
        add_capture(job, &job->draws[d], p);
    if (job->has_heldout && p->n_left_layers)
        add_capture(job, &job->heldout, p);
    count_beside(job, p);
    add_proxies(job, p);
    p->peak_bytes += p->left_bytes + (double)ptq_peak_rss_bytes();
    p->gflops_per_thread = probe_gflops();
    p->seconds = p->flops /
                 (1e9 * p->gflops_per_thread * ptq_pool_threads(job->args->pool) * efficiency(job));
}

void ptq_duration_text(double seconds, char out[64])
{
    static const struct {
        double seconds, up_to;
        const char *name;
    } units[] = {{1, 90, "seconds"},
                 {60, 5400, "minutes"},
                 {3600, 172800, "hours"},
                 {86400, INFINITY, "days"}};
    int i = 0;
    while (seconds >= units[i].up_to)
        i++;
    double n = seconds / units[i].seconds;
    if (n < 0.1)
        snprintf(out, 64, "less than 0.1 seconds");
    else
        snprintf(out, 64, "about %.*f %s", n < 9.95 ? 1 : 0, n, units[i].name);
}

void ptq_job_print_prediction(const struct ptq_job *job, const struct ptq_prediction *p)
{
    printf("%-22s %lld\n", "grid points", (long long)job->n_points);
    printf("%-22s %lld\n", "layers", (long long)job->n_entries);
    printf("%-22s %lld, %lld to do\n", "layer rows", (long long)p->n_layer_rows,
           (long long)p->n_left_layers);
    printf("%-22s %lld, %lld to do\n", "model rows", (long long)p->n_model_rows,
           (long long)p->n_left_models);
    if (p->n_beside_rows)
        printf("%-22s %lld, %lld to do\n", "rows beside them", (long long)p->n_beside_rows,
               (long long)p->n_left_beside);
    printf("%-22s %.3g\n", "flops", p->flops);
    printf("%-22s %.3g\n", "bytes moved", p->bytes);
    bool large = p->peak_bytes >= 10240.0 * 1048576;
    printf("%-22s %.3g %s, the program's own included\n", "peak memory",
           p->peak_bytes / (large ? 1073741824.0 : 1048576), large ? "GiB" : "MiB");
    char time[64];
    ptq_duration_text(p->seconds, time);
    printf("%-22s %s on %d threads (%.0f GFLOP/s a thread measured now)\n", "predicted time", time,
           ptq_pool_threads(job->args->pool), p->gflops_per_thread);
}
