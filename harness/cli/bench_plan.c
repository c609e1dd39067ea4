#include "cli/bench.h"
#include "core/paths.h"
#include "core/words.h"
#include "datasets/tensors.h"
#include "sweep/sweep.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 4096, MOST_BATCH = 65536, MOST_ROWS = 1 << 20 };

/* ---- shapes ---- */

static int parse_shape(const char *word, struct ptq_bench_shape *s, struct ptq_status *st)
{
    char text[64];
    const char *x = strchr(word, 'x');
    if (!x || strlen(word) >= sizeof text)
        return ptq_status_set(st, PTQ_ERR_USAGE, "--shape %.40s: give ROWSxCOLS, 4096x11008", word);
    snprintf(text, sizeof text, "%.*s", (int)(x - word), word);
    const int code = ptq_parse_i64(text, "--shape: rows", 1, MOST_ROWS, &s->rows, st);
    return code ? code : ptq_parse_i64(x + 1, "--shape: columns", 1, PTQ_MAX_PCOLS, &s->cols, st);
}

static int parse_shapes(const char *text, struct ptq_arena *a, struct ptq_bench_shape **out,
                        int64_t *n, struct ptq_status *st)
{
    char **word;
    int code = ptq_split(text, ',', "--shape", a, &word, n, st);
    if (!code && *n == 0)
        code = ptq_status_set(st, PTQ_ERR_USAGE, "--shape is empty: give ROWSxCOLS, 4096x11008");
    *out = code ? NULL : ptq_arena_alloc(a, st, *n, sizeof **out);
    for (int64_t i = 0; !code && *out && i < *n; i++)
        code = parse_shape(word[i], &(*out)[i], st);
    return code ? code : *out ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* "model.layers.0.mlp.up_proj.weight", "/model/blk.0.up". */
static bool of_first_block(const struct ptq_tensor *t)
{
    return t->rank == 2 && strstr(t->name, ".0.") && t->dim[0] >= PTQ_PANEL_ROWS &&
           t->dim[1] >= PTQ_PANEL_COLS && t->dim[1] <= PTQ_MAX_PCOLS && t->dim[0] <= MOST_ROWS;
}

static void add_shape(const struct ptq_tensor *t, struct ptq_bench_shape *s, int64_t *n)
{
    for (int64_t i = 0; i < *n; i++)
        if (s[i].rows == t->dim[0] && s[i].cols == t->dim[1])
            return;
    s[(*n)++] = (struct ptq_bench_shape){t->dim[0], t->dim[1]};
}

/* What a configuration names, or its stand-in where that is not here. */
static int configured(const char *path, struct ptq_arena *a, const char **source,
                      struct ptq_status *st)
{
    struct ptq_config c;
    struct ptq_tensors *t = NULL;
    struct ptq_status own = {0};
    int code = ptq_config_read(path, &(struct ptq_config_override){0}, a, &c, st);
    if (code)
        return code;
    *source = c.model.source;
    if (c.model.stand_in && ptq_tensors_open(&t, *source, &own))
        *source = c.model.stand_in;
    ptq_tensors_close(t);
    return PTQ_OK;
}

/* A bare word is one of the shapes that need no checkpoint, unless a file is called so. */
static int source_of(const char *model, struct ptq_arena *a, const char **source,
                     struct ptq_status *st)
{
    struct ptq_tensors *t = NULL;
    struct ptq_status own = {0};
    char *path;
    *source = model;
    if (ptq_ends_with(model, ".ini"))
        return configured(model, a, source, st);
    if (!strcmp(model, "demo")) {
        const int code = ptq_data_path("datasets/demo.h5", a, &path, st);
        *source = code ? model : path;
        return code;
    }
    const char *synth = ptq_arena_printf(a, st, "synth:%s", model);
    if (!synth)
        return PTQ_ERR_MEMORY;
    if (!strpbrk(model, ":/.") && ptq_tensors_open(&t, synth, &own) == PTQ_OK)
        *source = synth;
    ptq_tensors_close(t);
    return PTQ_OK;
}

int ptq_bench_model_shapes(const char *model, struct ptq_arena *a, struct ptq_bench_shape **out,
                           int64_t *n, struct ptq_status *st)
{
    const char *source;
    struct ptq_tensors *t = NULL;
    int code = source_of(model, a, &source, st);
    code = code ? code : ptq_tensors_open(&t, source, st);
    *n = 0;
    *out = code ? NULL : ptq_arena_alloc(a, st, t->n, sizeof **out);
    for (int64_t i = 0; *out && i < t->n; i++)
        if (of_first_block(&t->tensor[i]))
            add_shape(&t->tensor[i], *out, n);
    if (*out && *n == 0)
        code = ptq_status_set(st, PTQ_ERR_USAGE, "%s: no matrices of a first block; give --shape",
                              source);
    ptq_tensors_close(t);
    return code ? code : *out ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- instruction sets ---- */

static const struct ptq_bench_level levels[] = {
    {"scalar", 0},
    {"avx2", PTQ_CPU_AVX2},
    {"avxvnni", PTQ_CPU_AVX2 | PTQ_CPU_AVX_VNNI},
    {"avx512",
     PTQ_CPU_AVX2 | PTQ_CPU_AVX_VNNI | PTQ_CPU_AVX512 | PTQ_CPU_AVX512_VNNI | PTQ_CPU_AVX512_VBMI},
};
enum { N_LEVELS = sizeof levels / sizeof *levels };

/* What a level adds to the one before decides whether this processor has it. */
static bool has_level(int i, unsigned flags)
{
    static const unsigned mark[N_LEVELS] = {0, PTQ_CPU_AVX2, PTQ_CPU_AVX_VNNI, PTQ_CPU_AVX512};
    return !(mark[i] & ~flags);
}

static void add_level(struct ptq_bench_plan *p, int i, unsigned flags)
{
    p->level[p->n_levels++] = (struct ptq_bench_level){levels[i].name, levels[i].flags & flags};
}

static int plan_levels(const struct ptq_args *args, struct ptq_bench_plan *p, struct ptq_status *st)
{
    static const char *const words[] = {"best", "scalar", "avx2", "avxvnni", "avx512", "all", NULL};
    const char *word = ptq_arg(args, "isa");
    const unsigned flags = ptq_cpu_flags(args->machine->isa);
    int top = 0, i = 0;
    for (int l = 0; l < N_LEVELS; l++)
        top = has_level(l, flags) ? l : top;
    if (!word || !strcmp(word, "best"))
        return add_level(p, top, flags), PTQ_OK;
    if (!strcmp(word, "all")) {
        for (; i < N_LEVELS; i++)
            if (has_level(i, flags))
                add_level(p, i, flags);
        return PTQ_OK;
    }
    while (i < N_LEVELS && strcmp(word, levels[i].name))
        i++;
    if (i == N_LEVELS)
        return ptq_unknown_word("instruction set", word, words, st);
    if (!has_level(i, flags))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "--isa %s: this processor (or PTQ_CPU) lacks it; its best is %s",
                              word, levels[top].name);
    return add_level(p, i, flags), PTQ_OK;
}

/* ---- rows ---- */

struct lists { /* what the options say */
    struct ptq_bench_shape *shape;
    int64_t n_shapes, *bits, n_bits, *batch, n_batches, group;
    bool op[PTQ_N_BENCH_OPS];
    bool table;
};

static int parse_ops(const char *text, struct ptq_arena *a, struct lists *l, struct ptq_status *st)
{
    const char *names[PTQ_N_BENCH_OPS + 1] = {0};
    char **word;
    int64_t n;
    int code = ptq_split(text, ',', "--op", a, &word, &n, st);
    for (int o = 0; o < PTQ_N_BENCH_OPS; o++)
        names[o] = ptq_bench_ops[o].name;
    for (int64_t i = 0; !code && i < n; i++) {
        int o = 0;
        while (o < PTQ_N_BENCH_OPS && strcmp(word[i], names[o]))
            o++;
        if (o == PTQ_N_BENCH_OPS)
            return ptq_unknown_word("operation", word[i], names, st);
        l->op[o] = true;
    }
    if (!code && n == 0)
        code = ptq_status_set(st, PTQ_ERR_USAGE, "--op is empty");
    return code;
}

static int parse_bits(const char *text, struct ptq_arena *a, struct lists *l, struct ptq_status *st)
{
    int code = ptq_list_i64(text, "--bits", a, &l->bits, &l->n_bits, st);
    for (int64_t i = 0; !code && i < l->n_bits; i++)
        if (l->bits[i] != 2 && l->bits[i] != 3 && l->bits[i] != 4 && l->bits[i] != 8)
            return ptq_status_set(st, PTQ_ERR_USAGE, "--bits %lld: give 2, 3, 4 or 8",
                                  (long long)l->bits[i]);
    return code;
}

static int parse_batch(const char *text, struct ptq_arena *a, struct lists *l,
                       struct ptq_status *st)
{
    int code = ptq_list_i64(text, "--batch", a, &l->batch, &l->n_batches, st);
    for (int64_t i = 0; !code && i < l->n_batches; i++)
        if (l->batch[i] < 1 || l->batch[i] > MOST_BATCH)
            return ptq_status_set(st, PTQ_ERR_USAGE, "--batch %lld: give 1 to %d tokens",
                                  (long long)l->batch[i], MOST_BATCH);
    return code;
}

static int parse_group(const struct ptq_args *args, int64_t *group, struct ptq_status *st)
{
    const int code = ptq_arg_i64(args, "group", -1, PTQ_MAX_PCOLS, group, st);
    if (!code && *group != -1 && (*group == 0 || *group % PTQ_PANEL_COLS))
        return ptq_status_set(st, PTQ_ERR_USAGE, "--group %lld: give a multiple of %d, or -1",
                              (long long)*group, PTQ_PANEL_COLS);
    return code;
}

static int read_lists(const struct ptq_args *args, struct ptq_arena *a, struct lists *l,
                      struct ptq_status *st)
{
    const char *shape = ptq_arg(args, "shape"), *model = ptq_arg(args, "model"),
               *ops = ptq_arg(args, "op"), *bits = ptq_arg(args, "bits"),
               *batch = ptq_arg(args, "batch");
    if (shape && model)
        return ptq_status_set(st, PTQ_ERR_USAGE, "--shape and --model: give one of them");
    int code = model ? ptq_bench_model_shapes(model, a, &l->shape, &l->n_shapes, st)
                     : parse_shapes(shape ? shape : "4096x11008", a, &l->shape, &l->n_shapes, st);
    l->op[PTQ_BENCH_MATMUL_I8] = l->op[PTQ_BENCH_MATMUL_F32] = !ops;
    l->table = ptq_arg(args, "table");
    l->group = 128;
    code = code || !ops ? code : parse_ops(ops, a, l, st);
    code = code ? code : parse_bits(bits ? bits : "4", a, l, st);
    code = code ? code : parse_batch(batch ? batch : "1", a, l, st);
    code = code ? code : parse_group(args, &l->group, st);
    if (!code && l->table && bits)
        for (int64_t i = 0; i < l->n_bits; i++)
            if (l->bits[i] == 8)
                return ptq_status_set(st, PTQ_ERR_USAGE, "--table: codes of 2, 3 or 4 bits");
    return code;
}

static int add(struct ptq_bench_plan *p, struct ptq_bench_spec s, struct ptq_status *st)
{
    if (p->n == MAX_ROWS)
        return ptq_status_set(st, PTQ_ERR_USAGE, "more than %d rows: ask for less", MAX_ROWS);
    p->spec[p->n++] = s;
    return PTQ_OK;
}

static int add_asked(struct ptq_bench_plan *p, const struct lists *l, struct ptq_bench_shape shape,
                     struct ptq_status *st)
{
    int code = PTQ_OK;
    for (int o = 0; o < PTQ_N_BENCH_OPS; o++) {
        const struct ptq_bench_op_info *info = &ptq_bench_ops[o];
        const int64_t n_bits = info->bits ? l->n_bits : 1,
                      n_batches = info->batch ? l->n_batches : 1;
        for (int64_t b = 0; l->op[o] && b < n_bits; b++)
            for (int64_t k = 0; !code && k < n_batches; k++)
                code = add(p,
                           (struct ptq_bench_spec){.op = (enum ptq_bench_op)o,
                                                   .rows = shape.rows,
                                                   .cols = shape.cols,
                                                   .batch = info->batch ? l->batch[k] : 1,
                                                   .group = info->group ? l->group : -1,
                                                   .bits = info->bits ? (int)l->bits[b] : 8,
                                                   .table = info->batch && l->table},
                           st);
    }
    return code;
}

/* Without a word about it: the formats at one token, batches of the commonest, and the rest. */
static int add_default(struct ptq_bench_plan *p, int64_t group, struct ptq_bench_shape shape,
                       struct ptq_status *st)
{
    static const struct {
        enum ptq_bench_op op;
        int bits, batch;
        bool table;
    } rows[] = {
        {PTQ_BENCH_MATMUL_I8, 4, 1},
        {PTQ_BENCH_MATMUL_F32, 4, 1},
        {PTQ_BENCH_MATMUL_I8, 3, 1},
        {PTQ_BENCH_MATMUL_F32, 3, 1},
        {PTQ_BENCH_MATMUL_I8, 2, 1},
        {PTQ_BENCH_MATMUL_F32, 2, 1},
        {PTQ_BENCH_MATMUL_I8, 4, 1, true},
        {PTQ_BENCH_MATMUL_F32, 4, 1, true},
        {PTQ_BENCH_VQ, 2, 1},
        {PTQ_BENCH_MATMUL_I8, 4, 8},
        {PTQ_BENCH_MATMUL_I8, 4, 24},
        {PTQ_BENCH_MATMUL_I8, 4, 128},
        {PTQ_BENCH_MATMUL_I8, 4, 512},
        {PTQ_BENCH_MATMUL_F32, 4, 8},
        {PTQ_BENCH_MATMUL_F32, 4, 128},
        {PTQ_BENCH_ROWQ_MINMAX, 4, 1},
        {PTQ_BENCH_ROWQ_MSE, 4, 1},
        {PTQ_BENCH_PACK, 4, 1},
        {PTQ_BENCH_UNPACK, 4, 1},
        {PTQ_BENCH_BITS_PACK, 4, 1},
        {PTQ_BENCH_BITS_UNPACK, 4, 1},
        {PTQ_BENCH_ACTQ, 8, 1},
        {PTQ_BENCH_HADAMARD, 8, 1},
    };
    int code = PTQ_OK;
    for (size_t i = 0; !code && i < sizeof rows / sizeof *rows; i++)
        code = add(p,
                   (struct ptq_bench_spec){.op = rows[i].op,
                                           .rows = shape.rows,
                                           .cols = shape.cols,
                                           .batch = rows[i].batch,
                                           .group = ptq_bench_ops[rows[i].op].group ? group : -1,
                                           .bits = rows[i].bits,
                                           .table = rows[i].table},
                   st);
    return code;
}

int ptq_bench_plan(const struct ptq_args *args, struct ptq_arena *a, struct ptq_bench_plan *p,
                   struct ptq_status *st)
{
    struct lists l = {0};
    const bool asked = ptq_arg(args, "op") || ptq_arg(args, "bits") || ptq_arg(args, "batch") ||
                       ptq_arg(args, "table");
    *p = (struct ptq_bench_plan){0};
    int code = plan_levels(args, p, st);
    code = code ? code : read_lists(args, a, &l, st);
    p->spec = code ? NULL : ptq_arena_alloc(a, st, MAX_ROWS, sizeof *p->spec);
    if (!code && !p->spec)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; !code && i < l.n_shapes; i++)
        code = asked ? add_asked(p, &l, l.shape[i], st) : add_default(p, l.group, l.shape[i], st);
    return code;
}
