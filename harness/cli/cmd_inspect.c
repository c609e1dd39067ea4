/* cmd_inspect.c: `ptq inspect SOURCE`: what a checkpoint of any format holds, and a container:
 * model, statistics, bare layers, results. Nothing but names, shapes and metadata is read. */
#include "cli/checkpoint.h"
#include "cli/cli.h"
#include "core/paths.h"
#include "datasets/h5.h"
#include <stdio.h>
#include <string.h>

struct inspection {
    struct ptq_h5 *h5;
    struct ptq_arena arena;
    struct ptq_table *table;
    int depth, max_depth;
    int64_t n_objects;
    bool all;
};
enum { MAX_OBJECTS = 100000 };

/* A file of HDF5's begins so; whatever else it holds, it is ours to walk through. */
static bool is_container(const char *path)
{
    char head[8] = "";
    FILE *f = fopen(path, "re");
    bool yes = f && fread(head, sizeof head, 1, f) == 1 && !memcmp(head, "\x89HDF\r\n\x1a\n", 8);
    if (f)
        fclose(f);
    return yes;
}

static const char *type_name(enum ptq_h5_type t)
{
    static const char *const names[] = {"other", "f16", "bf16", "f32", "f64",
                                        "u8",    "u16", "i32",  "i64", "text"};
    return t <= PTQ_H5_TEXT ? names[t] : "other";
}

static int add_dataset(struct inspection *in, const char *object, struct ptq_status *st)
{
    struct ptq_h5_info info;
    int code = ptq_h5_info(in->h5, object, &info, st);
    if (code)
        return code;
    char shape[128] = "scalar", elements[32];
    for (int r = 0, n = 0; r < info.rank; r++)
        n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%lld", r ? " x " : "",
                      (long long)info.dim[r]);
    snprintf(elements, sizeof elements, "%lld", (long long)info.n);
    const char *row[] = {object, type_name(info.type), shape, elements};
    return ptq_table_row(in->table, row);
}

static bool is_group(struct inspection *in, const char *object)
{
    struct ptq_status quiet = {0};
    char **names;
    int64_t n;
    return ptq_h5_list(in->h5, object, &in->arena, &names, &n, &quiet) == PTQ_OK;
}

static int walk(struct inspection *in, const char *group, int depth, struct ptq_status *st)
{
    char **names;
    int64_t n;
    int code = ptq_h5_list(in->h5, group, &in->arena, &names, &n, st);
    for (int64_t i = 0; !code && i < n; i++) {
        char *object =
            ptq_arena_printf(&in->arena, st, "%s/%s", strcmp(group, "/") ? group : "", names[i]);
        if (!object)
            return PTQ_ERR_MEMORY;
        if (++in->n_objects > MAX_OBJECTS)
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: more than %d objects; this is not a container of ours",
                                  ptq_h5_path(in->h5), MAX_OBJECTS);
        if (!is_group(in, object))
            code = add_dataset(in, object, st);
        else if (depth < in->max_depth)
            code = walk(in, object, depth + 1, st);
    }
    return code;
}

/* ---- checkpoints: whatever the format */

enum { MOST_ROWS = 40 };

static int inspect_tensors(const char *path, struct inspection *in, enum ptq_format format,
                           struct ptq_status *st)
{
    struct ptq_checkpoint *c = NULL;
    int code = ptq_checkpoint_open(&c, path, st);
    if (code)
        return code;
    const int64_t n = ptq_checkpoint_n_tensors(c);
    const int64_t most = in->all || format != PTQ_TEXT || n <= MOST_ROWS ? n : MOST_ROWS;
    for (int64_t i = 0; i < most && !code; i++) {
        struct ptq_checkpoint_row r;
        ptq_checkpoint_row(c, i, &r);
        if (ptq_table_row(in->table, (const char *[]){r.name, r.type, r.shape, r.n}))
            code = ptq_status_nomem(st, "a table", 0);
    }
    if (!code) {
        if (format == PTQ_TEXT)
            ptq_checkpoint_print(c, stdout);
        ptq_table_print(in->table, format, stdout);
        if (most < n)
            printf("and %lld more tensors (--all shows them)\n", (long long)(n - most));
    }
    ptq_checkpoint_close(c);
    return code;
}

/* ---- containers: every dataset, for they hold statistics, layers and stored forms as well */

/* A /model that is not a model's: its datasets are listed all the same. */
static void print_model(const char *path, FILE *f)
{
    struct ptq_checkpoint *c = NULL;
    struct ptq_status quiet = {0};
    if (ptq_checkpoint_open(&c, path, &quiet) == PTQ_OK)
        ptq_checkpoint_print(c, f);
    ptq_checkpoint_close(c);
}

static int inspect_container(const char *path, struct inspection *in, enum ptq_format format,
                             struct ptq_status *st)
{
    int code = ptq_h5_open(&in->h5, path, PTQ_H5_READ, st);
    if (!code)
        code = walk(in, "/", 0, st);
    if (!code) {
        if (format == PTQ_TEXT && ptq_h5_exists(in->h5, "/model"))
            print_model(path, stdout);
        ptq_table_print(in->table, format, stdout);
    }
    ptq_h5_close(in->h5, NULL);
    return code;
}

static int run(const struct ptq_args *args, struct ptq_status *st)
{
    static const char *const columns[] = {"object", "type", "shape", "elements"};
    static const bool numeric[] = {false, false, false, true};
    struct inspection in = {.max_depth = 8, .all = ptq_arg(args, "all") != NULL};
    enum ptq_format format;
    char *path = (char *)args->positional[0];
    int code = ptq_format_parse(ptq_arg(args, "format"), &format, st);
    if (code)
        return code;
    ptq_arena_init(&in.arena, (size_t)1 << 30);
    if (!strcmp(path, "demo"))
        code = ptq_data_path("datasets/demo.h5", &in.arena, &path, st);
    if (!code && !(in.table = ptq_table_new(4, columns, numeric)))
        code = ptq_status_nomem(st, "a table", 0);
    if (!code)
        code = is_container(path) ? inspect_container(path, &in, format, st)
                                  : inspect_tensors(path, &in, format, st);
    ptq_table_free(in.table);
    ptq_arena_clear(&in.arena);
    return code;
}

static const struct ptq_flag flags[] = {
    {"all", 'a', PTQ_FLAG_SWITCH, NULL, "every tensor of a checkpoint [the first 40, as text]",
     NULL},
    {"format", 0, PTQ_FLAG_TEXT, "F", "text, md, csv or jsonl [text]", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_inspect = {
    .name = "inspect",
    .title = "Show what a checkpoint or container holds: model, tokenizer, tensors",
    .usage = "SOURCE [--all] [--format F]",
    .details =
        "SOURCE: a Hugging Face folder, a .safetensors or pytorch_model.bin file, a .gguf, a "
        "llama2.c checkpoint, synth:NAME,\n"
        "an HDF5 container or `demo`. Shown are format, architecture, settings, stored types and "
        "whether they are a quantization\n"
        "grid already, the tokenizer, and every tensor under the name it has in the file. Of a "
        "container every dataset is shown,\n"
        "statistics and stored forms too; its contract is datasets/SCHEMA.md. Weights are not "
        "read.\n"
        "  ptq inspect ~/llama-7b.gguf --all",
    .flags = flags,
    .min_positional = 1,
    .max_positional = 1,
    .run = run,
};
