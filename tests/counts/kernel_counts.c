/* kernel_counts.c: runs kernels on fixed data under callgrind, which counts the instructions of
 * `counted` and of what it calls; the rest is not counted. Data are those of `ptq bench`.
 * usage: kernel_counts KERNEL SHAPE [KERNEL SHAPE ...]
 * SHAPE is words: int4 or table4 (bits), g128 (columns a group; without: whole row), 64x1024 (rows
 * x columns), n8 (tokens). Of packing one panel is counted, of what goes by rows one row. Exit code
 * 77: this processor lacks what a kernel needs. */
#include "kernels/bench_ops.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKIPPED = 77, FAULT = 2 };

__attribute__((noinline, noclone)) static void counted(const struct ptq_bench_case *c)
{
    const struct ptq_bench_spec *s = &c->spec;
    switch (s->op) {
    case PTQ_BENCH_MATMUL_I8:
    case PTQ_BENCH_MATMUL_F32:
        c->kernel->run.matmul(c->weight, &c->acts, 0, c->weight->panels, c->y, s->rows);
        break;
    case PTQ_BENCH_PACK:
        c->kernel->run.pack(c->weight, (const uint16_t *)c->from, s->cols, 0, (uint8_t *)c->to);
        break;
    case PTQ_BENCH_UNPACK:
        c->kernel->run.unpack(c->weight, (const uint8_t *)c->from, 0, (uint16_t *)c->to, s->cols);
        break;
    case PTQ_BENCH_BITS_PACK:
        c->kernel->run.bits_pack((const uint8_t *)c->from, s->cols, s->bits, (uint8_t *)c->to);
        break;
    case PTQ_BENCH_BITS_UNPACK:
        c->kernel->run.bits_unpack((const uint8_t *)c->from, s->cols, s->bits, (uint8_t *)c->to);
        break;
    case PTQ_BENCH_ROWQ_MINMAX:
    case PTQ_BENCH_ROWQ_MSE:
        c->kernel->run.rowq(&(struct ptq_rowq){
            .w = (const float *)c->from, .n = s->cols, .bits = s->bits, .codes = (uint8_t *)c->to});
        break;
    case PTQ_BENCH_ACTQ:
        c->kernel->run.actq(&(struct ptq_actq){.x = (const float *)c->from,
                                               .n = s->cols,
                                               .pcols = c->weight->pcols,
                                               .group = c->weight->group,
                                               .codes = (int8_t *)c->to,
                                               .sums = (int32_t *)(c->to + c->weight->pcols)});
        break;
    case PTQ_BENCH_HADAMARD:
        c->kernel->run.hadamard((float *)c->from, s->cols & -s->cols,
                                s->cols / (s->cols & -s->cols));
        break;
    default: break;
    }
}

static bool ends_with(const char *name, const char *begin, const char *end)
{
    const size_t n = strlen(begin);
    return !strncmp(name, begin, n) && !strcmp(name + n, end);
}

/* "matmul_i8_avx2": the operation, and the flags under which that kernel is the best. */
static bool read_kernel(const char *name, struct ptq_bench_spec *s)
{
    for (int op = 0; op < PTQ_N_BENCH_OPS; op++) {
        s->op = (enum ptq_bench_op)op;
        s->flags = PTQ_CPU_AVX2;
        if (op != PTQ_BENCH_VQ && ends_with(name, ptq_bench_ops[op].name, "_avx2"))
            return true;
        s->flags = 0;
        if (op != PTQ_BENCH_VQ && ends_with(name, ptq_bench_ops[op].name, "_scalar"))
            return true;
    }
    return false;
}

static bool read_word(const char *word, struct ptq_bench_spec *s)
{
    long long a, b;
    char rest;
    if (sscanf(word, "int%lld%c", &a, &rest) == 1 || sscanf(word, "table%lld%c", &a, &rest) == 1) {
        s->bits = (int)a;
        s->table = *word == 't';
    } else if (sscanf(word, "g%lld%c", &a, &rest) == 1)
        s->group = a;
    else if (sscanf(word, "n%lld%c", &a, &rest) == 1)
        s->batch = a;
    else if (sscanf(word, "%lldx%lld%c", &a, &b, &rest) == 2) {
        s->rows = a;
        s->cols = b;
    } else
        return false;
    return true;
}

static bool read_shape(const char *shape, struct ptq_bench_spec *s)
{
    char words[128], *rest = NULL;
    s->group = -1;
    s->batch = 1;
    s->bits = 4;
    if (strlen(shape) >= sizeof words)
        return false;
    strcpy(words, shape);
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        if (!read_word(word, s))
            return false;
    const bool bits = (s->bits >= 2 && s->bits <= 4) || (s->bits == 8 && !s->table);
    return s->rows > 0 && s->cols > 0 && s->batch > 0 && bits;
}

static int run(const char *kernel, const char *shape)
{
    struct ptq_bench_spec spec = {0};
    struct ptq_bench bench = {.most_bytes = 1 << 30}; /* no threads, one copy */
    struct ptq_bench_case c;
    struct ptq_status st = {0};
    if (!read_kernel(kernel, &spec) || !read_shape(shape, &spec)) {
        fprintf(stderr, "%s, %s: no such kernel or shape\n", kernel, shape);
        return FAULT;
    }
    if (spec.flags & ~ptq_cpu_flags(PTQ_ISA_AVX512)) {
        fprintf(stderr, "this processor lacks what %s needs\n", kernel);
        return SKIPPED;
    }
    int code = ptq_bench_case_open(&c, &bench, &spec, &st);
    if (code)
        fprintf(stderr, "%s, %s: %s\n", kernel, shape, st.text);
    else if (strcmp(ptq_bench_kernel_name(c.kernel), kernel)) {
        fprintf(stderr, "%s, %s: %s serves it\n", kernel, shape, ptq_bench_kernel_name(c.kernel));
        code = FAULT;
    } else
        counted(&c);
    ptq_bench_case_close(&c);
    return code ? FAULT : 0;
}

int main(int n, char **arg)
{
    int code = 0;
    for (int i = 1; i + 1 < n && !code; i += 2)
        code = run(arg[i], arg[i + 1]);
    if (n % 2 == 0)
        fprintf(stderr, "usage: kernel_counts KERNEL SHAPE [KERNEL SHAPE ...]\n");
    return n % 2 == 0 ? FAULT : code;
}
