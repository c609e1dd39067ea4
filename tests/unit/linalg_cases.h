/* linalg_cases.h: the tests of one precision. Included twice by test_linalg.c with T (float,
 * double), S (f32, f64) and EPS (unit roundoff of T) defined. Expected values are plain loops in
 * long double. Bounds are those of rounding error analysis for any order of summation (Higham,
 * Accuracy and Stability of Numerical Algorithms, 2nd ed.: sections 3.5, 8.1 and theorem 10.3). */
#define CAT2(a, b) a##_##b
#define CAT(a, b)  CAT2(a, b)
#define F(name)    CAT(name, S)

struct F(matrix) {
    int64_t rows, cols, ld;
    T *at;
};

/* Uniform in [-1, 1); the gap between cols and ld holds NaN, which must not be read. */
static struct F(matrix) F(random)(int64_t rows, int64_t cols, int64_t gap, uint64_t seed)
{
    struct F(matrix) m = {rows, cols, cols + gap, NULL};
    m.at = test_malloc((size_t)(rows * m.ld + 1) * sizeof(T));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < m.ld; j++)
            m.at[i * m.ld + j] = j < cols ? (T)draw(&seed) : (T)NAN;
    return m;
}

static void F(assert_gap_kept)(const struct F(matrix) * m)
{
    for (int64_t i = 0; i < m->rows; i++)
        for (int64_t j = m->cols; j < m->ld; j++)
            assert_true(isnan(m->at[i * m->ld + j]));
}

static T *F(copy)(const struct F(matrix) * m)
{
    size_t bytes = (size_t)(m->rows * m->ld + 1) * sizeof(T);
    return memcpy(test_malloc(bytes), m->at, bytes);
}

static void F(assert_same_bits)(const struct F(matrix) * a, const T *b)
{
    for (int64_t i = 0; i < a->rows; i++)
        assert_memory_equal(a->at + i * a->ld, b + i * a->ld, (size_t)a->cols * sizeof(T));
}

struct F(product) {
    struct F(matrix) a, b, c;
    struct CAT(ptq_gemm, S) g;
};

static struct F(product) F(product_new)(const struct shape *s, uint64_t seed)
{
    struct F(product) p;
    p.a = F(random)(s->ta ? s->k : s->m, s->ta ? s->m : s->k, s->gap, seed + 1);
    p.b = F(random)(s->tb ? s->n : s->k, s->tb ? s->k : s->n, s->gap, seed + 2);
    p.c = F(random)(s->m, s->n, s->gap, seed + 3);
    p.g = (struct CAT(ptq_gemm, S)){.m = s->m,
                                    .n = s->n,
                                    .k = s->k,
                                    .ta = s->ta,
                                    .tb = s->tb,
                                    .alpha = (T)s->alpha,
                                    .beta = (T)s->beta,
                                    .a = p.a.at,
                                    .lda = p.a.ld,
                                    .b = p.b.at,
                                    .ldb = p.b.ld,
                                    .c = p.c.at,
                                    .ldc = p.c.ld};
    return p;
}

static void F(product_free)(struct F(product) * p)
{
    test_free(p->a.at);
    test_free(p->b.at);
    test_free(p->c.at);
}

/* Each element against the long double sum: |error| <= (k + 4) u (|alpha| sum |a b| + |beta c|). */
static void F(assert_product)(const struct F(product) * p, const T *before)
{
    const struct CAT(ptq_gemm, S) *g = &p->g;
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            long double sum = 0, mass = 0;
            for (int64_t l = 0; l < g->k; l++) {
                long double t = (long double)(g->ta ? g->a[l * g->lda + i] : g->a[i * g->lda + l]) *
                                (g->tb ? g->b[j * g->ldb + l] : g->b[l * g->ldb + j]);
                sum += t;
                mass += fabsl(t);
            }
            long double c0 = g->beta == 0 ? 0 : (long double)g->beta * before[i * g->ldc + j];
            long double want = g->alpha * sum + c0, bound = (long double)(g->k + 4) * EPS *
                                                            (fabsl(g->alpha) * mass + fabsl(c0));
            assert_true(fabsl(g->c[i * g->ldc + j] - want) <= bound);
        }
}

static void F(check_product)(const struct shape *s, uint64_t seed)
{
    struct F(product) p = F(product_new)(s, seed);
    T *before = F(copy)(&p.c);
    if (s->beta == 0)
        for (int64_t i = 0; i < s->m * p.c.ld; i++)
            p.c.at[i] = (T)NAN; /* beta = 0: C must not be read */
    struct ptq_status st = {0};
    assert_int_equal(CAT(ptq_gemm, S)(pools[0], &p.g, &st), PTQ_OK);
    F(assert_product)(&p, before);
    F(assert_gap_kept)(&p.c);
    T *first = F(copy)(&p.c);
    for (int t = 1; t < N_POOLS; t++) {
        for (int64_t i = 0; i < s->m; i++)
            memcpy(p.c.at + i * p.c.ld, before + i * p.c.ld, (size_t)s->n * sizeof(T));
        assert_int_equal(CAT(ptq_gemm, S)(pools[t], &p.g, &st), PTQ_OK);
        F(assert_same_bits)(&p.c, first);
    }
    test_free(first);
    test_free(before);
    F(product_free)(&p);
}

static void F(test_gemm_sizes)(void **state)
{
    (void)state;
    static const int sizes[] = {0,  1,   2,   15,  16,  17,  33,  63, 64,
                                65, 100, 129, 255, 256, 257, 300, 390};
    enum { N = sizeof sizes / sizeof *sizes };
    static const double alphas[] = {1, -1, 0.5}, betas[] = {0, 1, -0.75};
    for (uint64_t i = 0; i < 160; i++) {
        uint64_t seed = i;
        struct shape s = {.ta = i & 1,
                          .tb = i >> 1 & 1,
                          .gap = i % 3 ? 5 : 0,
                          .alpha = alphas[i % 3],
                          .beta = betas[i / 3 % 3]};
        s.m = sizes[pick(&seed, N)];
        s.n = sizes[pick(&seed, N)];
        s.k = sizes[pick(&seed, N)];
        F(check_product)(&s, seed);
    }
}

/* What lets whole tiles be computed in place and others in scratch, and rows be cut into batches at
 * tile borders: neither leading dimension nor base address changes a bit. */
static void F(test_gemm_place)(void **state)
{
    (void)state;
    for (int i = 0; i < 24; i++) {
        struct shape s = {.m = 64 << (i % 3),
                          .n = i % 2 ? 192 : 128,
                          .k = 32 << (i % 4),
                          .ta = i & 1,
                          .tb = i >> 1 & 1,
                          .alpha = 1};
        struct F(product) p = F(product_new)(&s, 7), q;
        s.gap = 3 + i;
        q = F(product_new)(&s, 7);
        for (int64_t r = 0; r < p.a.rows; r++)
            memcpy(q.a.at + r * q.a.ld, p.a.at + r * p.a.ld, (size_t)p.a.cols * sizeof(T));
        for (int64_t r = 0; r < p.b.rows; r++)
            memcpy(q.b.at + r * q.b.ld, p.b.at + r * p.b.ld, (size_t)p.b.cols * sizeof(T));
        assert_int_equal(CAT(ptq_gemm, S)(NULL, &p.g, NULL), PTQ_OK);
        assert_int_equal(CAT(ptq_gemm, S)(NULL, &q.g, NULL), PTQ_OK);
        for (int64_t r = 0; r < s.m; r++)
            assert_memory_equal(p.c.at + r * p.c.ld, q.c.at + r * q.c.ld, (size_t)s.n * sizeof(T));
        F(product_free)(&p);
        F(product_free)(&q);
    }
}

static void F(check_syrk)(int64_t t, int64_t n, int64_t gap)
{
    struct F(matrix) x = F(random)(t, n, gap, (uint64_t)(t + n)), g = F(random)(n, n, gap, 3);
    T *first = NULL;
    for (int pool = 0; pool < N_POOLS; pool++) {
        for (int64_t i = 0; i < n * g.ld; i++)
            g.at[i] = (T)NAN;
        assert_int_equal(CAT(ptq_syrk, S)(pools[pool], x.at, t, n, x.ld, g.at, g.ld, NULL), PTQ_OK);
        if (first)
            F(assert_same_bits)(&g, first);
        else
            first = F(copy)(&g);
    }
    F(assert_gap_kept)(&g);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            long double sum = 0, mass = 0;
            for (int64_t l = 0; l < t; l++) {
                long double v = (long double)x.at[l * x.ld + i] * x.at[l * x.ld + j];
                sum += v;
                mass += fabsl(v);
            }
            assert_true(fabsl(g.at[i * g.ld + j] - sum) <= (long double)(t + 2) * EPS * mass);
            assert_memory_equal(g.at + i * g.ld + j, g.at + j * g.ld + i, sizeof(T));
        }
    test_free(first);
    test_free(x.at);
    test_free(g.at);
}

static void F(test_syrk)(void **state)
{
    (void)state;
    static const int64_t cases[][3] = {{1, 1, 0},     {0, 5, 1},    {5, 0, 0},    {3, 31, 2},
                                       {255, 128, 0}, {100, 97, 3}, {33, 193, 1}, {70, 450, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        F(check_syrk)(cases[i][0], cases[i][1], cases[i][2]);
}

/* Positive definite: a random symmetric matrix with a dominant diagonal. */
static struct F(matrix) F(definite)(int64_t n, int64_t gap)
{
    struct F(matrix) a = F(random)(n, n, gap, 77);
    for (int64_t i = 0; i < n; i++)
        a.at[i * a.ld + i] += (T)(n + 1);
    return a;
}

/* |A - L L^T| <= (n + 1) u |L| |L^T| by element. */
static void F(assert_factor)(const struct F(matrix) * l, const T *a)
{
    for (int64_t i = 0; i < l->rows; i++)
        for (int64_t j = 0; j < l->rows; j++) {
            long double sum = 0, mass = 0;
            for (int64_t k = 0; k <= j && j <= i; k++) {
                long double v = (long double)l->at[i * l->ld + k] * l->at[j * l->ld + k];
                sum += v;
                mass += fabsl(v);
            }
            if (j <= i)
                assert_true(fabsl(sum - a[i * l->ld + j]) <=
                            (long double)(l->rows + 2) * EPS * mass);
            else
                assert_memory_equal(&l->at[i * l->ld + j], &a[i * l->ld + j],
                                    sizeof(T)); /* the upper triangle stays */
        }
}

static void F(test_cholesky)(void **state)
{
    (void)state;
    static const int sizes[] = {0, 1, 2, 63, 64, 65, 128, 129, 200, 333, 450};
    for (size_t q = 0; q < sizeof sizes / sizeof *sizes; q++) {
        struct F(matrix) a = F(definite)(sizes[q], (int64_t)q % 3);
        T *before = F(copy)(&a), *first = NULL;
        for (int pool = 0; pool < N_POOLS; pool++) {
            memcpy(a.at, before, (size_t)(a.rows * a.ld) * sizeof(T));
            assert_int_equal(CAT(ptq_cholesky, S)(pools[pool], a.at, a.rows, a.ld, NULL, NULL),
                             PTQ_OK);
            if (first)
                F(assert_same_bits)(&a, first);
            else
                first = F(copy)(&a);
        }
        F(assert_gap_kept)(&a);
        F(assert_factor)(&a, before);
        test_free(first);
        test_free(before);
        test_free(a.at);
    }
}

/* The leading block before index p is the identity, so exact arithmetic fails at p and nowhere
 * earlier. */
static void F(test_cholesky_refuses)(void **state)
{
    (void)state;
    enum { SIZE = 200 };
    static const int at[] = {0, 1, 63, 64, 100, 127, 128, 199};
    const T wrong[] = {0, -1, (T)NAN, (T)INFINITY, (T)-INFINITY};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        for (size_t w = 0; w < 2 * sizeof wrong / sizeof *wrong; w++) {
            bool diagonal = w % 2 == 0;
            T v = wrong[w / 2];
            if (!diagonal && (at[i] == 0 || isfinite(v)))
                continue;
            T *a = test_calloc(SIZE * SIZE, sizeof(T));
            for (int j = 0; j < SIZE; j++)
                a[j * SIZE + j] = 1;
            a[at[i] * SIZE + (diagonal ? at[i] : at[i] / 2)] = v;
            int64_t bad = -7;
            assert_int_equal(CAT(ptq_cholesky, S)(pools[1], a, SIZE, SIZE, &bad, NULL), PTQ_SKIP);
            assert_int_equal(bad, at[i]);
            test_free(a);
        }
}

/* The computed X satisfies |L X - B| <= n u |L| |X| (substitution, any order). */
static void F(assert_solution)(bool trans, const struct F(matrix) * l, const struct F(matrix) * x,
                               const T *b)
{
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t c = 0; c < x->cols; c++) {
            long double sum = 0, mass = 0;
            for (int64_t k = 0; k < x->rows; k++) {
                if (trans ? k < i : k > i)
                    continue;
                long double v = (long double)(trans ? l->at[k * l->ld + i] : l->at[i * l->ld + k]) *
                                x->at[k * x->ld + c];
                sum += v;
                mass += fabsl(v);
            }
            assert_true(fabsl(sum - b[i * x->ld + c]) <= (long double)(x->rows + 2) * EPS * mass);
        }
}

static void F(test_trsm)(void **state)
{
    (void)state;
    static const int64_t cases[][3] = {{1, 1, 0},   {0, 4, 0},     {4, 0, 0},
                                       {64, 7, 1},  {65, 64, 0},   {100, 65, 2},
                                       {129, 1, 0}, {260, 300, 1}, {190, 520, 0}};
    for (size_t q = 0; q < 2 * sizeof cases / sizeof *cases; q++) {
        const int64_t *s = cases[q / 2];
        struct F(matrix) l = F(definite)(s[0], s[2]), b = F(random)(s[0], s[1], s[2], 5);
        for (int64_t i = 0; i < l.rows; i++)
            for (int64_t j = i + 1; j < l.cols; j++)
                l.at[i * l.ld + j] = (T)NAN; /* the upper triangle must not be read */
        T *before = F(copy)(&b), *first = NULL;
        for (int pool = 0; pool < N_POOLS; pool++) {
            memcpy(b.at, before, (size_t)(b.rows * b.ld) * sizeof(T));
            assert_int_equal(CAT(ptq_trsm_lower, S)(pools[pool], q % 2, l.at, l.rows, l.ld, b.at,
                                                    b.cols, b.ld, NULL),
                             PTQ_OK);
            if (first)
                F(assert_same_bits)(&b, first);
            else
                first = F(copy)(&b);
        }
        F(assert_gap_kept)(&b);
        F(assert_solution)(q % 2, &l, &b, before);
        test_free(first);
        test_free(before);
        test_free(l.at);
        test_free(b.at);
    }
}

static void F(test_first_nonfinite)(void **state)
{
    (void)state;
    enum { SIZE = 5000 };
    T *x = test_malloc(SIZE * sizeof(T));
    for (int i = 0; i < SIZE; i++)
        x[i] = i % 2 ? (T)i : -(sizeof(T) == sizeof(float) ? (T)3.4e38f : (T)1.7e308);
    assert_int_equal(CAT(ptq_first_nonfinite, S)(x, SIZE), -1);
    assert_int_equal(CAT(ptq_first_nonfinite, S)(x, 0), -1);
    static const int at[] = {4999, 1024, 1023, 17, 0};
    const T wrong[] = {(T)NAN, (T)INFINITY, (T)-INFINITY};
    for (int i = 0; i < 5; i++) { /* each lies before the one found so far */
        x[at[i]] = wrong[i % 3];
        assert_int_equal(CAT(ptq_first_nonfinite, S)(x, SIZE), at[i]);
    }
    test_free(x);
}

#undef CAT2
#undef CAT
#undef F
#undef T
#undef S
#undef EPS
