#include "quant/apply.h"
#include "core/linalg.h"
#include "core/size.h"
#include <math.h>
#include <string.h>

enum { ROWS_A_PIECE = 16, TOKENS_A_PIECE = 8 };

/* ---- making ready ---- */

static bool is_plain(const struct ptq_quant *q)
{
    const struct ptq_part *p = &q->part[0];
    return q->act.bits && q->n_parts == 1 && p->kind == PTQ_PART_UNIFORM && !p->perm &&
           !p->tree_levels && p->rot.fmt == PTQ_FMT_NONE;
}

/* code - zero of all places; false where a zero is no whole number or a difference is too wide. */
static bool differences(const struct ptq_quant *q, int64_t kcols, int16_t *out, int *most)
{
    const struct ptq_part *p = &q->part[0];
    *most = 1;
    for (int64_t i = 0; i < q->rows; i++)
        for (int64_t j = 0; j < kcols; j++) {
            int64_t g = p->groups_per_row ? i * p->groups_per_row + j / p->group_cols : 0;
            float zero = ptq_part_zero(p, g), d = (float)p->codes[i * kcols + j] - zero;
            if (zero != rintf(zero) || fabsf(d) > INT16_MAX)
                return false;
            out[i * kcols + j] = (int16_t)d;
            *most = fabsf(d) > (float)*most ? (int)fabsf(d) : *most;
        }
    return true;
}

static int most_input(const struct ptq_quant *q)
{
    return (1 << (q->act.bits - 1)) - 1;
}

static int take_codes(struct ptq_quant_run *r, int64_t n, int64_t kcols, struct ptq_arena *a,
                      struct ptq_status *st)
{
    int most;
    int16_t *codes = ptq_arena_alloc(a, st, n, sizeof *codes);
    if (!codes)
        return PTQ_ERR_MEMORY;
    if (!differences(r->quant, kcols, codes, &most))
        return PTQ_SKIP;
    r->codes = codes;
    r->exact_cols = INT32_MAX / ((int64_t)most * most_input(r->quant));
    return PTQ_OK;
}

/* The divisor is in What already (form.h), but it belongs before the rounding of the inputs. */
static int take_stored(struct ptq_quant_run *r, const float *what, int64_t n, struct ptq_arena *a,
                       struct ptq_status *st)
{
    struct ptq_quant stored = *r->quant;
    r->stored = what;
    if (what && (stored.act.divisor.fmt == PTQ_FMT_NONE || stored.split.n_cols))
        return PTQ_OK;
    float *own = ptq_arena_alloc(a, st, n, sizeof *own);
    stored.act = (struct ptq_act){0};
    r->stored = own;
    return own ? ptq_quant_dequant(&stored, own, st) : PTQ_ERR_MEMORY;
}

int ptq_quant_run_init(struct ptq_quant_run *r, const struct ptq_quant *q, const float *what,
                       struct ptq_arena *a, struct ptq_status *st)
{
    int64_t kcols = ptq_quant_kcols(q), n;
    *r = (struct ptq_quant_run){.quant = q};
    if (!ptq_size_mul(q->rows, kcols, &n))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "%lld x %lld codes overflow a size",
                              (long long)q->rows, (long long)kcols);
    int rc = is_plain(q) ? take_codes(r, n, kcols, a, st) : PTQ_SKIP;
    return rc == PTQ_SKIP ? take_stored(r, what, n, a, st) : rc;
}

struct ptq_macs ptq_quant_macs(const struct ptq_quant *q)
{
    const double all = (double)q->rows * (double)ptq_quant_kcols(q);
    bool narrow = q->act.bits > 0 && q->act.bits <= 4;
    for (int k = 0; k < q->n_parts; k++) {
        const struct ptq_part *p = &q->part[k];
        narrow = narrow && p->kind == PTQ_PART_UNIFORM && p->bits <= 4 && !p->tree_levels &&
                 p->rot.fmt == PTQ_FMT_NONE;
    }
    return (struct ptq_macs){all, narrow ? all : 0};
}

/* ---- inputs ---- */

struct product { /* one call */
    const struct ptq_quant_run *run;
    int64_t n, cols, kcols;
    const float *x;
    float *pieces;  /* (n x kcols) inputs, divided and split */
    int16_t *codes; /* (n x kcols), or NULL: pieces hold the codes' values */
    float *scale;   /* [n] */
    float *y;
};

static float piece_of(float v, int32_t piece, float limit)
{
    if (piece < 0)
        return v;
    float a = fabsf(v) - (float)piece * limit;
    return copysignf(a < 0 ? 0 : a > limit ? limit : a, v);
}

static void treat(const struct ptq_quant *q, const float *x, float *out)
{
    const struct ptq_split *s = &q->split;
    const float *d = q->act.divisor.fmt == PTQ_FMT_NONE ? NULL : q->act.divisor.at;
    for (int64_t j = 0; !s->n_cols && j < q->cols; j++)
        out[j] = d ? x[j] / d[j] : x[j];
    for (int64_t k = 0; k < s->n_cols; k++) {
        int64_t j = s->source[k];
        out[k] =
            j < 0 ? 0 : piece_of(d ? x[j] / d[j] : x[j], s->piece ? s->piece[k] : -1, s->limit);
    }
}

/* Scale of a token's integers; NaN for a token that is not finite, 0 for one of zeros. */
static float scale_of(const struct ptq_act *act, const float *v, int64_t n)
{
    float most = 0;
    if (ptq_first_nonfinite_f32(v, n) >= 0)
        return NAN;
    if (act->scale != 0)
        return act->scale;
    for (int64_t k = 0; k < n; k++)
        most = fabsf(v[k]) > most ? fabsf(v[k]) : most;
    return most / (float)((1 << (act->bits - 1)) - 1);
}

static float code_of(float v, float scale, float most)
{
    float c = rintf(v / scale);
    return c > most ? most : c < -most ? -most : c;
}

static void quantize(const struct product *p, int64_t t)
{
    const struct ptq_quant *q = p->run->quant;
    const float most = (float)most_input(q);
    float *v = p->pieces + t * p->kcols, s = scale_of(&q->act, v, p->kcols);
    p->scale[t] = s;
    for (int64_t k = 0; k < p->kcols; k++) {
        float c = s > 0 ? code_of(v[k], s, most) : 0;
        if (p->codes)
            p->codes[t * p->kcols + k] = (int16_t)c;
        else
            v[k] = isnan(s) ? s : c * s;
    }
}

static void treat_tokens(void *arg, int64_t begin, int64_t end)
{
    const struct product *p = arg;
    for (int64_t t = begin; t < end; t++) {
        treat(p->run->quant, p->x + t * p->cols, p->pieces + t * p->kcols);
        if (p->run->quant->act.bits)
            quantize(p, t);
    }
}

/* ---- integers ---- */

static inline int64_t dot(const int16_t *a, const int16_t *b, int64_t n, int64_t exact)
{
    int64_t sum = 0;
    for (int64_t j = 0; j < n; j += exact) {
        const int64_t m = n - j < exact ? n - j : exact;
        int32_t part = 0; /* any order of adding it up is the same number */
        for (int64_t k = 0; k < m; k++)
            part += (int32_t)a[j + k] * (int32_t)b[j + k];
        sum += part;
    }
    return sum;
}

PTQ_CLONES static void output_row(const struct product *p, int64_t i)
{
    const struct ptq_part *part = &p->run->quant->part[0];
    const int64_t rows = p->run->quant->rows,
                  width = part->groups_per_row ? part->group_cols : p->kcols;
    const int16_t *w = p->run->codes + i * p->kcols;
    const float *scale = part->scale.at + i * part->groups_per_row;
    for (int64_t t = 0; t < p->n; t++) {
        const int16_t *x = p->codes + t * p->kcols;
        double sum = 0;
        for (int64_t j = 0, g = 0; j < p->kcols; j += width, g++) {
            const int64_t m = p->kcols - j < width ? p->kcols - j : width;
            sum += (double)scale[g] * (double)dot(w + j, x + j, m, p->run->exact_cols);
        }
        p->y[t * rows + i] = (float)(sum * (double)p->scale[t]);
    }
}

static void output_rows(void *arg, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        output_row(arg, i);
}

/* ---- the product ---- */

static int take_scratch(struct product *p, struct ptq_arena *a, struct ptq_status *st)
{
    int64_t n;
    if (!ptq_size_mul(p->n, p->kcols, &n))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "%lld tokens of %lld inputs overflow a size",
                              (long long)p->n, (long long)p->kcols);
    p->pieces = ptq_arena_alloc(a, st, n, sizeof *p->pieces);
    p->scale = ptq_arena_alloc(a, st, p->n, sizeof *p->scale);
    if (p->run->codes)
        p->codes = ptq_arena_alloc(a, st, n, sizeof *p->codes);
    return p->pieces && p->scale && (p->codes || !p->run->codes) ? PTQ_OK : PTQ_ERR_MEMORY;
}

int ptq_quant_run_apply(const struct ptq_quant_run *r, struct ptq_pool *pool, const float *x,
                        int64_t n, float *y, struct ptq_status *st)
{
    const struct ptq_quant *q = r->quant;
    struct product p = {
        .run = r, .n = n, .cols = q->cols, .kcols = ptq_quant_kcols(q), .x = x, .y = y};
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    int rc = take_scratch(&p, &a, st);
    if (!rc) {
        ptq_pool_for(pool, n, TOKENS_A_PIECE, treat_tokens, &p);
        if (r->codes) {
            ptq_pool_for(pool, q->rows, ROWS_A_PIECE, output_rows, &p);
        } else {
            struct ptq_gemm_f32 g = {n,        q->rows, p.kcols,   false,   true, 1,      0,
                                     p.pieces, p.kcols, r->stored, p.kcols, y,    q->rows};
            rc = ptq_gemm_f32(pool, &g, st);
        }
    }
    ptq_arena_clear(&a);
    return rc;
}

int ptq_quant_apply(const struct ptq_quant *q, const float *what, const float *x, int64_t n,
                    float *y, struct ptq_status *st)
{
    struct ptq_quant_run run;
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    int rc = ptq_quant_run_init(&run, q, what, &a, st);
    if (!rc)
        rc = ptq_quant_run_apply(&run, NULL, x, n, y, st);
    ptq_arena_clear(&a);
    return rc;
}
