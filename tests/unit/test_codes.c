/* Kernels that move codes and transform activations, against what is known without them: the packed
 * form of quant/, codes there and back, transforms of unit vectors, quotients written out. */
#include "quant_lib.h"
#include "kernels/kernel.h"

typedef void check_fn(struct fixture *, const struct ptq_kernel *);

/* Every kernel of an operation that this processor runs. */
static void each(struct fixture *f, enum ptq_kop op, check_fn *check)
{
    const unsigned flags = ptq_cpu_flags(PTQ_ISA_AVX512);
    for (int i = 0; i < ptq_n_kernels; i++)
        if (ptq_kernels[i]->op == op && !(ptq_kernels[i]->needs & ~flags))
            check(f, ptq_kernels[i]);
}

static void *take(struct fixture *f, int64_t n, size_t size)
{
    void *at = ptq_arena_alloc(&f->arena, &f->st, n, size);
    assert_non_null(at);
    return at;
}

static uint32_t draw(uint64_t i, uint32_t below)
{
    return (uint32_t)(ptq_uniform(31, i) * below);
}

/* ---- bit streams: the codes of a form without side arrays are all of its packed form ---- */

enum { STREAM_ROWS = 7, STREAM_COLS = 83 };

static void packed_form(struct fixture *f, int bits, uint8_t *fields, struct ptq_packed *out)
{
    enum { N = STREAM_ROWS * STREAM_COLS };
    uint16_t *codes = take(f, N, sizeof *codes);
    float *scale = take(f, 1, sizeof *scale);
    *scale = 1;
    for (int64_t i = 0; i < N; i++)
        codes[i] = fields[i] = (uint8_t)draw((uint64_t)i, 1U << bits);
    const struct ptq_quant q = {
        .rows = STREAM_ROWS,
        .cols = STREAM_COLS,
        .n_parts = 1,
        .part[0] = {.kind = PTQ_PART_UNIFORM,
                    .bits = bits,
                    .group_cols = STREAM_COLS,
                    .codes = codes,
                    .scale = {.fmt = PTQ_FMT_F32, .n = 1, .at = scale}},
    };
    assert_ok(ptq_quant_pack(&q, &f->arena, out, &f->st), &f->st);
}

static void bits_pack(struct fixture *f, const struct ptq_kernel *k)
{
    enum { N = STREAM_ROWS * STREAM_COLS };
    for (int bits = 1; bits <= 8; bits++) {
        uint8_t fields[N], stream[N] = {0};
        struct ptq_packed form;
        packed_form(f, bits, fields, &form);
        const int64_t bytes = (N * bits + 7) / 8;
        assert_true(form.bytes == bytes + 4); /* and the scale */
        k->run.bits_pack(fields, N, bits, stream);
        assert_memory_equal(stream, form.at, (size_t)bytes);
    }
}

static void bits_unpack(struct fixture *f, const struct ptq_kernel *k)
{
    enum { N = STREAM_ROWS * STREAM_COLS };
    for (int bits = 1; bits <= 8; bits++) {
        uint8_t fields[N], got[N];
        struct ptq_packed form;
        packed_form(f, bits, fields, &form);
        k->run.bits_unpack(form.at, N, bits, got);
        assert_memory_equal(got, fields, N);
    }
}

/* ---- panels ---- */

enum { ROWS = 45, COLS = 301 };

static struct ptq_kweight shape_of(int bits)
{
    struct ptq_kweight w = {.rows = ROWS, .cols = COLS, .panels = 2, .pcols = 304, .bits = bits};
    w.panel_bytes = w.pcols / 16 * 64 * bits; /* all of 2, 3, 4, 8 bits: 304 is 19 units */
    return w;
}

/* Code of row 5 + 16 b of a panel at column 300, by the layout's words in kernel.h: step 75, which
 * is the fourth of unit 18 and the second of line 37 of 2 bits; lane 5, t = 0. */
static int code_at_300(int bits, int b, const uint8_t *p)
{
    const int byte = 4 * 5;
    switch (bits) {
    case 8: return p[64 * (2 * 75 + b) + byte];
    case 4: return p[64 * 75 + byte] >> 4 * b & 15;
    case 3:
        return (p[64 * (3 * 18 + 1) + byte] >> (4 + 2 * b) & 3) |
               (p[64 * (3 * 18 + 2) + byte] >> (6 + b) & 1) << 2;
    default: return p[64 * 37 + byte] >> (4 + 2 * b) & 3;
    }
}

static void panels(struct fixture *f, const struct ptq_kernel *k)
{
    static const int widths[] = {2, 3, 4, 8};
    for (int b = 0; b < LENGTH(widths); b++) {
        const struct ptq_kweight w = shape_of(widths[b]);
        uint16_t *codes = take(f, ROWS * COLS, sizeof *codes),
                 *back = take(f, ROWS * COLS, sizeof *back);
        uint8_t *stream = take(f, w.panels * w.panel_bytes, 1);
        for (int64_t i = 0; i < ROWS * COLS; i++)
            codes[i] = (uint16_t)draw((uint64_t)i, 1U << w.bits);
        for (int64_t p = 0; p < w.panels; p++)
            k->run.pack(&w, codes, COLS, p, stream + p * w.panel_bytes);
        assert_int_equal(code_at_300(w.bits, 0, stream), codes[5 * COLS + 300]);
        assert_int_equal(code_at_300(w.bits, 1, stream), codes[21 * COLS + 300]);
        assert_int_equal(code_at_300(w.bits, 0, stream + w.panel_bytes), codes[37 * COLS + 300]);
        const unsigned flags = k->isa == PTQ_ISA_SCALAR ? 0 : ptq_cpu_flags(k->isa);
        const struct ptq_kernel *unpack = ptq_kernel_best(PTQ_KOP_UNPACK, flags, NULL, 0);
        for (int64_t p = 0; p < w.panels; p++)
            unpack->run.unpack(&w, stream + p * w.panel_bytes, p, back, COLS);
        assert_memory_equal(back, codes, ROWS * COLS * sizeof *codes);
    }
}

/* ---- transforms ---- */

/* H e_j: +-1 by the parity of i & j; H H x = n x, exact for whole numbers this small. */
static void hadamard(struct fixture *f, const struct ptq_kernel *k)
{
    for (int64_t n = 1; n <= 1 << 15; n *= 2) {
        float *x = take(f, 2 * n, sizeof *x);
        const int64_t j = n * 5 / 7;
        x[j] = 1;
        x[n] = -2;
        k->run.hadamard(x, n, 2);
        for (int64_t i = 0; i < n; i++) {
            assert_true(x[i] == (__builtin_parityll((uint64_t)(i & j)) ? -1 : 1));
            assert_true(x[n + i] == -2);
        }
        for (int64_t i = 0; i < n; i++)
            x[i] = (float)draw((uint64_t)i, 17) - 8;
        k->run.hadamard(x, n, 1);
        k->run.hadamard(x, n, 1);
        for (int64_t i = 0; i < n; i++)
            assert_true(x[i] == (float)n * ((float)draw((uint64_t)i, 17) - 8));
    }
}

/* max 254: scale 2, so halves are seen: 3 -> 1.5 -> 2, 5 -> 2.5 -> 2, -1 -> -.5 -> -0. */
static void actq(struct fixture *f, const struct ptq_kernel *k)
{
    (void)f;
    const float x[20] = {254, 3, 5, -1, -254, [16] = 2, -7, 253};
    const int8_t want[32] = {127, 2, 2, 0, -127, [16] = 1, -4, 126};
    int8_t codes[32];
    int32_t sums[2];
    struct ptq_actq a = {.x = x, .n = 20, .pcols = 32, .group = 16, .codes = codes, .sums = sums};
    memset(codes, 77, sizeof codes);
    k->run.actq(&a);
    assert_true(a.scale == 2 && sums[0] == 4 && sums[1] == 123);
    assert_memory_equal(codes, want, sizeof want);
    const float zeros[20] = {0};
    a.x = zeros;
    k->run.actq(&a);
    assert_true(a.scale == 0 && sums[0] == 0 && sums[1] == 0);
    for (int i = 0; i < 32; i++)
        assert_true(codes[i] == 0);
}

static void test_bits(void **state)
{
    each(*state, PTQ_KOP_BITS_PACK, bits_pack);
    each(*state, PTQ_KOP_BITS_UNPACK, bits_unpack);
}

static void test_panels(void **state)
{
    each(*state, PTQ_KOP_PACK, panels);
}

static void test_hadamard(void **state)
{
    each(*state, PTQ_KOP_HADAMARD, hadamard);
}

static void test_actq(void **state)
{
    each(*state, PTQ_KOP_ACTQ, actq);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_panels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hadamard, setup, teardown),
        cmocka_unit_test_setup_teardown(test_actq, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
