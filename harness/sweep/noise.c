#include "sweep/noise.h"
#include "core/json.h"
#include "core/linalg.h"
#include "core/rng.h"
#include "core/stat.h"
#include "model/shards.h"
#include "sweep/job.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- settings ----------------------------------------------------------------------------------
 */

static int refuse(const struct ptq_config *c, const char *what, int64_t value, const char *why,
                  struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s = %lld: %s", c->file, what, (long long)value,
                          why);
}

static int check_resamples(const struct ptq_config *c, struct ptq_status *st)
{
    static const char what[] = "[noise] resamples";
    const int64_t r = c->noise.resamples, k = c->calib.n_shards;
    if (r && c->calib.stats == PTQ_STATS_SEQUENTIAL)
        return refuse(c, what, r,
                      "behind quantized blocks every half-sample would be a walk of its own; set "
                      "[calib] stats = fp, or resamples = 0 for the noise of scoring alone",
                      st);
    if (r && (k < 4 || (k & (k - 1))))
        return refuse(c, what, r,
                      "halves are balanced over 4, 8, 16, ... shards; set [calib] shards to one of "
                      "these",
                      st);
    if (r && (r % 2 || r > 2 * (k - 1)))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s = %lld: halves come in complementary pairs, of which %lld "
                              "shards have %lld; give an even number up to %lld",
                              c->file, what, (long long)r, (long long)k, (long long)(k - 1),
                              (long long)(2 * (k - 1)));
    return PTQ_OK;
}

static bool wanted_by(const struct ptq_config *c)
{
    return c->calib.n_shards || c->noise.perturb > 0;
}

int ptq_noise_check(const struct ptq_config *c, struct ptq_status *st)
{
    static const char what[] = "[calib] shards";
    const int64_t k = c->calib.n_shards;
    if (k == 1)
        return refuse(c, what, k, "one shard is the whole; give 0 (none), or 4, 8, 16, ...", st);
    if (k > c->calib.nsamples)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s = %lld, but [calib] nsamples = %lld: every shard needs a "
                              "sequence",
                              c->file, what, (long long)k, (long long)c->calib.nsamples);
    if (wanted_by(c) && !c->calib.heldout)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [calib] shards and [noise] are about errors on held-out text; "
                              "name one with [calib] heldout",
                              c->file);
    if (c->noise.perturb > 0 && c->calib.stats == PTQ_STATS_SEQUENTIAL)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [noise] perturb needs [calib] stats = fp: behind quantized "
                              "blocks every perturbation would be a walk of its own",
                              c->file);
    return check_resamples(c, st);
}

bool ptq_noise_wanted(const struct ptq_job *job)
{
    return job->model && wanted_by(job->cfg);
}

/* ---- replicates --------------------------------------------------------------------------------
 */

/* Sylvester's matrix: row m, column k holds (-1)^(bits that m and k share). Row 0 is constant and
 * left out. */
bool ptq_in_half(int64_t r, int64_t k)
{
    const int64_t row = r / 2 + 1;
    return (__builtin_popcountll((unsigned long long)(row & k)) & 1) == (r & 1);
}

enum { ROWS_A_PIECE = 16 };

struct half {
    const struct ptq_input_stats *s;
    int64_t r;
    double scale, *hess;
};

static void half_rows(void *arg, int64_t begin, int64_t end)
{
    const struct half *a = arg;
    const int64_t d = a->s->d_in, n = d * (d + 1) / 2;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = i; j < d; j++) {
            double sum = 0;
            for (int64_t k = 0; k < a->s->n_shards; k++)
                if (ptq_in_half(a->r, k))
                    sum += a->s->shards[k * n + ptq_triangle_row(i, d) + j - i];
            a->hess[i * d + j] = a->hess[j * d + i] = sum * a->scale;
        }
}

void ptq_half_hess(const struct ptq_input_stats *s, int64_t r, struct ptq_pool *pool, double *hess,
                   double *n_tokens)
{
    struct half a = {s, r, 0, hess};
    double all = 0;
    *n_tokens = 0;
    for (int64_t k = 0; k < s->n_shards; k++) {
        all += s->shard_tokens[k];
        *n_tokens += ptq_in_half(r, k) ? s->shard_tokens[k] : 0;
    }
    a.scale = all / *n_tokens;
    ptq_pool_for(pool, s->d_in, ROWS_A_PIECE, half_rows, &a);
}

struct perturbation {
    const struct ptq_cdmat *h;
    double eps, *hess;
    uint64_t seed;
};

static void perturb_rows(void *arg, int64_t begin, int64_t end)
{
    const struct perturbation *a = arg;
    const int64_t d = a->h->cols;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = i; j < d; j++) {
            const double g = ptq_normal(a->seed, (uint64_t)(ptq_triangle_row(i, d) + j - i));
            a->hess[i * d + j] = a->hess[j * d + i] = a->h->at[i * a->h->ld + j] * (1 + a->eps * g);
        }
}

void ptq_perturb_hess(const struct ptq_cdmat *h, double eps, uint64_t seed, struct ptq_pool *pool,
                      double *hess)
{
    struct perturbation a = {h, eps, hess, seed};
    ptq_pool_for(pool, h->cols, ROWS_A_PIECE, perturb_rows, &a);
}

/* ---- errors ------------------------------------------------------------------------------------
 */

/* tr(A S A^T) = <A^T A, S>: one product of A with itself serves all shards. */
int ptq_shard_quads(const struct ptq_input_stats *s, const float *a, int64_t rows, double *out,
                    struct ptq_status *st)
{
    const int64_t d = s->d_in, n = d * (d + 1) / 2;
    double *wide = malloc((size_t)(rows * d) * sizeof *wide);
    double *gram = malloc((size_t)(d * d) * sizeof *gram);
    int rc = wide && gram ? PTQ_OK
                          : ptq_status_nomem(st, "errors by shards",
                                             (size_t)((rows + d) * d) * sizeof *wide);
    for (int64_t i = 0; !rc && i < rows * d; i++)
        wide[i] = a[i];
    if (!rc)
        rc = ptq_syrk_f64(NULL, wide, rows, d, d, gram, d, st);
    for (int64_t k = 0; !rc && k < s->n_shards; k++) {
        double diagonal = 0, above = 0;
        for (int64_t i = 0; i < d; i++) {
            const double *row = s->shards + k * n + ptq_triangle_row(i, d) - i;
            diagonal += gram[i * d + i] * row[i];
            for (int64_t j = i + 1; j < d; j++)
                above += gram[i * d + j] * row[j];
        }
        out[k] = diagonal + 2 * above;
    }
    free(wide);
    free(gram);
    return rc;
}

void ptq_less_one(const double *top, const double *bottom, int64_t n, double *less_one)
{
    for (int64_t k = 0; k < n; k++) {
        double x = 0, y = 0;
        for (int64_t i = 0; i < n; i++) {
            x += i == k ? 0 : top[i];
            y += i == k ? 0 : bottom[i];
        }
        less_one[k] = x / y;
    }
}

/* What - W; NULL: no memory. */
static float *difference(const struct ptq_layer *l, const float *what, struct ptq_status *st)
{
    const int64_t rows = l->w.rows, cols = l->w.cols;
    float *dw = malloc((size_t)(rows * cols) * sizeof *dw);
    if (!dw)
        ptq_status_nomem(st, "the difference of a layer", (size_t)(rows * cols) * sizeof *dw);
    for (int64_t i = 0; dw && i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            dw[i * cols + j] = what[i * cols + j] - l->w.at[i * l->w.ld + j];
    return dw;
}

static int heldout_error(const struct ptq_layer_truth *t, const float *dw, struct ptq_pool *pool,
                         double *out, struct ptq_status *st)
{
    const struct ptq_cdmat *h = &t->moment[PTQ_MOMENT_HELDOUT];
    const int64_t cols = t->layer->w.cols;
    int rc = ptq_quadform(pool, dw, t->layer->w.rows, cols, cols, h->at, h->ld, NULL, out, st);
    *out /= t->denominator[PTQ_MOMENT_HELDOUT];
    return rc;
}

/* ---- a layer -----------------------------------------------------------------------------------
 */

int ptq_noise_init(struct ptq_noise *v, const struct ptq_noise *args, struct ptq_arena *arena,
                   struct ptq_status *st)
{
    const struct ptq_config *c = args->job->cfg;
    const struct ptq_cmat *w = &args->truth->layer->w;
    *v = *args;
    v->n_resamples = v->calib && v->calib->n_shards ? c->noise.resamples : 0;
    v->n_perturbed = v->calib && c->noise.perturb > 0 ? c->noise.repeats : 0;
    if (!v->heldout->n_shards)
        return PTQ_OK;
    v->w_quads = ptq_arena_alloc(arena, st, v->heldout->n_shards, sizeof *v->w_quads);
    assert(w->ld == w->cols);
    return v->w_quads ? ptq_shard_quads(v->heldout, w->at, w->rows, v->w_quads, st)
                      : PTQ_ERR_MEMORY;
}

/* Why a method is not run again. */
static const char *not_again(const struct ptq_point *p, const struct ptq_layer *l)
{
    const unsigned needs = ptq_spec_needs(p->spec);
    if (needs & PTQ_NEEDS_MODULE)
        return "losses of modules come from sampled windows, of which there are no shards";
    if (needs & (PTQ_NEEDS_ACTS | PTQ_NEEDS_RANGES))
        return "sampled inputs and their ranges have no shards";
    if ((needs & PTQ_NEEDS_ATTN) && l->attn && l->attn->hcol)
        return "the column factors of v have no shards";
    return NULL;
}

static const char *fixed(const struct ptq_point *p, const struct ptq_layer *l)
{
    return (ptq_spec_needs(p->spec) & PTQ_NEEDS_ATTN) && l->attn
               ? "row factors of attention: those of the whole text"
               : NULL;
}

struct again { /* the cells of a layer under one replicate of its Hessian */
    const struct ptq_noise *v;
    const struct ptq_noise_cells *cells;
    struct ptq_session *session;
    int64_t replicate;
    atomic_bool no_memory;
};

static bool runs_again(const struct again *a, int64_t i)
{
    const struct ptq_job *job = a->v->job;
    const struct ptq_point *p = &job->points[a->cells->points[i]];
    return ptq_layer_want(job, a->cells->points[i], a->cells->entry)->need_row &&
           ptq_sees_stats(p->spec, &p->cell) && !not_again(p, a->v->truth->layer);
}

/* A cell that fails here fails in its row as well, or leaves a gap that reports show. */
static int run_again(const struct again *a, int64_t i, double *error)
{
    const struct ptq_noise *v = a->v;
    const struct ptq_point *p = &v->job->points[a->cells->points[i]];
    struct ptq_result result;
    struct ptq_status st = {0};
    int rc = ptq_session_quantize(a->session, p->spec, &p->cell, &result, &st);
    if (rc)
        return rc;
    float *dw = result.quant.split.n_cols ? NULL : difference(v->truth->layer, result.what, &st);
    rc = dw ? heldout_error(v->truth, dw, v->job->args->pool, error, &st) : st.code;
    free(dw);
    ptq_result_release(&result);
    return rc;
}

static void again_piece(void *arg, int64_t begin, int64_t end)
{
    struct again *a = arg;
    for (int64_t i = begin; i < end && !ptq_job_stop(a->v->job); i++) {
        double error = NAN;
        if (runs_again(a, i) && run_again(a, i, &error) == PTQ_ERR_MEMORY)
            atomic_store(&a->no_memory, true);
        a->v->again[i * ptq_noise_replicates(a->v) + a->replicate] = error;
    }
}

static uint64_t replicate_key(const struct ptq_noise *v, int64_t replicate)
{
    return ptq_hash_u64(v->truth->layer->hess_key, (uint64_t)replicate + 1);
}

/* The layer with another Hessian; token classes are not told apart in it. */
static void replicate_layer(const struct ptq_noise *v, int64_t replicate, double *hess,
                            struct ptq_layer *out)
{
    const struct ptq_layer *l = v->truth->layer;
    struct ptq_pool *pool = v->job->args->pool;
    const double whole = l->n_tokens;
    *out = *l;
    if (replicate < v->n_resamples) {
        ptq_half_hess(v->calib, replicate, pool, hess, &out->n_tokens);
        out->n_sequences = l->n_sequences * out->n_tokens / whole;
    } else {
        const uint64_t seed = replicate_key(v, replicate);
        ptq_perturb_hess(&l->hess, v->job->cfg->noise.perturb, seed, pool, hess);
    }
    out->hess = (struct ptq_cdmat){hess, l->hess.cols, l->hess.cols, l->hess.cols};
    out->hess_sink = out->hess_rest = (struct ptq_cdmat){NULL, 0, 0, 0};
    out->hess_key = replicate_key(v, replicate);
}

static int run_replicate(struct again *a, double *hess, struct ptq_status *st)
{
    struct ptq_job *job = a->v->job;
    struct ptq_layer layer;
    replicate_layer(a->v, a->replicate, hess, &layer);
    struct ptq_session_args args = {&layer, (enum ptq_precision)job->cfg->run.precision,
                                    job->args->pool, NULL, job->args->cancel};
    int code = ptq_session_new(&a->session, &args, st);
    if (code < 0)
        return code;
    if (a->cells->n < ptq_pool_threads(job->args->pool))
        again_piece(a, 0, a->cells->n);
    else
        ptq_pool_for_at_most(job->args->pool, a->cells->at_most, a->cells->n, 1, again_piece, a);
    ptq_session_free(a->session);
    return atomic_load(&a->no_memory) ? ptq_status_nomem(st, "a layer quantized again", 0) : PTQ_OK;
}

int ptq_noise_again(struct ptq_noise *v, const struct ptq_noise_cells *cells,
                    struct ptq_arena *arena, struct ptq_status *st)
{
    struct again a = {.v = v, .cells = cells};
    const int64_t n = ptq_noise_replicates(v), d = v->truth->layer->w.cols;
    bool any = false;
    atomic_init(&a.no_memory, false);
    for (int64_t i = 0; i < cells->n; i++)
        any = any || runs_again(&a, i);
    v->again = ptq_arena_alloc(arena, st, cells->n * n, sizeof *v->again);
    double *hess = any && n ? malloc((size_t)(d * d) * sizeof *hess) : NULL;
    int code = v->again ? PTQ_OK : PTQ_ERR_MEMORY;
    if (any && n && !hess)
        code = ptq_status_nomem(st, "a Hessian", (size_t)(d * d) * sizeof *hess);
    for (; hess && !code && a.replicate < n && !ptq_job_stop(v->job); a.replicate++)
        code = run_replicate(&a, hess, st);
    free(hess);
    return code;
}

/* ---- rows --------------------------------------------------------------------------------------
 */

/* What the numbers depend on beside what the row's own key names. */
static void noise_key(const struct ptq_job *job, const struct ptq_want *w, char out[PTQ_KEY_CHARS])
{
    const struct ptq_config *c = job->cfg;
    char settings[128];
    snprintf(settings, sizeof settings, "%lld %lld %.17g %lld", (long long)c->calib.n_shards,
             (long long)c->noise.resamples, c->noise.perturb,
             (long long)(c->noise.perturb > 0 ? c->noise.repeats : 0));
    ptq_key_of(out, "noise", w->key, settings, (char *)NULL);
}

bool ptq_noise_complete(const struct ptq_job *job, const json_t *row, const struct ptq_entry *e,
                        const struct ptq_want *w)
{
    char key[PTQ_KEY_CHARS];
    if (!ptq_noise_wanted(job) || !e || e->lin < 0)
        return true;
    noise_key(job, w, key);
    return !strcmp(ptq_row_text(json_object_get(row, "noise"), "key"), key);
}

static void put_all(json_t *o, const char *field, const double *x, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, ptq_json_num(x[i]));
    json_object_set_new(o, field, list);
}

static void put_same(json_t *o, const char *field, double x, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, ptq_json_num(x));
    json_object_set_new(o, field, list);
}

static const char heldout_id[] = "out_relerr_heldout";

/* Of log e, from its values without one shard each. */
static void put_interval(json_t *row, double error, const double *less_one, int64_t n)
{
    json_t *v = json_object_get(json_object_get(row, "metrics"), heldout_id);
    double logs[PTQ_MOST_SHARDS];
    for (int64_t k = 0; k < n; k++)
        logs[k] = log(less_one[k]);
    const double half = ptq_t_quantile(.975, (double)(n - 1)) * ptq_jackknife_se(logs, n);
    if (json_is_real(v) && isfinite(half) && error > 0)
        json_object_set_new(json_object_get(row, "intervals"), heldout_id,
                            json_pack("[f,f]", error * exp(-half), error * exp(half)));
}

static int put_scoring(const struct ptq_noise *v, const float *dw, double error, json_t *o,
                       json_t *row, struct ptq_status *st)
{
    double top[PTQ_MOST_SHARDS], less_one[PTQ_MOST_SHARDS];
    const int64_t n = v->heldout->n_shards;
    int rc = n ? ptq_shard_quads(v->heldout, dw, v->truth->layer->w.rows, top, st) : PTQ_OK;
    if (rc || !n)
        return rc;
    ptq_less_one(top, v->w_quads, n, less_one);
    put_all(o, "less_one", less_one, n);
    put_interval(row, error, less_one, n);
    return PTQ_OK;
}

static void put_again(const struct ptq_layer_cell *c, double error, json_t *o)
{
    const struct ptq_noise *v = c->noise;
    const struct ptq_layer *l = v->truth->layer;
    const bool sees = ptq_sees_stats(c->point->spec, &c->point->cell);
    const char *absent = sees ? not_again(c->point, l) : NULL;
    if (!ptq_noise_replicates(v))
        return;
    if (absent) {
        json_object_set_new(o, "absent", json_string(absent));
        return;
    }
    if (!sees)
        json_object_set_new(o, "constant", json_true());
    else if (fixed(c->point, l))
        json_object_set_new(o, "fixed", json_string(fixed(c->point, l)));
    if (v->n_resamples && sees)
        put_all(o, "resampled", c->again, v->n_resamples);
    else if (v->n_resamples)
        put_same(o, "resampled", error, v->n_resamples);
    if (!v->n_perturbed)
        return;
    json_object_set_new(o, "perturb", ptq_json_num(v->job->cfg->noise.perturb));
    if (sees)
        put_all(o, "perturbed", c->again + v->n_resamples, v->n_perturbed);
    else
        put_same(o, "perturbed", error, v->n_perturbed);
}

/* Those of the row before hold for as long as its key does. */
static void keep_noise(const struct ptq_layer_cell *c, json_t *row)
{
    const json_t *before = ptq_store_find(c->job->store, c->want->key);
    json_t *noise = json_object_get(before, "noise"),
           *interval = json_object_get(json_object_get(before, "intervals"), heldout_id);
    if (noise)
        json_object_set(row, "noise", noise);
    if (noise && interval && json_object_get(json_object_get(row, "metrics"), heldout_id))
        json_object_set(json_object_get(row, "intervals"), heldout_id, interval);
}

int ptq_row_add_noise(const struct ptq_layer_cell *c, const struct ptq_result *r, json_t *row,
                      struct ptq_status *st)
{
    char key[PTQ_KEY_CHARS];
    double error = NAN;
    if (!c->noise) {
        keep_noise(c, row);
        return PTQ_OK;
    }
    json_t *o = json_object();
    json_object_set_new(row, "noise", o);
    noise_key(c->job, c->want, key);
    json_object_set_new(o, "key", json_string(key));
    if (r->quant.split.n_cols) {
        json_object_set_new(o, "absent", json_string("no Hessian knows inputs in pieces"));
        return PTQ_OK;
    }
    float *dw = difference(c->noise->truth->layer, r->what, st);
    int rc = dw ? heldout_error(c->noise->truth, dw, c->pool, &error, st) : PTQ_ERR_MEMORY;
    json_object_set_new(o, "error", ptq_json_num(error));
    if (!rc)
        rc = put_scoring(c->noise, dw, error, o, row, st);
    if (!rc)
        put_again(c, error, o);
    free(dw);
    return rc;
}

double ptq_noise_cell_bytes(const struct ptq_job *job, int64_t rows, int64_t cols)
{
    return ptq_noise_wanted(job) ? 8 * ((double)rows + (double)cols) * (double)cols : 0;
}
