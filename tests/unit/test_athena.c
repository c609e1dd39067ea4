/* Athena against its paper's formulas written densely here, in double: the weights that remain are
 * the minimizer of the loss with the quantized columns as constraints (the whole KKT system, solved
 * anew at every step from the original weights), and the inverse Hessian is that of the columns
 * which remain (methods.md section 3, identities 8.4.3). */
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
int ptq_kmeans_run_f64(struct ptq_ctx *, const struct ptq_kmeans_f64 *);
int ptq_kmeans_exact_f64(struct ptq_ctx *, const struct ptq_kmeans_f64 *);
int ptq_kmeans_assign_f64(struct ptq_ctx *, const struct ptq_kmeans_f64 *);
void ptq_affine_quantize_f64(const double *, int64_t n, int bits, enum ptq_fmt, float *v,
                             float *step, float *min, double *out);

enum { ROWS = 24, COLS = 40, DEAD = 2, MOST_BOOK = 256 };
static const double PERCDAMP = 0.01;

static int setup_layer(void **state)
{
    int rc = setup(state);
    struct fixture *f = *state;
    if (!rc)
        synthetic_layer(&f->arena, ROWS, COLS, DEAD, &f->layer);
    return rc;
}

/* a (n x n) x = b (n x m) by elimination with pivots; x in place of b, a destroyed. */
static void solve(double *a, int n, double *b, int m)
{
    for (int k = 0; k < n; k++) {
        int p = k;
        for (int i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[p * n + k]))
                p = i;
        for (int j = 0; j < n + m; j++) {
            double *x = j < n ? &a[k * n + j] : &b[k * m + j - n],
                   *y = j < n ? &a[p * n + j] : &b[p * m + j - n], t = *x;
            *x = *y;
            *y = t;
        }
        for (int i = 0; i < n; i++) {
            double f = i == k ? 0 : a[i * n + k] / a[k * n + k];
            for (int j = k; j < n && f != 0; j++)
                a[i * n + j] -= f * a[k * n + j];
            for (int j = 0; j < m && f != 0; j++)
                b[i * m + j] -= f * b[k * m + j];
        }
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            b[i * m + j] /= a[i * n + i];
}

/* H as GPTQ damps it: dead inputs at the mean of the live ones. */
static void damped(const struct ptq_layer *l, double h[COLS][COLS])
{
    double live = 0;
    int n = (int)l->w.cols, n_live = 0;
    for (int j = 0; j < n; j++) {
        live += l->hess.at[j * l->hess.ld + j];
        n_live += l->hess.at[j * l->hess.ld + j] != 0;
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            h[i][j] = l->hess.at[i * l->hess.ld + j];
    for (int j = 0; j < n; j++)
        h[j][j] = (h[j][j] != 0 ? h[j][j] : live / n_live) + PERCDAMP * live / n_live;
}

/* ---- the textbook ---- */

enum order { NATURAL, MAX_FIRST, MIN_FIRST };
struct variant {
    const char *spec;
    enum order order;
    int width, dim, bits;
    int64_t group;
    bool uniform, weighted, exact, plain; /* plain: row_norm=0 */
    int book_bits;
};

struct textbook {
    struct fixture *f;
    struct ptq_ctx ctx;
    const struct variant *v;
    const struct ptq_quant *q; /* uniform: its grids */
    int n_groups, order[COLS];
    bool fixed[COLS]; /* columns */
    double h[COLS][COLS], w0[ROWS][COLS], w[ROWS][COLS], p[COLS][COLS];
    double what[ROWS][COLS], score[COLS];
    float scale[ROWS][COLS];
    uint16_t codes[ROWS * COLS];
};

static int group_end(const struct textbook *t, int g)
{
    int end = (g + 1) * t->v->width;
    return end < COLS ? end : COLS;
}

/* The loss's minimizer with the fixed columns at their stored values: H d + E^T mu = 0, E d = c. */
static void constrained_minimum(struct textbook *t)
{
    static double a[4 * COLS * COLS], b[2 * COLS * ROWS];
    int at[COLS], k = 0;
    for (int j = 0; j < COLS; j++)
        if (t->fixed[j])
            at[k++] = j;
    int n = COLS + k;
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    for (int i = 0; i < COLS; i++)
        for (int j = 0; j < COLS; j++)
            a[i * n + j] = t->h[i][j];
    for (int c = 0; c < k; c++) {
        a[(COLS + c) * n + at[c]] = a[at[c] * n + COLS + c] = 1;
        for (int r = 0; r < ROWS; r++)
            b[(COLS + c) * ROWS + r] = t->what[r][at[c]] - t->w0[r][at[c]];
    }
    solve(a, n, b, ROWS);
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < COLS; j++)
            t->w[r][j] = t->w0[r][j] + b[j * ROWS + r];
}

/* P: the inverse of the block of H that remains. */
static void inverse_of_the_rest(struct textbook *t)
{
    static double a[COLS * COLS], b[COLS * COLS];
    int at[COLS], n = 0;
    for (int j = 0; j < COLS; j++)
        if (!t->fixed[j])
            at[n++] = j;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            a[i * n + j] = t->h[at[i]][at[j]];
            b[i * n + j] = i == j;
        }
    solve(a, n, b, n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            t->p[at[i]][at[j]] = b[i * n + j];
}

static bool is_dead(const struct textbook *t, int j)
{
    return t->f->layer.hess.at[j * t->f->layer.hess.ld + j] == 0;
}

static void quantize_uniform(struct textbook *t, int begin, int end)
{
    const struct ptq_part *p = &t->q->part[0];
    int maxq = (1 << p->bits) - 1;
    for (int i = 0; i < ROWS; i++)
        for (int j = begin; j < end; j++) {
            int64_t g = i * p->groups_per_row + j / p->group_cols;
            double z = p->zero.at ? (double)p->zero.at[g] : (double)p->zero_const;
            double c = fmin(fmax(rint(t->w[i][j] / (double)p->scale.at[g]) + z, 0), maxq);
            t->codes[i * COLS + j] = (uint16_t)c;
            t->what[i][j] = (double)(p->scale.at[g] * ((float)c - (float)z));
        }
}

/* Scales: of the group's weights as they are, or of the whole original row. */
static void scale_rows(struct textbook *t, int begin, int end)
{
    for (int i = 0; i < ROWS; i++) {
        double top = 0;
        for (int j = t->v->group > 0 ? begin : 0; j < (t->v->group > 0 ? end : COLS); j++)
            top = fmax(top, fabs(t->v->group > 0 ? t->w[i][j] : t->w0[i][j]));
        for (int j = begin; j < end; j++)
            t->scale[i][j] = t->v->plain ? 1 : ptq_round_fmt(top, PTQ_FMT_F32);
    }
}

static void quantize_kmeans(struct textbook *t, int begin, int end)
{
    static double x[ROWS * COLS], weight[ROWS * COLS], centroid[MOST_BOOK];
    static uint16_t code[ROWS * COLS];
    static float v[MOST_BOOK];
    int dim = t->v->dim, points = 0, book = (1 << (t->v->bits * dim));
    float step, min;
    scale_rows(t, begin, end);
    for (int i = 0; i < ROWS; i++)
        for (int j = begin; j < end; j += dim, points++) {
            weight[points] = 0;
            for (int k = j; k < j + dim; k++) {
                double s = (double)t->scale[i][k];
                x[points * dim + k - j] = t->w[i][k] / s;
                weight[points] += is_dead(t, k) ? 0 : s * s / (t->v->weighted ? t->p[k][k] : 1);
            }
            weight[points] /= dim;
        }
    assert_true(book * dim <= MOST_BOOK);
    struct ptq_kmeans_f64 a = {.x = x,
                               .n = points,
                               .dim = dim,
                               .ld = dim,
                               .weight = weight,
                               .k = book,
                               .iterations = 30,
                               .init = PTQ_KMEANS_QUANTILE,
                               .centroids = centroid,
                               .codes = code};
    assert_ok(t->v->exact ? ptq_kmeans_exact_f64(&t->ctx, &a) : ptq_kmeans_run_f64(&t->ctx, &a),
              &t->f->st);
    if (t->v->book_bits < 16)
        ptq_affine_quantize_f64(centroid, book * dim, t->v->book_bits, PTQ_FMT_F16, v, &step, &min,
                                centroid);
    for (int i = 0; i < book * dim && t->v->book_bits == 16; i++)
        centroid[i] = (double)ptq_round_fmt(centroid[i], PTQ_FMT_F16);
    assert_ok(ptq_kmeans_assign_f64(&t->ctx, &a), &t->f->st);
    points = 0;
    for (int i = 0; i < ROWS; i++)
        for (int j = begin; j < end; j += dim, points++) {
            t->codes[(i * COLS + j) / dim] = code[points];
            for (int k = 0; k < dim; k++)
                t->what[i][j + k] =
                    (double)((float)centroid[code[points] * dim + k] * t->scale[i][j + k]);
        }
}

/* 1/2 tr(D P_GG^-1 D^T). */
static double score_of(struct textbook *t, int begin, int end)
{
    static double a[COLS * COLS], b[COLS * ROWS];
    int n = end - begin;
    double sum = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            a[i * n + j] = t->p[begin + i][begin + j];
    for (int i = 0; i < n; i++)
        for (int r = 0; r < ROWS; r++)
            b[i * ROWS + r] = t->w[r][begin + i] - t->what[r][begin + i];
    solve(a, n, b, ROWS);
    for (int i = 0; i < n; i++)
        for (int r = 0; r < ROWS; r++)
            sum += (t->w[r][begin + i] - t->what[r][begin + i]) * b[i * ROWS + r];
    return sum / 2;
}

static int next_group(struct textbook *t)
{
    int best = -1;
    for (int g = 0; g < t->n_groups; g++) {
        int begin = g * t->v->width, end = group_end(t, g);
        if (t->fixed[begin])
            continue;
        if (t->v->uniform)
            quantize_uniform(t, begin, end);
        else
            quantize_kmeans(t, begin, end);
        t->score[g] = score_of(t, begin, end);
        bool better = t->v->order == MAX_FIRST   ? t->score[g] > t->score[best < 0 ? g : best]
                      : t->v->order == MIN_FIRST ? t->score[g] < t->score[best < 0 ? g : best]
                                                 : false;
        if (best < 0 || better)
            best = g;
    }
    return best;
}

/* Returns the sum of the losses that the groups added, tr(E H E^T) in the end. */
static double textbook_run(struct textbook *t)
{
    const struct ptq_cmat *w = &t->f->layer.w;
    double loss = 0;
    damped(&t->f->layer, t->h);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++)
            t->w0[i][j] = is_dead(t, j) ? 0 : (double)w->at[i * w->ld + j];
    t->n_groups = (COLS - 1) / t->v->width + 1;
    for (int step = 0; step < t->n_groups; step++) {
        constrained_minimum(t);
        inverse_of_the_rest(t);
        int g = t->order[step] = next_group(t);
        loss += 2 * t->score[g];
        for (int j = g * t->v->width; j < group_end(t, g); j++)
            t->fixed[j] = true;
    }
    return loss;
}

static double hess_loss(double h[COLS][COLS], double e[ROWS][COLS])
{
    double sum = 0;
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < COLS; i++)
            for (int j = 0; j < COLS; j++)
                sum += e[r][i] * h[i][j] * e[r][j];
    return sum;
}

static void assert_near(double a, double b, double relative)
{
    if (!(fabs(a - b) <= relative * fabs(b)))
        fail_msg("%.17g is not %.17g", a, b);
}

static void check_variant(struct fixture *f, const struct variant *v)
{
    struct textbook *t = calloc(1, sizeof *t);
    struct ptq_result r;
    struct run_args a = {&f->layer, v->spec, cell_of(v->bits, v->group), PTQ_DOUBLE_PRECISION,
                         NULL,      0};
    static double e[ROWS][COLS];
    assert_ok(run_cell(&a, &r, &f->st), &f->st);
    *t = (struct textbook){.f = f, .v = v, .q = &r.quant};
    t->ctx = (struct ptq_ctx){.call = &f->arena, .st = &f->st, .lock = PTHREAD_MUTEX_INITIALIZER};
    double loss = textbook_run(t);
    int64_t n = ROWS * COLS / v->dim,
            different = count_different(t->codes, r.quant.part[0].codes, n);
    printf("%s:", v->spec);
    for (int g = 0; g < t->n_groups && g < 8; g++)
        printf(" %d", t->order[g]);
    printf("%s: %lld codes differ, loss %.4g\n", t->n_groups > 8 ? " .." : "", (long long)different,
           loss);
    assert_int_equal(different, 0);
    assert_int_equal(r.quant.n_parts, 1);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) {
            assert_true((double)r.what[i * COLS + j] == t->what[i][j]);
            e[i][j] = t->w0[i][j] - t->what[i][j];
        }
    assert_near(note_of(&r, "obs_loss"), loss, 1e-9);
    assert_near(loss, hess_loss(t->h, e), 1e-9);
    ptq_result_release(&r);
    free(t);
}

static void groups_of_the_textbook(void **state)
{
    const struct variant variants[] = {
        {"athena:book=uniform:order=natural:width=8", NATURAL, 8, 1, 3, -1, .uniform = true},
        {"athena:book=uniform:order=natural:width=8:downdate=1", NATURAL, 8, 1, 3, -1,
         .uniform = true},
        {"athena:book=uniform:width=8", MAX_FIRST, 8, 1, 3, -1, .uniform = true},
        {"athena:book=uniform:width=6:order=min_first", MIN_FIRST, 6, 1, 2, 16, .uniform = true},
        {"athena:book=uniform:width=1", MAX_FIRST, 1, 1, 3, -1, .uniform = true},
        {"athena:order=natural:width=16", NATURAL, 16, 1, 2, -1, .book_bits = 8},
        {"athena:width=16", MAX_FIRST, 16, 1, 2, -1, .book_bits = 8},
        {"athena", MAX_FIRST, 8, 1, 3, 8, .book_bits = 8},
        {"athena:order=min_first:weighted=1", MIN_FIRST, 16, 1, 2, 16, .weighted = true,
         .book_bits = 8},
        {"athena:row_norm=0:book_bits=4", MAX_FIRST, 32, 1, 3, -1, .plain = true, .book_bits = 4},
        {"athena:exact=1:book_bits=16:width=10", MAX_FIRST, 10, 1, 3, -1, .exact = true,
         .book_bits = 16},
        {"athena:dim=2:weighted=1", MAX_FIRST, 8, 2, 2, 8, .weighted = true, .book_bits = 8},
        {"athena:dim=4:order=natural:width=20:book_bits=6", NATURAL, 20, 4, 1, -1, .book_bits = 6},
    };
    for (int64_t k = 0; k < LENGTH(variants); k++)
        check_variant(*state, &variants[k]);
}

/* ---- both ways through natural order; GPTQ ---- */

struct pair {
    const char *a, *b;
    int bits;
    int64_t group;
    bool same_loss;
};

static void check_pair(struct fixture *f, const struct ptq_layer *l, const struct pair *p)
{
    struct ptq_result r[2];
    for (int k = 0; k < 2; k++) {
        struct run_args a = {
            l, k ? p->b : p->a, cell_of(p->bits, p->group), PTQ_DOUBLE_PRECISION, NULL, 0};
        assert_ok(run_cell(&a, &r[k], &f->st), &f->st);
    }
    const struct ptq_part *x = &r[0].quant.part[0], *y = &r[1].quant.part[0];
    int64_t n = l->w.rows * l->w.cols / (x->dim ? x->dim : 1);
    int64_t different = count_different(x->codes, y->codes, n);
    printf("%s, %s: %lld of %lld codes differ\n", p->a, p->b, (long long)different, (long long)n);
    assert_int_equal(different, 0);
    assert_memory_equal(r[0].what, r[1].what, (size_t)(l->w.rows * l->w.cols) * sizeof(float));
    if (p->same_loss)
        assert_near(note_of(&r[0], "obs_loss"), note_of(&r[1], "obs_loss"), 1e-9);
    ptq_result_release(&r[0]);
    ptq_result_release(&r[1]);
}

static void equal_codes(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer larger;
    const struct pair pairs[] = {
        {"athena:order=natural", "athena:order=natural:downdate=1", 3, -1, true},
        {"athena:order=natural", "athena:order=natural:downdate=1", 2, 25, true},
        {"athena:order=natural:dim=2:width=50", "athena:order=natural:downdate=1:dim=2:width=50", 2,
         -1, true},
        {"athena:book=uniform:order=natural:width=1", "gptq:act_order=0", 3, -1, false},
        {"athena:book=uniform:order=natural:width=1", "gptq:act_order=0", 2, 32, false},
        {"athena:book=uniform:order=natural:width=1:downdate=1", "gptq:act_order=0", 4, 50, false},
    };
    synthetic_layer(&f->arena, 40, 150, 3, &larger);
    for (int64_t k = 0; k < LENGTH(pairs); k++)
        check_pair(f, &larger, &pairs[k]);
}

/* ---- the residual ---- */

/* Eigenvalues of a symmetric matrix by Jacobi's rotations, falling. */
static void eigenvalues(double a[ROWS][ROWS], double out[ROWS])
{
    for (int sweep = 0; sweep < 60; sweep++)
        for (int p = 0; p < ROWS; p++)
            for (int q = p + 1; q < ROWS; q++) {
                double th = atan2(2 * a[p][q], a[q][q] - a[p][p]) / 2, c = cos(th), s = sin(th);
                for (int k = 0; k < ROWS; k++) {
                    double x = a[k][p], y = a[k][q];
                    a[k][p] = c * x - s * y;
                    a[k][q] = s * x + c * y;
                }
                for (int k = 0; k < ROWS; k++) {
                    double x = a[p][k], y = a[q][k];
                    a[p][k] = c * x - s * y;
                    a[q][k] = s * x + c * y;
                }
            }
    for (int i = 0; i < ROWS; i++) {
        int at = i;
        for (; at > 0 && out[at - 1] < a[i][i]; at--)
            out[at] = out[at - 1];
        out[at] = a[i][i];
    }
}

/* The least that a residual of this rank can leave: the tail of the eigenvalues of E H E^T. */
static double least_loss(double h[COLS][COLS], double e[ROWS][COLS], int rank)
{
    static double a[ROWS][ROWS];
    double v[ROWS], sum = 0;
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < ROWS; s++) {
            a[r][s] = 0;
            for (int i = 0; i < COLS; i++)
                for (int j = 0; j < COLS; j++)
                    a[r][s] += e[r][i] * h[i][j] * e[s][j];
        }
    eigenvalues(a, v);
    for (int k = rank; k < ROWS; k++)
        sum += v[k];
    return sum;
}

static void errors_of(const struct ptq_layer *l, const float *what, double e[ROWS][COLS])
{
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) {
            bool dead = l->hess.at[j * l->hess.ld + j] == 0;
            e[i][j] = (dead ? 0 : (double)l->w.at[i * l->w.ld + j]) - (double)what[i * COLS + j];
        }
}

/* 8 bits add little to the least loss; the other norm's residual would add much. */
static void residual_of_a_rank(void **state)
{
    struct fixture *f = *state;
    static double h[COLS][COLS], unit[COLS][COLS], before[ROWS][COLS], e[ROWS][COLS];
    const int ranks[] = {0, 1, 2, 4, 12, ROWS, 100};
    damped(&f->layer, h);
    for (int j = 0; j < COLS; j++)
        unit[j][j] = 1;
    for (int plain = 0; plain < 2; plain++) {
        double last = INFINITY;
        for (int64_t k = 0; k < LENGTH(ranks); k++) {
            char spec[64];
            struct ptq_result r;
            snprintf(spec, sizeof spec, "athena:width=8:rank=%d%s", ranks[k],
                     plain ? ":residual=plain" : "");
            struct run_args a = {&f->layer, spec, cell_of(2, -1), PTQ_DOUBLE_PRECISION, NULL, 0};
            assert_ok(run_cell(&a, &r, &f->st), &f->st);
            int rank = ranks[k] < ROWS ? ranks[k] : ROWS;
            assert_int_equal(r.quant.n_parts, rank ? 2 : 1);
            if (rank)
                assert_int_equal(r.quant.part[1].rank, rank);
            errors_of(&f->layer, r.what, e);
            if (!rank)
                memcpy(before, e, sizeof e);
            double loss = hess_loss(plain ? unit : h, e), all = hess_loss(plain ? unit : h, before),
                   least = least_loss(plain ? unit : h, before, rank);
            printf("rank %d, %s: %.6g of %.6g, at least %.6g\n", rank, plain ? "plain" : "hess",
                   loss, all, least);
            assert_true(loss >= least * (1 - 1e-6) - 1e-12 && loss <= least + 3e-4 * all);
            assert_true(loss <= last * (1 + 1e-9) && loss <= all);
            last = loss;
            ptq_result_release(&r);
        }
    }
}

/* ---- edges ---- */

/* Fewer points than centroids: every weight has a centroid of its own, up to the book's 8 bits. */
static void one_row(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    synthetic_layer(&f->arena, 1, COLS, DEAD, &l);
    for (int exact = 0; exact < 2; exact++) {
        struct ptq_result r;
        struct run_args a = {&l,
                             exact ? "athena:exact=1:book_bits=16" : "athena:book_bits=16",
                             cell_of(8, -1),
                             PTQ_DOUBLE_PRECISION,
                             NULL,
                             0};
        assert_ok(run_cell(&a, &r, &f->st), &f->st);
        const struct ptq_part *p = &r.quant.part[0];
        assert_int_equal(p->book_len, 32); /* the width, not 2^8 */
        assert_int_equal(p->bits, 5);
        assert_true(note_of(&r, "book_len") == 32);
        for (int j = 0; j < COLS; j++)
            if (l.hess.at[j * l.hess.ld + j] != 0)
                assert_near((double)r.what[j], (double)l.w.at[j], 0.02);
        ptq_result_release(&r);
    }
}

static void narrow_matrices(void **state)
{
    struct fixture *f = *state;
    const char *const specs[] = {"athena:width=37", "athena:width=64", "athena:width=37:exact=1",
                                 "athena:dim=2",    "athena:rank=3",   "athena:book=uniform"};
    for (int64_t s = 0; s < LENGTH(specs); s++)
        for (int rows = 1; rows <= 3; rows += 2) {
            struct ptq_layer l;
            struct ptq_result r;
            synthetic_layer(&f->arena, rows, 38, 6, &l); /* width 37 leaves a dead one alone */
            struct run_args a = {&l, specs[s], cell_of(4, -1), PTQ_SINGLE, NULL, 0};
            assert_ok(run_cell(&a, &r, &f->st), &f->st);
            ptq_result_release(&r);
        }
}

/* The variants that test_contract.c does not run. */
static void same_bits_for_any_threads(void **state)
{
    struct fixture *f = *state;
    const char *const specs[] = {"athena:dim=2:width=10", "athena:order=natural:rank=3",
                                 "athena:weighted=1:exact=1:rank=2:residual=plain",
                                 "athena:book=uniform:width=8"};
    struct ptq_layer l;
    synthetic_layer(&f->arena, 300, COLS, DEAD, &l);
    for (int64_t s = 0; s < LENGTH(specs); s++) {
        char hash[3][33];
        for (int threads = 1; threads <= 3; threads++) {
            struct ptq_result r;
            struct ptq_pool *pool = NULL;
            assert_ok(ptq_pool_new(&pool, threads, &f->st), &f->st);
            struct run_args a = {&l, specs[s], cell_of(2, -1), PTQ_SINGLE, pool, 0};
            assert_ok(run_cell(&a, &r, &f->st), &f->st);
            ptq_quant_hash(&r.quant, hash[threads - 1]);
            ptq_result_release(&r);
            ptq_pool_free(pool);
        }
        assert_string_equal(hash[0], hash[1]);
        assert_string_equal(hash[0], hash[2]);
    }
}

static void skipped_with_a_reason(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *spec;
        int bits;
        int64_t group;
        const char *words;
        bool sym, zero_free;
    } cases[] = {
        {"athena:dim=4:width=6", 2, -1, "does not divide"},
        {"athena:dim=4", 2, 10, "does not divide"},
        {"athena:dim=3", 2, -1, "1, 2 or 4"},
        {"athena:dim=4", 5, -1, "65536"},
        {"athena:dim=2:exact=1", 2, -1, "dim=1"},
        {"athena", 3, 0, "tensor"},
        {"athena:grid=mse", 3, -1, "set grid = minmax"},
        {"athena", 3, -1, "set sym = 0", .sym = true},
        {"athena", 3, -1, "set zero_in_range = 1", .zero_free = true},
    };
    for (int64_t k = 0; k < LENGTH(cases); k++) {
        struct ptq_result r;
        struct run_args a = {&f->layer,  cases[k].spec, cell_of(cases[k].bits, cases[k].group),
                             PTQ_SINGLE, NULL,          0};
        a.cell.sym = cases[k].sym;
        a.cell.zero_in_range = !cases[k].zero_free;
        ptq_status_clear(&f->st);
        assert_int_equal(run_cell(&a, &r, &f->st), PTQ_SKIP);
        if (!strstr(f->st.text, cases[k].words))
            fail_msg("%s: %s", cases[k].spec, f->st.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(groups_of_the_textbook, setup_layer, teardown),
        cmocka_unit_test_setup_teardown(equal_codes, setup_layer, teardown),
        cmocka_unit_test_setup_teardown(residual_of_a_rank, setup_layer, teardown),
        cmocka_unit_test_setup_teardown(one_row, setup_layer, teardown),
        cmocka_unit_test_setup_teardown(narrow_matrices, setup_layer, teardown),
        cmocka_unit_test_setup_teardown(same_bits_for_any_threads, setup_layer, teardown),
        cmocka_unit_test_setup_teardown(skipped_with_a_reason, setup_layer, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
