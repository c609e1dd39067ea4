/* cmd_run.c: `ptq run FILE`: one cell of one layer: every metric of it, and its stored form in a
 * container. */
#include "cli/cli.h"
#include "cli/layer_source.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/words.h"
#include "metrics/metric.h"
#include "quant/formfile.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct request {
    struct ptq_layer_request layer;
    struct ptq_spec spec;
    struct ptq_cell cell; /* with the spec's own grid */
    enum ptq_format format;
    int64_t threads;
    const char *out;
};

struct outcome {
    const struct request *q;
    const struct ptq_args *args;
    struct ptq_layer layer;
    const char *source;
    struct ptq_result result;
    struct ptq_ledger ledger;
    struct ptq_value *values; /* in the order of the registry */
    char codes_hash[33];
};

static const char *const norm_words[] = {"unknown", "token", "sequence", NULL};
static const char *const precision_words[] = {"single", "double", NULL};

/* ---- command line ---- */

static int word(const struct ptq_args *a, const char *flag, const char *const *words, int def,
                int *out, struct ptq_status *st)
{
    const char *text = ptq_arg(a, flag);
    char what[64];
    *out = def;
    if (!text)
        return PTQ_OK;
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], text)) {
            *out = i;
            return PTQ_OK;
        }
    snprintf(what, sizeof what, "value of --%s", flag);
    return ptq_unknown_word(what, text, words, st);
}

static int parse_cell(const struct ptq_args *a, struct ptq_cell *c, struct ptq_status *st)
{
    int64_t bits, group = PTQ_GROUP_ROW, seed = 0, a_bits = 16;
    int sym_kind, grid, scale;
    if (!ptq_arg(a, "bits"))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "-b BITS is required (1 to 8); see ptq run --help");
    int rc = ptq_parse_i64(ptq_arg(a, "bits"), "--bits", 1, 8, &bits, st);
    if (rc || (rc = ptq_arg_i64(a, "group-size", -1, INT32_MAX, &group, st)) ||
        (rc = ptq_arg_i64(a, "seed", 0, INT32_MAX, &seed, st)) ||
        (rc = ptq_arg_i64(a, "a-bits", 2, 16, &a_bits, st)) ||
        (rc = word(a, "sym-kind", ptq_sym_kind_words, PTQ_SYM_FULL, &sym_kind, st)) ||
        (rc = word(a, "grid", ptq_grid_words, PTQ_GRID_MINMAX, &grid, st)) ||
        (rc = word(a, "scale", ptq_scale_words, 0, &scale, st)))
        return rc;
    *c = (struct ptq_cell){.w_bits = (int)bits,
                           .group_size = group,
                           .sym = ptq_arg(a, "sym") != NULL || ptq_arg(a, "sym-kind") != NULL,
                           .sym_kind = (enum ptq_sym_kind)sym_kind,
                           .grid = (enum ptq_grid)grid,
                           .zero_in_range = ptq_arg(a, "zero-free") == NULL,
                           .scale_fmt = (enum ptq_fmt)(PTQ_FMT_F16 + scale),
                           .a_bits = a_bits == 16 ? 0 : (int)a_bits,
                           .seed = (uint64_t)seed};
    return PTQ_OK;
}

static int parse(const struct ptq_args *a, struct ptq_arena *arena, struct request *q,
                 struct ptq_status *st)
{
    int precision;
    struct ptq_cell cell;
    if (!ptq_arg(a, "method"))
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "-m SPEC is required, such as -m gptq; `ptq list` names methods and presets");
    int rc = ptq_spec_parse(ptq_arg(a, "method"), arena, &q->spec, st);
    if (rc || (rc = parse_cell(a, &cell, st)) ||
        (rc = ptq_format_parse(ptq_arg(a, "format"), &q->format, st)) ||
        (rc = ptq_arg_i64(a, "threads", 1, INT32_MAX, &q->threads, st)) ||
        (rc = ptq_arg_i64(a, "sequences", 1, INT32_MAX, &q->layer.n_sequences, st)) ||
        (rc = word(a, "normalisation", norm_words, -1, &q->layer.norm, st)) ||
        (rc = word(a, "precision", precision_words, PTQ_SINGLE, &precision, st)))
        return rc;
    ptq_spec_cell(&q->spec, &cell, &q->cell);
    q->layer.file = a->positional[0];
    q->layer.layer = ptq_arg(a, "layer");
    q->layer.stats = ptq_arg(a, "stats");
    q->layer.precision = (enum ptq_precision)precision;
    q->out = ptq_arg(a, "out");
    return PTQ_OK;
}

/* ---- output of numbers ---- */

static const char *kind_text(const struct ptq_cell *c)
{
    return c->sym ? ptq_sym_kind_words[c->sym_kind] : "";
}

/* Facts of the cell as (name, text) or (name, number); one list for every format. */
struct fact {
    const char *name, *text; /* text NULL: a number */
    double number;
};
enum { MAX_FACTS = 24 };

static int facts_of(const struct outcome *o, struct fact f[MAX_FACTS])
{
    const struct ptq_cell *c = &o->q->cell;
    const struct fact all[] = {
        {"source", o->source, 0},
        {"layer", o->layer.name, 0},
        {"rows", NULL, (double)o->layer.w.rows},
        {"cols", NULL, (double)o->layer.w.cols},
        {"method", o->q->spec.name, 0},
        {"label", o->q->spec.label, 0},
        {"base", o->q->spec.entry->name, 0},
        {"options", o->q->spec.canonical, 0},
        {"method_version", o->q->spec.entry->version, 0},
        {"bits", NULL, c->w_bits},
        {"group_size", NULL, (double)c->group_size},
        {"sym", NULL, c->sym},
        {"sym_kind", kind_text(c), 0},
        {"grid", ptq_grid_words[c->grid], 0},
        {"zero_in_range", NULL, c->zero_in_range},
        {"scale", ptq_scale_words[c->scale_fmt - PTQ_FMT_F16], 0},
        {"precision", precision_words[o->q->layer.precision], 0},
        {"normalisation", o->layer.hess.at ? norm_words[o->layer.hess_norm] : "", 0},
        {"codes_hash", o->codes_hash, 0},
        {"blas_core", o->args->machine->blas_core, 0},
        {"a_bits", NULL, c->a_bits}, /* rows of weights alone have none */
    };
    memcpy(f, all, sizeof all);
    return (int)(sizeof all / sizeof *all) - (c->a_bits == 0);
}

static int add(struct ptq_table *t, const char *name, const char *value, const char *unit,
               const char *what)
{
    const char *cells[] = {name, value, unit, what};
    return ptq_table_row(t, cells);
}

static int add_number(struct ptq_table *t, const char *name, double v, const char *unit,
                      const char *what)
{
    char text[40];
    snprintf(text, sizeof text, "%.9g", v);
    return add(t, name, text, unit, what);
}

static int add_metrics(struct ptq_table *t, const struct outcome *o)
{
    int n, rc = PTQ_OK;
    const struct ptq_metric_entry *m = ptq_metrics(&n);
    for (int i = 0; i < n && !rc; i++) {
        if (!m[i].metric->layer)
            continue;
        if (o->values[i].reason)
            rc = add(t, m[i].metric->id, "-", "", o->values[i].reason);
        else
            rc = add_number(t, m[i].metric->id, o->values[i].v, m[i].metric->unit,
                            m[i].metric->title);
    }
    return rc;
}

static int print_table(const struct outcome *o, struct ptq_status *st)
{
    static const char *const columns[] = {"name", "value", "unit", "what"};
    struct fact f[MAX_FACTS];
    struct ptq_table *t = ptq_table_new(4, columns, NULL);
    int n = facts_of(o, f), rc = t ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int i = 0; i < n && !rc; i++)
        if (!f[i].text)
            rc = add_number(t, f[i].name, f[i].number, "", "");
        else if (*f[i].text)
            rc = add(t, f[i].name, f[i].text, "", "");
    if (!rc)
        rc = add_metrics(t, o);
    for (int i = 0; i < o->result.n_notes && !rc; i++)
        rc = add_number(t, o->result.notes[i].key, o->result.notes[i].value, "",
                        "note of the method");
    if (!rc)
        rc = add_number(t, "prepare_s", o->result.prepare_s, "s", "shared work of the layer");
    if (!rc)
        rc = add_number(t, "quantize_s", o->result.quantize_s, "s", "this cell");
    if (!rc)
        ptq_table_print(t, o->q->format, stdout);
    ptq_table_free(t);
    return rc ? ptq_status_nomem(st, "a table", 0) : PTQ_OK;
}

/* The fields of a row of results/NAME/cells*.jsonl (sweep/row.h) as far as they apply. */
static int put_values(json_t *row, const struct outcome *o)
{
    int n, bad;
    const struct ptq_metric_entry *m = ptq_metrics(&n);
    json_t *metrics = json_object(), *absent = json_object(), *notes = json_object(),
           *times = json_object();
    bad = json_object_set_new(row, "metrics", metrics) |
          json_object_set_new(row, "absent", absent) | json_object_set_new(row, "notes", notes) |
          json_object_set_new(row, "time", times);
    for (int i = 0; i < n && !bad; i++)
        if (m[i].metric->layer) {
            bad = json_object_set_new(metrics, m[i].metric->id,
                                      o->values[i].reason ? json_null()
                                                          : ptq_json_num(o->values[i].v));
            if (o->values[i].reason)
                bad |=
                    json_object_set_new(absent, m[i].metric->id, json_string(o->values[i].reason));
        }
    for (int i = 0; i < o->result.n_notes && !bad; i++)
        bad = json_object_set_new(notes, o->result.notes[i].key,
                                  ptq_json_num(o->result.notes[i].value));
    return bad || json_object_set_new(times, "prepare_s", ptq_json_num(o->result.prepare_s)) ||
           json_object_set_new(times, "quantize_s", ptq_json_num(o->result.quantize_s));
}

static json_t *fact_json(const struct fact *f)
{
    if (f->text)
        return json_string(f->text);
    return f->number == rint(f->number) ? json_integer((json_int_t)f->number)
                                        : ptq_json_num(f->number);
}

static int print_json(const struct outcome *o, struct ptq_status *st)
{
    struct fact f[MAX_FACTS];
    json_t *row = json_object();
    int n = facts_of(o, f), bad = !row;
    for (int i = 0; i < n && !bad; i++)
        bad = json_object_set_new(row, f[i].name, fact_json(&f[i]));
    char *line = !bad && !put_values(row, o) ? ptq_json_line(row) : NULL;
    if (line)
        fputs(line, stdout);
    json_decref(row);
    free(line);
    return line ? PTQ_OK : ptq_status_nomem(st, "the result row", 0);
}

/* ---- output file ---- */

/* The file is written beside its place and renamed, so that it is whole or untouched; the input
 * must not be the output. */
static int check_out(const struct request *q, struct ptq_status *st)
{
    struct stat in, out;
    if (!q->out || stat(q->out, &out) != 0)
        return PTQ_OK;
    if (!S_ISREG(out.st_mode))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: not a regular file; name another with -o",
                              q->out);
    if (stat(q->layer.file, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: is the input; name another file with -o",
                              q->out);
    return PTQ_OK;
}

static int write_attributes(struct ptq_h5 *h5, const struct outcome *o, struct ptq_arena *arena,
                            struct ptq_status *st)
{
    char cell[96];
    const char *object = ptq_arena_printf(arena, st, "/quant/%s", o->layer.name);
    const char *const texts[][2] = {{"method", o->q->spec.label},
                                    {"options", o->q->spec.canonical},
                                    {"method_version", o->q->spec.entry->version},
                                    {"cell", ptq_cell_text(&o->q->cell, cell)},
                                    {"precision", precision_words[o->q->layer.precision]}};
    int rc = object ? PTQ_OK : PTQ_ERR_MEMORY;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && rc == PTQ_OK; i++)
        rc = ptq_h5_set_text(h5, object, texts[i][0], texts[i][1], st);
    return rc;
}

static int fill_file(const char *path, const struct outcome *o, struct ptq_arena *arena,
                     struct ptq_status *st)
{
    struct ptq_h5 *h5 = NULL;
    int rc = ptq_h5_open(&h5, path, PTQ_H5_CREATE, st);
    if (rc == PTQ_OK)
        rc = ptq_form_write_quant(h5, o->layer.name, &o->result.quant, o->result.what, st);
    if (rc == PTQ_OK)
        rc = ptq_form_write_packed(h5, o->layer.name, &o->result.quant, st);
    if (rc == PTQ_OK)
        rc = write_attributes(h5, o, arena, st);
    int closed = ptq_h5_close(h5, st);
    return rc == PTQ_OK ? closed : rc;
}

static int write_file(const struct outcome *o, struct ptq_arena *arena, struct ptq_status *st)
{
    if (!o->q->out)
        return PTQ_OK;
    char *beside = ptq_arena_printf(arena, st, "%s.tmp", o->q->out);
    int rc = beside ? fill_file(beside, o, arena, st) : PTQ_ERR_MEMORY;
    if (rc == PTQ_OK && rename(beside, o->q->out) != 0)
        rc = ptq_status_set(st, PTQ_ERR_IO, "%s: cannot be replaced: %m", o->q->out);
    if (rc != PTQ_OK && beside)
        remove(beside);
    return rc;
}

/* ---- the verb ---- */

static int quantize(struct outcome *o, struct ptq_status *st)
{
    struct ptq_session *s = NULL;
    const struct ptq_session_args args = {
        .layer = &o->layer, .precision = o->q->layer.precision, .pool = o->q->layer.pool};
    int rc = ptq_session_new(&s, &args, st);
    if (rc == PTQ_OK)
        rc = ptq_session_quantize(s, &o->q->spec, &o->q->cell, &o->result, st);
    ptq_session_free(s);
    if (rc == PTQ_OK)
        return rc;
    struct ptq_status why = *st;
    ptq_status_clear(st);
    /* One cell was asked for by name: a skip is an error here. */
    return ptq_status_set(st, rc == PTQ_SKIP ? PTQ_ERR_USAGE : (enum ptq_code)rc, "%s: %s",
                          o->q->layer.file, why.text);
}

/* The row stands, since its error is what it says; but its cause is the format, not the method. */
static void warn_saturated(const struct outcome *o)
{
    int64_t n = ptq_quant_saturated_scales(&o->result.quant), all = 0;
    for (int k = 0; k < o->result.quant.n_parts; k++)
        all += o->result.quant.part[k].scale.n;
    if (n > 0)
        fprintf(stderr,
                "ptq run: warning: %s: %lld of %lld scales lie at or beyond the limits of %s; use "
                "--scale f32 or scale the weights\n",
                o->source, (long long)n, (long long)all,
                ptq_scale_words[o->q->cell.scale_fmt - PTQ_FMT_F16]);
}

static int score(struct outcome *o, struct ptq_arena *arena, struct ptq_status *st)
{
    int n;
    struct ptq_layer_truth truth = {.layer = NULL};
    ptq_metrics(&n);
    o->values = ptq_arena_alloc(arena, st, n, sizeof *o->values);
    int rc = o->values ? ptq_layer_truth_init(&truth, &o->layer, NULL, o->q->layer.pool, arena, st)
                       : PTQ_ERR_MEMORY;
    if (rc == PTQ_OK)
        rc = ptq_metrics_layer_eval(&truth, &o->result.quant, o->result.what, o->q->layer.pool,
                                    o->values, st);
    ptq_quant_hash(&o->result.quant, o->codes_hash);
    return rc;
}

static int run_request(const struct ptq_args *a, struct request *q, struct ptq_arena *arena,
                       struct ptq_status *st)
{
    struct outcome o = {.q = q, .args = a};
    int rc = ptq_layer_load(&q->layer, arena, &o.layer, &o.source, st);
    if (rc == PTQ_OK)
        rc = quantize(&o, st);
    if (rc != PTQ_OK)
        return rc;
    warn_saturated(&o);
    rc = score(&o, arena, st);
    if (rc == PTQ_OK)
        rc = write_file(&o, arena, st);
    if (rc == PTQ_OK)
        rc = q->format == PTQ_JSONL ? print_json(&o, st) : print_table(&o, st);
    ptq_result_release(&o.result);
    return rc;
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct request q = {0};
    struct ptq_arena arena;
    struct ptq_pool *pool = NULL;
    ptq_arena_init(&arena, 0);
    int rc = parse(a, &arena, &q, st);
    if (rc == PTQ_OK)
        rc = check_out(&q, st);
    if (rc == PTQ_OK)
        rc = ptq_pool_new(&pool, (int)q.threads, st);
    q.layer.pool = pool;
    if (rc == PTQ_OK)
        rc = run_request(a, &q, &arena, st);
    ptq_pool_free(pool);
    ptq_arena_clear(&arena);
    return rc;
}

static const struct ptq_flag flags[] = {
    {"method", 'm', PTQ_FLAG_TEXT, "SPEC",
     "method or preset, with options: gptq:percdamp=0.1:act_order=0 (required)", NULL},
    {"bits", 'b', PTQ_FLAG_TEXT, "N", "bits of a code, 1 to 8 (required)", "wbits"},
    {"group-size", 'g', PTQ_FLAG_TEXT, "N",
     "columns of a group; -1: whole rows, 0: one grid for the tensor [-1]", "groupsize"},
    {"a-bits", 'a', PTQ_FLAG_TEXT, "N",
     "bits of the layer's inputs, 2 to 8; 16: they stay as they are [16]", "abits"},
    {"layer", 'l', PTQ_FLAG_TEXT, "LAYER", "the layer's name [the only one of the file]", NULL},
    {"out", 'o', PTQ_FLAG_TEXT, "OUT.h5", "container for /quant/LAYER and /packed/LAYER [none]",
     NULL},
    {"sym", 0, PTQ_FLAG_SWITCH, NULL, "symmetric grid: the zero is a constant that costs nothing",
     NULL},
    {"sym-kind", 0, PTQ_FLAG_TEXT, "K", "full, gptq or absmax; implies --sym [full]", NULL},
    {"scale", 0, PTQ_FLAG_TEXT, "F", "format of scales: f16, bf16 or f32 [f16]", NULL},
    {"grid", 0, PTQ_FLAG_TEXT, "G", "minmax, mse or hess [minmax, or the preset's]", NULL},
    {"zero-free", 0, PTQ_FLAG_SWITCH, NULL, "ranges need not hold 0; zeros are stored in 16 bits",
     NULL},
    {"precision", 0, PTQ_FLAG_TEXT, "P", "single or double arithmetic [single]", NULL},
    {"normalisation", 0, PTQ_FLAG_TEXT, "N",
     "of the Hessian: token, sequence or unknown [as the file says; made from activations: token]",
     "normalization"},
    {"sequences", 0, PTQ_FLAG_TEXT, "N",
     "how many sequences are behind the Hessian or activations [as the file says]", NULL},
    {"stats", 0, PTQ_FLAG_TEXT, "NAME", "which /stats/NAME of a model's container [the only one]",
     NULL},
    {"seed", 0, PTQ_FLAG_TEXT, "N", "seed of methods that draw numbers [0]", NULL},
    {"threads", 'j', PTQ_FLAG_TEXT, "N", "threads; no result depends on it [all cores]", NULL},
    {"portable", 0, PTQ_FLAG_SWITCH, NULL, "AVX2 arithmetic: the same bits on every AVX2 machine",
     NULL},
    {"format", 0, PTQ_FLAG_TEXT, "F", "text, md, csv or jsonl [text]", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_run = {
    .name = "run",
    .title = "Quantize one layer with one method: every metric, and the stored form",
    .usage = "FILE -m SPEC -b BITS [-g GROUP] [-l LAYER] [-o OUT.h5] [options]",
    .details = "FILE: bare layers (/layers/LAYER/weight with activations or hess; a Hessian is "
               "used before activations), a model's\n"
               "container with statistics (`ptq capture`), a llama2.c checkpoint (.bin), or "
               "`demo`. datasets/SCHEMA.md is the contract.\n"
               "Prints every layer metric with its id, what the method notes, and the stored bits. "
               "OUT.h5 is replaced; it holds\n"
               "/quant/LAYER/{codes,scale,zero,dequant} (one code an element, rows x cols, "
               "original column order) and /packed/LAYER,\n"
               "the bytes that bits_stored counts. jsonl: one row with the fields of a sweep's.\n"
               "Exit codes: 0 ok, 2 usage or a wrong file, 5 NaN, Inf or a Hessian that cannot be "
               "factored, 6 writing or memory failed.\n"
               "  ptq run layer.h5 -m gptq-paper:percdamp=0.01 -b 3 -g 128 --sym --scale f32 -l "
               "my_layer -o out.h5",
    .flags = flags,
    .min_positional = 1,
    .max_positional = 1,
    .run = run,
};
