/* Stored forms beyond uniform grids: codebooks, low rank, trees, rotations, divided and split
 * inputs. Values by hand, bytes there and back, the ledger against the formulas of methods.md,
 * damage refused. */
#include "quant_lib.h"
#include "datasets/h5.h"
#include "quant/formfile.h"

static struct ptq_arr f32_array(const float *at, int64_t n)
{
    return (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = n, .at = at};
}

static struct ptq_arr int_array(const float *at, int64_t n, int bits, bool is_signed)
{
    return (struct ptq_arr){PTQ_FMT_INT, bits, is_signed, n, at};
}

static void assert_values(const struct ptq_quant *q, const float *want)
{
    struct ptq_status st = {0};
    float what[64];
    const int64_t n = q->rows * ptq_quant_kcols(q);
    assert_true(n <= LENGTH(what));
    assert_ok(ptq_quant_validate(q, &st), &st);
    assert_ok(ptq_quant_dequant(q, what, &st), &st);
    for (int64_t i = 0; i < n; i++)
        if (what[i] != want[i])
            fail_msg("value %d is %g, not %g", (int)i, (double)what[i], (double)want[i]);
}

/* ---- values by hand ---- */

/* 3 x 4 in pairs, books for blocks of 2 x 2, the lower ones cut. Book values step * v + min:
 * (-1 -.5)(0 .5) | (4 5)(6 7) over (3 3)(5 5) | (10.75 10)(10 10.75). Groups of 3 columns. */
static const uint16_t book_codes[] = {0, 1, 1, 0, 1, 1};
static const float book_ints[] = {0, 1, 2, 3, 4, 5, 6, 7, 1, 1, 2, 2, 3, 0, 0, 3},
                   book_step[] = {.5f, 1, 2, .25f}, book_min[] = {-1, 0, 1, 10},
                   book_scale[] = {2, 10, 1, .5f, 4, -1};

static struct ptq_quant book_form(void)
{
    struct ptq_quant q = {.rows = 3, .cols = 4, .n_parts = 1};
    q.part[0] = (struct ptq_part){.kind = PTQ_PART_CODEBOOK,
                                  .bits = 1,
                                  .codes = book_codes,
                                  .dim = 2,
                                  .book_len = 2,
                                  .book_rows = 2,
                                  .book_cols = 2,
                                  .book = int_array(book_ints, 16, 3, false),
                                  .book_step = f32_array(book_step, 4),
                                  .book_min = f32_array(book_min, 4)};
    return q;
}

static void codebook_values(void **state)
{
    (void)state;
    struct ptq_quant q = book_form();
    const float plain[] = {-1, -.5f, 6, 7, 0, .5f, 4, 5, 5, 5, 10, 10.75f},
                scaled[] = {-2, -1, 12, 70, 0, .5f, 4, 2.5f, 20, 20, 40, -10.75f},
                one_pair[] = {-1, -.5f, 2, 2.5f, 0, .5f, 1, 1.5f, 0, 0, -1, .5f},
                tensor[] = {0, 10, 60, 70, 20, 30, 40, 50, 20, 20, 0, 30};
    assert_values(&q, plain);
    q.part[0].scale = f32_array(book_scale, 6);
    q.part[0].group_cols = 3;
    q.part[0].groups_per_row = 2;
    assert_values(&q, scaled);
    q.part[0].scale.fmt = PTQ_FMT_NONE;
    q.part[0].book_step.n = q.part[0].book_min.n = 1;
    assert_values(&q, one_pair);
    q.part[0].book = f32_array(book_ints, 16);
    q.part[0].book_step = q.part[0].book_min = (struct ptq_arr){0};
    q.part[0].scale = f32_array(book_scale + 1, 1);
    q.part[0].groups_per_row = 0;
    assert_values(&q, tensor);
}

/* (1 -2; 3 0) diag(2, 1) times diag(.5, 4) (1 0 2; -1 1 3): rows (1 0 2) + (8 -8 -24) and
 * (3 0 6). In fp64, 1e16 + 1 is 1e16: in order the sum 1e8 1e8 - 1e8 1e8 + 1 1 is 1, the other way
 * round 0. */
static void lowrank_values(void **state)
{
    (void)state;
    const float left[] = {1, -2, 3, 0}, right[] = {1, 0, 2, -1, 1, 3}, left_scale[] = {2, 1},
                right_scale[] = {.5f, 4}, want[] = {9, -8, -22, 3, 0, 6};
    const float a[] = {1e8f, -1e8f, 1}, b[] = {1e8f, 1e8f, 1}, one[] = {1, 0, 0, 0, 0, 0, 0, 0, 0};
    struct ptq_quant q = {.rows = 2, .cols = 3, .n_parts = 1};
    q.part[0] = (struct ptq_part){.kind = PTQ_PART_LOWRANK,
                                  .rank = 2,
                                  .left = int_array(left, 4, 3, true),
                                  .right = int_array(right, 6, 4, true),
                                  .left_scale = f32_array(left_scale, 2),
                                  .right_scale = f32_array(right_scale, 2)};
    assert_values(&q, want);
    float rows[9] = {0}, cols[9] = {0};
    for (int r = 0; r < 3; r++) {
        rows[r] = a[r];
        cols[3 * r] = b[r];
    }
    q = (struct ptq_quant){.rows = 3, .cols = 3, .n_parts = 1};
    q.part[0] = (struct ptq_part){.kind = PTQ_PART_LOWRANK,
                                  .rank = 3,
                                  .left = f32_array(rows, 9),
                                  .right = f32_array(cols, 9)};
    assert_values(&q, one);
}

/* 8 columns, per tensor with scale 1 and zero 0: values are the codes. */
static const float unit[] = {1};
static struct ptq_part code_values(const uint16_t *codes, int64_t cols)
{
    return (struct ptq_part){
        .bits = 8, .codes = codes, .group_cols = cols, .scale = f32_array(unit, 1)};
}

/* 5 3 | 1 4 | 7 7 | 2 6 -> smaller 3 1 7 2, larger 5 4 7 6 (bits 0 1 0 1: even was smaller); then
 * 3 1 | 7 2 -> 1 2, 3 7 (0 0) and 5 4 | 7 6 -> 4 6, 5 7 (0 0). */
static void tree_values(void **state)
{
    (void)state;
    const uint16_t codes[] = {1, 2, 3, 7, 4, 6, 5, 7};
    const uint8_t bits[] = {0, 1, 0, 1, 0, 0, 0, 0};
    const float want[] = {5, 3, 1, 4, 7, 7, 2, 6};
    struct ptq_quant q = {.rows = 1, .cols = 8, .n_parts = 1};
    q.part[0] = code_values(codes, 8);
    q.part[0].tree_levels = 2;
    q.part[0].tree_bits = bits;
    assert_values(&q, want);
}

/* The tree as its paper builds it, by recursion (methods.md section 5): the bits of a level stand
 * in the order of its segments. */
static void entangle(uint16_t *x, int64_t n, int level, int levels, int64_t half, int64_t at,
                     uint8_t *bits)
{
    uint16_t small[32], large[32];
    if (level == levels)
        return;
    for (int64_t j = 0; j < n / 2; j++) {
        bool even = x[2 * j] < x[2 * j + 1];
        bits[level * half + at + j] = even;
        small[j] = x[2 * j + !even];
        large[j] = x[2 * j + even];
    }
    memcpy(x, small, (size_t)n / 2 * sizeof *x);
    memcpy(x + n / 2, large, (size_t)n / 2 * sizeof *x);
    entangle(x, n / 2, level + 1, levels, half, at, bits);
    entangle(x + n / 2, n / 2, level + 1, levels, half, at + n / 4, bits);
}

static void tree_undone(void **state)
{
    (void)state;
    enum { ROWS = 3, COLS = 48 };
    for (int levels = 0; levels <= 4; levels++) {
        uint16_t codes[ROWS * COLS];
        uint8_t bits[ROWS * 4 * COLS / 2];
        float want[ROWS * COLS], what[ROWS * COLS];
        for (int i = 0; i < ROWS * COLS; i++) {
            codes[i] = (uint16_t)(ptq_hash_u64(5, (uint64_t)i) & 255);
            want[i] = codes[i];
        }
        for (int r = 0; r < ROWS; r++)
            entangle(codes + r * COLS, COLS, 0, levels, COLS / 2, 0, bits + r * levels * COLS / 2);
        struct ptq_quant q = {.rows = ROWS, .cols = COLS, .n_parts = 1};
        q.part[0] = code_values(codes, COLS);
        q.part[0].tree_levels = levels;
        q.part[0].tree_bits = bits;
        assert_int_equal(ptq_quant_validate(&q, NULL), PTQ_OK);
        assert_int_equal(ptq_quant_dequant(&q, what, NULL), PTQ_OK);
        assert_memory_equal(what, want, sizeof want);
    }
}

/* term_j = sum_c part_c rot_jc with part (1 2) and rot (0 -1; 1 0) is (-2 1). A tree is taken back
 * before: (2 1) gives (-1 2). */
static void rotated_values(void **state)
{
    (void)state;
    const uint16_t codes[] = {1, 2};
    const float rot[] = {0, -1, 1, 0}, want[] = {-2, 1}, swapped[] = {-1, 2};
    const uint8_t bits[] = {0};
    struct ptq_quant q = {.rows = 1, .cols = 2, .n_parts = 1};
    q.part[0] = code_values(codes, 2);
    q.part[0].rot = f32_array(rot, 4);
    assert_values(&q, want);
    q.part[0].tree_levels = 1;
    q.part[0].tree_bits = bits;
    assert_values(&q, swapped);
}

/* Larger than a tile, against the sum itself: fp64 in order, rounded once. */
static void rotated_wide(void **state)
{
    (void)state;
    enum { N = 37 };
    uint16_t codes[N];
    float rot[N * N], what[N];
    for (int i = 0; i < N * N; i++)
        rot[i] = (float)ptq_normal(7, (uint64_t)i);
    for (int i = 0; i < N; i++)
        codes[i] = (uint16_t)(ptq_hash_u64(8, (uint64_t)i) & 255);
    struct ptq_quant q = {.rows = 1, .cols = N, .n_parts = 1};
    q.part[0] = code_values(codes, N);
    q.part[0].rot = f32_array(rot, N * N);
    assert_int_equal(ptq_quant_dequant(&q, what, NULL), PTQ_OK);
    for (int j = 0; j < N; j++) {
        double sum = 0;
        for (int c = 0; c < N; c++)
            sum += (double)codes[c] * (double)rot[j * N + c];
        assert_true(what[j] == (float)sum);
    }
}

/* Parts of different kinds add up, each seen its own way: (-2 1) + (30 60). Then the inputs are
 * divided, in fp32. */
static void sum_and_divisor(void **state)
{
    (void)state;
    const uint16_t codes[] = {1, 2};
    const float left[] = {3}, right[] = {10, 20}, sum[] = {28, 61}, divisor[] = {4, 3},
                quotient[] = {7, 61 / 3.0f};
    const float rot[] = {0, -1, 1, 0};
    struct ptq_quant q = {.rows = 1, .cols = 2, .n_parts = 2};
    q.part[0] = code_values(codes, 2);
    q.part[0].rot = f32_array(rot, 4);
    q.part[1] = (struct ptq_part){.kind = PTQ_PART_LOWRANK,
                                  .rank = 1,
                                  .left = f32_array(left, 1),
                                  .right = f32_array(right, 2)};
    assert_values(&q, sum);
    q.act.divisor = f32_array(divisor, 2);
    assert_values(&q, quotient);
    q.act.folds = true;
    assert_values(&q, quotient);
}

/* Channel 1 in two pieces, channel 0 as it is, a column of padding; the divisor belongs to the
 * channels, not to the stored columns. */
static void split_values(void **state)
{
    (void)state;
    const uint16_t codes[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const int32_t source[] = {0, 1, 1, -1}, piece[] = {-1, 0, 1, -1};
    const float divisor[] = {2, 4}, want[] = {1, 2, 3, 0, 5, 6, 7, 0};
    struct ptq_quant q = {.rows = 2, .cols = 2, .n_parts = 1};
    q.part[0] = code_values(codes, 4);
    q.split = (struct ptq_split){4, source, piece, 1.5f};
    assert_values(&q, want);
    q.act.divisor = f32_array(divisor, 2);
    assert_values(&q, want);
}

/* ---- bytes by hand ---- */

/* Codes 0 1 1 0 1 1 in 1 bit: 0x36. Book in 3 bits: 0 1 2 3 4 5 6 7 -> 0xFAC688, 1 1 2 2 3 0 0 3:
 * 1 + 8 + 128 + 1024 + 3 4096 + 3 2^21 = 0x603489. Step and minimum in f32, and behind the part the
 * divisor in bf16, the static scale, sources + 1, pieces + 1, the limit. */
static void layout_of_bytes(void **state)
{
    struct fixture *f = *state;
    struct ptq_quant q = book_form();
    const float divisor[] = {2, 4, 1, 1};
    const int32_t source[] = {0, 1, 3, -1}, piece[] = {-1, 1, 0, -1};
    const uint8_t want[] = {0x36, 0x88, 0xC6, 0xFA, 0x89, 0x34, 0x60,
                            /* step .5 1 2 .25, minimum -1 0 1 10 */
                            0, 0, 0x00, 0x3F, 0, 0, 0x80, 0x3F, 0, 0, 0x00, 0x40, 0, 0, 0x80, 0x3E,
                            0, 0, 0x80, 0xBF, 0, 0, 0x00, 0x00, 0, 0, 0x80, 0x3F, 0, 0, 0x20, 0x41,
                            /* divisor; scale; sources 1 2 4 0 in 3 bits: 1 + 2*8 + 4*64 = 0x111;
                             * pieces 0 2 1 0 in 2 bits: 8 + 16; limit 1.5 */
                            0x00, 0x40, 0x80, 0x40, 0x80, 0x3F, 0x80, 0x3F, 0, 0, 0x00, 0x3F, 0x11,
                            0x01, 0x18, 0, 0, 0xC0, 0x3F};
    struct ptq_packed p;
    struct ptq_ledger l;
    q.act = (struct ptq_act){
        .divisor = {.fmt = PTQ_FMT_BF16, .n = 4, .at = divisor}, .bits = 8, .scale = .5f};
    q.split = (struct ptq_split){4, source, piece, 1.5f};
    assert_ok(ptq_quant_validate(&q, &f->st), &f->st);
    assert_ok(ptq_quant_pack(&q, &f->arena, &p, &f->st), &f->st);
    assert_int_equal(p.bytes, LENGTH(want));
    assert_memory_equal(p.at, want, sizeof want);
    ptq_quant_ledger(&q, &l);
    assert_true(l.codes == 8 && l.books == 48 + 256 && l.divisor == 64 && l.act_scale == 32 &&
                l.split == 24 + 32 && l.total == 8 * sizeof want && l.nominal == .5);
    q.act.folds = true;
    assert_ok(ptq_quant_pack(&q, &f->arena, &p, &f->st), &f->st);
    assert_true(p.bytes == (int64_t)sizeof want - 8 && p.n_folded == 4 && p.folded == divisor);
}

/* ---- random forms ---- */

struct draw { /* of one form */
    struct fixture *f;
    uint64_t seed, i;
};

static uint64_t bits_of(struct draw *d)
{
    return ptq_hash_u64(d->seed, d->i++);
}

static int64_t below(struct draw *d, int64_t n)
{
    return (int64_t)(bits_of(d) % (uint64_t)n);
}

static void *take(struct draw *d, int64_t n, size_t size)
{
    void *at = ptq_arena_alloc(&d->f->arena, &d->f->st, n, size);
    assert_non_null(at);
    return at;
}

static struct ptq_arr draw_floats(struct draw *d, int64_t n)
{
    struct ptq_arr a = {.fmt = (enum ptq_fmt)(PTQ_FMT_F16 + below(d, 3)), .n = n};
    float *at = take(d, n, sizeof *at);
    for (int64_t i = 0; i < n; i++)
        at[i] = ptq_round_fmt(0.25 + (double)below(d, 1000) / 300, a.fmt);
    a.at = at;
    return a;
}

static struct ptq_arr draw_ints(struct draw *d, int64_t n)
{
    struct ptq_arr a = {.fmt = PTQ_FMT_INT, .bits = 1 + (int)below(d, 24), .n = n};
    float *at = take(d, n, sizeof *at);
    a.is_signed = below(d, 2);
    for (int64_t i = 0; i < n; i++)
        at[i] = (float)(below(d, INT64_C(1) << a.bits) -
                        (a.is_signed ? INT64_C(1) << (a.bits - 1) : 0));
    a.at = at;
    return a;
}

static void draw_codes(struct draw *d, struct ptq_part *p, int64_t n, int64_t limit)
{
    uint16_t *codes = take(d, n, sizeof *codes);
    for (int64_t i = 0; i < n; i++)
        codes[i] = (uint16_t)below(d, limit);
    p->codes = codes;
}

static void draw_groups(struct draw *d, struct ptq_part *p, int64_t rows, int64_t kcols)
{
    p->group_cols = 1 + below(d, kcols);
    p->groups_per_row = below(d, 3) ? (kcols + p->group_cols - 1) / p->group_cols : 0;
    p->scale = draw_floats(d, p->groups_per_row ? rows * p->groups_per_row : 1);
}

static void draw_uniform(struct draw *d, struct ptq_part *p, int64_t rows, int64_t kcols)
{
    p->bits = 1 + (int)below(d, 16);
    draw_codes(d, p, rows * kcols, INT64_C(1) << p->bits);
    draw_groups(d, p, rows, kcols);
    if (below(d, 2))
        p->zero = below(d, 2) ? draw_ints(d, p->scale.n) : draw_floats(d, p->scale.n);
    else
        p->zero_const = (float)below(d, 9);
    if (below(d, 2)) {
        int32_t *perm = take(d, kcols, sizeof *perm);
        int64_t from = below(d, kcols);
        for (int64_t j = 0; j < kcols; j++)
            perm[j] = (int32_t)((j + from) % kcols);
        p->perm = perm;
    }
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static void draw_codebook(struct draw *d, struct ptq_part *p, int64_t rows, int64_t kcols)
{
    p->dim = kcols % 4 == 0 ? INT64_C(1) << below(d, 3) : 1;
    p->book_rows = 1 + below(d, rows);
    p->book_cols = p->dim * (1 + below(d, kcols / p->dim));
    p->bits = 1 + (int)below(d, 6);
    p->book_len = 1 + below(d, INT64_C(1) << p->bits);
    draw_codes(d, p, rows * kcols / p->dim, p->book_len);
    int64_t books = ceil_div(rows, p->book_rows) * ceil_div(kcols, p->book_cols);
    if (below(d, 2)) {
        p->book = draw_floats(d, books * p->book_len * p->dim);
    } else {
        p->book = draw_ints(d, books * p->book_len * p->dim);
        p->book_step = draw_floats(d, below(d, 2) ? books : 1);
        p->book_min = draw_floats(d, p->book_step.n);
    }
    if (below(d, 2))
        draw_groups(d, p, rows, kcols);
}

static void draw_lowrank(struct draw *d, struct ptq_part *p, int64_t rows, int64_t kcols)
{
    p->rank = 1 + below(d, rows < kcols ? rows : kcols);
    p->left = below(d, 2) ? draw_ints(d, rows * p->rank) : draw_floats(d, rows * p->rank);
    p->right = below(d, 2) ? draw_ints(d, kcols * p->rank) : draw_floats(d, kcols * p->rank);
    if (p->left.fmt == PTQ_FMT_INT)
        p->left_scale = draw_floats(d, p->rank);
    if (p->right.fmt == PTQ_FMT_INT)
        p->right_scale = draw_floats(d, p->rank);
}

static void draw_part(struct draw *d, struct ptq_part *p, int64_t rows, int64_t kcols)
{
    p->kind = (enum ptq_part_kind)below(d, 3);
    if (p->kind == PTQ_PART_UNIFORM)
        draw_uniform(d, p, rows, kcols);
    else if (p->kind == PTQ_PART_CODEBOOK)
        draw_codebook(d, p, rows, kcols);
    else
        draw_lowrank(d, p, rows, kcols);
    if (kcols % 4 == 0 && below(d, 2)) {
        p->tree_levels = 1 + (int)below(d, 2);
        uint8_t *tree = take(d, rows * p->tree_levels * kcols / 2, 1);
        for (int64_t i = 0; i < rows * p->tree_levels * kcols / 2; i++)
            tree[i] = (uint8_t)below(d, 2);
        p->tree_bits = tree;
    }
    if (below(d, 4) == 0)
        p->rot = draw_floats(d, kcols * kcols);
}

static void draw_inputs(struct draw *d, struct ptq_quant *q)
{
    if (below(d, 2)) {
        q->act.divisor = draw_floats(d, q->cols);
        q->act.folds = below(d, 2);
    }
    if (below(d, 2)) {
        q->act.bits = 2 + (int)below(d, 7);
        q->act.scale = below(d, 2) ? 0.5f + (float)below(d, 100) : 0;
    }
    if (below(d, 2)) {
        int64_t n = 1 + below(d, 12), pieces = below(d, 4);
        int32_t *source = take(d, n, sizeof *source), *piece = take(d, n, sizeof *piece);
        for (int64_t k = 0; k < n; k++) {
            source[k] = (int32_t)below(d, q->cols + 1) - 1;
            piece[k] = (int32_t)below(d, pieces + 1) - 1;
        }
        q->split = (struct ptq_split){n, source, piece, 0.75f};
    }
}

static void draw_form(struct fixture *f, uint64_t seed, struct ptq_quant *q)
{
    struct draw d = {f, seed, 0};
    *q = (struct ptq_quant){.rows = 1 + below(&d, 6), .cols = 1 + below(&d, 12)};
    if (below(&d, 2))
        q->cols = 4 * (1 + below(&d, 4));
    q->n_parts = 1 + (int)below(&d, PTQ_MAX_PARTS);
    draw_inputs(&d, q);
    for (int k = 0; k < q->n_parts; k++)
        draw_part(&d, &q->part[k], q->rows, ptq_quant_kcols(q));
}

/* ---- there and back ---- */

static double padded(double bits)
{
    return 8 * ceil(bits / 8);
}

static double array_bits(const struct ptq_arr *a)
{
    const int width = a->fmt == PTQ_FMT_INT ? a->bits : a->fmt == PTQ_FMT_F32 ? 32 : 16;
    return a->fmt == PTQ_FMT_NONE ? 0 : padded((double)a->n * width);
}

static double index_bits(int64_t n)
{
    return ceil(log2((double)n));
}

static double code_bits(const struct ptq_quant *q, const struct ptq_part *p)
{
    double n = (double)(q->rows * ptq_quant_kcols(q));
    return p->kind == PTQ_PART_LOWRANK
               ? 0
               : padded(p->bits * (p->kind == PTQ_PART_CODEBOOK ? n / (double)p->dim : n));
}

/* Every field of the ledger from the form itself, without its head. */
static void assert_ledger(const struct ptq_quant *q, int64_t bytes)
{
    struct ptq_ledger l, w = {0};
    const int64_t kcols = ptq_quant_kcols(q);
    ptq_quant_ledger(q, &l);
    for (int k = 0; k < q->n_parts; k++) {
        const struct ptq_part *p = &q->part[k];
        w.codes += code_bits(q, p);
        w.scales += array_bits(&p->scale);
        w.zeros += array_bits(&p->zero);
        w.perm += p->perm ? padded((double)kcols * index_bits(kcols)) : 0;
        w.books += array_bits(&p->book) + array_bits(&p->book_step) + array_bits(&p->book_min);
        w.tree += padded((double)(q->rows * p->tree_levels * kcols) / 2);
        w.rot += array_bits(&p->rot);
        w.lowrank += array_bits(&p->left) + array_bits(&p->right) + array_bits(&p->left_scale) +
                     array_bits(&p->right_scale);
    }
    int32_t most = -1;
    for (int64_t k = 0; k < q->split.n_cols; k++)
        most = q->split.piece[k] > most ? q->split.piece[k] : most;
    w.divisor = q->act.folds ? 0 : array_bits(&q->act.divisor);
    w.act_scale = q->act.scale > 0 ? 32 : 0;
    if (q->split.n_cols)
        w.split = padded((double)kcols * index_bits(q->cols + 1)) +
                  padded((double)kcols * index_bits(most + 2)) + (most >= 0 ? 32 : 0);
    assert_true(l.codes == w.codes && l.scales == w.scales && l.zeros == w.zeros);
    assert_true(l.perm == w.perm && l.books == w.books && l.tree == w.tree && l.rot == w.rot);
    assert_true(l.lowrank == w.lowrank && l.divisor == w.divisor);
    assert_true(l.act_scale == w.act_scale && l.split == w.split);
    assert_true(l.total == 8.0 * (double)bytes);
    assert_true(l.total == w.codes + w.scales + w.zeros + w.perm + w.books + w.tree + w.rot +
                               w.lowrank + w.divisor + w.act_scale + w.split);
}

static void assert_same_form(struct fixture *f, const struct ptq_quant *a,
                             const struct ptq_quant *b)
{
    char ka[33], kb[33];
    struct ptq_packed pa, pb;
    const int64_t n = a->rows * ptq_quant_kcols(a);
    ptq_quant_hash(a, ka);
    ptq_quant_hash(b, kb);
    assert_string_equal(ka, kb);
    assert_ok(ptq_quant_pack(a, &f->arena, &pa, &f->st), &f->st);
    assert_ok(ptq_quant_pack(b, &f->arena, &pb, &f->st), &f->st);
    assert_int_equal(pa.bytes, pb.bytes);
    assert_memory_equal(pa.at, pb.at, (size_t)pa.bytes);
    float *wa = ptq_arena_alloc(&f->arena, &f->st, n, sizeof *wa),
          *wb = ptq_arena_alloc(&f->arena, &f->st, n, sizeof *wb);
    assert_true(wa && wb && b->act.folds == (a->act.folds && a->act.divisor.fmt));
    assert_ok(ptq_quant_dequant(a, wa, &f->st), &f->st);
    assert_ok(ptq_quant_dequant(b, wb, &f->st), &f->st);
    assert_memory_equal(wa, wb, (size_t)n * sizeof *wa);
}

static void random_forms(void **state)
{
    struct fixture *f = *state;
    for (uint64_t seed = 0; seed < 1500; seed++) {
        struct ptq_quant q, back;
        struct ptq_packed p;
        struct ptq_form_head h;
        draw_form(f, seed, &q);
        assert_ok(ptq_quant_validate(&q, &f->st), &f->st);
        assert_ok(ptq_quant_pack(&q, &f->arena, &p, &f->st), &f->st);
        ptq_quant_head(&q, &h);
        assert_ok(ptq_quant_unpack(&h, &p, &f->arena, &back, &f->st), &f->st);
        assert_same_form(f, &q, &back);
        assert_ledger(&q, p.bytes);
        ptq_arena_clear(&f->arena);
    }
}

static void files(void **state)
{
    struct fixture *f = *state;
    char folder[TEST_PATH], path[TEST_PATH], layer[32];
    struct ptq_h5 *h5;
    test_tmpdir(folder);
    test_path(folder, "forms.h5", path);
    assert_ok(ptq_h5_open(&h5, path, PTQ_H5_CREATE, &f->st), &f->st);
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct ptq_quant q, back;
        draw_form(f, seed, &q);
        snprintf(layer, sizeof layer, "blk.%d.attn_q", (int)seed);
        assert_ok(ptq_form_write_packed(h5, layer, &q, &f->st), &f->st);
        if (seed % 2)
            assert_ok(ptq_form_write_quant(h5, layer, &q, NULL, &f->st), &f->st);
        assert_ok(ptq_form_read_packed(h5, layer, &f->arena, &back, &f->st), &f->st);
        assert_same_form(f, &q, &back);
    }
    assert_ok(ptq_h5_close(h5, &f->st), &f->st);
    test_rmdir(folder);
}

/* Names and shapes that other programs read. */
static void quant_group(void **state)
{
    struct fixture *f = *state;
    char folder[TEST_PATH], path[TEST_PATH];
    struct ptq_h5 *h5;
    struct ptq_h5_info info;
    struct ptq_quant q = book_form();
    const uint16_t codes[12] = {3};
    const float left[] = {3, 1, 2}, right[] = {10, 20, 5, 2}, divisor[] = {4, 3, 2, 1};
    float *at;
    int64_t dim = 0;
    q.n_parts = 2;
    q.part[0].bits = 2;
    q.part[0].codes = codes;
    q.part[0].dim = 1;
    q.part[0].book_len = 4;
    q.part[1] = (struct ptq_part){.kind = PTQ_PART_LOWRANK,
                                  .rank = 1,
                                  .left = f32_array(left, 3),
                                  .right = f32_array(right, 4)};
    q.act.divisor = f32_array(divisor, 4);
    q.act.folds = true;
    test_tmpdir(folder);
    test_path(folder, "forms.h5", path);
    assert_ok(ptq_h5_open(&h5, path, PTQ_H5_CREATE, &f->st), &f->st);
    assert_ok(ptq_form_write_quant(h5, "l", &q, NULL, &f->st), &f->st);
    assert_ok(ptq_h5_read_f32(h5, "/quant/l/book", &f->arena, &at, &info, &f->st), &f->st);
    assert_true(info.rank == 3 && info.dim[0] == 4 && info.dim[1] == 4 && info.dim[2] == 1);
    assert_memory_equal(at, book_ints, sizeof book_ints);
    assert_ok(ptq_h5_info(h5, "/quant/l/codes", &info, &f->st), &f->st);
    assert_true(info.rank == 2 && info.dim[0] == 3 && info.dim[1] == 4);
    assert_ok(ptq_h5_read_f32(h5, "/quant/l/part1.right", &f->arena, &at, &info, &f->st), &f->st);
    assert_true(info.rank == 2 && info.dim[0] == 1 && info.dim[1] == 4 && at[1] == 20);
    assert_ok(ptq_h5_read_f32(h5, "/quant/l/divisor", &f->arena, &at, &info, &f->st), &f->st);
    assert_true(info.rank == 1 && info.dim[0] == 4 && at[1] == 3);
    assert_ok(ptq_h5_get_i64(h5, "/quant/l", "part0.dim", &dim, &f->st), &f->st);
    assert_true(dim == 1 && !ptq_h5_exists(h5, "/quant/l/zero"));
    assert_ok(ptq_h5_close(h5, &f->st), &f->st);
    test_rmdir(folder);
}

/* ---- the ledger as papers count ---- */

static struct ptq_part empty_book(int bits, int64_t dim, int64_t len, int64_t rows, int64_t cols)
{
    return (struct ptq_part){.kind = PTQ_PART_CODEBOOK,
                             .bits = bits,
                             .dim = dim,
                             .book_len = len,
                             .book_rows = rows,
                             .book_cols = cols};
}

static double paper_of(const struct ptq_quant *q, double *nominal)
{
    struct ptq_ledger l;
    ptq_quant_ledger(q, &l);
    *nominal = l.nominal;
    return l.paper;
}

/* Athena (methods.md section 3): b + (K c + 32) / (m g) + r (m + n) 8 / (m n). */
static void paper_athena(void **state)
{
    (void)state;
    const double m = 64, n = 256, g = 32, b = 3, c = 6, r = 2;
    double nominal;
    struct ptq_quant q = {.rows = 64, .cols = 256, .n_parts = 2};
    q.part[0] = empty_book(3, 1, 8, 64, 32);
    q.part[0].book = int_array(NULL, 8 * 8, 6, false);
    q.part[0].book_step = q.part[0].book_min = (struct ptq_arr){.fmt = PTQ_FMT_F16, .n = 8};
    q.part[1] = (struct ptq_part){.kind = PTQ_PART_LOWRANK, .rank = 2};
    q.part[1].left = int_array(NULL, 128, 8, true);
    q.part[1].right = int_array(NULL, 512, 8, true);
    q.part[1].left_scale = q.part[1].right_scale = (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = 2};
    assert_rel(paper_of(&q, &nominal), b + (8 * c + 32) / (m * g) + r * (m + n) * 8 / (m * n),
               1e-14);
    assert_true(nominal == 3);
}

/* QET (section 5): N D l / 2 + N M ceil(log2 K) + K D c + 2 32 a stage; OPQ adds D^2 32, vanilla
 * books have 32 bits. */
static void paper_qet(void **state)
{
    (void)state;
    const double rows = 2048, cols = 128, m = 16;
    double nominal;
    struct ptq_quant q = {.rows = 2048, .cols = 128, .n_parts = 2};
    for (int k = 0; k < 2; k++) {
        q.part[k] = empty_book(k ? 5 : 8, 8, k ? 20 : 200, 2048, 8);
        q.part[k].book = int_array(NULL, q.part[k].book_len * 128, 10, false);
        q.part[k].book_step = q.part[k].book_min = (struct ptq_arr){.fmt = PTQ_FMT_F32, .n = 1};
    }
    q.part[0].tree_levels = 3;
    double bits = rows * cols * 3 / 2 + rows * m * (8 + 5) + (200 + 20) * cols * 10 + 2 * 2 * 32;
    assert_rel(paper_of(&q, &nominal), bits / (rows * cols), 1e-14);
    assert_true(nominal == 13.0 / 8);
    q.n_parts = 1;
    q.part[0] = empty_book(8, 8, 200, 2048, 8);
    q.part[0].book = f32_array(NULL, 200 * 128);
    q.part[0].rot = f32_array(NULL, 128 * 128);
    bits = rows * m * 8 + 200 * cols * 32 + cols * cols * 32;
    assert_rel(paper_of(&q, &nominal), bits / (rows * cols), 1e-14);
}

/* FlattenQuant (section 6): b n' / n + 16 n' / (m n), and 16 for its one scale. */
static void paper_flattenquant(void **state)
{
    (void)state;
    const double m = 64, n = 100, flat = 128;
    double nominal;
    int32_t source[128] = {0}, piece[128] = {0};
    struct ptq_quant q = {.rows = 64, .cols = 100, .n_parts = 1};
    q.part[0] = (struct ptq_part){.bits = 4, .group_cols = 128, .scale = f32_array(unit, 1)};
    q.split = (struct ptq_split){128, source, piece, 1};
    assert_rel(paper_of(&q, &nominal), 4 * flat / n + (16 * flat + 16) / (m * n), 1e-14);
    assert_true(nominal == 4);
}

/* ---- damage ---- */

struct damage {
    const char *word; /* of the message */
    void (*apply)(struct ptq_quant *);
};

static const uint8_t two[] = {0, 2, 0, 0, 0, 0};
static const float bad_divisor[] = {1, 0, 1, 1}, not_bf16[] = {1, 1.001f, 1, 1},
                   too_wide[] = {0, 1, 2, 3, 4, 8, 6, 7, 1, 1, 2, 2, 3, 0, 0, 3};
static const uint16_t outside[] = {0, 1, 1, 2, 1, 1};
static const int32_t no_channel[] = {0, 1, 4, -1}, low_piece[] = {-1, -2, 0, 0},
                     some[] = {0, 1, 2, -1};

#define DAMAGE(name, statement)                                                                    \
    static void name(struct ptq_quant *q)                                                          \
    {                                                                                              \
        struct ptq_part *p = &q->part[0];                                                          \
        (void)p;                                                                                   \
        statement;                                                                                 \
    }
DAMAGE(d_dim, p->dim = 3)
DAMAGE(d_dim_zero, p->dim = 0)
DAMAGE(d_book_cols, p->book_cols = 3)
DAMAGE(d_book_rows, p->book_rows = 4)
DAMAGE(d_book_len, p->book_len = 3)
DAMAGE(d_book_n, p->book.n = 15)
DAMAGE(d_book_absent, p->book = (struct ptq_arr){0})
DAMAGE(d_no_step, p->book_step = (struct ptq_arr){0})
DAMAGE(d_min_n, p->book_min.n = 1)
DAMAGE(d_step_int, p->book_step.fmt = PTQ_FMT_INT)
DAMAGE(d_step_of_floats, p->book.fmt = PTQ_FMT_F32)
DAMAGE(d_outside, (p->bits = 2, p->codes = outside))
DAMAGE(d_too_wide, p->book.at = too_wide)
DAMAGE(d_group, (p->scale = f32_array(book_scale, 6), p->group_cols = 5))
DAMAGE(d_zero, p->zero = f32_array(book_scale, 1))
DAMAGE(d_perm, p->perm = some)
DAMAGE(d_left, p->left = f32_array(book_scale, 3))
DAMAGE(d_tree, (p->tree_levels = 3, p->tree_bits = two))
DAMAGE(d_tree_minus, p->tree_levels = -1)
DAMAGE(d_tree_absent, p->tree_levels = 1)
DAMAGE(d_tree_two, (p->tree_levels = 1, p->tree_bits = two))
DAMAGE(d_rot, p->rot = f32_array(book_ints, 15))
DAMAGE(d_rot_int, p->rot = int_array(book_ints, 16, 3, false))
DAMAGE(d_divisor_n, q->act.divisor = f32_array(book_step, 3))
DAMAGE(d_divisor_zero, q->act.divisor = f32_array(bad_divisor, 4))
DAMAGE(d_divisor_fmt, q->act.divisor = ((struct ptq_arr){PTQ_FMT_BF16, 0, false, 4, not_bf16}))
DAMAGE(d_divisor_gone, q->act.divisor = f32_array(NULL, 4))
DAMAGE(d_act_bits, q->act.bits = 9)
DAMAGE(d_act_scale, q->act.scale = 1)
DAMAGE(d_act_nan, (q->act.bits = 8, q->act.scale = NAN))
DAMAGE(d_channel, q->split = ((struct ptq_split){4, no_channel, some, 1}))
DAMAGE(d_piece, q->split = ((struct ptq_split){4, some, low_piece, 1}))
DAMAGE(d_limit, q->split = ((struct ptq_split){4, some, some, 0}))
DAMAGE(d_split_gone, q->split.n_cols = 4)
DAMAGE(d_lowrank_codes, p->kind = PTQ_PART_LOWRANK)
DAMAGE(d_rank, (p->kind = PTQ_PART_LOWRANK, p->rank = 4))
DAMAGE(d_parts, q->n_parts = 0)

static const struct damage damages[] = {
    {"dim does not divide", d_dim},
    {"dim does not divide", d_dim_zero},
    {"dim does not divide", d_book_cols},
    {"not within the matrix", d_book_rows},
    {"book_len", d_book_len},
    {"book: array of the wrong length", d_book_n},
    {"book: it is absent", d_book_absent},
    {"book_step: it is absent", d_no_step},
    {"not that of book_step", d_min_n},
    {"no floating format", d_step_int},
    {"book_step: a part of this kind, or without integers, has none", d_step_of_floats},
    {"code 2 at row 1, column 2 is not below 2, the length of its book", d_outside},
    {"book[5] = 8 does not fit its bits", d_too_wide},
    {"group_cols", d_group},
    {"zero: a part of this kind", d_zero},
    {"only uniform parts have a perm", d_perm},
    {"left: a part of this kind", d_left},
    {"2^tree_levels", d_tree},
    {"2^tree_levels", d_tree_minus},
    {"tree_bits absent", d_tree_absent},
    {"tree_bits are not 0 and 1", d_tree_two},
    {"rot: array of the wrong length", d_rot},
    {"rot: it has no floating format", d_rot_int},
    {"divisor: array of the wrong length", d_divisor_n},
    {"divisor[1] = 0 is not > 0", d_divisor_zero},
    {"divisor[1] = 1.001 is not a value of its format", d_divisor_fmt},
    {"divisor: no values", d_divisor_gone},
    {"2..8 bits", d_act_bits},
    {"a scale but no bits", d_act_scale},
    {"not finite", d_act_nan},
    {"column 2 of the split is piece 2 of channel 4", d_channel},
    {"piece -2 of channel 1", d_piece},
    {"limit of the split", d_limit},
    {"source or piece", d_split_gone},
    {"rank", d_lowrank_codes},
    {"rank", d_rank},
    {"n_parts", d_parts},
};

static void broken_rules(void **state)
{
    struct fixture *f = *state;
    for (int64_t i = 0; i < LENGTH(damages); i++) {
        struct ptq_quant q = book_form();
        assert_ok(ptq_quant_validate(&q, &f->st), &f->st);
        damages[i].apply(&q);
        assert_int_equal(ptq_quant_validate(&q, &f->st), PTQ_ERR_NUMERIC);
        assert_status(&f->st, PTQ_ERR_NUMERIC, damages[i].word);
        ptq_status_clear(&f->st);
    }
}

/* Heads that ask for far more than their bytes: refused before memory is taken. */
static void hostile_heads(void **state)
{
    struct fixture *f = *state;
    const int64_t huge[] = {
        INT64_MAX, INT64_MAX / 2, INT64_C(1) << 40, INT64_C(1) << 32, INT32_MAX, 1 << 20, 0, -1};
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct ptq_quant q, back;
        struct ptq_packed p;
        struct ptq_form_head h;
        draw_form(f, seed, &q);
        assert_ok(ptq_quant_pack(&q, &f->arena, &p, &f->st), &f->st);
        ptq_quant_head(&q, &h);
        struct ptq_part_head *part = &h.part[0];
        int64_t *const field[] = {
            &h.rows,          &h.cols,           &h.split_cols,        &h.divisor.n,
            &part->dim,       &part->book_len,   &part->book_rows,     &part->rank,
            &part->book_cols, &part->group_cols, &part->groups_per_row};
        for (int64_t k = 0; k < LENGTH(field); k++)
            for (int64_t v = 0; v < LENGTH(huge); v++) {
                const int64_t was = *field[k];
                const size_t used = f->arena.used_bytes;
                *field[k] = huge[v];
                f->arena.limit_bytes = used + 4096 + 80 * (size_t)p.bytes;
                int rc = ptq_quant_unpack(&h, &p, &f->arena, &back, &f->st);
                assert_true(rc == PTQ_OK || rc == PTQ_ERR_USAGE);
                *field[k] = was;
                ptq_status_clear(&f->st);
            }
        for (int id = 0; id < PTQ_N_ARRS; id++) {
            const struct ptq_arr_head was = part->arr[id];
            part->arr[id] = (struct ptq_arr_head){PTQ_FMT_F32, 0, false, INT64_MAX / 4};
            assert_int_equal(ptq_quant_unpack(&h, &p, &f->arena, &back, &f->st), PTQ_ERR_USAGE);
            part->arr[id] = was;
            ptq_status_clear(&f->st);
        }
        f->arena.limit_bytes = 0;
        ptq_arena_clear(&f->arena);
    }
}

/* A static scale of 0 is none, and takes no bytes. */
static void one_packed_form(void **state)
{
    struct fixture *f = *state;
    struct ptq_quant q = book_form(), back;
    struct ptq_packed p;
    struct ptq_form_head h;
    q.act = (struct ptq_act){.bits = 8, .scale = .5f};
    assert_ok(ptq_quant_pack(&q, &f->arena, &p, &f->st), &f->st);
    ptq_quant_head(&q, &h);
    assert_ok(ptq_quant_unpack(&h, &p, &f->arena, &back, &f->st), &f->st);
    memset((uint8_t *)(uintptr_t)p.at + p.bytes - 4, 0, 4);
    assert_int_equal(ptq_quant_unpack(&h, &p, &f->arena, &back, &f->st), PTQ_ERR_USAGE);
    assert_status(&f->st, PTQ_ERR_USAGE, "wider than their values need");
}

/* Any byte changed: another form or none, never one that breaks the rules. */
static void changed_bytes(void **state)
{
    struct fixture *f = *state;
    int64_t refused = 0, accepted = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct ptq_quant q, back;
        struct ptq_packed p;
        struct ptq_form_head h;
        char key[33], other[33];
        draw_form(f, seed, &q);
        assert_ok(ptq_quant_pack(&q, &f->arena, &p, &f->st), &f->st);
        ptq_quant_head(&q, &h);
        ptq_quant_hash(&q, key);
        for (int64_t i = 0; i < p.bytes; i += 1 + p.bytes / 16) {
            uint8_t *at = (uint8_t *)(uintptr_t)p.at + i;
            *at ^= 0xFF;
            if (ptq_quant_unpack(&h, &p, &f->arena, &back, &f->st) == PTQ_OK) {
                assert_ok(ptq_quant_validate(&back, &f->st), &f->st);
                ptq_quant_hash(&back, other);
                assert_string_not_equal(other, key); /* 0xFF meets more than padding */
                accepted++;
            } else {
                refused++;
            }
            *at ^= 0xFF;
            ptq_status_clear(&f->st);
        }
        if (h.folds) {
            struct ptq_packed alone = p;
            alone.n_folded--;
            assert_int_equal(ptq_quant_unpack(&h, &alone, &f->arena, &back, &f->st), PTQ_ERR_USAGE);
            alone = p;
            alone.folded = NULL;
            ptq_status_clear(&f->st);
            assert_int_equal(ptq_quant_unpack(&h, &alone, &f->arena, &back, &f->st), PTQ_ERR_USAGE);
            assert_status(&f->st, PTQ_ERR_USAGE, "beside it");
            ptq_status_clear(&f->st);
        }
        ptq_arena_clear(&f->arena);
    }
    assert_true(refused > 100 && accepted > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codebook_values),
        cmocka_unit_test(lowrank_values),
        cmocka_unit_test(tree_values),
        cmocka_unit_test(tree_undone),
        cmocka_unit_test(rotated_values),
        cmocka_unit_test(rotated_wide),
        cmocka_unit_test(sum_and_divisor),
        cmocka_unit_test(split_values),
        cmocka_unit_test_setup_teardown(layout_of_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(random_forms, setup, teardown),
        cmocka_unit_test_setup_teardown(files, setup, teardown),
        cmocka_unit_test_setup_teardown(quant_group, setup, teardown),
        cmocka_unit_test(paper_athena),
        cmocka_unit_test(paper_qet),
        cmocka_unit_test(paper_flattenquant),
        cmocka_unit_test_setup_teardown(broken_rules, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_heads, setup, teardown),
        cmocka_unit_test_setup_teardown(one_packed_form, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_bytes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
