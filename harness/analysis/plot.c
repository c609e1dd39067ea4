#include "analysis/plot.h"
#include "analysis/equal.h"
#include "analysis/gnuplot.h"
#include "analysis/plot_data.h"
#include "analysis/put.h"
#include "core/json.h"
#include "core/paths.h"
#include "core/words.h"
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what they are drawn from ---- */

static int write_model_data(const struct ptq_tables *, int64_t board, const char *path);
static int write_layer_data(const struct ptq_tables *, int64_t board, const char *path);

static const struct ptq_plot_data model_data = {"model", write_model_data, NULL, NULL},
                                  layer_data = {"layer", write_layer_data, NULL, NULL};
static const struct ptq_plot_data *const all_data[] = {&model_data, &layer_data, &ptq_block_data,
                                                       &ptq_proxy_data};
enum { N_DATA = sizeof all_data / sizeof *all_data };

static const struct ptq_plot_data *find_data(const char *name)
{
    for (int i = 0; i < N_DATA; i++)
        if (!strcmp(all_data[i]->name, name))
            return all_data[i];
    return NULL;
}

/* ---- which pictures there are ---- */

/* The value of "# KEY: value" among the comment lines at the head of the file; "" when absent. */
static const char *head_value(const char *text, const char *key, struct ptq_arena *a,
                              struct ptq_status *st)
{
    size_t n = strlen(key);
    for (const char *s = text; *s == '#'; s += strcspn(s, "\n"), s += *s == '\n') {
        const char *p = s + 1 + strspn(s + 1, " ");
        if (strncmp(p, key, n) || p[n] != ':')
            continue;
        p += n + 1 + strspn(p + n + 1, " ");
        const char *v = ptq_arena_printf(a, st, "%.*s", (int)strcspn(p, "\n"), p);
        return v ? v : "";
    }
    return "";
}

static int read_head(struct ptq_plot *p, struct ptq_arena *a, struct ptq_status *st)
{
    char *text;
    size_t bytes;
    int code = ptq_read_file(p->path, 1u << 20, &text, &bytes, st);
    if (code)
        return code;
    p->title = head_value(text, "title", a, st);
    p->data = head_value(text, "data", a, st);
    p->needs = head_value(text, "needs", a, st);
    p->alt = head_value(text, "alt", a, st);
    p->alt_layers = head_value(text, "alt_layers", a, st);
    p->optional = !strcmp(head_value(text, "optional", a, st), "yes");
    const char *order = head_value(text, "order", a, st);
    free(text);
    p->order = *order ? strtoll(order, NULL, 10) : 100;
    if (!*p->title)
        p->title = p->name;
    if (!find_data(p->data))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: its head needs a line '# data: model', or layer, block, proxy",
                              p->path);
    return PTQ_OK;
}

const struct ptq_plot *ptq_plot_on_board(const struct ptq_tables *t, int64_t board,
                                         const struct ptq_plot *plot)
{
    struct ptq_plot *own = ptq_arena_alloc(t->arena, t->st, 1, sizeof *own);
    if (!own)
        return NULL;
    *own = *plot;
    if (board < t->v->n_boards && t->v->boards[board].by_layers && *plot->alt_layers)
        own->alt = plot->alt_layers;
    return own;
}

static int is_plot(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 3 && !strcmp(e->d_name + n - 3, ".gp") && e->d_name[0] != '_' && e->d_name[0] != '.';
}

static int order_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int fill_plots(struct dirent **names, int n, const char *folder, struct ptq_arena *a,
                      struct ptq_plot *plots, struct ptq_status *st)
{
    for (int i = 0; i < n; i++) {
        int stem = (int)strlen(names[i]->d_name) - 3;
        plots[i].name = ptq_arena_printf(a, st, "%.*s", stem, names[i]->d_name);
        plots[i].path = ptq_arena_printf(a, st, "%s/%s", folder, names[i]->d_name);
        if (!plots[i].name || !plots[i].path)
            return PTQ_ERR_MEMORY;
        int code = read_head(&plots[i], a, st);
        if (code)
            return code;
    }
    return PTQ_OK;
}

static int order_plots(const void *pa, const void *pb)
{
    const struct ptq_plot *a = pa, *b = pb;
    return a->order != b->order ? (a->order > b->order) - (a->order < b->order)
                                : strcmp(a->name, b->name);
}

int ptq_plots_list(struct ptq_arena *a, struct ptq_plot **plots, int64_t *n, struct ptq_status *st)
{
    char *style;
    struct dirent **names;
    *n = 0;
    int code = ptq_data_path("plots/_style.gp", a, &style, st);
    if (code)
        return code;
    char *folder =
        ptq_arena_printf(a, st, "%.*s", (int)(strlen(style) - strlen("/_style.gp")), style);
    if (!folder)
        return PTQ_ERR_MEMORY;
    int count = scandir(folder, &names, is_plot, order_names);
    if (count < 0)
        return ptq_status_set(st, PTQ_ERR_IO, "%s: cannot list the folder", folder);
    *plots = ptq_arena_alloc(a, st, count, sizeof **plots);
    code = *plots ? fill_plots(names, count, folder, a, *plots, st) : PTQ_ERR_MEMORY;
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    if (!code)
        qsort(*plots, (size_t)count, sizeof **plots, order_plots);
    *n = code ? 0 : count;
    return code;
}

const char *ptq_plot_file(const struct ptq_tables *t, int64_t board, const char *name,
                          const char *ext)
{
    const char *s =
        board ? ptq_arena_printf(t->arena, t->st, "%s/plots/%s-%" PRId64 ".%s", t->v->run_dir, name,
                                 board + 1, ext)
              : ptq_arena_printf(t->arena, t->st, "%s/plots/%s.%s", t->v->run_dir, name, ext);
    return s ? s : "";
}

/* ---- data ---- */

/* A log axis has no place for values at or below 0 (8 bits are often better than full precision by
 * noise): they are drawn at half the least positive loss, marked, and counted. 0: there is no
 * positive loss. */
static double loss_floor(const struct ptq_board *d, int64_t *n_floor)
{
    double least = INFINITY;
    *n_floor = 0;
    for (int64_t i = 0; i < d->n; i++) {
        double v = d->points[i].loss;
        least = v > 0 && v < least ? v : least;
        *n_floor += v <= 0;
    }
    return isfinite(least) ? least / 2 : 0;
}

static void put_value(FILE *f, double v)
{
    if (isfinite(v))
        fprintf(f, "\t%.17g", v);
    else
        fputs("\tNaN", f);
}

static double shown(double v, double floor)
{
    return isnan(v) ? NAN : v > floor ? v : floor;
}

/* The interval of the perplexity: of the paired difference where there is one, since only that
 * compares with full precision. */
static void ppl_interval(const struct ptq_board *d, const struct ptq_point *p, double *lo,
                         double *hi)
{
    double full = d->reference ? ptq_row_metric(d->reference, "ppl") : NAN;
    if (ptq_point_interval(p, "dnll", lo, hi) && isfinite(full)) {
        *lo = full * exp(*lo);
        *hi = full * exp(*hi);
        return;
    }
    ptq_point_interval(p, "ppl", lo, hi);
}

static const char model_head[] =
    "series\tname\tmethod\tbase\tbits\tgroup_size\tcalib_seed\tbits_stored\tloss\tloss_lo\tloss_"
    "hi\t"
    "loss_shown\tlo_shown\thi_shown\tat_floor\tmean_bits\tmean_"
    "shown\tfront\thull\tunranked\tppl\tppl_"
    "lo\tppl_hi\t"
    "out_relerr\ttime_s\tn_layers";

static bool is_own_column(const char *id)
{
    return !strcmp(id, "bits_stored") || !strcmp(id, "ppl") || !strcmp(id, "out_relerr");
}

static void put_point(const struct ptq_board *d, const struct ptq_point *p,
                      const struct ptq_combo *c, bool corner, double floor, FILE *f)
{
    bool first = p == d->points + c->first;
    double lo = NAN, hi = NAN;
    fprintf(f, "%d\t", p->series + 1);
    ptq_put_tsv(f, d->series[p->series]);
    fputc('\t', f);
    ptq_put_tsv(f, ptq_row_text(p->any, "method"));
    fputc('\t', f);
    ptq_put_tsv(f, ptq_row_text(p->any, "base"));
    fprintf(f, "\t%" PRId64 "\t%" PRId64 "\t%" PRId64, p->bits, p->group, p->calib_seed);
    put_value(f, p->bits_stored);
    put_value(f, p->loss);
    put_value(f, p->loss_lo);
    put_value(f, p->loss_hi);
    put_value(f, shown(p->loss, floor));
    put_value(f, shown(p->loss_lo, floor));
    put_value(f, shown(p->loss_hi, floor));
    fprintf(f, "\t%d", p->loss <= 0);
    put_value(f, first && !c->unranked ? c->bits : NAN);
    put_value(f, first ? shown(c->loss, floor) : NAN);
    fprintf(f, "\t%d\t%d\t%d", first && c->front, first && corner, p->unranked);
    ppl_interval(d, p, &lo, &hi);
    put_value(f, ptq_point_metric(p, "ppl"));
    put_value(f, lo);
    put_value(f, hi);
    put_value(f, ptq_cells_metric(&p->layers, "out_relerr"));
    put_value(f, p->time_s);
    fprintf(f, "\t%" PRId64, p->layers.n);
}

static int write_model_data(const struct ptq_tables *t, int64_t board, const char *path)
{
    const struct ptq_board *d = &t->v->boards[board];
    int64_t n_ids, n_floor, c = 0;
    const char **ids = ptq_metric_ids(t, d->by_layers ? "layer" : "model", &n_ids);
    struct ptq_buffer b;
    double floor = loss_floor(d, &n_floor);
    bool *corner = ptq_arena_alloc(t->arena, t->st, d->n_combos, sizeof *corner);
    if (!ids || !corner || ptq_hull_corners(t, d, corner) || ptq_buffer_open(&b, t->st))
        return PTQ_ERR_MEMORY;
    fputs(model_head, b.f);
    for (int64_t i = 0; i < n_ids; i++)
        if (!is_own_column(ids[i])) {
            fputc('\t', b.f);
            ptq_put_tsv(b.f, ids[i]);
        }
    fputc('\n', b.f);
    for (int64_t i = 0; i < d->n; i++) {
        c += i == d->combos[c].first + d->combos[c].n;
        put_point(d, &d->points[i], &d->combos[c], corner[c], floor, b.f);
        for (int64_t k = 0; k < n_ids; k++)
            if (!is_own_column(ids[k]))
                put_value(b.f, ptq_point_metric(&d->points[i], ids[k]));
        fputc('\n', b.f);
    }
    return ptq_buffer_save(&b, path, t->st);
}

/* The layer rows of a board, as a map: y is the layer, x the cell (the first calibration seed of a
 * setting). */
struct layer_map {
    const json_t **rows;
    int64_t *x, *y; /* from 1 */
    int64_t n, n_x, n_y;
    const char **layers; /* distinct names in layer order */
};

static int order_by_layer(const void *pa, const void *pb)
{
    const json_t *a = *(const json_t *const *)pa, *b = *(const json_t *const *)pb;
    return ptq_row_order_layer(a, b);
}

static int64_t layer_index(const struct layer_map *m, const json_t **sorted, const json_t *row)
{
    const json_t **at = bsearch(&row, sorted, (size_t)m->n_y, sizeof *sorted, order_by_layer);
    return at ? at - sorted : -1;
}

static int map_layers(const struct ptq_tables *t, const struct ptq_board *d, struct layer_map *m)
{
    int64_t n = t->v->n_layers;
    const json_t **sorted = ptq_arena_alloc(t->arena, t->st, n, sizeof *sorted);
    *m = (struct layer_map){.rows = ptq_arena_alloc(t->arena, t->st, n, sizeof *m->rows),
                            .x = ptq_arena_alloc(t->arena, t->st, n, sizeof *m->x),
                            .y = ptq_arena_alloc(t->arena, t->st, n, sizeof *m->y)};
    if (!sorted || !m->rows || !m->x || !m->y)
        return PTQ_ERR_MEMORY;
    const json_t *first = NULL; /* of the setting and seed that is being mapped */
    for (int64_t i = 0; i < n; i++) {
        const json_t *r = t->v->layers[i];
        if (strcmp(ptq_row_text(r, "model"), d->model))
            continue;
        bool fresh = !first || ptq_row_order_setting(first, r);
        if (!fresh && ptq_row_order_seed(first, r))
            continue; /* another calibration seed */
        first = fresh ? r : first;
        m->n_x += fresh;
        m->x[m->n] = m->n_x;
        sorted[m->n] = r;
        m->rows[m->n++] = r;
    }
    qsort(sorted, (size_t)m->n, sizeof *sorted, order_by_layer);
    for (int64_t i = 0; i < m->n; i++)
        if (i == 0 || ptq_row_order_layer(sorted[m->n_y - 1], sorted[i]))
            sorted[m->n_y++] = sorted[i];
    for (int64_t i = 0; i < m->n; i++)
        m->y[i] = layer_index(m, sorted, m->rows[i]) + 1;
    return PTQ_OK;
}

/* "gptq grid=mse b3 64" */
static const char *cell_label(const struct ptq_tables *t, const json_t *r)
{
    const json_t *group = json_object_get(r, "group_size");
    const char *variant = ptq_row_variant(t->v, r, t->arena, t->st);
    const char *s = ptq_arena_printf(
        t->arena, t->st, "%s%s%s b%s %s", ptq_row_text(r, "label"), *variant ? " " : "", variant,
        ptq_field_text(r, "bits", t->arena, t->st),
        ptq_group_text(t, json_is_integer(group) ? json_integer_value(group) : INT64_MIN));
    return s ? s : "";
}

static void put_layer_texts(const struct ptq_tables *t, const struct layer_map *m, int64_t i,
                            bool *seen_y, FILE *f)
{
    const json_t *r = m->rows[i];
    bool new_x = i == 0 || m->x[i - 1] != m->x[i], new_y = !seen_y[m->y[i] - 1];
    int64_t every = (m->n_y + 59) / 60;
    seen_y[m->y[i] - 1] = true;
    ptq_put_tsv(f, ptq_row_text(r, "layer"));
    fputc('\t', f);
    ptq_put_tsv(f, ptq_row_text(r, "label"));
    fputc('\t', f);
    if (new_y && (m->y[i] - 1) % every == 0)
        ptq_put_tsv(f, ptq_row_text(r, "layer"));
    fputc('\t', f);
    if (new_x)
        ptq_put_tsv(f, cell_label(t, r));
    fprintf(f, "\t%" PRId64 "\t%" PRId64, m->y[i], m->x[i]);
    static const char *const numbers[] = {"bits", "group_size", "calib_seed"};
    for (int k = 0; k < 3; k++) {
        fputc('\t', f);
        ptq_put_tsv(f, ptq_field_text(r, numbers[k], t->arena, t->st));
    }
}

static int write_layer_data(const struct ptq_tables *t, int64_t board, const char *path)
{
    struct layer_map m;
    struct ptq_buffer b;
    int64_t n_ids;
    int code = map_layers(t, &t->v->boards[board], &m);
    const char **ids = ptq_metric_ids(t, "layer", &n_ids);
    bool *seen_y = ptq_arena_alloc(t->arena, t->st, m.n_y, sizeof *seen_y);
    if (code || !ids || !seen_y || ptq_buffer_open(&b, t->st))
        return PTQ_ERR_MEMORY;
    fputs("layer\tlabel\ty_label\tx_label\ty\tx\tbits\tgroup_size\tcalib_seed\ttime_s", b.f);
    for (int64_t k = 0; k < n_ids; k++) {
        fputc('\t', b.f);
        ptq_put_tsv(b.f, ids[k]);
    }
    fputc('\n', b.f);
    for (int64_t i = 0; i < m.n; i++) {
        put_layer_texts(t, &m, i, seen_y, b.f);
        put_value(b.f, ptq_row_sub(m.rows[i], "time", "quantize_s"));
        for (int64_t k = 0; k < n_ids; k++)
            put_value(b.f, ptq_row_metric(m.rows[i], ids[k]));
        fputc('\n', b.f);
    }
    return ptq_buffer_save(&b, path, t->st);
}

int ptq_plot_data_write(const struct ptq_tables *t, int64_t board)
{
    char *folder = ptq_arena_printf(t->arena, t->st, "%s/plots", t->v->run_dir);
    int code = folder ? ptq_make_dirs(folder, t->st) : PTQ_ERR_MEMORY;
    for (int i = 0; i < N_DATA && !code; i++)
        if (!all_data[i]->missing || !all_data[i]->missing(t, &t->v->boards[board]))
            code = all_data[i]->write(t, board, ptq_plot_file(t, board, all_data[i]->name, "tsv"));
    return code;
}

/* ---- drawing ---- */

/* A gnuplot string in single quotes: nothing inside is interpreted but the doubled quote. */
static void put_string(FILE *f, const char *s)
{
    fputc('\'', f);
    for (; *s; s++)
        if (*s == '\'')
            fputs("''", f);
        else
            fputc((unsigned char)*s < 0x20 || *s == '`' ? '?' : *s, f);
    fputc('\'', f);
}

/* A path that starts with '<' or '|' would be a command to gnuplot. */
static void put_path(FILE *f, const char *path)
{
    char *safe = malloc(strlen(path) + 3);
    if (!safe)
        return;
    sprintf(safe, "%s%s", path[0] == '/' ? "" : "./", path);
    put_string(f, safe);
    free(safe);
}

static void put_names(FILE *f, const char *count, const char *array, const char *const *names,
                      int n)
{
    fprintf(f, "%s=%d; array %s[%d] = [", count, n, array, n > 0 ? n : 1);
    for (int i = 0; i < n; i++) {
        fputs(i ? "," : "", f);
        put_string(f, names[i]);
    }
    fputs(n ? "]; " : "'']; ", f);
}

static void put_loss_label(FILE *f, const struct ptq_board *d)
{
    char label[128];
    snprintf(label, sizeof label, "%s (%s), %s", d->loss_title, d->loss_id, d->loss_unit);
    put_string(f, label);
}

struct drawing {
    const struct ptq_tables *t;
    const struct ptq_board *d;
    const struct ptq_plot *plot;
    const char *data, *style, *out;
    bool png;
};

/* The most columns that a label of the layer map takes, on either axis: a picture leaves that much
 * room. */
static void label_widths(const struct ptq_tables *t, const struct layer_map *m, int *x, int *y)
{
    *x = *y = 0;
    for (int64_t i = 0; i < m->n; i++) {
        int w = ptq_text_width(ptq_row_text(m->rows[i], "layer"));
        *y = w > *y ? w : *y;
        if (i && m->x[i] == m->x[i - 1])
            continue;
        w = ptq_text_width(cell_label(t, m->rows[i]));
        *x = w > *x ? w : *x;
    }
}

static int make_script(const struct drawing *w, char **script, struct ptq_status *st)
{
    struct ptq_buffer b;
    struct layer_map m = {0};
    int64_t n_floor;
    int x_chars, y_chars;
    double floor = loss_floor(w->d, &n_floor),
           full = w->d->reference ? ptq_row_metric(w->d->reference, "ppl") : NAN;
    const struct ptq_plot_data *data = find_data(w->plot->data);
    struct ptq_plot_series series = {w->d->series, w->d->n_series, NULL, 0};
    if (map_layers(w->t, w->d, &m) || (data->series && data->series(w->t, w->d, &series)) ||
        ptq_buffer_open(&b, st))
        return PTQ_ERR_MEMORY;
    fputs("data=", b.f);
    put_path(b.f, w->data);
    fputs("; out=", b.f);
    put_path(b.f, w->out);
    fputs("; style=", b.f);
    put_path(b.f, w->style);
    fputs("; term=", b.f);
    put_string(b.f, w->png ? "pngcairo noenhanced background 'white' font 'sans,11'"
                           : "svg dynamic noenhanced font 'sans-serif,13'");
    fputs("; title=", b.f);
    put_string(b.f, w->plot->title);
    fputs("; model=", b.f);
    put_string(b.f, w->d->model);
    fputs("; loss_label=", b.f);
    put_loss_label(b.f, w->d);
    fprintf(b.f,
            "; loss_floor=%.17g; n_floor=%" PRId64 "; n_unranked=%" PRId64 "; n_x=%" PRId64
            "; n_y=%" PRId64 "; ",
            floor, n_floor, w->d->n_unranked, m.n_x, m.n_y);
    label_widths(w->t, &m, &x_chars, &y_chars);
    fprintf(b.f, "x_chars=%d; y_chars=%d; ", x_chars, y_chars);
    fprintf(b.f, "full_ppl=%.17g; ", isfinite(full) ? full : 0.0);
    put_names(b.f, "n_series", "NAMES", series.names, series.n);
    put_names(b.f, "n_panels", "PANELS", series.panels, series.n_panels);
    int code = ptq_buffer_close(&b, st);
    *script = b.text;
    return code;
}

/* Whether a needed column holds a finite value somewhere in the data. */
static bool has_column(const struct ptq_tables *t, const struct ptq_board *d, bool layer,
                       const char *id)
{
    if (layer) {
        for (int64_t i = 0; i < t->v->n_layers; i++)
            if (isfinite(ptq_row_metric(t->v->layers[i], id)))
                return true;
        return false;
    }
    for (int64_t i = 0; i < d->n; i++) {
        const struct ptq_point *p = &d->points[i];
        double v = !strcmp(id, "loss")     ? (p->loss > 0 ? p->loss : NAN)
                   : !strcmp(id, "time_s") ? p->time_s
                                           : ptq_point_metric(p, id);
        if (!strcmp(id, "bits_stored"))
            v = p->bits_stored;
        if (isfinite(v))
            return true;
    }
    return false;
}

static int check_needs(const struct drawing *w, struct ptq_status *st)
{
    char word[64];
    const struct ptq_plot_data *data = find_data(w->plot->data);
    const char *missing = data->missing ? data->missing(w->t, w->d) : NULL;
    if (data->missing) /* it knows its own columns */
        return missing ? ptq_status_set(st, PTQ_SKIP, "%s: not drawn, %s", w->plot->name, missing)
                       : PTQ_OK;
    const bool layer = data == &layer_data;
    for (const char *s = w->plot->needs; *s; s += strcspn(s, " "), s += strspn(s, " ")) {
        snprintf(word, sizeof word, "%.*s", (int)strcspn(s, " "), s);
        if (!has_column(w->t, w->d, layer, word))
            return ptq_status_set(st, PTQ_SKIP, "%s: not drawn, no row holds a %s to draw",
                                  w->plot->name, !strcmp(word, "loss") ? "positive loss" : word);
    }
    return PTQ_OK;
}

static int adapt_file(const struct drawing *w, const char *out_path, struct ptq_status *st)
{
    char *svg, *fit = NULL;
    size_t bytes;
    int code = ptq_read_file(w->out, 64u << 20, &svg, &bytes, st);
    if (code)
        return code;
    code = ptq_svg_adapt(svg, w->plot, &fit, &bytes, st);
    if (code == PTQ_OK)
        code = ptq_write_file(out_path, fit, bytes, st);
    free(svg);
    free(fit);
    return code;
}

int ptq_plot_draw(const struct ptq_tables *t, int64_t board, const struct ptq_plot *plot,
                  const char *out_path, struct ptq_status *st)
{
    size_t n = strlen(out_path);
    char *style, *script = NULL;
    struct drawing w = {.t = t,
                        .d = &t->v->boards[board],
                        .plot = plot,
                        .data = ptq_plot_file(t, board, plot->data, "tsv"),
                        .out = ptq_arena_printf(t->arena, t->st, "%s.raw", out_path),
                        .png = n > 4 && !strcmp(out_path + n - 4, ".png")};
    int code = check_needs(&w, st);
    code = code ? code : ptq_data_path("plots/_style.gp", t->arena, &style, st);
    if (code || !w.out)
        return code ? code : PTQ_ERR_MEMORY;
    w.style = style;
    code = make_script(&w, &script, st);
    code = code ? code : ptq_gnuplot(script, plot->path, st);
    free(script);
    if (code == PTQ_OK && w.png && rename(w.out, out_path))
        code = ptq_status_set(st, PTQ_ERR_IO, "%s: cannot be written", out_path);
    if (code == PTQ_OK && !w.png)
        code = adapt_file(&w, out_path, st);
    unlink(w.out);
    return code;
}
