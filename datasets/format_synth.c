/* format_synth.c: "synth:NAME" and "synth:NAME:BLOCKS": random weights in the shapes of a known
 * model, for runs of the whole path without its checkpoint. Nothing is stored: a value is a pure
 * function of (tensor, row, column), the same bits on every machine, so any range costs its length
 * alone and the model needs no more memory than a real one read in place. The first blocks of a
 * short model are those of the whole one. How a matrix W is made:
 *
 *   W[i][j] = scale * row_gain[i] * col_gain[j] * (z[i][j] + sum_k a_k u_k[i] v_k[j]) / norm
 *
 * - z is a sum of four uniforms, bent by z (1 + z^2 / 10): variance 1, kurtosis about 4.5, heavier
 *   tails than a normal's, as trained weights have.
 * - The spectrum decays: RANK directions with a_k = 0.25 * 0.75^k stand over the bulk of z, the
 *   strongest about eight times its edge (a_0 n against 2 sqrt(n) at n = 4096). Their column
 * vectors v_k belong to the axis, not to the tensor: all readers of the residual stream share them.
 * - Outlier channels: every matrix that writes onto the residual stream (embedding, attention
 *   output, mlp down) writes channel c times gain[c], a spread of 1/4 .. 1, and OUTLIER on one
 *   channel in 640; gains have a mean square of 1. So hidden states, and Hessians of what reads
 *   them, have a few channels far above the others at every depth. The same for the mlp's inner
 *   channels, written by `up`.
 * - scale is 1 / sqrt(columns), so that products keep their size, and matrices that add to the
 *   residual stream are divided by sqrt(2 blocks) of the whole model.
 *
 * Perplexities of such a model say nothing about language. */
#include "core/clones.h"
#include "core/num.h"
#include "core/rng.h"
#include "core/size.h"
#include "core/words.h"
#include "datasets/tensors.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RANK = 8, OUTLIER = 16, CHANNELS_AN_OUTLIER = 640, MAX_BLOCKS = 1024 };
static const char prefix[] = "synth:";
static const uint64_t recipe = 1; /* another one when values change: it is what keys see */

static const struct shape {
    const char *name;
    int64_t d, ff, heads, kv_heads, vocab, blocks, context;
    double theta, eps;
} shapes[] = {
    {"llama-7b", 4096, 11008, 32, 32, 32000, 32, 2048, 10000, 1e-6},
    {"llama2-7b", 4096, 11008, 32, 32, 32000, 32, 4096, 10000, 1e-5},
    {"llama3-8b", 4096, 14336, 32, 8, 128256, 32, 8192, 500000, 1e-5},
    {"tiny", 128, 352, 4, 2, 512, 4, 256, 10000, 1e-5},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* What rows and columns of a matrix stand for. PLAIN: one number, or the vocabulary. */
enum axis_kind { PLAIN, RESIDUAL, HEADS, KEYS, INNER, N_AXES };
struct axis {
    int64_t n;
    float *gain;  /* [n] of what writes onto it */
    float *basis; /* [RANK][n]: the v_k of what reads it */
};
struct synth {
    const struct shape *shape;
    struct axis axis[N_AXES];
    float *ones; /* as many as the longest axis of columns */
};

/* The tensors of a model; %d: of a block. A matrix with gain_rows (gain_cols) writes onto the axis
 * of its rows (columns). */
static const struct part {
    const char *name;
    enum axis_kind rows, cols;
    bool vector, in_block, gain_rows, gain_cols, residual;
} parts[] = {
    {"model.embed_tokens.weight", PLAIN, RESIDUAL, .gain_cols = true},
    {"model.layers.%d.input_layernorm.weight", RESIDUAL, PLAIN, .vector = true, .in_block = true},
    {"model.layers.%d.self_attn.q_proj.weight", HEADS, RESIDUAL, .in_block = true},
    {"model.layers.%d.self_attn.k_proj.weight", KEYS, RESIDUAL, .in_block = true},
    {"model.layers.%d.self_attn.v_proj.weight", KEYS, RESIDUAL, .in_block = true},
    {"model.layers.%d.self_attn.o_proj.weight", RESIDUAL, HEADS, .in_block = true,
     .gain_rows = true, .residual = true},
    {"model.layers.%d.post_attention_layernorm.weight", RESIDUAL, PLAIN, .vector = true,
     .in_block = true},
    {"model.layers.%d.mlp.gate_proj.weight", INNER, RESIDUAL, .in_block = true},
    {"model.layers.%d.mlp.up_proj.weight", INNER, RESIDUAL, .in_block = true, .gain_rows = true},
    {"model.layers.%d.mlp.down_proj.weight", RESIDUAL, INNER, .in_block = true, .gain_rows = true,
     .residual = true},
    {"model.norm.weight", RESIDUAL, PLAIN, .vector = true},
    {"lm_head.weight", PLAIN, RESIDUAL},
};
enum { N_PARTS = sizeof parts / sizeof *parts };

/* ---- values ---------------------------------------------------------------------------------- */

/* 32 bits in, 32 bits out, every bit reaching every bit: two multiplications between shifts. The
 * loop runs on 32-bit lanes, where a 64-bit product would cost four. */
static inline uint32_t mix(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

struct row {
    uint32_t salt[2];
    float scale, a[RANK]; /* of the whole row: scale row_gain / norm, a_k u_k[i] */
    const float *gain, *basis;
    int64_t n_axis;
};

/* sqrt(3) / 65535: the sum of four uniforms of 16 bits, centred, has variance 1. 1 / 1.2842...:
 * E z^2 (1 + z^2 / 10)^2 = 1 + 0.2 m4 + 0.01 m6 with m4 = 2.7, m6 = 10.92857 of that sum. */
static const float unit = 2.64294e-5f, unbend = 0.778665f;

PTQ_CLONES static void make_row(const struct row *r, int64_t first, int64_t n, float *out)
{
    const float *v = r->basis + first, *gain = r->gain + first;
    for (int64_t j = 0; j < n; j++) {
        uint32_t x = mix((uint32_t)(first + j) * 0x9E3779B9u + r->salt[0]), y = mix(x ^ r->salt[1]);
        int32_t sum = (int32_t)((x & 0xFFFF) + (x >> 16) + (y & 0xFFFF) + (y >> 16)) - 131070;
        float z = (float)sum * unit;
        float w = z * (unbend + unbend * 0.1f * z * z);
        for (int k = 0; k < RANK; k++)
            w += r->a[k] * v[k * r->n_axis + j];
        out[j] = w * r->scale * gain[j];
    }
}

/* Uniform with variance 1. */
static float coefficient(uint64_t seed, uint64_t i)
{
    return (float)(2 * 1.7320508075688772 * (ptq_uniform(seed, i) - 0.5));
}

static const double strength = 0.25, decay = 0.75;

/* Mean square of z and the directions together. */
static double norm(void)
{
    double sum = 1, a = strength;
    for (int k = 0; k < RANK; k++, a *= decay)
        sum += a * a;
    return sqrt(sum);
}

static uint64_t seed_of(const struct ptq_tensor *x)
{
    return ptq_hash_u64(x->at[0], x->at[1]);
}

static void begin_row(const struct synth *s, const struct ptq_tensor *x, int64_t i, struct row *r)
{
    const struct part *p = &parts[x->at[0]];
    const struct axis *cols = &s->axis[p->cols];
    uint64_t salt = ptq_hash_u64(seed_of(x), (uint64_t)i), turn = ptq_hash_u64(salt, 1);
    double a = strength, scale = p->gain_cols ? 1 : 1 / sqrt((double)x->dim[1]);
    if (p->gain_rows)
        scale *= s->axis[p->rows].gain[i];
    if (p->residual)
        scale /= sqrt(2 * (double)s->shape->blocks);
    *r = (struct row){.salt = {(uint32_t)salt, (uint32_t)(salt >> 32)},
                      .scale = (float)(scale / norm()),
                      .gain = p->gain_cols ? cols->gain : s->ones,
                      .basis = cols->basis,
                      .n_axis = cols->n};
    for (int k = 0; k < RANK; k++, a *= decay)
        r->a[k] = (float)a * coefficient(turn, (uint64_t)k);
}

/* Gains of norms: 0.5 .. 1.5. */
static void make_vector(const struct ptq_tensor *x, int64_t first, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(0.5 + ptq_uniform(seed_of(x), (uint64_t)(first + i)));
}

static int synth_read(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t first,
                      int64_t n, float *out, struct ptq_status *st)
{
    (void)st;
    if (x->rank == 1)
        make_vector(x, first, n, out);
    for (int64_t piece; x->rank == 2 && n > 0; first += piece, out += piece, n -= piece) {
        int64_t i = first / x->dim[1], j = first % x->dim[1];
        struct row r;
        piece = x->dim[1] - j < n ? x->dim[1] - j : n;
        begin_row(t->own, x, i, &r);
        make_row(&r, j, piece, out);
    }
    return PTQ_OK;
}

/* ---- axes ------------------------------------------------------------------------------------ */

static void set_gains(struct axis *a, uint64_t seed)
{
    double sum = 0, spread = ptq_log(4);
    for (int64_t i = 0; i < a->n; i++)
        a->gain[i] = (float)ptq_exp(-spread * ptq_uniform(seed, (uint64_t)i));
    for (int64_t k = 0; k < 1 + a->n / CHANNELS_AN_OUTLIER; k++)
        a->gain[ptq_hash_u64(seed + 1, (uint64_t)k) % (uint64_t)a->n] = OUTLIER;
    for (int64_t i = 0; i < a->n; i++)
        sum += (double)a->gain[i] * a->gain[i];
    for (int64_t i = 0; i < a->n; i++)
        a->gain[i] = (float)(a->gain[i] / sqrt(sum / (double)a->n));
}

static int make_axes(struct synth *s, struct ptq_arena *arena, struct ptq_status *st)
{
    const struct shape *m = s->shape;
    const int64_t n[N_AXES] = {1, m->d, m->d, m->d / m->heads * m->kv_heads, m->ff};
    int64_t longest = m->ff > m->d ? m->ff : m->d;
    s->ones = ptq_arena_alloc(arena, st, longest, sizeof *s->ones);
    for (int64_t i = 0; s->ones && i < longest; i++)
        s->ones[i] = 1;
    for (int k = RESIDUAL; s->ones && k < N_AXES; k++) {
        struct axis *a = &s->axis[k];
        uint64_t seed = ptq_hash_u64(0x5EED, (uint64_t)k);
        *a = (struct axis){n[k], ptq_arena_alloc(arena, st, n[k], sizeof *a->gain),
                           ptq_arena_alloc(arena, st, n[k] * RANK, sizeof *a->basis)};
        if (!a->gain || !a->basis)
            return PTQ_ERR_MEMORY;
        set_gains(a, seed);
        for (int64_t i = 0; i < a->n * RANK; i++)
            a->basis[i] = coefficient(seed + 2, (uint64_t)i);
    }
    return s->ones ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool synth_probe(const struct ptq_probe *p)
{
    return !strncmp(p->path, prefix, sizeof prefix - 1);
}

static int find_shape(const char *source, const struct shape **shape, int64_t *blocks,
                      struct ptq_status *st)
{
    const char *name = source + sizeof prefix - 1, *names[N_SHAPES + 1] = {NULL}, *colon;
    colon = strchr(name, ':');
    size_t bytes = colon ? (size_t)(colon - name) : strlen(name);
    for (int i = 0; i < N_SHAPES; i++) {
        names[i] = shapes[i].name;
        if (strlen(shapes[i].name) != bytes || strncmp(shapes[i].name, name, bytes) != 0)
            continue;
        *shape = &shapes[i];
        *blocks = shapes[i].blocks;
        return colon ? ptq_parse_i64(colon + 1, source, 1, MAX_BLOCKS, blocks, st) : PTQ_OK;
    }
    return ptq_unknown_word_at(source, "synthetic model", name, names, st);
}

static json_t *config(const struct shape *m, int64_t blocks)
{
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b}", "model_type", "llama",
        "_name_or_path", m->name, "hidden_act", "silu", "hidden_size", (json_int_t)m->d,
        "intermediate_size", (json_int_t)m->ff, "num_hidden_layers", (json_int_t)blocks,
        "num_attention_heads", (json_int_t)m->heads, "num_key_value_heads", (json_int_t)m->kv_heads,
        "vocab_size", (json_int_t)m->vocab, "max_position_embeddings", (json_int_t)m->context,
        "rms_norm_eps", m->eps, "rope_theta", m->theta, "tie_word_embeddings", 0);
}

static int add_tensor(struct ptq_tensors *t, int part, int64_t block, struct ptq_status *st)
{
    const struct part *p = &parts[part];
    const struct synth *s = t->own;
    struct ptq_tensor *x = &t->tensor[t->n++];
    *x = (struct ptq_tensor){.type = "random",
                             .rank = p->vector ? 1 : 2,
                             .stored_bits = 32,
                             .at = {(uint64_t)part, (uint64_t)block}};
    x->dim[0] = p->rows == PLAIN ? s->shape->vocab : s->axis[p->rows].n;
    x->dim[1] = p->vector ? 0 : s->axis[p->cols].n;
    bool fits = ptq_size_mul(x->dim[0], p->vector ? 1 : x->dim[1], &x->n);
    assert(fits);
    (void)fits;
    char *name = ptq_arena_strdup(&t->arena, st, p->name);
    const char *cut = name ? strstr(name, "%d") : NULL;
    if (cut)
        name = ptq_arena_printf(&t->arena, st, "%.*s%d%s", (int)(cut - name), name, (int)block,
                                cut + 2);
    x->name = name;
    return name ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int synth_open(struct ptq_tensors *t, const struct ptq_probe *p, struct ptq_status *st)
{
    struct synth *s = ptq_arena_alloc(&t->arena, st, 1, sizeof *s);
    int64_t blocks = 0;
    t->own = s;
    t->dialect = PTQ_HUGGINGFACE;
    int code = s ? find_shape(p->path, &s->shape, &blocks, st) : PTQ_ERR_MEMORY;
    if (code >= 0)
        code = make_axes(s, &t->arena, st);
    if (code < 0)
        return code;
    t->meta = config(s->shape, blocks);
    t->tensor = ptq_arena_alloc(&t->arena, st, N_PARTS * blocks, sizeof *t->tensor);
    if (!t->meta || !t->tensor)
        return ptq_status_nomem(st, "a synthetic model", 0);
    for (int64_t b = 0; code >= 0 && b < blocks; b++)
        for (int i = 0; code >= 0 && i < N_PARTS; i++)
            if (parts[i].in_block || b == 0)
                code = add_tensor(t, i, b, st);
    return code;
}

static void synth_close(struct ptq_tensors *t)
{
    (void)t; /* everything lies in the arena */
}

/* ---- the key: what decides values ------------------------------------------------------------ */

enum { RECIPE_BYTES = 16 };

static int64_t synth_n_bytes(const struct ptq_tensor *x)
{
    (void)x;
    return RECIPE_BYTES;
}

static int synth_bytes(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t from,
                       int64_t bytes, void *out, struct ptq_status *st)
{
    unsigned char text[RECIPE_BYTES];
    const struct synth *s = t->own;
    uint64_t value = recipe << 32 | (uint64_t)s->shape->blocks;
    (void)st;
    for (int i = 0; i < RECIPE_BYTES; i++)
        text[i] = (unsigned char)((i < 8 ? seed_of(x) : value) >> 8 * (i % 8));
    memcpy(out, text + from, (size_t)bytes);
    return PTQ_OK;
}

const struct ptq_file_format ptq_format_synth = {
    .name = "synth",
    .title = "synth:NAME (random weights of a model's shapes)",
    .probe = synth_probe,
    .open = synth_open,
    .close = synth_close,
    .read = synth_read,
    .n_bytes = synth_n_bytes,
    .bytes = synth_bytes,
};
