/* cmd_export.c: `ptq export RUN_DIR --label gptq --bits 4 -o DIR`: a row of a sweep as a model. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "core/words.h"
#include "sweep/export.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static int type_of(const struct ptq_args *a, enum ptq_st_type *out, struct ptq_status *st)
{
    static const char *const words[] = {"f32", "f16", "bf16", NULL};
    const char *word = ptq_arg(a, "dtype") ? ptq_arg(a, "dtype") : "f32";
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], word)) {
            *out = (enum ptq_st_type)i; /* in the order of the enum */
            return PTQ_OK;
        }
    return ptq_unknown_word("value of --dtype", word, words, st);
}

/* Flags that pick the row, and what they are called there. */
static const char *const picks[][2] = {
    {"label", "label"},           {"method", "method"}, {"bits", "bits"},
    {"group-size", "group_size"}, {"sym", "sym"},       {"grid", "grid"},
    {"scale", "scale"},           {"seed", "seed"},     {"calib", "calib"},
    {"calib-seed", "calib_seed"}, {"key", "key"},       {"a-bits", "a_bits"},
};
enum { N_PICKS = sizeof picks / sizeof *picks };

static void print_done(const struct ptq_args *a, const struct ptq_export_args *args,
                       const struct ptq_export_done *d)
{
    printf("%s: %s, %lld tensors, %lld of the model's layers quantized", args->out_dir, d->title,
           (long long)d->written.n_tensors, (long long)d->written.n_replaced);
    if (d->written.n_left_out)
        printf("; %lld tensors of whole numbers left out", (long long)d->written.n_left_out);
    if (isfinite(d->ppl))
        printf("; perplexity in the sweep %.6g", d->ppl);
    putchar('\n');
    if (args->type != PTQ_ST_F32)
        fprintf(stderr,
                "ptq export: the weights are rounded to %s: what was measured is exact in f32 and "
                "in quant.h5 alone\n",
                ptq_arg(a, "dtype"));
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct ptq_row_pick pick[N_PICKS];
    struct ptq_export_args args = {.run_dir = a->positional[0],
                                   .out_dir = ptq_arg(a, "out"),
                                   .source = ptq_arg(a, "model"),
                                   .picks = pick,
                                   .quiet = ptq_arg(a, "quiet") != NULL,
                                   .stop = ptq_interrupt_stop};
    struct ptq_export_done done;
    if (!args.out_dir)
        return ptq_status_set(st, PTQ_ERR_USAGE, "-o DIR is required; see ptq export --help");
    for (int i = 0; i < N_PICKS; i++)
        if (ptq_arg(a, picks[i][0]))
            pick[args.n_picks++] = (struct ptq_row_pick){picks[i][1], ptq_arg(a, picks[i][0])};
    int rc = type_of(a, &args.type, st);
    if (rc)
        return rc;
    ptq_catch_interrupts(NULL);
    rc = ptq_export(&args, &done, st);
    if (!rc)
        print_done(a, &args, &done);
    return rc;
}

static const struct ptq_flag flags[] = {
    {"out", 'o', PTQ_FLAG_TEXT, "DIR", "the folder to write (required; absent or empty)", NULL},
    {"label", 'l', PTQ_FLAG_TEXT, "L", "the row's label: the method as the report shows it", NULL},
    {"method", 'm', PTQ_FLAG_TEXT, "M", "its method or preset", NULL},
    {"bits", 'b', PTQ_FLAG_TEXT, "N", "its bits", NULL},
    {"a-bits", 0, PTQ_FLAG_TEXT, "N", "bits of its quantized inputs", NULL},
    {"group-size", 'g', PTQ_FLAG_TEXT, "N", "its group size; -1 row, 0 tensor", "groupsize"},
    {"sym", 0, PTQ_FLAG_TEXT, "0|1", "its symmetry", NULL},
    {"grid", 0, PTQ_FLAG_TEXT, "G", "its grid: minmax, mse or hess", NULL},
    {"scale", 0, PTQ_FLAG_TEXT, "F", "its format of scales: f16, bf16 or f32", NULL},
    {"seed", 0, PTQ_FLAG_TEXT, "N", "its seed", NULL},
    {"calib", 0, PTQ_FLAG_TEXT, "TEXT", "its calibration text", NULL},
    {"calib-seed", 0, PTQ_FLAG_TEXT, "N", "its draw of the calibration text", NULL},
    {"key", 0, PTQ_FLAG_TEXT, "HEX", "the beginning of its key, as candidates are listed", NULL},
    {"model", 0, PTQ_FLAG_TEXT, "SOURCE", "where the model lies now [where the sweep found it]",
     NULL},
    {"dtype", 0, PTQ_FLAG_TEXT, "T",
     "f32, f16 or bf16; dequantized weights are exact in f32 alone [f32]", NULL},
    {"quiet", 'q', PTQ_FLAG_SWITCH, NULL, "no progress", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_export = {
    .name = "export",
    .title = "A row of a sweep as a Hugging Face folder with the quantized weights",
    .usage = "RUN_DIR -o DIR [--label L] [--bits N] [--group-size N] [options]",
    .details =
        "RUN_DIR: a sweep's folder, with its stored forms (forms.pack; not with [run] keep_forms = "
        "0). The options must leave one\n"
        "row of the model; otherwise the candidates are listed with what tells them apart. DIR "
        "gets\n"
        "  config.json, tokenizer files   as the model's Hugging Face folder has them; for a "
        "container, .gguf or llama2.c\n"
        "                                 checkpoint of the llama family config.json is made "
        "(other architectures: refused)\n"
        "  model.safetensors              every tensor of the model, the quantized layers "
        "dequantized; masks and position\n"
        "                                 numbers that are no weights are left out\n"
        "  quant.h5                       the stored forms: /quant/LAYER, /packed/LAYER "
        "(datasets/SCHEMA.md), and the tokenizer\n"
        "                                 where it has no files of its own\n"
        "DIR runs in transformers and in ptq eval, and is there whole or not at all. With --dtype "
        "f16 or bf16 the dequantized\n"
        "weights are rounded again: its perplexity is then not the row's.\n"
        "Exit codes: 0 ok, 2 usage, a row or form that is not there, another model; 5 a weight "
        "does not fit the type; 6 writing\n"
        "failed or stopped.\n"
        "  ptq export results/demo --label gptq --bits 4 --group-size 64 -o demo-gptq-4bit",
    .flags = flags,
    .min_positional = 1,
    .max_positional = 1,
    .run = run,
};
