/* table_propagation.c: how the error of a quantized model comes about, block by block. */
#include "analysis/propagation.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

const char ptq_about_propagation[] =
    "Squared error of the residual stream relative to full precision's, over tokens behind the "
    "sinks (first positions, whose norm would hide every error). Total: what leaves the last "
    "block. Local: what a block adds to full-precision inputs, mean over the blocks and the most "
    "(at that block, from 0). Carried: what a full-precision block makes of the relative error "
    "that enters it, geometric mean over the blocks; under 1 it is forgotten, over 1 it grows. "
    "Cosine: between what a block inherits and what it adds, mean over the blocks; over 0 they "
    "reinforce each other. Every block is in tables/propagation.csv.";

/* ---- rows ---- */

static bool same_text(const json_t *a, const json_t *b, const char *field)
{
    return !strcmp(ptq_row_text(a, field), ptq_row_text(b, field));
}

/* Rows are sorted by their kind first. */
static int64_t first_of_kind(const struct ptq_view *v, const char *kind)
{
    int64_t lo = 0, hi = v->rows.n;
    while (lo < hi) {
        const int64_t mid = lo + (hi - lo) / 2;
        if (strcmp(ptq_row_text(v->sorted[mid], "kind"), kind) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const json_t *ptq_propagation_of(const struct ptq_tables *t, const struct ptq_point *p)
{
    static const char kind[] = "propagation";
    for (int64_t i = p->row ? first_of_kind(t->v, kind) : t->v->rows.n; i < t->v->rows.n; i++) {
        const json_t *r = t->v->sorted[i];
        if (strcmp(ptq_row_text(r, "kind"), kind) != 0)
            break;
        if (same_text(r, p->row, "form") && same_text(r, p->row, "text_key") &&
            same_text(r, p->row, "protocol"))
            return json_object_get(r, kind);
    }
    return NULL;
}

double ptq_propagation_at(const json_t *p, const char *tokens, const char *quantity, int64_t block)
{
    const json_t *v = json_array_get(json_object_get(json_object_get(p, tokens), quantity),
                                     block < 0 ? SIZE_MAX : (size_t)block);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

int64_t ptq_propagation_blocks(const json_t *p)
{
    return (int64_t)json_array_size(json_object_get(json_object_get(p, "blocks"), "total"));
}

/* ---- a model a row ---- */

struct summary {
    double total, with_sinks, local, most, at, carried, cosine;
};

static double block_of(const json_t *p, const char *quantity, int64_t block)
{
    return ptq_propagation_at(p, "blocks", quantity, block);
}

static struct summary sum_up(const json_t *p)
{
    const int64_t n = ptq_propagation_blocks(p);
    struct summary s = {.total = block_of(p, "total", n - 1),
                        .with_sinks = ptq_propagation_at(p, "with_sinks", "total", n - 1),
                        .most = NAN,
                        .at = NAN};
    double log_carried = 0, cosine = 0;
    int64_t n_carried = 0, n_cosines = 0;
    for (int64_t b = 0; b < n; b++) {
        const double local = block_of(p, "local", b), c = block_of(p, "cosine", b),
                     carried = block_of(p, "inherited", b) / block_of(p, "total", b - 1);
        s.local += local / (double)n;
        if (isnan(s.most) || local > s.most) {
            s.most = local;
            s.at = (double)b;
        }
        if (isfinite(carried) && carried > 0) {
            log_carried += log(carried);
            n_carried++;
        }
        if (isfinite(c)) {
            cosine += c;
            n_cosines++;
        }
    }
    s.carried = n_carried ? exp(log_carried / (double)n_carried) : NAN;
    s.cosine = n_cosines ? cosine / (double)n_cosines : NAN;
    return s;
}

static void put(struct ptq_sheet *s, int column, const char *format, double v)
{
    char text[32];
    snprintf(text, sizeof text, strcmp(format, "%.3f") ? "%.2e" : "%+.3f", v);
    ptq_sheet_set(s, column, "%s", isnan(v) ? "-" : text);
}

struct columns {
    int method, bits, group, inputs, seed, first;
};

static void put_model(const struct ptq_tables *t, const struct ptq_board *d,
                      const struct ptq_point *p, const struct columns *c, struct ptq_sheet *s)
{
    const json_t *found = ptq_propagation_of(t, p);
    if (!found)
        return;
    const struct summary v = sum_up(found);
    const char *inputs = ptq_field_text(p->row, "a_bits", t->arena, t->st);
    ptq_sheet_row(s);
    ptq_sheet_set(s, c->method, "%s", d->series[p->series]);
    ptq_sheet_set(s, c->bits, "%" PRId64, p->bits);
    ptq_sheet_set(s, c->group, "%s", ptq_group_text(t, p->group));
    if (c->inputs >= 0)
        ptq_sheet_set(s, c->inputs, "%s", *inputs ? inputs : "16");
    if (c->seed >= 0)
        ptq_sheet_set(s, c->seed, "%" PRId64, p->calib_seed);
    put(s, c->first, "%.2e", v.total);
    put(s, c->first + 1, "%.2e", v.with_sinks);
    put(s, c->first + 2, "%.2e", v.local);
    put(s, c->first + 3, "%.2e", v.most);
    ptq_sheet_set(s, c->first + 4, isnan(v.at) ? "-" : "%.0f", v.at);
    ptq_sheet_set(s, c->first + 5, isnan(v.carried) ? "-" : "%.3f", v.carried);
    put(s, c->first + 6, "%.3f", v.cosine);
}

int ptq_table_propagation(const struct ptq_tables *t, const struct ptq_board *d,
                          struct ptq_sheet *s)
{
    bool acts = false;
    int code = ptq_sheet_init(s, 12, d->n, t->arena, t->st);
    if (code)
        return code;
    for (int64_t i = 0; i < d->n; i++)
        acts = acts || json_object_get(d->points[i].any, "a_bits");
    struct columns c = {.method = ptq_sheet_column(s, "method", NULL, false, 0),
                        .bits = ptq_sheet_column(s, "bits", NULL, true, 0),
                        .group = ptq_sheet_column(s, "group_size", "group", true, 0)};
    c.inputs = acts ? ptq_sheet_column(s, "a_bits", "inputs\nbits", true, 0) : -1;
    c.seed = d->many_seeds ? ptq_sheet_column(s, "calib_seed", "calib\nseed", true, 0) : -1;
    c.first = ptq_sheet_column(s, "total", "total behind\nlast block", true, 0);
    ptq_sheet_column(s, "total_with_sinks", "the same\nwith sinks", true, 2);
    ptq_sheet_column(s, "local", "local\nmean", true, 0);
    ptq_sheet_column(s, "local_most", "local\nmost", true, 0);
    ptq_sheet_column(s, "local_most_at", "at\nblock", true, 1);
    ptq_sheet_column(s, "carried", "carried\na block", true, 0);
    ptq_sheet_column(s, "cosine", "cosine\nmean", true, 0);
    for (int64_t i = 0; i < d->n; i++)
        put_model(t, d, &d->points[i], &c, s);
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- every block ---- */

static const char *const quantities[] = {"norm", "total", "local", "inherited", "own", "cosine"};
enum { N_QUANTITIES = sizeof quantities / sizeof *quantities };

static void put_exact(struct ptq_sheet *s, int column, double v)
{
    if (!isnan(v))
        ptq_sheet_set(s, column, "%.17g", v);
}

static void put_blocks(const struct ptq_tables *t, const struct ptq_board *d,
                       const struct ptq_point *p, struct ptq_sheet *s)
{
    const json_t *found = ptq_propagation_of(t, p);
    for (int64_t b = 0; b < ptq_propagation_blocks(found); b++) {
        int c = 0;
        ptq_sheet_row(s);
        ptq_sheet_set(s, c++, "%s", d->model);
        ptq_sheet_set(s, c++, "%s", d->protocol);
        ptq_sheet_set(s, c++, "%s", d->series[p->series]);
        ptq_sheet_set(s, c++, "%" PRId64, p->bits);
        ptq_sheet_set(s, c++, "%" PRId64, p->group);
        ptq_sheet_set(s, c++, "%s", ptq_field_text(p->row, "a_bits", t->arena, t->st));
        ptq_sheet_set(s, c++, "%" PRId64, p->calib_seed);
        ptq_sheet_set(s, c++, "%.17g", p->bits_stored);
        ptq_sheet_set(s, c++, "%" PRId64, b);
        for (int k = 0; k < N_QUANTITIES; k++)
            put_exact(s, c++, ptq_propagation_at(found, "blocks", quantities[k], b));
        for (int k = 0; k < N_QUANTITIES; k++)
            put_exact(s, c++, ptq_propagation_at(found, "with_sinks", quantities[k], b));
    }
}

int ptq_table_propagation_exact(const struct ptq_tables *t, struct ptq_sheet *s)
{
    static const char *const heads[] = {"model",  "protocol",   "method",      "bits", "group_size",
                                        "a_bits", "calib_seed", "bits_stored", "block"};
    int64_t room = 0;
    for (int64_t b = 0; b < t->v->n_boards; b++)
        for (int64_t i = 0; i < t->v->boards[b].n; i++)
            room += ptq_propagation_blocks(ptq_propagation_of(t, &t->v->boards[b].points[i]));
    int code = ptq_sheet_init(s, 9 + 2 * N_QUANTITIES, room, t->arena, t->st);
    for (int k = 0; k < 9 && !code; k++)
        ptq_sheet_column(s, heads[k], NULL, k > 2, 0);
    for (int k = 0; k < N_QUANTITIES && !code; k++)
        ptq_sheet_column(s, quantities[k], NULL, true, 0);
    for (int k = 0; k < N_QUANTITIES && !code; k++) {
        const char *id = ptq_arena_printf(t->arena, t->st, "%s_with_sinks", quantities[k]);
        code = id ? PTQ_OK : PTQ_ERR_MEMORY;
        if (!code)
            ptq_sheet_column(s, id, NULL, true, 0);
    }
    for (int64_t b = 0; b < t->v->n_boards && !code; b++)
        for (int64_t i = 0; i < t->v->boards[b].n; i++)
            put_blocks(t, &t->v->boards[b], &t->v->boards[b].points[i], s);
    return code ? code : t->st->code < 0 ? t->st->code : PTQ_OK;
}
