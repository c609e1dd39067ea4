/* table_wins.c: which method is best in how many layers, and how much of that another draw of the
 * calibration text would have turned round. */
#include "analysis/equal.h"
#include "analysis/strata.h"
#include "core/stat.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct rival { /* a setting in a block of equal bits, group and inputs */
    struct ptq_member m;
    bool outside;       /* stores more than is equal: takes no part */
    double *log_error;  /* [draw][layer]; NaN: absent */
    const char **codes; /* [draw][layer] codes_hash, "" where none is told */
    double *share;      /* [draw] */
    double beyond;      /* share of the layers */
};

struct contest {
    const struct ptq_tables *t;
    const struct ptq_board *d;
    const char *id;
    struct rival *at;
    int64_t n;
    const json_t **layers; /* a row of every layer of the board, in layer order */
    int64_t n_layers;
    int64_t *draws; /* calibration seeds of the block */
    int64_t n_draws;
};

/* ---- what takes part ---- */

static bool same_layer(const json_t *a, const json_t *b)
{
    return !strcmp(ptq_row_text(a, "layer"), ptq_row_text(b, "layer"));
}

static int order_layers(const void *pa, const void *pb)
{
    const json_t *a = *(const json_t *const *)pa, *b = *(const json_t *const *)pb;
    return ptq_row_order_layer(a, b);
}

static int gather_layers(struct contest *c)
{
    int64_t n = 0, kept = 0;
    for (int64_t i = 0; i < c->d->n; i++)
        n += c->d->points[i].layers.n;
    c->layers = ptq_arena_alloc(c->t->arena, c->t->st, n, sizeof *c->layers);
    if (!c->layers)
        return PTQ_ERR_MEMORY;
    n = 0;
    for (int64_t i = 0; i < c->d->n; i++)
        for (int64_t k = 0; k < c->d->points[i].layers.n; k++)
            c->layers[n++] = c->d->points[i].layers.at[k];
    qsort(c->layers, (size_t)n, sizeof *c->layers, order_layers);
    for (int64_t i = 0; i < n; i++)
        if (!kept || !same_layer(c->layers[kept - 1], c->layers[i]))
            c->layers[kept++] = c->layers[i];
    c->n_layers = kept;
    return PTQ_OK;
}

static int gather_rivals(struct contest *c)
{
    const struct ptq_board *d = c->d;
    struct ptq_member *m;
    c->at = ptq_arena_alloc(c->t->arena, c->t->st, d->n_combos, sizeof *c->at);
    if (!c->at || ptq_strata(d, c->t->arena, &m, c->t->st))
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n_combos; i++)
        if (!m[i].combo->unranked && m[i].first->layers.n)
            c->at[c->n++] = (struct rival){.m = m[i]};
    return PTQ_OK;
}

/* ---- errors by draw and layer ---- */

static void find_draws(struct contest *c, const struct rival *block, int64_t n)
{
    c->n_draws = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t p = 0; p < block[i].m.combo->n; p++) {
            int64_t k = 0, seed = block[i].m.first[p].calib_seed;
            while (k < c->n_draws && c->draws[k] != seed)
                k++;
            c->draws[k] = seed;
            c->n_draws += k == c->n_draws;
        }
}

/* A method without statistics has one form for all draws, and so one set of layers here. */
static const struct ptq_cells *cells_of(const struct rival *r, int64_t seed)
{
    for (int64_t p = 0; p < r->m.combo->n; p++)
        if (r->m.first[p].calib_seed == seed)
            return &r->m.first[p].layers;
    return r->m.combo->n == 1 ? &r->m.first->layers : NULL;
}

static int read_errors(struct contest *c, struct rival *r)
{
    const int64_t n = c->n_draws * c->n_layers;
    r->log_error = ptq_arena_alloc(c->t->arena, c->t->st, n, sizeof *r->log_error);
    r->share = ptq_arena_alloc(c->t->arena, c->t->st, c->n_draws, sizeof *r->share);
    r->codes = ptq_arena_alloc(c->t->arena, c->t->st, n, sizeof *r->codes);
    if (!r->log_error || !r->share || !r->codes)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        r->log_error[i] = NAN;
        r->codes[i] = "";
    }
    for (int64_t s = 0; s < c->n_draws; s++) {
        const struct ptq_cells *cells = cells_of(r, c->draws[s]);
        for (int64_t i = 0, l = 0; cells && i < cells->n; i++) { /* both in layer order */
            while (l < c->n_layers && !same_layer(c->layers[l], cells->at[i]))
                l++;
            if (l == c->n_layers)
                continue;
            r->log_error[s * c->n_layers + l] = log(ptq_row_metric(cells->at[i], c->id));
            r->codes[s * c->n_layers + l] = ptq_row_text(cells->at[i], "codes_hash");
        }
    }
    return PTQ_OK;
}

/* ---- wins ---- */

/* The same form under two settings: an option that changed nothing is no rival. */
static bool same_form(const struct rival *a, const struct rival *b, int64_t at)
{
    return *a->codes[at] && !strcmp(a->codes[at], b->codes[at]);
}

static bool is_copy(const struct rival *block, int64_t i, int64_t at)
{
    for (int64_t k = 0; k < i; k++)
        if (!block[k].outside && !isnan(block[k].log_error[at]) &&
            same_form(&block[k], &block[i], at))
            return true;
    return false;
}

/* The share of a win that goes to each of the best forms; 0: nobody else takes part. */
static double prize(const struct rival *block, int64_t n, int64_t at, double *least)
{
    int64_t present = 0, equal = 0;
    *least = INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double v = block[i].log_error[at];
        if (block[i].outside || isnan(v) || is_copy(block, i, at))
            continue;
        present++;
        equal = v < *least ? 1 : equal + (v == *least);
        *least = v < *least ? v : *least;
    }
    return present > 1 ? 1 / (double)equal : 0;
}

static void count_draw(const struct contest *c, struct rival *block, int64_t n, int64_t draw)
{
    int64_t counted = 0;
    for (int64_t l = 0; l < c->n_layers; l++) {
        const int64_t at = draw * c->n_layers + l;
        double least, win = prize(block, n, at, &least);
        counted += win > 0;
        for (int64_t i = 0; i < n; i++)
            if (win > 0 && !block[i].outside && block[i].log_error[at] == least)
                block[i].share[draw] += win;
    }
    for (int64_t i = 0; i < n; i++)
        block[i].share[draw] =
            counted && !block[i].outside ? block[i].share[draw] / (double)counted : NAN;
}

/* Draws of one text move both methods: the spread that counts is that of their difference. */
static bool beats(const struct contest *c, const struct rival *a, const struct rival *b,
                  int64_t layer)
{
    double sum = 0, least = INFINITY, most = -INFINITY;
    for (int64_t s = 0; s < c->n_draws; s++) {
        const int64_t at = s * c->n_layers + layer;
        const double d = b->log_error[at] - a->log_error[at];
        if (isnan(d))
            return false;
        sum += d;
        least = d < least ? d : least;
        most = d > most ? d : most;
    }
    return sum > 0 && sum / (double)c->n_draws > most - least;
}

static bool has_layer(const struct contest *c, const struct rival *r, int64_t layer)
{
    for (int64_t s = 0; s < c->n_draws; s++)
        if (!isnan(r->log_error[s * c->n_layers + layer]))
            return true;
    return false;
}

/* One form in every draw. */
static bool are_one(const struct contest *c, const struct rival *a, const struct rival *b,
                    int64_t layer)
{
    for (int64_t s = 0; s < c->n_draws; s++)
        if (!same_form(a, b, s * c->n_layers + layer))
            return false;
    return true;
}

static bool competes(const struct contest *c, const struct rival *r, int64_t layer)
{
    return !r->outside && has_layer(c, r, layer);
}

static bool repeats(const struct contest *c, const struct rival *block, int64_t i, int64_t layer)
{
    for (int64_t k = 0; k < i; k++)
        if (competes(c, &block[k], layer) && are_one(c, &block[k], &block[i], layer))
            return true;
    return false;
}

static void count_beyond(const struct contest *c, struct rival *block, int64_t n)
{
    int64_t counted = 0;
    for (int64_t l = 0; l < c->n_layers; l++) {
        int64_t present = 0;
        for (int64_t i = 0; i < n; i++)
            present += competes(c, &block[i], l) && !repeats(c, block, i, l);
        counted += present > 1;
        for (int64_t i = 0; present > 1 && i < n; i++) {
            bool all = competes(c, &block[i], l);
            for (int64_t k = 0; k < n && all; k++)
                all = k == i || !competes(c, &block[k], l) || are_one(c, &block[i], &block[k], l) ||
                      beats(c, &block[i], &block[k], l);
            block[i].beyond += all;
        }
    }
    for (int64_t i = 0; i < n; i++)
        block[i].beyond = c->n_draws > 1 && counted && !block[i].outside
                              ? block[i].beyond / (double)counted
                              : NAN;
}

static int mark_outside(const struct contest *c, struct rival *block, int64_t n)
{
    double *bits = ptq_arena_alloc(c->t->arena, c->t->st, n, sizeof *bits), fair = NAN;
    if (!bits)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        bits[i] = block[i].m.combo->bits;
        if (isnan(fair) && !strcmp(ptq_row_text(block[i].m.first->any, "base"), "rtn"))
            fair = bits[i];
    }
    ptq_sort_f64(bits, n);
    fair = isnan(fair) ? ptq_quantile_sorted(bits, n, .5) : fair;
    for (int64_t i = 0; i < n; i++)
        block[i].outside = ptq_stores_more(block[i].m.combo->bits, fair);
    return PTQ_OK;
}

static int settle(struct contest *c, struct rival *block, int64_t n)
{
    int code = mark_outside(c, block, n);
    find_draws(c, block, n);
    for (int64_t i = 0; i < n && !code; i++)
        code = read_errors(c, &block[i]);
    for (int64_t s = 0; s < c->n_draws && !code; s++)
        count_draw(c, block, n, s);
    if (!code)
        count_beyond(c, block, n);
    return code;
}

/* ---- sheets ---- */

struct win_columns {
    int model, bits, group, a_bits, method, stored, layers, draws, share, least, most, beyond;
};

static void lay_out(struct ptq_sheet *s, const struct ptq_board *board, struct win_columns *w)
{
    const bool exact = !board, inputs = exact || ptq_quantizes_inputs(board);
    w->model = exact ? ptq_sheet_column(s, "model", NULL, false, 0) : -1;
    w->bits = ptq_sheet_column(s, "bits", NULL, true, 0);
    w->group = ptq_sheet_column(s, "group_size", "group", true, 0);
    w->a_bits = inputs ? ptq_sheet_column(s, "a_bits", "inputs\nbits", true, 0) : -1;
    w->method = ptq_sheet_column(s, "method", NULL, false, 0);
    w->stored = ptq_sheet_column(s, "bits_stored", "stored\nbits/w", true, 0);
    w->layers = ptq_sheet_column(s, "n_layers", "layers", true, 0);
    w->draws = ptq_sheet_column(s, "n_draws", "draws", true, 0);
    w->share = ptq_sheet_column(s, "share", "wins\nof layers", true, 0);
    w->least = ptq_sheet_column(s, "share_min", "least of\na draw", true, 0);
    w->most = ptq_sheet_column(s, "share_max", "most of\na draw", true, 0);
    w->beyond = ptq_sheet_column(s, "beyond", "beyond\nthe spread", true, 0);
}

static void put_share(struct ptq_sheet *s, int column, double v, bool exact)
{
    if (isnan(v))
        ptq_sheet_set(s, column, exact ? "" : "-");
    else
        ptq_sheet_set(s, column, exact ? "%.17g" : "%.0f %%", exact ? v : 100 * v);
}

static void put_rival(const struct contest *c, const struct rival *r, bool exact,
                      const struct win_columns *w, struct ptq_sheet *s)
{
    double sum = 0, least = INFINITY, most = -INFINITY;
    int64_t n_layers = 0;
    for (int64_t k = 0; k < c->n_draws; k++) {
        sum += r->share[k];
        least = r->share[k] < least ? r->share[k] : least;
        most = r->share[k] > most ? r->share[k] : most;
    }
    for (int64_t l = 0; l < c->n_layers; l++)
        n_layers += has_layer(c, r, l);
    ptq_sheet_row(s);
    if (exact)
        ptq_sheet_set(s, w->model, "%s", c->d->model);
    ptq_sheet_set(s, w->bits, "%" PRId64, r->m.first->bits);
    if (exact)
        ptq_sheet_set(s, w->group, "%" PRId64, r->m.first->group);
    else
        ptq_sheet_set(s, w->group, "%s", ptq_group_text(c->t, r->m.first->group));
    if (w->a_bits >= 0)
        ptq_sheet_set(s, w->a_bits, "%" PRId64, r->m.a_bits ? r->m.a_bits : 16);
    ptq_sheet_set(s, w->method, "%s", c->d->series[r->m.first->series]);
    ptq_sheet_set(s, w->stored, exact ? "%.17g" : "%.3f", r->m.combo->bits);
    ptq_sheet_set(s, w->layers, "%" PRId64, n_layers);
    ptq_sheet_set(s, w->draws, "%" PRId64, c->n_draws);
    put_share(s, w->share, sum / (double)c->n_draws, exact);
    const bool many = c->n_draws > 1 && isfinite(sum);
    put_share(s, w->least, many ? least : NAN, exact);
    put_share(s, w->most, many ? most : NAN, exact);
    put_share(s, w->beyond, r->beyond, exact);
}

static int put_board(const struct ptq_tables *t, const struct ptq_board *d, bool exact,
                     const struct win_columns *w, struct ptq_sheet *s)
{
    struct contest c = {.t = t, .d = d, .id = ptq_layer_error_id(d)};
    int code = gather_layers(&c);
    code = code ? code : gather_rivals(&c);
    c.draws = ptq_arena_alloc(t->arena, t->st, d->n + 1, sizeof *c.draws);
    if (code || !c.draws)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0, n; i < c.n && !code; i += n) {
        for (n = 1; i + n < c.n && ptq_same_stratum(&c.at[i].m, &c.at[i + n].m); n++)
            ;
        if (n < 2)
            continue;
        code = settle(&c, &c.at[i], n);
        for (int64_t k = i; k < i + n && !code; k++)
            put_rival(&c, &c.at[k], exact, w, s);
    }
    return code;
}

int ptq_table_wins(const struct ptq_tables *t, const struct ptq_board *board, struct ptq_sheet *s)
{
    struct win_columns w;
    int64_t room = 0;
    for (int64_t b = 0; b < t->v->n_boards; b++)
        room += t->v->boards[b].n_combos;
    int code = ptq_sheet_init(s, 12, room, t->arena, t->st);
    if (code)
        return code;
    lay_out(s, board, &w);
    for (int64_t b = 0; b < t->v->n_boards && !code; b++)
        if (board ? board == &t->v->boards[b] : ptq_first_of_model(t->v, b))
            code = put_board(t, &t->v->boards[b], !board, &w, s);
    return code ? code : t->st->code < 0 ? t->st->code : PTQ_OK;
}
