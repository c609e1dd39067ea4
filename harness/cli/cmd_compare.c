/* cmd_compare.c: `ptq compare OLD NEW`: what changed, with a confidence and an exit code. */
#include "analysis/compare.h"
#include "cli/cli.h"
#include "cli/compared.h"
#include "core/words.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number(const struct ptq_args *a, const char *flag, double min, double max, double *out,
                  struct ptq_status *st)
{
    char what[32];
    const char *text = ptq_arg(a, flag);
    snprintf(what, sizeof what, "--%s", flag);
    return text ? ptq_parse_f64(text, what, min, max, out, st) : PTQ_OK;
}

static int options(const struct ptq_args *a, struct ptq_compare_options *o, struct ptq_status *st)
{
    *o = ptq_compare_defaults();
    o->strict = ptq_arg(a, "strict") != NULL;
    int code = number(a, "margin", 0, 1e3, &o->margin, st);
    code = code ? code : number(a, "alpha", 1e-6, .5, &o->alpha, st);
    code = code ? code : number(a, "tolerance", 0, 1e3, &o->mean_tolerance, st);
    return code ? code : number(a, "layer-tolerance", 0, 1e3, &o->layer_tolerance, st);
}

static int show(const struct ptq_args *a, const struct ptq_comparison *c,
                const struct ptq_compare_options *o, enum ptq_format format, struct ptq_status *st)
{
    const char *junit = ptq_arg(a, "junit");
    int code =
        format == PTQ_MD ? ptq_compare_md(c, o, stdout) : ptq_compared_print(c, o, format, st);
    return !code && junit ? ptq_compare_junit(c, o, junit, st) : code;
}

/* ---- times -------------------------------------------------------------------------------------
 */

struct side { /* a run and its repetitions */
    struct ptq_compare_run runs[PTQ_TIMES_MOST];
    const struct ptq_compare_run *at[PTQ_TIMES_MOST];
    int n;
};

static int add_run(struct side *s, const char *word, struct ptq_arena *arena, struct ptq_status *st)
{
    if (s->n == PTQ_TIMES_MOST)
        return ptq_status_set(st, PTQ_ERR_USAGE, "more than %d runs a side", (int)PTQ_TIMES_MOST);
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->runs[i].name, word))
            return ptq_status_set(
                st, PTQ_ERR_USAGE,
                "%s is given twice: a repetition is a run of its own ([run] name)", word);
    s->at[s->n] = &s->runs[s->n];
    return ptq_compare_read(word, arena, &s->runs[s->n++], st);
}

static int read_side(struct side *s, const char *word, const char *more, struct ptq_arena *arena,
                     struct ptq_status *st)
{
    char **words = NULL;
    int64_t n = 0;
    int code = add_run(s, word, arena, st);
    if (!code && more)
        code = ptq_split(more, ',', "a list of runs", arena, &words, &n, st);
    for (int64_t i = 0; !code && i < n; i++)
        code = add_run(s, words[i], arena, st);
    return code;
}

static void release_side(struct side *s)
{
    for (int i = 0; i < s->n; i++)
        ptq_rows_release(&s->runs[i].rows);
}

static int show_times(const struct side *old, const struct side *new, enum ptq_format format,
                      struct ptq_arena *arena, struct ptq_status *st)
{
    static const char *const heads[] = {"setting",        "runs_old",       "runs_new",
                                        "quantize_old_s", "quantize_new_s", "time"};
    static const bool right[] = {false, true, true, true, true, false};
    struct ptq_compared_times *times;
    int64_t n;
    int code = ptq_compare_times(old->at, old->n, new->at, new->n, arena, &times, &n, st);
    if (code)
        return code;
    struct ptq_table *t = ptq_table_new(6, heads, right);
    for (int64_t i = 0; t && i < n; i++) {
        char a[32], b[32], x[32], y[32];
        snprintf(a, sizeof a, "%lld", (long long)times[i].n_old);
        snprintf(b, sizeof b, "%lld", (long long)times[i].n_new);
        snprintf(x, sizeof x, "%.4g", times[i].old);
        snprintf(y, sizeof y, "%.4g", times[i].new);
        const char *const cells[] = {times[i].name, a, b, x, y, times[i].verdict};
        ptq_table_row(t, cells);
    }
    if (!t)
        return ptq_status_nomem(st, "a table", 0);
    putchar('\n');
    ptq_table_print(t, format, stdout);
    ptq_table_free(t);
    return PTQ_OK;
}

/* ---- the verb ----------------------------------------------------------------------------------
 */

static int compare(const struct ptq_args *a, struct side *old, struct side *new,
                   enum ptq_format format, struct ptq_arena *arena, struct ptq_status *st)
{
    const char *more_old = ptq_arg(a, "old-times"), *more_new = ptq_arg(a, "new-times");
    struct ptq_compare_options o;
    struct ptq_comparison c;
    int code = options(a, &o, st);
    code = code ? code : read_side(old, a->positional[0], more_old, arena, st);
    code = code ? code : read_side(new, a->positional[1], more_new, arena, st);
    code = code ? code : ptq_compare(&old->runs[0], &new->runs[0], &o, arena, &c, st);
    code = code ? code : show(a, &c, &o, format, st);
    if (!code && c.comparable && (more_old || more_new))
        code = show_times(old, new, format, arena, st);
    return code || !c.exit_code ? code : 100 + c.exit_code;
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct ptq_arena arena;
    enum ptq_format format;
    int code = ptq_format_parse(ptq_arg(a, "format"), &format, st);
    if (code)
        return code;
    struct side *sides = calloc(2, sizeof *sides);
    if (!sides)
        return ptq_status_nomem(st, "two runs", 2 * sizeof *sides);
    ptq_arena_init(&arena, 0);
    code = compare(a, &sides[0], &sides[1], format, &arena, st);
    release_side(&sides[0]);
    release_side(&sides[1]);
    free(sides);
    ptq_arena_clear(&arena);
    return code;
}

static const struct ptq_flag flags[] = {
    {"strict", 0, PTQ_FLAG_SWITCH, NULL,
     "an improvement, or other bits, ask for a new baseline: exit code 4", NULL},
    {"margin", 0, PTQ_FLAG_TEXT, "NATS",
     "changes of the loss below it, in nats/token, count as none [0.001: 0.1 % of perplexity]",
     NULL},
    {"alpha", 0, PTQ_FLAG_TEXT, "P",
     "chance of an alarm over all settings when nothing changed [0.05]", NULL},
    {"tolerance", 0, PTQ_FLAG_TEXT, "SHARE",
     "relative change of the geometric mean of the layers' errors that counts [0.01]", NULL},
    {"layer-tolerance", 0, PTQ_FLAG_TEXT, "SHARE",
     "relative change of one layer's error that counts [0.05]", NULL},
    {"old-times", 0, PTQ_FLAG_TEXT, "RUN,...", "OLD repeated: times are compared over such runs",
     NULL},
    {"new-times", 0, PTQ_FLAG_TEXT, "RUN,...", "NEW repeated", NULL},
    {"junit", 0, PTQ_FLAG_TEXT, "FILE", "a JUnit XML file too: one test case a setting", NULL},
    {"format", 0, PTQ_FLAG_TEXT, "text|md|csv|jsonl", "md: a summary for a pull request [text]",
     NULL},
    {NULL, 0, PTQ_FLAG_SWITCH, NULL, NULL, NULL}};

const struct ptq_verb ptq_verb_compare = {
    .name = "compare",
    .title = "Compare two runs cell by cell: bits, quality with an interval, an exit code",
    .usage = "OLD NEW [--strict] [--margin NATS] [--format text|md|csv|jsonl] [--junit FILE]",
    .details =
        "OLD and NEW are run folders (results/NAME), their NAMEs, or files of rows (a baseline, "
        "the "
        "rows of `ptq score`).\n"
        "Cells are joined by what was asked for: method, options, bits, grid, calibration seed, "
        "layer; never by the version of the\n"
        "code. A setting is a method with its options over layers and seeds; each gets two "
        "verdicts:\n"
        "  bits      whether the stored codes are the same. Stored forms beside the rows are "
        "hashed "
        "again.\n"
        "  quality   SAME IMPROVED REGRESSED AMBIGUOUS, from the paired differences of the "
        "windows' "
        "NLL (Student's interval\n"
        "            clustered by window, seeds averaged inside it, Holm over the settings). SAME: "
        "the interval lies within the\n"
        "            margin; REGRESSED and IMPROVED: it does not, and p < alpha; else AMBIGUOUS. "
        "Layers without a model, or beside\n"
        "            one whose windows find nothing, go by the relative change of their errors. "
        "More "
        "stored bits count against.\n"
        "`least seen` is the change that the setting would show with a power of 0.9; `draws` says "
        "whether the change is beyond what\n"
        "other draws of the calibration text do (runs with several calib.seed).\n"
        "Times decide nothing. They are compared over repeated runs (--old-times, --new-times: "
        "five "
        "a side with OLD and NEW): slower or\n"
        "faster when all of one side lie above all of the other.\n"
        "Exit codes: 0 same or improved; 1 regression; 2 usage or a broken file; 3 not comparable "
        "(protocol, texts, model, schema\n"
        "            differ, or no cell in common); 4 with --strict: improved, or as good with "
        "other "
        "bits: `ptq baseline update`;\n"
        "            5 bits that do not hash to what their row says, or a loss that is no number; "
        "6 "
        "cells of OLD are missing or\n"
        "            failed in NEW; 7 ambiguous.\n"
        "  ptq compare results/baselines/demo.jsonl results/regress --strict\n"
        "  ptq compare main.jsonl pr.jsonl --format md >>\"$GITHUB_STEP_SUMMARY\"",
    .flags = flags,
    .min_positional = 2,
    .max_positional = 2,
    .run = run,
};
