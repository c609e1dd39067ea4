/* cmd_capture.c: `ptq capture MODEL`: statistics of every layer input of a model over a text, into
 * a container. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "core/words.h"
#include "model/stats.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Hidden states may take half of the machine: the rest is for a block and its Hessians. */
enum { DEFAULT_WINDOWS = 128, DEFAULT_ACTS = 512, MEMORY_SHARE = 2 };

struct request {
    int64_t threads, sink_tokens, n_acts, memory_bytes;
    struct ptq_text_request text;
    struct ptq_model_options model;
    const char *out, *name;
    int attention;
    bool f64;
};

static int required(const struct ptq_args *a, const char *flag, const char **out,
                    struct ptq_status *st)
{
    *out = ptq_arg(a, flag);
    return *out ? PTQ_OK
                : ptq_status_set(st, PTQ_ERR_USAGE, "--%s is required; see ptq capture --help",
                                 flag);
}

static int parse_attention(const struct ptq_args *a, int *out, struct ptq_status *st)
{
    static const char *const words[] = {"off", "on", NULL};
    const char *v = ptq_arg(a, "block-v");
    const bool wanted = ptq_arg(a, "attention") != NULL, off = v && !strcmp(v, words[0]);
    if (v && !off && strcmp(v, words[1]) != 0)
        return ptq_unknown_word("--block-v", v, words, st);
    if (v && !wanted)
        return ptq_status_set(st, PTQ_ERR_USAGE, "--block-v goes with --attention alone");
    *out = !wanted ? PTQ_ATTN_NONE : off ? PTQ_ATTN_ROWS : PTQ_ATTN_ALL;
    return PTQ_OK;
}

static int parse(const struct ptq_args *a, struct request *r, struct ptq_status *st)
{
    int rc = required(a, "text", &r->text.source, st);
    if (rc || (rc = required(a, "out", &r->out, st)) ||
        (rc = ptq_arg_i64(a, "windows", 1, INT32_MAX, &r->text.n_seq, st)) ||
        (rc = ptq_arg_i64(a, "seqlen", 2, INT32_MAX, &r->text.window, st)) ||
        (rc = ptq_arg_i64(a, "sink-tokens", 0, INT32_MAX, &r->sink_tokens, st)) ||
        (rc = ptq_arg_i64(a, "acts", 0, INT32_MAX, &r->n_acts, st)) ||
        (rc = ptq_arg_i64(a, "threads", 1, INT32_MAX, &r->threads, st)))
        return rc;
    int64_t seed = 0;
    if ((rc = ptq_arg_i64(a, "seed", 0, INT32_MAX, &seed, st)))
        return rc;
    r->text.seed = (uint64_t)seed;
    r->text.draw = ptq_arg(a, "draw");
    r->text.tokenizer = ptq_arg(a, "tokenizer");
    r->memory_bytes =
        (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE) / MEMORY_SHARE;
    if (ptq_arg(a, "memory") &&
        (rc = ptq_parse_bytes(ptq_arg(a, "memory"), "--memory", &r->memory_bytes, st)))
        return rc;
    r->name = ptq_arg(a, "name") ? ptq_arg(a, "name") : "calib";
    r->f64 = ptq_arg(a, "f64") != NULL;
    if ((rc = parse_attention(a, &r->attention, st)))
        return rc;
    r->model.outliers = ptq_arg(a, "outliers") != NULL;
    return PTQ_OK;
}

static int capture(const struct request *r, const struct ptq_model *m,
                   const struct ptq_machine *machine, struct ptq_arena *arena,
                   struct ptq_status *st)
{
    struct ptq_text text;
    struct ptq_text_request ask = r->text;
    struct ptq_pool *pool = NULL;
    const struct ptq_stats_options o = {.sink_tokens = r->sink_tokens,
                                        .n_acts = r->n_acts,
                                        .f64 = r->f64,
                                        .attention = r->attention};
    const char *slash = strrchr(r->out, '/');
    const char *folder =
        slash ? ptq_arena_printf(arena, st, "%.*s/", (int)(slash - r->out), r->out) : ".";
    ask.draw = ptq_text_draw(ptq_model_info(m), ask.draw, "first");
    const char *arithmetic =
        ptq_arena_printf(arena, st, "%s %s", machine->blas_core, ptq_isa_name(machine->isa));
    int rc = folder && arithmetic ? ptq_text_load(ptq_model_info(m), &ask, arena, &text, st)
                                  : PTQ_ERR_MEMORY;
    if (!rc && text.note)
        fprintf(stderr, "ptq capture: %s\n", text.note);
    if (rc || (rc = ptq_pool_new(&pool, (int)r->threads, st)))
        return rc;
    const struct ptq_capture_args args = {.model = m,
                                          .text = &text,
                                          .options = &o,
                                          .out_path = r->out,
                                          .name = r->name,
                                          .pool = pool,
                                          .stop = ptq_interrupt_stop,
                                          .whole_blocks = true,
                                          .arithmetic = arithmetic,
                                          .spill = {folder, r->memory_bytes},
                                          .memory_bytes = r->memory_bytes};
    ptq_catch_interrupts("\nptq capture: finishing the block; once more to stop at once\n");
    rc = ptq_capture(&args, st);
    ptq_pool_free(pool);
    if (!rc)
        printf("%s: /stats/%s: %lld blocks of %s over %lld sequences, %lld tokens of %s\n", r->out,
               r->name, (long long)ptq_model_info(m)->n_blocks, ptq_model_info(m)->name,
               (long long)text.tokens.n_seq, (long long)text.tokens.n_total, text.source);
    return rc;
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct request r = {
        .sink_tokens = 1, .n_acts = DEFAULT_ACTS, .text = {.n_seq = DEFAULT_WINDOWS}};
    struct ptq_arena arena;
    struct ptq_model *m = NULL;
    ptq_arena_init(&arena, 0);
    int rc = parse(a, &r, st);
    if (!rc &&
        !(rc = ptq_model_open(&m, a->n_positional ? a->positional[0] : "demo", &r.model, st)))
        rc = capture(&r, m, a->machine, &arena, st);
    ptq_model_close(m);
    ptq_arena_clear(&arena);
    return rc;
}

static const struct ptq_flag flags[] = {
    {"text", 't', PTQ_FLAG_TEXT, "SOURCE",
     "a name of `ptq list texts`, a text file, ids:FILE, .npy or synth:facts:SEED (required)",
     NULL},
    {"draw", 0, PTQ_FLAG_TEXT, "RULE",
     "how sequences are taken of it: `ptq list draws` [first; encoders: "
     "sentences]",
     NULL},
    {"seed", 0, PTQ_FLAG_TEXT, "N", "of a draw [0]", NULL},
    {"tokenizer", 0, PTQ_FLAG_TEXT, "SOURCE", "where the tokenizer is [with the model]", NULL},
    {"memory", 0, PTQ_FLAG_TEXT, "BYTES",
     "hidden states over this lie in a file beside OUT, such as 8G; statistics of attention over "
     "it "
     "are refused [half of the machine's]",
     NULL},
    {"out", 'o', PTQ_FLAG_TEXT, "FILE", "container to write or to go on with (required)", NULL},
    {"name", 0, PTQ_FLAG_TEXT, "NAME", "name of the statistics in it: /stats/NAME [calib]", NULL},
    {"windows", 'n', PTQ_FLAG_TEXT, "N", "sequences [128]", "nsamples"},
    {"seqlen", 'w', PTQ_FLAG_TEXT, "N", "tokens a sequence [the model's context]", "window"},
    {"sink-tokens", 0, PTQ_FLAG_TEXT, "K",
     "the first K tokens of a sequence are a class of their own [1]", NULL},
    {"acts", 0, PTQ_FLAG_TEXT, "N", "sampled input rows to keep, evenly spaced [512]", NULL},
    {"f64", 0, PTQ_FLAG_SWITCH, NULL, "accumulate and store Hessians in fp64 instead of fp32",
     NULL},
    {"attention", 0, PTQ_FLAG_SWITCH, NULL, "statistics of attention for q, k and v (BoA) as well",
     NULL},
    {"block-v", 0, PTQ_FLAG_TEXT, "on|off",
     "with --attention: off leaves out the columns of v, n_kv_heads d_model^2 / 2 numbers a block "
     "[on]",
     NULL},
    {"outliers", 0, PTQ_FLAG_SWITCH, NULL, "the demo model's outlier variant", NULL},
    {"threads", 'j', PTQ_FLAG_TEXT, "N", "threads; no result depends on it [all cores]", NULL},
    {"portable", 0, PTQ_FLAG_SWITCH, NULL, "AVX2 arithmetic: the same bits on every AVX2 machine",
     NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_capture = {
    .name = "capture",
    .title = "Statistics of a model's layer inputs over a text: Hessians, ranges, samples",
    .usage = "[MODEL] --text SOURCE --out FILE [options]",
    .details =
        "Writes, for every distinct input of every block, the Hessian in two token classes, "
        "absmax, absmean, mean and sampled\n"
        "rows (datasets/SCHEMA.md, /stats); with --attention also what BoA takes of the attention "
        "for "
        "q, k and v, the memory of\n"
        "which is said before it starts. A file that holds some blocks of the same request "
        "already is continued; one that\n"
        "holds other statistics under the name, and the model's own file, are refused. `ptq run "
        "MODEL "
        "--stats-file FILE` takes them. Ctrl-C finishes the block in hand and "
        "ends; a second one ends at once.\n"
        "Exit codes: 0 ok, 2 usage or a wrong file, 5 a Hessian is not finite, 6 writing failed, "
        "out of memory or stopped.\n"
        "  ptq capture demo --text synth:facts:4444 --windows 64 --out stats.h5 --name calib",
    .flags = flags,
    .min_positional = 0,
    .max_positional = 1,
    .run = run,
};
