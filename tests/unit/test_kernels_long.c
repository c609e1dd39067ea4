/* Products with int8 activations whose rows are too long for one pass of a kernel over them, and
 * the largest dots the contract allows: every kernel against the scalar one, bit for bit. */
#include "testlib.h"
#include "core/rng.h"
#include "kernels/kernel.h"

struct form {
    enum ptq_kcode code;
    int bits;
};
static const struct form forms[] = {{PTQ_KCODE_INT, 2},  {PTQ_KCODE_INT, 3},   {PTQ_KCODE_INT, 4},
                                    {PTQ_KCODE_INT, 8},  {PTQ_KCODE_TABLE, 2}, {PTQ_KCODE_TABLE, 3},
                                    {PTQ_KCODE_TABLE, 4}};

struct dims {
    int64_t rows, cols, group, tokens; /* cols a multiple of 16 */
    int x;                             /* all of them; 0: random, and so are the codes */
    int codes, zero;                   /* bytes of codes */
};
struct product {
    struct ptq_kweight w;
    struct ptq_kacts x;
};

static void *make(int64_t n, size_t size)
{
    void *at = aligned_alloc(64, ((size_t)n * size + 63) / 64 * 64);
    assert_non_null(at);
    return at;
}

static uint8_t draw8(uint64_t stream, int64_t i)
{
    return (uint8_t)ptq_hash_u64(stream, (uint64_t)i);
}

static void make_weight(struct ptq_kweight *w, const struct form *f, const struct dims *d)
{
    *w =
        (struct ptq_kweight){.rows = d->rows, .cols = d->cols, .pcols = d->cols, .group = d->group};
    w->code = f->code;
    w->bits = f->bits;
    w->panels = (w->rows + PTQ_PANEL_ROWS - 1) / PTQ_PANEL_ROWS;
    w->groups = (w->cols + w->group - 1) / w->group;
    w->panel_bytes = w->pcols * PTQ_PANEL_ROWS * f->bits / 8;
    w->zero_const = d->zero;
    w->table_cols = w->pcols;
    const int64_t n = w->panels * w->groups * PTQ_PANEL_ROWS, bytes = w->panels * w->panel_bytes;
    uint8_t *codes = make(bytes, 1), *table8 = make(16, 1);
    float *scale = make(n, sizeof *scale), *step = make(1, sizeof *step);
    for (int64_t i = 0; i < bytes; i++)
        codes[i] = (uint8_t)(d->x ? d->codes : draw8(1, i));
    for (int64_t i = 0; i < n; i++)
        scale[i] = (float)(1 + draw8(2, i)) / 1024;
    for (int64_t i = 0; i < 16; i++)
        table8[i] = (uint8_t)(d->x ? d->codes : draw8(3, i));
    *step = 0.37f;
    w->codes = codes;
    w->scale32 = scale;
    w->table8 = table8;
    w->table_step = w->table_min = step;
}

static void make_acts(struct ptq_kacts *x, const struct ptq_kweight *w, const struct dims *d)
{
    *x = (struct ptq_kacts){.n = d->tokens, .ld = (w->pcols + 63) / 64 * 64};
    int8_t *i8 = make(x->n * x->ld, 1);
    int32_t *sum = make(x->n * w->groups, sizeof *sum);
    float *scale = make(x->n, sizeof *scale);
    memset(i8, 0, (size_t)(x->n * x->ld));
    memset(sum, 0, (size_t)(x->n * w->groups) * sizeof *sum);
    for (int64_t t = 0; t < x->n; t++) {
        scale[t] = 0.01f * (float)(1 + t);
        for (int64_t k = 0; k < w->cols; k++) {
            const int v = d->x ? d->x : draw8(4, t * w->cols + k) % 255 - 127;
            i8[t * x->ld + k] = (int8_t)v;
            sum[t * w->groups + k / w->group] += v;
        }
    }
    x->i8 = i8;
    x->sum8 = sum;
    x->scale = scale;
}

static void release(struct product *p)
{
    const void *pieces[] = {p->w.codes, p->w.scale32, p->w.table8, p->w.table_step,
                            p->x.i8,    p->x.sum8,    p->x.scale};
    for (int64_t i = 0; i < LENGTH(pieces); i++)
        free((void *)(uintptr_t)pieces[i]);
}

static float *run(const struct ptq_kernel *k, const struct product *p)
{
    const int64_t n = p->x.n * p->w.rows;
    float *y = make(n, sizeof *y);
    memset(y, 0xA5, (size_t)n * sizeof *y);
    k->run.matmul(&p->w, &p->x, 0, p->w.panels, y, p->w.rows);
    return y;
}

static void check(const struct form *f, const struct dims *d)
{
    const unsigned flags = ptq_cpu_flags(PTQ_ISA_AVX512);
    struct product p;
    make_weight(&p.w, f, d);
    make_acts(&p.x, &p.w, d);
    float *want = run(ptq_kernel_best(PTQ_KOP_MATMUL_I8, 0, &p.w, p.x.n), &p);
    for (int i = 0; i < ptq_n_kernels; i++) {
        const struct ptq_kernel *k = ptq_kernels[i];
        if (k->op != PTQ_KOP_MATMUL_I8 || !k->needs || (k->needs & ~flags) ||
            (k->serves && !k->serves(&p.w, p.x.n)))
            continue;
        float *got = run(k, &p);
        if (memcmp(got, want, (size_t)(p.x.n * p.w.rows) * sizeof *got) != 0)
            fail_msg("%s: %d bits, %s, %lld columns, groups of %lld, %lld tokens",
                     ptq_kernel_name(i), f->bits, f->code == PTQ_KCODE_INT ? "integers" : "table",
                     (long long)d->cols, (long long)d->group, (long long)d->tokens);
        free(got);
    }
    free(want);
    release(&p);
}

static void check_all(const struct dims *d)
{
    for (int64_t i = 0; i < LENGTH(forms); i++)
        check(&forms[i], d);
}

/* 40 tokens of 24,000 columns are 960,000 bytes of x: more than a second-level cache. */
static void test_long_rows(void **state)
{
    (void)state;
    check_all(&(struct dims){.rows = 33, .cols = 24000, .group = 128, .tokens = 40, .zero = 7});
    check_all(&(struct dims){.rows = 5, .cols = 40000, .group = 16384, .tokens = 26});
}

/* 255 * 127 * 65,536 = 2,122,383,360 < 2^31: of codes, or of zeros. */
static void test_largest_dots(void **state)
{
    (void)state;
    struct dims d = {.rows = 3, .cols = PTQ_MAX_PCOLS, .group = PTQ_MAX_PCOLS};
    for (int i = 0; i < 8; i++) {
        d.x = i & 1 ? 127 : -127;
        d.codes = i & 2 ? 255 : 0;
        d.zero = 255 - d.codes;
        d.tokens = i & 4 ? 13 : 1;
        check_all(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_long_rows),
                                       cmocka_unit_test(test_largest_dots)};
    return cmocka_run_group_tests_name("kernels_long", tests, NULL, NULL);
}
