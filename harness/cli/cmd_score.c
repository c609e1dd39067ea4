/* cmd_score.c: `ptq score ORIGINAL QUANTIZED --name NAME`: somebody else's checkpoint as rows like
 * any method's, and an audit of it. */
#include "analysis/score.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "core/words.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

enum { CELL = 400 };

static void number(double v, const char *fmt, char out[CELL])
{
    if (isfinite(v))
        snprintf(out, CELL, fmt, v); /* one of the formats below */
    else
        strcpy(out, "-");
}

static const char *const layer_columns[] = {"layer",          "bits",     "group",     "file_bits",
                                            "packed_bits",    "rtn_same", "clipped",   "saturated",
                                            "one_sided",      "w_relerr", "out",       "heldout",
                                            "heldout_nosink", "over_rtn", "over_gptq", "remark"};
static const bool layer_numeric[] = {false, true, true, true, true, true, true, true,
                                     true,  true, true, true, true, true, true, false};
enum { N_LAYER_COLUMNS = sizeof layer_columns / sizeof *layer_columns };

static int layer_row(struct ptq_table *t, const struct ptq_score_layer *l)
{
    const struct {
        double v;
        const char *fmt;
    } numbers[] = {{l->on_no_grid ? NAN : l->bits, "%.0f"},
                   {l->on_no_grid ? NAN : l->group, "%.0f"},
                   {l->file_bits, "%.4g"},
                   {l->form_bits, "%.4g"},
                   {l->rtn_same, "%.4f"},
                   {l->clipped, "%.4f"},
                   {l->saturated, "%.4f"},
                   {l->one_sided, "%.4f"},
                   {l->w_relerr, "%.4g"},
                   {l->out, "%.4g"},
                   {l->heldout, "%.4g"},
                   {l->heldout_nosink, "%.4g"},
                   {l->over_rtn, "%.3f"},
                   {l->over_gptq, "%.3f"}};
    char cell[N_LAYER_COLUMNS][CELL];
    const char *cells[N_LAYER_COLUMNS] = {l->name};
    for (int i = 1; i < N_LAYER_COLUMNS; i++)
        cells[i] = cell[i];
    for (int i = 0; i < N_LAYER_COLUMNS - 2; i++)
        number(numbers[i].v, numbers[i].fmt, cell[i + 1]);
    ptq_score_remark(l, cell[N_LAYER_COLUMNS - 1], CELL);
    return ptq_table_row(t, cells);
}

static const char *const model_columns[] = {"model", "bits_stored", "nll", "ppl",   "dnll",
                                            "lo",    "hi",          "kl",  "reason"};
static const bool model_numeric[] = {false, true, true, true, true, true, true, true, false};
enum { N_MODEL_COLUMNS = sizeof model_columns / sizeof *model_columns };

static int model_row(struct ptq_table *t, const struct ptq_score_model *m)
{
    char cell[N_MODEL_COLUMNS][CELL];
    const char *cells[N_MODEL_COLUMNS] = {m->label};
    for (int i = 1; i < N_MODEL_COLUMNS; i++)
        cells[i] = cell[i];
    number(m->bits_stored, "%.4f", cell[1]);
    number(m->nll, "%.9f", cell[2]);
    number(m->ppl, "%.17g", cell[3]);
    number(m->dnll, "%+.6f", cell[4]);
    number(m->lo, "%+.6f", cell[5]);
    number(m->hi, "%+.6f", cell[6]);
    number(m->kl_mean, "%.6f", cell[7]);
    snprintf(cell[8], CELL, "%.300s", m->failed ? m->failed : "");
    return ptq_table_row(t, cells);
}

static int print_models(const struct ptq_score *s, enum ptq_format format)
{
    struct ptq_table *t = ptq_table_new(N_MODEL_COLUMNS, model_columns, model_numeric);
    int rc = t ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t i = 0; !rc && i < s->n_models; i++)
        rc = model_row(t, &s->model[i]);
    if (!rc && s->whole.label)
        rc = model_row(t, &s->whole);
    if (!rc)
        ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    return rc;
}

enum { MOST_REST = 20 };

static void print_protocol(const struct ptq_score *s)
{
    const struct ptq_score_model *m = &s->model[0];
    printf("\nprotocol %s, text %s\n", m->protocol, m->text);
    if (*m->text_note)
        printf("%s\n", m->text_note);
    if (!s->n_rest)
        return;
    printf("QUANTIZED's matrices were run between ORIGINAL's other tensors and settings. QUANTIZED "
           "has others%s:\n",
           s->whole.label ? ", with which \"whole file\" was run"
                          : "; a run of its own would tell");
    for (int64_t i = 0; i < s->n_rest && i < MOST_REST; i++)
        printf("  %s\n", s->rest[i]);
    if (s->n_rest > MOST_REST)
        printf("  ... and %lld more\n", (long long)(s->n_rest - MOST_REST));
}

static int print_layers(const struct ptq_score *s, enum ptq_format format)
{
    struct ptq_table *t = ptq_table_new(N_LAYER_COLUMNS, layer_columns, layer_numeric);
    int rc = t ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t i = 0; !rc && i < s->n_layers; i++)
        rc = layer_row(t, &s->layer[i]);
    if (!rc)
        ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    return rc;
}

static void print_summary(const struct ptq_score *s)
{
    const int64_t n = s->n_layers - s->n_failed;
    if (s->n_failed)
        printf("\n%lld of %lld layers are missing or broken: there is no model to run.\n",
               (long long)s->n_failed, (long long)s->n_layers);
    if (s->n_rtn_layers == n && n)
        printf("\nAll %lld layers equal RTN: calibration never ran, or saw nothing.\n",
               (long long)n);
    else if (s->n_rtn_layers)
        printf("\n%lld of %lld layers equal RTN: there calibration never ran, or saw "
               "nothing.\n",
               (long long)s->n_rtn_layers, (long long)n);
    if (s->n_other_grid)
        printf(
            "\n%lld of %lld layers lie on other bits or groups than rtn and gptq here, which have "
            "the grid of most weights: nothing is over_rtn or over_gptq there, and bits_stored of "
            "the rivals are not the checkpoint's (-b and -g choose another grid).\n",
            (long long)s->n_other_grid, (long long)n);
    printf("\nrun: %s (ptq report, ptq compare, ptq bisect read it)\n", s->run_dir);
}

/* ---- the verb ---- */

static int print(const struct ptq_args *a, const struct ptq_score *s, struct ptq_status *st)
{
    enum ptq_format format;
    const char *only = ptq_arg(a, "table");
    int rc = ptq_format_parse(ptq_arg(a, "format"), &format, st);
    if (rc)
        return rc;
    const bool words = format == PTQ_TEXT || format == PTQ_MD;
    if (s->n_models && (only ? !strcmp(only, "model") : words)) {
        rc = print_models(s, format);
        if (!rc && words)
            print_protocol(s);
        if (!only)
            putchar('\n');
    }
    if (!rc && (!only || !strcmp(only, "audit")))
        rc = print_layers(s, format);
    if (!rc && words && !only)
        print_summary(s);
    return rc ? ptq_status_nomem(st, "a table", 0) : PTQ_OK;
}

static bool is_name(const char *s)
{
    return *s &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               strlen(s) &&
           *s != '.';
}

static int read_args(const struct ptq_args *a, struct ptq_score_args *s, struct ptq_status *st)
{
    static const char *const tables[] = {"model", "audit", NULL};
    const char *table = ptq_arg(a, "table");
    if (!s->name || !is_name(s->name))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "--name NAME is required, of letters, digits and . _ -: rows are "
                              "called external:NAME, the run results/NAME; see ptq score --help");
    if (table && strcmp(table, "model") && strcmp(table, "audit"))
        return ptq_unknown_word("value of --table", table, tables, st);
    int rc = ptq_arg_i64(a, "threads", 0, 4096, &s->threads, st);
    rc = rc ? rc : ptq_arg_i64(a, "windows", 1, 1 << 24, &s->windows, st);
    rc = rc ? rc : ptq_arg_i64(a, "bits", 1, 8, &s->bits, st);
    return rc ? rc : ptq_arg_i64(a, "group-size", -1, 1 << 30, &s->group_size, st);
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct ptq_score_args args = {.original = a->positional[0],
                                  .quantized = a->positional[1],
                                  .name = ptq_arg(a, "name"),
                                  .dataset = ptq_arg(a, "dataset"),
                                  .config = ptq_arg(a, "config"),
                                  .set_words = ptq_arg(a, "set"),
                                  .calib = ptq_arg(a, "calib"),
                                  .heldout = ptq_arg(a, "heldout"),
                                  .text = ptq_arg(a, "text"),
                                  .protocol = ptq_arg(a, "protocol"),
                                  .layers = ptq_arg(a, "layers"),
                                  .results = ptq_arg(a, "results"),
                                  .alone = ptq_arg(a, "alone") != NULL,
                                  .quiet = ptq_arg(a, "quiet") != NULL,
                                  .machine = a->machine,
                                  .cancel = &ptq_interrupted,
                                  .command = "ptq score"};
    struct ptq_arena arena;
    struct ptq_score score = {.run_dir = NULL};
    ptq_arena_init(&arena, 0);
    int rc = read_args(a, &args, st);
    if (!rc) {
        ptq_catch_interrupts(NULL);
        rc = ptq_score(&args, &arena, &score, st);
    }
    if (!rc && ptq_arg(a, "out"))
        rc = ptq_score_write_rows(&score, ptq_arg(a, "out"), st);
    if (!rc)
        rc = print(a, &score, st);
    if (!rc && score.n_failed)
        rc = 100 + 6;
    ptq_score_release(&score);
    ptq_arena_clear(&arena);
    return rc;
}

static const struct ptq_flag flags[] = {
    {"name", 'n', PTQ_FLAG_TEXT, "NAME",
     "rows are called external:NAME, the run results/NAME "
     "(required)",
     NULL},
    {"out", 'o', PTQ_FLAG_TEXT, "FILE",
     "the checkpoint's rows and the full-precision model's, as "
     "JSON lines",
     NULL},
    {"calib", 0, PTQ_FLAG_TEXT, "TEXT", "text that statistics of ORIGINAL are taken from", NULL},
    {"heldout", 0, PTQ_FLAG_TEXT, "TEXT", "text for held-out losses", NULL},
    {"text", 0, PTQ_FLAG_TEXT, "TEXT", "text that is evaluated", NULL},
    {"protocol", 0, PTQ_FLAG_TEXT, "P", "its protocol (ptq list protocols)", NULL},
    {"windows", 'w', PTQ_FLAG_TEXT, "N", "first so many windows of it", NULL},
    {"config", 'c', PTQ_FLAG_TEXT, "INI",
     "texts, protocol and metrics of this sweep [demo.ini for "
     "demo, layers.ini for bare layers, else score.ini]",
     NULL},
    {"set", 's', PTQ_FLAG_TEXT, "WORDS", "\"section.key=value ...\": overrides lines of it", NULL},
    {"layers", 0, PTQ_FLAG_TEXT, "GLOB", "these layers alone", NULL},
    {"bits", 'b', PTQ_FLAG_TEXT, "N",
     "bits that the rows are filed under, and the rivals' [as "
     "found]",
     NULL},
    {"group-size", 'g', PTQ_FLAG_TEXT, "N", "group size of the same [as found]", "groupsize"},
    {"dataset", 'd', PTQ_FLAG_TEXT, "NAME",
     "QUANTIZED is HDF5: the matrix in /layers/LAYER "
     "[quantized]",
     NULL},
    {"alone", 0, PTQ_FLAG_SWITCH, NULL, "without rtn and gptq beside it", NULL},
    {"table", 0, PTQ_FLAG_TEXT, "T",
     "print this alone: model or audit [text: both; csv, jsonl: "
     "audit]",
     NULL},
    {"results", 0, PTQ_FLAG_TEXT, "DIR", "where run folders lie [results]", NULL},
    {"format", 'f', PTQ_FLAG_TEXT, "F", "text, md, csv or jsonl [text]", NULL},
    {"threads", 't', PTQ_FLAG_TEXT, "N", "threads; no result depends on it [all cores]", NULL},
    {"portable", 0, PTQ_FLAG_SWITCH, NULL, "AVX2 arithmetic: the same bits on every AVX2 machine",
     NULL},
    {"quiet", 'q', PTQ_FLAG_SWITCH, NULL, "no progress", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_score = {
    .name = "score",
    .title = "Measure a checkpoint that another program quantized, and audit it",
    .usage = "ORIGINAL QUANTIZED --name NAME [options]",
    .details =
        "ORIGINAL: a model in any format the program opens, or a file of bare layers. QUANTIZED: a "
        "dequantized checkpoint in any\n"
        "format (GGUF's own types are read exactly); safetensors packed as GPTQ (v1, v2), AWQ or "
        "compressed-tensors\n"
        "(pack-quantized); an HDF5 file with /packed/LAYER or /quant/LAYER of ours, or with "
        "matrices /layers/LAYER/NAME (--dataset).\n"
        "The checkpoint becomes the method external:NAME of a sweep into results/NAME, beside rtn "
        "and gptq on its own bits and\n"
        "groups. Its rows hold what any method's do: losses, bits as the file stores them, "
        "perplexity, KL; `ptq compare` and\n"
        "`ptq report` read them. The same command again computes nothing twice.\n"
        "Its matrices are run between ORIGINAL's other tensors and settings. Where QUANTIZED "
        "brings "
        "others (token table, head, norms,\n"
        "rope theta, ...), that is told, and a file that the program can run is run whole as "
        "well.\n"
        "The audit, a line a layer: file_bits: bits a weight in the file; packed_bits: in our "
        "packed form of the same (plain\n"
        "values: what their grid would take). rtn_same: share of codes "
        "that are the weight's nearest\n"
        "on the file's own grid; 1 says that calibration never ran. clipped: share of weights over "
        "half a step beyond their grid.\n"
        "saturated: groups with half of their codes at an end. one_sided: groups of one sign whose "
        "weights have both. w_relerr, out,\n"
        "heldout, heldout_nosink: loss by weights, calibration text, held-out text, that without "
        "the first tokens. over_rtn,\n"
        "over_gptq: out as a multiple of theirs. Where a file holds plain values, bits and group "
        "are those of the grid that they\n"
        "were found to lie on.\n"
        "Exit codes: 0 ok; 2 usage or input; 6 layers are missing or broken (their rows say why), "
        "or interrupted.\n"
        "  ptq score path/to/model path/to/model-gptq-4bit --name mine --out mine.jsonl\n"
        "  ptq score demo exported --name again --config configs/demo.ini\n"
        "  ptq score layers.h5 mine.h5 --dataset dequant --name mine",
    .flags = flags,
    .min_positional = 2,
    .max_positional = 2,
    .run = run,
};
