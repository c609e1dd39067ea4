#include "analysis/score.h"
#include "analysis/score_audit.h"
#include "analysis/score_method.h"
#include "analysis/score_rest.h"
#include "core/json.h"
#include "core/paths.h"
#include "core/stat.h"
#include "core/words.h"
#include "model/eval.h"
#include "sweep/layerfile.h"
#include "sweep/rowtext.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_GRIDS = 16 };
struct grid_kind { /* layers on grids of one width, group and symmetry */
    struct ptq_score_audit of;
    int64_t n_weights;
};

struct score {
    const struct ptq_score_args *args;
    struct ptq_external external;
    struct ptq_arena *arena;
    struct ptq_score *out;
    struct ptq_status *st;
    /* what the checkpoint is filed under: the grid of most weights that were looked at */
    struct ptq_score_audit found;
    struct grid_kind kind[MOST_GRIDS];
    int n_kinds;
    int plain_bits; /* where there is no grid */
    int64_t least_cols;
};

/* ---- bits and groups of the checkpoint ---- */

static void count_kind(struct score *s, const struct ptq_score_audit *a)
{
    int k = 0;
    while (k < s->n_kinds &&
           (s->kind[k].of.bits != a->bits || s->kind[k].of.group_cols != a->group_cols ||
            s->kind[k].of.sym != a->sym))
        k++;
    if (k == MOST_GRIDS)
        return;
    if (k == s->n_kinds)
        s->kind[s->n_kinds++] = (struct grid_kind){*a, 0};
    s->kind[k].n_weights += a->n_weights;
    int most = 0;
    for (int i = 1; i < s->n_kinds; i++)
        most = s->kind[i].n_weights > s->kind[most].n_weights ? i : most;
    s->found = s->kind[most].of;
}

static int audit_one(struct score *s, const struct ptq_external_want *want, const float *w,
                     struct ptq_arena *arena)
{
    struct ptq_external_layer l;
    struct ptq_status missing = {0}; /* the row will say so */
    struct ptq_score_audit a;
    s->least_cols = !s->least_cols || want->cols < s->least_cols ? want->cols : s->least_cols;
    int rc = ptq_external_layer(&s->external, want, arena, &l, &missing);
    if (rc == PTQ_ERR_IO || rc == PTQ_ERR_MEMORY) {
        *s->st = missing;
        return rc;
    }
    if (rc)
        return PTQ_SKIP;
    rc = ptq_score_audit_layer(&l, w, want->cols, arena, &a, s->st);
    if (!rc && a.bits)
        count_kind(s, &a);
    const double bits = (double)l.quant.file_bits / ((double)want->rows * (double)want->cols);
    if (!s->plain_bits && l.plain)
        s->plain_bits = bits < 8 ? (int)ceil(bits) : 8;
    return rc;
}

static bool is_wanted(const struct score *s, const char *name)
{
    return !s->args->layers || ptq_glob(s->args->layers, name);
}

static int look_at_block(struct score *s, int64_t b)
{
    struct ptq_arena arena;
    struct ptq_block block;
    ptq_arena_init(&arena, 0);
    int rc = ptq_model_load_block(s->external.original, (int)b, &arena, &block, s->st);
    for (int i = 0; !rc && i < block.n_linears; i++) {
        const struct ptq_linear *l = &block.lin[i];
        const struct ptq_external_want want = {l->name, l->d_out, l->d_in};
        rc = is_wanted(s, l->name) ? audit_one(s, &want, l->w, &arena) : PTQ_OK;
        rc = rc == PTQ_SKIP ? PTQ_OK : rc;
    }
    ptq_arena_clear(&arena);
    return rc;
}

/* The first, the middle and the last block: mixed checkpoints keep ends at more bits. Others until
 * a layer lies on a grid. */
static int look_at_model(struct score *s)
{
    const int64_t n = ptq_model_info(s->external.original)->n_blocks;
    int rc = look_at_block(s, n / 2);
    if (!rc && n > 1)
        rc = look_at_block(s, 0);
    if (!rc && n > 2)
        rc = look_at_block(s, n - 1);
    for (int64_t b = 1; !rc && b < n - 1 && !s->found.bits && !s->plain_bits; b++)
        rc = b == n / 2 ? PTQ_OK : look_at_block(s, b);
    return rc;
}

static int look_at_layers(struct score *s)
{
    struct ptq_h5 *h5;
    char **names;
    int64_t n = 0;
    int rc = ptq_h5_open(&h5, s->args->original, PTQ_H5_READ, s->st);
    if (rc)
        return rc;
    rc = ptq_layerfile_names(h5, s->arena, &names, &n, s->st);
    for (int64_t i = 0; !rc && i < n; i++) {
        struct ptq_layer layer;
        struct ptq_layerfile_args args = {.name = names[i]};
        struct ptq_arena arena;
        ptq_arena_init(&arena, 0);
        rc = is_wanted(s, names[i]) ? ptq_layerfile_read(h5, &args, &arena, &layer, s->st)
                                    : PTQ_SKIP;
        const struct ptq_external_want want = {names[i], rc ? 0 : layer.w.rows,
                                               rc ? 0 : layer.w.cols};
        rc = rc ? rc : audit_one(s, &want, layer.w.at, &arena);
        rc = rc == PTQ_SKIP ? PTQ_OK : rc;
        ptq_arena_clear(&arena);
    }
    ptq_h5_close(h5, NULL);
    return rc;
}

/* ---- the sweep ---- */

static const char *join(struct score *s, const char *words, const char *key, const char *value)
{
    return value ? ptq_arena_printf(s->arena, s->st, "%s %s=%s", words, key, value) : words;
}

static int64_t filed_bits(const struct score *s)
{
    const int64_t bits = s->args->bits       ? s->args->bits
                         : s->found.bits     ? s->found.bits
                         : s->external.model ? ptq_model_info(s->external.model)->grid_bits
                                             : 0;
    return bits ? bits : s->plain_bits ? s->plain_bits : 8;
}

static int64_t filed_group(const struct score *s)
{
    const int64_t group = s->args->group_size ? s->args->group_size
                          : s->found.bits     ? s->found.group_cols
                          : s->external.model ? ptq_model_info(s->external.model)->grid_group
                                              : -1;
    return group == 0 && !s->found.bits ? -1 : group > s->least_cols ? -1 : group;
}

static const char *make_words(struct score *s)
{
    const struct ptq_score_args *a = s->args;
    const char *w = ptq_arena_printf(
        s->arena, s->st,
        "sweep.methods=%s sweep.bits=%lld sweep.group_size=%lld sweep.sym=%d sweep.grid=minmax "
        "sweep.a_bits=16 sweep.kv_tokens=0 run.name=%s",
        s->found.bits && !a->alone ? "rtn,gptq" : "rtn", (long long)filed_bits(s),
        (long long)filed_group(s), s->found.bits && s->found.sym, a->name);
    w = w ? join(s, w, "calib.text", a->calib) : NULL;
    w = w ? join(s, w, "calib.heldout", a->heldout) : NULL;
    w = w ? join(s, w, "eval.text", a->text) : NULL;
    w = w ? join(s, w, "eval.protocol", a->protocol) : NULL;
    w = w ? join(s, w, "sweep.layers", a->layers) : NULL;
    w = w ? join(s, w, "run.out", a->results) : NULL;
    if (w && a->windows)
        w = ptq_arena_printf(s->arena, s->st, "%s eval.windows=%lld", w, (long long)a->windows);
    if (w && a->set_words)
        w = ptq_arena_printf(s->arena, s->st, "%s %s", w, a->set_words);
    return w;
}

static int read_config(struct score *s, struct ptq_config *c)
{
    const char *own = !s->external.original                ? "configs/layers.ini"
                      : !strcmp(s->args->original, "demo") ? "configs/demo.ini"
                                                           : "configs/score.ini";
    char *path = NULL;
    const struct ptq_config_override override = {make_words(s), s->args->original, false};
    int rc = override.set_words ? PTQ_OK : PTQ_ERR_MEMORY;
    if (!rc && !s->args->config)
        rc = ptq_data_path(own, s->arena, &path, s->st);
    return rc ? rc : ptq_config_read(path ? path : s->args->config, &override, s->arena, c, s->st);
}

/* The checkpoint first: its rows are made even if the rivals run out of time. */
static int put_spec(struct score *s, struct ptq_config *c)
{
    struct ptq_config_grid *g = &c->sweep;
    const int64_t n = s->args->alone || !s->found.bits ? 0 : g->n_specs;
    struct ptq_spec *all = ptq_arena_alloc(s->arena, s->st, n + 1, sizeof *all);
    if (!all)
        return PTQ_ERR_MEMORY;
    if (n)
        memcpy(all + 1, g->specs, (size_t)n * sizeof *all);
    g->specs = all;
    g->n_specs = n + 1;
    return ptq_score_spec(&s->external, s->args->name, s->arena, all, s->st);
}

static int run_sweep(struct score *s, const struct ptq_config *c)
{
    struct ptq_pool *pool;
    struct ptq_sweep_summary summary;
    struct ptq_sweep_args args = {.config = c,
                                  .machine = s->args->machine,
                                  .cancel = s->args->cancel,
                                  .quiet = s->args->quiet,
                                  .retry_failed = true,
                                  .n_shards = 1,
                                  .command = s->args->command};
    int rc = ptq_pool_new(&pool, (int)s->args->threads, s->st);
    if (rc)
        return rc;
    args.pool = pool;
    rc = ptq_sweep_run(&args, &summary, s->st);
    ptq_pool_free(pool);
    s->out->run_dir = ptq_arena_strdup(s->arena, s->st, summary.run_dir);
    return rc || s->out->run_dir ? rc : PTQ_ERR_MEMORY;
}

/* ---- what came out ---- */

static bool is_external(const json_t *row)
{
    return !strcmp(ptq_row_text(row, "base"), "external");
}

static bool is_kind(const json_t *row, const char *kind)
{
    return !strcmp(ptq_row_text(row, "kind"), kind);
}

static double share(const json_t *row, const char *key, const char *of)
{
    return ptq_row_sub(row, "notes", key) / ptq_row_sub(row, "notes", of);
}

/* The same layer and calibration draw by another method. */
static double loss_of(const struct ptq_rows *rows, const json_t *like, const char *base)
{
    for (int64_t i = 0; i < rows->n; i++) {
        const json_t *r = rows->at[i];
        const double a = ptq_row_num(r, "calib_seed"), b = ptq_row_num(like, "calib_seed");
        if (is_kind(r, "layer") && !strcmp(ptq_row_text(r, "base"), base) &&
            !strcmp(ptq_row_text(r, "layer"), ptq_row_text(like, "layer")) &&
            (a == b || (isnan(a) && isnan(b))))
            return ptq_row_metric(r, "out_relerr");
    }
    return NAN;
}

/* A grid that was found in plain values, were it packed: codes, a scale of 16 bits and, unless it
 * is symmetric, a zero a group. */
static double bits_of_grid(const json_t *row)
{
    const double bits = ptq_row_sub(row, "notes", "grid_bits"),
                 n = ptq_row_sub(row, "notes", "n_weights"),
                 zero = ptq_row_sub(row, "notes", "grid_sym") > 0 ? 0 : bits;
    return bits > 0 ? bits + (16 + zero) * ptq_row_sub(row, "notes", "n_grids") / n : NAN;
}

/* Columns that share a scale; 0: all of the matrix do. */
static double group_of(double group_size, double cols)
{
    return group_size < 0 || group_size > cols ? cols : group_size;
}

static void take_layer(const struct ptq_rows *rows, const json_t *row, struct ptq_score_layer *l)
{
    const double file = ptq_row_sub(row, "notes", "n_file_bits"),
                 form = ptq_row_sub(row, "notes", "n_form_bits"),
                 n = ptq_row_sub(row, "notes", "n_weights");
    *l = (struct ptq_score_layer){
        .name = ptq_row_text(row, "layer"),
        .failed = strcmp(ptq_row_text(row, "status"), "ok") ? ptq_row_text(row, "reason") : NULL,
        .bits = ptq_row_sub(row, "notes", "grid_bits"),
        .group = ptq_row_sub(row, "notes", "grid_group"),
        .found_grid = ptq_row_sub(row, "notes", "grid_found"),
        .file_bits = file > 0 ? file / n : form / n,
        .form_bits = form > 0 ? form / n : bits_of_grid(row),
        .rtn_same = share(row, "n_rtn_same", "n_weights"),
        .n_rtn_other = n - ptq_row_sub(row, "notes", "n_rtn_same"),
        .clipped = share(row, "n_clipped_weights", "n_weights"),
        .saturated = share(row, "n_saturated_groups", "n_grids"),
        .one_sided = share(row, "n_one_sided_groups", "n_grids"),
        .flat = share(row, "n_flat_groups", "n_grids"),
        .n_scale_zero = ptq_row_sub(row, "notes", "n_scale_zero"),
        .n_scale_negative = ptq_row_sub(row, "notes", "n_scale_negative"),
        .n_scale_subnormal = ptq_row_sub(row, "notes", "n_scale_subnormal"),
        .n_zero_out_of_range = ptq_row_sub(row, "notes", "n_zero_out_of_range"),
        .scaled = fmax(ptq_row_sub(row, "notes", "n_scaled_rows") / ptq_row_num(row, "rows"),
                       ptq_row_sub(row, "notes", "n_scaled_cols") / ptq_row_num(row, "cols")),
        .rest_differs = ptq_row_sub(row, "notes", "n_rest_differs") > 0,
        .on_no_grid = ptq_row_sub(row, "notes", "n_on_no_grid") > 0,
        /* groups of one value each lie on a grid of their own: that is nobody's calibration */
        .is_rtn = ptq_row_sub(row, "notes", "n_rtn_layers") > 0 &&
                  !(share(row, "n_flat_groups", "n_grids") >= 1),
        .w_relerr = ptq_row_metric(row, "w_relerr"),
        .out = ptq_row_metric(row, "out_relerr"),
        .heldout = ptq_row_metric(row, "out_relerr_heldout"),
        .heldout_nosink = ptq_row_metric(row, "out_relerr_heldout_nosink"),
    };
    if (isnan(l->heldout_nosink))
        l->heldout_nosink = ptq_row_metric(row, "out_relerr_nosink");
    /* Rivals stand on the grid that the checkpoint is filed under. */
    const double cols = ptq_row_num(row, "cols");
    l->other_grid =
        l->bits > 0 && (l->bits != ptq_row_num(row, "bits") ||
                        group_of(l->group, cols) != group_of(ptq_row_num(row, "group_size"), cols));
    l->over_rtn = l->other_grid ? NAN : l->out / loss_of(rows, row, "rtn");
    l->over_gptq = l->other_grid ? NAN : l->out / loss_of(rows, row, "gptq");
    if (l->on_no_grid)
        l->rtn_same = l->clipped = l->saturated = l->one_sided = l->flat = NAN;
}

static void take_model(const json_t *row, struct ptq_score_model *m)
{
    const bool reference = is_kind(row, "reference");
    *m = (struct ptq_score_model){
        .label = reference ? "full precision" : ptq_row_text(row, "label"),
        .failed = strcmp(ptq_row_text(row, "status"), "ok") ? ptq_row_text(row, "reason") : NULL,
        .bits_stored = reference ? NAN : ptq_row_metric(row, "bits_stored"),
        .nll = ptq_row_metric(row, "nll"),
        .ppl = ptq_row_metric(row, "ppl"),
        .dnll = reference ? NAN : ptq_row_metric(row, "dnll"),
        .lo = NAN,
        .hi = NAN,
        .kl_mean = reference ? NAN : ptq_row_metric(row, "kl_mean"),
        .protocol = ptq_row_text(row, "protocol"),
        .text = ptq_row_text(row, "text"),
        .text_note = ptq_row_text(row, "text_note"),
    };
    ptq_row_interval(row, "dnll", &m->lo, &m->hi);
}

/* Full precision, the checkpoint, rivals. */
static int rank_of(const json_t *row)
{
    return is_kind(row, "reference") ? 0 : is_external(row) ? 1 : 2;
}

static int collect(struct score *s)
{
    struct ptq_score *o = s->out;
    int rc = ptq_rows_read_run(o->run_dir, &o->rows, s->st);
    o->layer = ptq_arena_alloc(s->arena, s->st, o->rows.n + 1, sizeof *o->layer);
    o->model = ptq_arena_alloc(s->arena, s->st, o->rows.n + 1, sizeof *o->model);
    if (rc || !o->layer || !o->model)
        return rc ? rc : PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < o->rows.n; i++)
        if (is_kind(o->rows.at[i], "layer") && is_external(o->rows.at[i])) {
            struct ptq_score_layer *l = &o->layer[o->n_layers++];
            take_layer(&o->rows, o->rows.at[i], l);
            o->n_rtn_layers += l->is_rtn;
            o->n_failed += l->failed != NULL;
            o->n_other_grid += l->other_grid && !l->failed;
        }
    for (int rank = 0; rank < 3; rank++)
        for (int64_t i = 0; i < o->rows.n; i++)
            if (!is_kind(o->rows.at[i], "layer") && ptq_row_is_cell(o->rows.at[i]) &&
                rank_of(o->rows.at[i]) == rank)
                take_model(o->rows.at[i], &o->model[o->n_models++]);
    return PTQ_OK;
}

/* ---- the file as it is ---- */

static bool stops(void *arg)
{
    const struct score *s = arg;
    return s->args->cancel && atomic_load(s->args->cancel);
}

/* Its windows against those of the reference row. */
static int take_whole(struct score *s, const json_t *reference, const struct ptq_eval *e)
{
    struct ptq_score_model *m = &s->out->whole;
    struct ptq_interval d;
    double *z = ptq_arena_alloc(s->arena, s->st, 2 * e->n_windows, sizeof *z);
    if (!z)
        return PTQ_ERR_MEMORY;
    const int64_t n = ptq_ratio_units(e->nll_window, e->n_window, e->n_windows, z);
    if (ptq_row_n_windows(reference) == e->n_windows &&
        ptq_row_units(reference, z + e->n_windows) == n) {
        for (int64_t i = 0; i < n; i++)
            z[i] -= z[e->n_windows + i];
        ptq_paired_interval(z, n, .95, &d);
        m->dnll = d.mean;
        m->lo = d.lo;
        m->hi = d.hi;
    }
    m->nll = ptq_eval_nll(e);
    m->ppl = exp(m->nll);
    m->label = ptq_arena_printf(s->arena, s->st, "external:%s, whole file", s->args->name);
    return m->label ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int run_whole(struct score *s, const json_t *reference)
{
    struct ptq_pool *pool;
    struct ptq_text text;
    struct ptq_eval eval;
    struct ptq_arena arena;
    int rc = ptq_pool_new(&pool, (int)s->args->threads, s->st);
    if (rc)
        return rc;
    ptq_arena_init(&arena, 0);
    rc = ptq_row_load_text(reference, s->out->run_dir, ptq_model_info(s->external.original), &arena,
                           &text, s->st);
    const struct ptq_eval_args args = {
        .model = s->external.model, .text = &text, .pool = pool, .stop = stops, .stop_arg = s};
    rc = rc ? rc : ptq_eval_model(&args, &arena, &eval, s->st);
    rc = rc ? rc : take_whole(s, reference, &eval);
    ptq_arena_clear(&arena);
    ptq_pool_free(pool);
    return rc;
}

/* Matrices are measured in the original's frame. Where the checkpoint brings another one, that is
 * said, and the file is run as it is where the program can. */
static int look_at_rest(struct score *s)
{
    struct ptq_score *o = s->out;
    const double none = NAN;
    int rc = ptq_external_rest(&s->external, s->arena, &o->rest, &o->n_rest, s->st);
    o->whole = (struct ptq_score_model){.bits_stored = none,
                                        .nll = none,
                                        .ppl = none,
                                        .dnll = none,
                                        .lo = none,
                                        .hi = none,
                                        .kl_mean = none};
    for (int64_t i = 0; !rc && o->n_rest && s->external.model && i < o->rows.n; i++)
        if (is_kind(o->rows.at[i], "reference") && ptq_row_n_windows(o->rows.at[i]))
            return run_whole(s, o->rows.at[i]);
    return rc;
}

int ptq_score(const struct ptq_score_args *a, struct ptq_arena *arena, struct ptq_score *out,
              struct ptq_status *st)
{
    struct score s = {.args = a, .arena = arena, .out = out, .st = st};
    const struct ptq_external_args source = {a->original, a->quantized, a->dataset};
    struct ptq_config config;
    *out = (struct ptq_score){.run_dir = ""};
    int rc = ptq_external_open(&s.external, &source, st);
    if (!rc)
        rc = s.external.original ? look_at_model(&s) : look_at_layers(&s);
    rc = rc ? rc : read_config(&s, &config);
    rc = rc ? rc : put_spec(&s, &config);
    rc = rc ? rc : run_sweep(&s, &config);
    rc = rc ? rc : collect(&s);
    rc = rc ? rc : look_at_rest(&s);
    out->kind = s.external.kind;
    ptq_external_close(&s.external);
    return rc;
}

void ptq_score_release(struct ptq_score *s)
{
    ptq_rows_release(&s->rows);
}

/* The checkpoint's model row says what it does not hold. */
static json_t *with_rest(const struct ptq_score *s, const json_t *row)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)row), *list;
    if (!copy || !s->n_rest || !is_kind(row, "model"))
        return copy;
    json_object_set_new(copy, "not_measured", list = json_array());
    for (int64_t i = 0; i < s->n_rest; i++)
        json_array_append_new(list, json_string(s->rest[i]));
    if (s->whole.label)
        json_object_set_new(copy, "whole_file_nll", ptq_json_num(s->whole.nll));
    return copy;
}

int ptq_score_write_rows(const struct ptq_score *s, const char *path, struct ptq_status *st)
{
    FILE *f = fopen(path, "w");
    bool ok = f != NULL;
    for (int64_t i = 0; ok && i < s->rows.n; i++) {
        const json_t *r = s->rows.at[i];
        if (!is_external(r) && !is_kind(r, "reference"))
            continue;
        json_t *row = with_rest(s, r);
        char *text = json_dumps(row, JSON_COMPACT | JSON_REAL_PRECISION(17));
        ok = text && fprintf(f, "%s\n", text) > 0;
        free(text);
        json_decref(row);
    }
    ok = (!f || fclose(f) == 0) && ok;
    return ok ? PTQ_OK
              : ptq_status_set(st, PTQ_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
}

/* ---- words ---- */

struct words {
    char *at;
    size_t size;
};

static void say(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct words *w, const char *fmt, ...)
{
    const size_t n = strlen(w->at);
    va_list ap;
    if (n && n + 3 < w->size)
        strcat(w->at, "; ");
    va_start(ap, fmt);
    vsnprintf(w->at + strlen(w->at), w->size - strlen(w->at), fmt, ap);
    va_end(ap);
}

/* Of a method that calibrates some percent of the codes differ at the least. */
#define NEARLY_RTN 0.995

void ptq_score_remark(const struct ptq_score_layer *l, char *out, size_t size)
{
    struct words w = {out, size};
    const bool near_rtn = l->rtn_same >= NEARLY_RTN && !(l->flat >= 1);
    *out = 0;
    if (l->failed) {
        say(&w, "%s", l->failed);
        return;
    }
    if (l->on_no_grid)
        say(&w, "on no uniform grid");
    else if (l->is_rtn && l->n_rtn_other > 0)
        say(&w,
            "equals RTN but for %.0f ties, as its scales are rounded: calibration never ran, or "
            "saw nothing",
            l->n_rtn_other);
    else if (l->is_rtn)
        say(&w, "equals RTN to the code: calibration never ran, or saw nothing");
    else if (l->rest_differs && near_rtn)
        say(&w, "codes are those of the scaled weights, as AWQ's");
    else if (near_rtn)
        say(&w, "RTN but for %.0f codes", l->n_rtn_other);
    if (l->scaled > 0.25)
        say(&w,
            "%.0f%% of its rows or columns were multiplied, which a neighbour takes back: its "
            "own losses say nothing",
            100 * l->scaled);
    else if (l->over_rtn > 1.05 && !l->is_rtn)
        say(&w, "loses more than RTN on these bits");
    if (l->n_scale_zero > 0)
        say(&w, "%.0f scales are 0", l->n_scale_zero);
    if (l->n_scale_negative > 0)
        say(&w, "%.0f scales are negative", l->n_scale_negative);
    if (l->n_scale_subnormal > 0)
        say(&w, "%.0f scales are subnormal", l->n_scale_subnormal);
    if (l->n_zero_out_of_range > 0)
        say(&w, "%.0f zeros lie beyond the codes", l->n_zero_out_of_range);
    if (l->flat > 0)
        say(&w, "%.3g%% of groups are one value%s", 100 * l->flat,
            l->flat >= 1 ? ": nothing of the weights is left" : "");
    if (l->rest_differs)
        say(&w, "its norm was changed: compared with that taken back");
}
