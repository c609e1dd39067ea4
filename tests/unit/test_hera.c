/* HERA (QET) and the baselines of its paper: the tree against its definition, the bits against the
 * formula of the published code, and the errors against those of the published code. */
#include "quant_lib.h"
#include "quant/ctx.h"

/* The double names of ptq.h, which declares the float ones here. */
struct ptq_product_f64 {
    const double *x;
    int64_t rows, cols, subspaces;
    int64_t k;
    int book_bits, iterations;
    uint64_t seed;
    double *books;
    bool start;
    double *decoded;
};
int ptq_product_quantize_f64(struct ptq_ctx *, const struct ptq_product_f64 *, struct ptq_part *);

/* iid normal weights, `distinct` different rows (0: all). */
static void gaussian_layer(struct fixture *f, int64_t rows, int64_t cols, int64_t distinct)
{
    float *w = ptq_arena_alloc(&f->arena, &f->st, rows * cols, sizeof *w);
    assert_non_null(w);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            w[i * cols + j] =
                (float)ptq_normal(17, (uint64_t)((distinct ? i % distinct : i) * cols + j));
    f->layer = (struct ptq_layer){.name = "gaussian", .block = -1, .w = {w, rows, cols, cols}};
}

static struct ptq_cell budget_of(int bits)
{
    return cell_of(bits, PTQ_GROUP_ROW);
}

static void quantize(struct fixture *f, const char *spec, int bits, enum ptq_precision precision,
                     struct ptq_result *r)
{
    struct run_args a = {&f->layer, spec, budget_of(bits), precision, NULL};
    assert_ok(run_cell(&a, r, &f->st), &f->st);
}

static double mse(const struct fixture *f, const struct ptq_result *r)
{
    double sum = 0;
    int64_t n = f->layer.w.rows * f->layer.w.cols;
    for (int64_t i = 0; i < n; i++) {
        double e = (double)r->what[i] - (double)f->layer.w.at[i];
        sum += e * e;
    }
    return sum / (double)n;
}

/* ---- the tree ---- */

/* methods.md section 5, by the word: one layer, then the same of S and of L by themselves. Bits of
 * the children follow each other level by level. */
static void tree_by_definition(const float *x, int n, int levels, uint8_t *bits, int64_t a_level,
                               float *out)
{
    float small[64], large[64];
    if (levels == 0) {
        memcpy(out, x, (size_t)n * sizeof *x);
        return;
    }
    for (int j = 0; j < n / 2; j++) {
        small[j] = fminf(x[2 * j], x[2 * j + 1]);
        large[j] = fmaxf(x[2 * j], x[2 * j + 1]);
        bits[j] = x[2 * j] < x[2 * j + 1];
    }
    tree_by_definition(small, n / 2, levels - 1, bits + a_level, a_level, out);
    tree_by_definition(large, n / 2, levels - 1, bits + a_level + n / 4, a_level, out + n / 2);
}

/* As many centroids as there are different rows, and more: nothing is lost but what the tree and
 * its inverse would lose. */
static void tree_round_trip(void **state)
{
    enum { ROWS = 512, COLS = 64, DISTINCT = 24 };
    struct fixture *f = *state;
    gaussian_layer(f, ROWS, COLS, DISTINCT);
    for (int levels = 0; levels <= 5; levels++)
        for (int precision = 0; precision < 2; precision++) {
            struct ptq_result r;
            char spec[80];
            snprintf(spec, sizeof spec, "hera:levels=%d:stages=1:book_bits=32:m=4:iterations=200",
                     levels);
            quantize(f, spec, 6, (enum ptq_precision)precision, &r);
            const struct ptq_part *p = &r.quant.part[0];
            assert_true(p->book_len > DISTINCT && p->tree_levels == levels);
            assert_memory_equal(r.what, f->layer.w.at, ROWS * COLS * sizeof(float));
            for (int64_t i = 0; i < DISTINCT && levels; i++) {
                uint8_t bits[5 * COLS / 2];
                float seen[COLS];
                tree_by_definition(f->layer.w.at + i * COLS, COLS, levels, bits, COLS / 2, seen);
                assert_memory_equal(bits, p->tree_bits + i * levels * (COLS / 2),
                                    (size_t)levels * (COLS / 2));
                for (int64_t j = 0; j < COLS; j++) {
                    int64_t s = j / p->dim;
                    int64_t at = (s * p->book_len + p->codes[i * 4 + s]) * p->dim + j % p->dim;
                    assert_true(p->book.at[at] == seen[j]);
                }
            }
            ptq_result_release(&r);
        }
}

/* ---- bits ---- */

static double formula_bits(double rows, double cols, double m, double k, double book_bits)
{
    return rows * m * ceil(log2(k)) + k * cols * book_bits + (book_bits < 32 ? 64 : 0);
}

struct bits_case {
    const char *spec;
    int bits;
    int64_t m;
    int book_bits;
    double tree, rot, share[PTQ_MAX_PARTS]; /* bits a weight; shares of what is left after both */
};

static void check_bits(struct fixture *f, const struct bits_case *c)
{
    struct ptq_result r;
    struct ptq_ledger l;
    const double rows = (double)f->layer.w.rows, cols = (double)f->layer.w.cols, n = rows * cols;
    const double left = n * (c->bits - c->tree - c->rot);
    double want = n * (c->tree + c->rot);
    int parts = 0;
    quantize(f, c->spec, c->bits, PTQ_SINGLE, &r);
    for (int i = 0; i < PTQ_MAX_PARTS && c->share[i] > 0; i++, parts++) {
        double k = (double)r.quant.part[i].book_len, m = (double)c->m;
        want += formula_bits(rows, cols, m, k, c->book_bits);
        assert_true(formula_bits(rows, cols, m, k, c->book_bits) <= c->share[i] * left);
        assert_true(k == rows ||
                    formula_bits(rows, cols, m, k + 1, c->book_bits) > c->share[i] * left);
    }
    assert_int_equal(r.quant.n_parts, parts);
    ptq_quant_ledger(&r.quant, &l);
    const double padding = 8 * 4 * parts;
    assert_true(fabs(l.total - want) <= padding && l.total <= n * c->bits + padding);
    assert_true(fabs(l.tree - n * c->tree) <= 8 && fabs(l.rot - n * c->rot) <= 8);
    assert_true(l.total == l.codes + l.books + l.tree + l.rot);
    ptq_result_release(&r);
}

static void bits_are_the_formulas(void **state)
{
    static const struct bits_case cases[] = {
        {"hera:m=8", 4, 8, 10, 1.5, 0, {0.7, 0.3}},
        {"qet:m=16", 3, 16, 10, 1.5, 0, {0.7, 0.3}},
        {"hera:m=8:levels=1:levels_rest=2:stages=3:split=.5", 5, 8, 10, 2.5, 0, {.5, .25, .25}},
        {"hera:m=8:stages=1:levels=2:book_bits=32", 4, 8, 32, 1, 0, {1}},
        {"pq:m=8", 3, 8, 32, 0, 0, {1}},
        {"pq:m=32:book_bits=7", 2, 32, 7, 0, 0, {1}},
        {"rpq:m=16", 3, 16, 10, 0, 0, {0.5, 0.5}},
        {"rpq:m=16:stages=1", 8, 16, 10, 0, 0, {1}},
        {"rpq:split=.8", 2, 16, 10, 0, 0, {0.8, 0.2}}, /* runs of 4 columns */
        {"opq:m=8:rotations=2", 6, 8, 32, 0, 32.0 * 64 / 600, {1}},
    };
    struct fixture *f = *state;
    gaussian_layer(f, 600, 64, 0);
    for (int64_t i = 0; i < LENGTH(cases); i++)
        check_bits(f, &cases[i]);
}

static void stage_without_a_budget_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct ptq_result r;
    gaussian_layer(f, 24, 64, 0); /* 2 centroids of 10 bits: 2 * 10 / 24 + 1 / 8 = .96 a weight */
    quantize(f, "hera:m=8", 4, PTQ_SINGLE, &r);
    assert_int_equal(r.quant.n_parts, 1);
    assert_true(note_of(&r, "n_stages_dropped") == 1);
    ptq_result_release(&r);
    quantize(f, "hera:m=8", 5, PTQ_SINGLE, &r); /* (5 - 1.5) * .3 = 1.05 */
    assert_int_equal(r.quant.n_parts, 2);
    assert_true(note_of(&r, "n_stages_dropped") == 0);
    ptq_result_release(&r);
}

/* ---- cells that cannot be done ---- */

struct refusal {
    const char *spec;
    int64_t rows, cols;
    struct ptq_cell cell;
    const char *reason;
};

static void refused(void **state)
{
    struct ptq_cell sym = cell_of(4, -1);
    sym.sym = true;
    const struct refusal cases[] = {
        {"hera", 1, 64, budget_of(4), "2 rows; gaussian has 1"},
        {"pq", 1, 64, budget_of(8), "2 rows"},
        {"rpq", 1, 64, budget_of(8), "2 rows"},
        {"hera", 300, 60, budget_of(4), "60 columns are not divisible by 2^3"},
        {"hera:m=7", 300, 64, budget_of(4), "64 columns do not fall into m = 7"},
        {"rpq", 300, 66, budget_of(4), "66 columns do not fall into runs of 4"},
        {"hera", 300, 64, budget_of(1), "no bits a weight are left"},
        {"pq", 16, 64, budget_of(2), "does not pay for 2 centroids"},
        {"opq", 300, 64, budget_of(4), "the rotation alone takes 6.83 of 4 bits"},
        {"hera", 300, 64, cell_of(4, 32), "groups of columns"},
        {"pq", 300, 64, cell_of(4, 0), "one grid for the tensor"},
        {"rpq", 300, 64, sym, "symmetric grids"},
    };
    struct fixture *f = *state;
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_result r;
        gaussian_layer(f, cases[i].rows, cases[i].cols, 0);
        struct run_args a = {&f->layer, cases[i].spec, cases[i].cell, PTQ_SINGLE, NULL};
        assert_int_equal(run_cell(&a, &r, &f->st), PTQ_SKIP);
        assert_status(&f->st, PTQ_SKIP, cases[i].reason);
        ptq_status_clear(&f->st);
    }
}

/* ---- product quantization ---- */

static void as_many_centroids_as_rows(void **state)
{
    enum { N = 300, COLS = 12 };
    struct fixture *f = *state;
    struct ptq_ctx ctx = {
        .call = &f->arena, .result = &f->arena, .st = &f->st, .lock = PTHREAD_MUTEX_INITIALIZER};
    double x[N * COLS], decoded[N * COLS];
    for (int i = 0; i < N * COLS; i++)
        x[i] = (double)(float)ptq_normal(3, (uint64_t)i);
    struct ptq_product_f64 p = {.x = x,
                                .rows = N,
                                .cols = COLS,
                                .subspaces = 3,
                                .k = N,
                                .book_bits = PTQ_BOOK_F32,
                                .iterations = 5,
                                .decoded = decoded};
    struct ptq_part part;
    assert_ok(ptq_product_quantize_f64(&ctx, &p, &part), &f->st);
    assert_memory_equal(x, decoded, sizeof x);
    assert_true(part.bits == 9 && part.book.n == N * COLS);
}

/* Books of 3 bits are far from the centroids: codes must be the nearest of what is stored. */
static void codes_are_of_the_stored_books(void **state)
{
    enum { N = 200, COLS = 8, DIM = 4, K = 20 };
    struct fixture *f = *state;
    gaussian_layer(f, N, COLS, 0);
    struct ptq_ctx ctx = {
        .call = &f->arena, .result = &f->arena, .st = &f->st, .lock = PTHREAD_MUTEX_INITIALIZER};
    struct ptq_product_f32 p = {.x = f->layer.w.at,
                                .rows = N,
                                .cols = COLS,
                                .subspaces = 2,
                                .k = K,
                                .book_bits = 3,
                                .iterations = 5};
    struct ptq_part part;
    assert_ok(ptq_product_quantize_f32(&ctx, &p, &part), &f->st);
    for (int i = 0; i < N * COLS / DIM; i++) {
        double dist[K];
        for (int c = 0; c < K; c++) {
            dist[c] = 0;
            for (int j = 0; j < DIM; j++) {
                double v =
                    (double)part.book_step.at[0] * (double)part.book.at[(i % 2 * K + c) * DIM + j] +
                    (double)part.book_min.at[0];
                double e = v - (double)f->layer.w.at[i * DIM + j];
                dist[c] += e * e;
            }
        }
        for (int c = 0; c < K; c++)
            assert_true(dist[part.codes[i]] <= dist[c] * (1 + 1e-5));
    }
}

static void threads_do_not_matter(void **state)
{
    static const char *const specs[] = {"hera", "pq:m=2", "rpq:m=1", "opq:m=4:rotations=3"};
    struct fixture *f = *state;
    struct ptq_pool *pool;
    assert_ok(ptq_pool_new(&pool, 3, &f->st), &f->st);
    gaussian_layer(f, 700, 32, 0);
    for (int64_t i = 0; i < LENGTH(specs); i++) {
        struct ptq_result one, many;
        char hash[2][33];
        struct run_args a = {&f->layer, specs[i], budget_of(4), PTQ_SINGLE, NULL};
        assert_ok(run_cell(&a, &one, &f->st), &f->st);
        a.pool = pool;
        assert_ok(run_cell(&a, &many, &f->st), &f->st);
        ptq_quant_hash(&one.quant, hash[0]);
        ptq_quant_hash(&many.quant, hash[1]);
        assert_string_equal(hash[0], hash[1]);
        ptq_result_release(&one);
        ptq_result_release(&many);
    }
    ptq_pool_free(pool);
}

/* On data that a rotation makes two dimensional, OPQ must find it, and PQ at its bits cannot. */
static void rotation_is_found(void **state)
{
    enum { N = 4000, COLS = 8 };
    struct fixture *f = *state;
    float *w = ptq_arena_alloc(&f->arena, &f->st, N * COLS, sizeof *w);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < COLS; j++) {
            double a = ptq_normal(41, (uint64_t)(2 * i)), b = ptq_normal(41, (uint64_t)(2 * i + 1));
            w[i * COLS + j] = (float)(a * cos((double)j) + b * sin((double)j));
        }
    f->layer = (struct ptq_layer){.name = "flat", .block = -1, .w = {w, N, COLS, COLS}};
    struct ptq_result r;
    quantize(f, "pq:m=4", 2, PTQ_DOUBLE_PRECISION, &r);
    double plain = mse(f, &r);
    ptq_result_release(&r);
    quantize(f, "opq:m=4:rotations=0", 2, PTQ_DOUBLE_PRECISION, &r);
    double unturned = mse(f, &r);
    ptq_result_release(&r);
    quantize(f, "opq:m=4", 2, PTQ_DOUBLE_PRECISION, &r);
    const float *rot = r.quant.part[0].rot.at;
    for (int i = 0; i < COLS; i++)
        for (int j = 0; j < COLS; j++) {
            double sum = 0;
            for (int k = 0; k < COLS; k++)
                sum += (double)rot[i * COLS + k] * (double)rot[j * COLS + k];
            assert_true(fabs(sum - (i == j)) < 1e-6);
        }
    if (!(mse(f, &r) < 0.5 * plain && mse(f, &r) < 0.5 * unturned))
        fail_msg("opq %g, without turns %g, pq %g", mse(f, &r), unturned, plain);
    ptq_result_release(&r);
}

/* ---- the errors of the published code ---- */

struct published {
    char spec[96];
    int bits;
    double error;
};

static bool reproduces(struct fixture *f, const struct published *p)
{
    struct ptq_result r;
    quantize(f, p->spec, p->bits, PTQ_SINGLE, &r);
    double error = mse(f, &r), off = error / p->error - 1;
    ptq_result_release(&r);
    if (fabs(off) > 0.03)
        printf("%d bits %s: %.4f, published code %.4f (%+.1f %%)\n", p->bits, p->spec, error,
               p->error, 100 * off);
    return fabs(off) <= 0.03;
}

/* methods.md section 5: the authors' code on iid normal numbers, 2048 x 128, fp32 books where
 * vanilla, 10 iterations; the draw is another, so 3 %. */
static void published_errors(void **state)
{
    static const struct {
        int bits, m;
        double pq, vanilla[3], qet;
    } table[] = {
        {4, 16, 0.266, {0.196, 0.145, 0.107}, 0.0474},
        {4, 32, 0.111, {0.082, 0.068, 0.053}, 0.0381},
        {4, 64, 0.0291, {0.0387, 0.0265, 0.0346}, 0.0438},
        {3, 16, 0.312, {0.229, 0.177, 0.137}, 0.0846},
        {3, 32, 0.147, {0.113, 0.112, 0.106}, 0.103},
        {3, 64, 0.0564, {0.074, 0.094, 0.115}, 0.115},
    };
    struct fixture *f = *state;
    int bad = 0;
    gaussian_layer(f, 2048, 128, 0);
    for (int64_t i = 0; i < LENGTH(table); i++) {
        int m = table[i].m;
        struct published p = {.bits = table[i].bits, .error = table[i].pq};
        snprintf(p.spec, sizeof p.spec, "pq:m=%d:iterations=10", m);
        bad += !reproduces(f, &p);
        for (int l = 1; l <= 3; l++) {
            p.error = table[i].vanilla[l - 1];
            snprintf(p.spec, sizeof p.spec,
                     "hera:m=%d:levels=%d:stages=1:book_bits=32:iterations=10", m, l);
            bad += !reproduces(f, &p);
        }
        p.error = table[i].qet;
        snprintf(p.spec, sizeof p.spec, "qet:m=%d:iterations=10", m);
        bad += !reproduces(f, &p);
    }
    assert_int_equal(bad, 0);
}

/* methods.md section 9, a check elsewhere: books of 10 bits and no tree, in equal stages or one. */
static void errors_without_the_tree(void **state)
{
    static const struct published cases[] = {{"rpq:m=16:iterations=10", 4, 0.0676},
                                             {"rpq:m=32:iterations=10", 4, 0.0287},
                                             {"rpq:m=64:stages=1:iterations=10", 4, 0.0187}};
    struct fixture *f = *state;
    gaussian_layer(f, 2048, 128, 0);
    for (int64_t i = 0; i < LENGTH(cases); i++)
        assert_true(reproduces(f, &cases[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tree_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(bits_are_the_formulas, setup, teardown),
        cmocka_unit_test_setup_teardown(stage_without_a_budget_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(refused, setup, teardown),
        cmocka_unit_test_setup_teardown(as_many_centroids_as_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(codes_are_of_the_stored_books, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_do_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(rotation_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(published_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_without_the_tree, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
