/* grid_real.c: the grid of one group of weights (methods.md section 1), compiled for float and
 * for double. Ranges and scales are made in fp64 from ptq_real data; the codes of a search are
 * rounded in ptq_real, as the final codes are. */
#include "quant/ctx.h"
#include "core/linalg.h"
#include "core/size.h"
#include "quant/power.h"
#include <math.h>
#include <string.h>

enum {
    MSE_STEPS = 80,
    HESS_STEPS = 100,
    LANES = 8,
    BLOCK = 256,
    ROWS_A_PIECE = 16,
    WIDE_ZERO = 32767
};

struct range {
    double lo, hi;
};

/* ---- range ---- */

/* Minimum and maximum over 16 lanes: exact in any order, so lanes cannot change bits. */
PTQ_CLONES static struct range range_of_row(const ptq_real *x, int64_t n)
{
    enum { W = 16 };
    ptq_real lo[W], hi[W];
    int64_t i = 0;
    for (int l = 0; l < W; l++)
        lo[l] = hi[l] = x[0];
    for (; i + W <= n; i += W)
        for (int l = 0; l < W; l++) {
            lo[l] = x[i + l] < lo[l] ? x[i + l] : lo[l];
            hi[l] = x[i + l] > hi[l] ? x[i + l] : hi[l];
        }
    for (; i < n; i++) {
        lo[0] = x[i] < lo[0] ? x[i] : lo[0];
        hi[0] = x[i] > hi[0] ? x[i] : hi[0];
    }
    for (int l = 1; l < W; l++) {
        lo[0] = lo[l] < lo[0] ? lo[l] : lo[0];
        hi[0] = hi[l] > hi[0] ? hi[l] : hi[0];
    }
    return (struct range){lo[0], hi[0]};
}

static struct range range_of(const ptq_real *x, int64_t n, int64_t stride)
{
    if (stride == 1)
        return range_of_row(x, n);
    ptq_real lo = x[0], hi = x[0];
    for (int64_t i = 1; i < n; i++) {
        ptq_real v = x[i * stride];
        lo = v < lo ? v : lo;
        hi = v > hi ? v : hi;
    }
    return (struct range){lo, hi};
}

static struct range range_join(struct range a, struct range b)
{
    return (struct range){b.lo < a.lo ? b.lo : a.lo, b.hi > a.hi ? b.hi : a.hi};
}

static struct range with_zero(struct range r)
{
    return range_join(r, (struct range){0, 0});
}

/* The range of the cell's rules from the range of the data. */
static struct range cell_range(const struct ptq_cell *cell, struct range r)
{
    if (cell->sym) {
        r = with_zero(r);
        double a = -r.lo > r.hi ? -r.lo : r.hi;
        r.hi = a;
        if (cell->sym_kind != PTQ_SYM_GPTQ || r.lo < 0)
            r.lo = -a;
    } else if (cell->zero_in_range) {
        r = with_zero(r);
    }
    return r.lo == 0 && r.hi == 0 ? (struct range){-1, 1} : r;
}

/* ---- range to grid ---- */

static double max_code(const struct ptq_cell *cell)
{
    return (double)((1 << cell->w_bits) - 1);
}

static struct ptq_grid_fit sym_grid(const struct ptq_cell *cell, struct range r)
{
    int half = 1 << (cell->w_bits - 1);
    double step =
        cell->sym_kind == PTQ_SYM_ABSMAX ? r.hi / (half - 1) : (r.hi - r.lo) / max_code(cell);
    return (struct ptq_grid_fit){.scale = ptq_round_fmt(step, cell->scale_fmt),
                                 .zero = (float)half};
}

static float asym_scale(const struct ptq_cell *cell, struct range r)
{
    /* A constant group without 0: one step reaches it from the zero. */
    double step = r.hi > r.lo ? (r.hi - r.lo) / max_code(cell) : fabs(r.lo);
    return ptq_round_fmt(step, cell->scale_fmt);
}

/* `rounded` is -lo / scale rounded by some rule. + 0.0 turns -0 into 0: stored zeros have no
 * sign. */
static float fitting_zero(const struct ptq_cell *cell, double rounded)
{
    double most = cell->zero_in_range ? max_code(cell) : WIDE_ZERO,
           least = cell->zero_in_range ? 0 : -WIDE_ZERO;
    return (float)((rounded > most ? most : rounded < least ? least : rounded) + 0.0);
}

static struct ptq_grid_fit grid_of(const struct ptq_cell *cell, struct range r)
{
    if (cell->sym)
        return sym_grid(cell, r);
    struct ptq_grid_fit g = {.scale = asym_scale(cell, r)};
    if (r.lo == r.hi)
        g.zero = r.lo > 0 ? -1 : 1;
    else {
        /* In ptq_real, as the codes: a range with lo = -hi is an exact tie at every width, and
         * the published arithmetic (fp32) decides it by this division. */
        ptq_real z = (ptq_real)-r.lo / (ptq_real)g.scale;
        g.zero = fitting_zero(cell, ptq_round(z));
    }
    return g;
}

/* Shrinks towards 0; a range without 0 about its middle, since towards 0 it would only slide off
 * the weights. */
static struct range shrink(struct range r, double p)
{
    double middle = r.lo > 0 || r.hi < 0 ? (r.lo + r.hi) / 2 : 0;
    return (struct range){middle + p * (r.lo - middle), middle + p * (r.hi - middle)};
}

/* The range that searches start from. A zero that does not fit its 16 bits: the range is widened
 * to hold 0. */
static struct range start_range(const struct ptq_cell *cell, struct range data, bool *widened)
{
    struct range r = cell_range(cell, data);
    *widened = !cell->sym && !cell->zero_in_range && r.lo != r.hi &&
               !(fabs(r.lo) / (double)asym_scale(cell, r) < WIDE_ZERO + 0.5);
    return *widened ? with_zero(r) : r;
}

/* ---- errors of a candidate ---- */

struct vector {
    const ptq_real *x;
    int64_t n, stride;
};

static inline ptq_real round_real(ptq_real v)
{
    return sizeof v == sizeof(float) ? (ptq_real)__builtin_rintf((float)v)
                                     : (ptq_real)__builtin_rint((double)v);
}

/* Stored value of x on a grid. */
static inline float value_on(ptq_real x, float scale, float zero, ptq_real maxq)
{
    ptq_real q = round_real(x / (ptq_real)scale) + (ptq_real)zero;
    q = q > 0 ? q : 0;
    q = q < maxq ? q : maxq;
    return scale * ((float)q - zero);
}

/* Adds |What - x|^2.4 of n <= BLOCK elements to the lanes: lane l takes elements l, l + LANES,
 * ... */
PTQ_CLONES static void add_powers(const ptq_real *restrict x, int64_t n,
                                  const struct ptq_grid_fit *g, ptq_real maxq,
                                  double *restrict lanes)
{
    float scale = g->scale, zero = g->zero;
    double e[BLOCK], sum[LANES];
    for (int64_t i = 0; i < n; i++)
        e[i] = ptq_power_2_4((double)value_on(x[i], scale, zero, maxq) - (double)x[i]);
    int64_t whole = n / LANES * LANES;
    for (int l = 0; l < LANES; l++)
        sum[l] = lanes[l];
    for (int64_t i = 0; i < whole; i += LANES)
        for (int l = 0; l < LANES; l++)
            sum[l] += e[i + l];
    for (int64_t i = whole; i < n; i++)
        sum[i - whole] += e[i];
    for (int l = 0; l < LANES; l++)
        lanes[l] = sum[l];
}

static double sum_powers(struct vector v, const struct ptq_grid_fit *g, ptq_real maxq)
{
    double lanes[LANES] = {0}, total = 0;
    ptq_real block[BLOCK];
    for (int64_t i0 = 0; i0 < v.n; i0 += BLOCK) {
        int64_t n = v.n - i0 < BLOCK ? v.n - i0 : BLOCK;
        const ptq_real *x = v.x + i0;
        if (v.stride != 1) {
            for (int64_t i = 0; i < n; i++)
                block[i] = v.x[(i0 + i) * v.stride];
            x = block;
        }
        add_powers(x, n, g, maxq, lanes);
    }
    for (int l = 0; l < LANES; l++)
        total += lanes[l];
    return total;
}

/* ---- MSE search ---- */

static void search_mse(const struct ptq_cell *cell, struct range r, struct vector v,
                       struct ptq_grid_fit *out)
{
    double best = INFINITY;
    for (int i = 0; i < MSE_STEPS; i++) {
        struct ptq_grid_fit g = grid_of(cell, shrink(r, 1 - i / 100.0));
        double e = sum_powers(v, &g, (ptq_real)max_code(cell));
        if (e < best) {
            best = e;
            *out = g;
        }
    }
}

void PTQ_REAL(ptq_grid_fit)(const struct ptq_cell *cell, const ptq_real *x, int64_t n,
                            int64_t stride, struct ptq_grid_fit *out)
{
    bool widened;
    struct range r = start_range(cell, range_of(x, n, stride), &widened);
    *out = grid_of(cell, r);
    if (cell->grid == PTQ_GRID_MSE)
        search_mse(cell, r, (struct vector){x, n, stride}, out);
    out->widened = widened;
}

/* ---- Hessian-weighted search ---- */

/* The vectors that share one grid and one block of H: one, or every row of a matrix. */
struct rows {
    const ptq_real *x;
    int64_t n_rows, row_stride, n, stride;
    const double *h;
    int64_t ldh;
    double *d; /* [n][PTQ_HESS_LANES] */
};

/* score[c] += d_c H d_c^T for PTQ_HESS_LANES candidates at once: sum of d_i (H_ii d_i + 2 sum of
 * H_ij d_j over j < i). */
PTQ_CLONES static void add_quadforms(const double *restrict d, int64_t n, const double *restrict h,
                                     int64_t ldh, double *restrict score)
{
    for (int64_t i = 0; i < n; i++) {
        double acc[PTQ_HESS_LANES] = {0};
        for (int64_t j = 0; j < i; j++) {
            double f = h[i * ldh + j];
            for (int c = 0; c < PTQ_HESS_LANES; c++)
                acc[c] += f * d[j * PTQ_HESS_LANES + c];
        }
        double f = h[i * ldh + i];
        for (int c = 0; c < PTQ_HESS_LANES; c++) {
            double di = d[i * PTQ_HESS_LANES + c];
            score[c] += di * (f * di + 2 * acc[c]);
        }
    }
}

/* Scores candidates [0, PTQ_HESS_LANES). */
static void score_candidates(const struct ptq_cell *cell, const struct rows *s,
                             const struct ptq_grid_fit *g, double *score)
{
    memset(score, 0, PTQ_HESS_LANES * sizeof *score);
    for (int64_t row = 0; row < s->n_rows; row++) {
        const ptq_real *x = s->x + row * s->row_stride;
        for (int64_t i = 0; i < s->n; i++) {
            ptq_real v = x[i * s->stride];
            for (int c = 0; c < PTQ_HESS_LANES; c++)
                s->d[i * PTQ_HESS_LANES + c] =
                    (double)value_on(v, g[c].scale, g[c].zero, (ptq_real)max_code(cell)) -
                    (double)v;
        }
        add_quadforms(s->d, s->n, s->h, s->ldh, score);
    }
}

/* Candidate number `k`: range shrunk to 1 - step / 100; zeros by floor and, next, by ceil. */
static struct ptq_grid_fit candidate(const struct ptq_cell *cell, struct range start, int k)
{
    int zeros = cell->sym ? 1 : 2;
    struct range r = shrink(start, 1 - k / zeros / 100.0);
    struct ptq_grid_fit g = grid_of(cell, r);
    if (!cell->sym && r.lo != r.hi) {
        double z = -r.lo / (double)g.scale;
        g.zero = fitting_zero(cell, k % 2 ? ceil(z) : floor(z));
    }
    return g;
}

static void search_hess(const struct ptq_cell *cell, struct range start, const struct rows *s,
                        struct ptq_grid_fit *out)
{
    int n = HESS_STEPS * (cell->sym ? 1 : 2);
    double best = INFINITY;
    for (int k0 = 0; k0 < n; k0 += PTQ_HESS_LANES) {
        struct ptq_grid_fit g[PTQ_HESS_LANES];
        double score[PTQ_HESS_LANES];
        for (int c = 0; c < PTQ_HESS_LANES; c++)
            g[c] = candidate(cell, start, k0 + c < n ? k0 + c : n - 1);
        score_candidates(cell, s, g, score);
        for (int c = 0; c < PTQ_HESS_LANES; c++)
            if (score[c] < best) {
                best = score[c];
                *out = g[c];
            }
    }
}

void PTQ_REAL(ptq_grid_fit_hess)(const struct ptq_cell *cell, const ptq_real *x, int64_t n,
                                 int64_t stride, const double *h, int64_t ldh, double *scratch,
                                 struct ptq_grid_fit *out)
{
    PTQ_REAL(ptq_grid_fit)(cell, x, n, stride, out);
    if (cell->grid != PTQ_GRID_HESS)
        return;
    bool widened;
    struct range r = start_range(cell, range_of(x, n, stride), &widened);
    struct rows s = {x, 1, 0, n, stride, h, ldh, scratch};
    search_hess(cell, r, &s, out);
    out->widened = widened;
}

/* ---- all grids of a layer ---- */

#define fit_hess PTQ_REAL(ptq_grid_fit_hess)

struct all {
    struct ptq_ctx *ctx;
    const struct ptq_layer *layer;
    const struct ptq_cell *cell;
    const uint8_t *zeroed;
    const struct ptq_part_arrays *at;
    _Atomic int64_t n_widened;
    _Atomic bool failed; /* status set */
};

static void load_row(const struct all *a, int64_t row, ptq_real *x)
{
    const float *w = a->layer->w.at + row * a->layer->w.ld;
    for (int64_t j = 0; j < a->layer->w.cols; j++)
        x[j] = a->zeroed && a->zeroed[j] ? 0 : (ptq_real)w[j];
}

static double *hess_scratch(struct all *a, int64_t n)
{
    int64_t lanes;
    if (!ptq_size_mul(n, PTQ_HESS_LANES, &lanes))
        lanes = -1; /* refused by ptq_alloc */
    return ptq_alloc(a->ctx, PTQ_ARENA_CALL, a->cell->grid == PTQ_GRID_HESS ? lanes : 0,
                     sizeof(double));
}

static void fit_rows(void *arg, int64_t begin, int64_t end)
{
    struct all *a = arg;
    int64_t cols = a->layer->w.cols, g = ptq_group_cols(a->cell, cols),
            groups = ptq_groups_per_row(a->cell, cols);
    ptq_real *x = ptq_alloc(a->ctx, PTQ_ARENA_CALL, cols, sizeof *x);
    double *scratch = hess_scratch(a, g);
    if (!x || !scratch) {
        a->failed = true;
        return;
    }
    const struct ptq_cdmat *h = &a->layer->hess;
    for (int64_t row = begin; row < end && !a->failed && !ptq_cancelled(a->ctx); row++) {
        load_row(a, row, x);
        for (int64_t k = 0; k < groups; k++) {
            int64_t j = k * g, n = cols - j < g ? cols - j : g;
            struct ptq_grid_fit fit;
            const double *block = h->at ? h->at + j * h->ld + j : NULL;
            fit_hess(a->cell, x + j, n, 1, block, h->ld, scratch, &fit);
            ptq_part_set_grid(a->at, row * groups + k, &fit);
            a->n_widened += fit.widened;
        }
    }
}

/* One grid for the matrix; the Hessian score of it is the sum over rows. */
static int fit_tensor(struct all *a)
{
    int64_t rows = a->layer->w.rows, cols = a->layer->w.cols;
    ptq_real *x = ptq_alloc(a->ctx, PTQ_ARENA_CALL, rows * cols, sizeof *x);
    double *scratch = hess_scratch(a, cols);
    if (!x || !scratch)
        return PTQ_ERR_MEMORY;
    for (int64_t row = 0; row < rows; row++)
        load_row(a, row, x + row * cols);
    struct ptq_grid_fit fit;
    PTQ_REAL(ptq_grid_fit)(a->cell, x, rows * cols, 1, &fit);
    if (a->cell->grid == PTQ_GRID_HESS) {
        bool widened;
        struct range r = start_range(a->cell, range_of(x, rows * cols, 1), &widened);
        struct rows s = {x, rows, cols, cols, 1, a->layer->hess.at, a->layer->hess.ld, scratch};
        search_hess(a->cell, r, &s, &fit);
    }
    ptq_part_set_grid(a->at, 0, &fit);
    a->n_widened = fit.widened;
    return PTQ_OK;
}

int PTQ_REAL(ptq_grid_fit_all)(struct ptq_ctx *ctx, const struct ptq_layer *layer,
                               const struct ptq_cell *cell, const uint8_t *zeroed,
                               const struct ptq_part_arrays *at)
{
    struct all a = {.ctx = ctx, .layer = layer, .cell = cell, .zeroed = zeroed, .at = at};
    if (cell->group_size == PTQ_GROUP_TENSOR) {
        int rc = fit_tensor(&a);
        if (rc != PTQ_OK)
            return rc;
    } else {
        ptq_parallel_for(ctx, layer->w.rows, ROWS_A_PIECE, fit_rows, &a);
    }
    if (a.failed)
        return PTQ_ERR_MEMORY;
    if (ptq_cancelled(ctx))
        return ptq_fail(ctx, PTQ_ERR_CANCELLED, "cancelled");
    if (!cell->sym && !cell->zero_in_range)
        ptq_note(ctx, "n_zero_widened", (double)a.n_widened);
    return PTQ_OK;
}

/* ---- products ---- */

int PTQ_REAL(ptq_gemm_add)(struct ptq_ctx *ctx, int sign, int64_t m, int64_t n, int64_t k,
                           const ptq_real *a, int64_t lda, const ptq_real *b, int64_t ldb,
                           ptq_real *c, int64_t ldc)
{
    struct ptq_status st = {0};
    struct PTQ_REAL(ptq_gemm) g = {.m = m,
                                   .n = n,
                                   .k = k,
                                   .alpha = sign < 0 ? -1 : 1,
                                   .beta = 1,
                                   .a = a,
                                   .lda = lda,
                                   .b = b,
                                   .ldb = ldb,
                                   .c = c,
                                   .ldc = ldc};
    int rc = PTQ_REAL(ptq_gemm)(ctx->pool, &g, &st);
    return rc == PTQ_OK ? rc : ptq_ctx_adopt(ctx, &st);
}
