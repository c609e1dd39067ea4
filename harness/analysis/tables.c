#include "analysis/proxies.h"
#include "analysis/speed.h"
#include "analysis/tables.h"
#include "core/stat.h"
#include "metrics/metric.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int ptq_tables_init(struct ptq_tables *t, const struct ptq_view *v, struct ptq_arena *a,
                    struct ptq_status *st)
{
    struct ptq_proxies *p = ptq_arena_alloc(a, st, v->n_boards, sizeof *p);
    int code = p ? PTQ_OK : PTQ_ERR_MEMORY;
    *t = (struct ptq_tables){v, a, st, p};
    for (int64_t k = 0; k < v->n_boards && !code; k++)
        code = ptq_proxies(t, &v->boards[k], &p[k]);
    return code;
}

/* ---- numbers ---- */

enum style { BITS, PERPLEXITY, CHANGE, SMALL, SHARE, COSINE, SECONDS, SPEED };

static int digits_of_perplexity(double v)
{
    return v < 10 ? 4 : v < 100 ? 3 : v < 1000 ? 2 : 1;
}

static void set_number(struct ptq_sheet *s, int column, double v, enum style style)
{
    if (isnan(v)) {
        ptq_sheet_set(s, column, "-");
        return;
    }
    switch (style) {
    case BITS: ptq_sheet_set(s, column, "%.3f", v); break;
    case SPEED: ptq_sheet_set(s, column, "%.4g", v); break;
    case PERPLEXITY:
        if (v < 1e5)
            ptq_sheet_set(s, column, "%.*f", digits_of_perplexity(v), v);
        else
            ptq_sheet_set(s, column, "%.2e", v);
        break;
    case CHANGE: ptq_sheet_set(s, column, "%+.6f", v); break;
    case SMALL: ptq_sheet_set(s, column, "%.2e", v); break;
    case SHARE: ptq_sheet_set(s, column, "%.4f", v); break;
    case COSINE: ptq_sheet_set(s, column, "%.5f", v); break;
    case SECONDS:
        if (v > 0 && v < 0.001)
            ptq_sheet_set(s, column, "%.1e", v);
        else
            ptq_sheet_set(s, column, "%.*f", v < 0.1 ? 4 : v < 10 ? 3 : v < 100 ? 2 : 1, v);
        break;
    }
}

/* Two digits of the half-width, at most six decimals. */
static int digits_of_interval(double half)
{
    if (!(half > 0))
        return 6;
    int d = 1 - (int)floor(log10(
                    half * (1 + 1e-9))); /* the nudge: .001 made by a subtraction is still .0010 */
    return d < 1 ? 1 : d > 6 ? 6 : d;
}

static void set_interval(struct ptq_sheet *s, int column, double v, double lo, double hi, bool wide)
{
    double half = (hi - lo) / 2;
    if (isnan(v) || isnan(half)) {
        set_number(s, column, v, CHANGE);
        return;
    }
    int d = digits_of_interval(half);
    bool symmetric = fabs((hi + lo) / 2 - v) < pow(10, -d) / 2;
    if (symmetric && !wide)
        ptq_sheet_set(s, column, "%+.*f ±%.*f", d, v, d, half);
    else
        ptq_sheet_set(s, column, "%+.*f [%.*f, %.*f]", d, v, d, lo, d, hi);
}

static void set_exact(struct ptq_sheet *s, int column, double v)
{
    if (isfinite(v))
        ptq_sheet_set(s, column, "%.17g", v);
}

const char *ptq_group_text(const struct ptq_tables *t, int64_t group)
{
    if (group == PTQ_GROUP_ROW)
        return "row";
    if (group == PTQ_GROUP_TENSOR)
        return "tensor";
    const char *s = group == INT64_MIN ? "-" : ptq_arena_printf(t->arena, t->st, "%" PRId64, group);
    return s ? s : "";
}

static void set_int(struct ptq_sheet *s, int column, int64_t v)
{
    if (v != INT64_MIN)
        ptq_sheet_set(s, column, "%" PRId64, v);
}

/* ---- metric ids ---- */

static int order_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int64_t add_ids(const json_t *row, const char **ids, int64_t n, int64_t max)
{
    const char *id;
    json_t *value;
    json_object_foreach(json_object_get(row, "metrics"), id, value)
    {
        int64_t k = 0;
        while (k < n && strcmp(ids[k], id))
            k++;
        if (k == n && n < max)
            ids[n++] = id;
    }
    return n;
}

const char **ptq_metric_ids(const struct ptq_tables *t, const char *kind, int64_t *n)
{
    enum { MAX_IDS = 256 }; /* a row file may name any; more than these are not shown */
    const char **ids = ptq_arena_alloc(t->arena, t->st, MAX_IDS + 1, sizeof *ids);
    *n = 0;
    for (int64_t i = 0; ids && i < t->v->rows.n; i++)
        if (!kind || !strcmp(ptq_row_text(t->v->sorted[i], "kind"), kind))
            *n = add_ids(t->v->sorted[i], ids, *n, MAX_IDS);
    if (ids)
        qsort(ids, (size_t)*n, sizeof *ids, order_text);
    return ids;
}

/* ---- the main table ---- */

struct main_column {
    const char *ids[3]; /* the first that the rows hold */
    const char *unit;   /* short: the definitions table has the full one */
    enum style style;
    bool from_layers; /* aggregated over layers, also beside a model row */
    int drop;
};
static const struct main_column main_columns[] = {
    {{"bits_stored"}, "bits/w", BITS, false, 0},
    {{"ppl"}, "", PERPLEXITY, false, 0},
    {{"dnll"}, "nats/token", CHANGE, false, 0},
    {{"kl_mean"}, "nats", SMALL, false, 0},
    {{"top1_agree"}, "share", SHARE, false, 3},
    {{"embed_cos_mean"}, "", COSINE, false, 0},
    {{"embed_cos_p1"}, "", COSINE, false, 0},
    {{"embed_nn10"}, "share", SHARE, false, 0},
    {{"embed_dcos"}, "1 - cos", CHANGE, false, 3},
    {{"fact_recall", "recall"}, "share", SHARE, false, 5},
    {{"copy_accuracy", "copy"}, "share", SHARE, false, 6},
    {{"tokens_s"}, "1/s", SPEED, false, 2},
    {{"batch_gflops"}, "", SPEED, false, 4},
    {{"out_relerr"}, "geo.mean", SMALL, true, 0},
    {{"out_relerr_heldout"}, "geo.mean", SMALL, true, 7},
    {{"w_relerr"}, "geo.mean", SMALL, true, 8},
};
enum { N_MAIN = sizeof main_columns / sizeof *main_columns };

static double column_value(const struct ptq_point *p, const struct main_column *c, const char *id)
{
    if (!strcmp(id, "bits_stored"))
        return p->bits_stored;
    return c->from_layers ? ptq_cells_metric(&p->layers, id) : ptq_point_metric(p, id);
}

/* The id under which any point holds this column, or NULL. */
static const char *held_id(const struct ptq_board *d, const struct main_column *c)
{
    for (int k = 0; k < 3 && c->ids[k]; k++)
        for (int64_t i = 0; i < d->n; i++)
            if (!isnan(column_value(&d->points[i], c, c->ids[k])))
                return c->ids[k];
    return NULL;
}

/* "out_relerr" over two lines where it is long, then the unit. */
static const char *heading(const struct ptq_tables *t, const char *id, const char *note,
                           const char *unit)
{
    const char *cut = strlen(id) > 7 ? strrchr(id, '_') : NULL;
    int n = cut ? (int)(cut + 1 - id) : (int)strlen(id);
    const char *s = ptq_arena_printf(t->arena, t->st, "%.*s%s%s%s%s\n%s", n, id, cut ? "\n" : "",
                                     cut ? cut + 1 : "", *note ? "\n" : "", note, unit);
    return s ? s : id;
}

struct main_layout {
    const char *id[N_MAIN];
    int at[N_MAIN], method, bits, group, seed, layers, time;
};

static void lay_out(const struct ptq_tables *t, const struct ptq_board *d, bool wide,
                    struct ptq_sheet *s, struct main_layout *l)
{
    const char *note = wide ? "[95 %]" : "±95 %";
    l->method = ptq_sheet_column(s, "method", "method\n", false, 0);
    l->bits = ptq_sheet_column(s, "bits", "bits\n", true, 0);
    l->group = ptq_sheet_column(s, "group_size", "group\n", true, 0);
    l->seed = d->many_seeds ? ptq_sheet_column(s, "calib_seed", "calib\nseed\n", true, 0) : -1;
    for (int c = 0; c < N_MAIN; c++) {
        const struct main_column *m = &main_columns[c];
        l->id[c] = held_id(d, m);
        if (!l->id[c])
            continue;
        const char *head = heading(t, l->id[c], m->style == CHANGE ? note : "", m->unit);
        l->at[c] = ptq_sheet_column(s, l->id[c], head, true, m->drop);
    }
    l->layers = d->by_layers ? ptq_sheet_column(s, "n_layers", "layers\n", true, 0) : -1;
    l->time = ptq_sheet_column(s, "time_s", "time\ns", true, 4);
}

static void put_reference(const struct ptq_board *d, const struct main_layout *l,
                          struct ptq_sheet *s)
{
    ptq_sheet_row(s);
    ptq_sheet_set(s, l->method, "full precision");
    ptq_sheet_set(s, l->bits, "-");
    ptq_sheet_set(s, l->group, "-");
    if (l->seed >= 0)
        ptq_sheet_set(s, l->seed, "-");
    for (int c = 0; c < N_MAIN; c++)
        if (l->id[c])
            set_number(s, l->at[c],
                       main_columns[c].style == CHANGE ? NAN
                                                       : ptq_row_metric(d->reference, l->id[c]),
                       main_columns[c].style);
    ptq_sheet_set(s, l->time, "-");
}

static void put_point(const struct ptq_tables *t, const struct ptq_board *d,
                      const struct ptq_point *p, const struct main_layout *l, bool wide,
                      struct ptq_sheet *s)
{
    ptq_sheet_row(s);
    ptq_sheet_set(s, l->method, "%s", d->series[p->series]);
    ptq_sheet_set(s, l->bits, "%" PRId64 "%s", p->bits, p->unranked ? "*" : "");
    ptq_sheet_set(s, l->group, "%s", ptq_group_text(t, p->group));
    if (l->seed >= 0)
        set_int(s, l->seed, p->calib_seed);
    for (int c = 0; c < N_MAIN; c++) {
        if (!l->id[c])
            continue;
        double v = column_value(p, &main_columns[c], l->id[c]), lo, hi;
        if (main_columns[c].style == CHANGE && ptq_point_interval(p, l->id[c], &lo, &hi))
            set_interval(s, l->at[c], v, lo, hi, wide);
        else
            set_number(s, l->at[c], v, main_columns[c].style);
    }
    if (l->layers >= 0)
        ptq_sheet_set(s, l->layers, "%" PRId64, p->layers.n);
    set_number(s, l->time, p->time_s, SECONDS);
}

int ptq_table_main(const struct ptq_tables *t, const struct ptq_board *d, bool wide,
                   struct ptq_sheet *s)
{
    struct main_layout l = {0};
    int code = ptq_sheet_init(s, N_MAIN + 8, d->n + 1, t->arena, t->st);
    if (code)
        return code;
    lay_out(t, d, wide, s, &l);
    if (d->reference)
        put_reference(d, &l, s);
    for (int64_t i = 0; i < d->n; i++)
        put_point(t, d, &d->points[i], &l, wide, s);
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- the same, exact ---- */

static const char *const exact_fields[] = {
    "model",         "protocol", "text",       "text_key", "method",          "label",
    "options",       "bits",     "group_size", "sym",      "sym_kind",        "grid",
    "zero_in_range", "scale",    "precision",  "stats",    "true_sequential", "calib",
    "calib_seed",    "nsamples", "seqlen",     NULL};

/* Runs of weights alone have no column for the width of inputs. */
static bool quantizes_inputs(const struct ptq_tables *t)
{
    for (int64_t i = 0; i < t->v->rows.n; i++)
        if (json_object_get(t->v->sorted[i], "a_bits"))
            return true;
    return false;
}

static bool is_number_field(const char *field)
{
    static const char *const texts[] = {"model",     "protocol", "text",     "text_key", "method",
                                        "label",     "options",  "sym_kind", "grid",     "scale",
                                        "precision", "stats",    "calib",    NULL};
    for (int i = 0; texts[i]; i++)
        if (!strcmp(texts[i], field))
            return false;
    return true;
}

static int put_exact_fields(const struct ptq_tables *t, const json_t *row, struct ptq_sheet *s)
{
    int c = 0;
    for (; exact_fields[c]; c++)
        ptq_sheet_set(s, c, "%s", ptq_field_text(row, exact_fields[c], t->arena, t->st));
    if (!strcmp(s->columns[c].id, "a_bits"))
        ptq_sheet_set(s, c++, "%s", ptq_field_text(row, "a_bits", t->arena, t->st));
    return c;
}

static void put_exact_point(const struct ptq_tables *t, const struct ptq_board *d,
                            const struct ptq_point *p, const char *const *ids, int64_t n_ids,
                            struct ptq_sheet *s)
{
    double lo = NAN, hi = NAN;
    ptq_sheet_row(s);
    int c = put_exact_fields(t, p->any, s);
    ptq_sheet_set(s, c++, "%s", p->row ? "model" : "layers");
    ptq_sheet_set(s, c++, "%" PRId64, p->layers.n);
    for (int64_t i = 0; i < n_ids; i++) {
        set_exact(s, c++,
                  !strcmp(ids[i], "bits_stored") ? p->bits_stored : ptq_point_metric(p, ids[i]));
        ptq_point_interval(p, ids[i], &lo, &hi);
        set_exact(s, c++, lo);
        set_exact(s, c++, hi);
    }
    set_exact(s, c++, ptq_cells_metric(&p->layers, "out_relerr"));
    set_exact(s, c++, p->time_s);
    for (int64_t i = 0; i < d->n_combos; i++)
        if (p >= d->points + d->combos[i].first &&
            p < d->points + d->combos[i].first + d->combos[i].n)
            ptq_sheet_set(s, c, "%d", d->combos[i].front);
    ptq_sheet_set(s, c + 1, "%d", !p->unranked);
}

static void put_exact_reference(const struct ptq_tables *t, const json_t *row,
                                const char *const *ids, int64_t n_ids, struct ptq_sheet *s)
{
    ptq_sheet_row(s);
    int c = put_exact_fields(t, row, s);
    ptq_sheet_set(s, c++, "reference");
    c++;
    for (int64_t i = 0; i < n_ids; i++, c += 3)
        set_exact(s, c, ptq_row_metric(row, ids[i]));
}

static void lay_out_exact(const struct ptq_tables *t, const char *const *ids, int64_t n_ids,
                          struct ptq_sheet *s)
{
    for (int i = 0; exact_fields[i]; i++)
        ptq_sheet_column(s, exact_fields[i], NULL, is_number_field(exact_fields[i]), 0);
    if (quantizes_inputs(t))
        ptq_sheet_column(s, "a_bits", NULL, true, 0);
    ptq_sheet_column(s, "from", NULL, false, 0);
    ptq_sheet_column(s, "n_layers", NULL, true, 0);
    for (int64_t i = 0; i < n_ids; i++) {
        ptq_sheet_column(s, ids[i], NULL, true, 0);
        ptq_sheet_column(s, ptq_arena_printf(t->arena, t->st, "%s_lo", ids[i]), NULL, true, 0);
        ptq_sheet_column(s, ptq_arena_printf(t->arena, t->st, "%s_hi", ids[i]), NULL, true, 0);
    }
    ptq_sheet_column(s, "out_relerr_geomean", NULL, true, 0);
    ptq_sheet_column(s, "time_s", NULL, true, 0);
    ptq_sheet_column(s, "on_front", NULL, true, 0);
    ptq_sheet_column(s, "ranked", NULL, true, 0);
}

int ptq_table_main_exact(const struct ptq_tables *t, struct ptq_sheet *s)
{
    int64_t n_ids, n_rows = 0;
    bool any_model = false;
    for (int64_t k = 0; k < t->v->n_boards; k++) {
        n_rows += t->v->boards[k].n + 1;
        any_model |= !t->v->boards[k].by_layers;
    }
    const char **ids = ptq_metric_ids(t, any_model ? "model" : "layer", &n_ids);
    int code =
        ids ? ptq_sheet_init(s, (int)(3 * n_ids) + 32, n_rows, t->arena, t->st) : PTQ_ERR_MEMORY;
    if (code)
        return code;
    lay_out_exact(t, ids, n_ids, s);
    for (int64_t k = 0; k < t->v->n_boards; k++) {
        const struct ptq_board *d = &t->v->boards[k];
        if (d->reference)
            put_exact_reference(t, d->reference, ids, n_ids, s);
        for (int64_t i = 0; i < d->n; i++)
            put_exact_point(t, d, &d->points[i], ids, n_ids, s);
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- front and spread ---- */

static int order_combos(const void *pa, const void *pb)
{
    const struct ptq_combo *a = *(const struct ptq_combo *const *)pa,
                           *b = *(const struct ptq_combo *const *)pb;
    int c = (a->bits > b->bits) - (a->bits < b->bits);
    return c ? c : (a->first > b->first) - (a->first < b->first);
}

int ptq_table_front(const struct ptq_tables *t, const struct ptq_board *d, struct ptq_sheet *s)
{
    const struct ptq_combo **on = ptq_arena_alloc(t->arena, t->st, d->n_combos, sizeof *on);
    int64_t n = 0;
    for (int64_t i = 0; on && i < d->n_combos; i++)
        if (d->combos[i].front)
            on[n++] = &d->combos[i];
    int code = on ? ptq_sheet_init(s, 5, n, t->arena, t->st) : PTQ_ERR_MEMORY;
    if (code)
        return code;
    qsort(on, (size_t)n, sizeof *on, order_combos);
    int method = ptq_sheet_column(s, "method", NULL, false, 0),
        bits = ptq_sheet_column(s, "bits", NULL, true, 0);
    int group = ptq_sheet_column(s, "group_size", "group", true, 0),
        stored = ptq_sheet_column(s, "bits_stored", NULL, true, 0);
    int loss = ptq_sheet_column(s, d->loss_id, NULL, true, 0);
    for (int64_t i = 0; i < n; i++) {
        const struct ptq_point *p = &d->points[on[i]->first];
        ptq_sheet_row(s);
        ptq_sheet_set(s, method, "%s", d->series[p->series]);
        set_int(s, bits, p->bits);
        ptq_sheet_set(s, group, "%s", ptq_group_text(t, p->group));
        set_number(s, stored, on[i]->bits, BITS);
        set_number(s, loss, on[i]->loss, d->by_layers ? SMALL : CHANGE);
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

int ptq_table_spread(const struct ptq_tables *t, const struct ptq_board *d, struct ptq_sheet *s)
{
    int code = ptq_sheet_init(s, 9, d->n_combos, t->arena, t->st);
    double *x = ptq_arena_alloc(t->arena, t->st, d->n, sizeof *x);
    if (code || !x)
        return PTQ_ERR_MEMORY;
    static const char *const ids[] = {"method", "bits", "group_size", "n_seeds",
                                      "mean",   "sd",   "min",        "max"};
    for (int c = 0; c < 8; c++)
        ptq_sheet_column(s, ids[c], NULL, c > 0, 0);
    for (int64_t i = 0; i < d->n_combos; i++) {
        const struct ptq_combo *k = &d->combos[i];
        const struct ptq_point *p = &d->points[k->first];
        for (int64_t j = 0; j < k->n; j++)
            x[j] = p[j].loss;
        ptq_sort_f64(x, k->n);
        ptq_sheet_row(s);
        ptq_sheet_set(s, 0, "%s", d->series[p->series]);
        set_int(s, 1, p->bits);
        ptq_sheet_set(s, 2, "%s", ptq_group_text(t, p->group));
        ptq_sheet_set(s, 3, "%" PRId64, k->n);
        const double v[] = {k->loss, ptq_stddev(x, k->n), x[0], x[k->n - 1]};
        for (int c = 0; c < 4; c++)
            set_number(s, 4 + c, v[c], SMALL);
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- layers ---- */

static bool is_short_layer_metric(const char *id)
{
    static const char *const shown[] = {"bits_stored",    "out_relerr", "out_relerr_heldout",
                                        "out_relerr_tok", "out_cos",    "w_relerr",
                                        "w_sqnr_db",      NULL};
    for (int i = 0; shown[i]; i++)
        if (!strcmp(shown[i], id))
            return true;
    return false;
}

static void put_layer(const struct ptq_tables *t, const json_t *r, const char *const *ids,
                      int64_t n_ids, bool exact, bool wide, struct ptq_sheet *s)
{
    static const char *const texts[] = {"layer", "role", "label"};
    static const char *const numbers[] = {"rows", "cols", "bits", "group_size", "calib_seed"};
    ptq_sheet_row(s);
    int c = 0;
    for (int i = 0; i < 3; i++)
        ptq_sheet_set(s, c++, "%s", ptq_row_text(r, texts[i]));
    for (int i = 0; i < 5; i++)
        ptq_sheet_set(s, c++, "%s", ptq_field_text(r, numbers[i], t->arena, t->st));
    if (wide)
        ptq_sheet_set(s, c++, "%s", ptq_field_text(r, "a_bits", t->arena, t->st));
    for (int64_t i = 0; i < n_ids; i++) {
        if (!exact && !is_short_layer_metric(ids[i]))
            continue;
        double v = ptq_row_metric(r, ids[i]);
        if (exact)
            set_exact(s, c++, v);
        else if (!strcmp(ids[i], "out_cos"))
            set_number(s, c++, v, CHANGE);
        else
            set_number(s, c++, v,
                       !strncmp(ids[i], "bits_", 5) || strstr(ids[i], "_db") ? BITS : SMALL);
    }
    double seconds = ptq_row_sub(r, "time", "quantize_s");
    if (exact)
        set_exact(s, c, seconds);
    else
        set_number(s, c, seconds, SECONDS);
}

int ptq_table_layers(const struct ptq_tables *t, bool exact, int64_t max_rows, struct ptq_sheet *s)
{
    static const char *const heads[] = {"layer", "role", "label",      "rows",
                                        "cols",  "bits", "group_size", "calib_seed"};
    int64_t n_ids, n = t->v->n_layers < max_rows ? t->v->n_layers : max_rows;
    const char **ids = ptq_metric_ids(t, "layer", &n_ids);
    int code = ids ? ptq_sheet_init(s, (int)n_ids + 12, n, t->arena, t->st) : PTQ_ERR_MEMORY;
    if (code)
        return code;
    for (int i = 0; i < 8; i++)
        ptq_sheet_column(s, heads[i], NULL, i > 2, 0);
    const bool wide = quantizes_inputs(t);
    if (wide)
        ptq_sheet_column(s, "a_bits", NULL, true, 0);
    for (int64_t i = 0; i < n_ids; i++)
        if (exact || is_short_layer_metric(ids[i]))
            ptq_sheet_column(s, ids[i], NULL, true, 0);
    ptq_sheet_column(s, "time_s", NULL, true, 0);
    for (int64_t i = 0; i < n; i++)
        put_layer(t, t->v->layers[i], ids, n_ids, exact, wide, s);
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- skipped and failed ---- */

/* Equal but for the rows' own layers, and for numbers where those may differ. */
static bool reasons_alike(const json_t *row_a, const json_t *row_b, bool numbers)
{
    const char *digits = numbers ? "0123456789." : "";
    const char *a = ptq_row_text(row_a, "reason"), *b = ptq_row_text(row_b, "reason"),
               *layer_a = ptq_row_text(row_a, "layer"), *layer_b = ptq_row_text(row_b, "layer");
    const size_t len_a = strlen(layer_a), len_b = strlen(layer_b);
    while (*a && *b) {
        bool own = len_a && len_b && !strncmp(a, layer_a, len_a) && !strncmp(b, layer_b, len_b);
        size_t skip_a = own ? len_a : strspn(a, digits), skip_b = own ? len_b : strspn(b, digits);
        if (!skip_a != !skip_b || (!skip_a && *a != *b))
            return false;
        a += skip_a ? skip_a : 1;
        b += skip_b ? skip_b : 1;
    }
    return *a == *b;
}

/* Neighbours in the order of the report. Within one cell's layers (at any bits of the inputs)
 * reasons may differ in numbers. */
static bool same_fault(const json_t *a, const json_t *b)
{
    static const char *const fields[] = {"status", "kind", "label"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(ptq_row_text(a, fields[i]), ptq_row_text(b, fields[i])))
            return false;
    const bool one_cell = ptq_row_num(a, "bits") == ptq_row_num(b, "bits") &&
                          ptq_row_num(a, "group_size") == ptq_row_num(b, "group_size");
    return reasons_alike(a, b, one_cell);
}

int ptq_table_bad(const struct ptq_tables *t, struct ptq_sheet *s)
{
    static const char *const heads[] = {"status", "cells", "method", "first_cell", "reason"};
    int code = ptq_sheet_init(s, 5, t->v->n_bad, t->arena, t->st);
    if (code)
        return code;
    for (int c = 0; c < 5; c++)
        ptq_sheet_column(s, heads[c], c == 3 ? "first cell" : NULL, c == 1, 0);
    for (int64_t i = 0, n; i < t->v->n_bad; i += n) {
        const json_t *r = t->v->bad[i];
        for (n = 1; i + n < t->v->n_bad && same_fault(t->v->bad[i + n - 1], t->v->bad[i + n]); n++)
            ;
        const json_t *group = json_object_get(r, "group_size");
        ptq_sheet_row(s);
        ptq_sheet_set(s, 0, "%s", ptq_row_text(r, "status"));
        ptq_sheet_set(s, 1, "%" PRId64, n);
        ptq_sheet_set(s, 2, "%s", ptq_row_text(r, "label"));
        int64_t size = json_is_integer(group) ? json_integer_value(group) : INT64_MIN;
        const char *a_bits = json_object_get(r, "a_bits")
                                 ? ptq_arena_printf(t->arena, t->st, " a%s",
                                                    ptq_field_text(r, "a_bits", t->arena, t->st))
                                 : "";
        ptq_sheet_set(s, 3, "b%s%s %s%s%s%s", ptq_field_text(r, "bits", t->arena, t->st),
                      a_bits ? a_bits : "", size > 0 ? "g" : "", ptq_group_text(t, size),
                      *ptq_row_text(r, "layer") ? " " : "", ptq_row_text(r, "layer"));
        ptq_sheet_set(s, 4, "%s",
                      *ptq_row_text(r, "reason") ? ptq_row_text(r, "reason") : "(no reason given)");
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- definitions ---- */

int ptq_table_definitions(const struct ptq_tables *t, struct ptq_sheet *s)
{
    static const char *const better[] = {"lower", "", "higher"};
    int64_t n;
    const char **ids = ptq_metric_ids(t, NULL, &n);
    int code = ids ? ptq_sheet_init(s, 4, n, t->arena, t->st) : PTQ_ERR_MEMORY;
    if (code)
        return code;
    ptq_sheet_column(s, "id", NULL, false, 0);
    ptq_sheet_column(s, "title", "definition", false, 0);
    ptq_sheet_column(s, "unit", NULL, false, 0);
    ptq_sheet_column(s, "better", NULL, false, 0);
    for (int64_t i = 0; i < n; i++) {
        const struct ptq_metric *m = ptq_metric_find(ids[i]);
        ptq_sheet_row(s);
        ptq_sheet_set(s, 0, "%s", ids[i]);
        const char *speed = ptq_speed_title(ids[i]);
        ptq_sheet_set(s, 1, "%s",
                      m       ? m->title
                      : speed ? speed
                              : "(a metric this program does not know)");
        ptq_sheet_set(s, 2, "%s", m && m->unit ? m->unit : "");
        ptq_sheet_set(s, 3, "%s", m ? better[m->better + 1] : "");
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- facts ---- */

struct facts {
    const struct ptq_tables *t;
    struct ptq_fact *at;
    int n;
};

static void add_fact(struct facts *f, const char *name, const char *text)
{
    if (text && *text && f->n < PTQ_MAX_FACTS)
        f->at[f->n++] = (struct ptq_fact){name, text};
}

static const char *field(const struct ptq_tables *t, const json_t *row, const char *name)
{
    return ptq_field_text(row, name, t->arena, t->st);
}

static const char *protocol_line(const struct ptq_tables *t, const json_t *r)
{
    const char *rules = field(t, r, "rules"), *windows = field(t, r, "n_windows");
    return ptq_arena_printf(t->arena, t->st, "%s%s%s%s; text %s (key %.12s)%s%s%s",
                            field(t, r, "protocol"), *rules ? " (" : "", rules, *rules ? ")" : "",
                            field(t, r, "text"), field(t, r, "text_key"), *windows ? ", " : "",
                            windows, *windows ? " windows" : "");
}

/* "; calibrated on ...: in-domain", or "". */
static const char *in_domain_part(const struct ptq_tables *t, const struct ptq_board *d)
{
    const char *why = NULL;
    for (int64_t i = 0; i < d->n && !why; i++)
        why = ptq_in_domain(d->points[i].any);
    const char *part = why ? ptq_arena_printf(t->arena, t->st, "; %s", why) : NULL;
    return part ? part : "";
}

static const char *calibration_line(const struct ptq_tables *t, const struct ptq_board *d)
{
    const json_t *r = d->points[0].any;
    const char *calib = field(t, r, "calib"), *stats = field(t, r, "stats"),
               *held = field(t, r, "heldout");
    if (!strcmp(stats, "given"))
        return "statistics or activations given in the layer file";
    return ptq_arena_printf(
        t->arena, t->st, "%s, %s sequences of %s%s tokens, seed %s%s; statistics: %s%s%s%s", calib,
        field(t, r, "nsamples"),
        strncmp(field(t, r, "calib_draw"), "sentences-", 10) ? "" : "up to ", field(t, r, "seqlen"),
        field(t, r, "calib_seed"), d->many_seeds ? " and others (column)" : "",
        !strcmp(stats, "fp") ? "of the full-precision model" : "sequential, of the quantized part",
        *held ? "; held out: " : "", held, in_domain_part(t, d));
}

static const char *machine_line(const struct ptq_tables *t, const json_t *r)
{
    const json_t *h = json_object_get(r, "host");
    const char *cpu = field(t, h, "cpu"), *threads = field(t, h, "threads");
    const char *commit = ptq_run_text(t->v, "commit", t->arena, t->st),
               *compiler = ptq_run_text(t->v, "compiler", t->arena, t->st);
    return ptq_arena_printf(t->arena, t->st, "%s%s%s threads; kernels %s; BLAS core %s%s%s%s%s",
                            cpu, *cpu ? ", " : "", *threads ? threads : "?", field(t, h, "isa"),
                            field(t, h, "blas_core"), *commit ? "; commit " : "", commit,
                            *compiler ? "; " : "", compiler);
}

static const char *interval_line(const struct ptq_board *d)
{
    for (int64_t i = 0; i < d->n; i++)
        if (!isnan(d->points[i].loss_lo))
            return "95 %, of the paired difference to full precision over the windows of the text";
    return "";
}

/* Preparation (factors) is made once and shared, so it is given by method, not by cell. */
static const char *time_line(const struct ptq_tables *t, const struct ptq_board *d)
{
    const char *text = "quantizing every layer; preparation, which cells share, once beside it:";
    const char *label = NULL;
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = 0; i <= t->v->n_layers && text; i++) {
        const json_t *r = i < t->v->n_layers ? t->v->layers[i] : NULL;
        if (r && strcmp(ptq_row_text(r, "model"), d->model))
            continue;
        if (label && (!r || strcmp(label, ptq_row_text(r, "label")))) {
            if (sum > 0) /* methods without preparation are not listed */
                text = ptq_arena_printf(t->arena, t->st, "%s%s %s %.2g s", text, n++ ? "," : "",
                                        label, sum);
            sum = 0;
        }
        label = r ? ptq_row_text(r, "label") : NULL;
        double v = r ? ptq_row_sub(r, "time", "prepare_s") : NAN;
        sum += isnan(v) ? 0 : v;
    }
    return text && n ? text : "quantizing every layer, without preparation";
}

int ptq_board_facts(const struct ptq_tables *t, const struct ptq_board *d,
                    struct ptq_fact facts[PTQ_MAX_FACTS])
{
    struct facts f = {t, facts, 0};
    const json_t *r = d->points[0].any;
    add_fact(&f, "model",
             ptq_arena_printf(t->arena, t->st, "%s (%s)", d->model, field(t, r, "source")));
    add_fact(&f, "not ranked", d->unranked_note);
    if (!d->by_layers)
        add_fact(&f, "protocol", protocol_line(t, r));
    add_fact(&f, "calibration", calibration_line(t, d));
    add_fact(&f, "settings", t->v->settings);
    add_fact(&f, "interval", interval_line(d));
    if (d->n_layers)
        add_fact(&f, "layers",
                 ptq_arena_printf(t->arena, t->st,
                                  "geo.mean: geometric mean over %" PRId64
                                  " layers; bits_stored counts "
                                  "everything stored, over the quantized weights",
                                  d->n_layers));
    add_fact(&f, "proxies", ptq_proxies_line(t, d));
    add_fact(&f, "time", time_line(t, d));
    add_fact(&f, "machine", machine_line(t, r));
    for (int64_t i = 0; i < t->v->remarks.n; i++)
        add_fact(&f, "remark", t->v->remarks.at[i]);
    return f.n;
}

const char *ptq_verdict(const struct ptq_tables *t)
{
    const struct ptq_view *v = t->v;
    const char *text =
        ptq_arena_printf(t->arena, t->st, "%s: %" PRId64 " cell%s finished",
                         v->faults.n ? "INVALID" : "VALID", v->n_ok, v->n_ok == 1 ? "" : "s");
    if (v->n_skipped && text)
        text = ptq_arena_printf(t->arena, t->st, "%s, %" PRId64 " skipped", text, v->n_skipped);
    for (int64_t i = 0; i < v->faults.n && text; i++)
        text = ptq_arena_printf(t->arena, t->st, "%s; %s", text, v->faults.at[i]);
    return text ? text : "INVALID: out of memory";
}
