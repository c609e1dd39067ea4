/* table_crossloss.c: every method's weights under every objective. A method that wins under its own
 * objective and loses under the others has fitted its statistics, not the layer. */
#include "analysis/strata.h"
#include "analysis/tables.h"
#include "core/stat.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *id, *head;
} objectives[] = {
    {"w_relerr", "weight\nerror\nw_relerr"},
    {"out_relerr", "calibration\nH\nout_relerr"},
    {"out_relerr_heldout", "held-out\nH\nout_relerr_heldout"},
    {"out_relerr_nosink", "calibration\nwithout sink\nout_relerr_nosink"},
    {"out_relerr_heldout_nosink", "held-out\nwithout sink\nout_relerr_heldout_nosink"},
    {"attn_loss", "attention\n(q, k, v)\nattn_loss"},
    {"out_relerr_wa", "inputs\nquantized too\nout_relerr_wa"}};
enum { N_OBJECTIVES = sizeof objectives / sizeof *objectives };

struct entry { /* one row: a setting over its calibration seeds */
    const struct ptq_board *d;
    struct ptq_member m;
    double mean_log[N_OBJECTIVES]; /* of the ratio to rtn; NaN: absent */
    int64_t n[N_OBJECTIVES];       /* layers behind it */
    bool smallest[N_OBJECTIVES], tied[N_OBJECTIVES];
    bool outside; /* stores more than the others: no star is its, and none is denied for it */
};

struct cross {
    const struct ptq_tables *t;
    struct entry *at;
    int64_t n;
    double *x; /* [most layers of an entry] */
};

/* ---- ratios ------------------------------------------------------------------------------------
 */

static int64_t whole(const json_t *row, const char *field)
{
    return json_integer_value(json_object_get(row, field));
}

/* The layer in another setting: under the same calibration seed where there is such a row; methods
 * without statistics have one for all seeds. */
static const json_t *layer_of(const struct entry *e, const json_t *row, int64_t point, int64_t at)
{
    const json_t *any = NULL;
    if (point < e->m.combo->n &&
        at < e->m.first[point].layers.n) { /* mostly both stand in one order */
        const json_t *same = e->m.first[point].layers.at[at];
        if (!strcmp(ptq_row_text(same, "layer"), ptq_row_text(row, "layer")) &&
            whole(same, "calib_seed") == whole(row, "calib_seed"))
            return same;
    }
    for (int64_t p = 0; p < e->m.combo->n; p++) {
        const struct ptq_cells *c = &e->m.first[p].layers;
        for (int64_t i = 0; i < c->n; i++) {
            if (strcmp(ptq_row_text(c->at[i], "layer"), ptq_row_text(row, "layer")) != 0)
                continue;
            if (whole(c->at[i], "calib_seed") == whole(row, "calib_seed"))
                return c->at[i];
            any = c->at[i];
        }
    }
    return any;
}

/* log(a / b) of every layer that has both, a positive loss each, into x. */
static int64_t log_ratios(const struct entry *a, const struct entry *b, const char *id, double *x)
{
    int64_t n = 0;
    for (int64_t p = 0; p < a->m.combo->n; p++) {
        const struct ptq_cells *c = &a->m.first[p].layers;
        for (int64_t i = 0; i < c->n; i++) {
            const json_t *other = layer_of(b, c->at[i], p, i);
            double u = ptq_row_metric(c->at[i], id), v = other ? ptq_row_metric(other, id) : NAN;
            if (u > 0 && v > 0)
                x[n++] = log(u / v);
        }
    }
    return n;
}

/* ---- blocks of one (bits, group, a_bits) -------------------------------------------------------
 */

static void mark(struct cross *c, struct entry *block, int64_t n, int k)
{
    struct entry *best = NULL;
    for (int64_t i = 0; i < n; i++)
        if (!block[i].outside && !isnan(block[i].mean_log[k]) &&
            (!best || block[i].mean_log[k] < best->mean_log[k]))
            best = &block[i];
    if (!best)
        return;
    best->smallest[k] = true;
    for (int64_t i = 0; i < n; i++) {
        struct ptq_interval v;
        if (&block[i] == best || block[i].outside || isnan(block[i].mean_log[k]))
            continue;
        ptq_paired_interval(c->x, log_ratios(&block[i], best, objectives[k].id, c->x), .95, &v);
        block[i].tied[k] = v.lo <= 0; /* NaN, of one layer: no tie is claimed */
    }
}

/* Relative to the block's first rtn; without one there is nothing to show. */
static bool fill_block(struct cross *c, struct entry *block, int64_t n)
{
    const struct entry *rtn = NULL;
    for (int64_t i = 0; i < n && !rtn; i++)
        if (!strcmp(ptq_row_text(block[i].m.first->any, "base"), "rtn"))
            rtn = &block[i];
    for (int64_t i = 0; rtn && i < n; i++)
        block[i].outside = ptq_stores_more(block[i].m.combo->bits, rtn->m.combo->bits);
    for (int64_t i = 0; rtn && i < n; i++)
        for (int k = 0; k < N_OBJECTIVES; k++) {
            block[i].n[k] = log_ratios(&block[i], rtn, objectives[k].id, c->x);
            block[i].mean_log[k] = ptq_mean(c->x, block[i].n[k]);
        }
    for (int k = 0; rtn && k < N_OBJECTIVES; k++)
        mark(c, block, n, k);
    return rtn && n > 1;
}

static int64_t layers_behind(const struct entry *e)
{
    int64_t n = 0;
    for (int64_t p = 0; p < e->m.combo->n; p++)
        n += e->m.first[p].layers.n;
    return n;
}

static int gather(struct cross *c, const struct ptq_board *d)
{
    int64_t most = 1, kept = 0;
    struct ptq_member *m;
    c->at = ptq_arena_alloc(c->t->arena, c->t->st, d->n_combos, sizeof *c->at);
    if (!c->at || ptq_strata(d, c->t->arena, &m, c->t->st))
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n_combos; i++) {
        const struct entry e = {.d = d, .m = m[i]};
        most = layers_behind(&e) > most ? layers_behind(&e) : most;
        if (layers_behind(&e))
            c->at[c->n++] = e;
    }
    c->x = ptq_arena_alloc(c->t->arena, c->t->st, most, sizeof *c->x);
    if (!c->x)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0, n; i < c->n; i += n) {
        for (n = 1; i + n < c->n && ptq_same_stratum(&c->at[i].m, &c->at[i + n].m); n++)
            ;
        if (fill_block(c, &c->at[i], n)) {
            memmove(&c->at[kept], &c->at[i], (size_t)n * sizeof *c->at);
            kept += n;
        }
    }
    c->n = kept;
    return PTQ_OK;
}

/* ---- sheets ------------------------------------------------------------------------------------
 */

static bool held(const struct cross *c, int k)
{
    for (int64_t i = 0; i < c->n; i++)
        if (!isnan(c->at[i].mean_log[k]))
            return true;
    return false;
}

static void put_ratio(struct ptq_sheet *s, int column, const struct entry *e, int k)
{
    const char *sign = e->smallest[k] ? " *" : e->tied[k] ? " ~" : "";
    if (isnan(e->mean_log[k]))
        ptq_sheet_set(s, column, "-");
    else
        ptq_sheet_set(s, column, "%.3f%s", exp(e->mean_log[k]), sign);
}

int ptq_table_crossloss(const struct ptq_tables *t, const struct ptq_board *d, struct ptq_sheet *s)
{
    struct cross c = {.t = t};
    int column[N_OBJECTIVES], code = gather(&c, d);
    bool acts = false;
    code = code ? code : ptq_sheet_init(s, N_OBJECTIVES + 5, c.n, t->arena, t->st);
    if (code)
        return code;
    for (int64_t i = 0; i < c.n; i++)
        acts = acts || c.at[i].m.a_bits;
    int bits = ptq_sheet_column(s, "bits", NULL, true, 0);
    int group = ptq_sheet_column(s, "group_size", "group", true, 0);
    int a_bits = acts ? ptq_sheet_column(s, "a_bits", "inputs\nbits", true, 0) : -1;
    int method = ptq_sheet_column(s, "method", NULL, false, 0);
    int stored = ptq_sheet_column(s, "bits_stored", "stored\nbits/w", true, 0);
    for (int k = 0; k < N_OBJECTIVES; k++)
        column[k] =
            held(&c, k) ? ptq_sheet_column(s, objectives[k].id, objectives[k].head, true, 0) : -1;
    for (int64_t i = 0; i < c.n; i++) {
        const struct entry *e = &c.at[i];
        ptq_sheet_row(s);
        ptq_sheet_set(s, bits, "%" PRId64, e->m.first->bits);
        ptq_sheet_set(s, group, "%s", ptq_group_text(t, e->m.first->group));
        if (acts)
            ptq_sheet_set(s, a_bits, "%" PRId64, e->m.a_bits ? e->m.a_bits : 16);
        ptq_sheet_set(s, method, "%s", d->series[e->m.first->series]);
        ptq_sheet_set(s, stored, "%.3f", e->m.combo->bits);
        for (int k = 0; k < N_OBJECTIVES; k++)
            if (column[k] >= 0)
                put_ratio(s, column[k], e, k);
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

static void put_exact(const struct entry *e, int k, struct ptq_sheet *s)
{
    int at = 0;
    ptq_sheet_row(s);
    ptq_sheet_set(s, at++, "%s", e->d->model);
    ptq_sheet_set(s, at++, "%" PRId64, e->m.first->bits);
    ptq_sheet_set(s, at++, "%" PRId64, e->m.first->group);
    ptq_sheet_set(s, at++, "%" PRId64, e->m.a_bits);
    ptq_sheet_set(s, at++, "%s", e->d->series[e->m.first->series]);
    ptq_sheet_set(s, at++, "%.17g", e->m.combo->bits);
    ptq_sheet_set(s, at++, "%s", objectives[k].id);
    ptq_sheet_set(s, at++, "%.17g", exp(e->mean_log[k]));
    ptq_sheet_set(s, at++, "%" PRId64, e->n[k]);
    ptq_sheet_set(s, at++, "%d", e->smallest[k]);
    ptq_sheet_set(s, at++, "%d", e->tied[k]);
}

bool ptq_first_of_model(const struct ptq_view *v, int64_t board)
{
    for (int64_t i = 0; i < board; i++)
        if (!strcmp(v->boards[i].model, v->boards[board].model))
            return false;
    return true;
}

int ptq_table_crossloss_exact(const struct ptq_tables *t, struct ptq_sheet *s)
{
    static const struct {
        const char *id;
        bool numeric;
    } heads[] = {{"model", false},   {"bits", true},        {"group_size", true}, {"a_bits", true},
                 {"method", false},  {"bits_stored", true}, {"objective", false}, {"ratio", true},
                 {"n_layers", true}, {"smallest", true},    {"tied", true}};
    enum { N_HEADS = sizeof heads / sizeof *heads };
    int64_t room = 0;
    for (int64_t b = 0; b < t->v->n_boards; b++)
        room += t->v->boards[b].n_combos * N_OBJECTIVES;
    int code = ptq_sheet_init(s, N_HEADS, room, t->arena, t->st);
    for (int k = 0; !code && k < N_HEADS; k++)
        ptq_sheet_column(s, heads[k].id, NULL, heads[k].numeric, 0);
    for (int64_t b = 0; !code && b < t->v->n_boards; b++) {
        struct cross c = {.t = t};
        if (!ptq_first_of_model(t->v, b))
            continue;
        code = gather(&c, &t->v->boards[b]);
        for (int64_t i = 0; !code && i < c.n; i++)
            for (int k = 0; k < N_OBJECTIVES; k++)
                if (!isnan(c.at[i].mean_log[k]))
                    put_exact(&c.at[i], k, s);
    }
    return code ? code : t->st->code < 0 ? t->st->code : PTQ_OK;
}
