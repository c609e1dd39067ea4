/* cmd_proxies.c: `ptq proxies RUN`: which numbers may stand for perplexity, and which may not. */
#include "analysis/report.h"
#include "cli/cli.h"
#include <stdio.h>

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct ptq_arena arena;
    char *dir;
    const char *format = ptq_arg(a, "format");
    ptq_arena_init(&arena, 0);
    int code = ptq_run_folder(a->positional[0], &arena, &dir, st);
    code = code ? code : ptq_proxies_print(dir, format ? format : "text", stdout, st);
    ptq_arena_clear(&arena);
    if (code == PTQ_SKIP) {
        fprintf(stderr, "ptq proxies: %s\n", st->text);
        return 100 + 6;
    }
    return code;
}

static const struct ptq_flag flags[] = {
    {"format", 'f', PTQ_FLAG_TEXT, "F", "text, md, csv, jsonl or latex [text]"}, {NULL}};
const struct ptq_verb ptq_verb_proxies = {
    .name = "proxies",
    .title = "What proxies of perplexity are worth in a run: rank correlation, residual, breaks",
    .usage = "RUN [--format F]",
    .details =
        "RUN is a run folder (results/NAME) or its name. Each proxy (errors of weights and of "
        "outputs, proxy loss, attention,\n"
        "sums over layers with coefficients from noise in one layer alone, KL on few tokens) "
        "against the loss that was measured\n"
        "on the evaluation text. Ranks count inside (bits, group) strata: over all bits together "
        "any error falls with them.\n"
        "The proxies that need runs of the models come from a sweep with [eval] proxies = 16 "
        "(windows of held-out text).\n"
        "Exit codes: 0 ok, 2 unknown run, 6 no study: fewer than four settings in every stratum, "
        "or no perplexity.\n"
        "  make sweep CONFIG=proxies.ini && build/release/ptq proxies proxies\n"
        "  ptq plot proxies proxies -o proxies.png",
    .flags = flags,
    .min_positional = 1,
    .max_positional = 1,
    .run = run,
};
