/* arch_llama.c: the Llama family: RMSNorm, rotary positions, grouped-head causal attention, SwiGLU.
 *   h = x + Wo attention(rope(Wq n1), rope(Wk n1), Wv n1),  n1 = norm(x) * g1
 *   y = h + Wdown (silu(Wgate n2) * Wup n2),                n2 = norm(h) * g2
 * with norm(x) = x / sqrt(mean(x^2) + eps) and silu(z) = z / (1 + exp(-z)). */
#include "core/clones.h"
#include "core/linalg.h"
#include "core/num.h"
#include "core/rng.h"
#include "core/size.h"
#include "model/attention.h"
#include "model/internal.h"
#include <string.h>

extern const struct ptq_arch ptq_arch_llama;

enum linear { Q, K, V, O, GATE, UP, DOWN, N_LINEARS };
enum vector { ATTN_NORM, FFN_NORM, N_VECTORS };
enum stage { ATTN_IN, O_IN, FFN_IN, DOWN_IN, N_STAGES };

static const char *const input_names[N_STAGES] = {"attn_in", "attn_o_in", "ffn_in", "ffn_down_in"};
static const struct {
    const char *suffix;
    enum ptq_role role;
    enum stage stage;
} linears[N_LINEARS] = {
    {"attn_q", PTQ_ROLE_Q, ATTN_IN},      {"attn_k", PTQ_ROLE_K, ATTN_IN},
    {"attn_v", PTQ_ROLE_V, ATTN_IN},      {"attn_o", PTQ_ROLE_O, O_IN},
    {"ffn_gate", PTQ_ROLE_GATE, FFN_IN},  {"ffn_up", PTQ_ROLE_UP, FFN_IN},
    {"ffn_down", PTQ_ROLE_DOWN, DOWN_IN},
};
static const char *const vectors[N_VECTORS] = {"attn_norm", "ffn_norm"};

static int check(const struct ptq_model_info *m, struct ptq_status *st)
{
    if (m->n_heads % m->n_kv_heads != 0)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: n_heads %lld is not a multiple of n_kv_heads %lld; repair /model", m->source,
            (long long)m->n_heads, (long long)m->n_kv_heads);
    if (m->head_dim % 2 != 0)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: head_dim %lld is odd: rotary positions turn pairs; repair /model", m->source,
            (long long)m->head_dim);
    return PTQ_OK;
}

static int layout(const struct ptq_model_info *m, int index, struct ptq_arena *a,
                  struct ptq_block *b, struct ptq_status *st)
{
    const int64_t d = m->d_model, q = m->n_heads * m->head_dim, kv = m->n_kv_heads * m->head_dim;
    const int64_t shape[N_LINEARS][2] = {{q, d},       {kv, d},      {kv, d},     {d, q},
                                         {m->d_ff, d}, {m->d_ff, d}, {d, m->d_ff}};
    const char *input[N_STAGES];
    for (int i = 0; i < N_STAGES; i++)
        if (!(input[i] = ptq_arena_printf(a, st, "blk.%d.%s", index, input_names[i])))
            return PTQ_ERR_MEMORY;
    *b = (struct ptq_block){
        .index = index, .n_linears = N_LINEARS, .n_stages = N_STAGES, .n_vectors = N_VECTORS};
    for (int i = 0; i < N_LINEARS; i++) {
        b->lin[i] =
            (struct ptq_linear){ptq_arena_printf(a, st, "blk.%d.%s", index, linears[i].suffix),
                                input[linears[i].stage],
                                linears[i].role,
                                (int)linears[i].stage,
                                shape[i][0],
                                shape[i][1],
                                NULL};
        if (!b->lin[i].name)
            return PTQ_ERR_MEMORY;
    }
    for (int i = 0; i < N_VECTORS; i++) {
        b->vec[i] =
            (struct ptq_vector){ptq_arena_printf(a, st, "blk.%d.%s", index, vectors[i]), d, NULL};
        if (!b->vec[i].name)
            return PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
}

/* ---- the outlier variant: powers of two, so the output keeps its bits */

enum { OUTLIER_SEED = 77, N_CHANNELS = 4, N_HIDDEN = 2 };

static void scale_column(const struct ptq_linear *l, float *w, int64_t column, float by)
{
    for (int64_t i = 0; i < l->d_out; i++)
        w[i * l->d_in + column] *= by;
}

static void scale_row(const struct ptq_linear *l, float *w, int64_t row, float by)
{
    for (int64_t j = 0; j < l->d_in; j++)
        w[row * l->d_in + j] *= by;
}

/* Four distinct channels of the residual stream, then two hidden channels a block, from one
 * generator in block order: the draws of earlier blocks are repeated to reach those of this one. */
static int outliers(const struct ptq_model_info *m, const struct ptq_block *b, float *const *lin,
                    float *const *vec, struct ptq_status *st)
{
    static const enum linear readers[] = {Q, K, V, GATE, UP};
    struct ptq_rng r = {OUTLIER_SEED};
    uint64_t channel[N_CHANNELS];
    if (m->d_model < N_CHANNELS)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: the outlier variant needs d_model >= %d",
                              m->source, N_CHANNELS);
    for (int n = 0; n < N_CHANNELS;) {
        channel[n] = ptq_rng_below(&r, (uint64_t)m->d_model);
        bool fresh = true;
        for (int i = 0; i < n; i++)
            fresh = fresh && channel[i] != channel[n];
        n += fresh;
    }
    for (int n = 0; n < N_CHANNELS; n++) {
        int64_t c = (int64_t)channel[n];
        float by = n % 2 ? 8 : 16;
        vec[ATTN_NORM][c] *= by;
        vec[FFN_NORM][c] *= by;
        for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
            scale_column(&b->lin[readers[i]], lin[readers[i]], c, 1 / by);
    }
    for (int i = 0; i < b->index * N_HIDDEN; i++)
        ptq_rng_below(&r, (uint64_t)m->d_ff);
    for (int i = 0; i < N_HIDDEN; i++) {
        int64_t c = (int64_t)ptq_rng_below(&r, (uint64_t)m->d_ff);
        scale_row(&b->lin[UP], lin[UP], c, 16);
        scale_column(&b->lin[DOWN], lin[DOWN], c, 1 / 16.f);
    }
    return PTQ_OK;
}

/* ---- one sequence */

/* Pieces of the scratch. gate and up overlay q, k, v and the attention's own, done by then. */
struct buffers {
    float *norm; /* (len x d_model): normed input, then what a product adds to x */
    float *q, *k, *v;
    float *mixed; /* (len x q) output of the heads */
    float *attention;
    float *spin; /* head_dim floats */
    float *gate, *up;
};

static int64_t attention_floats(const struct ptq_model_info *m, int64_t len)
{
    int64_t q, kv, own = ptq_attention_scratch(len, m->head_dim), n;
    if (own < 0 || !ptq_size_mul(2 * len, m->n_heads * m->head_dim, &q) ||
        !ptq_size_mul(2 * len, m->n_kv_heads * m->head_dim, &kv) || !ptq_size_add(q, kv, &n) ||
        !ptq_size_add(n, own + m->head_dim, &n))
        return -1;
    return n;
}

static int64_t scratch_floats(const struct ptq_model_info *m, int64_t len)
{
    int64_t a = attention_floats(m, len), f, n;
    if (a < 0 || !ptq_size_mul(2 * len, m->d_ff, &f) || !ptq_size_mul(len, m->d_model, &n) ||
        !ptq_size_add(n, a > f ? a : f, &n))
        return -1;
    return n;
}

static void split(const struct ptq_model_info *m, int64_t len, float *scratch, struct buffers *b)
{
    int64_t q = len * m->n_heads * m->head_dim, kv = len * m->n_kv_heads * m->head_dim;
    float *rest = scratch + len * m->d_model;
    *b = (struct buffers){
        .norm = scratch, .q = rest, .k = rest + q, .v = rest + q + kv, .mixed = rest + q + 2 * kv};
    b->spin = b->mixed + q;
    b->attention = b->spin + m->head_dim;
    b->gate = rest;
    b->up = rest + len * m->d_ff;
}

PTQ_CLONES static void add_to(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += y[i];
}

PTQ_CLONES static void negate(const float *x, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = -x[i];
}

/* gate = gate / (1 + e) * up with e = exp(-gate). */
PTQ_CLONES static void gate_by(float *gate, const float *e, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1 + e[i]) * up[i];
}

/* y (len x d_out) = x W^T */
static int product(const struct ptq_sequence *q, enum linear which, const float *x, float *y,
                   struct ptq_status *st)
{
    const struct ptq_linear *l = &q->block->lin[which];
    struct ptq_gemm_f32 g = {q->len, l->d_out, l->d_in, false,   true, 1,       0,
                             x,      l->d_in,  l->w,    l->d_in, y,    l->d_out};
    return ptq_gemm_f32(q->pool, &g, st);
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

static void rotate(const struct ptq_sequence *q, const struct buffers *b)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    const int64_t hd = m->head_dim;
    for (int64_t t = 0; t < q->len; t++) {
        const float *c, *s;
        ptq_rope_at(q->model, t, b->spin, &c, &s);
        for (int64_t h = 0; h < m->n_heads; h++)
            turn(b->q + (t * m->n_heads + h) * hd, c, s, hd / 2, m->rope_interleaved);
        for (int64_t h = 0; h < m->n_kv_heads; h++)
            turn(b->k + (t * m->n_kv_heads + h) * hd, c, s, hd / 2, m->rope_interleaved);
    }
}

/* Shows an input to the tap. PTQ_SKIP: the run was to stop here. */
static int show(const struct ptq_sequence *q, enum stage stage, const float *x,
                struct ptq_status *st)
{
    const struct ptq_block_tap *tap = q->tap;
    if (!tap)
        return PTQ_OK;
    const struct ptq_linear *l = q->block->lin;
    while (l->stage != (int)stage)
        l++;
    if (tap->only && strcmp(tap->only, l->input) != 0)
        return PTQ_OK;
    int rc = tap->see(tap->arg, l->input, q->index, x, q->len, l->d_in, st);
    return rc == PTQ_OK && tap->only ? PTQ_SKIP : rc;
}

static int attention_half(const struct ptq_sequence *q, const struct buffers *b,
                          struct ptq_status *st)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    int rc;
    ptq_norm_rows(q->block->vec[ATTN_NORM].at, m->norm_eps, q->x, q->len, m->d_model, b->norm);
    if ((rc = show(q, ATTN_IN, b->norm, st)) || (rc = product(q, Q, b->norm, b->q, st)) ||
        (rc = product(q, K, b->norm, b->k, st)) || (rc = product(q, V, b->norm, b->v, st)))
        return rc;
    rotate(q, b);
    struct ptq_attention a = {q->len, m->n_heads, m->n_kv_heads, m->head_dim, b->q,
                              b->k,   b->v,       b->mixed,      b->attention};
    ptq_attention_run(&a);
    if ((rc = show(q, O_IN, b->mixed, st)) || (rc = product(q, O, b->mixed, b->norm, st)))
        return rc;
    add_to(q->x, b->norm, q->len * m->d_model);
    return PTQ_OK;
}

static int mlp_half(const struct ptq_sequence *q, const struct buffers *b, struct ptq_status *st)
{
    const struct ptq_model_info *m = ptq_model_info(q->model);
    const int64_t n = q->len * m->d_ff;
    int rc;
    ptq_norm_rows(q->block->vec[FFN_NORM].at, m->norm_eps, q->x, q->len, m->d_model, b->norm);
    if ((rc = show(q, FFN_IN, b->norm, st)) || (rc = product(q, GATE, b->norm, b->gate, st)) ||
        (rc = product(q, UP, b->norm, b->up, st)))
        return rc;
    /* exp(-gate) takes norm's place piece by piece: the normed input is not needed again. */
    const int64_t piece = q->len * m->d_model;
    for (int64_t i = 0; i < n; i += piece) {
        int64_t k = n - i < piece ? n - i : piece;
        negate(b->gate + i, b->norm, k);
        ptq_expf_n(b->norm, 0, b->norm, k);
        gate_by(b->gate + i, b->norm, b->up + i, k);
    }
    if ((rc = show(q, DOWN_IN, b->gate, st)) || (rc = product(q, DOWN, b->gate, b->norm, st)))
        return rc;
    add_to(q->x, b->norm, q->len * m->d_model);
    return PTQ_OK;
}

static int run_sequence(const struct ptq_sequence *q, struct ptq_status *st)
{
    struct buffers b;
    split(ptq_model_info(q->model), q->len, q->scratch, &b);
    int rc = attention_half(q, &b, st);
    if (rc == PTQ_OK)
        rc = mlp_half(q, &b, st);
    return rc == PTQ_SKIP ? PTQ_OK : rc;
}

const struct ptq_arch ptq_arch_llama = {
    .name = "llama",
    .check = check,
    .layout = layout,
    .outliers = outliers,
    .scratch_floats = scratch_floats,
    .run_sequence = run_sequence,
};
