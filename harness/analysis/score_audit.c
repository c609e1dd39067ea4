#include "analysis/score_audit.h"
#include "quant/form.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A grid, wherever it comes from: value = scale * (code - zero). */
struct grid {
    int64_t rows, cols, n_groups;
    int bits;
    const uint16_t *codes;
    const int32_t *group_of; /* [cols] */
    const float *scale;      /* (rows x n_groups) */
    const float *zero;       /* the same, or NULL: zero_const */
    float zero_const;
    double least_normal;  /* of the scales' format; 0: not stored */
    const float *divisor; /* [cols] or NULL: the matrix stands for w * divisor */
    bool per_tensor;
    float slack; /* of a step: what rounded scales, or values, move a weight by on its grid */
};

/* ---- counting ---- */

struct group {                    /* of one row */
    int64_t n, at_end, n_code[2]; /* n_code: smallest and largest code */
    bool below, above, w_below, w_above, w_differs;
    float w_first;
};

static void count_weight(const struct grid *g, int64_t i, int64_t j, float w, struct group *at,
                         struct ptq_score_audit *a)
{
    const int64_t k = i * g->n_groups + g->group_of[j], s = g->per_tensor ? 0 : k;
    const int code = g->codes[i * g->cols + j], most = (1 << g->bits) - 1;
    const float scale = g->scale[s], zero = g->zero ? g->zero[s] : g->zero_const;
    if (g->divisor)
        w *= g->divisor[j];
    if (!at->n++) {
        at->n_code[0] = at->n_code[1] = code;
        at->w_first = w;
    }
    at->n_code[0] = code < at->n_code[0] ? code : at->n_code[0];
    at->n_code[1] = code > at->n_code[1] ? code : at->n_code[1];
    at->at_end += code == 0 || code == most;
    at->w_differs = at->w_differs || w != at->w_first;
    at->w_below = at->w_below || w < 0;
    at->w_above = at->w_above || w > 0;
    at->below = at->below || scale * ((float)code - zero) < 0;
    at->above = at->above || scale * ((float)code - zero) > 0;
    if (scale == 0)
        return;
    /* A zero that is no whole number is a grid that begins elsewhere. */
    const float begin = rintf(zero), rest = zero - begin;
    const float x = w / scale, q = rintf(x + rest) + begin;
    const int own = q < 0 ? 0 : q > (float)most ? most : (int)q;
    const float beyond = fabsf(x + zero - (float)code);
    a->n_rtn_same += own == code;
    a->n_rtn_close += own == code || beyond <= 0.5F + g->slack;
    a->n_clipped += x + zero < -0.5F || x + zero > (float)most + 0.5F;
}

static void count_group(const struct grid *g, const struct group *at, struct ptq_score_audit *a)
{
    if (!at->n)
        return;
    /* With 1 or 2 bits half of the codes are ends. */
    a->n_saturated += g->bits > 2 && at->n >= 8 && 2 * at->at_end >= at->n;
    a->n_one_sided += at->n >= 8 && at->w_below && at->w_above && !(at->below && at->above);
    a->n_flat += at->n >= 8 && at->n_code[0] == at->n_code[1] && at->w_differs;
}

static void count_scales(const struct grid *g, struct ptq_score_audit *a)
{
    const int64_t n = g->per_tensor ? 1 : g->rows * g->n_groups;
    for (int64_t k = 0; k < n; k++) {
        const double s = g->scale[k];
        const float zero = g->zero ? g->zero[k] : g->zero_const;
        a->n_scale_zero += s == 0;
        a->n_scale_negative += s < 0;
        a->n_scale_subnormal += s != 0 && fabs(s) < g->least_normal;
        a->n_out_of_range += !a->found && (zero < 0 || zero > (float)((1 << g->bits) - 1));
    }
    a->n_groups = n;
}

static int count(const struct grid *g, const float *w, int64_t ldw, struct ptq_arena *arena,
                 struct ptq_score_audit *a, struct ptq_status *st)
{
    struct group *at = ptq_arena_alloc(arena, st, g->n_groups, sizeof *at);
    if (!at)
        return PTQ_ERR_MEMORY;
    a->bits = g->bits;
    for (int64_t i = 0; i < g->rows; i++) {
        memset(at, 0, (size_t)g->n_groups * sizeof *at);
        for (int64_t j = 0; j < g->cols; j++)
            count_weight(g, i, j, w[i * ldw + j], &at[g->group_of[j]], a);
        for (int64_t k = 0; k < g->n_groups; k++)
            count_group(g, &at[k], a);
    }
    count_scales(g, a);
    return PTQ_OK;
}

/* ---- the grid of a form ---- */

static double least_normal(enum ptq_fmt fmt)
{
    return fmt == PTQ_FMT_F16 ? ldexp(1, -14) : FLT_MIN;
}

static double eps_of(enum ptq_fmt fmt)
{
    return ldexp(1, fmt == PTQ_FMT_F16 ? -11 : fmt == PTQ_FMT_BF16 ? -8 : -24);
}

/* A peer chooses codes by its scales in fp32 and stores them rounded: the farthest code moves by so
 * much. */
static float slack(int bits, double eps)
{
    return (float)fmin(0.25, 2 * eps * ldexp(1, bits));
}

static int form_grid(const struct ptq_quant *q, struct ptq_arena *arena, struct grid *g,
                     struct ptq_score_audit *a, struct ptq_status *st)
{
    const struct ptq_part *p = &q->part[0];
    int32_t *group_of = ptq_arena_alloc(arena, st, q->cols, sizeof *group_of);
    if (!group_of)
        return PTQ_ERR_MEMORY;
    for (int64_t k = 0; k < q->cols; k++)
        group_of[p->perm ? p->perm[k] : k] = (int32_t)(k / p->group_cols);
    *g = (struct grid){.rows = q->rows,
                       .cols = q->cols,
                       .n_groups = (q->cols - 1) / p->group_cols + 1,
                       .bits = p->bits,
                       .codes = p->codes,
                       .group_of = group_of,
                       .scale = p->scale.at,
                       .zero = p->zero.fmt == PTQ_FMT_NONE ? NULL : p->zero.at,
                       .zero_const = p->zero_const,
                       .least_normal = least_normal(p->scale.fmt),
                       .divisor = q->act.divisor.fmt == PTQ_FMT_NONE ? NULL : q->act.divisor.at,
                       .per_tensor = p->groups_per_row == 0,
                       .slack = slack(p->bits, eps_of(p->scale.fmt))};
    a->sym = !g->zero;
    a->in_order = !p->perm;
    a->group_cols = g->per_tensor ? 0 : g->n_groups == 1 ? -1 : p->group_cols;
    return PTQ_OK;
}

static bool is_one_grid(const struct ptq_quant *q)
{
    const struct ptq_part *p = &q->part[0];
    return q->n_parts == 1 && p->kind == PTQ_PART_UNIFORM && !p->tree_levels &&
           p->rot.fmt == PTQ_FMT_NONE && !q->split.n_cols && p->bits <= 8;
}

/* ---- the grid that plain values lie on ---- */

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Euclid's algorithm on lengths that are known within tol. */
static double common_step(double a, double b, double tol)
{
    while (b > tol) {
        double r = fmod(a, b);
        if (b - r < tol)
            r = 0;
        a = b;
        b = r;
    }
    return a;
}

struct found {
    float scale, zero;
    int levels;
};
enum { MOST_LEVELS = 256 };

/* Do n values lie on one uniform grid of at most MOST_LEVELS levels? sorted: scratch. */
static bool find_grid(const float *x, int64_t n, double eps, float *sorted, struct found *f)
{
    memcpy(sorted, x, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    const double first = sorted[0], last = sorted[n - 1];
    const double tol = 2 * eps * fmax(fabs(first), fabs(last));
    double step = 0;
    for (int64_t i = 1; i < n; i++) {
        const double gap = (double)sorted[i] - (double)sorted[i - 1];
        if (gap > tol)
            step = step == 0 ? gap : common_step(fmax(gap, step), fmin(gap, step), 3 * tol);
    }
    *f = (struct found){1, (float)-first, 1};
    if (step == 0)
        return true;
    if (step <= 6 * tol || (last - first) / step > MOST_LEVELS - 0.5)
        return false;
    for (int64_t i = 1; i < n; i++) { /* sharpen the step on the way up */
        const double d = (double)sorted[i] - first, k = rint(d / step);
        if (fabs(d - k * step) > 0.2 * step)
            return false;
        if (k > 0 && fabs(d - k * step) <= 2 * tol + 0.05 * step)
            step = d / k;
    }
    for (int64_t i = 1; i < n; i++) {
        const double d = (double)sorted[i] - first;
        if (fabs(d - rint(d / step) * step) > 2 * tol)
            return false;
    }
    f->scale = (float)step;
    f->zero = (float)(-first / step);
    f->levels = (int)rint((last - first) / step) + 1;
    return true;
}

static int bits_of(int levels)
{
    int bits = 1;
    while (levels > 1 << bits)
        bits++;
    return bits;
}

/* Widest grid over the groups of the first rows; 0: some group is on none. */
static int bits_of_size(const struct ptq_external_layer *l, int64_t rows, int64_t size,
                        float *sorted)
{
    const int64_t cols = l->quant.cols;
    int bits = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j += size) {
            struct found f;
            const int64_t n = cols - j < size ? cols - j : size;
            if (!find_grid(l->plain + i * cols + j, n, l->value_eps, sorted, &f))
                return 0;
            bits = bits_of(f.levels) > bits ? bits_of(f.levels) : bits;
        }
    return bits;
}

/* The size of groups that makes the shortest description; 0: none. */
static int64_t choose_size(const struct ptq_external_layer *l, float *sorted, int *bits)
{
    static const int64_t sizes[] = {0, 1024, 512, 256, 128, 64, 32, 16};
    const int64_t cols = l->quant.cols, some = l->quant.rows < 16 ? l->quant.rows : 16;
    double best = DBL_MAX;
    int64_t chosen = 0;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const int64_t size = sizes[k] ? sizes[k] : cols;
        const int b = size <= cols && (sizes[k] == 0 || size < cols)
                          ? bits_of_size(l, some, size, sorted)
                          : 0;
        if (b && b + 16.0 / (double)size < best) {
            best = b + 16.0 / (double)size;
            chosen = size;
            *bits = b;
        }
    }
    return chosen;
}

struct made {
    uint16_t *codes;
    float *scale, *zero;
    int32_t *group_of;
};

static int make_arrays(int64_t rows, int64_t cols, int64_t n_groups, struct ptq_arena *arena,
                       struct made *m, struct ptq_status *st)
{
    m->codes = ptq_arena_alloc(arena, st, rows * cols, sizeof *m->codes);
    m->scale = ptq_arena_alloc(arena, st, rows * n_groups, sizeof *m->scale);
    m->zero = ptq_arena_alloc(arena, st, rows * n_groups, sizeof *m->zero);
    m->group_of = ptq_arena_alloc(arena, st, cols, sizeof *m->group_of);
    return m->codes && m->scale && m->zero && m->group_of ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* PTQ_SKIP: not all groups lie on grids. */
static int fill_found(const struct ptq_external_layer *l, int64_t size, float *sorted, int *bits,
                      const struct made *m)
{
    const int64_t rows = l->quant.rows, cols = l->quant.cols, n_groups = (cols - 1) / size + 1;
    for (int64_t j = 0; j < cols; j++)
        m->group_of[j] = (int32_t)(j / size);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t g = 0; g < n_groups; g++) {
            const int64_t from = i * cols + g * size,
                          n = cols - g * size < size ? cols - g * size : size;
            struct found f;
            if (!find_grid(l->plain + from, n, l->value_eps, sorted, &f))
                return PTQ_SKIP;
            *bits = bits_of(f.levels) > *bits ? bits_of(f.levels) : *bits;
            m->scale[i * n_groups + g] = f.scale;
            m->zero[i * n_groups + g] = f.zero;
            for (int64_t j = 0; j < n; j++)
                m->codes[from + j] =
                    (uint16_t)rint((double)l->plain[from + j] / (double)f.scale + (double)f.zero);
        }
    return PTQ_OK;
}

/* A group's codes count from its smallest value. They fit codes about a fixed middle where 0 is a
 * value of the grid, at most half of the codes below it and one less above it. */
static bool fits_middle(const struct made *m, int64_t group, int top, int bits)
{
    const int middle = 1 << (bits - 1);
    const float zero = m->zero[group];
    return top == 0 ? zero == 0
                    : fabsf(zero - rintf(zero)) < 0.01F && zero > -0.5F &&
                          zero < (float)middle + 0.5F && (float)top - zero < (float)middle - 0.5F;
}

/* Symmetric grids where every group fits: of groups with zeros of their own hardly all do. Codes
 * then count from the lowest. */
static bool make_symmetric(const struct ptq_external_layer *l, int64_t n_groups, int bits,
                           const struct made *m)
{
    const int64_t rows = l->quant.rows, cols = l->quant.cols;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0, from = 0; j < cols; j = from) {
            const int32_t g = m->group_of[j];
            int top = 0;
            for (from = j; from < cols && m->group_of[from] == g; from++)
                top = m->codes[i * cols + from] > top ? m->codes[i * cols + from] : top;
            if (!fits_middle(m, i * n_groups + g, top, bits))
                return false;
        }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            const float zero = m->zero[i * n_groups + m->group_of[j]];
            m->codes[i * cols + j] =
                (uint16_t)(m->codes[i * cols + j] + (1 << (bits - 1)) - (int)rintf(zero));
        }
    return true;
}

static int found_grid(const struct ptq_external_layer *l, struct ptq_arena *arena, struct grid *g,
                      struct ptq_score_audit *a, struct ptq_status *st)
{
    const int64_t rows = l->quant.rows, cols = l->quant.cols;
    struct made m;
    int bits = 0;
    float *sorted = ptq_arena_alloc(arena, st, cols, sizeof *sorted);
    if (!sorted)
        return PTQ_ERR_MEMORY;
    const int64_t size = choose_size(l, sorted, &bits);
    if (!size)
        return PTQ_SKIP;
    const int64_t n_groups = (cols - 1) / size + 1;
    int rc = make_arrays(rows, cols, n_groups, arena, &m, st);
    rc = rc ? rc : fill_found(l, size, sorted, &bits, &m);
    if (rc)
        return rc;
    a->sym = make_symmetric(l, n_groups, bits, &m);
    *g = (struct grid){
        .rows = rows,
        .cols = cols,
        .n_groups = n_groups,
        .bits = bits,
        .codes = m.codes,
        .group_of = m.group_of,
        .scale = m.scale,
        .zero = a->sym ? NULL : m.zero,
        .zero_const = (float)(1 << (bits - 1)),
        .slack = slack(bits, 2 * l->value_eps),
        .divisor = l->quant.act.divisor.fmt == PTQ_FMT_NONE ? NULL : l->quant.act.divisor.at};
    a->found = a->in_order = true;
    a->group_cols = n_groups == 1 ? -1 : size;
    return PTQ_OK;
}

/* ---- rows and columns that were multiplied ---- */

struct line { /* sums over a row or column: w^2, w What, What^2 */
    double ww, wq, qq;
};

static bool is_scaled(const struct line *l)
{
    const double r = l->ww > 0 ? l->wq / l->ww : 1;
    const double as_is = l->qq - 2 * l->wq + l->ww, fitted = l->qq - r * l->wq;
    return r > 0 && fabs(r - 1) > 0.1 && fitted < 0.5 * as_is;
}

static void add(struct line *l, double w, double q)
{
    l->ww += w * w;
    l->wq += w * q;
    l->qq += q * q;
}

static int count_scaled(const struct ptq_quant *q, const float *w, int64_t ldw,
                        struct ptq_arena *arena, struct ptq_score_audit *a, struct ptq_status *st)
{
    float *what = ptq_arena_alloc(arena, st, q->rows * q->cols, sizeof *what);
    struct line *col = ptq_arena_alloc(arena, st, q->cols, sizeof *col);
    if (!what || !col || q->split.n_cols)
        return what && col ? PTQ_OK : PTQ_ERR_MEMORY;
    int rc = ptq_quant_dequant(q, what, st);
    for (int64_t i = 0; !rc && i < q->rows; i++) {
        struct line row = {0};
        for (int64_t j = 0; j < q->cols; j++) {
            add(&row, w[i * ldw + j], what[i * q->cols + j]);
            add(&col[j], w[i * ldw + j], what[i * q->cols + j]);
        }
        a->n_scaled_rows += is_scaled(&row);
    }
    for (int64_t j = 0; !rc && j < q->cols; j++)
        a->n_scaled_cols += is_scaled(&col[j]);
    return rc;
}

int ptq_score_audit_layer(const struct ptq_external_layer *l, const float *w, int64_t ldw,
                          struct ptq_arena *arena, struct ptq_score_audit *a, struct ptq_status *st)
{
    struct grid g;
    *a = (struct ptq_score_audit){.n_weights = l->quant.rows * l->quant.cols};
    int rc = count_scaled(&l->quant, w, ldw, arena, a, st);
    if (rc)
        return rc;
    rc = PTQ_SKIP;
    if (l->plain)
        rc = found_grid(l, arena, &g, a, st);
    else if (is_one_grid(&l->quant))
        rc = form_grid(&l->quant, arena, &g, a, st);
    if (rc == PTQ_SKIP)
        return PTQ_OK;
    return rc ? rc : count(&g, w, ldw, arena, a, st);
}
