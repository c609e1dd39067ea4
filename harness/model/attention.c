#include "model/attention.h"
#include "core/clones.h"
#include "core/num.h"
#include "core/size.h"
#include "model/internal.h"
#include <math.h>
#include <string.h>

/* ROWS queries share each load of a key or value; LANES outputs are computed side by side. Neither
 * changes a sum's order: scores add over d ascending, outputs over u ascending. */
enum { LANES = 16, ROWS = 8 };
typedef float lanes __attribute__((vector_size(64)));
typedef float loose __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(64)));
typedef double wide __attribute__((vector_size(128)));

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

int64_t ptq_attention_scratch(int64_t len, int64_t head_dim)
{
    /* keys transposed (hd x len'), values padded (len x hd'), scores (ROWS x len'), queries (ROWS
     * x hd) */
    const int64_t most = INT64_C(1) << 29;
    if (len > most || head_dim > most)
        return -1;
    int64_t l = round_up(len, LANES), hd = round_up(head_dim, LANES), n;
    if (!ptq_size_mul(2 * (hd + ROWS), l + ROWS, &n))
        return -1;
    return n;
}

PTQ_CLONES double ptq_lanes_sumsq(const float *x, int64_t n)
{
    wide a = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        wide v = __builtin_convertvector(*(const loose *)(x + i), wide);
        a += v * v;
    }
    double s = 0;
    for (int j = 0; j < LANES; j++) {
        double t = a[j];
        if (i + j < n)
            t += (double)x[i + j] * x[i + j];
        s += t;
    }
    return s;
}

PTQ_CLONES double ptq_lanes_sum(const float *x, int64_t n)
{
    wide a = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        a += __builtin_convertvector(*(const loose *)(x + i), wide);
    double s = 0;
    for (int j = 0; j < LANES; j++)
        s += i + j < n ? a[j] + x[i + j] : a[j];
    return s;
}

PTQ_CLONES static void scale_by(const float *x, const float *gain, float by, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * by * gain[i];
}

void ptq_norm_rows(const float *gain, double eps, const float *x, int64_t n, int64_t d, float *y)
{
    for (int64_t t = 0; t < n; t++) {
        double mean = ptq_lanes_sumsq(x + t * d, d) / (double)d;
        scale_by(x + t * d, gain, (float)(1 / sqrt(mean + eps)), y + t * d, d);
    }
}

struct head { /* one key head, packed */
    int64_t len, dim, len_up, dim_up;
    float *keys;   /* (dim x len_up) */
    float *values; /* (len x dim_up) */
    float *scores; /* (ROWS x len_up) */
    float *query;  /* (ROWS x dim), scaled */
};

/* scores[r][u] = query[r] . key[u] for u < upto, a multiple of LANES. */
PTQ_CLONES static void scores_run(const struct head *h, int64_t upto)
{
    for (int64_t u = 0; u < upto; u += LANES) {
        lanes a[ROWS] = {{0}};
        for (int64_t d = 0; d < h->dim; d++) {
            lanes k = *(const loose *)(h->keys + d * h->len_up + u);
            for (int r = 0; r < ROWS; r++)
                a[r] += h->query[r * h->dim + d] * k;
        }
        for (int r = 0; r < ROWS; r++)
            *(loose *)(h->scores + r * h->len_up + u) = a[r];
    }
}

PTQ_CLONES static float row_max(const float *x, int64_t n)
{
    /* A maximum has no order of sums; in lanes, because the compiler may not reorder floats. */
    float m = x[0];
    int64_t i = 0;
    if (n >= LANES) {
        lanes a = *(const loose *)x;
        for (i = LANES; i + LANES <= n; i += LANES) {
            lanes v = *(const loose *)(x + i);
            mask more = v > a;
            a = (lanes)((more & (mask)v) | (~more & (mask)a));
        }
        for (int j = 0; j < LANES; j++)
            m = a[j] > m ? a[j] : m;
    }
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

/* out[r] = sum over u <= t0 + r of scores[r][u] value[u], times inverse[r]. Query t0's keys are
 * common to all rows; the rest of a row is added after them, so no row ever touches a later
 * position. */
PTQ_CLONES static void values_run(const struct head *h, int64_t t0, int n_rows,
                                  const float *inverse, float *out, int64_t ld_out)
{
    for (int64_t d = 0; d < h->dim; d += LANES) {
        lanes a[ROWS] = {{0}};
        for (int64_t u = 0; u <= t0; u++) {
            lanes v = *(const loose *)(h->values + u * h->dim_up + d);
            for (int r = 0; r < ROWS; r++)
                a[r] += h->scores[r * h->len_up + u] * v;
        }
        int64_t n = h->dim - d < LANES ? h->dim - d : LANES;
        for (int r = 0; r < n_rows; r++) {
            for (int64_t u = t0 + 1; u <= t0 + r; u++)
                a[r] +=
                    h->scores[r * h->len_up + u] * *(const loose *)(h->values + u * h->dim_up + d);
            a[r] *= inverse[r];
            memcpy(out + r * ld_out + d, &a[r], (size_t)n * sizeof(float));
        }
    }
}

static void head_pack(const struct ptq_attention *at, int64_t kv, struct head *h)
{
    int64_t ld = at->n_kv_heads * h->dim;
    for (int64_t u = 0; u < h->len; u++) {
        const float *k = at->k + u * ld + kv * h->dim, *v = at->v + u * ld + kv * h->dim;
        for (int64_t d = 0; d < h->dim; d++)
            h->keys[d * h->len_up + u] = k[d];
        memcpy(h->values + u * h->dim_up, v, (size_t)h->dim * sizeof *v);
        for (int64_t d = h->dim; d < h->dim_up; d++)
            h->values[u * h->dim_up + d] = 0;
    }
    for (int64_t d = 0; d < h->dim; d++)
        for (int64_t u = h->len; u < h->len_up; u++)
            h->keys[d * h->len_up + u] = 0;
}

static void rows_run(const struct ptq_attention *at, const struct head *h, int64_t head, int64_t t0)
{
    int64_t ld = at->n_heads * h->dim;
    int n_rows = at->len - t0 < ROWS ? (int)(at->len - t0) : ROWS;
    const float scale = (float)(1 / sqrt((double)h->dim));
    for (int r = 0; r < ROWS; r++)
        for (int64_t d = 0; d < h->dim; d++)
            h->query[r * h->dim + d] =
                r < n_rows ? at->q[(t0 + r) * ld + head * h->dim + d] * scale : 0;
    scores_run(h, round_up(t0 + n_rows, LANES));
    float inverse[ROWS] = {0};
    for (int r = 0; r < n_rows; r++) {
        float *s = h->scores + r * h->len_up;
        int64_t n = t0 + r + 1;
        ptq_expf_n(s, row_max(s, n), s, n);
        inverse[r] = (float)(1 / ptq_lanes_sum(s, n));
    }
    values_run(h, t0, n_rows, inverse, at->out + t0 * ld + head * h->dim, ld);
}

void ptq_attention_run(const struct ptq_attention *at)
{
    struct head h = {.len = at->len, .dim = at->head_dim};
    h.len_up = round_up(at->len, LANES);
    h.dim_up = round_up(at->head_dim, LANES);
    h.keys = at->scratch;
    h.values = h.keys + h.dim * h.len_up;
    h.scores = h.values + h.len * h.dim_up;
    h.query = h.scores + ROWS * h.len_up;
    int64_t group = at->n_heads / at->n_kv_heads;
    for (int64_t kv = 0; kv < at->n_kv_heads; kv++) {
        head_pack(at, kv, &h);
        for (int64_t j = 0; j < group; j++)
            for (int64_t t0 = 0; t0 < at->len; t0 += ROWS)
                rows_run(at, &h, kv * group + j, t0);
    }
}
