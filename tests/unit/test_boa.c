/* BoA and TurboBoA against dense linear algebra written plainly here, in double (methods.md 8.4.2,
 * 8.4.6): optimal brain surgeon on (H_row + l_r I) x (H_col + l_c I), W row by row. */
#include "quant_lib.h"

enum { MOST_ROWS = 24, MOST_COLS = 24, MOST = 8 * MOST_COLS };

struct shape {
    int64_t heads, dh, n;
};
static const struct shape small = {1, 6, 9}, larger = {3, 8, 24};

/* (n x n) second moments of correlated draws of unequal power. */
static double *covariance(struct fixture *f, uint64_t seed, int64_t n)
{
    double *h = ptq_arena_alloc(&f->arena, &f->st, n * n, sizeof *h),
           *x = ptq_arena_alloc(&f->arena, &f->st, n, sizeof *x);
    assert_true(h && x);
    for (int64_t t = 0; t < 2 * n; t++) {
        for (int64_t i = 0; i < n; i++)
            x[i] =
                (ptq_normal(seed, (uint64_t)(t * n + i)) + 2 * ptq_normal(seed + 1, (uint64_t)t)) *
                (1 + (double)(i * 5 % 7));
        for (int64_t i = 0; i < n * n; i++)
            h[i] += x[i / n] * x[i % n];
    }
    return h;
}

/* A projection with attention statistics. v: column factors of its own for each head. */
static struct ptq_attn *attention_layer(struct fixture *f, struct shape s, enum ptq_role role,
                                        struct ptq_layer *l)
{
    int64_t packed = s.n * (s.n + 1) / 2, dd = s.dh * s.dh;
    synthetic_layer(&f->arena, s.heads * s.dh, s.n, 0, l);
    l->role = role;
    struct ptq_attn *a = ptq_arena_alloc(&f->arena, &f->st, 1, sizeof *a);
    double *hrow = ptq_arena_alloc(&f->arena, &f->st, s.heads * dd, sizeof *hrow),
           *hcol = ptq_arena_alloc(&f->arena, &f->st, s.heads * packed, sizeof *hcol);
    assert_true(a && hrow && hcol);
    for (int64_t h = 0; h < s.heads; h++) {
        memcpy(hrow + h * dd, covariance(f, (uint64_t)(100 + 2 * h), s.dh),
               (size_t)dd * sizeof *hrow);
        const double *c = covariance(f, (uint64_t)(200 + 2 * h), s.n);
        double *at = hcol + h * packed;
        for (int64_t i = 0; i < s.n; i++)
            for (int64_t j = i; j < s.n; j++)
                *at++ = c[i * s.n + j];
    }
    *a = (struct ptq_attn){s.heads, s.dh, hrow, role == PTQ_ROLE_V ? hcol : NULL, 77};
    l->attn = a;
    return a;
}

static double *full_hcol(struct fixture *f, const struct ptq_layer *l, int64_t h)
{
    int64_t n = l->w.cols;
    double *full = ptq_arena_alloc(&f->arena, &f->st, n * n, sizeof *full);
    const double *at = l->attn->hcol + h * (n * (n + 1) / 2);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++)
            full[i * n + j] = full[j * n + i] = *at++;
    return full;
}

static void run(struct fixture *f, const struct ptq_layer *l, const char *spec,
                struct ptq_cell cell, struct ptq_result *r)
{
    struct run_args a = {l, spec, cell, PTQ_DOUBLE_PRECISION, NULL};
    assert_ok(run_cell(&a, r, &f->st), &f->st);
}

static void assert_same_codes(const char *what, const uint16_t *a, const uint16_t *b, int64_t n)
{
    int64_t different = count_different(a, b, n);
    if (different)
        fail_msg("%s: %lld of %lld codes differ", what, (long long)different, (long long)n);
}

/* ---- the plain reference ---- */

/* A <- A^-1 by Gauss-Jordan (A positive definite). */
static void invert(double *a, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        double pivot = a[k * n + k];
        a[k * n + k] = 1;
        for (int64_t j = 0; j < n; j++)
            a[k * n + j] /= pivot;
        for (int64_t i = 0; i < n; i++) {
            double m = a[i * n + k];
            if (i == k)
                continue;
            a[i * n + k] = 0;
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] -= m * a[k * n + j];
        }
    }
}

/* Damped by 1 % of the mean of the diagonal. */
static void damp(const double *h, int64_t n, double *out)
{
    double mean = 0;
    for (int64_t i = 0; i < n; i++)
        mean += h[i * (n + 1)] / (double)n;
    for (int64_t i = 0; i < n * n; i++)
        out[i] = h[i] + (i % (n + 1) == 0 ? 0.01 * mean : 0);
}

static void order_of(const double *h, int64_t n, bool by_diag, int64_t *order)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i;
        for (; by_diag && at > 0 && h[order[at - 1] * (n + 1)] < h[i * (n + 1)]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

/* One head: weights and grids in the layer's order, factors damped. */
struct head {
    int64_t dh, n, row0;
    double hrow[8 * 8], hcol[MOST_COLS * MOST_COLS];
    int64_t rows[8], cols[MOST_COLS]; /* order of quantization */
    double w[8 * MOST_COLS];
    const struct ptq_part *part;
    uint16_t codes[8 * MOST_COLS];
};

static struct ptq_grid_fit grid_of(const struct head *h, int64_t row, int64_t col)
{
    const struct ptq_part *p = h->part;
    int64_t at = p->groups_per_row ? (h->row0 + row) * p->groups_per_row + col / p->group_cols : 0;
    return (struct ptq_grid_fit){p->scale.at[at], ptq_part_zero(p, at), false};
}

static double quantize_one(struct head *h, int64_t row, int64_t col, double x)
{
    struct ptq_grid_fit g = grid_of(h, row, col);
    int code = ptq_grid_code(rint(x / (double)g.scale), g.zero, (1 << h->part->bits) - 1);
    h->codes[row * h->n + col] = (uint16_t)code;
    return (double)ptq_grid_value(&g, code);
}

struct choice {
    bool row_order, col_order;
};

static void load_head(struct fixture *f, struct head *h, const struct ptq_layer *l, int64_t head,
                      const struct ptq_part *part, struct choice c)
{
    const struct ptq_attn *a = l->attn;
    const double *hrow = a->hrow + head * a->head_dim * a->head_dim,
                 *hcol = a->hcol ? full_hcol(f, l, head) : l->hess.at;
    *h = (struct head){a->head_dim, l->w.cols, head * a->head_dim, .part = part};
    damp(hrow, h->dh, h->hrow);
    damp(hcol, h->n, h->hcol);
    order_of(hrow, h->dh, c.row_order, h->rows);
    order_of(hcol, h->n, c.col_order, h->cols);
    for (int64_t i = 0; i < h->dh * h->n; i++)
        h->w[i] = (double)l->w.at[h->row0 * h->n + i];
}

/* Optimal brain surgeon over the whole head: quantize a weight, move all that are left, take it
 * out of the inverse. */
static void dense(struct head *h)
{
    static double inv[MOST * MOST], w[MOST];
    int64_t n = h->dh * h->n;
    for (int64_t i = 0; i < n; i++) {
        int64_t ri = h->rows[i / h->n], ci = h->cols[i % h->n];
        w[i] = h->w[ri * h->n + ci];
        for (int64_t j = 0; j < n; j++)
            inv[i * n + j] =
                h->hrow[ri * h->dh + h->rows[j / h->n]] * h->hcol[ci * h->n + h->cols[j % h->n]];
    }
    invert(inv, n);
    for (int64_t k = 0; k < n; k++) {
        double q = quantize_one(h, h->rows[k / h->n], h->cols[k % h->n], w[k]),
               e = (w[k] - q) / inv[k * n + k];
        for (int64_t j = k + 1; j < n; j++)
            w[j] -= e * inv[k * n + j];
        for (int64_t i = k + 1; i < n; i++)
            for (int64_t j = k + 1; j < n; j++)
                inv[i * n + j] -= inv[i * n + k] * inv[k * n + j] / inv[k * n + k];
    }
}

/* H^-1 = U^T U, U upper, of a matrix in some order of its columns. */
static void upper_of_inverse(const double *h, int64_t n, const int64_t *order, double *u)
{
    static double inv[MOST_COLS * MOST_COLS];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            inv[i * n + j] = h[order[i] * n + order[j]];
    invert(inv, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = inv[i * n + j];
            for (int64_t k = 0; k < (i < j ? i : j); k++)
                s -= u[k * n + i] * u[k * n + j];
            u[i * n + j] = j < i ? 0 : j == i ? sqrt(s) : s / u[i * n + i];
        }
}

/* The published column sweep of row t (order of quantization), driven by p (or NULL). */
static void sweep_row(struct head *h, int64_t row, const double *t, const double *u,
                      const double *p, double *q)
{
    double w[MOST_COLS];
    memcpy(w, t, (size_t)h->n * sizeof *w);
    for (int64_t k = 0; k < h->n; k++) {
        double x = w[k];
        q[k] = quantize_one(h, row, h->cols[k], x);
        for (int64_t j = k + 1; j < h->n; j++)
            w[j] -= (x - q[k]) / u[k * h->n + k] * u[k * h->n + j] - (p ? x * p[k * h->n + j] : 0);
    }
}

/* TurboBoA as published: blocks of `joint` rows; then DeltaW_rest = - [U_r^T]_rest,B
 * [U_r^T]_B,B^-1 (W_B - Q_B + alpha W_B R H_col^-1), here by the solve of joint unknowns. r: R in
 * the layer's order of columns, or NULL. */
static void published(struct head *h, int64_t joint, double alpha, const double *r)
{
    int64_t n = h->n, d = h->dh, natural[8];
    static double uc[MOST_COLS * MOST_COLS], ur[8 * 8], p[MOST_COLS * MOST_COLS],
        z[MOST_COLS * MOST_COLS], pull[MOST_COLS * MOST_COLS], w[8 * MOST_COLS], q[MOST_COLS],
        e[8 * MOST_COLS];
    upper_of_inverse(h->hcol, n, h->cols, uc);
    for (int64_t i = 0; i < d; i++)
        natural[i] = h->rows[i];
    upper_of_inverse(h->hrow, d, natural, ur);
    memset(p, 0, sizeof p);
    memset(z, 0, sizeof z);
    memset(pull, 0, sizeof pull);
    for (int64_t i = 0; r && i < n; i++) /* z = R U^T */
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = j; k < n; k++)
                z[i * n + j] += r[h->cols[i] * n + h->cols[k]] * uc[j * n + k];
    for (int64_t i = 0; r && i < n; i++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < n; k++) {
                p[i * n + j] += k > i ? alpha * z[i * n + k] * uc[k * n + j] : 0;
                pull[i * n + j] += alpha * z[i * n + k] * uc[k * n + j];
            }
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < n; j++)
            w[i * n + j] = h->w[h->rows[i] * n + h->cols[j]];
    for (int64_t b = 0; b < d; b += joint) {
        int64_t end = b + joint < d ? b + joint : d;
        for (int64_t i = b; i < end; i++) {
            sweep_row(h, h->rows[i], w + i * n, uc, r ? p : NULL, q);
            for (int64_t j = 0; j < n; j++) {
                e[i * n + j] = w[i * n + j] - q[j];
                for (int64_t k = 0; k < n; k++)
                    e[i * n + j] += w[i * n + k] * pull[k * n + j];
            }
        }
        for (int64_t i = b; i < end; i++) /* [U^T]_BB is lower: forward */
            for (int64_t j = 0; j < n; j++) {
                for (int64_t k = b; k < i; k++)
                    e[i * n + j] -= ur[k * d + i] * e[k * n + j];
                e[i * n + j] /= ur[i * d + i];
            }
        for (int64_t i = end; i < d; i++)
            for (int64_t j = 0; j < n; j++)
                for (int64_t k = b; k < end; k++)
                    w[i * n + j] -= ur[k * d + i] * e[k * n + j];
    }
}

/* ---- identities ---- */

static void check_dense(struct fixture *f, struct shape s, enum ptq_role role, const char *spec,
                        struct choice c, struct ptq_cell cell)
{
    struct ptq_layer l;
    struct ptq_result r;
    static struct head h;
    attention_layer(f, s, role, &l);
    run(f, &l, spec, cell, &r);
    for (int64_t head = 0; head < s.heads; head++) {
        load_head(f, &h, &l, head, &r.quant.part[0], c);
        dense(&h);
        char what[200];
        snprintf(what, sizeof what, "%s, role %d, d_h %d, head %d, %d bits", spec, (int)role,
                 (int)s.dh, (int)head, cell.w_bits);
        assert_same_codes(what, h.codes, r.quant.part[0].codes + h.row0 * s.n, s.dh * s.n);
    }
    ptq_result_release(&r);
}

static void dense_gptq(void **state)
{
    struct fixture *f = *state;
    const struct shape shapes[] = {small, larger};
    for (int64_t i = 0; i < LENGTH(shapes); i++)
        for (int order = 0; order < 4; order++)
            for (int bits = 2; bits <= 4; bits++) {
                char spec[100];
                struct choice c = {order & 1, order >> 1};
                snprintf(spec, sizeof spec, "boa:act_order_row=%d:act_order_col=%d:row_factor_v=1",
                         c.row_order, c.col_order);
                check_dense(f, shapes[i], PTQ_ROLE_Q, spec, c, cell_of(bits, -1));
                check_dense(f, shapes[i], PTQ_ROLE_V, spec, c, cell_of(bits, -1));
                if (!c.col_order)
                    check_dense(f, shapes[i], PTQ_ROLE_K, spec, c, cell_of(bits, 7));
            }
    struct ptq_cell hess = cell_of(2, -1);
    hess.grid = PTQ_GRID_HESS;
    check_dense(f, larger, PTQ_ROLE_V, "boa:row_factor_v=1", (struct choice){true, false}, hess);
    check_dense(f, larger, PTQ_ROLE_Q, "boa", (struct choice){true, false}, cell_of(3, 0));
}

/* Joint rows, and the block update against the published one; N = 1 is BoA. */
static void joint_rows(void **state)
{
    struct fixture *f = *state;
    static struct head h;
    struct ptq_layer l;
    attention_layer(f, larger, PTQ_ROLE_K, &l);
    int64_t cells = l.w.rows * l.w.cols;
    struct ptq_result boa;
    run(f, &l, "boa", cell_of(2, -1), &boa);
    for (int64_t joint = 1; joint <= 9; joint++) {
        char spec[100];
        struct ptq_result r;
        snprintf(spec, sizeof spec, "boa:joint_rows=%d", (int)joint);
        run(f, &l, spec, cell_of(2, -1), &r);
        for (int64_t head = 0; head < larger.heads; head++) {
            load_head(f, &h, &l, head, &r.quant.part[0], (struct choice){true, false});
            published(&h, joint, 0, NULL);
            assert_same_codes(spec, h.codes, r.quant.part[0].codes + h.row0 * h.n, h.dh * h.n);
        }
        int64_t other = count_different(r.quant.part[0].codes, boa.quant.part[0].codes, cells);
        assert_true(joint == 1 ? other == 0 : other > 0);
        ptq_result_release(&r);
    }
    ptq_result_release(&boa);
}

/* More rows in a head than a panel of rows holds: the far product and the near sums together. */
static void many_rows(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct shape s = {2, 40, 5};
    attention_layer(f, s, PTQ_ROLE_Q, &l);
    const int joint[] = {1, 3, 16, 24};
    for (int64_t i = 0; i < LENGTH(joint); i++) {
        char spec[100];
        struct ptq_result r;
        snprintf(spec, sizeof spec, "boa:joint_rows=%d:act_order_row=0", joint[i]);
        run(f, &l, spec, cell_of(3, -1), &r);
        for (int64_t head = 0; head < s.heads; head++) {
            /* D_B = A_rr^-1 A_rF E_F, A_rr of all rows from the block on, and GPTQ of one row */
            double a[40 * 40], e[40 * 5], uc[25], hcol[25];
            static struct head h;
            int64_t natural[] = {0, 1, 2, 3, 4};
            damp(l.attn->hrow + head * 1600, 40, a);
            damp(l.hess.at, 5, hcol);
            upper_of_inverse(hcol, 5, natural, uc);
            h = (struct head){1, 5, 0, .part = &r.quant.part[0]};
            memcpy(h.cols, natural, sizeof natural);
            for (int64_t b = 0; b < 40; b += joint[i]) {
                static double rest[40 * 40];
                int64_t m = 40 - b;
                for (int64_t p = 0; p < m * m; p++)
                    rest[p] = a[(b + p / m) * 40 + b + p % m];
                invert(rest, m);
                for (int64_t row = b; row < b + joint[i] && row < 40; row++) {
                    double t[5], q[5];
                    for (int64_t j = 0; j < 5; j++) {
                        t[j] = (double)l.w.at[(head * 40 + row) * 5 + j];
                        for (int64_t k = 0; k < m; k++)
                            for (int64_t g = 0; g < b; g++)
                                t[j] +=
                                    rest[(row - b) * m + k] * a[(b + k) * 40 + g] * e[g * 5 + j];
                    }
                    h.row0 = head * 40 + row;
                    sweep_row(&h, 0, t, uc, NULL, q);
                    for (int64_t j = 0; j < 5; j++)
                        e[row * 5 + j] = (double)l.w.at[h.row0 * 5 + j] - q[j];
                    assert_same_codes(spec, h.codes, r.quant.part[0].codes + h.row0 * 5, 5);
                }
            }
        }
        ptq_result_release(&r);
    }
}

static void upstream(void **state)
{
    struct fixture *f = *state;
    static struct head h;
    static double cross[MOST_COLS * MOST_COLS];
    struct ptq_layer l;
    attention_layer(f, larger, PTQ_ROLE_Q, &l);
    int64_t n = larger.n;
    l.cross = (struct ptq_cdmat){cross, n, n, n};
    struct ptq_result without, r;
    run(f, &l, "boa", cell_of(3, -1), &without);
    run(f, &l, "boa:upstream=0.25", cell_of(3, -1), &r);
    assert_same_codes("cross = 0", r.quant.part[0].codes, without.quant.part[0].codes,
                      l.w.rows * n);
    ptq_result_release(&r);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            cross[i * n + j] = 0.05 * sqrt(l.hess.at[i * (n + 1)] * l.hess.at[j * (n + 1)]) *
                               ptq_normal(9, (uint64_t)(i * n + j));
    for (int order = 0; order < 2; order++)
        for (int64_t joint = 1; joint <= 4; joint += 3) {
            char spec[100];
            snprintf(spec, sizeof spec, "boa:upstream=0.25:act_order_col=%d:joint_rows=%d", order,
                     (int)joint);
            run(f, &l, spec, cell_of(3, -1), &r);
            for (int64_t head = 0; head < larger.heads; head++) {
                load_head(f, &h, &l, head, &r.quant.part[0], (struct choice){true, order});
                published(&h, joint, 0.25, cross);
                assert_same_codes(spec, h.codes, r.quant.part[0].codes + h.row0 * n, h.dh * n);
            }
            assert_true(count_different(r.quant.part[0].codes, without.quant.part[0].codes,
                                        l.w.rows * n) > 10);
            ptq_result_release(&r);
        }
    ptq_result_release(&without);
}

/* ---- where it is GPTQ ---- */

static void assert_gptq(struct fixture *f, const struct ptq_layer *l, const char *spec,
                        const char *gptq, struct ptq_cell cell)
{
    struct ptq_result a, b;
    run(f, l, spec, cell, &a);
    run(f, l, gptq, cell, &b);
    assert_same_codes(spec, a.quant.part[0].codes, b.quant.part[0].codes, l->w.rows * l->w.cols);
    assert_memory_equal(a.what, b.what, sizeof(float) * (size_t)(l->w.rows * l->w.cols));
    assert_true(note_of(&a, "n_clipped") == note_of(&b, "n_clipped"));
    ptq_result_release(&a);
    ptq_result_release(&b);
}

static void where_it_is_gptq(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_attn *a = attention_layer(f, larger, PTQ_ROLE_Q, &l);
    double *hrow = (double *)(uintptr_t)a->hrow;
    int64_t dh = larger.dh, n = larger.n;
    for (int64_t i = 0; i < larger.heads * dh * dh; i++)
        hrow[i] = i % (dh * dh) % (dh + 1) == 0 ? 3 : 0;
    assert_gptq(f, &l, "boa", "gptq:act_order=0", cell_of(2, -1));
    assert_gptq(f, &l, "boa:act_order_col=1:joint_rows=3", "gptq", cell_of(3, -1));
    memset(hrow, 0, (size_t)(dh * dh) * sizeof *hrow); /* a head without a Hessian of rows */
    assert_gptq(f, &l, "boa", "gptq:act_order=0", cell_of(2, 8));
    struct ptq_result r;
    run(f, &l, "boa", cell_of(2, 8), &r);
    assert_true(note_of(&r, "n_heads_without_row") == 1);
    assert_rel(note_of(&r, "damping_row"), 0.01 * 3, 1e-12);
    ptq_result_release(&r);

    a = attention_layer(f, larger, PTQ_ROLE_V, &l); /* every head has the layer's H_col */
    double *at = (double *)(uintptr_t)a->hcol;
    for (int64_t h = 0; h < larger.heads; h++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = i; j < n; j++)
                *at++ = l.hess.at[i * n + j];
    struct ptq_cell hess = cell_of(3, -1);
    assert_gptq(f, &l, "boa", "gptq:act_order=0", hess);
    hess.grid = PTQ_GRID_HESS;
    assert_gptq(f, &l, "boa", "gptq:act_order=0", hess);
    a->hcol = NULL;
    assert_gptq(f, &l, "boa:block_v=0", "gptq:act_order=0", cell_of(3, 8));

    synthetic_layer(&f->arena, 70, 150, 3, &l);
    const int64_t groups[] = {-1, 0, 32};
    for (int64_t i = 0; i < LENGTH(groups); i++) {
        assert_gptq(f, &l, "boa", "gptq:act_order=0", cell_of(3, groups[i]));
        hess.group_size = groups[i];
        assert_gptq(f, &l, "boa:joint_rows=16:dead=reference", "gptq:act_order=0:dead=reference",
                    hess);
    }
    attention_layer(f, (struct shape){1, 1, 17}, PTQ_ROLE_K, &l);
    assert_gptq(f, &l, "boa", "gptq:act_order=0", cell_of(2, -1));
}

/* ---- scales and grids ---- */

/* sum of H_row o (dW H_col dW^T) over the heads. */
static double objective(struct fixture *f, const struct ptq_layer *l, const float *what,
                        bool rows_count)
{
    int64_t dh = l->attn->head_dim, n = l->w.cols;
    double total = 0;
    for (int64_t h = 0; h < l->attn->n_heads; h++) {
        const double *hcol = l->attn->hcol ? full_hcol(f, l, h) : l->hess.at;
        for (int64_t i = 0; i < dh; i++)
            for (int64_t k = 0; k < dh; k++) {
                double weight = rows_count ? l->attn->hrow[(h * dh + i) * dh + k] : i == k;
                for (int64_t p = 0; p < n * n && weight != 0; p++) {
                    int64_t a = (h * dh + i) * n + p / n, b = (h * dh + k) * n + p % n;
                    total += weight * ((double)l->w.at[a] - (double)what[a]) * hcol[p] *
                             ((double)l->w.at[b] - (double)what[b]);
                }
            }
    }
    return total;
}

static void refined_scales(void **state)
{
    struct fixture *f = *state;
    const struct {
        enum ptq_role role;
        const char *options;
        int64_t group;
        enum ptq_fmt fmt;
        bool sym, rows_count;
    } cases[] = {
        {PTQ_ROLE_Q, "", -1, PTQ_FMT_F32, false, true},
        {PTQ_ROLE_Q, ":joint_rows=4", 8, PTQ_FMT_F16, false, true},
        {PTQ_ROLE_V, "", -1, PTQ_FMT_F16, true, false},
        {PTQ_ROLE_V, ":row_factor_v=1", 7, PTQ_FMT_F32, false, true},
        {PTQ_ROLE_K, ":adaptive_grid=1:joint_rows=3", 8, PTQ_FMT_BF16, false, true},
    };
    for (int64_t i = 0; i < LENGTH(cases); i++)
        for (int bits = 2; bits <= 4; bits++) {
            char spec[2][100];
            struct ptq_layer l;
            struct ptq_result r[2];
            struct ptq_cell cell = cell_of(bits, cases[i].group);
            cell.scale_fmt = cases[i].fmt;
            cell.sym = cases[i].sym;
            attention_layer(f, larger, cases[i].role, &l);
            for (int k = 0; k < 2; k++) {
                snprintf(spec[k], sizeof spec[k], "boa:refine_scales=%d%s", k, cases[i].options);
                run(f, &l, spec[k], cell, &r[k]);
            }
            assert_same_codes(spec[1], r[0].quant.part[0].codes, r[1].quant.part[0].codes,
                              l.w.rows * l.w.cols);
            double before = objective(f, &l, r[0].what, cases[i].rows_count),
                   after = objective(f, &l, r[1].what, cases[i].rows_count);
            if (!(after < before))
                fail_msg("%s at %d bits: %g became %g", spec[1], bits, before, after);
            assert_true(note_of(&r[1], "n_scales_refined") > 0);
            /* The scale refined last is at its minimum: a part in 1000 either way is no better. */
            if (cases[i].fmt == PTQ_FMT_F32) {
                const struct ptq_part *p = &r[1].quant.part[0];
                int64_t row = l.w.rows - 1, first = (p->groups_per_row - 1) * p->group_cols;
                for (double step = -1e-3; step <= 1e-3; step += 2e-3) {
                    for (int64_t j = first; j < l.w.cols; j++)
                        r[1].what[row * l.w.cols + j] *= (float)(1 + step);
                    assert_true(objective(f, &l, r[1].what, cases[i].rows_count) > after);
                    for (int64_t j = first; j < l.w.cols; j++)
                        r[1].what[row * l.w.cols + j] /= (float)(1 + step);
                }
            }
            ptq_result_release(&r[0]);
            ptq_result_release(&r[1]);
        }
}

/* adaptive_grid: with one block for all rows nothing was compensated for, so the grids are those
 * of the original weights; else they hold the range of T, which nothing clips at 8 bits. */
static void adaptive_grids(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_result a, b;
    const enum ptq_role roles[] = {PTQ_ROLE_Q, PTQ_ROLE_V};
    for (int64_t i = 0; i < LENGTH(roles); i++)
        for (int grid = PTQ_GRID_MINMAX; grid <= PTQ_GRID_HESS; grid++)
            for (int64_t group = -1; group <= 7; group += 8) {
                struct ptq_cell cell = cell_of(3, group);
                cell.grid = (enum ptq_grid)grid;
                attention_layer(f, larger, roles[i], &l);
                run(f, &l, "boa:row_factor_v=1:joint_rows=8:adaptive_grid=1", cell, &a);
                run(f, &l, "boa:row_factor_v=1:joint_rows=8", cell, &b);
                assert_memory_equal(a.what, b.what, sizeof(float) * (size_t)(l.w.rows * l.w.cols));
                ptq_result_release(&a);
                run(f, &l, "boa:row_factor_v=1:adaptive_grid=1", cell, &a);
                assert_true(memcmp(a.what, b.what, sizeof(float) * (size_t)(l.w.rows * l.w.cols)) !=
                            0);
                ptq_result_release(&a);
                ptq_result_release(&b);
            }
    /* The row quantized last of every head: its T is known from the errors of the others. */
    static struct head h;
    attention_layer(f, larger, PTQ_ROLE_Q, &l);
    run(f, &l, "boa:adaptive_grid=1", cell_of(2, -1), &a);
    for (int64_t head = 0; head < larger.heads; head++) {
        load_head(f, &h, &l, head, &a.quant.part[0], (struct choice){true, false});
        int64_t last = h.rows[h.dh - 1];
        double lo = 0, hi = 0;
        for (int64_t j = 0; j < h.n; j++) {
            double t = h.w[last * h.n + j];
            for (int64_t k = 0; k < h.dh; k++)
                if (k != last)
                    t += h.hrow[last * h.dh + k] / h.hrow[last * (h.dh + 1)] *
                         (h.w[k * h.n + j] - (double)a.what[(h.row0 + k) * h.n + j]);
            lo = t < lo ? t : lo;
            hi = t > hi ? t : hi;
        }
        assert_rel((double)a.quant.part[0].scale.at[h.row0 + last], (hi - lo) / 3, 1e-6);
    }
    ptq_result_release(&a);
}

/* ---- what cannot be done ---- */

static void expect(struct fixture *f, const struct ptq_layer *l, const char *spec,
                   struct ptq_cell cell, int code, const char *words)
{
    struct ptq_result r;
    struct run_args a = {l, spec, cell, PTQ_DOUBLE_PRECISION, NULL};
    f->st = (struct ptq_status){0};
    assert_int_equal(run_cell(&a, &r, &f->st), code);
    if (code == PTQ_OK)
        ptq_result_release(&r);
    if (!strstr(f->st.text, words))
        fail_msg("%s: \"%s\" does not say \"%s\"", spec, f->st.text, words);
    f->st = (struct ptq_status){0};
}

static void refusals(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    struct ptq_attn *a = attention_layer(f, larger, PTQ_ROLE_Q, &l);
    struct ptq_cell row = cell_of(3, -1), group = cell_of(3, 8), tensor = cell_of(3, 0);
    expect(f, &l, "boa:act_order_col=1", group, PTQ_SKIP, "act_order_col=0");
    expect(f, &l, "boa:adaptive_grid=1", tensor, PTQ_SKIP, "rows or groups");
    expect(f, &l, "boa:refine_scales=1", tensor, PTQ_SKIP, "rows or groups");
    expect(f, &l, "boa:upstream=0.25", row, PTQ_SKIP, "sequential");
    a->head_dim = 7;
    expect(f, &l, "boa", row, PTQ_ERR_USAGE, "do not fit its 24 rows");
    a->head_dim = 6;
    expect(f, &l, "boa", row, PTQ_ERR_USAGE, "do not fit its 24 rows");
    l.attn = NULL;
    expect(f, &l, "boa", row, PTQ_SKIP, "ptq capture --attention");
    l.role = PTQ_ROLE_V;
    expect(f, &l, "boa", row, PTQ_SKIP, "[calib] attention = 1");
    expect(f, &l, "boa:block_v=0", row, PTQ_OK, "");
    a = attention_layer(f, larger, PTQ_ROLE_V, &l);
    a->hcol = NULL;
    expect(f, &l, "boa", row, PTQ_SKIP, "block_v=0");
}

/* The same bits for 1, 2 and 3 threads, in single, with everything on. */
static void threads(void **state)
{
    struct fixture *f = *state;
    struct ptq_layer l;
    static double cross[200 * 200];
    const enum ptq_role roles[] = {PTQ_ROLE_Q, PTQ_ROLE_V};
    for (int64_t i = 0; i < LENGTH(roles); i++) {
        attention_layer(f, (struct shape){5, 16, 200}, roles[i], &l);
        for (int64_t j = 0; j < 200 * 200; j++)
            cross[j] = 0.01 * l.hess.at[j];
        l.cross = (struct ptq_cdmat){cross, 200, 200, 200};
        const char *specs[] = {"boa:row_factor_v=1",
                               "boa:joint_rows=4:adaptive_grid=1:refine_scales=1:upstream=0.25"};
        for (int64_t k = 0; k < LENGTH(specs); k++) {
            struct ptq_result r[3];
            for (int n = 0; n < 3; n++) {
                struct ptq_pool *pool;
                assert_ok(ptq_pool_new(&pool, n + 1, &f->st), &f->st);
                struct run_args a = {&l, specs[k], cell_of(3, 64), PTQ_SINGLE, pool};
                assert_ok(run_cell(&a, &r[n], &f->st), &f->st);
                ptq_pool_free(pool);
                assert_memory_equal(r[0].what, r[n].what, sizeof(float) * 80 * 200);
            }
            for (int n = 0; n < 3; n++)
                ptq_result_release(&r[n]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dense_gptq, setup, teardown),
        cmocka_unit_test_setup_teardown(joint_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(many_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(upstream, setup, teardown),
        cmocka_unit_test_setup_teardown(where_it_is_gptq, setup, teardown),
        cmocka_unit_test_setup_teardown(refined_scales, setup, teardown),
        cmocka_unit_test_setup_teardown(adaptive_grids, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(threads, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
