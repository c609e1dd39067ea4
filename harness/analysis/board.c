#include "analysis/board.h"
#include "analysis/speed.h"
#include "analysis/strata.h"
#include "core/stat.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- fields ---- */

const char *ptq_field_text(const json_t *object, const char *field, struct ptq_arena *a,
                           struct ptq_status *st)
{
    char room[PTQ_FIELD_ROOM];
    const char *s = ptq_row_as_text(object, field, room);
    if (s == room)
        s = ptq_arena_strdup(a, st, room);
    return s ? s : "";
}

static const json_t *find_member(const json_t *object, const char *field, int depth)
{
    const json_t *v = json_object_get(object, field), *found = NULL;
    if (v && !json_is_object(v) && !json_is_array(v))
        return object;
    const char *key;
    json_t *child;
    if (depth > 0)
        json_object_foreach((json_t *)(uintptr_t)object, key, child) if (!found) found =
            find_member(child, field, depth - 1);
    return found;
}

const char *ptq_run_text(const struct ptq_view *v, const char *field, struct ptq_arena *a,
                         struct ptq_status *st)
{
    const json_t *owner = find_member(v->run, field, 4);
    return owner ? ptq_field_text(owner, field, a, st) : "";
}

static int64_t int_field(const json_t *row, const char *field)
{
    const json_t *v = json_object_get(row, field);
    return json_is_integer(v) ? json_integer_value(v) : INT64_MIN; /* absent sorts first */
}

static bool is_kind(const json_t *row, const char *kind)
{
    return !strcmp(ptq_row_text(row, "kind"), kind);
}

static bool is_ok(const json_t *row)
{
    return !strcmp(ptq_row_text(row, "status"), "ok");
}

/* What names a cell apart from label, bits, group, calibration draw, layer and protocol. */
static const char *const setting_fields[] = {
    "sym",        "sym_kind",        "grid",     "zero_in_range", "scale",   "precision",
    "stats",      "true_sequential", "nsamples", "seqlen",        "heldout", "seed",
    "calib_draw", "a_bits",          NULL};

_Static_assert(sizeof setting_fields / sizeof *setting_fields <= PTQ_MAX_SETTINGS,
               "the view's flags hold every setting");

/* ---- order ---- */

static int order_int(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* Scalars of any type: by type, then value. */
static int order_field(const json_t *a, const json_t *b, const char *field)
{
    const json_t *x = json_object_get(a, field), *y = json_object_get(b, field);
    int tx = x ? (int)json_typeof(x) : -1, ty = y ? (int)json_typeof(y) : -1;
    if (tx != ty)
        return order_int(tx, ty);
    if (json_is_string(x))
        return strcmp(json_string_value(x), json_string_value(y));
    if (json_is_integer(x))
        return order_int(json_integer_value(x), json_integer_value(y));
    double u = json_number_value(x), v = json_number_value(y);
    return (u > v) - (u < v);
}

/* Coarse to fine: stored bits then rise down the table. */
static int order_group(int64_t a, int64_t b)
{
    return order_int(ptq_group_fineness(a), ptq_group_fineness(b));
}

int ptq_row_order_setting(const json_t *a, const json_t *b)
{
    int c = order_field(a, b, "model");
    c = c ? c : strcmp(ptq_row_text(a, "label"), ptq_row_text(b, "label"));
    for (int i = 0; !c && setting_fields[i]; i++)
        c = order_field(a, b, setting_fields[i]);
    c = c ? c : order_int(int_field(a, "bits"), int_field(b, "bits"));
    return c ? c : order_group(int_field(a, "group_size"), int_field(b, "group_size"));
}

int ptq_row_order_seed(const json_t *a, const json_t *b)
{
    int c = order_int(int_field(a, "calib_seed"), int_field(b, "calib_seed"));
    return c ? c : order_field(a, b, "calib"); /* the text's name holds the seed too */
}

static int order_setting_seed(const json_t *a, const json_t *b)
{
    int c = ptq_row_order_setting(a, b);
    return c ? c : ptq_row_order_seed(a, b);
}

static int role_rank(const char *role)
{
    static const char *const roles[] = {"q", "k", "v", "o", "gate", "up", "down", "fc1", "fc2"};
    const char *bare = strrchr(role, '_') ? strrchr(role, '_') + 1 : role;
    for (int i = 0; i < 9; i++)
        if (!strcmp(bare, roles[i]))
            return i;
    return 9;
}

int ptq_row_order_layer(const json_t *a, const json_t *b)
{
    int c = order_int(int_field(a, "block"), int_field(b, "block"));
    c = c ? c : order_int(role_rank(ptq_row_text(a, "role")), role_rank(ptq_row_text(b, "role")));
    return c ? c : strcmp(ptq_row_text(a, "layer"), ptq_row_text(b, "layer"));
}

static int order_protocol(const json_t *a, const json_t *b)
{
    int c = strcmp(ptq_row_text(a, "protocol"), ptq_row_text(b, "protocol"));
    return c ? c : strcmp(ptq_row_text(a, "text_key"), ptq_row_text(b, "text_key"));
}

/* Report order: kinds apart (layer, model, reference), then settings, seeds, layers, protocols; the
 * key decides the rest. */
static int order_rows(const void *pa, const void *pb)
{
    const json_t *a = *(const json_t *const *)pa, *b = *(const json_t *const *)pb;
    int c = strcmp(ptq_row_text(a, "kind"), ptq_row_text(b, "kind"));
    c = c ? c : order_setting_seed(a, b);
    c = c ? c : ptq_row_order_layer(a, b);
    c = c ? c : order_protocol(a, b);
    return c ? c : strcmp(ptq_row_text(a, "key"), ptq_row_text(b, "key"));
}

/* ---- metrics of a point ---- */

enum how { MEAN, GEOMETRIC, WEIGHTED, MAXIMUM };
static enum how how_to_join(const char *id)
{
    if (!strncmp(id, "bits_", 5))
        return WEIGHTED;
    if (!strcmp(id, "w_maxabs"))
        return MAXIMUM;
    bool loss = !strncmp(id, "out_relerr", 10) || !strcmp(id, "w_relerr") || !strcmp(id, "w_mse") ||
                !strncmp(id, "proxy_loss", 10) || !strcmp(id, "attn_loss");
    return loss ? GEOMETRIC : MEAN;
}

double ptq_cells_metric(const struct ptq_cells *c, const char *id)
{
    enum how how = how_to_join(id);
    double sum = 0, weight = 0, most = -INFINITY;
    for (int64_t i = 0; i < c->n; i++) {
        double v = ptq_row_metric(c->at[i], id);
        double w =
            how == WEIGHTED ? ptq_row_num(c->at[i], "rows") * ptq_row_num(c->at[i], "cols") : 1;
        if (isnan(v) || isnan(w))
            return NAN;
        sum += w * (how == GEOMETRIC ? log(v) : v); /* an exact layer (0) makes the mean 0 */
        weight += w;
        most = v > most ? v : most;
    }
    if (!(weight > 0))
        return NAN;
    return how == MAXIMUM ? most : how == GEOMETRIC ? exp(sum / weight) : sum / weight;
}

double ptq_point_metric(const struct ptq_point *p, const char *id)
{
    return p->row ? ptq_row_metric(p->row, id) : ptq_cells_metric(&p->layers, id);
}

bool ptq_point_interval(const struct ptq_point *p, const char *id, double *lo, double *hi)
{
    *lo = *hi = NAN;
    return p->row && ptq_row_interval(p->row, id, lo, hi) && isfinite(*lo) && isfinite(*hi);
}

/* The layer rows hold what was measured; a model row's own time is taken where there are none.
 * Preparation is left out: the first cell that needs a factor makes it for all, so it belongs to no
 * cell (ptq_board_facts names its sum). */
static double point_time(const struct ptq_point *p)
{
    double sum = 0;
    for (int64_t i = 0; i < p->layers.n; i++)
        sum += ptq_row_sub(p->layers.at[i], "time", "quantize_s");
    return p->layers.n ? sum : p->row ? ptq_row_sub(p->row, "time", "quantize_s") : NAN;
}

/* ---- Pareto front ---- */

struct pair {
    double bits, loss;
    int64_t at;
};

static int order_pairs(const void *pa, const void *pb)
{
    const struct pair *a = pa, *b = pb;
    int c = (a->bits > b->bits) - (a->bits < b->bits);
    return c ? c : (a->loss > b->loss) - (a->loss < b->loss);
}

int ptq_pareto(const double *bits, const double *loss, int64_t n, bool *front,
               struct ptq_status *st)
{
    struct pair *p = calloc(n > 0 ? (size_t)n : 1, sizeof *p);
    if (!p)
        return ptq_status_nomem(st, "the Pareto front", (size_t)n * sizeof *p);
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++) {
        front[i] = false;
        if (!isnan(bits[i]) && !isnan(loss[i]))
            p[m++] = (struct pair){bits[i], loss[i], i};
    }
    qsort(p, (size_t)m, sizeof *p, order_pairs);
    for (int64_t i = 0, k = -1; i < m; i++) { /* k: the last pair that went onto the front */
        bool twin = k >= 0 && p[i].bits == p[k].bits && p[i].loss == p[k].loss;
        if (k >= 0 && !twin && p[i].loss >= p[k].loss)
            continue;
        front[p[i].at] = true;
        k = i;
    }
    free(p);
    return PTQ_OK;
}

/* ---- building ---- */

struct builder {
    struct ptq_view *v;
    struct ptq_arena *a;
    struct ptq_status *st;
    struct ptq_cells *groups; /* layer rows by setting and seed, in that order */
    const json_t **setting;   /* a row of each group (finished or not) */
    bool *used;
    int64_t n_groups;
    const json_t **models; /* finished model rows */
    int64_t n_models;
};

static void list_add(struct ptq_text_list *l, struct builder *b, const char *text)
{
    if (!text)
        return;
    if (l->n == l->max) {
        int64_t max = l->max ? 2 * l->max : 8;
        const char **at = ptq_arena_alloc(b->a, b->st, max, sizeof *at);
        if (!at)
            return;
        if (l->n)
            memcpy(at, l->at, (size_t)l->n * sizeof *at);
        l->at = at;
        l->max = max;
    }
    l->at[l->n++] = text;
}

/* A model row stands before the rows beside it (order_rows): one that came to nothing has the
 * reason of all. */
static bool told_by_model(const struct ptq_view *v, const json_t *row)
{
    for (int64_t i = 0; i < v->n_bad; i++)
        if (is_kind(v->bad[i], "model") &&
            !strcmp(ptq_row_text(v->bad[i], "form"), ptq_row_text(row, "form")))
            return true;
    return false;
}

static int sort_rows(struct builder *b)
{
    struct ptq_view *v = b->v;
    v->sorted = ptq_arena_alloc(b->a, b->st, v->rows.n, sizeof *v->sorted);
    v->bad = ptq_arena_alloc(b->a, b->st, v->rows.n, sizeof *v->bad);
    v->layers = ptq_arena_alloc(b->a, b->st, v->rows.n, sizeof *v->layers);
    b->models = ptq_arena_alloc(b->a, b->st, v->rows.n, sizeof *b->models);
    if (!v->sorted || !v->bad || !v->layers || !b->models)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < v->rows.n; i++)
        v->sorted[i] = v->rows.at[i];
    qsort(v->sorted, (size_t)v->rows.n, sizeof *v->sorted, order_rows);
    for (int64_t i = 0; i < v->rows.n; i++) {
        const json_t *r = v->sorted[i];
        if (is_ok(r)) {
            v->n_ok += ptq_row_is_cell(r);
            if (is_kind(r, "layer"))
                v->layers[v->n_layers++] = r;
            if (is_kind(r, "model"))
                b->models[b->n_models++] = r;
            continue;
        }
        if (!ptq_row_is_cell(r) && told_by_model(v, r))
            continue;
        v->bad[v->n_bad++] = r;
        bool skipped = !strcmp(ptq_row_text(r, "status"), "skipped");
        v->n_skipped += skipped;
        v->n_failed += !skipped;
    }
    return PTQ_OK;
}

static int group_layers(struct builder *b)
{
    struct ptq_view *v = b->v;
    b->groups = ptq_arena_alloc(b->a, b->st, v->n_layers, sizeof *b->groups);
    b->setting = ptq_arena_alloc(b->a, b->st, v->n_layers, sizeof *b->setting);
    b->used = ptq_arena_alloc(b->a, b->st, v->n_layers, sizeof *b->used);
    if (!b->groups || !b->setting || !b->used)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < v->n_layers; i++) {
        if (i == 0 || order_setting_seed(v->layers[i - 1], v->layers[i])) {
            b->setting[b->n_groups] = v->layers[i];
            b->groups[b->n_groups++] = (struct ptq_cells){v->layers + i, 0};
        }
        b->groups[b->n_groups - 1].n++;
    }
    return PTQ_OK;
}

static int64_t find_group(const struct builder *b, const json_t *row)
{
    int64_t lo = 0, hi = b->n_groups;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        int c = order_setting_seed(b->setting[mid], row);
        if (!c)
            return mid;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return -1;
}

/* A setting is shown beside the label where cells of one label differ in it. Rows are sorted by
 * label, so neighbours that share the label and differ are enough. */
static void find_variation(struct builder *b, const json_t *const *rows, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        if (strcmp(ptq_row_text(rows[i - 1], "label"), ptq_row_text(rows[i], "label")) ||
            order_field(rows[i - 1], rows[i], "model"))
            continue;
        for (int k = 0; setting_fields[k]; k++)
            b->v->varies[k] |= order_field(rows[i - 1], rows[i], setting_fields[k]) != 0;
    }
}

const char *ptq_row_variant(const struct ptq_view *v, const json_t *row, struct ptq_arena *a,
                            struct ptq_status *st)
{
    const char *text = "";
    for (int k = 0; setting_fields[k] && text; k++) {
        const char *value = v->varies[k] ? ptq_field_text(row, setting_fields[k], a, st) : "";
        if (*value) /* not there: inputs as they are, no held-out text */
            text = ptq_arena_printf(a, st, "%s%s%s=%s", text, *text ? " " : "", setting_fields[k],
                                    value);
    }
    return text ? text : "";
}

static void fill_point(struct builder *b, struct ptq_point *p, const json_t *row, int64_t group)
{
    *p = (struct ptq_point){.row = row};
    if (group >= 0) {
        p->layers = b->groups[group];
        b->used[group] = true;
    }
    p->any = row ? row : p->layers.at[0];
    p->label = ptq_row_text(p->any, "label");
    p->variant = ptq_row_variant(b->v, p->any, b->a, b->st);
    p->bits = int_field(p->any, "bits");
    p->group = int_field(p->any, "group_size");
    p->calib_seed = int_field(p->any, "calib_seed");
    p->bits_stored = ptq_point_metric(p, "bits_stored");
    if (isnan(p->bits_stored))
        p->bits_stored = ptq_cells_metric(&p->layers, "bits_stored");
    p->time_s = point_time(p);
    int64_t grid_bits = int_field(p->any, "weights_grid_bits");
    p->unranked = grid_bits > 0 && p->bits >= grid_bits;
}

static int note_unranked(struct builder *b, struct ptq_board *d)
{
    const struct ptq_point *one = NULL;
    for (int64_t i = 0; i < d->n; i++) {
        d->n_unranked += d->points[i].unranked;
        one = d->points[i].unranked ? &d->points[i] : one;
    }
    if (!one)
        return PTQ_OK;
    d->unranked_note = ptq_arena_printf(
        b->a, b->st,
        "*: %" PRId64 " bits and above are not ranked: the checkpoint's weights lie on a grid of "
        "%" PRId64 " bits already (%s), so a format that can hold that grid looks lossless",
        int_field(one->any, "weights_grid_bits"), int_field(one->any, "weights_grid_bits"),
        ptq_row_text(one->any, "weights_on_grid"));
    return d->unranked_note ? PTQ_OK : PTQ_ERR_MEMORY;
}

static void set_loss(struct ptq_board *d)
{
    for (int64_t i = 0; i < d->n; i++) {
        struct ptq_point *p = &d->points[i];
        p->loss = ptq_point_metric(p, d->loss_id);
        ptq_point_interval(p, d->loss_id, &p->loss_lo, &p->loss_hi);
        d->n_layers = p->layers.n > d->n_layers ? p->layers.n : d->n_layers;
    }
}

static int make_series(struct builder *b, struct ptq_board *d)
{
    d->series = ptq_arena_alloc(b->a, b->st, d->n, sizeof *d->series);
    if (!d->series)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n; i++) {
        struct ptq_point *p = &d->points[i];
        const char *name =
            *p->variant ? ptq_arena_printf(b->a, b->st, "%s %s", p->label, p->variant) : p->label;
        if (!name)
            return PTQ_ERR_MEMORY;
        int k = 0;
        while (k < d->n_series && strcmp(d->series[k], name))
            k++;
        d->n_series += k == d->n_series;
        d->series[k] = name;
        p->series = k;
    }
    return PTQ_OK;
}

static void mean_combo(struct ptq_board *d, struct ptq_combo *c)
{
    double bits = 0, loss = 0;
    for (int64_t i = c->first; i < c->first + c->n; i++) {
        bits += d->points[i].bits_stored;
        loss += d->points[i].loss;
    }
    c->unranked = d->points[c->first].unranked; /* one setting, one width */
    c->bits = bits / (double)c->n;
    c->loss = loss / (double)c->n;
}

static int make_combos(struct builder *b, struct ptq_board *d)
{
    d->combos = ptq_arena_alloc(b->a, b->st, d->n, sizeof *d->combos);
    double *xy = ptq_arena_alloc(b->a, b->st, 2 * d->n, sizeof *xy);
    bool *front = ptq_arena_alloc(b->a, b->st, d->n, sizeof *front);
    if (!d->combos || !xy || !front)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n; i++) {
        if (i == 0 || ptq_row_order_setting(d->points[i - 1].any, d->points[i].any))
            d->combos[d->n_combos++] = (struct ptq_combo){.first = i};
        struct ptq_combo *c = &d->combos[d->n_combos - 1];
        c->n++;
        d->many_seeds |= c->n > 1;
    }
    for (int64_t i = 0; i < d->n_combos; i++) {
        mean_combo(d, &d->combos[i]);
        xy[i] = d->combos[i].bits;
        xy[d->n_combos + i] = d->combos[i].unranked ? NAN : d->combos[i].loss;
    }
    int code = ptq_pareto(xy, xy + d->n_combos, d->n_combos, front, b->st);
    for (int64_t i = 0; i < d->n_combos; i++)
        d->combos[i].front = front[i];
    return code;
}

/* What settings are ranked by, on the loss axis of every picture and on the Pareto front: the first
 * that a point of the board holds; the last where none does. */
static const struct loss {
    bool by_layers;
    const char *id, *title, *unit;
} losses[] = {
    {true, "out_relerr", "relative output error, geometric mean over layers", "ratio"},
    {false, "embed_dcos", "distance of embeddings", "1 - cosine"},
    {false, "dnll", "added NLL against full precision", "nats/token"},
};
enum { N_LOSSES = sizeof losses / sizeof *losses };

static void choose_loss(struct ptq_board *d)
{
    bool held = false;
    for (int k = 0; k < N_LOSSES && !held; k++) {
        const struct loss *l = &losses[k];
        if (l->by_layers != d->by_layers)
            continue;
        for (int64_t i = 0; i < d->n && !held; i++)
            held = !isnan(ptq_point_metric(&d->points[i], l->id));
        d->loss_id = l->id;
        d->loss_title = l->title;
        d->loss_unit = l->unit;
    }
}

static int finish_board(struct builder *b, struct ptq_board *d)
{
    choose_loss(d);
    set_loss(d);
    int code = make_series(b, d);
    code = code ? code : note_unranked(b, d);
    return code ? code : make_combos(b, d);
}

static const json_t *find_reference(const struct ptq_view *v, const struct ptq_board *d)
{
    for (int64_t i = 0; i < v->rows.n; i++) {
        const json_t *r = v->sorted[i];
        if (is_kind(r, "reference") && is_ok(r) && !strcmp(ptq_row_text(r, "model"), d->model) &&
            !strcmp(ptq_row_text(r, "protocol"), d->protocol) &&
            !strcmp(ptq_row_text(r, "text_key"), d->text_key))
            return r;
    }
    return NULL;
}

static bool same_board(const struct ptq_board *d, const json_t *row)
{
    return !strcmp(d->model, ptq_row_text(row, "model")) &&
           !strcmp(d->protocol, ptq_row_text(row, "protocol")) &&
           !strcmp(d->text_key, ptq_row_text(row, "text_key"));
}

/* The board of a row, made when it is new. Boards are few (models x protocols). */
static struct ptq_board *board_of(struct builder *b, const json_t *row, bool by_layers)
{
    struct ptq_view *v = b->v;
    for (int64_t i = 0; i < v->n_boards; i++)
        if (v->boards[i].by_layers == by_layers && same_board(&v->boards[i], row))
            return &v->boards[i];
    struct ptq_board *d = &v->boards[v->n_boards++];
    *d = (struct ptq_board){.model = ptq_row_text(row, "model"),
                            .protocol = ptq_row_text(row, "protocol"),
                            .text_key = ptq_row_text(row, "text_key"),
                            .by_layers = by_layers};
    d->reference = find_reference(v, d);
    return d;
}

static bool has_model_board(const struct ptq_view *v, const char *model)
{
    for (int64_t i = 0; i < v->n_boards; i++)
        if (!v->boards[i].by_layers && !strcmp(v->boards[i].model, model))
            return true;
    return false;
}

/* A model cell of this setting that was skipped or failed has said so in its own row. */
static bool has_bad_model(const struct ptq_view *v, const json_t *setting)
{
    for (int64_t i = 0; i < v->n_bad; i++)
        if (is_kind(v->bad[i], "model") && !order_setting_seed(v->bad[i], setting))
            return true;
    return false;
}

/* Which rows become points, in order; pick[i] is a finished model row or the first layer row of a
 * group. */
struct pick {
    const json_t *row;
    int64_t group;
    struct ptq_board *board;
};

/* A method that sees no statistics stores the same form whatever they are: its model row is written
 * once and carries the labels of the first calibration that asked for it, while its layers are
 * scored under each. */
static bool same_but_statistics(const json_t *a, const json_t *b)
{
    static const char *const fields[] = {
        "model",         "label",     "options", "sym",  "sym_kind",   "grid",   "scale",
        "zero_in_range", "precision", "bits",    "seed", "group_size", "a_bits", NULL};
    for (int i = 0; fields[i]; i++)
        if (order_field(a, b, fields[i]))
            return false;
    return true;
}

static bool same_forms(const struct ptq_cells *x, const struct ptq_cells *y)
{
    for (int64_t i = 0; x->n == y->n && i < x->n; i++)
        if (strcmp(ptq_row_text(x->at[i], "form"), ptq_row_text(y->at[i], "form")))
            return false;
    return x->n == y->n && x->n > 0;
}

/* The layers of a model row whose own calibration is no longer wanted: those of the same draw
 * first (another held-out text), else of any. */
static int64_t adopt_group(const struct builder *b, const json_t *row)
{
    for (int pass = 0; pass < 2; pass++)
        for (int64_t g = 0; g < b->n_groups; g++)
            if (!b->used[g] && same_but_statistics(b->setting[g], row) &&
                (pass || !ptq_row_order_seed(b->setting[g], row)))
                return g;
    return -1;
}

/* Another setting with the very same stored forms has the model row, or the row that says why there
 * is none. */
static bool has_twin(const struct builder *b, int64_t g)
{
    for (int64_t u = 0; u < b->n_groups; u++)
        if ((b->used[u] || has_bad_model(b->v, b->setting[u])) &&
            same_but_statistics(b->setting[u], b->setting[g]) &&
            same_forms(&b->groups[u], &b->groups[g]))
            return true;
    return false;
}

static int64_t pick_points(struct builder *b, struct pick *pick, int64_t *n_waiting)
{
    int64_t n = 0;
    for (int64_t i = 0; i < b->n_models; i++)
        pick[n++] = (struct pick){b->models[i], find_group(b, b->models[i]),
                                  board_of(b, b->models[i], false)};
    for (int64_t i = 0; i < n; i++)
        if (pick[i].group >= 0)
            b->used[pick[i].group] = true;
    for (int64_t i = 0; i < n; i++)
        if (pick[i].group < 0 && (pick[i].group = adopt_group(b, pick[i].row)) >= 0)
            b->used[pick[i].group] = true;
    for (int64_t g = 0; g < b->n_groups; g++) {
        if (b->used[g])
            continue;
        if (!has_model_board(b->v, ptq_row_text(b->setting[g], "model")))
            pick[n++] = (struct pick){NULL, g, board_of(b, b->setting[g], true)};
        else if (!has_bad_model(b->v, b->setting[g]) && !has_twin(b, g))
            ++*n_waiting;
    }
    return n;
}

static int make_boards(struct builder *b)
{
    int64_t most = b->n_models + b->n_groups, n_waiting = 0;
    struct pick *pick = ptq_arena_alloc(b->a, b->st, most, sizeof *pick);
    b->v->boards = ptq_arena_alloc(b->a, b->st, most, sizeof *b->v->boards);
    if (!pick || !b->v->boards)
        return PTQ_ERR_MEMORY;
    int64_t n = pick_points(b, pick, &n_waiting);
    for (int64_t i = 0; i < n; i++)
        pick[i].board->n++;
    for (int64_t k = 0; k < b->v->n_boards; k++) {
        struct ptq_board *d = &b->v->boards[k];
        d->points = ptq_arena_alloc(b->a, b->st, d->n, sizeof *d->points);
        if (!d->points)
            return PTQ_ERR_MEMORY;
        d->n = 0;
    }
    for (int64_t i = 0; i < n; i++)
        fill_point(b, &pick[i].board->points[pick[i].board->n++], pick[i].row, pick[i].group);
    for (int64_t k = 0; k < b->v->n_boards; k++)
        if (finish_board(b, &b->v->boards[k]))
            return PTQ_ERR_MEMORY;
    if (n_waiting)
        list_add(&b->v->faults, b,
                 ptq_arena_printf(
                     b->a, b->st,
                     "%" PRId64 " settings have layer cells but no model cell: run the sweep again",
                     n_waiting));
    return PTQ_OK;
}

/* ---- validity ---- */

/* A null metric needs a reason in `absent`; "not finite" is what the sweep writes for a value that
 * ought to have been one. */
static const char *unexplained_null(const json_t *row)
{
    const char *id;
    json_t *value;
    json_object_foreach(json_object_get(row, "metrics"), id, value) if (!json_is_number(value))
    {
        const char *reason = json_string_value(json_object_get(json_object_get(row, "absent"), id));
        if (!reason || !strcmp(reason, "not finite"))
            return id;
    }
    return NULL;
}

static void check_values(struct builder *b)
{
    int64_t n = 0;
    const char *first = "";
    for (int64_t i = 0; i < b->v->rows.n; i++) {
        const json_t *r = b->v->sorted[i];
        const char *id = is_ok(r) ? unexplained_null(r) : NULL;
        if (id && n++ == 0)
            first = ptq_arena_printf(b->a, b->st, "%s of %s %s", id, ptq_row_text(r, "label"),
                                     ptq_row_text(r, "layer"));
    }
    if (n)
        list_add(
            &b->v->faults, b,
            ptq_arena_printf(b->a, b->st,
                             "%" PRId64
                             " cells hold a value that is not finite, without a reason (first: %s)",
                             n, first ? first : ""));
}

static void check_boards(struct builder *b)
{
    for (int64_t k = 0; k < b->v->n_boards; k++) {
        const struct ptq_board *d = &b->v->boards[k];
        int64_t n_short = 0;
        for (int64_t i = 0; i < d->n; i++)
            n_short += d->points[i].layers.n < d->n_layers;
        if (d->by_layers && n_short)
            list_add(&b->v->faults, b,
                     ptq_arena_printf(b->a, b->st,
                                      "%" PRId64
                                      " settings miss layers: their means are not comparable",
                                      n_short));
        if (!d->by_layers && !d->reference)
            list_add(&b->v->faults, b,
                     ptq_arena_printf(b->a, b->st,
                                      "no full-precision row for model %s, protocol %s", d->model,
                                      d->protocol));
    }
}

/* Rows of one run may come from several machines or builds (shards, resumes): said, since times
 * then do not compare. */
static void check_hosts(struct builder *b, const char *field)
{
    const char *first = NULL;
    for (int64_t i = 0; i < b->v->rows.n; i++) {
        const char *s =
            json_string_value(json_object_get(json_object_get(b->v->sorted[i], "host"), field));
        if (!s)
            continue;
        if (first && strcmp(first, s)) {
            list_add(
                &b->v->remarks, b,
                ptq_arena_printf(b->a, b->st, "rows differ in host %s: %s, %s", field, first, s));
            return;
        }
        first = s;
    }
}

/* plan.txt: the keys that the last configuration wants, one a line. */
static void check_plan(struct builder *b)
{
    struct ptq_status quiet = {0};
    char *path = ptq_arena_printf(b->a, b->st, "%s/plan.txt", b->v->run_dir), *text;
    size_t bytes;
    int64_t n = 0;
    if (!path || ptq_read_file(path, (size_t)1 << 32, &text, &bytes, &quiet))
        return;
    for (const char *s = text; *s; s += strcspn(s, "\n"), s += *s == '\n')
        n += *s != '\n';
    free(text);
    if (n > b->v->rows.n)
        list_add(&b->v->faults, b,
                 ptq_arena_printf(b->a, b->st,
                                  "%" PRId64 " of %" PRId64
                                  " cells not run yet: run the sweep again to go on",
                                  n - b->v->rows.n, n));
}

static bool holds(const struct ptq_text_list *l, const char *text)
{
    for (int64_t i = 0; i < l->n; i++)
        if (!strcmp(l->at[i], text))
            return true;
    return false;
}

const char *ptq_in_domain(const json_t *row)
{
    const char *why = ptq_row_text(row, "in_domain");
    if (!strcmp(why, "same family"))
        return "calibrated on a text of the evaluation text's family: in-domain";
    return *why ? "calibrated on the evaluation text: in-domain" : NULL;
}

/* What the sweep said of its texts is said again, once. */
static void check_texts(struct builder *b)
{
    for (int64_t i = 0; i < b->v->rows.n; i++) {
        const json_t *row = b->v->sorted[i];
        const char *said[] = {ptq_in_domain(row), ptq_row_text(row, "text_note"),
                              ptq_row_text(row, "calib_note")};
        for (int k = 0; k < 3; k++)
            if (said[k] && *said[k] && !holds(&b->v->remarks, said[k]))
                list_add(&b->v->remarks, b, said[k]);
    }
}

static void check_validity(struct builder *b)
{
    struct ptq_view *v = b->v;
    check_plan(b);
    if (!v->n_ok)
        list_add(&v->faults, b, "no finished cell");
    if (v->n_skipped && !v->n_failed && !v->n_layers && !b->n_models)
        list_add(&v->faults, b,
                 ptq_arena_printf(b->a, b->st,
                                  "nothing was quantized: every cell was skipped (%.300s)",
                                  ptq_row_text(v->bad[0], "reason")));
    if (v->n_failed)
        list_add(&v->faults, b,
                 ptq_arena_printf(b->a, b->st, "%" PRId64 " failed cell%s", v->n_failed,
                                  v->n_failed == 1 ? "" : "s"));
    check_values(b);
    check_boards(b);
    check_texts(b);
    check_hosts(b, "cpu");
    check_hosts(b, "blas_core");
    if (v->rows.n_torn)
        list_add(&v->remarks, b,
                 ptq_arena_printf(b->a, b->st, "%" PRId64 " torn last line dropped (a killed run)",
                                  v->rows.n_torn));
    if (!v->run)
        list_add(&v->remarks, b,
                 "run.json is absent or broken: machine and configuration are unknown");
}

/* "minmax|mse": the distinct values of a setting over all cells. */
static const char *distinct_values(struct builder *b, const char *field)
{
    struct ptq_text_list seen = {0};
    const char *all = "";
    for (int64_t i = 0; i < b->v->rows.n; i++) {
        const json_t *r = b->v->sorted[i];
        if (is_kind(r, "reference") || (i && !order_field(b->v->sorted[i - 1], r, field)))
            continue;
        const char *v = ptq_field_text(r, field, b->a, b->st);
        if (*v && !holds(&seen, v))
            list_add(&seen, b, v);
    }
    for (int64_t i = 0; i < seen.n && all; i++)
        all = ptq_arena_printf(b->a, b->st, "%s%s%s", all, *all ? "|" : "", seen.at[i]);
    return all ? all : "";
}

static void describe_settings(struct builder *b)
{
    static const char *const shown[] = {"sym",   "sym_kind",  "grid",  "zero_in_range",
                                        "scale", "precision", "stats", "true_sequential",
                                        "seed",  "a_bits",    NULL};
    const char *text = "";
    for (int i = 0; shown[i] && text; i++) {
        const char *v = distinct_values(b, shown[i]);
        if (*v)
            text = ptq_arena_printf(b->a, b->st, "%s%s%s=%s", text, *text ? " " : "", shown[i], v);
    }
    b->v->settings = text ? text : "";
}

static json_t *read_run_json(const char *run_dir, struct ptq_arena *a)
{
    struct ptq_status quiet = {0};
    char *path = ptq_arena_printf(a, &quiet, "%s/run.json", run_dir), *text;
    size_t bytes;
    if (!path || ptq_read_file(path, 16u << 20, &text, &bytes, &quiet))
        return NULL;
    json_t *run = json_loadb(text, bytes, 0, NULL);
    free(text);
    if (!json_is_object(run)) {
        json_decref(run);
        return NULL;
    }
    return run;
}

int ptq_view_open(struct ptq_view *v, const char *run_dir, struct ptq_arena *a,
                  struct ptq_status *st)
{
    *v = (struct ptq_view){.run_dir = run_dir};
    struct builder b = {.v = v, .a = a, .st = st};
    int code = ptq_rows_read_run(run_dir, &v->rows, st);
    if (code < 0)
        return code;
    if (!v->rows.n)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: no rows (cells*.jsonl) yet; run the sweep first", run_dir);
    if (!ptq_rows_join_speed(&v->rows))
        return ptq_status_nomem(st, "speeds of rows", 0);
    v->run = read_run_json(run_dir, a);
    code = sort_rows(&b);
    code = code ? code : group_layers(&b);
    if (code)
        return code;
    find_variation(&b, v->layers, v->n_layers);
    find_variation(&b, b.models, b.n_models);
    code = make_boards(&b);
    if (code)
        return code;
    check_validity(&b);
    describe_settings(&b);
    return st && st->code < 0 ? st->code : PTQ_OK;
}

void ptq_view_close(struct ptq_view *v)
{
    ptq_rows_release(&v->rows);
    json_decref(v->run);
    v->run = NULL;
}
