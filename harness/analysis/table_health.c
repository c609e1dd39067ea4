/* table_health.c: numerical health: of the inputs that layers read, and of the methods' work on
 * them. Layer rows only: those of models sum up the same numbers. */
#include "analysis/tables.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- inputs ------------------------------------------------------------------------------------
 */

struct input {
    const json_t *row;  /* the first that reads it */
    const char *layers; /* "blk.0.attn_q attn_k attn_v" */
    double damping, retries, saturated;
    double n_clipped, n_codes; /* over the cells that note clipped codes */
};
struct inputs {
    const struct ptq_tables *t;
    json_t *by_key; /* -> index */
    struct input *at;
    int64_t n;
};

static const char *input_key(const struct inputs *g, const json_t *row)
{
    const char *input = ptq_row_text(json_object_get(row, "health"), "input");
    const char *key = ptq_arena_printf(g->t->arena, g->t->st, "%s|%s|%s|%s",
                                       ptq_row_text(row, "model"), ptq_row_text(row, "calib"),
                                       ptq_field_text(row, "calib_seed", g->t->arena, g->t->st),
                                       *input ? input : ptq_row_text(row, "layer"));
    return key ? key : "";
}

static bool has_word(const char *text, const char *word)
{
    const size_t n = strlen(word);
    for (const char *s = text; n && (s = strstr(s, word)); s += n)
        if ((s == text || s[-1] == ' ') && (!s[n] || s[n] == ' '))
            return true;
    return !n;
}

/* Behind the first name only what differs from it: "blk.0.attn_q attn_k". */
static void add_layer(const struct inputs *g, struct input *in, const char *layer)
{
    const char *dot = strrchr(layer, '.'), *short_name = dot ? dot + 1 : layer;
    const char *first = ptq_row_text(in->row, "layer");
    if (!strcmp(first, layer) || has_word(in->layers, short_name))
        return;
    const char *text = ptq_arena_printf(g->t->arena, g->t->st, "%s %s", in->layers, short_name);
    in->layers = text ? text : in->layers;
}

static void add_notes(struct input *in, const json_t *row)
{
    const double damping = ptq_row_sub(row, "notes", "damping"),
                 retries = ptq_row_sub(row, "notes", "retries"),
                 clipped = ptq_row_sub(row, "notes", "n_clipped"),
                 saturated = ptq_row_sub(row, "notes", "n_scale_saturated");
    if (damping > in->damping || isnan(in->damping))
        in->damping = damping;
    in->retries += isnan(retries) ? 0 : retries;
    in->saturated += isnan(saturated) ? 0 : saturated;
    if (isnan(clipped))
        return;
    in->n_clipped += clipped;
    in->n_codes += ptq_row_num(row, "rows") * ptq_row_num(row, "cols");
}

static void add_row(struct inputs *g, const json_t *row)
{
    const char *key = input_key(g, row);
    const json_t *known = json_object_get(g->by_key, key);
    if (!known) {
        g->at[g->n] =
            (struct input){.row = row, .layers = ptq_row_text(row, "layer"), .damping = NAN};
        json_object_set_new(g->by_key, key, json_integer(g->n++));
    }
    struct input *in = &g->at[known ? json_integer_value(known) : g->n - 1];
    add_layer(g, in, ptq_row_text(row, "layer"));
    add_notes(in, row);
}

static int order_inputs(const void *pa, const void *pb)
{
    const struct input *a = pa, *b = pb;
    int c = strcmp(ptq_row_text(a->row, "model"), ptq_row_text(b->row, "model"));
    c = c ? c : ptq_row_order_layer(a->row, b->row);
    return c ? c : ptq_row_order_seed(a->row, b->row);
}

static int gather(struct inputs *g)
{
    const struct ptq_view *v = g->t->v;
    g->at = ptq_arena_alloc(g->t->arena, g->t->st, v->n_layers, sizeof *g->at);
    g->by_key = json_object();
    if (!g->at || !g->by_key)
        return ptq_status_nomem(g->t->st, "the table of inputs", 0);
    for (int64_t i = 0; i < v->n_layers; i++)
        if (json_object_get(v->layers[i], "health"))
            add_row(g, v->layers[i]);
    qsort(g->at, (size_t)g->n, sizeof *g->at, order_inputs);
    return PTQ_OK;
}

static void put(struct ptq_sheet *s, int column, double v, bool exact)
{
    if (!isnan(v))
        ptq_sheet_set(s, column, exact ? "%.17g" : "%.4g", v);
    else if (!exact)
        ptq_sheet_set(s, column, "-");
}

static void put_input(const struct inputs *g, const struct input *in, bool exact,
                      struct ptq_sheet *s)
{
    const json_t *h = json_object_get(in->row, "health");
    const double cols = ptq_row_num(in->row, "cols"), rank = ptq_row_num(h, "effective_rank"),
                 v[] = {cols,
                        ptq_row_num(h, "condition"),
                        rank,
                        rank / cols,
                        ptq_row_num(h, "n_dead"),
                        ptq_row_num(h, "sink_share"),
                        ptq_row_num(h, "trace"),
                        in->damping,
                        in->retries,
                        in->n_codes > 0 ? in->n_clipped / in->n_codes : NAN,
                        in->saturated};
    ptq_sheet_row(s);
    ptq_sheet_set(s, 0, "%s", in->layers);
    ptq_sheet_set(s, 1, "%s", ptq_field_text(in->row, "calib_seed", g->t->arena, g->t->st));
    for (int k = 0; k < (int)(sizeof v / sizeof *v); k++)
        put(s, 2 + k, v[k], exact);
}

int ptq_table_inputs(const struct ptq_tables *t, bool exact, struct ptq_sheet *s)
{
    static const struct {
        const char *id, *head;
    } columns[] = {{"layers", "layers that\nread the input"},
                   {"calib_seed", "calib\nseed"},
                   {"cols", "inputs"},
                   {"condition", "condition\nof damped H"},
                   {"effective_rank", "effective\nrank"},
                   {"rank_share", "rank over\ninputs"},
                   {"n_dead", "dead\ninputs"},
                   {"sink_share", "sink's share\nof tr H"},
                   {"trace", "tr H"},
                   {"damping_used", "damping\nused, most"},
                   {"retries", "retries"},
                   {"clipped_share", "clipped\ncodes, share"},
                   {"n_scale_saturated", "saturated\nscales"}};
    enum { N_COLUMNS = sizeof columns / sizeof *columns };
    struct inputs g = {.t = t};
    int code = gather(&g);
    code = code ? code : ptq_sheet_init(s, N_COLUMNS, g.n, t->arena, t->st);
    for (int c = 0; !code && c < N_COLUMNS; c++)
        ptq_sheet_column(s, columns[c].id, columns[c].head, c > 0, 0);
    for (int64_t i = 0; !code && i < g.n; i++)
        put_input(&g, &g.at[i], exact, s);
    json_decref(g.by_key);
    return code ? code : t->st->code < 0 ? t->st->code : PTQ_OK;
}

/* ---- methods -----------------------------------------------------------------------------------
 */

struct note {
    const char *label, *key;
    double min, max, sum;
    int64_t n, n_nonzero;
};

static struct note *note_of(struct note *notes, int *n, int max, const char *label, const char *key)
{
    for (int i = 0; i < *n; i++)
        if (!strcmp(notes[i].label, label) && !strcmp(notes[i].key, key))
            return &notes[i];
    if (*n == max)
        return NULL;
    notes[*n] = (struct note){label, key, INFINITY, -INFINITY, 0, 0, 0};
    return &notes[(*n)++];
}

static void add_row_notes(const json_t *row, struct note *notes, int *n, int max)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(row, "notes"), key, value)
    {
        struct note *k =
            json_is_number(value) ? note_of(notes, n, max, ptq_row_text(row, "label"), key) : NULL;
        if (!k)
            continue;
        double v = json_number_value(value);
        k->min = v < k->min ? v : k->min;
        k->max = v > k->max ? v : k->max;
        k->sum += v;
        k->n++;
        k->n_nonzero += v != 0;
    }
}

static int order_notes(const void *pa, const void *pb)
{
    const struct note *a = pa, *b = pb;
    int c = strcmp(a->label, b->label);
    return c ? c : strcmp(a->key, b->key);
}

int ptq_table_health(const struct ptq_tables *t, struct ptq_sheet *s)
{
    enum { MAX_NOTES = 512 };
    static const char *const heads[] = {"method", "note", "cells", "nonzero", "min", "max", "sum"};
    struct note *notes = ptq_arena_alloc(t->arena, t->st, MAX_NOTES, sizeof *notes);
    if (!notes)
        return PTQ_ERR_MEMORY;
    int n = 0;
    for (int64_t i = 0; i < t->v->n_layers; i++)
        add_row_notes(t->v->layers[i], notes, &n, MAX_NOTES);
    qsort(notes, (size_t)n, sizeof *notes, order_notes);
    int code = ptq_sheet_init(s, 7, n, t->arena, t->st);
    if (code)
        return code;
    for (int c = 0; c < 7; c++)
        ptq_sheet_column(s, heads[c], NULL, c > 1, 0);
    for (int i = 0; i < n; i++) {
        ptq_sheet_row(s);
        ptq_sheet_set(s, 0, "%s", notes[i].label);
        ptq_sheet_set(s, 1, "%s", notes[i].key);
        ptq_sheet_set(s, 2, "%" PRId64, notes[i].n);
        ptq_sheet_set(s, 3, "%" PRId64, notes[i].n_nonzero);
        ptq_sheet_set(s, 4, "%.4g", notes[i].min);
        ptq_sheet_set(s, 5, "%.4g", notes[i].max);
        ptq_sheet_set(s, 6, "%.4g", notes[i].sum);
    }
    return t->st->code < 0 ? t->st->code : PTQ_OK;
}
