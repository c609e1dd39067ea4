/* cmd_inspect.c: `ptq inspect FILE`: what a container holds: model, statistics, bare layers,
 * results. */
#include "cli/cli.h"
#include "core/paths.h"
#include "core/words.h"
#include "datasets/h5.h"
#include "datasets/llama2c.h"
#include <stdio.h>
#include <string.h>

struct inspection {
    struct ptq_h5 *h5;
    struct ptq_arena arena;
    struct ptq_table *table;
    int depth, max_depth;
    int64_t n_objects;
};
enum { MAX_OBJECTS = 100000 };

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

static void print_model(struct inspection *in, FILE *f)
{
    static const char *const numbers[] = {"d_model",  "n_blocks", "n_heads",    "n_kv_heads",
                                          "head_dim", "d_ff",     "vocab_size", "max_context"};
    char *text = NULL;
    struct ptq_status quiet = {0};
    if (!ptq_h5_exists(in->h5, "/model"))
        return;
    fprintf(f, "model:");
    if (ptq_h5_get_text(in->h5, "/model", "architecture", &in->arena, &text, &quiet) == PTQ_OK)
        fprintf(f, " %s", text);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int64_t v;
        if (ptq_h5_get_i64(in->h5, "/model", numbers[i], &v, &quiet) == PTQ_OK)
            fprintf(f, "  %s %lld", numbers[i], (long long)v);
    }
    fputc('\n', f);
}

/* ---- llama2.c checkpoints: their tensors under the names that the container gives them */

static bool is_checkpoint(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && !strcmp(path + n - 4, ".bin");
}

/* A tensor that the file lacks (a tied head) has no row. */
static int add_tensor(struct ptq_table *t, const struct ptq_llama2c *c, const char *name)
{
    int64_t dim[2];
    char shape[64], elements[32];
    if (ptq_llama2c_find(c, name, dim) != PTQ_OK)
        return PTQ_OK;
    if (dim[1])
        snprintf(shape, sizeof shape, "%lld x %lld", (long long)dim[0], (long long)dim[1]);
    else
        snprintf(shape, sizeof shape, "%lld", (long long)dim[0]);
    snprintf(elements, sizeof elements, "%lld", (long long)(dim[0] * (dim[1] ? dim[1] : 1)));
    const char *row[] = {name, "f32", shape, elements};
    return ptq_table_row(t, row);
}

static int list_tensors(struct ptq_table *t, const struct ptq_llama2c *c)
{
    static const char *const ends[] = {"tok_embd", "output_norm", "output"};
    static const char *const parts[] = {"attn_norm", "attn_q",   "attn_k", "attn_v",  "attn_o",
                                        "ffn_norm",  "ffn_gate", "ffn_up", "ffn_down"};
    int code = add_tensor(t, c, ends[0]);
    for (int64_t b = 0; b < ptq_llama2c_head(c)->n_layers; b++)
        for (size_t i = 0; i < sizeof parts / sizeof *parts && !code; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%lld.%s", (long long)b, parts[i]);
            code = add_tensor(t, c, name);
        }
    for (size_t i = 1; i < sizeof ends / sizeof *ends && !code; i++)
        code = add_tensor(t, c, ends[i]);
    return code;
}

static int inspect_checkpoint(const char *path, struct ptq_table *t, enum ptq_format format,
                              struct ptq_status *st)
{
    struct ptq_llama2c *c = NULL;
    int code = ptq_llama2c_open(&c, path, st);
    if (!code && list_tensors(t, c))
        code = ptq_status_nomem(st, "a table", 0);
    if (!code) {
        const struct ptq_llama2c_head *h = ptq_llama2c_head(c);
        if (format == PTQ_TEXT)
            printf("model: llama2.c checkpoint  d_model %lld  n_blocks %lld  n_heads %lld  "
                   "n_kv_heads %lld  d_ff %lld  vocab_size %lld  max_context %lld\n",
                   (long long)h->dim, (long long)h->n_layers, (long long)h->n_heads,
                   (long long)h->n_kv_heads, (long long)h->hidden, (long long)h->vocab_size,
                   (long long)h->seq_len);
        ptq_table_print(t, format, stdout);
    }
    ptq_llama2c_close(c);
    return code;
}

static int inspect_container(const char *path, struct inspection *in, enum ptq_format format,
                             struct ptq_status *st)
{
    int code = ptq_h5_open(&in->h5, path, PTQ_H5_READ, st);
    if (!code)
        code = walk(in, "/", 0, st);
    if (!code) {
        if (format == PTQ_TEXT)
            print_model(in, stdout);
        ptq_table_print(in->table, format, stdout);
    }
    ptq_h5_close(in->h5, NULL);
    return code;
}

static int run(const struct ptq_args *args, struct ptq_status *st)
{
    static const char *const columns[] = {"object", "type", "shape", "elements"};
    static const bool numeric[] = {false, false, false, true};
    struct inspection in = {.max_depth = 8};
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
        code = is_checkpoint(path) ? inspect_checkpoint(path, in.table, format, st)
                                   : inspect_container(path, &in, format, st);
    ptq_table_free(in.table);
    ptq_arena_clear(&in.arena);
    return code;
}

static const struct ptq_flag flags[] = {
    {"format", 0, PTQ_FLAG_TEXT, "F", "text, md, csv or jsonl [text]", NULL},
    {NULL},
};
const struct ptq_verb ptq_verb_inspect = {
    .name = "inspect",
    .title = "Show what a container holds: model, statistics, layers, stored forms",
    .usage = "FILE [--format F]",
    .details = "Every dataset of an HDF5 container with its type and shape. FILE may be `demo`. "
               "The contract of a container is\n"
               "datasets/SCHEMA.md.",
    .flags = flags,
    .min_positional = 1,
    .max_positional = 1,
    .run = run,
};
