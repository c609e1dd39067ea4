#include "analysis/proxies.h"
#include "analysis/strata.h"
#include "core/stat.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

struct work {
    const struct ptq_tables *t;
    struct ptq_proxies *p;
    json_t *coefficient; /* layer -> KL a unit of its w_relerr */
    json_t *few;         /* form -> its short run */
};

/* ---- the models ---- */

/* The codes of an earlier member of the stratum: an option that changed nothing. */
static bool is_copy(const struct ptq_proxies *p, int64_t first, const struct ptq_point *x)
{
    const char *codes = ptq_row_text(x->row, "codes_hash");
    for (int64_t i = first; i < p->study.of.n; i++)
        if (*codes && !strcmp(ptq_row_text(p->cell[i]->row, "codes_hash"), codes))
            return true;
    return false;
}

/* Of three settings a rank correlation is one of four values. */
enum { LEAST_SETTINGS = 4 };

static bool is_fit(const struct ptq_board *d, const struct ptq_point *x)
{
    const int64_t n = ptq_row_n_windows(d->reference);
    return x->row && !x->unranked && n > 1 && ptq_row_same_windows(x->row, d->reference) &&
           isfinite(ptq_row_mean_window(x->row)) && isfinite(ptq_row_mean_window(d->reference));
}

/* What a stratum stores: as rtn does, else the median. */
static double fair_bits(const struct ptq_member *m, int64_t n, double *scratch)
{
    for (int64_t i = 0; i < n; i++) {
        if (!strcmp(ptq_row_text(m[i].first->any, "base"), "rtn"))
            return m[i].combo->bits;
        scratch[i] = m[i].combo->bits;
    }
    ptq_sort_f64(scratch, n);
    return ptq_quantile_sorted(scratch, n, .5);
}

/* A stratum's settings that may be put in order. */
static void add_stratum(struct ptq_proxies *p, const struct ptq_member *m, int64_t n,
                        double *scratch, int64_t *stratum)
{
    const int64_t first = p->study.of.n, at = p->study.of.n_strata;
    const double fair = fair_bits(m, n, scratch);
    for (int64_t i = 0; i < n; i++) {
        int64_t k = 0; /* the first draw that is fit: draws of one setting are no settings */
        while (k < m[i].combo->n && !is_fit(p->d, &m[i].first[k]))
            k++;
        const bool fit = k < m[i].combo->n;
        const struct ptq_point *x = &m[i].first[fit ? k : 0];
        const bool copy = fit && is_copy(p, first, x);
        const bool other =
            ptq_stores_more(x->bits_stored, fair) || ptq_stores_more(fair, x->bits_stored);
        p->n_unfit += !fit;
        p->n_other_bits += fit && other;
        p->n_copies += fit && !other && copy;
        if (!fit || other || copy)
            continue;
        stratum[p->study.of.n] = at;
        p->cell[p->study.of.n++] = x;
    }
    if (p->study.of.n > first)
        p->stratum[p->study.of.n_strata++] = p->cell[first];
}

static int gather(struct work *w)
{
    struct ptq_proxies *p = w->p;
    struct ptq_arena *a = w->t->arena;
    struct ptq_member *m;
    const int64_t most = p->d->n;
    int64_t *stratum = ptq_arena_alloc(a, w->t->st, most, sizeof *stratum);
    double *scratch = ptq_arena_alloc(a, w->t->st, most, sizeof *scratch);
    p->cell = ptq_arena_alloc(a, w->t->st, most, sizeof *p->cell);
    p->stratum = ptq_arena_alloc(a, w->t->st, most, sizeof *p->stratum);
    if (!stratum || !scratch || !p->cell || !p->stratum || ptq_strata(p->d, a, &m, w->t->st))
        return PTQ_ERR_MEMORY;
    p->study.of.stratum = stratum;
    p->study.of.least = LEAST_SETTINGS;
    for (int64_t i = 0, n; i < p->d->n_combos; i += n) {
        for (n = 1; i + n < p->d->n_combos && ptq_same_stratum(&m[i], &m[i + n]); n++)
            ;
        add_stratum(p, &m[i], n, scratch, stratum);
    }
    return PTQ_OK;
}

static int take_windows(struct work *w)
{
    struct ptq_measured *m = &w->p->study.of;
    const int64_t room = ptq_row_n_windows(w->p->d->reference);
    double *dnll = ptq_arena_alloc(w->t->arena, w->t->st, (m->n + 1) * room, sizeof *dnll);
    double *fp = ptq_arena_alloc(w->t->arena, w->t->st, room, sizeof *fp);
    const char **method = ptq_arena_alloc(w->t->arena, w->t->st, m->n, sizeof *method);
    if (!dnll || !fp || !method || (m->n_windows = ptq_row_units(w->p->d->reference, fp)) < 0)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < m->n; i++) {
        double *u = dnll + i * m->n_windows; /* of room values, which the next one overwrites */
        method[i] = ptq_row_text(w->p->cell[i]->any, "base");
        if (ptq_row_units(w->p->cell[i]->row, u) < 0)
            return PTQ_ERR_MEMORY;
        for (int64_t k = 0; k < m->n_windows; k++)
            u[k] -= fp[k];
    }
    m->dnll = dnll;
    m->method = method;
    return PTQ_OK;
}

/* ---- the short runs ---- */

static bool is_run(const struct work *w, const json_t *row, const char *kind)
{
    return !strcmp(ptq_row_text(row, "kind"), kind) && !strcmp(ptq_row_text(row, "status"), "ok") &&
           !strcmp(ptq_row_text(row, "model"), w->p->d->model);
}

static void add_level(json_t *levels, const char *layer, const json_t *run)
{
    const double level = ptq_row_num(run, "level"), kl = ptq_row_num(run, "kl");
    json_t *pair = json_object_get(levels, layer);
    if (!(level > 0) || isnan(kl))
        return;
    if (!pair)
        json_object_set_new(levels, layer, pair = json_array());
    json_t *both = json_pack("[ff]", level, kl / level);
    json_array_append_new(pair, both);
}

static double part(const json_t *levels, size_t i, size_t k)
{
    return json_number_value(json_array_get(json_array_get(levels, i), k));
}

/* A layer's coefficient is the mean over the levels of KL over level. */
static void take_coefficients(struct work *w, json_t *levels)
{
    const char *layer;
    json_t *of;
    double sum = 0;
    int64_t n = 0;
    json_object_foreach(levels, layer, of)
    {
        const size_t n_levels = json_array_size(of);
        double mean = 0;
        size_t lo = 0, hi = 0;
        for (size_t i = 0; i < n_levels; i++) {
            mean += part(of, i, 1) / (double)n_levels;
            lo = part(of, i, 0) < part(of, lo, 0) ? i : lo;
            hi = part(of, i, 0) > part(of, hi, 0) ? i : hi;
        }
        json_object_set_new(w->coefficient, layer, json_real(mean));
        if (lo != hi && part(of, lo, 1) > 0 && part(of, hi, 1) > 0) {
            sum += log(part(of, hi, 1) / part(of, lo, 1));
            n++;
        }
    }
    w->p->linearity = n ? exp(sum / (double)n) : NAN;
}

/* The plan leaves the rows of one setting of the runs, so any of them names it. */
static void name_runs(struct work *w, const json_t *run)
{
    const double n = ptq_row_num(run, "n_windows");
    const char *count =
        n == 1 ? "window" : ptq_arena_printf(w->t->arena, w->t->st, "%.0f windows", n);
    w->p->runs = ptq_arena_printf(w->t->arena, w->t->st, "the first %s of %s (%.0f tokens)",
                                  count ? count : "", ptq_row_text(run, "text"),
                                  ptq_row_num(run, "n_tokens"));
}

static int read_runs(struct work *w)
{
    const struct ptq_rows *rows = &w->t->v->rows;
    json_t *levels = json_object();
    w->coefficient = json_object();
    w->few = json_object();
    if (!levels || !w->coefficient || !w->few)
        return ptq_status_nomem(w->t->st, "short runs", 0);
    for (int64_t i = 0; i < rows->n; i++) {
        json_t *r = rows->at[i], *few = json_object_get(r, "few"),
               *perturbed = json_object_get(r, "perturbed");
        if (is_run(w, r, "few"))
            json_object_set(w->few, ptq_row_text(r, "form"), few);
        if (is_run(w, r, "perturbed"))
            add_level(levels, ptq_row_text(r, "layer"), perturbed);
        if (!w->p->runs && (is_run(w, r, "few") || is_run(w, r, "perturbed")))
            name_runs(w, few ? few : perturbed);
    }
    take_coefficients(w, levels);
    json_decref(levels);
    return PTQ_OK;
}

/* ---- values ---- */

static double geometric(const struct work *w, const struct ptq_point *x, const char *id)
{
    (void)w;
    return ptq_cells_metric(&x->layers, id);
}

static double of_model(const struct work *w, const struct ptq_point *x, const char *id)
{
    (void)w;
    return ptq_row_metric(x->row, id);
}

static double summed(const struct work *w, const struct ptq_point *x, const char *id)
{
    double sum = 0;
    (void)w;
    for (int64_t i = 0; i < x->layers.n; i++)
        sum += ptq_row_metric(x->layers.at[i], id);
    return x->layers.n ? sum : NAN;
}

static double averaged(const struct work *w, const struct ptq_point *x, const char *id)
{
    (void)id;
    return summed(w, x, "out_relerr_heldout") / (double)x->layers.n;
}

/* Noise over signal: |dW|^2 over |W|^2, both of all layers together. */
static double noise_to_signal(const struct work *w, const struct ptq_point *x, const char *id)
{
    double noise = 0, signal = 0;
    (void)w;
    (void)id;
    for (int64_t i = 0; i < x->layers.n; i++) {
        const json_t *r = x->layers.at[i];
        const double dw2 =
            ptq_row_metric(r, "w_mse") * ptq_row_num(r, "rows") * ptq_row_num(r, "cols");
        noise += dw2;
        signal += dw2 / ptq_row_metric(r, "w_relerr");
    }
    return noise / signal;
}

/* Over the layers that have it: q, k and v. */
static double attention(const struct work *w, const struct ptq_point *x, const char *id)
{
    double sum = 0;
    int64_t n = 0;
    (void)w;
    for (int64_t i = 0; i < x->layers.n; i++) {
        const double v = ptq_row_metric(x->layers.at[i], id);
        if (isnan(v))
            continue;
        sum += log(v);
        n++;
    }
    return n ? exp(sum / (double)n) : NAN;
}

/* Output error over weight error of noise that is the same in every weight:
 *   E tr(dW H dW^T) = s^2 rows tr H for dW of variance s^2, w_relerr = s^2 rows cols / |W|^2,
 * all of it from one row: |W|^2 / (rows cols) = w_mse / w_relerr, tr(W H W^T) = proxy_loss /
 * out_relerr. */
static double white_ratio(const json_t *r)
{
    const double w2_mean = ptq_row_metric(r, "w_mse") / ptq_row_metric(r, "w_relerr");
    const double signal = ptq_row_metric(r, "proxy_loss") / ptq_row_metric(r, "out_relerr");
    return w2_mean * ptq_row_num(r, "rows") * ptq_row_sub(r, "health", "trace") / signal;
}

static double coefficient_of(const struct work *w, const json_t *row)
{
    return ptq_row_num(w->coefficient, ptq_row_text(row, "layer"));
}

static double linear_weights(const struct work *w, const struct ptq_point *x, const char *id)
{
    double sum = 0;
    (void)id;
    for (int64_t i = 0; i < x->layers.n; i++)
        sum += coefficient_of(w, x->layers.at[i]) * ptq_row_metric(x->layers.at[i], "w_relerr");
    return x->layers.n ? sum : NAN;
}

static double linear_outputs(const struct work *w, const struct ptq_point *x, const char *id)
{
    double sum = 0;
    (void)id;
    for (int64_t i = 0; i < x->layers.n; i++) {
        const json_t *r = x->layers.at[i];
        sum += coefficient_of(w, r) / white_ratio(r) * ptq_row_metric(r, "out_relerr_heldout");
    }
    return x->layers.n ? sum : NAN;
}

static double few_tokens(const struct work *w, const struct ptq_point *x, const char *id)
{
    const json_t *run = json_object_get(w->few, ptq_row_text(x->row, "form"));
    return ptq_row_num(run, !strcmp(id, "kl_few") ? "kl" : "dnll");
}

static const struct {
    const char *id;
    double (*of)(const struct work *, const struct ptq_point *, const char *id);
    bool in_nats;
    const char *title;
} kinds[] = {
    {"w_relerr", geometric, false, "relative error of the weights, geometric mean over layers"},
    {"w_noise", noise_to_signal, false,
     "noise over signal of all weights together: the inverse of the model's SQNR"},
    {"out_relerr", geometric, false,
     "normalised proxy loss under the calibration Hessian, geometric mean over layers"},
    {"out_relerr_heldout", geometric, false, "the same on text that no method saw"},
    {"out_relerr_heldout_nosink", geometric, false, "the same without attention sinks"},
    {"out_relerr_tok", geometric, false, "the same as a mean over tokens of relative errors"},
    {"out_relerr_mean", averaged, false, "out_relerr_heldout, arithmetic mean over layers"},
    {"proxy_loss", summed, false, "sum over layers of tr(dW H dW^T), not normalised"},
    {"attn_loss", attention, false,
     "attention-aware loss of q, k and v, geometric mean over these layers"},
    {"lin_w", linear_weights, true,
     "sum over layers of a coefficient times w_relerr; coefficients from noise in that layer "
     "alone"},
    {"lin_out", linear_outputs, true,
     "the same with out_relerr_heldout, a coefficient over the output error of its noise"},
    {"dnll_few", few_tokens, true, "difference of NLL on few held-out tokens"},
    {"kl_few", few_tokens, true, "KL to full precision on few held-out tokens"},
    {"kl_mean", of_model, true, "KL to full precision on the evaluation text itself"},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static int measure(struct work *w, int kind, struct ptq_proxy *x)
{
    const struct ptq_proxy_study *s = &w->p->study;
    int64_t n = 0;
    *x = (struct ptq_proxy){
        .id = kinds[kind].id, .title = kinds[kind].title, .in_nats = kinds[kind].in_nats};
    x->value = ptq_arena_alloc(w->t->arena, w->t->st, s->of.n, sizeof *x->value);
    if (!x->value)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < s->of.n; i++) {
        x->value[i] = kinds[kind].of(w, w->p->cell[i], x->id);
        n += isfinite(x->value[i]);
        x->value[i] = isfinite(x->value[i]) ? x->value[i] : NAN;
    }
    return n ? ptq_proxy_fit(s, x->value, w->t->arena, &x->fit, w->t->st) : PTQ_OK;
}

static int measure_all(struct work *w)
{
    struct ptq_proxies *p = w->p;
    p->at = ptq_arena_alloc(w->t->arena, w->t->st, N_KINDS, sizeof *p->at);
    int code = p->at ? read_runs(w) : PTQ_ERR_MEMORY;
    for (int k = 0; k < N_KINDS && !code; k++) {
        code = measure(w, k, &p->at[p->n]);
        p->n += p->at[p->n].fit.n_strata > 0;
    }
    json_decref(w->coefficient);
    json_decref(w->few);
    return code;
}

static const char *why_none(const struct ptq_proxies *p)
{
    if (p->d->by_layers)
        return "no perplexity was measured in this run";
    if (strcmp(p->d->loss_id, "dnll") != 0)
        return "the model gives embeddings and no perplexity";
    if (!ptq_row_n_windows(p->d->reference))
        return "the full-precision model has no row in this run";
    if (!p->study.n_counted)
        return "no stratum (bits, group) has four settings of equal stored bits whose order the "
               "evaluation text tells; sweep more methods";
    return NULL;
}

int ptq_proxies(const struct ptq_tables *t, const struct ptq_board *d, struct ptq_proxies *p)
{
    struct work w = {.t = t, .p = p};
    *p = (struct ptq_proxies){.d = d, .linearity = NAN};
    if (d->by_layers || strcmp(d->loss_id, "dnll") != 0 || !ptq_row_n_windows(d->reference)) {
        p->none = why_none(p);
        return PTQ_OK;
    }
    int code = gather(&w);
    code = code ? code : take_windows(&w);
    code = code ? code : ptq_proxy_study(&p->study.of, t->arena, &p->study, t->st);
    p->none = code ? NULL : why_none(p);
    return code || p->none ? code : measure_all(&w);
}

const struct ptq_proxy *ptq_proxy_find(const struct ptq_proxies *p, const char *id)
{
    for (int64_t i = 0; i < p->n; i++)
        if (!strcmp(p->at[i].id, id))
            return &p->at[i];
    return NULL;
}

/* ---- for readers ---- */

const char *ptq_stratum_text(const struct ptq_tables *t, const struct ptq_point *x)
{
    const int64_t a_bits = ptq_inputs_bits(x);
    const char *group = ptq_group_text(t, x->group);
    const char *inputs =
        a_bits ? ptq_arena_printf(t->arena, t->st, ", inputs of %" PRId64 " bits", a_bits) : "";
    const char *text =
        ptq_arena_printf(t->arena, t->st, "%" PRId64 " bits, %s%s%s", x->bits,
                         x->group > 0 ? "groups of " : "a grid a ", group, inputs ? inputs : "");
    return text ? text : "";
}

const struct ptq_proxies *ptq_proxies_of(const struct ptq_tables *t, const struct ptq_board *d)
{
    return &t->proxies[d - t->v->boards];
}

const char *ptq_proxies_line(const struct ptq_tables *t, const struct ptq_board *d)
{
    static const char *const shown[] = {"out_relerr", "out_relerr_heldout", "w_relerr", "kl_mean"};
    const struct ptq_proxies *p = ptq_proxies_of(t, d);
    const char *text = "", *then = "";
    if (p->none && d->by_layers)
        return NULL; /* nothing stands beside a perplexity */
    if (p->none)
        return ptq_arena_printf(t->arena, t->st,
                                "not judged, so no error of layers here says "
                                "anything about perplexity: %s",
                                p->none);
    for (size_t i = 0; i < sizeof shown / sizeof *shown && text; i++) {
        const struct ptq_proxy *x = ptq_proxy_find(p, shown[i]);
        if (!x)
            continue;
        text =
            ptq_arena_printf(t->arena, t->st, "%s%s%s %.2f [%.2f, %.2f] (pooled %.2f)", text, then,
                             x->id, x->fit.rho, x->fit.rho_lo, x->fit.rho_hi, x->fit.rho_pooled);
        then = ", ";
    }
    return text ? ptq_arena_printf(t->arena, t->st,
                                   "rank correlation with dnll inside %" PRId64
                                   " (bits, group) strata, %" PRId64 " models, intervals over "
                                   "windows alone: %s",
                                   p->study.n_counted, p->study.n_cells, text)
                : NULL;
}
