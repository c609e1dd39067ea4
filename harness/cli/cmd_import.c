/* cmd_import.c: `ptq import SOURCE -o OUT.h5`: a checkpoint into a container. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "core/words.h"
#include "model/import.h"
#include <stdio.h>
#include <string.h>

static int type_of(const struct ptq_args *a, enum ptq_h5_type *out, struct ptq_status *st)
{
    static const char *const words[] = {"same", "f16", "bf16", "f32", NULL};
    static const enum ptq_h5_type types[] = {PTQ_H5_OTHER, PTQ_H5_F16, PTQ_H5_BF16, PTQ_H5_F32};
    const char *word = ptq_arg(a, "dtype") ? ptq_arg(a, "dtype") : "same";
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], word)) {
            *out = types[i];
            return PTQ_OK;
        }
    return ptq_unknown_word("value of --dtype", word, words, st);
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    struct ptq_import_args args = {.out_path = ptq_arg(a, "out"),
                                   .name = ptq_arg(a, "name"),
                                   .stop = ptq_interrupt_stop,
                                   .quiet = ptq_arg(a, "quiet") != NULL};
    struct ptq_model *m = NULL;
    if (!args.out_path)
        return ptq_status_set(st, PTQ_ERR_USAGE, "-o OUT.h5 is required; see ptq import --help");
    int rc = type_of(a, &args.type, st);
    if (rc || (rc = ptq_model_open(&m, a->positional[0], NULL, st)))
        return rc;
    ptq_catch_interrupts(NULL);
    args.model = m;
    rc = ptq_import(&args, st);
    if (!rc) {
        const struct ptq_model_info *i = ptq_model_info(m);
        printf("%s: %s of architecture %s, %lld blocks, %.1f M weights%s%s\n", args.out_path,
               args.name ? args.name : i->name, i->arch, (long long)i->n_blocks,
               (double)i->n_params * 1e-6, i->quantized_as ? "; already quantized, " : "",
               i->quantized_as ? i->quantized_as : "");
    }
    ptq_model_close(m);
    return rc;
}

static const struct ptq_flag flags[] = {
    {"out", 'o', PTQ_FLAG_TEXT, "OUT.h5", "the container to write (required)", NULL},
    {"dtype", 0, PTQ_FLAG_TEXT, "T",
     "same, f16, bf16 or f32; same: as stored, f32 for quantized tensors [same]", NULL},
    {"name", 0, PTQ_FLAG_TEXT, "NAME", "the model's name in reports [the source's]", NULL},
    {"quiet", 'q', PTQ_FLAG_SWITCH, NULL, "no progress", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_import = {
    .name = "import",
    .title = "A checkpoint into a container, one tensor at a time",
    .usage = "SOURCE -o OUT.h5 [options]",
    .details =
        "SOURCE: a Hugging Face folder (config.json with *.safetensors or pytorch_model*.bin), a "
        ".gguf, a llama2.c checkpoint, or\n"
        "another container. Every verb reads these in place; a container is one file with the "
        "tokenizer, the canonical names and\n"
        "room for statistics (datasets/SCHEMA.md). OUT.h5 is there whole or not at all.\n"
        "Exit codes: 0 ok, 2 usage or a wrong file, 5 a weight is not finite or does not fit the "
        "type, 6 writing failed or stopped.\n"
        "  ptq import ~/llama-7b-hf -o llama-7b.h5",
    .flags = flags,
    .min_positional = 1,
    .max_positional = 1,
    .run = run,
};
