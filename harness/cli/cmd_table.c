/* cmd_table.c: `ptq table NAME`: a paper's table, printed and ours. */
#include "analysis/papertable.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "core/words.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int list_tables(struct ptq_arena *arena, enum ptq_format format, struct ptq_status *st)
{
    static const char *const heads[] = {"table", "cells", "paper", "title"};
    static const bool right[] = {false, true, false, false};
    const char **names;
    int64_t n;
    int code = ptq_paper_names(arena, &names, &n, st);
    struct ptq_table *list = ptq_table_new(4, heads, right);
    for (int64_t i = 0; list && code >= 0 && i < n; i++) {
        struct ptq_paper_table t;
        char cells[32];
        code = ptq_paper_read(names[i], arena, &t, st);
        if (code < 0)
            break;
        snprintf(cells, sizeof cells, "%lld", (long long)t.n_cells);
        const char *const words[] = {names[i], cells, t.paper, t.title};
        ptq_table_row(list, words);
    }
    if (list && code >= 0)
        ptq_table_print(list, format, stdout);
    ptq_table_free(list);
    return list || code < 0 ? code : ptq_status_nomem(st, "a table", 0);
}

/* 1: a gate is off; 6: a cell failed, or the run was interrupted. */
static int exit_code(const struct ptq_args *a, const struct ptq_paper_table *t, bool interrupted)
{
    bool off = false, failed = interrupted;
    for (int64_t i = 0; i < t->n_cells; i++) {
        const struct ptq_paper_cell *c = &t->cells[i];
        off = off || (c->selected && c->verdict == PTQ_PAPER_OFF && ptq_paper_is_gate(c));
        failed = failed || (c->selected && c->verdict == PTQ_PAPER_FAILED);
    }
    return failed ? 106 : off && ptq_arg(a, "strict") ? 101 : PTQ_OK;
}

/* All cells under the paper's settings; anything else must not replace the table. */
static bool is_whole(const struct ptq_args *a)
{
    return !ptq_arg(a, "rows") && !ptq_arg(a, "columns") && !ptq_arg(a, "data") &&
           !ptq_paper_changed(ptq_arg(a, "set"));
}

static int show(const struct ptq_args *a, const struct ptq_paper_table *t, const char *out,
                struct ptq_arena *arena, struct ptq_status *st)
{
    const char *format = ptq_arg(a, "format");
    int code = ptq_paper_print(t, format, stdout, arena, st);
    if (code < 0 || ptq_arg(a, "dry-run"))
        return code;
    const char *stem = is_whole(a) ? "table" : "part";
    char *folder = ptq_arena_printf(arena, st, "%s/table-%s", out, t->name);
    code = folder ? ptq_paper_write(t, folder, stem, arena, st) : PTQ_ERR_MEMORY;
    if (code >= 0 && !ptq_arg(a, "quiet"))
        fflush(stdout),
            fprintf(stderr, "table: %s/%s.md, %s.csv, %s.tex\n", folder, stem, stem, stem);
    return code;
}

static int options(const struct ptq_args *a, struct ptq_paper_run *r, struct ptq_status *st)
{
    const char *memory = ptq_arg(a, "memory");
    *r = (struct ptq_paper_run){.model_dir = ptq_arg(a, "model-dir"),
                                .out = ptq_arg(a, "results") ? ptq_arg(a, "results") : "results",
                                .set_words = ptq_arg(a, "set"),
                                .machine = a->machine,
                                .cancel = &ptq_interrupted,
                                .any_base = ptq_arg(a, "any-base") != NULL,
                                .dry_run = ptq_arg(a, "dry-run") != NULL,
                                .quiet = ptq_arg(a, "quiet") != NULL};
    struct stat info;
    if (r->model_dir && (stat(r->model_dir, &info) || !S_ISDIR(info.st_mode)))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "--model-dir %s: no such folder; name the one that holds the "
                              "checkpoints, or leave it out",
                              r->model_dir);
    int code = ptq_arg_i64(a, "threads", 0, 4096, &r->threads, st);
    return code >= 0 && memory ? ptq_parse_bytes(memory, "--memory", &r->memory_bytes, st) : code;
}

static int table(const struct ptq_args *a, struct ptq_arena *arena, struct ptq_status *st)
{
    struct ptq_paper_table t;
    struct ptq_paper_run r;
    struct ptq_pool *pool;
    int code = ptq_paper_check_format(ptq_arg(a, "format"), st);
    code = code < 0 ? code : options(a, &r, st);
    code = code < 0 ? code : ptq_paper_read(a->positional[0], arena, &t, st);
    if (code >= 0)
        code = ptq_paper_select(&t, ptq_arg(a, "rows"), ptq_arg(a, "columns"), ptq_arg(a, "data"),
                                arena, st);
    if (code >= 0)
        code = ptq_pool_new(&pool, (int)r.threads, st);
    if (code < 0)
        return code;
    r.pool = pool;
    mallopt(M_MMAP_THRESHOLD, 1 << 20); /* as `ptq sweep` does: matrices go back at once */
    ptq_catch_interrupts("table: ending after the cells in flight; the same command goes on\n");
    code = ptq_paper_run(&r, &t, arena, st);
    const bool interrupted = code == PTQ_ERR_CANCELLED;
    if (interrupted) {
        ptq_status_clear(st);
        code = PTQ_OK;
    }
    ptq_pool_free(pool);
    if (code >= 0)
        code = show(a, &t, r.out, arena, st);
    return code < 0 ? code : exit_code(a, &t, interrupted);
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct ptq_arena arena;
    enum ptq_format format = PTQ_TEXT;
    const char *word = ptq_arg(a, "format");
    int code = a->n_positional || (word && !strcmp(word, "latex"))
                   ? PTQ_OK
                   : ptq_format_parse(word, &format, st);
    if (code < 0)
        return code;
    ptq_arena_init(&arena, 0);
    code = a->n_positional ? table(a, &arena, st) : list_tables(&arena, format, st);
    ptq_arena_clear(&arena);
    return code;
}

static const struct ptq_flag flags[] = {
    {"model-dir", 'm', PTQ_FLAG_TEXT, "DIR",
     "look here for checkpoints, in folders as the table names them (opt-125m, facebook/opt-125m)",
     NULL},
    {"rows", 0, PTQ_FLAG_TEXT, "GLOBS", "only rows of the table file that match, such as 'rtn*,fp'",
     NULL},
    {"columns", 0, PTQ_FLAG_TEXT, "GLOBS", "only columns that match, such as opt-125m,opt-350m",
     NULL},
    {"data", 0, PTQ_FLAG_TEXT, "GLOBS", "only data that match, such as wikitext2", NULL},
    {"any-base", 0, PTQ_FLAG_SWITCH, NULL,
     "run a checkpoint whose full precision is not the paper's, too: its cells stay `base unknown`",
     NULL},
    {"set", 's', PTQ_FLAG_TEXT, "WORDS",
     "\"section.key=value ...\" over the cells' configurations; other words than run.* and "
     "calib.seed make every "
     "cell `base unknown`",
     NULL},
    {"results", 0, PTQ_FLAG_TEXT, "DIR", "folder of results [results]", NULL},
    {"threads", 't', PTQ_FLAG_TEXT, "N", "threads [all there are]; results do not depend on it",
     NULL},
    {"memory", 0, PTQ_FLAG_TEXT, "SIZE", "memory budget, such as 2G [3/4 of the machine's]", NULL},
    {"dry-run", 'n', PTQ_FLAG_SWITCH, NULL,
     "write the configurations and print what would be run (`not run: left`); run nothing", NULL},
    {"strict", 0, PTQ_FLAG_SWITCH, NULL, "exit code 1 when a gate is off", NULL},
    {"portable", 0, PTQ_FLAG_SWITCH, NULL, "AVX2 arithmetic: the same bits on every AVX2 machine",
     NULL},
    {"quiet", 'q', PTQ_FLAG_SWITCH, NULL, "no progress on stderr", NULL},
    {"format", 0, PTQ_FLAG_TEXT, "text|md|csv|jsonl|latex", "format of the table on stdout [text]",
     NULL},
    {NULL, 0, PTQ_FLAG_SWITCH, NULL, NULL, NULL}};

const struct ptq_verb ptq_verb_table = {
    .name = "table",
    .title = "Run a paper's table and print its numbers beside ours, with a verdict per cell",
    .usage = "[NAME] [--model-dir DIR] [--rows GLOBS] [--columns GLOBS] [--data GLOBS] [options]",
    .details =
        "NAME is a file of configs/tables/ (without it they are listed), or the path of such a "
        "file.\n"
        "What this machine can run is run as sweeps under results/table-NAME/, a folder a model; "
        "finished cells are\n"
        "never run again, and configs/ beside them holds the configuration of each. "
        "results/table-NAME/table.md, table.csv and table.tex\n"
        "are the table; a call for some of the cells, or with other settings (--set), writes "
        "part.* instead. Tables that need no model always run.\n"
        "Per cell: the printed number, ours (mean and standard deviation over calibration seeds), "
        "the difference, and a verdict:\n"
        "  reproduced, off              within the tolerance and half a printed digit, or not\n"
        "  not reproducible             an exact rerun is known to give another number, or it is "
        "a time on another machine\n"
        "  base unknown                 the checkpoint's full-precision perplexity, which is "
        "measured first, is not the paper's (its rows\n"
        "                               are then not run unless --any-base), or what was measured "
        "is not known\n"
        "  detail missing in the paper  what decides the number is not printed\n"
        "  not run: ...                 model, text, method or metric missing; failed; left\n"
        "Where printed numbers are from (trust): code: in the authors' code or its README; text: "
        "in "
        "the paper; repro: an independent\n"
        "reproduction; num: measured with another program; 2nd: a third party's summary; mem: from "
        "memory; inf: inferred. The last\n"
        "three are bands of sanity and no gates.\n"
        "Exit codes: 0 printed; 1 a gate is off (--strict); 2 no such table, or a broken file; 6 a "
        "cell failed, or interrupted.\n"
        "  ptq table qet\n"
        "  ptq table gptq-opt --model-dir ~/models --columns opt-125m --format md\n"
        "  ptq table gptq-opt --model-dir ~/models --dry-run",
    .flags = flags,
    .min_positional = 0,
    .max_positional = 1,
    .run = run,
};
