/* Clustering against brute force over all partitions, the affine store, and the best approximation
 * of a rank against closed forms and Eckart and Young's theorem. */
#include "quant_lib.h"
#include "quant/ctx.h"

/* The double names of ptq.h, which declares the float ones here. */
struct ptq_kmeans_f64 {
    const double *x;
    int64_t n, dim, ld;
    const double *weight;
    int64_t k;
    int iterations;
    enum ptq_kmeans_init init;
    uint64_t seed;
    double *centroids;
    uint16_t *codes;
};
struct ptq_truncated_f64 {
    int64_t m, n, rank;
    const double *a;
    int64_t lda;
    double *left, *right;
};
int ptq_kmeans_run_f64(struct ptq_ctx *, const struct ptq_kmeans_f64 *);
int ptq_kmeans_exact_f64(struct ptq_ctx *, const struct ptq_kmeans_f64 *);
int ptq_kmeans_assign_f64(struct ptq_ctx *, const struct ptq_kmeans_f64 *);
int ptq_truncate_f64(struct ptq_ctx *, const struct ptq_truncated_f64 *);

enum { MOST = 64, LARGE = 3000 };

static struct ptq_ctx context(struct fixture *f, struct ptq_pool *pool)
{
    return (struct ptq_ctx){
        .call = &f->arena, .pool = pool, .st = &f->st, .lock = PTHREAD_MUTEX_INITIALIZER};
}

static double weight_at(const struct ptq_kmeans_f64 *a, int64_t i)
{
    return a->weight ? a->weight[i] : 1;
}

static double distance(const struct ptq_kmeans_f64 *a, int64_t i, int64_t c)
{
    double sum = 0;
    for (int64_t j = 0; j < a->dim; j++) {
        double e = a->x[i * a->ld + j] - a->centroids[c * a->dim + j];
        sum += e * e;
    }
    return sum;
}

static double cost_of(const struct ptq_kmeans_f64 *a)
{
    double total = 0;
    for (int64_t i = 0; i < a->n; i++)
        total += weight_at(a, i) * distance(a, i, a->codes[i]);
    return total;
}

/* ---- the optimum by trying every partition ---- */

static double cost_of_labels(const struct ptq_kmeans_f64 *a, const int *label)
{
    double total = 0;
    for (int c = 0; c < a->k; c++) {
        double w = 0, s = 0;
        for (int64_t i = 0; i < a->n; i++)
            if (label[i] == c) {
                w += weight_at(a, i);
                s += weight_at(a, i) * a->x[i];
            }
        for (int64_t i = 0; i < a->n && w > 0; i++)
            if (label[i] == c)
                total += weight_at(a, i) * (a->x[i] - s / w) * (a->x[i] - s / w);
    }
    return total;
}

static double brute_force(const struct ptq_kmeans_f64 *a)
{
    int label[MOST] = {0};
    double best = INFINITY;
    for (;;) {
        double c = cost_of_labels(a, label);
        best = c < best ? c : best;
        int64_t i = 0;
        while (i < a->n && ++label[i] == a->k)
            label[i++] = 0;
        if (i == a->n)
            return best;
    }
}

static void check_ascending(const struct ptq_kmeans_f64 *a)
{
    for (int64_t c = 1; c < a->k; c++)
        assert_true(a->centroids[c] >= a->centroids[c - 1]);
}

static void check_nearest(const struct ptq_kmeans_f64 *a)
{
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t c = 0; c < a->k; c++) {
            double mine = distance(a, i, a->codes[i]), other = distance(a, i, c);
            assert_true(mine <= other * (1 + 1e-12));
            assert_true(c >= a->codes[i] || mine < other);
        }
}

static void exact_is_the_optimum(void **state)
{
    struct fixture *f = *state;
    struct ptq_ctx ctx = context(f, NULL);
    double x[MOST], w[MOST], centroids[MOST];
    uint16_t codes[MOST];
    int lloyd_missed = 0;
    for (int trial = 0; trial < 48; trial++) {
        struct ptq_kmeans_f64 a = {.x = x,
                                   .n = 4 + trial % 5,
                                   .dim = 1,
                                   .ld = 1,
                                   .k = 1 + trial % 4,
                                   .iterations = 50,
                                   .weight = trial & 1 ? w : NULL,
                                   .centroids = centroids,
                                   .codes = codes};
        a.n = trial == 47 ? 10 : a.n;
        for (int i = 0; i < a.n; i++) {
            uint64_t at = (uint64_t)(trial * 100 + i);
            x[i] = trial % 3 ? 100 + ptq_normal(1, at) : floor(4 * ptq_uniform(2, at));
            w[i] = trial % 5 ? ptq_uniform(3, at) : floor(2 * ptq_uniform(3, at));
        }
        double best = brute_force(&a);
        assert_ok(ptq_kmeans_exact_f64(&ctx, &a), &f->st);
        check_ascending(&a);
        check_nearest(&a);
        double exact = cost_of(&a);
        if (fabs(exact - best) > 1e-10 * (1 + best))
            fail_msg("trial %d: exact %.17g, brute force %.17g", trial, exact, best);
        assert_ok(ptq_kmeans_run_f64(&ctx, &a), &f->st);
        check_ascending(&a);
        check_nearest(&a);
        assert_true(cost_of(&a) >= best - 1e-10);
        lloyd_missed += cost_of(&a) > best + 1e-6;
    }
    assert_true(lloyd_missed > 0); /* the exact one is worth its cost */
}

/* ---- Lloyd ---- */

struct large {
    double x[LARGE * 3], w[LARGE], centroids[MOST * 3];
    uint16_t codes[LARGE];
};

static struct ptq_kmeans_f64 large_case(struct large *l, int64_t dim, bool weighted)
{
    for (int64_t i = 0; i < LARGE; i++)
        l->w[i] = i % 17 ? ptq_uniform(5, (uint64_t)i) : 0;
    for (int64_t i = 0; i < LARGE * dim; i++)
        l->x[i] = ptq_normal(4, (uint64_t)i) + (i % 4 ? 0 : 3);
    return (struct ptq_kmeans_f64){.x = l->x,
                                   .n = LARGE,
                                   .dim = dim,
                                   .ld = dim,
                                   .k = 50,
                                   .weight = weighted ? l->w : NULL,
                                   .seed = 7,
                                   .centroids = l->centroids,
                                   .codes = l->codes};
}

static void lloyd_never_rises(void **state)
{
    struct fixture *f = *state;
    struct ptq_ctx ctx = context(f, NULL);
    struct large *l = calloc(1, sizeof *l);
    for (int trial = 0; trial < 12; trial++) {
        struct ptq_kmeans_f64 a = large_case(l, 1 + trial % 3, trial & 1);
        a.init = trial < 6 ? PTQ_KMEANS_QUANTILE : PTQ_KMEANS_POINTS;
        double before = INFINITY, first = 0;
        for (a.iterations = 0; a.iterations < 25; a.iterations += a.iterations < 6 ? 1 : 6) {
            assert_ok(ptq_kmeans_run_f64(&ctx, &a), &f->st);
            double now = cost_of(&a);
            first = a.iterations ? first : now;
            assert_true(now <= before * (1 + 1e-12));
            before = now;
        }
        assert_true(before < first);
        check_nearest(&a);
        if (a.dim > 1)
            continue;
        assert_ok(ptq_kmeans_exact_f64(&ctx, &a), &f->st);
        assert_true(cost_of(&a) < before);
    }
    free(l);
}

/* 36 points at 0 hold every quantile, so all clusters but one start empty and must find 400, 300,
 * 200: Lloyd then rests where 100 stays with the zeros. */
static void empty_clusters_move(void **state)
{
    struct fixture *f = *state;
    struct ptq_ctx ctx = context(f, NULL);
    enum { N = 40 };
    double x[N * 2], centroids[8];
    uint16_t codes[N];
    for (int i = 0; i < N; i++) {
        x[2 * i] = i < 4 ? 100.0 * (i + 1) : 0;
        x[2 * i + 1] = 0;
    }
    struct ptq_kmeans_f64 a = {.x = x,
                               .n = N,
                               .dim = 2,
                               .ld = 2,
                               .k = 4,
                               .iterations = 20,
                               .centroids = centroids,
                               .codes = codes};
    assert_ok(ptq_kmeans_run_f64(&ctx, &a), &f->st);
    const double zeros_with_100 = 100.0 * 100 * 36 / 37; /* about their mean */
    assert_rel(cost_of(&a), zeros_with_100, 1e-12);
    a.k = 3;
    a.dim = 1;
    assert_ok(ptq_kmeans_run_f64(&ctx, &a), &f->st);
    check_ascending(&a);
    assert_rel(cost_of(&a), zeros_with_100 + 5000, 1e-12); /* 200 and 300 about 250 ... */
}

static void few_points(void **state)
{
    struct fixture *f = *state;
    struct ptq_ctx ctx = context(f, NULL);
    const double x[] = {5, 1, 3, 1};
    double centroids[6];
    uint16_t codes[4];
    struct ptq_kmeans_f64 a = {.x = x,
                               .n = 4,
                               .dim = 1,
                               .ld = 1,
                               .k = 6,
                               .iterations = 3,
                               .centroids = centroids,
                               .codes = codes};
    const double want[] = {1, 1, 3, 5, 5, 5};
    for (int exact = 0; exact < 2; exact++) {
        assert_ok((exact ? ptq_kmeans_exact_f64 : ptq_kmeans_run_f64)(&ctx, &a), &f->st);
        assert_memory_equal(centroids, want, sizeof want);
        assert_true(codes[0] == 3 && codes[1] == 0 && codes[2] == 2 && codes[3] == 0);
    }
    a.n = 2;
    a.dim = a.ld = 2; /* (5, 1), (3, 1) */
    a.k = 3;
    const double rows[] = {5, 1, 3, 1, 3, 1};
    assert_ok(ptq_kmeans_run_f64(&ctx, &a), &f->st);
    assert_memory_equal(centroids, rows, sizeof rows);
    assert_true(codes[0] == 0 && codes[1] == 1);
    a.n = 4;
    a.dim = a.ld = 1;
    a.k = 3; /* as many as there are different ones: exact finds each */
    assert_ok(ptq_kmeans_exact_f64(&ctx, &a), &f->st);
    assert_true(centroids[0] == 1 && centroids[1] == 3 && centroids[2] == 5 && cost_of(&a) == 0);
}

/* Every dim and k through the lanes, against the distances by themselves; any thread count. */
static void codes_are_nearest(void **state)
{
    struct fixture *f = *state;
    struct ptq_pool *pool;
    struct large *l = calloc(1, sizeof *l);
    uint16_t *again = calloc(LARGE, sizeof *again);
    assert_ok(ptq_pool_new(&pool, 3, &f->st), &f->st);
    struct ptq_ctx one = context(f, NULL), many = context(f, pool);
    for (int64_t dim = 1; dim <= 3; dim++)
        for (int64_t k = 1; k <= 49; k += 16) {
            struct ptq_kmeans_f64 a = large_case(l, dim, false);
            a.k = k;
            a.iterations = 4;
            a.init = PTQ_KMEANS_POINTS;
            assert_ok(ptq_kmeans_run_f64(&one, &a), &f->st);
            check_nearest(&a);
            double centroids[MOST * 3];
            memcpy(centroids, l->centroids, sizeof centroids);
            memcpy(again, l->codes, LARGE * sizeof *again);
            assert_ok(ptq_kmeans_run_f64(&many, &a), &f->st);
            assert_memory_equal(centroids, l->centroids, (size_t)(k * dim) * sizeof *centroids);
            assert_memory_equal(again, l->codes, LARGE * sizeof *again);
            memset(l->codes, 0xff, sizeof l->codes);
            assert_ok(ptq_kmeans_assign_f64(&many, &a), &f->st);
            assert_memory_equal(again, l->codes, LARGE * sizeof *again);
        }
    ptq_pool_free(pool);
    free(again);
    free(l);
}

/* ---- the affine store ---- */

static void affine(void **state)
{
    (void)state;
    float x[100], v[100], out[100], step, min;
    for (int i = 0; i < 100; i++)
        x[i] = (float)(2 + ptq_normal(9, (uint64_t)i));
    for (int fmt = PTQ_FMT_F16; fmt <= PTQ_FMT_F32; fmt++) {
        ptq_affine_quantize_f32(x, 100, 10, (enum ptq_fmt)fmt, v, &step, &min, out);
        assert_true(ptq_round_fmt(step, (enum ptq_fmt)fmt) == step);
        assert_true(ptq_round_fmt(min, (enum ptq_fmt)fmt) == min);
        for (int i = 0; i < 100; i++) {
            assert_true(v[i] == rintf(v[i]) && v[i] >= 0 && v[i] <= 1023);
            assert_true(out[i] == (float)((double)step * (double)v[i] + (double)min));
            if (fmt == PTQ_FMT_F32)
                assert_true(fabsf(out[i] - x[i]) <= 0.5001f * step);
        }
    }
    for (int i = 0; i < 100; i++)
        x[i] = 0.75f; /* one value: no step */
    ptq_affine_quantize_f32(x, 100, 10, PTQ_FMT_F16, v, &step, &min, out);
    assert_true(step == 0 && min == 0.75f && out[99] == 0.75f && v[99] == 0);
}

/* ---- truncation ---- */

/* Singular values by one-sided Jacobi: rotates columns until they are orthogonal. */
static void jacobi_singular_values(double *a, int m, int n, double *s)
{
    for (int sweep = 0; sweep < 40; sweep++)
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) {
                double pp = 0, qq = 0, pq = 0;
                for (int i = 0; i < m; i++) {
                    pp += a[i * n + p] * a[i * n + p];
                    qq += a[i * n + q] * a[i * n + q];
                    pq += a[i * n + p] * a[i * n + q];
                }
                if (fabs(pq) <= 1e-15 * sqrt(pp * qq))
                    continue;
                double angle = 0.5 * atan2(2 * pq, pp - qq), c = cos(angle), d = sin(angle);
                for (int i = 0; i < m; i++) {
                    double x = a[i * n + p], y = a[i * n + q];
                    a[i * n + p] = c * x + d * y;
                    a[i * n + q] = c * y - d * x;
                }
            }
    for (int j = 0; j < n; j++) {
        s[j] = 0;
        for (int i = 0; i < m; i++)
            s[j] += a[i * n + j] * a[i * n + j];
    }
    for (int i = 0; i < n; i++) /* squares, falling */
        for (int j = i + 1; j < n; j++)
            if (s[j] > s[i]) {
                double t = s[i];
                s[i] = s[j];
                s[j] = t;
            }
}

static void check_orthonormal_rows(const double *r, int rank, int n)
{
    for (int p = 0; p < rank; p++)
        for (int q = 0; q < rank; q++) {
            double sum = 0;
            for (int j = 0; j < n; j++)
                sum += r[p * n + j] * r[q * n + j];
            assert_true(fabs(sum - (p == q)) < 1e-12);
        }
}

static double error_of(const struct ptq_truncated_f64 *t)
{
    double total = 0;
    for (int64_t i = 0; i < t->m; i++)
        for (int64_t j = 0; j < t->n; j++) {
            double e = t->a[i * t->lda + j];
            for (int64_t r = 0; r < t->rank; r++)
                e -= t->left[i * t->rank + r] * t->right[r * t->n + j];
            total += e * e;
        }
    return total;
}

static void eckart_young(void **state)
{
    enum { BIG = 37, SMALL = 21 };
    struct fixture *f = *state;
    struct ptq_ctx ctx = context(f, NULL);
    static double a[BIG * BIG], copy[BIG * BIG], left[BIG * BIG], right[BIG * BIG];
    double s[BIG];
    for (int shape = 0; shape < 3; shape++) {
        const int m = shape == 1 ? SMALL : BIG, n = shape == 2 ? SMALL : BIG;
        for (int i = 0; i < m * n; i++)
            a[i] = ptq_normal(20 + (uint64_t)shape, (uint64_t)i) * (1 + i % n);
        for (int i = 0; i < m; i++) /* columns = the shorter side */
            for (int j = 0; j < n; j++)
                copy[m < n ? j * m + i : i * n + j] = a[i * n + j];
        jacobi_singular_values(copy, m < n ? n : m, m < n ? m : n, s);
        for (int rank = 1; rank <= (m < n ? m : n); rank += 5) {
            struct ptq_truncated_f64 t = {m, n, rank, a, n, left, right};
            assert_ok(ptq_truncate_f64(&ctx, &t), &f->st);
            check_orthonormal_rows(right, rank, n);
            double tail = 0, size = 0;
            for (int i = (m < n ? m : n) - 1; i >= 0; i--) {
                tail += i >= rank ? s[i] : 0;
                size += s[i];
            }
            assert_true(fabs(error_of(&t) - tail) < 1e-11 * size);
            for (int r = 0; r < rank; r++) {
                double norm = 0, largest = 0;
                for (int i = 0; i < m; i++)
                    norm += left[i * rank + r] * left[i * rank + r];
                for (int j = 0; j < n; j++)
                    largest = fabs(right[r * n + j]) > fabs(largest) ? right[r * n + j] : largest;
                assert_rel(norm, s[r], 1e-10);
                assert_true(largest > 0);
            }
        }
    }
}

/* A diagonal matrix is its own decomposition; a bad one is refused. */
static void truncation_closed_form(void **state)
{
    struct fixture *f = *state;
    struct ptq_ctx ctx = context(f, NULL);
    double a[9] = {2, 0, 0, 0, -5, 0, 0, 0, 3}, left[6], right[6];
    const double want_left[6] = {0, 0, -5, 0, 0, 3}, want_right[6] = {0, 1, 0, 0, 0, 1};
    struct ptq_truncated_f64 t = {3, 3, 2, a, 3, left, right};
    assert_ok(ptq_truncate_f64(&ctx, &t), &f->st);
    for (int i = 0; i < 6; i++) {
        assert_true(fabs(left[i] - want_left[i]) < 1e-13);
        assert_true(fabs(right[i] - want_right[i]) < 1e-13);
    }
    a[4] = NAN;
    assert_int_equal(ptq_truncate_f64(&ctx, &t), PTQ_ERR_NUMERIC);
    assert_status(&f->st, PTQ_ERR_NUMERIC, "NaN");
}

/* The same bits alone, on several threads at once, and wherever the memory lies. */
struct crowd {
    struct ptq_ctx *ctx;
    double *a, *left, *right; /* one slot a piece, each shifted by one more number */
};
enum { SIDE = 90, RANK = 11, SLOT = SIDE * SIDE + 16, PIECES = 6 };

static void truncate_piece(void *arg, int64_t begin, int64_t end)
{
    struct crowd *c = arg;
    for (int64_t i = begin; i < end; i++) {
        double *a = c->a + i * SLOT + i;
        for (int k = 0; k < SIDE * SIDE; k++)
            a[k] = ptq_normal(31, (uint64_t)k);
        struct ptq_truncated_f64 t = {
            SIDE, SIDE, RANK, a, SIDE, c->left + i * SLOT + i, c->right + i * SLOT + i};
        if (ptq_truncate_f64(c->ctx, &t) != PTQ_OK)
            t.left[0] = NAN;
    }
}

static void truncation_on_threads(void **state)
{
    struct fixture *f = *state;
    struct ptq_pool *pool;
    assert_ok(ptq_pool_new(&pool, 3, &f->st), &f->st);
    struct ptq_ctx ctx = context(f, pool);
    struct crowd c = {.ctx = &ctx};
    double **arrays[] = {&c.a, &c.left, &c.right};
    for (int i = 0; i < 3; i++)
        assert_non_null(*arrays[i] = calloc(PIECES * SLOT, sizeof(double)));
    truncate_piece(&c, 0, 1);
    ptq_pool_for(pool, PIECES, 1, truncate_piece, &c);
    for (int64_t i = 0; i < PIECES; i++) {
        const size_t bytes = SIDE * RANK * sizeof(double);
        assert_memory_equal(c.left, c.left + i * SLOT + i, bytes);
        assert_memory_equal(c.right, c.right + i * SLOT + i, bytes);
    }
    assert_true(c.left[0] == c.left[0]);
    for (int i = 0; i < 3; i++)
        free(*arrays[i]);
    ptq_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(exact_is_the_optimum, setup, teardown),
        cmocka_unit_test_setup_teardown(lloyd_never_rises, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_clusters_move, setup, teardown),
        cmocka_unit_test_setup_teardown(few_points, setup, teardown),
        cmocka_unit_test_setup_teardown(codes_are_nearest, setup, teardown),
        cmocka_unit_test_setup_teardown(affine, setup, teardown),
        cmocka_unit_test_setup_teardown(eckart_young, setup, teardown),
        cmocka_unit_test_setup_teardown(truncation_closed_form, setup, teardown),
        cmocka_unit_test_setup_teardown(truncation_on_threads, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
