/* cmd_baseline.c: `ptq baseline update|show`: the rows that a comparison is held against. */
#include "analysis/compare.h"
#include "cli/cli.h"
#include "cli/compared.h"
#include "core/words.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- show --------------------------------------------------------------------------------------
 */

enum { N_COLUMNS = 8 };
static const char *const columns[N_COLUMNS] = {"setting", "seed",        "layer", "nll",
                                               "ppl",     "bits_stored", "error", "codes_hash"};
static const bool numeric[N_COLUMNS] = {false, true, false, true, true, true, true, false};

static void put(char cell[64], const char *format, double v)
{
    if (isfinite(v))
        snprintf(cell, 64, format, v);
    else
        snprintf(cell, 64, "-");
}

static int add_row(struct ptq_table *t, const json_t *row, struct ptq_arena *a,
                   struct ptq_status *st)
{
    char seed[64], nll[64], ppl[64], bits[64], error[64], layer[PTQ_PRINTABLE], hash[PTQ_PRINTABLE];
    const char *name = ptq_setting_name(row, a, st);
    double e = ptq_row_metric(row, "out_relerr_heldout");
    put(seed, "%.0f", ptq_row_num(row, "calib_seed"));
    put(nll, "%.6f", ptq_row_metric(row, "nll"));
    put(ppl, "%.4f", ptq_row_metric(row, "ppl"));
    put(bits, "%.4f", ptq_row_metric(row, "bits_stored"));
    put(error, "%.4e", isfinite(e) ? e : ptq_row_metric(row, "out_relerr"));
    ptq_printable(ptq_row_text(row, "layer"), layer);
    ptq_printable(ptq_row_text(row, "codes_hash"), hash);
    const char *const cells[] = {name, seed, layer, nll, ppl, bits, error, hash};
    return name ? ptq_table_row(t, cells) : PTQ_ERR_MEMORY;
}

static int show(const struct ptq_args *a, enum ptq_format format, struct ptq_status *st)
{
    struct ptq_compare_run run = {0};
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    int code = ptq_compare_read(a->positional[1], &arena, &run, st);
    struct ptq_table *t = code ? NULL : ptq_table_new(N_COLUMNS, columns, numeric);
    for (int64_t i = 0; t && !code && i < run.rows.n; i++)
        if (ptq_arg(a, "layers") || !*ptq_row_text(run.rows.at[i], "layer"))
            code = add_row(t, run.rows.at[i], &arena, st);
    if (!code && run.rows.other_schema != 0)
        code = ptq_status_set(st, PTQ_ERR_USAGE, "%s: rows of another schema", run.name);
    if (!code && t)
        ptq_table_print(t, format, stdout);
    else if (!code)
        code = ptq_status_nomem(st, "a table", 0);
    ptq_table_free(t);
    ptq_rows_release(&run.rows);
    ptq_arena_clear(&arena);
    return code;
}

/* ---- update ------------------------------------------------------------------------------------
 */

/* What the update changes, as a comparison; another protocol or text is a new beginning. */
static int tell_change(const struct ptq_args *a, const struct ptq_compare_run *new,
                       enum ptq_format format, struct ptq_arena *arena, struct ptq_status *st)
{
    struct ptq_compare_run old = {0};
    struct ptq_comparison c;
    struct ptq_compare_options o = ptq_compare_defaults();
    if (access(a->positional[2], F_OK) != 0) {
        printf("%s: new\n", a->positional[2]);
        return PTQ_OK;
    }
    int code = ptq_compare_read(a->positional[2], arena, &old, st);
    code = code ? code : ptq_compare(&old, new, &o, arena, &c, st);
    if (!code)
        code = format == PTQ_MD ? ptq_compare_md(&c, &o, stdout)
                                : ptq_compared_print(&c, &o, format, st);
    ptq_rows_release(&old.rows);
    return code;
}

/* Failed cells in a baseline would be missing for ever. */
static int refuse_unfinished(const struct ptq_compare_run *run, struct ptq_status *st)
{
    for (int64_t i = 0; i < run->rows.n; i++) {
        char layer[PTQ_PRINTABLE], reason[PTQ_PRINTABLE];
        ptq_printable(ptq_row_text(run->rows.at[i], "layer"), layer);
        ptq_printable(ptq_row_text(run->rows.at[i], "reason"), reason);
        if (!strcmp(ptq_row_text(run->rows.at[i], "status"), "failed"))
            return ptq_status_set(st, PTQ_ERR_CANCELLED,
                                  "%s: a cell failed (%s: %s); a baseline holds finished runs",
                                  run->name, layer, reason);
    }
    return PTQ_OK;
}

static int update(const struct ptq_args *a, enum ptq_format format, struct ptq_status *st)
{
    struct ptq_compare_run run = {0};
    struct ptq_arena arena;
    if (a->n_positional != 3)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "ptq baseline update needs RUN and FILE, such as results/regress "
                              "results/baselines/demo.jsonl");
    ptq_arena_init(&arena, 0);
    int code = ptq_compare_read(a->positional[1], &arena, &run, st);
    if (!code && run.rows.other_schema != 0)
        code = ptq_status_set(st, PTQ_ERR_USAGE, "%s: rows of another schema", run.name);
    code = code ? code : refuse_unfinished(&run, st);
    code = code ? code : tell_change(a, &run, format, &arena, st);
    if (!code && !ptq_arg(a, "dry-run")) {
        code = ptq_baseline_write(&run.rows, a->positional[2], st);
        if (!code)
            fprintf(stderr, "%s: %lld rows written\n", a->positional[2], (long long)run.rows.n);
    }
    ptq_rows_release(&run.rows);
    ptq_arena_clear(&arena);
    return code;
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    static const char *const verbs[] = {"update", "show", NULL};
    enum ptq_format format;
    int code = ptq_format_parse(ptq_arg(a, "format"), &format, st);
    if (code)
        return code;
    if (!strcmp(a->positional[0], "update"))
        return update(a, format, st);
    if (!strcmp(a->positional[0], "show"))
        return show(a, format, st);
    return ptq_unknown_word("action", a->positional[0], verbs, st);
}

static const struct ptq_flag flags[] = {
    {"dry-run", 'n', PTQ_FLAG_SWITCH, NULL, "update: say what would change, write nothing", NULL},
    {"layers", 0, PTQ_FLAG_SWITCH, NULL, "show: the rows of layers too", NULL},
    {"format", 0, PTQ_FLAG_TEXT, "text|md|csv|jsonl", "format of the table [text]", NULL},
    {NULL, 0, PTQ_FLAG_SWITCH, NULL, NULL, NULL}};

const struct ptq_verb ptq_verb_baseline = {
    .name = "baseline",
    .title = "Keep a run as the baseline of `ptq compare`, or show one",
    .usage = "update RUN FILE [--dry-run] | show FILE [--layers]",
    .details =
        "update   says what changes against FILE, as `ptq compare FILE RUN` does, then writes the "
        "rows of RUN to FILE: what a\n"
        "         comparison reads, a line a cell, in a fixed order, under keys without the "
        "version "
        "of the code, so that a diff\n"
        "         in version control shows what changed. FILE is whole or untouched.\n"
        "show     its settings with loss, bits and hashes of the codes.\n"
        "RUN is a run folder (results/NAME), its NAME, or a file of rows.\n"
        "Exit codes: 0 done; 2 usage or a broken file; 5 bits that do not hash to what their row "
        "says; 6 a cell of RUN failed,\n"
        "or FILE cannot be written.\n"
        "  ptq baseline update results/regress results/baselines/demo.jsonl\n"
        "  ptq baseline show results/baselines/demo.jsonl",
    .flags = flags,
    .min_positional = 2,
    .max_positional = 3,
    .run = run,
};
