/* table_equal.c: what a method loses at a number of stored bits: read from its lower hull, so that
 * a method whose settings fall between two others' is compared at the same bits. */
#include "analysis/equal.h"
#include "core/stat.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

struct maker {
    const struct ptq_tables *t;
    struct ptq_equal *e;
    enum ptq_quantity quantity;
    double *loss; /* by combination */
    /* By combination: n_x values a unit (window, layer) whose differences give the interval, in
     * units of log loss; NULL where the combination has none. */
    double **x;
    int64_t n_x;
    double *half; /* by combination: of the own interval of log loss; NaN without one */
    double *fp;   /* units of the reference */
    double *z;    /* scratch of n_x */
};

const char *ptq_layer_error_id(const struct ptq_board *d)
{
    for (int64_t i = 0; i < d->n; i++)
        if (!isnan(ptq_cells_metric(&d->points[i].layers, "out_relerr_heldout")))
            return "out_relerr_heldout";
    return "out_relerr";
}

/* ---- units of the paired interval ---- */

/* d log L = dL / L: the windows' differences to full precision, over the loss. Their spread is that
 * of the log loss. */
static double *windows(struct maker *m, const struct ptq_combo *c, double loss)
{
    const struct ptq_board *d = m->e->d;
    double *x = ptq_arena_alloc(m->t->arena, m->t->st, m->n_x, sizeof *x);
    for (int64_t p = c->first; x && p < c->first + c->n; p++) {
        if (ptq_row_units(d->points[p].row, m->z) != m->n_x)
            return NULL;
        for (int64_t w = 0; w < m->n_x; w++)
            x[w] += (m->z[w] - m->fp[w]) / ((double)c->n * loss);
    }
    for (int64_t w = 0; x && w < m->n_x; w++)
        if (!isfinite(x[w]))
            return NULL;
    return x;
}

static bool has_windows(const struct ptq_board *d, const struct ptq_combo *c, int64_t n)
{
    for (int64_t p = c->first; p < c->first + c->n; p++)
        if (!d->points[p].row || !ptq_row_same_windows(d->points[p].row, d->reference))
            return false;
    return n > 1 && !strcmp(d->loss_id, "dnll");
}

static double own_half(const struct ptq_board *d, const struct ptq_combo *c, double loss)
{
    double half = 0;
    for (int64_t p = c->first; p < c->first + c->n; p++)
        half += (d->points[p].loss_hi - d->points[p].loss_lo) / (2 * loss * (double)c->n);
    return half;
}

static bool has_layers(const struct ptq_board *d, const struct ptq_combo *c,
                       const struct ptq_cells *names)
{
    for (int64_t p = c->first; p < c->first + c->n; p++) {
        const struct ptq_cells *l = &d->points[p].layers;
        if (l->n != names->n)
            return false;
        for (int64_t i = 0; i < l->n; i++)
            if (strcmp(ptq_row_text(l->at[i], "layer"), ptq_row_text(names->at[i], "layer")))
                return false;
    }
    return true;
}

/* Mean over the seeds of every layer's log error. */
static double *layers(struct maker *m, const struct ptq_combo *c)
{
    double *x = ptq_arena_alloc(m->t->arena, m->t->st, m->n_x, sizeof *x);
    for (int64_t i = 0; x && i < m->n_x; i++)
        for (int64_t p = c->first; p < c->first + c->n; p++)
            x[i] += log(ptq_row_metric(m->e->d->points[p].layers.at[i], m->e->id)) / (double)c->n;
    return x;
}

static void measure_models(struct maker *m)
{
    const struct ptq_board *d = m->e->d;
    m->n_x = d->reference ? ptq_row_units(d->reference, m->fp) : 0;
    if (m->n_x < 0) {
        ptq_status_nomem(m->t->st, "windows", 0);
        m->n_x = 0;
    }
    for (int64_t i = 0; i < d->n_combos; i++) {
        const struct ptq_combo *c = &d->combos[i];
        m->loss[i] = c->unranked || d->by_layers ? NAN : c->loss;
        if (!(m->loss[i] > 0))
            continue;
        m->half[i] = own_half(d, c, m->loss[i]);
        if (has_windows(d, c, m->n_x))
            m->x[i] = windows(m, c, m->loss[i]);
    }
}

static void measure_layers(struct maker *m)
{
    const struct ptq_board *d = m->e->d;
    const struct ptq_cells *names = NULL;
    for (int64_t i = 0; i < d->n && !names; i++)
        if (d->points[i].layers.n == d->n_layers)
            names = &d->points[i].layers;
    m->n_x = d->n_layers;
    for (int64_t i = 0; i < d->n_combos; i++) {
        const struct ptq_combo *c = &d->combos[i];
        m->loss[i] = NAN; /* some layers lack: their mean compares with nothing */
        if (c->unranked || !d->n_layers || !names || !has_layers(d, c, names))
            continue;
        m->x[i] = layers(m, c);
        if (m->x[i])
            m->loss[i] = exp(ptq_mean(m->x[i], m->n_x));
    }
}

/* ---- hulls and cells ---- */

static int make_hull(struct maker *m, int series, double *bits, double *loss)
{
    const struct ptq_board *d = m->e->d;
    for (int64_t i = 0; i < d->n_combos; i++) {
        bits[i] = d->combos[i].bits;
        loss[i] = d->points[d->combos[i].first].series == series ? m->loss[i] : NAN;
    }
    return ptq_hull_make(bits, loss, d->n_combos, m->t->arena, &m->e->hulls[series], m->t->st);
}

static double mix(const struct ptq_hull_place *p, const double *by_combo)
{
    return (1 - p->w) * by_combo[p->a] + p->w * by_combo[p->b];
}

/* Whether the interval of what c loses more than the best holds 0. Of a model the difference of
 * losses, dL = L d log L: their ratio would be all noise where the best is near full precision, and
 * would call everything level. Of layers, whose errors are many orders apart, that of mean logs.
 * Paired where both have the units; else from the two own intervals, as if they were independent
 * (too wide, never too narrow, where windows are hard for both alike). */
static bool is_tied(struct maker *m, const struct ptq_hull_place *c,
                    const struct ptq_hull_place *best)
{
    const double *const x[] = {m->x[c->a], m->x[c->b], m->x[best->a], m->x[best->b]};
    const bool logs = m->quantity == PTQ_OF_LAYERS;
    const double of_c = logs ? 1 : exp(c->log_loss), of_best = logs ? 1 : exp(best->log_loss);
    const double far = logs ? c->log_loss - best->log_loss : of_c - of_best;
    if (!x[0] || !x[1] || !x[2] || !x[3])
        return far <= hypot(of_c * mix(c, m->half), of_best * mix(best, m->half));
    struct ptq_interval v;
    for (int64_t i = 0; i < m->n_x; i++)
        m->z[i] = of_c * ((1 - c->w) * x[0][i] + c->w * x[1][i]) -
                  of_best * ((1 - best->w) * x[2][i] + best->w * x[3][i]);
    ptq_paired_interval(m->z, m->n_x, .95, &v);
    return far <= v.mean - v.lo;
}

static struct ptq_equal_cell *cell(const struct ptq_equal *e, int series, int rate)
{
    return &e->cells[series * e->n_rates + rate];
}

static void mark(struct maker *m, int rate)
{
    struct ptq_equal_cell *best = NULL;
    struct ptq_equal *e = m->e;
    for (int i = 0; i < e->d->n_series; i++) {
        struct ptq_equal_cell *c = cell(e, i, rate);
        c->reached = ptq_hull_find(&e->hulls[i], e->rates[rate], &c->place);
        if (c->reached && (!best || c->place.log_loss < best->place.log_loss))
            best = c;
    }
    if (best)
        best->best = true;
    for (int i = 0; best && i < e->d->n_series; i++) {
        struct ptq_equal_cell *c = cell(e, i, rate);
        if (c != best && c->reached)
            c->tied = is_tied(m, &c->place, &best->place);
    }
}

static const char *interval_words(const struct maker *m)
{
    if (m->quantity == PTQ_OF_LAYERS)
        return "95 % interval of the mean log ratio, paired over layers";
    for (int64_t i = 0; i < m->e->d->n_combos; i++)
        if (m->x[i])
            return "95 % interval of the difference, paired over windows";
    for (int64_t i = 0; i < m->e->d->n_combos; i++)
        if (!isnan(m->half[i]))
            return "95 % intervals of both losses, not paired";
    return "";
}

int ptq_equal_make(const struct ptq_tables *t, const struct ptq_board *d,
                   enum ptq_quantity quantity, struct ptq_equal *e)
{
    const int64_t n = d->n_combos,
                  room = quantity == PTQ_OF_LAYERS ? d->n_layers : ptq_row_n_windows(d->reference);
    *e = (struct ptq_equal){.d = d,
                            .how = "",
                            .id = quantity == PTQ_OF_LAYERS ? ptq_layer_error_id(d) : d->loss_id,
                            .hulls =
                                ptq_arena_alloc(t->arena, t->st, d->n_series, sizeof *e->hulls)};
    struct maker m = {.t = t,
                      .e = e,
                      .quantity = quantity,
                      .loss = ptq_arena_alloc(t->arena, t->st, n, sizeof *m.loss),
                      .x = ptq_arena_alloc(t->arena, t->st, n, sizeof *m.x),
                      .half = ptq_arena_alloc(t->arena, t->st, n, sizeof *m.half),
                      .fp = ptq_arena_alloc(t->arena, t->st, room, sizeof *m.fp),
                      .z = ptq_arena_alloc(t->arena, t->st, room, sizeof *m.z)};
    double *work = ptq_arena_alloc(t->arena, t->st, 2 * n, sizeof *work);
    if (!e->hulls || !m.loss || !m.x || !m.half || !m.fp || !m.z || !work)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        m.half[i] = NAN;
    if (quantity == PTQ_OF_LAYERS)
        measure_layers(&m);
    else
        measure_models(&m);
    int code = t->st->code < 0 ? t->st->code : PTQ_OK;
    bool any = false;
    for (int i = 0; i < d->n_series && !code; i++) {
        code = make_hull(&m, i, work, work + n);
        any = any || e->hulls[i].n;
    }
    e->id = any ? e->id : NULL;
    e->n_rates = code ? 0 : ptq_hull_rates(e->hulls, d->n_series, PTQ_MAX_RATES, e->rates);
    e->cells =
        ptq_arena_alloc(t->arena, t->st, (int64_t)d->n_series * e->n_rates, sizeof *e->cells);
    if (code || !e->cells)
        return PTQ_ERR_MEMORY;
    for (int r = 0; r < e->n_rates; r++)
        mark(&m, r);
    e->how = interval_words(&m);
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- sheets ---- */

int ptq_table_equal(const struct ptq_tables *t, const struct ptq_equal *e, struct ptq_sheet *s)
{
    int code = ptq_sheet_init(s, PTQ_MAX_RATES + 3, e->d->n_series, t->arena, t->st);
    if (code)
        return code;
    ptq_sheet_column(s, "method", "method\n", false, 0);
    ptq_sheet_column(s, "from", "hull from\nbits/w", true, 0);
    ptq_sheet_column(s, "to", "to\nbits/w", true, 0);
    for (int r = 0; r < e->n_rates; r++)
        ptq_sheet_column(s, ptq_arena_printf(t->arena, t->st, "%s_at_%g", e->id, e->rates[r]),
                         ptq_arena_printf(t->arena, t->st, "at %.2f\nbits/w", e->rates[r]), true,
                         0);
    for (int i = 0; i < e->d->n_series; i++) {
        const struct ptq_hull *h = &e->hulls[i];
        ptq_sheet_row(s);
        ptq_sheet_set(s, 0, "%s", e->d->series[i]);
        ptq_sheet_set(s, 1, h->n ? "%.3f" : "-", h->n ? h->bits[0] : 0);
        ptq_sheet_set(s, 2, h->n ? "%.3f" : "-", h->last_bits);
        for (int r = 0; r < e->n_rates; r++) {
            const struct ptq_equal_cell *c = cell(e, i, r);
            if (!c->reached)
                ptq_sheet_set(s, 3 + r, "-");
            else
                ptq_sheet_set(s, 3 + r, "%.3g%s", exp(c->place.log_loss),
                              c->best   ? " *"
                              : c->tied ? " ~"
                                        : "");
        }
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

const char **ptq_equal_words(const struct ptq_tables *t, const struct ptq_equal *e)
{
    const char **words = ptq_arena_alloc(t->arena, t->st, e->n_rates, sizeof *words);
    for (int r = 0; words && r < e->n_rates; r++) {
        const char *best = "", *tied = "";
        for (int i = 0; i < e->d->n_series && tied; i++) {
            const struct ptq_equal_cell *c = cell(e, i, r);
            best = c->best ? e->d->series[i] : best;
            if (c->tied)
                tied = ptq_arena_printf(t->arena, t->st, "%s%s%s", tied, *tied ? ", " : "",
                                        e->d->series[i]);
        }
        if (!tied)
            return NULL;
        words[r] = ptq_arena_printf(t->arena, t->st, "%.2f bits: %s%s%s", e->rates[r], best,
                                    !*e->how ? "; no interval is known"
                                    : *tied  ? "; not told apart from it: "
                                             : ", told apart from all others",
                                    *e->how ? tied : "");
        if (!words[r])
            return NULL;
    }
    return words;
}

static void put_exact(const struct ptq_equal *e, int series, int rate, struct ptq_sheet *s)
{
    const struct ptq_equal_cell *c = cell(e, series, rate);
    const struct ptq_board *d = e->d;
    int at = 0;
    if (!c->reached)
        return;
    ptq_sheet_row(s);
    ptq_sheet_set(s, at++, "%s", d->model);
    ptq_sheet_set(s, at++, "%s", d->protocol);
    ptq_sheet_set(s, at++, "%s", d->text_key);
    ptq_sheet_set(s, at++, "%s", d->series[series]);
    ptq_sheet_set(s, at++, "%s", e->id);
    ptq_sheet_set(s, at++, "%.17g", e->rates[rate]);
    ptq_sheet_set(s, at++, "%.17g", exp(c->place.log_loss));
    ptq_sheet_set(s, at++, "%.17g", d->combos[c->place.a].bits);
    ptq_sheet_set(s, at++, "%.17g", d->combos[c->place.b].bits);
    ptq_sheet_set(s, at++, "%d", c->best);
    ptq_sheet_set(s, at++, "%d", c->tied);
}

int ptq_table_equal_exact(const struct ptq_tables *t, struct ptq_sheet *s)
{
    static const char *const heads[] = {"model",    "protocol",    "text_key", "method",
                                        "quantity", "bits_stored", "value",    "from_bits",
                                        "to_bits",  "best",        "tied"};
    enum { N_HEADS = sizeof heads / sizeof *heads };
    int64_t room = 0;
    for (int64_t b = 0; b < t->v->n_boards; b++)
        room += (int64_t)t->v->boards[b].n_series * PTQ_MAX_RATES * PTQ_N_QUANTITIES;
    int code = ptq_sheet_init(s, N_HEADS, room, t->arena, t->st);
    for (int k = 0; !code && k < N_HEADS; k++)
        ptq_sheet_column(s, heads[k], NULL, k > 4, 0);
    for (int64_t b = 0; b < t->v->n_boards; b++)
        for (int q = 0; q < PTQ_N_QUANTITIES && !code; q++) {
            struct ptq_equal e;
            if (q == PTQ_OF_LAYERS && !ptq_first_of_model(t->v, b))
                continue;
            code = ptq_equal_make(t, &t->v->boards[b], (enum ptq_quantity)q, &e);
            for (int i = 0; i < e.d->n_series && !code; i++)
                for (int r = 0; r < e.n_rates; r++)
                    put_exact(&e, i, r, s);
        }
    return code ? code : t->st->code < 0 ? t->st->code : PTQ_OK;
}

int ptq_hull_corners(const struct ptq_tables *t, const struct ptq_board *d, bool *corner)
{
    struct ptq_equal e;
    int code = ptq_equal_make(t, d, d->by_layers ? PTQ_OF_LAYERS : PTQ_OF_MODEL, &e);
    for (int64_t i = 0; i < d->n_combos; i++)
        corner[i] = false;
    for (int i = 0; !code && i < d->n_series; i++)
        for (int64_t k = 0; k < e.hulls[i].n; k++)
            corner[e.hulls[i].at[k]] = true;
    return code;
}

/* ---- books ---- */

static double mean_over(const struct ptq_board *d, const struct ptq_combo *c, const char *id)
{
    double sum = 0;
    for (int64_t p = c->first; p < c->first + c->n; p++)
        sum += ptq_cells_metric(&d->points[p].layers, id) / (double)c->n;
    return sum;
}

static void put_books(const struct ptq_tables *t, const struct ptq_board *d,
                      const struct ptq_combo *c, bool exact, struct ptq_sheet *s)
{
    const struct ptq_point *p = &d->points[c->first];
    const double here = mean_over(d, c, "bits_books"), there = mean_over(d, c, "bits_books_4096");
    const double v[] = {c->bits, here, here / c->bits, there};
    if (!(here > 0))
        return;
    int at = 0;
    ptq_sheet_row(s);
    if (exact)
        ptq_sheet_set(s, at++, "%s", d->model);
    ptq_sheet_set(s, at++, "%s", d->series[p->series]);
    ptq_sheet_set(s, at++, "%" PRId64, p->bits);
    if (exact)
        ptq_sheet_set(s, at++, "%" PRId64, p->group);
    else
        ptq_sheet_set(s, at++, "%s", ptq_group_text(t, p->group));
    for (int k = 0; k < 4; k++)
        if (isnan(v[k]))
            ptq_sheet_set(s, at++, exact ? "" : "-");
        else
            ptq_sheet_set(s, at++,
                          exact    ? "%.17g"
                          : k == 2 ? "%.0f %%"
                          : k == 3 ? "%.4f"
                                   : "%.3f",
                          k == 2 && !exact ? 100 * v[k] : v[k]);
}

int ptq_table_books(const struct ptq_tables *t, const struct ptq_board *board, struct ptq_sheet *s)
{
    int64_t room = 0;
    for (int64_t b = 0; b < t->v->n_boards; b++)
        room += t->v->boards[b].n_combos;
    int code = ptq_sheet_init(s, 8, room, t->arena, t->st);
    if (code)
        return code;
    if (!board)
        ptq_sheet_column(s, "model", NULL, false, 0);
    ptq_sheet_column(s, "method", NULL, false, 0);
    ptq_sheet_column(s, "bits", NULL, true, 0);
    ptq_sheet_column(s, "group_size", "group", true, 0);
    ptq_sheet_column(s, "bits_stored", "stored\nbits/w", true, 0);
    ptq_sheet_column(s, "bits_books", "of these\nbooks", true, 0);
    ptq_sheet_column(s, "books_share", "share", true, 0);
    ptq_sheet_column(s, "bits_books_4096", "books at\n4096 x 4096", true, 0);
    for (int64_t b = 0; b < t->v->n_boards; b++) {
        const struct ptq_board *d = &t->v->boards[b];
        for (int64_t i = 0; (board ? d == board : ptq_first_of_model(t->v, b)) && i < d->n_combos;
             i++)
            put_books(t, d, &d->combos[i], !board, s);
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}
