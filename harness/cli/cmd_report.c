/* cmd_report.c: `ptq report RUN`: the main table of a finished or running sweep, and its report
 * files. */
#include "analysis/report.h"
#include "cli/cli.h"
#include <stdio.h>

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct ptq_arena arena;
    char *dir;
    ptq_arena_init(&arena, 0);
    int code = ptq_run_folder(a->positional[0], &arena, &dir, st);
    code = code ? code : ptq_report_print(dir, ptq_arg(a, "format"), stdout, st);
    if (!code && !ptq_arg(a, "print-only")) {
        struct ptq_report_args args = {.run_dir = dir, .plots = !ptq_arg(a, "no-plots")};
        code = ptq_report_write(&args, st);
        if (!code)
            fprintf(stderr, "report: %s/report.html\n", dir);
    }
    ptq_arena_clear(&arena);
    return code;
}

static const struct ptq_flag flags[] = {
    {"format", 0, PTQ_FLAG_TEXT, "text|md|csv|jsonl|latex", "format of the table on stdout [text]"},
    {"no-plots", 0, PTQ_FLAG_SWITCH, NULL, "write the tables only"},
    {"print-only", 0, PTQ_FLAG_SWITCH, NULL, "print the table, write no file"},
    {NULL}};
const struct ptq_verb ptq_verb_report = {
    .name = "report",
    .title = "Print the table of a run and write its report (HTML, Markdown, CSV, LaTeX, pictures)",
    .usage = "RUN [--format text|md|csv|jsonl|latex] [--no-plots]",
    .details = "RUN is a run folder (results/NAME) or its NAME. The table goes to stdout and ends "
               "with VALID, or INVALID and why.\n"
               "text rounds; csv and jsonl hold 17 digits, every metric and every setting. Written "
               "into the run folder:\n"
               "report.html (one file, pictures inside), report.md, tables/*.csv, "
               "tables/crossloss.jsonl, tables/main.tex, tables/equal_bits.tex "
               "(booktabs), plots/*.svg, plots/*.tsv.\n"
               "Without gnuplot the pictures are left out and the report says so.\n"
               "Exit codes: 0 ok (also when the run is INVALID), 2 no such run or a broken row, 6 "
               "a file cannot be written.\n"
               "  ptq report demo --format csv > demo.csv",
    .flags = flags,
    .min_positional = 1,
    .max_positional = 1,
    .run = run,
};
