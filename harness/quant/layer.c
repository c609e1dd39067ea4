/* layer.c: the inputs of methods: checking them, and Hessians made from activations. */
#include "quant/run.h"
#include "core/linalg.h"
#include "core/size.h"
#include <math.h>
#include <string.h>

enum { UNIT_ROWS = 512 }; /* rows of one fp32 partial of a token Hessian */

/* ---- checks ---- */

static int nonfinite(const char *source, const char *what, int64_t row, int64_t col, double v,
                     struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_NUMERIC,
                          "%s: %s: row %lld, column %lld is %g; remove or repair it", source, what,
                          (long long)row, (long long)col, v);
}

static int check_finite(const struct ptq_cmat *m, const char *source, const char *what,
                        struct ptq_status *st)
{
    for (int64_t i = 0; m->at && i < m->rows; i++) {
        int64_t j = ptq_first_nonfinite_f32(m->at + i * m->ld, m->cols);
        if (j >= 0)
            return nonfinite(source, what, i, j, m->at[i * m->ld + j], st);
    }
    return PTQ_OK;
}

static int check_diagonal(const struct ptq_cdmat *h, const char *source, struct ptq_status *st)
{
    bool zero = true;
    for (int64_t i = 0; i < h->rows; i++) {
        int64_t j = ptq_first_nonfinite_f64(h->at + i * h->ld, h->cols);
        if (j >= 0)
            return nonfinite(source, "hess", i, j, h->at[i * h->ld + j], st);
        double d = h->at[i * h->ld + i];
        if (d < 0)
            return ptq_status_set(
                st, PTQ_ERR_NUMERIC,
                "%s: hess: diagonal element %lld is %g; a sum of squares is not negative", source,
                (long long)i, d);
        zero = zero && d == 0;
    }
    if (zero)
        return ptq_status_set(
            st, PTQ_ERR_NUMERIC,
            "%s: hess: the diagonal is all zero; capture activations that reach this layer",
            source);
    return PTQ_OK;
}

/* |H_ij| <= sqrt(H_ii H_jj) for a sum of x x^T: that is the scale of a fault at (i, j). An input
 * that is never active has no product with others. */
static int check_symmetric(const struct ptq_cdmat *h, const char *source, struct ptq_status *st)
{
    for (int64_t i = 0; i < h->rows; i++)
        for (int64_t j = 0; j < i; j++) {
            double a = h->at[i * h->ld + j], b = h->at[j * h->ld + i];
            double scale = sqrt(h->at[i * h->ld + i]) * sqrt(h->at[j * h->ld + j]);
            if (!(fabs(a - b) <= 1e-5 * scale))
                return ptq_status_set(st, PTQ_ERR_NUMERIC,
                                      "%s: hess: not symmetric: (%lld, %lld) is %.9g, (%lld, %lld) "
                                      "is %.9g; symmetrise it first",
                                      source, (long long)i, (long long)j, a, (long long)j,
                                      (long long)i, b);
            if (scale == 0 && a != 0)
                return ptq_status_set(st, PTQ_ERR_NUMERIC,
                                      "%s: hess: (%lld, %lld) is %.9g although an input has "
                                      "diagonal 0; it is no sum of x x^T",
                                      source, (long long)i, (long long)j, a);
        }
    return PTQ_OK;
}

int ptq_layer_check(const struct ptq_layer *l, const char *source, struct ptq_status *st)
{
    if (!l->w.at || l->w.rows < 1 || l->w.cols < 1)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: weight is absent or empty", source);
    if (l->hess.at && (l->hess.rows != l->w.cols || l->hess.cols != l->w.cols))
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: hess is %lld x %lld, the weight has %lld columns; give H of this layer's inputs",
            source, (long long)l->hess.rows, (long long)l->hess.cols, (long long)l->w.cols);
    if (l->acts.at && l->acts.cols != l->w.cols)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: activations have %lld columns, the weight %lld; one token a row",
                              source, (long long)l->acts.cols, (long long)l->w.cols);
    int rc = check_finite(&l->w, source, "weight", st);
    if (rc == PTQ_OK)
        rc = check_finite(&l->acts, source, "activations", st);
    if (rc == PTQ_OK && l->hess.at)
        rc = check_diagonal(&l->hess, source, st);
    if (rc == PTQ_OK && l->hess.at)
        rc = check_symmetric(&l->hess, source, st);
    return rc;
}

/* ---- Hessians from activations ---- */

struct accumulator {
    struct ptq_pool *pool;
    const struct ptq_cmat *x;
    int64_t n;
    double *h;            /* (n x n) sum of x x^T */
    float *part32;        /* single */
    double *part64, *x64; /* double: a unit of x in fp64 */
};

static void add_part(struct accumulator *a)
{
    int64_t nn = a->n * a->n;
    if (a->part32)
        for (int64_t i = 0; i < nn; i++)
            a->h[i] += (double)a->part32[i];
    else
        for (int64_t i = 0; i < nn; i++)
            a->h[i] += a->part64[i];
}

static int add_rows(struct accumulator *a, int64_t row, int64_t rows, struct ptq_status *st)
{
    const float *x = a->x->at + row * a->x->ld;
    int rc;
    if (a->part32) {
        rc = ptq_syrk_f32(a->pool, x, rows, a->n, a->x->ld, a->part32, a->n, st);
    } else {
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < a->n; j++)
                a->x64[i * a->n + j] = (double)x[i * a->x->ld + j];
        rc = ptq_syrk_f64(a->pool, a->x64, rows, a->n, a->n, a->part64, a->n, st);
    }
    if (rc == PTQ_OK)
        add_part(a);
    return rc;
}

static int accumulate(struct accumulator *a, int64_t unit, struct ptq_status *st)
{
    int rc = PTQ_OK;
    for (int64_t row = 0; row < a->x->rows && rc == PTQ_OK; row += unit)
        rc = add_rows(a, row, a->x->rows - row < unit ? a->x->rows - row : unit, st);
    return rc;
}

static int check_overflow(const double *h, int64_t n, struct ptq_status *st)
{
    int64_t bad = ptq_first_nonfinite_f64(h, n * n);
    return bad < 0 ? PTQ_OK
                   : ptq_status_set(st, PTQ_ERR_NUMERIC,
                                    "the Hessian made from the activations overflows at row %lld, "
                                    "column %lld; scale the activations down",
                                    (long long)(bad / n), (long long)(bad % n));
}

bool ptq_all_zero(const struct ptq_cmat *x)
{
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t j = 0; j < x->cols; j++)
            if (x->at[i * x->ld + j] != 0)
                return false;
    return true;
}

int ptq_hess_from_acts(struct ptq_pool *pool, const struct ptq_cmat *acts, enum ptq_norm norm,
                       int64_t n_sequences, enum ptq_precision precision, struct ptq_arena *arena,
                       struct ptq_cdmat *hess, struct ptq_status *st)
{
    bool sequences = norm == PTQ_NORM_SEQUENCE;
    int64_t n = acts->cols, nn, unit = UNIT_ROWS;
    if (acts->rows < 1 || n < 1 || !ptq_size_mul(n, n, &nn))
        return ptq_status_set(st, PTQ_ERR_USAGE, "activations of %lld x %lld give no Hessian",
                              (long long)acts->rows, (long long)n);
    if (sequences && (n_sequences < 1 || acts->rows % n_sequences))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%lld rows of activations are no whole sequences of %lld",
                              (long long)acts->rows, (long long)n_sequences);
    if (sequences)
        unit = acts->rows / n_sequences;
    struct ptq_arena scratch;
    ptq_arena_init(&scratch, 0);
    struct accumulator a = {
        .pool = pool, .x = acts, .n = n, .h = ptq_arena_alloc(arena, st, nn, sizeof(double))};
    if (precision == PTQ_SINGLE)
        a.part32 = ptq_arena_alloc(&scratch, st, nn, sizeof(float));
    else {
        int64_t block;
        a.part64 = ptq_arena_alloc(&scratch, st, nn, sizeof(double));
        if (ptq_size_mul(unit < acts->rows ? unit : acts->rows, n, &block))
            a.x64 = ptq_arena_alloc(&scratch, st, block, sizeof(double));
    }
    int rc = a.h && (a.part32 || (a.part64 && a.x64)) ? accumulate(&a, unit, st) : PTQ_ERR_MEMORY;
    double factor = 2 / (double)(sequences ? n_sequences : acts->rows);
    for (int64_t i = 0; i < nn && rc == PTQ_OK; i++)
        a.h[i] *= factor;
    if (rc == PTQ_OK)
        rc = check_overflow(a.h, n, st);
    ptq_arena_clear(&scratch);
    *hess = (struct ptq_cdmat){0};
    if (rc == PTQ_OK && !ptq_all_zero(acts))
        *hess = (struct ptq_cdmat){a.h, n, n, n};
    return rc;
}
