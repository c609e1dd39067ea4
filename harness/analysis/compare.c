/* compare.c: joining two runs and the verdicts. */
#include "analysis/compare.h"
#include "core/size.h"
#include "core/words.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const ptq_quality_words[] = {"SAME", "IMPROVED", "AMBIGUOUS", "MISSING", "REGRESSED"};

struct ptq_compare_options ptq_compare_defaults(void)
{
    return (struct ptq_compare_options){.alpha = .05,
                                        .power = .9,
                                        .margin = .001,
                                        .mean_tolerance = .01,
                                        .layer_tolerance = .05,
                                        .bits_tolerance = 1e-4};
}

/* ---- the test ----------------------------------------------------------------------------------
 */

static enum ptq_quality judge_one(const struct ptq_judged *j, const struct ptq_compare_options *o)
{
    if (j->change.lo >= -o->margin && j->change.hi <= o->margin)
        return PTQ_SAME;
    if (j->p_holm < o->alpha)
        return j->change.mean > 0 ? PTQ_REGRESSED : PTQ_IMPROVED;
    return PTQ_AMBIGUOUS;
}

/* A setting whose windows are all equal makes no test that could raise an alarm: it is not counted
 * in the family. */
static double member_p(const struct ptq_interval *i)
{
    return i->mean == 0 && i->se == 0 ? NAN : i->p;
}

bool ptq_judge(const double *diff, int64_t n_settings, int64_t n_windows,
               const struct ptq_compare_options *o, struct ptq_judged *out)
{
    double *p = calloc(2 * (size_t)n_settings + 1, sizeof *p), *holm = p ? p + n_settings : NULL;
    int64_t n_tests = 0;
    for (int64_t s = 0; p && s < n_settings; s++) {
        ptq_paired_interval(diff + s * n_windows, n_windows, 1 - o->alpha, &out[s].change);
        p[s] = member_p(&out[s].change);
        n_tests += !isnan(p[s]);
    }
    bool done = p && ptq_holm(p, n_settings, holm);
    for (int64_t s = 0; done && s < n_settings; s++) {
        out[s].p_holm = isnan(p[s]) ? out[s].change.p : holm[s];
        out[s].least_seen = ptq_detectable(out[s].change.se, n_windows,
                                           o->alpha / (double)(n_tests ? n_tests : 1), o->power);
        out[s].quality = judge_one(&out[s], o);
    }
    free(p);
    return done;
}

/* ---- cells -------------------------------------------------------------------------------------
 */

/* What was asked for. Numbers and flags print alike whether JSON holds them as integers or not. */
static const char *const asked_fields[] = {"bits",      "a_bits",          "group_size", "sym",
                                           "grid",      "zero_in_range",   "scale",      "seed",
                                           "precision", "true_sequential", "stats",      NULL};

/* What both sides must share; a field that one side lacks says nothing. The first that differs is
 * named: words and counts before the hashes that follow from them. */
static const char *const shared_fields[] = {
    "model",     "rows",     "cols",      "protocol",    "n_windows", "text",      "rules",
    "calib",     "nsamples", "seqlen",    "calib_draw",  "heldout",   "model_key", "weights_key",
    "given_key", "text_key", "calib_key", "heldout_key", NULL};

struct cell {
    const json_t *row;
    const char *asked; /* setting */
    const char *layer; /* "" for a model's row */
    double seed;
};
struct pair {
    const struct cell *old, *new;
};
struct work {
    const struct ptq_compare_run *old_run, *new_run;
    const struct ptq_compare_options *o;
    struct ptq_arena *arena;
    struct ptq_status *st;
    struct ptq_comparison *out;
    struct cell *old, *new;
    int64_t n_old, n_new;
    struct pair *pairs; /* joined, by setting, models first */
    int64_t n_pairs;
    double *units;   /* scratch: the windows of a row */
    int64_t n_units; /* windows with tokens */
    double *diff;    /* [setting with windows][unit] */
    int64_t n_judged;
};

static const char *field_text(const json_t *row, const char *field, char room[PTQ_FIELD_ROOM])
{
    const char *text = ptq_row_as_text(row, field, room);
    return text ? text : "";
}

static bool is_reference(const json_t *row)
{
    return !strcmp(ptq_row_text(row, "kind"), "reference");
}

static const char *base_of(const json_t *row)
{
    return *ptq_row_text(row, "base") ? ptq_row_text(row, "base") : ptq_row_text(row, "method");
}

const char *ptq_asked_for(const json_t *row, struct ptq_arena *a, struct ptq_status *st)
{
    char room[PTQ_FIELD_ROOM];
    const char *text = is_reference(row) ? "0 full precision"
                                         : ptq_arena_printf(a, st, "1 %s;%s", base_of(row),
                                                            ptq_row_text(row, "options"));
    for (int i = 0; text && asked_fields[i]; i++) {
        const char *v = field_text(row, asked_fields[i], room);
        if (*v)
            text = ptq_arena_printf(a, st, "%s;%s=%s", text, asked_fields[i], v);
    }
    if (text && ptq_row_num(row, "sym") > 0)
        text = ptq_arena_printf(a, st, "%s;%s", text, ptq_row_text(row, "sym_kind"));
    return text;
}

const char *ptq_setting_name(const json_t *row, struct ptq_arena *a, struct ptq_status *st)
{
    char group[32] = "";
    double g = ptq_row_num(row, "group_size"), bits = ptq_row_num(row, "bits"),
           a_bits = ptq_row_num(row, "a_bits");
    const char *label =
        *ptq_row_text(row, "label") ? ptq_row_text(row, "label") : ptq_row_text(row, "method");
    if (is_reference(row))
        return "full precision";
    if (isfinite(g))
        snprintf(group, sizeof group, g == -1 ? " row" : g == 0 ? " tensor" : " g%.0f", g);
    char *name = ptq_arena_printf(a, st, "%.200s", label);
    if (name && isfinite(bits))
        name = ptq_arena_printf(a, st, "%s b%g%s", name, bits, group);
    if (name && a_bits > 0 && a_bits < 16)
        name = ptq_arena_printf(a, st, "%s a%g", name, a_bits);
    if (name && ptq_row_num(row, "sym") > 0)
        name = ptq_arena_printf(a, st, "%s sym=%.20s", name, ptq_row_text(row, "sym_kind"));
    static const char *const usual[][2] = {
        {"grid", "minmax"}, {"scale", "f16"}, {"precision", "single"}, {"stats", "fp"}};
    for (size_t i = 0; name && i < sizeof usual / sizeof *usual; i++) {
        const char *v = ptq_row_text(row, usual[i][0]);
        if (*v && strcmp(v, usual[i][1]) != 0 && strcmp(v, "given") != 0)
            name = ptq_arena_printf(a, st, "%s %.40s", name, v);
    }
    for (char *c = name; c && *c; c++)
        *c = (unsigned char)*c < ' ' || *c == 127 ? '?' : *c;
    return name;
}

static int order_cells(const void *pa, const void *pb)
{
    const struct cell *a = pa, *b = pb;
    int asked = strcmp(a->asked, b->asked);
    if (asked)
        return asked;
    int layer = strcmp(a->layer, b->layer);
    if (layer)
        return layer;
    return (a->seed > b->seed) - (a->seed < b->seed);
}

static int make_cells(struct work *w, const struct ptq_rows *rows, struct cell **out, int64_t *n)
{
    *n = 0;
    *out = ptq_arena_alloc(w->arena, w->st, rows->n + 1, sizeof **out);
    for (int64_t i = 0; *out && i < rows->n; i++) {
        const json_t *row = rows->at[i];
        double seed = ptq_row_num(row, "calib_seed");
        struct cell c = {row, ptq_asked_for(row, w->arena, w->st), ptq_row_text(row, "layer"),
                         isfinite(seed) ? seed : 0};
        if (!c.asked)
            return PTQ_ERR_MEMORY;
        (*out)[(*n)++] = c;
    }
    if (!*out)
        return PTQ_ERR_MEMORY;
    qsort(*out, (size_t)*n, sizeof **out, order_cells);
    return PTQ_OK;
}

/* ---- joining -----------------------------------------------------------------------------------
 */

static void remark(struct work *w, const char *text)
{
    struct ptq_comparison *c = w->out;
    for (int i = 0; text && i < c->n_remarks; i++)
        if (!strcmp(c->remarks[i], text))
            return;
    if (text && c->n_remarks < (int)(sizeof c->remarks / sizeof *c->remarks))
        c->remarks[c->n_remarks++] = text;
}

/* The first shared field that differs, or NULL. */
static const char *differs(const json_t *a, const json_t *b)
{
    char x[PTQ_FIELD_ROOM], y[PTQ_FIELD_ROOM];
    for (int i = 0; shared_fields[i]; i++) {
        const char *u = field_text(a, shared_fields[i], x), *v = field_text(b, shared_fields[i], y);
        if (*u && *v && strcmp(u, v) != 0)
            return shared_fields[i];
    }
    return NULL;
}

static bool finished(const json_t *row)
{
    const char *status = ptq_row_text(row, "status");
    return !*status || !strcmp(status, "ok");
}

static const struct cell *first_like(const struct work *w, const struct cell *c)
{
    int64_t lo = 0, hi = w->n_new;
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (order_cells(&w->new[mid], c) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < w->n_new && !order_cells(&w->new[lo], c) ? &w->new[lo] : NULL;
}

static int not_comparable(struct work *w, const char *what)
{
    if (!what)
        return PTQ_ERR_MEMORY;
    w->out->comparable = false;
    w->out->exit_code = 3;
    w->out->why = what;
    return PTQ_OK;
}

static int tell_difference(struct work *w, const json_t *a, const json_t *b, const char *field)
{
    char x[PTQ_FIELD_ROOM], y[PTQ_FIELD_ROOM], p[PTQ_PRINTABLE], q[PTQ_PRINTABLE], r[PTQ_PRINTABLE];
    const char *name = ptq_setting_name(b, w->arena, w->st);
    if (!name)
        return PTQ_ERR_MEMORY;
    ptq_printable(field_text(a, field, x), p);
    ptq_printable(field_text(b, field, y), q);
    ptq_printable(ptq_row_text(b, "layer"), r);
    return not_comparable(w, ptq_arena_printf(w->arena, w->st,
                                              "%s%s%s: %s is '%s' in %s and '%s' in %s; run both "
                                              "under the same protocol, texts and model",
                                              name, *r ? " " : "", r, field, p, w->out->old_name, q,
                                              w->out->new_name));
}

/* The row of NEW that speaks of the same data, or NULL; *field: what differs in the only ones there
 * are. */
static const struct cell *partner(const struct work *w, const struct cell *c, const char **field,
                                  const struct cell **other)
{
    const struct cell *n = first_like(w, c);
    *field = NULL;
    *other = n;
    for (; n && n < w->new + w->n_new && !order_cells(n, c); n++) {
        const char *d = differs(c->row, n->row);
        if (!d)
            return n;
        *field = d;
    }
    return NULL;
}

static int join(struct work *w)
{
    w->pairs = ptq_arena_alloc(w->arena, w->st, w->n_old + 1, sizeof *w->pairs);
    if (!w->pairs)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < w->n_old; i++) {
        const char *field;
        const struct cell *other, *c = &w->old[i], *n = partner(w, c, &field, &other);
        if (field && !n)
            return tell_difference(w, c->row, other->row, field);
        if (finished(c->row)) /* what failed before cannot have become worse */
            w->pairs[w->n_pairs++] = (struct pair){c, n};
    }
    bool any = false;
    for (int64_t i = 0; i < w->n_pairs; i++)
        any |= w->pairs[i].new && !is_reference(w->pairs[i].old->row);
    return any ? PTQ_OK
               : not_comparable(w, "the two runs have no cell in common: other methods, options, "
                                   "bits, groups, layers or calibration seeds");
}

static void count_added(struct work *w)
{
    for (int64_t i = 0; i < w->n_new; i++) {
        if (i && !strcmp(w->new[i].asked, w->new[i - 1].asked))
            continue;
        bool known = false;
        for (int64_t k = 0; k < w->n_old && !known; k++)
            known = !strcmp(w->old[k].asked, w->new[i].asked);
        w->out->n_added += !known;
    }
}

/* ---- one setting -------------------------------------------------------------------------------
 */

struct group { /* pairs[first, end) of one setting */
    struct ptq_compared *c;
    const struct pair *first, *end;
};

static bool is_model(const struct pair *p)
{
    return !*p->old->layer;
}

static void count_bits(struct group *g)
{
    for (const struct pair *p = g->first; p < g->end; p++) {
        g->c->n_cells++;
        if (!p->new)
            continue;
        const char *a = ptq_row_text(p->old->row, "codes_hash"),
                   *b = ptq_row_text(p->new->row, "codes_hash");
        g->c->n_hashed += *a && *b;
        g->c->n_changed += *a && *b && strcmp(a, b) != 0;
    }
}

/* A number that OLD has and NEW has not, of those that are compared: no agreement. NULL: none. */
static const char *lost_number(const struct group *g, const struct pair *p)
{
    const char *const ids[][2] = {
        {"bits_stored", "bits_stored is no number in NEW"},
        {is_model(p) ? "embed_dcos" : g->c->layers.metric, "its error is no number in NEW"}};
    for (int i = 0; i < 2 && p->new &&finished(p->old->row) && finished(p->new->row); i++)
        if (ids[i][0] && isfinite(ptq_row_metric(p->old->row, ids[i][0])) &&
            !isfinite(ptq_row_metric(p->new->row, ids[i][0])))
            return ids[i][1];
    return NULL;
}

static void miss(struct work *w, struct group *g)
{
    const struct pair *first = NULL;
    int64_t n = 0;
    const char *lost = NULL;
    for (const struct pair *p = g->first; p < g->end; p++) {
        const char *number = lost_number(g, p);
        bool gone = !p->new || (finished(p->old->row) && !finished(p->new->row)) || number;
        lost = gone && !first ? number : lost;
        first = gone && !first ? p : first;
        n += gone;
    }
    if (!first)
        return;
    char layer[PTQ_PRINTABLE], reason[PTQ_PRINTABLE];
    ptq_printable(*first->old->layer ? first->old->layer : "the model", layer);
    ptq_printable(!first->new ? "no such row"
                  : lost      ? lost
                              : ptq_row_text(first->new->row, "reason"),
                  reason);
    if (g->c->quality != PTQ_REGRESSED) /* what is known to be worse comes first */
        g->c->quality = PTQ_MISSING;
    g->c->reason = ptq_arena_printf(w->arena, w->st, "%lld of %lld cells are not there: %s: %s",
                                    (long long)n, (long long)(g->end - g->first), layer, reason);
}

static bool both_done(const struct pair *p)
{
    return p->new &&finished(p->old->row) && finished(p->new->row);
}

static double stored_bits(const struct group *g, bool new)
{
    double sum = 0, weights = 0;
    bool model = is_model(g->first);
    for (const struct pair *p = g->first; p < g->end; p++) {
        const json_t *row = !both_done(p) ? NULL : new ? p->new->row : p->old->row;
        double size = model ? 1 : ptq_row_num(row, "rows") * ptq_row_num(row, "cols");
        if (!row || (model && !is_model(p)))
            continue;
        sum += size * ptq_row_metric(row, "bits_stored");
        weights += size;
    }
    return weights > 0 ? sum / weights : NAN;
}

/* ---- layers */

static const char *const layer_metrics[] = {"out_relerr_heldout", "out_relerr", "w_relerr", NULL};

/* A row that goes by its error: of a layer, or of an encoder, which has no windows' NLL. */
static bool goes_by_error(const struct pair *p)
{
    return both_done(p) && (!is_model(p) || isfinite(ptq_row_metric(p->old->row, "embed_dcos")));
}

static double error_ratio(const struct pair *p, const char *metric)
{
    double a = ptq_row_metric(p->old->row, metric), b = ptq_row_metric(p->new->row, metric);
    return a == b ? 1 : a > 0 && b > 0 ? b / a : a == 0 && b > 0 ? INFINITY : b == 0 ? 0 : NAN;
}

/* The first metric that OLD has of every layer: what NEW lacks of it is missing. */
static const char *common_metric(const struct group *g)
{
    for (int i = 0; layer_metrics[i]; i++) {
        bool all = true;
        for (const struct pair *p = g->first; p < g->end && all; p++)
            all = !goes_by_error(p) || is_model(p) ||
                  isfinite(ptq_row_metric(p->old->row, layer_metrics[i]));
        if (all)
            return layer_metrics[i];
    }
    return NULL;
}

static const char *layer_name(const struct pair *p)
{
    return is_model(p) ? "the model" : p->old->layer;
}

static enum ptq_quality judge_layers(const struct ptq_compared_layers *l,
                                     const struct ptq_compare_options *o)
{
    if (l->n_worse || l->mean > 1 + o->mean_tolerance)
        return PTQ_REGRESSED;
    if (isnan(l->mean)) /* an error below 0 */
        return PTQ_AMBIGUOUS;
    if (l->n_better || l->mean < 1 / (1 + o->mean_tolerance))
        return PTQ_IMPROVED;
    return PTQ_SAME;
}

static void compare_layers(const struct work *w, struct group *g)
{
    struct ptq_compared_layers *l = &g->c->layers;
    double sum = 0;
    int64_t n_finite = 0;
    bool no_number = false;
    const double most = 1 + w->o->layer_tolerance;
    *l = (struct ptq_compared_layers){.mean = NAN, .metric = common_metric(g)};
    for (const struct pair *p = g->first; l->metric && p < g->end; p++) {
        if (!goes_by_error(p) || lost_number(g, p))
            continue;
        double ratio = error_ratio(p, is_model(p) ? "embed_dcos" : l->metric);
        l->n++;
        l->n_worse += ratio > most;
        l->n_better += ratio < 1 / most;
        if (ratio > 0 && isfinite(ratio)) { /* from or to no error: they count as layers */
            sum += log(ratio);
            n_finite++;
        }
        no_number = no_number || isnan(ratio);
        if (l->n == 1 || ratio > l->worst) {
            l->worst = ratio;
            l->worst_name = layer_name(p);
        }
        if (l->n == 1 || ratio < l->best) {
            l->best = ratio;
            l->best_name = layer_name(p);
        }
    }
    if (l->n) {
        l->mean = no_number ? NAN : exp(sum / fmax((double)n_finite, 1));
        l->quality = judge_layers(l, w->o);
    }
}

/* ---- windows */

static int broken_row(struct work *w, const struct pair *p, enum ptq_code code, bool new,
                      const char *what)
{
    const char *name = ptq_setting_name(p->old->row, w->arena, w->st);
    return ptq_status_set(w->st, code, "%s: %s: %s; make the run again",
                          new ? w->out->new_name : w->out->old_name, name ? name : "a row", what);
}

/* Adds sign / n times the windows of a row. */
static int add_windows(struct work *w, const struct pair *p, bool new, double share, double *sum)
{
    const json_t *row = new ? p->new->row : p->old->row,
                 *list = json_object_get(row, "nll_windows");
    if ((int64_t)json_array_size(list) != w->out->n_windows ||
        ptq_row_num(row, "n_windows") != (double)w->out->n_windows)
        return broken_row(w, p, PTQ_ERR_USAGE, new,
                          "nll_windows has not n_windows values, or another number than the other "
                          "rows (one file holds one protocol)");
    if (!ptq_row_same_windows(p->old->row, p->new->row))
        return broken_row(w, p, PTQ_ERR_USAGE, new,
                          "window_tokens are not those of the other run's row");
    const int64_t n = ptq_row_units(row, w->units);
    if (n < 0)
        return ptq_status_nomem(w->st, "windows", 0);
    w->n_units = w->n_units ? w->n_units : n;
    if (n != w->n_units)
        return broken_row(w, p, PTQ_ERR_USAGE, new, "window_tokens are not those of other rows");
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(w->units[i]))
            return broken_row(w, p, PTQ_ERR_NUMERIC, new, "the loss of a window is not a number");
        sum[i] += share * w->units[i];
    }
    return PTQ_OK;
}

/* A side without them is no reason to pass them over: add_windows says which. */
static bool has_windows(const struct pair *p)
{
    return both_done(p) && is_model(p) &&
           (json_object_get(p->old->row, "nll_windows") ||
            json_object_get(p->new->row, "nll_windows"));
}

static int window_differences(struct work *w, struct group *g, double *diff)
{
    int64_t n = 0;
    int code = PTQ_OK;
    for (const struct pair *p = g->first; p < g->end; p++)
        n += has_windows(p);
    for (const struct pair *p = g->first; !code && p < g->end; p++) {
        if (!has_windows(p))
            continue;
        code = add_windows(w, p, true, 1 / (double)n, diff);
        code = code ? code : add_windows(w, p, false, -1 / (double)n, diff);
    }
    g->c->has_windows = n > 0;
    return code;
}

/* ---- calibration seeds */

/* Loss of a seed: the model's NLL, or the mean logarithm of its layers' errors. */
static bool seed_loss(const struct group *g, double seed, double *old, double *new)
{
    int64_t n = 0;
    *old = *new = 0;
    for (const struct pair *p = g->first; p < g->end; p++) {
        if (!both_done(p) || p->old->seed != seed || is_model(p) != g->c->has_windows)
            continue;
        n++;
        if (is_model(p)) {
            *old += ptq_row_mean_window(p->old->row);
            *new += ptq_row_mean_window(p->new->row);
        } else if (g->c->layers.metric) {
            *old += log(ptq_row_metric(p->old->row, g->c->layers.metric));
            *new += log(ptq_row_metric(p->new->row, g->c->layers.metric));
        }
    }
    *old /= (double)n;
    *new /= (double)n;
    return n > 0;
}

/* Two samples of n draws, equal variances: does the mean move by more than draws do? */
static int compare_seeds(struct work *w, struct group *g)
{
    struct ptq_compared_seeds *s = &g->c->seeds;
    const int64_t most = g->end - g->first;
    double *old = ptq_arena_alloc(w->arena, w->st, 3 * most, sizeof *old);
    if (!old)
        return PTQ_ERR_MEMORY;
    double *new = old + most, *seen = new + most;
    for (const struct pair *p = g->first; p < g->end; p++) {
        bool known = false;
        for (int64_t i = 0; i < s->n && !known; i++)
            known = seen[i] == p->old->seed;
        if (!known && seed_loss(g, p->old->seed, &old[s->n], &new[s->n]))
            seen[s->n++] = p->old->seed;
    }
    g->c->loss_old = ptq_mean(old, s->n);
    g->c->loss_new = ptq_mean(new, s->n);
    s->change = g->c->loss_new - g->c->loss_old;
    s->spread = NAN;
    if (s->n < 2)
        return PTQ_OK;
    s->spread = sqrt((pow(ptq_stddev(old, s->n), 2) + pow(ptq_stddev(new, s->n), 2)) / 2);
    double t = ptq_t_quantile(1 - w->o->alpha / 2, (double)(2 * s->n - 2));
    s->beyond = fabs(s->change) > t * s->spread * sqrt(2 / (double)s->n);
    return PTQ_OK;
}

/* ---- the verdict of a setting */

/* Windows decide; where they find nothing, the layers' errors do. */
static void combine(struct group *g)
{
    struct ptq_compared *c = g->c;
    bool layers_say = c->layers.n && c->layers.quality != PTQ_SAME;
    enum ptq_quality model = c->has_windows ? c->model.quality : PTQ_SAME;
    c->quality = model == PTQ_REGRESSED || model == PTQ_IMPROVED ? model
                 : layers_say                                    ? c->layers.quality
                                                                 : model;
    if (layers_say && c->quality != model)
        c->reason = "by the errors of its layers";
    if (!c->has_windows && !c->layers.n && !is_reference(g->first->old->row)) {
        c->quality = PTQ_AMBIGUOUS;
        c->reason = "its rows have no windows and no errors in common";
    }
}

static void weigh_bits(struct group *g, const struct ptq_compare_options *o)
{
    struct ptq_compared *c = g->c;
    double more = c->bits_new - c->bits_old;
    if (more > o->bits_tolerance && c->quality == PTQ_IMPROVED) {
        c->quality = PTQ_AMBIGUOUS;
        c->reason = "better, for more stored bits";
    } else if (more > o->bits_tolerance && c->quality == PTQ_SAME) {
        c->quality = PTQ_REGRESSED;
        c->reason = "more stored bits, and no better";
    } else if (more < -o->bits_tolerance && c->quality == PTQ_SAME) {
        c->quality = PTQ_IMPROVED;
        c->reason = "as good, with fewer stored bits";
    }
}

/* ---- all settings ------------------------------------------------------------------------------
 */

static int64_t group_pairs(struct work *w, struct group *groups)
{
    int64_t n = 0;
    for (int64_t i = 0, k; i < w->n_pairs; i = k, n++) {
        for (k = i + 1; k < w->n_pairs; k++)
            if (strcmp(w->pairs[k].old->asked, w->pairs[i].old->asked) != 0)
                break;
        groups[n] = (struct group){&w->out->at[n], w->pairs + i, w->pairs + k};
    }
    return n;
}

static int fill_setting(struct work *w, struct group *g)
{
    struct ptq_compared *c = g->c;
    *c = (struct ptq_compared){.reason = ""};
    c->name = ptq_setting_name(g->first->old->row, w->arena, w->st);
    if (!c->name)
        return PTQ_ERR_MEMORY;
    count_bits(g);
    c->bits_old = stored_bits(g, false);
    c->bits_new = stored_bits(g, true);
    compare_layers(w, g);
    return PTQ_OK;
}

/* The number of windows is that of the first row with any; add_windows holds the others to it. */
static int64_t count_windows(const struct work *w)
{
    for (int64_t i = 0; i < w->n_pairs; i++) {
        const json_t *list = json_object_get(w->pairs[i].old->row, "nll_windows");
        if (w->pairs[i].new &&json_array_size(list))
            return (int64_t)json_array_size(list);
    }
    return 0;
}

static int judge_models(struct work *w, struct group *groups, int64_t n)
{
    int64_t size, k = 0;
    int code = PTQ_OK;
    w->out->n_windows = count_windows(w);
    if (!ptq_size_mul(n + 1, w->out->n_windows, &size))
        return ptq_status_nomem(w->st, "windows", 0);
    w->diff = ptq_arena_alloc(w->arena, w->st, size + 1, sizeof *w->diff);
    w->units = ptq_arena_alloc(w->arena, w->st, w->out->n_windows, sizeof *w->units);
    struct ptq_judged *judged = ptq_arena_alloc(w->arena, w->st, n + 1, sizeof *judged);
    if (!w->diff || !w->units || !judged)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; !code && i < n; i++) {
        code = window_differences(w, &groups[i], w->diff + k * w->n_units);
        k += groups[i].c->has_windows;
    }
    if (!code && !ptq_judge(w->diff, k, w->n_units, w->o, judged))
        code = ptq_status_nomem(w->st, "verdicts", 0);
    k = 0;
    for (int64_t i = 0; !code && i < n; i++)
        if (groups[i].c->has_windows)
            groups[i].c->model = judged[k++];
    return code;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

static void sum_up(struct work *w)
{
    struct ptq_comparison *c = w->out;
    int64_t n[PTQ_REGRESSED + 1] = {0}, changed = 0;
    for (int64_t i = 0; i < c->n; i++) {
        n[c->at[i].quality]++;
        changed += c->at[i].n_changed > 0;
        c->quality = c->at[i].quality > c->quality ? c->at[i].quality : c->quality;
    }
    c->bits_changed = changed > 0;
    static const int exits[] = {0, 0, 7, 6, 1};
    c->exit_code = exits[c->quality];
    bool stale = c->quality == PTQ_IMPROVED || (c->quality == PTQ_SAME && c->bits_changed);
    if (stale && w->o->strict)
        c->exit_code = 4;
    static const char *const advice[] = {
        "nothing to do", "keep it: ptq baseline update",
        "more windows would tell ([eval] windows), or a wider --margin",
        "finish the run, or take the cells out of the baseline: ptq baseline update",
        "find the layer: ptq bisect; or accept it: ptq baseline update"};
    c->why = ptq_arena_printf(
        w->arena, w->st,
        "%s: %lld of %lld settings regressed, %lld improved, %lld ambiguous, %lld missing; "
        "bits %s; %s",
        ptq_quality_words[c->quality], (long long)n[PTQ_REGRESSED], (long long)c->n,
        (long long)n[PTQ_IMPROVED], (long long)n[PTQ_AMBIGUOUS], (long long)n[PTQ_MISSING],
        changed ? "CHANGED" : "SAME",
        stale && c->quality == PTQ_SAME ? "as good with other bits: ptq baseline update keeps them"
                                        : advice[c->quality]);
}

static const char *host_words(const struct ptq_rows *rows, const char *field)
{
    return rows->n ? ptq_row_text(json_object_get(rows->at[0], "host"), field) : "";
}

static void add_remarks(struct work *w)
{
    const struct ptq_rows *a = &w->old_run->rows, *b = &w->new_run->rows;
    const char *isa = host_words(a, "isa"), *isb = host_words(b, "isa");
    if (*isa && *isb &&
        (strcmp(isa, isb) != 0 ||
         strcmp(host_words(a, "blas_core"), host_words(b, "blas_core")) != 0))
        remark(w,
               ptq_arena_printf(w->arena, w->st,
                                "arithmetic differs (%.20s/%.20s and %.20s/%.20s): bits may "
                                "differ for that alone; --portable is the same everywhere",
                                isa, host_words(a, "blas_core"), isb, host_words(b, "blas_core")));
    if (a->n_torn || b->n_torn)
        remark(w, ptq_arena_printf(w->arena, w->st, "%s: the last line is torn and was left out",
                                   a->n_torn ? w->out->old_name : w->out->new_name));
    static const char *const keys[] = {"model_key", "calib_key"};
    for (int64_t i = 0; i < w->n_pairs; i++)
        for (size_t k = 0; k < 2; k++) {
            const struct pair *p = &w->pairs[i];
            bool x = p->new &&*ptq_row_text(p->old->row, keys[k]),
                 y = p->new &&*ptq_row_text(p->new->row, keys[k]);
            if (x != y)
                remark(w, ptq_arena_printf(w->arena, w->st,
                                           "%s holds no %s: that both have the same is not known",
                                           x ? w->out->new_name : w->out->old_name, keys[k]));
        }
    if (w->out->n_added)
        remark(w, ptq_arena_printf(w->arena, w->st,
                                   "%lld settings are in %s alone and were not compared",
                                   (long long)w->out->n_added, w->out->new_name));
    remark(w, "times are of one run a side and are not compared (--old-times, --new-times)");
}

static int settings(struct work *w)
{
    struct ptq_comparison *c = w->out;
    struct group *groups = ptq_arena_alloc(w->arena, w->st, w->n_pairs + 1, sizeof *groups);
    c->at = ptq_arena_alloc(w->arena, w->st, w->n_pairs + 1, sizeof *c->at);
    if (!groups || !c->at)
        return PTQ_ERR_MEMORY;
    c->n = group_pairs(w, groups);
    int code = PTQ_OK;
    for (int64_t i = 0; !code && i < c->n; i++)
        code = fill_setting(w, &groups[i]);
    code = code ? code : judge_models(w, groups, c->n);
    for (int64_t i = 0; !code && i < c->n; i++) {
        code = compare_seeds(w, &groups[i]);
        combine(&groups[i]);
        weigh_bits(&groups[i], w->o);
        miss(w, &groups[i]);
    }
    return code;
}

int ptq_compare(const struct ptq_compare_run *old, const struct ptq_compare_run *new,
                const struct ptq_compare_options *o, struct ptq_arena *arena,
                struct ptq_comparison *out, struct ptq_status *st)
{
    struct work w = {.old_run = old, .new_run = new, .o = o, .arena = arena, .st = st, .out = out};
    *out =
        (struct ptq_comparison){.old_name = old->name, .new_name = new->name, .comparable = true};
    double schema = old->rows.other_schema != 0 ? old->rows.other_schema : new->rows.other_schema;
    if (schema != 0)
        return not_comparable(
            &w, ptq_arena_printf(arena, st, "%s holds rows of schema %g, this program writes %d",
                                 old->rows.other_schema != 0 ? old->name : new->name, schema,
                                 (int)PTQ_ROW_SCHEMA));
    int code = make_cells(&w, &old->rows, &w.old, &w.n_old);
    code = code ? code : make_cells(&w, &new->rows, &w.new, &w.n_new);
    code = code ? code : join(&w);
    if (code || !out->comparable)
        return code;
    count_added(&w);
    code = settings(&w);
    if (!code) {
        sum_up(&w);
        add_remarks(&w);
    }
    return code;
}
