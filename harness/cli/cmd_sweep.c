/* cmd_sweep.c: `ptq sweep CONFIG`: runs what is missing, then prints the table and writes the
 * report. */
#include "analysis/invariants.h"
#include "analysis/put.h"
#include "analysis/report.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "core/words.h"
#include "sweep/sweep.h"
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- arguments ---------------------------------------------------------------------------------
 */

static int override_run(const struct ptq_args *a, struct ptq_config_run *run, struct ptq_status *st)
{
    const char *threads = ptq_arg(a, "threads"), *memory = ptq_arg(a, "memory"),
               *budget = ptq_arg(a, "budget");
    int code = threads ? ptq_parse_i64(threads, "--threads", 0, 4096, &run->threads, st) : PTQ_OK;
    if (code >= 0 && memory)
        code = ptq_parse_bytes(memory, "--memory", &run->memory_bytes, st);
    if (code >= 0 && budget)
        code = ptq_parse_duration(budget, "--budget", &run->budget_s, st);
    return code;
}

/* Matrices go back to the system as soon as they are released. Left to itself the C library keeps
 * ever larger ones (up to 32 MB) in the heap, where the small pieces of rows, which stay, cut them
 * up: memory then grows by a matrix a row. */
static void return_large_pieces(void)
{
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

static int parse_shard(const char *text, struct ptq_sweep_args *s, struct ptq_status *st)
{
    int i, n, end = 0;
    s->n_shards = 1;
    if (!text)
        return PTQ_OK;
    if (sscanf(text, "%d/%d%n", &i, &n, &end) != 2 || text[end] || i < 1 || n < i || n > 1000)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "--shard '%.40s': write I/N with 1 <= I <= N <= 1000, such as 1/4",
                              text);
    s->shard = i - 1;
    s->n_shards = n;
    return PTQ_OK;
}

static char *join_command(const struct ptq_args *a)
{
    size_t room = 1;
    for (int i = 0; i < a->argc; i++)
        room += strlen(a->argv[i]) + 1;
    char *text = calloc(room, 1);
    for (int i = 0; text && i < a->argc; i++) {
        strcat(text, a->argv[i]);
        strcat(text, i + 1 < a->argc ? " " : "");
    }
    return text;
}

/* The CPU is decided before anything runs: [run] portable = 1 starts the program again with
 * --portable. */
static int portable(const struct ptq_args *a, struct ptq_status *st)
{
    const char **argv = calloc((size_t)a->argc + 2, sizeof *argv);
    if (getenv("PTQ_NO_REEXEC")) {
        free(argv);
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "[run] portable = 1 starts the program again, which PTQ_NO_REEXEC "
                              "forbids: give --portable");
    }
    if (!argv)
        return ptq_status_nomem(st, "the command line", 0);
    memcpy(argv, a->argv, (size_t)a->argc * sizeof *argv);
    argv[a->argc] = "--portable";
    execv("/proc/self/exe", (char *const *)argv);
    free(argv);
    return ptq_status_set(st, PTQ_ERR_IO,
                          "cannot start again with --portable: %s; give it on the command line",
                          strerror(errno));
}

/* ---- the run -----------------------------------------------------------------------------------
 */

static int report(const struct ptq_args *a, const struct ptq_sweep_summary *s,
                  struct ptq_status *st)
{
    int code = ptq_report_print(s->run_dir, "text", stdout, st);
    if (code < 0 || ptq_arg(a, "no-report"))
        return code;
    fflush(stdout);
    struct ptq_report_args args = {s->run_dir, true, ptq_arg(a, "quiet") != NULL};
    code = ptq_report_write(&args, st);
    if (code >= 0 && !args.quiet)
        fprintf(stderr, "report: %s/report.html\n", s->run_dir);
    return code;
}

/* Rules that looked at something. */
static int64_t n_checked(const struct ptq_invariants *all)
{
    int64_t n = 0;
    for (int i = 0; i < all->n; i++)
        n += all->at[i].n_checked > 0;
    return n;
}

static void tell_broken(const struct ptq_args *a, const char *run_dir,
                        const struct ptq_invariants *all)
{
    for (int i = 0; i < all->n; i++) {
        const struct ptq_rule_result *r = &all->at[i];
        if (!r->n_broken || (!r->rule->hard && ptq_arg(a, "quiet")))
            continue;
        fprintf(stderr, "ptq sweep: %s %s: %s\n", r->rule->hard ? "VIOLATED" : "warning",
                r->rule->name, r->rule->what);
        for (int k = 0; k < r->n_findings; k++) {
            fputs("  ", stderr);
            ptq_put_text(stderr, r->findings[k]);
            fputc('\n', stderr);
        }
        if (r->n_broken > r->n_findings)
            fprintf(stderr, "  and %lld more\n", (long long)(r->n_broken - r->n_findings));
        fprintf(stderr, "  likely: %s\n", r->rule->cause);
    }
    if (all->n_violated || !ptq_arg(a, "quiet"))
        fprintf(
            stderr,
            "check: %lld of %lld rules checked are violated, %lld with warnings; %lld of %d were "
            "not or not wholly checked: `ptq check %s` says more\n",
            (long long)all->n_violated, (long long)n_checked(all), (long long)all->n_warned,
            (long long)all->n_not_checked, all->n, run_dir);
}

/* One shard of several sees a part of the rows: there the whole is left to `ptq check`. */
static int check(const struct ptq_args *a, const struct ptq_sweep_summary *s, struct ptq_pool *pool,
                 bool *violated, struct ptq_status *st)
{
    struct ptq_invariants all;
    struct ptq_arena arena;
    *violated = false;
    if (ptq_arg(a, "shard"))
        return PTQ_OK;
    ptq_arena_init(&arena, 0);
    const struct ptq_invariants_args args = {s->run_dir, pool, true};
    int code = ptq_invariants_check(&args, &arena, &all, st);
    if (code >= 0) {
        *violated = all.n_violated > 0;
        tell_broken(a, s->run_dir, &all);
    }
    ptq_arena_clear(&arena);
    return code;
}

/* Rows that stand, and that nobody should conclude anything from. */
static void warn_trust(const struct ptq_sweep_summary *s)
{
    if (s->n_few)
        fprintf(
            stderr,
            "ptq sweep: warning: in %lld cells fewer tokens than columns are behind the Hessian "
            "that was used: it is singular; take more calibration text (note "
            "tokens_below_columns of the rows)\n",
            (long long)s->n_few);
    if (s->n_worse)
        fprintf(stderr,
                "ptq sweep: warning: %lld cells have out_relerr >= 1: a layer of zeros would do "
                "better (note worse_than_zeros of the rows)\n",
                (long long)s->n_worse);
}

static int finish(const struct ptq_args *a, const struct ptq_sweep_summary *s,
                  struct ptq_pool *pool, struct ptq_status *st)
{
    bool violated = false;
    if (!ptq_arg(a, "quiet"))
        fprintf(stderr,
                "%s: %lld cells: %lld were done before, %lld ok, %lld skipped, %lld failed\n",
                s->run_dir, (long long)s->n_cells, (long long)s->n_done_before, (long long)s->n_ok,
                (long long)s->n_skipped, (long long)s->n_failed);
    if (!ptq_arg(a, "quiet"))
        warn_trust(s);
    int code = report(a, s, st);
    if (code >= 0)
        code = check(a, s, pool, &violated, st);
    if (code >= 0 && !violated && s->n_skipped && !s->n_quantized && !s->n_failed &&
        !ptq_arg(a, "shard"))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: nothing was quantized: every cell was skipped, for the reasons "
                              "above; change the settings that they name",
                              s->run_dir);
    if (code < 0 || !s->n_failed)
        return code < 0 || !violated ? code : 105;
    fprintf(
        stderr,
        "ptq sweep: %lld cells failed: their rows in %s say why; --retry-failed runs them again\n",
        (long long)s->n_failed, s->run_dir);
    return violated ? 105 : 106;
}

static int sweep(const struct ptq_args *a, const struct ptq_config *config, struct ptq_status *st)
{
    struct ptq_sweep_summary summary;
    struct ptq_pool *pool;
    struct ptq_sweep_args args = {.config = config,
                                  .machine = a->machine,
                                  .cancel = &ptq_interrupted,
                                  .dry_run = ptq_arg(a, "dry-run") != NULL,
                                  .quiet = ptq_arg(a, "quiet") != NULL,
                                  .retry_failed = ptq_arg(a, "retry-failed") != NULL};
    int code = parse_shard(ptq_arg(a, "shard"), &args, st);
    if (code >= 0)
        code = ptq_pool_new(&pool, (int)config->run.threads, st);
    if (code < 0)
        return code;
    args.pool = pool;
    char *command = join_command(a);
    args.command = command;
    ptq_catch_interrupts(NULL);
    return_large_pieces();
    code = ptq_sweep_run(&args, &summary, st);
    if (code >= 0 && !args.dry_run)
        code = finish(a, &summary, pool, st);
    ptq_pool_free(pool);
    free(command);
    return code;
}

/* For make, which may install a text. */
static int print_missing(const struct ptq_config *config, struct ptq_arena *arena,
                         struct ptq_status *st)
{
    const char **names;
    int64_t n = 0;
    int code = ptq_config_missing_texts(config, arena, &names, &n, st);
    for (int64_t i = 0; i < n; i++)
        puts(names[i]);
    return code;
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct ptq_arena arena;
    struct ptq_config config;
    const struct ptq_config_override override = {ptq_arg(a, "set"), ptq_arg(a, "model"),
                                                 ptq_arg(a, "full") != NULL};
    ptq_arena_init(&arena, 0);
    int code = ptq_config_read(a->positional[0], &override, &arena, &config, st);
    if (code >= 0)
        code = override_run(a, &config.run, st);
    bool look = ptq_arg(a, "missing-texts") != NULL;
    if (code >= 0 && !look && config.run.portable && !ptq_arg(a, "portable"))
        code = portable(a, st);
    if (code >= 0)
        code = look ? print_missing(&config, &arena, st) : sweep(a, &config, st);
    ptq_arena_clear(&arena);
    return code;
}

static const struct ptq_flag flags[] = {
    {"model", 'm', PTQ_FLAG_TEXT, "SRC", "model or layer file, in place of [model] source", NULL},
    {"set", 's', PTQ_FLAG_TEXT, "WORDS", "\"section.key=value ...\": overrides lines of CONFIG",
     NULL},
    {"full", 0, PTQ_FLAG_SWITCH, NULL,
     "the lines of [full] in CONFIG count: the papers' whole setting", NULL},
    {"threads", 't', PTQ_FLAG_TEXT, "N", "threads [all there are]; results do not depend on it",
     NULL},
    {"memory", 0, PTQ_FLAG_TEXT, "SIZE", "memory budget, such as 2G [3/4 of the machine's]", NULL},
    {"dry-run", 'n', PTQ_FLAG_SWITCH, NULL,
     "print cells, flops, bytes, memory and predicted time; run nothing", NULL},
    {"missing-texts", 0, PTQ_FLAG_SWITCH, NULL,
     "print the texts that CONFIG names and that are not here; run nothing", NULL},
    {"budget", 0, PTQ_FLAG_TEXT, "TIME", "start no cell after 90s, 10m, 2h; the next run goes on",
     NULL},
    {"shard", 0, PTQ_FLAG_TEXT, "I/N",
     "this part of the cells, into a file of its own (array jobs)", NULL},
    {"retry-failed", 0, PTQ_FLAG_SWITCH, NULL, "run failed cells again though nothing changed",
     NULL},
    {"no-report", 0, PTQ_FLAG_SWITCH, NULL, "print the table, write no report", NULL},
    {"portable", 0, PTQ_FLAG_SWITCH, NULL, "AVX2 arithmetic: the same bits on every AVX2 machine",
     NULL},
    {"quiet", 'q', PTQ_FLAG_SWITCH, NULL, "no progress on stderr", NULL},
    {NULL, 0, PTQ_FLAG_SWITCH, NULL, NULL, NULL}};

const struct ptq_verb ptq_verb_sweep = {
    .name = "sweep",
    .title = "Sweep methods x bits x groups over a model or bare layers; resumable",
    .usage = "CONFIG [--model SRC] [--full] [--set \"section.key=value ...\"] [options]",
    .details =
        "Runs the cells that results/NAME/ lacks, prints the main table and writes "
        "results/NAME/report.html.\n"
        "Rows lie in results/NAME/cells.jsonl, one a line; a finished cell is never run again. "
        "Ctrl-C ends the\n"
        "sweep in good order; the same command goes on. A failed or skipped cell is a row with its "
        "reason.\n"
        "  ptq sweep configs/demo.ini\n"
        "  ptq sweep configs/demo.ini --set \"sweep.methods=gptq:percdamp=0.01|0.1 sweep.bits=3\"\n"
        "  ptq sweep configs/layers.ini --model layers.h5\n"
        "  ptq sweep configs/llama7b.ini --model path/to/checkpoint --dry-run\n"
        "The finished run is checked (`ptq check --rules`); warnings are printed.\n"
        "[eval] windows = 0 takes all of the text; of a generated one, which has no end, 256 "
        "windows "
        "(synth:facts) or 16 (synth:zipf).\n"
        "Exit codes: 0 all cells done; 2 configuration or input, or every cell was skipped; 5 "
        "numerical failure, or a hard rule\n"
        "is broken; 6 cells failed or left, disk full, or the results folder cannot be written.",
    .flags = flags,
    .min_positional = 1,
    .max_positional = 1,
    .run = run,
};
