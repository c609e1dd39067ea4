/* table_noise.c: how much of a layer error is chance (sweep/noise.h), and which methods of one
 * (bits, group) differ by more. Shards and halves are those of the texts, the same for all layers
 * and methods: means over layers and differences of methods are taken replicate by replicate. */
#include "analysis/noise.h"
#include "analysis/strata.h"
#include "core/stat.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char ptq_about_noise[] =
    "What is chance in the geometric mean of the layers' held-out errors, as standard deviations "
    "of its log, from shards of the texts ([calib] shards, [noise]). Scoring: jackknife over "
    "held-out shards. Calibration: the method run again on complementary halves of the calibration "
    "shards, each scored on the whole held-out text. A quarter of the squared difference of a "
    "pair's halves, in the mean over pairs, is to first order the variance at all tokens; the "
    "variance of the pairs' means, which curvature makes, is added. From 8 halves that figure is "
    "itself good to a third ([noise] resamples). The halves' mean over the result on all tokens is "
    "what half the tokens cost. Arithmetic: the method run again on Hessians moved by [noise] "
    "perturb of themselves. ±: scoring and calibration together. Beaten by: lower at the same bits "
    "and group by more than 95 % of the noise of the difference, taken replicate by replicate, "
    "each "
    "pair by itself; level with: not told apart. Pairs that differ over 5 % in stored bits are not "
    "compared. -: none, or not known: layers on which a method was not run again are left out, and "
    "a method that was not on any has no interval.";

enum kind { SCORING, CALIBRATION, ARITHMETIC, N_KINDS };
static const char *const fields[N_KINDS] = {"less_one", "resampled", "perturbed"};

struct cell { /* a layer: logs of errors */
    const json_t *row;
    double whole, *x[N_KINDS];
    int64_t n[N_KINDS]; /* 0: absent, or one is not a number above 0 */
    bool unknown;       /* its method was not run again, or failed there */
};
struct side { /* a setting in a block of equal bits, group and inputs */
    struct ptq_member m;
    const struct ptq_point *point; /* the draw that holds noise */
    struct cell *cells;
    int64_t n;
    bool known;    /* of a layer at least: then those that are not are left out */
    bool constant; /* its method sees no statistics: no draw is another */
};
struct measure { /* of a mean over layers, of one setting or of the difference of two */
    int64_t n_layers;
    double mean, shift; /* shift: mean over halves less the mean */
    double variance[N_KINDS], half;
    double lo, hi;
};
struct noise {
    const struct ptq_tables *t;
    const struct ptq_board *d;
    struct side *at;
    int64_t n;
};

/* ---- replicates --------------------------------------------------------------------------------
 */

/* log of a list of positive numbers; false: there are none, or one is no such number. */
static bool logs_of(const json_t *list, double *to)
{
    const size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++) {
        to[i] = log(json_number_value(json_array_get(list, i)));
        if (!json_is_number(json_array_get(list, i)) || !isfinite(to[i]))
            return false;
    }
    return n > 1;
}

static int read_cell(const struct ptq_tables *t, const json_t *row, struct cell *c)
{
    const json_t *noise = json_object_get(row, "noise");
    *c = (struct cell){.row = row,
                       .whole = log(ptq_row_sub(row, "noise", "error")),
                       .unknown = json_object_get(noise, "absent") != NULL};
    for (int k = 0; k < N_KINDS; k++) {
        const json_t *list = json_object_get(noise, fields[k]);
        const int64_t n = (int64_t)json_array_size(list);
        c->x[k] = ptq_arena_alloc(t->arena, t->st, n, sizeof *c->x[k]);
        if (!c->x[k])
            return PTQ_ERR_MEMORY;
        c->n[k] = logs_of(list, c->x[k]) ? n : 0;
        c->unknown = c->unknown || (n && !c->n[k]);
    }
    return PTQ_OK;
}

static int read_side(const struct ptq_tables *t, struct side *s)
{
    const struct ptq_cells *layers = &s->point->layers;
    s->cells = ptq_arena_alloc(t->arena, t->st, layers->n, sizeof *s->cells);
    int code = s->cells ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < layers->n && !code; i++) {
        struct cell *c = &s->cells[s->n];
        code = read_cell(t, layers->at[i], c);
        s->n += isfinite(c->whole);
        s->known = s->known || (isfinite(c->whole) && !c->unknown);
        s->constant = s->constant ||
                      json_is_true(json_object_get(json_object_get(c->row, "noise"), "constant"));
    }
    return code;
}

/* ---- numbers -----------------------------------------------------------------------------------
 */

struct pair { /* layers of a, and of b where there is one: of difference */
    const struct cell *const *a, *const *b;
    int64_t n;
};

/* As many replicates in every layer; else 0. */
static int64_t replicates(const struct pair *p, int k)
{
    const int64_t n = p->n ? p->a[0]->n[k] : 0;
    for (int64_t i = 0; i < p->n; i++)
        if (p->a[i]->n[k] != n || (p->b && p->b[i]->n[k] != n))
            return 0;
    return n;
}

static double mean_of(const struct pair *p, int k, int64_t r)
{
    double sum = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const struct cell *a = p->a[i], *b = p->b ? p->b[i] : NULL;
        const double x = k < 0 ? a->whole : a->x[k][r], y = !b ? 0 : k < 0 ? b->whole : b->x[k][r];
        sum += x - y;
    }
    return sum / (double)p->n;
}

/* Of complementary halves r and r + 1: what is linear in the Hessian is the odd part, whose mean
 * square is the variance over texts of the whole length; the even part adds its own about its
 * mean, which is what half the tokens cost. */
static double variance_of_halves(const double *x, int64_t n)
{
    double odd = 0, mean = 0, even = 0;
    const int64_t pairs = n / 2;
    for (int64_t r = 0; r < pairs; r++) {
        odd += (x[2 * r] - x[2 * r + 1]) * (x[2 * r] - x[2 * r + 1]) / 4;
        mean += (x[2 * r] + x[2 * r + 1]) / 2;
    }
    for (int64_t r = 0; r < pairs; r++) {
        const double e = (x[2 * r] + x[2 * r + 1]) / 2 - mean / (double)pairs;
        even += e * e;
    }
    return pairs > 1 ? odd / (double)pairs + even / (double)(pairs - 1) : NAN;
}

static int measure_kind(const struct ptq_tables *t, const struct pair *p, int k, struct measure *m,
                        double *freedom)
{
    const int64_t n = replicates(p, k);
    double *x = malloc((size_t)n * sizeof *x + 1); /* of every pair and layer: not in the arena */
    m->variance[k] = NAN;
    if (!x)
        return ptq_status_nomem(t->st, "replicates", (size_t)n * sizeof *x);
    if (!n) {
        free(x);
        return PTQ_OK;
    }
    for (int64_t r = 0; r < n; r++)
        x[r] = mean_of(p, k, r) - m->mean; /* exactly 0 where nothing moves */
    if (k == CALIBRATION) {
        m->variance[k] = variance_of_halves(x, n);
        m->shift = ptq_mean(x, n);
    } else {
        const double s = k == SCORING ? ptq_jackknife_se(x, n) : ptq_stddev(x, n);
        m->variance[k] = s * s;
    }
    /* Of complementary halves one tells what is linear in the other. */
    *freedom = k == CALIBRATION ? (double)n / 2 : (double)(n - 1);
    free(x);
    return PTQ_OK;
}

static bool any_unknown(const struct pair *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->a[i]->unknown || (p->b && p->b[i]->unknown))
            return true;
    return false;
}

/* Scoring and calibration add up: texts of their own. What rounding adds is in the halves already;
 * it counts where there are none. Degrees of freedom by Satterthwaite. */
static int measure(const struct ptq_tables *t, const struct pair *p, struct measure *m)
{
    double sum = 0, bottom = 0;
    *m = (struct measure){.n_layers = p->n, .mean = mean_of(p, -1, 0), .shift = NAN, .half = NAN};
    for (int k = 0; k < N_KINDS; k++) {
        double freedom = NAN;
        int code = measure_kind(t, p, k, m, &freedom);
        if (code)
            return code;
        const double v = m->variance[k];
        if (isnan(v) || (k == ARITHMETIC && !isnan(m->variance[CALIBRATION])))
            continue;
        sum += v;
        bottom += v * v / freedom;
    }
    if (!isnan(m->variance[SCORING]) && !any_unknown(p))
        m->half = sum > 0 ? ptq_t_quantile(.975, sum * sum / bottom) * sqrt(sum) : 0;
    m->lo = m->mean - m->half;
    m->hi = m->mean + m->half;
    return PTQ_OK;
}

/* The layers of both, of one statistics: of a draw, or without any. */
static int join(const struct ptq_tables *t, const struct side *a, const struct side *b,
                struct pair *p)
{
    const struct cell **x = ptq_arena_alloc(t->arena, t->st, a->n, sizeof(void *));
    const struct cell **y = ptq_arena_alloc(t->arena, t->st, a->n, sizeof(void *));
    if (!x || !y)
        return PTQ_ERR_MEMORY;
    *p = (struct pair){x, b ? y : NULL, 0};
    for (int64_t i = 0, j = 0; i < a->n; i++) { /* both in layer order */
        while (b && j < b->n && ptq_row_order_layer(b->cells[j].row, a->cells[i].row) < 0)
            j++;
        if (b && (j == b->n || ptq_row_order_layer(b->cells[j].row, a->cells[i].row) != 0))
            continue;
        if ((a->known && a->cells[i].unknown) || (b && b->known && b->cells[j].unknown))
            continue;
        x[p->n] = &a->cells[i];
        y[p->n++] = b ? &b->cells[j] : NULL;
    }
    return PTQ_OK;
}

/* ---- what is compared --------------------------------------------------------------------------
 */

static bool holds_noise(const struct ptq_point *p)
{
    for (int64_t i = 0; i < p->layers.n; i++)
        if (isfinite(ptq_row_sub(p->layers.at[i], "noise", "error")))
            return true;
    return false;
}

/* The first draw of every setting that holds noise: methods without statistics have one for all. */
static int gather(struct noise *v)
{
    const struct ptq_board *d = v->d;
    struct ptq_member *m;
    v->at = ptq_arena_alloc(v->t->arena, v->t->st, d->n_combos, sizeof *v->at);
    int code = v->at ? ptq_strata(d, v->t->arena, &m, v->t->st) : PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n_combos && !code; i++) {
        int64_t p = 0;
        while (p < m[i].combo->n && !holds_noise(&m[i].first[p]))
            p++;
        if (p == m[i].combo->n || m[i].combo->unranked)
            continue;
        struct side *s = &v->at[v->n++];
        *s = (struct side){.m = m[i], .point = &m[i].first[p]};
        code = read_side(v->t, s);
    }
    return code;
}

static bool same_draw(const struct side *a, const struct side *b)
{
    return a->point->calib_seed == b->point->calib_seed || a->constant || b->constant;
}

/* One that stores more than the other is no rival of it. */
static bool comparable(const struct side *a, const struct side *b)
{
    return a != b && ptq_same_stratum(&a->m, &b->m) && same_draw(a, b) &&
           !ptq_stores_more(a->m.combo->bits, b->m.combo->bits) &&
           !ptq_stores_more(b->m.combo->bits, a->m.combo->bits);
}

struct verdict {
    struct measure m; /* of log a - log b */
    int64_t lower, higher;
};

static int settle(const struct noise *v, const struct side *a, const struct side *b, bool layers,
                  struct verdict *out)
{
    struct pair p;
    *out = (struct verdict){.lower = 0};
    int code = join(v->t, a, b, &p);
    if (code || !p.n)
        return code;
    for (int64_t i = 0; layers && i < p.n && !code; i++) {
        const struct pair one = {p.a + i, p.b + i, 1};
        code = measure(v->t, &one, &out->m);
        out->lower += out->m.hi < 0;
        out->higher += out->m.lo > 0;
    }
    return code ? code : measure(v->t, &p, &out->m);
}

/* ---- sheets ------------------------------------------------------------------------------------
 */

struct columns {
    int model, bits, group, a_bits, method, stored, layers, error, lo, hi, of[N_KINDS], half, draws,
        beaten, level;
};

static void lay_out(struct ptq_sheet *s, const struct ptq_board *board, struct columns *w)
{
    const bool exact = !board, inputs = exact || ptq_quantizes_inputs(board),
               draws = exact || board->many_seeds;
    w->model = exact ? ptq_sheet_column(s, "model", NULL, false, 0) : -1;
    w->bits = ptq_sheet_column(s, "bits", NULL, true, 0);
    w->group = ptq_sheet_column(s, "group_size", "group", true, 0);
    w->a_bits = inputs ? ptq_sheet_column(s, "a_bits", "inputs\nbits", true, 0) : -1;
    w->method = ptq_sheet_column(s, "method", NULL, false, 0);
    w->stored = exact ? ptq_sheet_column(s, "bits_stored", NULL, true, 0) : -1;
    w->layers = ptq_sheet_column(s, "n_layers", "layers", true, 0);
    w->error = ptq_sheet_column(s, "error", "held-out error\ngeo.mean ±95 %", true, 0);
    w->lo = exact ? ptq_sheet_column(s, "error_lo", NULL, true, 0) : -1;
    w->hi = exact ? ptq_sheet_column(s, "error_hi", NULL, true, 0) : -1;
    w->of[SCORING] = ptq_sheet_column(s, "sd_scoring", "noise of\nscoring\n%", true, 0);
    w->of[CALIBRATION] = ptq_sheet_column(s, "sd_calibration", "calibra-\ntion\n%", true, 0);
    w->of[ARITHMETIC] = ptq_sheet_column(s, "sd_arithmetic", "arith-\nmetic\n%", true, 4);
    w->half = ptq_sheet_column(s, "cost_of_half", "half the\ntokens cost\n%", true, 3);
    w->draws = draws ? ptq_sheet_column(s, "sd_draws", "between\ndraws\n%", true, 0) : -1;
    w->beaten = ptq_sheet_column(s, "beaten_by", "beaten by", false, 0);
    w->level = ptq_sheet_column(s, "level_with", "level with", false, 2);
}

/* A share: of a log, as per cent where people read it. */
static void put_share(struct ptq_sheet *s, int column, double v, bool exact)
{
    if (isnan(v))
        ptq_sheet_set(s, column, exact ? "" : "-");
    else
        ptq_sheet_set(s, column,
                      exact            ? "%.17g"
                      : fabs(v) < 1e-4 ? "%.2g"
                                       : "%.2f",
                      exact ? v : 100 * v);
}

/* Between the means of a setting's draws of the calibration text. */
static double between_draws(const struct noise *v, const struct side *a)
{
    double *x = ptq_arena_alloc(v->t->arena, v->t->st, a->m.combo->n, sizeof *x);
    int64_t n = 0;
    for (int64_t p = 0; x && p < a->m.combo->n; p++) {
        struct side s = {.m = a->m, .point = &v->d->points[a->m.combo->first + p]};
        struct pair all;
        if (read_side(v->t, &s) || join(v->t, &s, NULL, &all))
            return NAN;
        if (s.n == a->n)
            x[n++] = mean_of(&all, -1, 0);
    }
    return x ? ptq_stddev(x, n) : NAN;
}

static int put_rivals(const struct noise *v, const struct side *a, const struct columns *w,
                      struct ptq_sheet *s)
{
    const char *beaten = "", *level = "";
    for (int64_t i = 0; i < v->n; i++) {
        const struct side *b = &v->at[i];
        struct verdict r;
        if (!comparable(a, b))
            continue;
        int code = settle(v, a, b, false, &r);
        if (code)
            return code;
        const char **to = r.m.lo > 0 ? &beaten : r.m.lo <= 0 && r.m.hi >= 0 ? &level : NULL;
        if (to && r.m.n_layers)
            *to = ptq_arena_printf(v->t->arena, v->t->st, "%s%s%s", *to, **to ? ", " : "",
                                   v->d->series[b->point->series]);
        if (to && !*to)
            return PTQ_ERR_MEMORY;
    }
    ptq_sheet_set(s, w->beaten, "%s", *beaten ? beaten : "-");
    ptq_sheet_set(s, w->level, "%s", *level ? level : "-");
    return PTQ_OK;
}

static void put_error(const struct measure *m, bool exact, const struct columns *w,
                      struct ptq_sheet *s)
{
    if (!exact) {
        if (isnan(m->half))
            ptq_sheet_set(s, w->error, "%.2e", exp(m->mean));
        else
            ptq_sheet_set(s, w->error, "%.2e ±%.1f %%", exp(m->mean), 100 * m->half);
        return;
    }
    ptq_sheet_set(s, w->error, "%.17g", exp(m->mean));
    if (isnan(m->half))
        return;
    ptq_sheet_set(s, w->lo, "%.17g", exp(m->lo));
    ptq_sheet_set(s, w->hi, "%.17g", exp(m->hi));
}

static void put_setting(const struct noise *v, const struct side *a, const struct columns *w,
                        struct ptq_sheet *s)
{
    const bool exact = w->model >= 0;
    ptq_sheet_row(s);
    if (exact) {
        ptq_sheet_set(s, w->model, "%s", v->d->model);
        ptq_sheet_set(s, w->stored, "%.17g", a->m.combo->bits);
        ptq_sheet_set(s, w->group, "%" PRId64, a->point->group);
    } else
        ptq_sheet_set(s, w->group, "%s", ptq_group_text(v->t, a->point->group));
    ptq_sheet_set(s, w->bits, "%" PRId64, a->point->bits);
    if (w->a_bits >= 0)
        ptq_sheet_set(s, w->a_bits, "%" PRId64, a->m.a_bits ? a->m.a_bits : 16);
    ptq_sheet_set(s, w->method, "%s", v->d->series[a->point->series]);
}

static int put_side(const struct noise *v, const struct side *a, const struct columns *w,
                    struct ptq_sheet *s)
{
    const bool exact = w->model >= 0;
    struct pair all;
    struct measure m;
    int code = join(v->t, a, NULL, &all);
    if (code || !all.n || (code = measure(v->t, &all, &m)))
        return code;
    put_setting(v, a, w, s);
    ptq_sheet_set(s, w->layers, "%" PRId64, all.n);
    put_error(&m, exact, w, s);
    for (int k = 0; k < N_KINDS; k++)
        put_share(s, w->of[k], sqrt(m.variance[k]), exact);
    put_share(s, w->half, m.shift, exact);
    if (w->draws >= 0)
        put_share(s, w->draws, between_draws(v, a), exact);
    return put_rivals(v, a, w, s);
}

static bool of_board(const struct ptq_tables *t, const struct ptq_board *board, int64_t b)
{
    return board ? board == &t->v->boards[b] : ptq_first_of_model(t->v, b);
}

int ptq_table_noise(const struct ptq_tables *t, const struct ptq_board *board, struct ptq_sheet *s)
{
    struct columns w;
    int64_t room = 0;
    for (int64_t b = 0; b < t->v->n_boards; b++)
        room += t->v->boards[b].n_combos;
    int code = ptq_sheet_init(s, 18, room, t->arena, t->st);
    if (code)
        return code;
    lay_out(s, board, &w);
    for (int64_t b = 0; b < t->v->n_boards && !code; b++) {
        struct noise v = {.t = t, .d = &t->v->boards[b]};
        code = of_board(t, board, b) ? gather(&v) : PTQ_OK;
        for (int64_t i = 0; i < v.n && !code; i++)
            code = put_side(&v, &v.at[i], &w, s);
    }
    return code ? code : t->st->code < 0 ? t->st->code : PTQ_OK;
}

static void put_pair(const struct noise *v, const struct side *a, const struct side *b,
                     const struct verdict *r, struct ptq_sheet *s)
{
    int at = 0;
    ptq_sheet_row(s);
    ptq_sheet_set(s, at++, "%s", v->d->model);
    ptq_sheet_set(s, at++, "%" PRId64, a->point->bits);
    ptq_sheet_set(s, at++, "%" PRId64, a->point->group);
    ptq_sheet_set(s, at++, "%" PRId64, a->m.a_bits ? a->m.a_bits : 16);
    ptq_sheet_set(s, at++, "%s", v->d->series[a->point->series]);
    ptq_sheet_set(s, at++, "%s", v->d->series[b->point->series]);
    ptq_sheet_set(s, at++, "%.17g", exp(r->m.mean));
    ptq_sheet_set(s, at++, "%.17g", exp(r->m.lo));
    ptq_sheet_set(s, at++, "%.17g", exp(r->m.hi));
    ptq_sheet_set(s, at++, "%s", r->m.hi < 0 ? "lower" : r->m.lo > 0 ? "higher" : "level");
    ptq_sheet_set(s, at++, "%" PRId64, r->m.n_layers);
    ptq_sheet_set(s, at++, "%" PRId64, r->lower);
    ptq_sheet_set(s, at, "%" PRId64, r->higher);
}

static int put_pairs(const struct noise *v, struct ptq_sheet *s)
{
    int code = PTQ_OK;
    for (int64_t i = 0; i < v->n && !code; i++)
        for (int64_t k = i + 1; k < v->n && !code; k++) {
            struct verdict r;
            if (!comparable(&v->at[i], &v->at[k]))
                continue;
            code = settle(v, &v->at[i], &v->at[k], true, &r);
            if (!code && r.m.n_layers && !isnan(r.m.half))
                put_pair(v, &v->at[i], &v->at[k], &r, s);
        }
    return code;
}

int ptq_table_noise_pairs(const struct ptq_tables *t, struct ptq_sheet *s)
{
    static const struct {
        const char *id;
        bool numeric;
    } heads[] = {{"model", false},       {"bits", true},     {"group_size", true},
                 {"a_bits", true},       {"method", false},  {"rival", false},
                 {"ratio", true},        {"ratio_lo", true}, {"ratio_hi", true},
                 {"verdict", false},     {"n_layers", true}, {"layers_lower", true},
                 {"layers_higher", true}};
    enum { N_HEADS = sizeof heads / sizeof *heads };
    int64_t room = 0;
    for (int64_t b = 0; b < t->v->n_boards; b++)
        room += t->v->boards[b].n_combos * t->v->boards[b].n_combos;
    int code = ptq_sheet_init(s, N_HEADS, room, t->arena, t->st);
    for (int k = 0; k < N_HEADS && !code; k++)
        ptq_sheet_column(s, heads[k].id, NULL, heads[k].numeric, 0);
    for (int64_t b = 0; b < t->v->n_boards && !code; b++) {
        struct noise v = {.t = t, .d = &t->v->boards[b]};
        code = of_board(t, NULL, b) ? gather(&v) : PTQ_OK;
        code = code ? code : put_pairs(&v, s);
    }
    return code ? code : t->st->code < 0 ? t->st->code : PTQ_OK;
}
