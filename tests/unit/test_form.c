/* Stored forms: packing there and back, the ledger, dequantization by hand, damaged bytes, files
 * that h5py-like readers see. */
#include "quant_lib.h"
#include "datasets/h5.h"
#include "quant/formfile.h"

struct shape {
    int64_t rows, cols, group;
    int bits;
    enum ptq_fmt scale;
    int zero_bits; /* 0: constant */
    bool zero_signed, perm;
};

/* Random contents of a shape; every value representable. */
static void fill(struct fixture *f, const struct shape *s, struct ptq_quant *q)
{
    memset(q, 0, sizeof *q);
    q->rows = s->rows;
    q->cols = s->cols;
    q->n_parts = 1;
    int64_t n = s->rows * s->cols, per_row = s->group ? (s->cols + s->group - 1) / s->group : 0,
            groups = per_row ? s->rows * per_row : 1;
    uint16_t *codes = ptq_arena_alloc(&f->arena, &f->st, n, sizeof *codes);
    float *scale = ptq_arena_alloc(&f->arena, &f->st, groups, sizeof *scale);
    float *zero = ptq_arena_alloc(&f->arena, &f->st, groups, sizeof *zero);
    int32_t *perm = ptq_arena_alloc(&f->arena, &f->st, s->cols, sizeof *perm);
    for (int64_t i = 0; i < n; i++)
        codes[i] = (uint16_t)(ptq_hash_u64(1, (uint64_t)i) & ((1u << s->bits) - 1));
    for (int64_t i = 0; i < groups; i++) {
        scale[i] = ptq_round_fmt(0.01 + ptq_uniform(2, (uint64_t)i), s->scale);
        uint64_t z =
            s->zero_bits ? ptq_hash_u64(3, (uint64_t)i) & ((UINT64_C(1) << s->zero_bits) - 1) : 0;
        zero[i] = (float)((int64_t)z - (s->zero_signed ? INT64_C(1) << (s->zero_bits - 1) : 0));
    }
    for (int64_t p = 0; p < s->cols; p++)
        perm[p] = (int32_t)((p * 7 + 3) % s->cols); /* a permutation when 7 does not divide cols */
    q->part[0] = (struct ptq_part){.bits = s->bits,
                                   .codes = codes,
                                   .group_cols = s->group ? s->group : s->cols,
                                   .groups_per_row = per_row,
                                   .scale = {.fmt = s->scale, .n = groups, .at = scale},
                                   .zero_const = s->zero_bits ? 0 : 4,
                                   .perm = s->perm ? perm : NULL};
    if (s->zero_bits)
        q->part[0].zero = (struct ptq_arr){PTQ_FMT_INT, s->zero_bits, s->zero_signed, groups, zero};
}

static const struct shape shapes[] = {
    {5, 33, 33, 1, PTQ_FMT_F16, 1, false, false}, {5, 33, 10, 2, PTQ_FMT_F16, 2, false, true},
    {3, 20, 7, 3, PTQ_FMT_BF16, 16, true, false}, {4, 17, 0, 4, PTQ_FMT_F32, 0, false, false},
    {7, 13, 13, 5, PTQ_FMT_F16, 0, false, false}, {2, 65, 64, 6, PTQ_FMT_F32, 16, true, true},
    {9, 11, 1, 7, PTQ_FMT_BF16, 7, false, false}, {3, 31, 8, 8, PTQ_FMT_F16, 8, false, true},
    {1, 1, 1, 3, PTQ_FMT_F16, 3, false, true},    {2, 9, 4, 16, PTQ_FMT_F32, 24, true, false},
};

static bool same_array(const struct ptq_arr *a, const struct ptq_arr *b)
{
    return a->fmt == b->fmt &&
           (a->fmt == PTQ_FMT_NONE ||
            (a->n == b->n && a->bits == b->bits && a->is_signed == b->is_signed &&
             !memcmp(a->at, b->at, (size_t)a->n * sizeof *a->at)));
}

static void assert_same_form(const struct ptq_quant *a, const struct ptq_quant *b)
{
    char ka[33], kb[33];
    const struct ptq_part *p = &a->part[0], *q = &b->part[0];
    assert_int_equal(a->n_parts, b->n_parts);
    assert_int_equal(count_different(p->codes, q->codes, a->rows * a->cols), 0);
    assert_true(same_array(&p->scale, &q->scale) && same_array(&p->zero, &q->zero));
    assert_true(p->bits == q->bits && p->group_cols == q->group_cols &&
                p->groups_per_row == q->groups_per_row);
    assert_true(p->zero_const == q->zero_const && !p->perm == !q->perm);
    if (p->perm)
        assert_memory_equal(p->perm, q->perm, (size_t)a->cols * sizeof *p->perm);
    ptq_quant_hash(a, ka);
    ptq_quant_hash(b, kb);
    assert_string_equal(ka, kb);
}

static void pack_and_back(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < LENGTH(shapes); i++) {
        struct ptq_quant q, back;
        struct ptq_packed p;
        struct ptq_form_head h;
        struct ptq_ledger l;
        fill(f, &shapes[i], &q);
        assert_ok(ptq_quant_validate(&q, &f->st), &f->st);
        assert_ok(ptq_quant_pack(&q, &f->arena, &p, &f->st), &f->st);
        ptq_quant_head(&q, &h);
        assert_ok(ptq_quant_unpack(&h, &p, &f->arena, &back, &f->st), &f->st);
        assert_same_form(&q, &back);
        ptq_quant_ledger(&q, &l);
        assert_true(l.total == 8.0 * (double)p.bytes);
    }
}

/* 3-bit codes 1 2 3 4 5 least significant bit first: 001 010 011 100 101 -> 0xD1 0x58 (1 + 2*8 +
 * 3*64 + ... = 0x58D1). Scale 0.5 in half is 0x3800, zero -2 in 4 bits is 1110, perm 2 0 4 1 3
 * in 3 bits: 2 + 0*8 + 4*64 + 1*512 + 3*4096 = 0x3302. */
static void layout_of_bytes(void **state)
{
    struct fixture *f = *state;
    const uint16_t codes[] = {1, 2, 3, 4, 5};
    const float scale = 0.5f, zero = -2;
    const int32_t perm[] = {2, 0, 4, 1, 3};
    const uint8_t want[] = {0xD1, 0x58, 0x00, 0x38, 0x0E, 0x02, 0x33};
    struct ptq_quant q = {.rows = 1, .cols = 5, .n_parts = 1};
    struct ptq_packed p;
    struct ptq_ledger l;
    q.part[0] = (struct ptq_part){
        .bits = 3,
        .codes = codes,
        .group_cols = 5,
        .groups_per_row = 1,
        .perm = perm,
        .scale = {.fmt = PTQ_FMT_F16, .n = 1, .at = &scale},
        .zero = {.fmt = PTQ_FMT_INT, .bits = 4, .is_signed = true, .n = 1, .at = &zero}};
    assert_ok(ptq_quant_pack(&q, &f->arena, &p, &f->st), &f->st);
    assert_int_equal(p.bytes, LENGTH(want));
    assert_memory_equal(p.at, want, sizeof want);
    ptq_quant_ledger(&q, &l);
    assert_true(l.codes == 16 && l.scales == 16 && l.zeros == 8 && l.perm == 16 && l.total == 56 &&
                l.nominal == 3);
    /* The names that rows of older runs have for these forms. */
    char key[33];
    ptq_quant_hash(&q, key);
    assert_string_equal(key, "d89b706c0146a5c27cfcba302396d856");
    q.part[0].zero = (struct ptq_arr){0};
    q.part[0].zero_const = 4;
    q.part[0].perm = NULL;
    ptq_quant_hash(&q, key);
    assert_string_equal(key, "7553c4ad0b0d545244529b941dd8c9c7");
}

/* methods.md 0.3: 3-bit g128 = 3.15, 2-bit g32 = 2.5625, 3-bit g1024 = 3.02 (b + (16 + b) / g);
 * symmetric b + 16 / g; act-order on 4096 columns costs 12 bits a column. */
static void paper_bits(void **state)
{
    struct fixture *f = *state;
    const struct {
        struct shape s;
        double want;
    } cases[] = {
        {{2, 1024, 128, 3, PTQ_FMT_F16, 3, false, false}, 3 + 19.0 / 128},
        {{2, 1024, 32, 2, PTQ_FMT_F32, 16, true, false}, 2.5625},
        {{2, 1024, 1024, 3, PTQ_FMT_F16, 3, false, false}, 3 + 19.0 / 1024},
        {{2, 1024, 128, 4, PTQ_FMT_F16, 0, false, false}, 4 + 16.0 / 128},
        {{2, 4096, 4096, 4, PTQ_FMT_F16, 0, false, true}, 4 + 16.0 / 4096 + 12.0 / 2},
    };
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_quant q;
        struct ptq_ledger l;
        fill(f, &cases[i].s, &q);
        ptq_quant_ledger(&q, &l);
        assert_rel(l.paper, cases[i].want, 1e-14);
    }
}

/* Groups of 2 over 5 columns, with and without a permutation. */
static void values(void **state)
{
    (void)state;
    const uint16_t codes[] = {0, 1, 2, 3, 3};
    const float scale[] = {1, 10, 100}, zero[] = {1, 0, 2};
    const int32_t perm[] = {4, 1, 0, 3, 2};
    struct ptq_quant q = {.rows = 1, .cols = 5, .n_parts = 1};
    float what[5];
    q.part[0] = (struct ptq_part){.bits = 2,
                                  .codes = codes,
                                  .group_cols = 2,
                                  .groups_per_row = 3,
                                  .scale = {.fmt = PTQ_FMT_F16, .n = 3, .at = scale},
                                  .zero = {.fmt = PTQ_FMT_INT, .bits = 2, .n = 3, .at = zero}};
    const float plain[] = {-1, 0, 20, 30, 100},
                permuted[] = {0, 0, 0, 30, 2}; /* column 4 is in group 0, 2 in group 2 */
    assert_int_equal(ptq_quant_dequant(&q, what, NULL), PTQ_OK);
    assert_memory_equal(what, plain, sizeof plain);
    q.part[0].perm = perm;
    assert_int_equal(ptq_quant_dequant(&q, what, NULL), PTQ_OK);
    assert_memory_equal(what, permuted, sizeof permuted);
    q.part[0].perm = NULL;
    q.n_parts = 2;
    q.part[1] = q.part[0];
    assert_int_equal(ptq_quant_dequant(&q, what, NULL), PTQ_OK);
    for (int j = 0; j < 5; j++)
        assert_true(what[j] == 2 * plain[j]);
}

/* Largest and smallest positive values: f16 65504 and 2^-24, bf16 (2 - 2^-7) 2^127 and 2^-133, f32
 * FLT_MAX and 2^-149; their neighbours inside are not saturated. */
static void saturated(void **state)
{
    (void)state;
    const struct {
        enum ptq_fmt fmt;
        float scale[4];
    } cases[] = {{PTQ_FMT_F16, {65504, 0x1p-24f, 65472, 0x1p-23f}},
                 {PTQ_FMT_BF16, {0x1.FEp127f, 0x1p-133f, 0x1.FCp127f, 0x1p-132f}},
                 {PTQ_FMT_F32, {0x1.FFFFFEp127f, 0x1p-149f, 0x1.FFFFFCp127f, 0x1p-148f}}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_quant q = {.rows = 4, .cols = 1, .n_parts = 1};
        q.part[0].scale = (struct ptq_arr){.fmt = cases[i].fmt, .n = 4, .at = cases[i].scale};
        assert_int_equal(ptq_quant_saturated_scales(&q), 2);
    }
}

static void broken_rules(void **state)
{
    struct fixture *f = *state;
    struct shape s = {3, 20, 7, 3, PTQ_FMT_F16, 3, false, true};
    struct ptq_quant q;
    const char *words[] = {"code 8 at row 1, column 2",
                           "is not a value of its format",
                           "does not fit its bits",
                           "is not finite",
                           "whole number",
                           "perm",
                           "wrong length",
                           "group_cols"};
    for (int64_t k = 0; k < LENGTH(words); k++) {
        fill(f, &s, &q);
        struct ptq_part *p = &q.part[0];
        float *scale = (float *)(uintptr_t)p->scale.at, *zero = (float *)(uintptr_t)p->zero.at;
        switch (k) {
        case 0: ((uint16_t *)(uintptr_t)p->codes)[22] = 8; break;
        case 1: scale[1] = 0.1f; break;
        case 2: zero[2] = 8; break;
        case 3: scale[0] = NAN; break;
        case 4: zero[0] = 1.5f; break;
        case 5: ((int32_t *)(uintptr_t)p->perm)[0] = p->perm[1]; break;
        case 6: p->scale.n--; break;
        case 7: p->group_cols = 21; break;
        }
        ptq_status_clear(&f->st);
        assert_int_equal(ptq_quant_validate(&q, &f->st), PTQ_ERR_NUMERIC);
        assert_status(&f->st, PTQ_ERR_NUMERIC, words[k]);
    }
}

/* Refused before memory is taken. */
static void assert_refused(struct fixture *f, const struct ptq_form_head *h,
                           const struct ptq_packed *p)
{
    struct ptq_quant back;
    const size_t used = f->arena.used_bytes;
    ptq_status_clear(&f->st);
    assert_int_equal(ptq_quant_unpack(h, p, &f->arena, &back, &f->st), PTQ_ERR_USAGE);
    assert_true(f->arena.used_bytes == used && f->st.text[0]);
}

/* Heads and bytes from outside. */
static void damaged_bytes(void **state)
{
    struct fixture *f = *state;
    struct shape s = {3, 20, 7, 3, PTQ_FMT_F16, 3, false, true};
    struct ptq_quant q, back;
    struct ptq_packed p;
    struct ptq_form_head good, h;
    fill(f, &s, &q);
    assert_ok(ptq_quant_pack(&q, &f->arena, &p, &f->st), &f->st);
    ptq_quant_head(&q, &good);
    for (int k = 0; k < 12; k++) {
        struct ptq_packed cut = p;
        struct ptq_part_head *part = &h.part[0];
        h = good;
        switch (k) {
        case 0: cut.bytes--; break;
        case 1: h.rows = INT64_MAX / 4; break;
        case 2: h.cols = 0; break;
        case 3: h.n_parts = 5; break;
        case 4: part->bits = 17; break;
        case 5: part->group_cols = 0; break;
        case 6: part->groups_per_row = 4; break;
        case 7: part->arr[PTQ_ARR_SCALE].n = INT64_MAX; break;
        case 8: part->arr[PTQ_ARR_SCALE].fmt = 77; break;
        case 9: part->arr[PTQ_ARR_ZERO].bits = 0; break;
        case 10: part->kind = 9; break;
        case 11:
            h.rows = h.cols = INT32_MAX;
            part->arr[PTQ_ARR_SCALE].n = h.rows * part->groups_per_row;
            break;
        }
        assert_refused(f, &h, &cut);
    }
    ((uint8_t *)(uintptr_t)p.at)[p.bytes - 1] = 0xFF; /* two perm entries alike, or out of range */
    ptq_status_clear(&f->st);
    assert_int_equal(ptq_quant_unpack(&good, &p, &f->arena, &back, &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "damaged");
}

static void files(void **state)
{
    struct fixture *f = *state;
    char folder[TEST_PATH], path[TEST_PATH], layer[32];
    struct ptq_h5 *h5;
    test_tmpdir(folder);
    test_path(folder, "forms.h5", path);
    assert_ok(ptq_h5_open(&h5, path, PTQ_H5_CREATE, &f->st), &f->st);
    for (int64_t i = 0; i < LENGTH(shapes); i++) {
        struct ptq_quant q, back;
        fill(f, &shapes[i], &q);
        snprintf(layer, sizeof layer, "blk.%d.attn_q", (int)i);
        float *what = ptq_arena_alloc(&f->arena, &f->st, q.rows * q.cols, sizeof *what);
        assert_int_equal(ptq_quant_dequant(&q, what, NULL), PTQ_OK);
        assert_ok(ptq_form_write_packed(h5, layer, &q, &f->st), &f->st);
        assert_ok(ptq_form_write_quant(h5, layer, &q, what, &f->st), &f->st);
        assert_ok(ptq_form_read_packed(h5, layer, &f->arena, &back, &f->st), &f->st);
        assert_same_form(&q, &back);
    }
    struct ptq_h5_info info;
    float *zero;
    int64_t *codes, bits = 0, group = 0;
    assert_ok(ptq_h5_read_f32(h5, "/quant/blk.3.attn_q/zero", &f->arena, &zero, &info, &f->st),
              &f->st);
    assert_true(info.rank == 2 && info.dim[0] == 1 && info.dim[1] == 1 &&
                zero[0] == 4); /* per tensor, constant zero */
    assert_ok(ptq_h5_read_i64(h5, "/quant/blk.1.attn_q/codes", &f->arena, &codes, &info, &f->st),
              &f->st);
    assert_true(info.type == PTQ_H5_U8 && info.dim[0] == 5 && info.dim[1] == 33);
    assert_ok(ptq_h5_get_i64(h5, "/quant/blk.1.attn_q", "bits", &bits, &f->st), &f->st);
    assert_ok(ptq_h5_get_i64(h5, "/quant/blk.1.attn_q", "group_size", &group, &f->st), &f->st);
    assert_true(bits == 2 && group == 10);
    assert_int_equal(ptq_form_write_packed(h5, "a/b", &(struct ptq_quant){0}, &f->st),
                     PTQ_ERR_USAGE);
    ptq_status_clear(&f->st);
    assert_ok(ptq_h5_close(h5, &f->st), &f->st);
    test_rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pack_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(layout_of_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(paper_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(values, setup, teardown),
        cmocka_unit_test(saturated),
        cmocka_unit_test_setup_teardown(broken_rules, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(files, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
