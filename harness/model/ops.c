#include "model/ops.h"
#include "core/clones.h"
#include "core/linalg.h"
#include "core/num.h"
#include "model/internal.h"
#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- norms */

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

PTQ_CLONES static void centre(const float *x, float mean, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] - mean;
}

void ptq_layer_norm_rows(const float *gain, const float *bias, double eps, const float *x,
                         int64_t n, int64_t d, float *y)
{
    for (int64_t t = 0; t < n; t++) {
        float *row = y + t * d;
        centre(x + t * d, (float)(ptq_lanes_sum(x + t * d, d) / (double)d), row, d);
        double var = ptq_lanes_sumsq(row, d) / (double)d;
        scale_by(row, gain, (float)(1 / sqrt(var + eps)), row, d);
        if (bias)
            ptq_add_to(row, bias, d);
    }
}

/* ---- sums */

PTQ_CLONES void ptq_add_to(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += y[i];
}

PTQ_CLONES void ptq_sum_f32(double *sum, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

PTQ_CLONES void ptq_sum_f64(double *sum, const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

void ptq_add_rows(float *x, const float *bias, int64_t n, int64_t d)
{
    for (int64_t t = 0; t < n; t++)
        ptq_add_to(x + t * d, bias, d);
}

/* ---- activations */

enum { PIECE = 4096 };

PTQ_CLONES static void negate(const float *x, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = -x[i];
}

/* x / (1 + e) with e = exp(-z): silu for z = x, tanh's gelu for z = 2 u, since (1 + tanh u) / 2 =
 * 1 / (1 + exp(-2 u)). */
PTQ_CLONES static void by_logistic(float *x, const float *e, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] / (1 + e[i]);
}

PTQ_CLONES static void gate_by(float *gate, const float *e, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1 + e[i]) * up[i];
}

/* -2 u, u = sqrt(2 / pi) (x + 0.044715 x^3) */
PTQ_CLONES static void tanh_argument(const float *x, float *y, int64_t n)
{
    const float c = 0.7978845608028654f;
    for (int64_t i = 0; i < n; i++)
        y[i] = -2 * c * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
}

/* x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2. erf(z) = z P(z^2 / 8 - 1) for |z| <= 4, P the
 * Chebyshev interpolant of degree 20 of erf(z) / z (its error is 1.2e-11, computed), and +-1
 * behind, where 1 - erf(4) = 1.5e-8 is under half a unit of fp32. */
PTQ_CLONES static void gelu(float *x, int64_t n)
{
    static const double p[] = {
        0.35353099564340429,     -0.17657623321424371,    0.13167511686643962,
        -0.10771044890915892,    0.090208996186493057,    -0.074727728381825467,
        0.05988686028227138,     -0.045766463410655295,   0.033061073270809108,
        -0.022466263957992921,   0.014347218437205343,    -0.0086298323215913565,
        0.0048612537938527841,   -0.0025306731595722844,  0.0012770781536441313,
        -0.00067279658746495529, 0.00029513373401520896,  -7.2462031488916697e-05,
        3.2981665143613359e-05,  -3.6683496303675689e-05, 1.2873585826134119e-05,
    };
    enum { DEGREE = sizeof p / sizeof *p - 1 };
    for (int64_t i = 0; i < n; i++) {
        double z = x[i] * 0.70710678118654752440;
        z = z > 4 ? 4 : z < -4 ? -4 : z;
        double s = z * z / 8 - 1, r = p[DEGREE];
        for (int k = DEGREE - 1; k >= 0; k--)
            r = r * s + p[k];
        x[i] = (float)(x[i] * 0.5 * (1 + z * r));
    }
}

PTQ_CLONES static void relu(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] > 0 ? x[i] : 0;
}

void ptq_activate(enum ptq_activation a, float *x, int64_t n)
{
    float e[PIECE];
    if (a == PTQ_RELU)
        relu(x, n);
    else if (a == PTQ_GELU)
        gelu(x, n);
    else
        for (int64_t i = 0; i < n; i += PIECE) {
            int64_t k = n - i < PIECE ? n - i : PIECE;
            (a == PTQ_SILU ? negate : tanh_argument)(x + i, e, k);
            ptq_expf_n(e, 0, e, k);
            by_logistic(x + i, e, k);
        }
}

void ptq_gate(float *x, const float *up, int64_t n)
{
    float e[PIECE];
    for (int64_t i = 0; i < n; i += PIECE) {
        int64_t k = n - i < PIECE ? n - i : PIECE;
        negate(x + i, e, k);
        ptq_expf_n(e, 0, e, k);
        gate_by(x + i, e, up + i, k);
    }
}

/* ---- parts of a block */

static int product(const struct ptq_sequence *q, const struct ptq_linear *l, const float *x,
                   float *y, struct ptq_status *st)
{
    struct ptq_gemm_f32 g = {q->len, l->d_out, l->d_in, false,   true, 1,       0,
                             x,      l->d_in,  l->w,    l->d_in, y,    l->d_out};
    return l->run ? ptq_quant_run_apply(l->run, q->pool, x, q->len, y, st)
                  : ptq_gemm_f32(q->pool, &g, st);
}

int ptq_linear_run(const struct ptq_sequence *q, int linear, int bias, const float *x, float *y,
                   struct ptq_status *st)
{
    const struct ptq_linear *l = &q->block->lin[linear];
    int rc = product(q, l, x, y, st);
    if (!rc && bias >= 0 && q->block->vec[bias].name)
        ptq_add_rows(y, q->block->vec[bias].at, q->len, l->d_out);
    return rc;
}

/* The first linear that reads the stage's input; NULL: the tap does not look at it. */
static const struct ptq_linear *tapped(const struct ptq_sequence *q, int stage)
{
    if (!q->tap)
        return NULL;
    const struct ptq_linear *l = q->block->lin;
    while (l->stage != stage)
        l++;
    return q->tap->only && strcmp(q->tap->only, l->input) != 0 ? NULL : l;
}

int ptq_tap_show(const struct ptq_sequence *q, int stage, const float *x, struct ptq_status *st)
{
    const struct ptq_linear *l = tapped(q, stage);
    const struct ptq_block_tap *tap = q->tap;
    if (!l)
        return PTQ_OK;
    int rc = tap->see ? tap->see(tap->arg, l->input, q->index, x, q->len, l->d_in, st) : PTQ_OK;
    const bool ends = tap->only && !(tap->see_attention && l->role == PTQ_ROLE_Q);
    return rc == PTQ_OK && ends ? PTQ_SKIP : rc;
}

int ptq_tap_attention(const struct ptq_sequence *q, int stage,
                      const struct ptq_shown_attention *shown, struct ptq_status *st)
{
    if (!tapped(q, stage) || !q->tap->see_attention)
        return PTQ_OK;
    int rc = q->tap->see_attention(q->tap->arg, q->index, shown, st);
    return rc == PTQ_OK && q->tap->only ? PTQ_SKIP : rc;
}

bool ptq_runs_half(const struct ptq_sequence *q, enum ptq_half half)
{
    return !q->tap || q->tap->half == PTQ_WHOLE_BLOCK || q->tap->half == half;
}

int ptq_tap_output(const struct ptq_sequence *q, const float *y, struct ptq_status *st)
{
    if (!q->tap || !q->tap->see_output)
        return PTQ_OK;
    assert(q->tap->half != PTQ_WHOLE_BLOCK);
    const int64_t d = ptq_model_info(q->model)->d_model;
    int rc = q->tap->see_output(q->tap->arg, q->index, y, q->len, d, st);
    return rc == PTQ_OK ? PTQ_SKIP : rc;
}

PTQ_CLONES static void turn(float *x, const float *c, const float *s, int64_t half,
                            bool interleaved)
{
    if (interleaved)
        for (int64_t i = 0; i < half; i++) {
            float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * c[i] - b * s[i];
            x[2 * i + 1] = a * s[i] + b * c[i];
        }
    else
        for (int64_t i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a * c[i] - b * s[i];
            x[i + half] = a * s[i] + b * c[i];
        }
}

void ptq_rope_turn(const struct ptq_sequence *q, int64_t heads, float *x, float *spin)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    const int64_t hd = m->head_dim;
    for (int64_t t = 0; t < q->len; t++) {
        const float *c, *s;
        ptq_rope_at(q->model, t, spin, &c, &s);
        for (int64_t h = 0; h < heads; h++)
            turn(x + (t * heads + h) * hd, c, s, hd / 2, m->rope.interleaved);
    }
}

/* ---- layouts */

int ptq_layout_fill(const struct ptq_layout_spec *s, int index, struct ptq_arena *a,
                    struct ptq_block *b, struct ptq_status *st)
{
    const char *input[PTQ_MAX_STAGES];
    *b = (struct ptq_block){.index = index,
                            .n_linears = s->n_linears,
                            .n_stages = s->n_stages,
                            .n_vectors = s->n_vectors};
    for (int i = 0; i < s->n_stages; i++)
        if (!(input[i] = ptq_arena_printf(a, st, "blk.%d.%s", index, s->input[i])))
            return PTQ_ERR_MEMORY;
    for (int i = 0; i < s->n_linears; i++) {
        const struct ptq_linear_spec *l = &s->lin[i];
        b->lin[i] =
            (struct ptq_linear){.name = ptq_arena_printf(a, st, "blk.%d.%s", index, l->suffix),
                                .input = input[l->stage],
                                .role = l->role,
                                .stage = l->stage,
                                .producer = s->producer[l->stage],
                                .d_out = l->d_out,
                                .d_in = l->d_in};
        if (!b->lin[i].name)
            return PTQ_ERR_MEMORY;
    }
    for (int i = 0; i < s->n_vectors; i++) {
        const struct ptq_vector_spec *v = &s->vec[i];
        if (!v->suffix)
            continue;
        b->vec[i] =
            (struct ptq_vector){ptq_arena_printf(a, st, "blk.%d.%s", index, v->suffix), v->n, NULL};
        if (!b->vec[i].name)
            return PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
}
