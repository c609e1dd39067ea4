/* model_cases.h: a tiny random llama for tests, as a container and as plain arrays, and a forward
 * pass in plain fp64 loops that shares nothing with the program's but the definition (head comment
 * of arch_llama.c). */
#ifndef PTQ_MODEL_CASES_H
#define PTQ_MODEL_CASES_H
#include "testlib.h"
#include "core/hash.h"
#include "core/rng.h"
#include "datasets/h5.h"
#include "model/model.h"
#include "model/text.h"

struct tiny_shape {
    int64_t d, blocks, heads, kv, hd, ff, vocab, context;
    bool interleaved, tied;
    double theta;
};
enum { TINY_BLOCKS = 3 };
struct tiny { /* weights as (out x in), all in the arena */
    struct tiny_shape s;
    float *embd, *out_norm, *out;
    struct {
        float *norm1, *q, *k, *v, *o, *norm2, *gate, *up, *down;
    } b[TINY_BLOCKS];
};

static inline float *tiny_fill(struct ptq_arena *a, int64_t n, double scale, double shift,
                               uint64_t *seed)
{
    float *x = ptq_arena_alloc(a, NULL, n, sizeof *x);
    assert_non_null(x);
    ++*seed;
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(shift + scale * ptq_normal(*seed, (uint64_t)i));
    return x;
}

static inline void tiny_make(struct tiny *m, const struct tiny_shape *s, struct ptq_arena *a)
{
    uint64_t seed = 1000;
    const int64_t q = s->heads * s->hd, kv = s->kv * s->hd;
    const double in = 1 / sqrt((double)s->d);
    m->s = *s;
    m->embd = tiny_fill(a, s->vocab * s->d, 1, 0, &seed);
    m->out_norm = tiny_fill(a, s->d, .2, 1, &seed);
    m->out = s->tied ? m->embd : tiny_fill(a, s->vocab * s->d, 2 * in, 0, &seed);
    for (int64_t i = 0; i < s->blocks; i++) {
        m->b[i].norm1 = tiny_fill(a, s->d, .2, 1, &seed);
        m->b[i].q =
            tiny_fill(a, q * s->d, 2 * in, 0, &seed); /* peaked attention: a wrong key would show */
        m->b[i].k = tiny_fill(a, kv * s->d, 2 * in, 0, &seed);
        m->b[i].v = tiny_fill(a, kv * s->d, in, 0, &seed);
        m->b[i].o = tiny_fill(a, s->d * q, 1 / sqrt((double)q), 0, &seed);
        m->b[i].norm2 = tiny_fill(a, s->d, .2, 1, &seed);
        m->b[i].gate = tiny_fill(a, s->ff * s->d, in, 0, &seed);
        m->b[i].up = tiny_fill(a, s->ff * s->d, in, 0, &seed);
        m->b[i].down = tiny_fill(a, s->d * s->ff, 1 / sqrt((double)s->ff), 0, &seed);
    }
}

static inline void tiny_put(struct ptq_h5 *f, const char *name, int64_t block, const float *x,
                            int64_t rows, int64_t cols)
{
    struct ptq_status st = {0};
    char path[128];
    const int64_t dim[2] = {rows, cols};
    if (block < 0)
        snprintf(path, sizeof path, "/model/%s", name);
    else
        snprintf(path, sizeof path, "/model/blk.%lld.%s", (long long)block, name);
    assert_ok(ptq_h5_write(f, path, PTQ_H5_F32, cols ? 2 : 1, dim, x, &st), &st);
}

static inline void tiny_write_head(struct ptq_h5 *f, const struct tiny_shape *s)
{
    struct ptq_status st = {0};
    const struct {
        const char *name;
        int64_t v;
    } counts[] = {{"d_model", s->d},        {"n_blocks", s->blocks},     {"n_heads", s->heads},
                  {"n_kv_heads", s->kv},    {"head_dim", s->hd},         {"d_ff", s->ff},
                  {"vocab_size", s->vocab}, {"max_context", s->context}, {"tied_head", s->tied}};
    assert_ok(ptq_h5_set_i64(f, "/", "schema", 1, &st), &st);
    assert_ok(ptq_h5_set_text(f, "/model", "architecture", "llama", &st), &st);
    assert_ok(ptq_h5_set_text(f, "/model", "name", "tiny", &st), &st);
    assert_ok(
        ptq_h5_set_text(f, "/model", "rope_layout", s->interleaved ? "interleaved" : "half", &st),
        &st);
    assert_ok(ptq_h5_set_f64(f, "/model", "rope_theta", s->theta, &st), &st);
    assert_ok(ptq_h5_set_f64(f, "/model", "norm_eps", 1e-5, &st), &st);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        assert_ok(ptq_h5_set_i64(f, "/model", counts[i].name, counts[i].v, &st), &st);
    if (s->vocab == 256)
        assert_ok(ptq_h5_set_text(f, "/tokenizer", "kind", "bytes", &st), &st);
}

static inline void tiny_write(const struct tiny *m, const char *path)
{
    const struct tiny_shape *s = &m->s;
    const int64_t q = s->heads * s->hd, kv = s->kv * s->hd;
    struct ptq_status st = {0};
    struct ptq_h5 *f;
    assert_ok(ptq_h5_open(&f, path, PTQ_H5_CREATE, &st), &st);
    tiny_write_head(f, s);
    tiny_put(f, "tok_embd", -1, m->embd, s->vocab, s->d);
    tiny_put(f, "output_norm", -1, m->out_norm, s->d, 0);
    if (!s->tied)
        tiny_put(f, "output", -1, m->out, s->vocab, s->d);
    for (int64_t i = 0; i < s->blocks; i++) {
        tiny_put(f, "attn_norm", i, m->b[i].norm1, s->d, 0);
        tiny_put(f, "attn_q", i, m->b[i].q, q, s->d);
        tiny_put(f, "attn_k", i, m->b[i].k, kv, s->d);
        tiny_put(f, "attn_v", i, m->b[i].v, kv, s->d);
        tiny_put(f, "attn_o", i, m->b[i].o, s->d, q);
        tiny_put(f, "ffn_norm", i, m->b[i].norm2, s->d, 0);
        tiny_put(f, "ffn_gate", i, m->b[i].gate, s->ff, s->d);
        tiny_put(f, "ffn_up", i, m->b[i].up, s->ff, s->d);
        tiny_put(f, "ffn_down", i, m->b[i].down, s->d, s->ff);
    }
    assert_ok(ptq_h5_close(f, &st), &st);
}

/* ---- a tiny model in a file, opened, and a text for it */

struct tiny_case {
    struct ptq_arena arena;
    struct ptq_status st;
    char dir[TEST_PATH], path[TEST_PATH];
    struct tiny tiny;
    struct ptq_model *model;
    struct ptq_text text;
    int32_t *id; /* of the text */
};

/* The head's weights are multiplied by out_scale. */
static inline void tiny_open(struct tiny_case *c, const struct tiny_shape *shape, double out_scale)
{
    memset(c, 0, sizeof *c);
    ptq_arena_init(&c->arena, 0);
    test_tmpdir(c->dir);
    test_path(c->dir, "model.h5", c->path);
    tiny_make(&c->tiny, shape, &c->arena);
    for (int64_t i = 0; i < shape->vocab * shape->d; i++)
        c->tiny.out[i] *= (float)out_scale;
    tiny_write(&c->tiny, c->path);
    assert_ok(ptq_model_open(&c->model, c->path, NULL, &c->st), &c->st);
}

/* Sequences of these lengths, of ids drawn with the seed. */
static inline void tiny_text(struct tiny_case *c, int64_t n_seq, const int64_t *len, uint64_t seed)
{
    int64_t *own_len = ptq_arena_alloc(&c->arena, NULL, n_seq, sizeof *own_len),
            *offset = ptq_arena_alloc(&c->arena, NULL, n_seq, sizeof *offset), n = 0;
    assert_true(own_len && offset);
    for (int64_t s = 0; s < n_seq; s++) {
        own_len[s] = len[s];
        offset[s] = n;
        n += len[s];
    }
    c->id = ptq_arena_alloc(&c->arena, NULL, n, sizeof *c->id);
    assert_non_null(c->id);
    for (int64_t i = 0; i < n; i++)
        c->id[i] = (int32_t)(ptq_hash_u64(seed, (uint64_t)i) % (uint64_t)c->tiny.s.vocab);
    c->text = (struct ptq_text){.tokens = {n_seq, n, own_len, offset, c->id},
                                .source = "made up",
                                .protocol = "",
                                .rules = "",
                                .key = "0123456789abcdef0123456789abcdef"};
}

static inline void tiny_close(struct tiny_case *c)
{
    ptq_model_close(c->model);
    ptq_arena_clear(&c->arena);
    test_rmdir(c->dir);
}

/* ---- the forward pass in fp64 */

static inline void tiny_product(const double *x, int64_t len, const float *w, int64_t out,
                                int64_t in, double *y)
{
    for (int64_t t = 0; t < len; t++)
        for (int64_t i = 0; i < out; i++) {
            double sum = 0;
            for (int64_t j = 0; j < in; j++)
                sum += w[i * in + j] * x[t * in + j];
            y[t * out + i] = sum;
        }
}

static inline void tiny_norm(const double *x, int64_t len, int64_t d, const float *gain, double *y)
{
    for (int64_t t = 0; t < len; t++) {
        double sum = 0;
        for (int64_t i = 0; i < d; i++)
            sum += x[t * d + i] * x[t * d + i];
        for (int64_t i = 0; i < d; i++)
            y[t * d + i] = x[t * d + i] / sqrt(sum / (double)d + 1e-5) * gain[i];
    }
}

static inline void tiny_rope(const struct tiny_shape *s, double *x, int64_t len, int64_t heads)
{
    for (int64_t t = 0; t < len; t++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t i = 0; i < s->hd / 2; i++) {
                double *v = x + (t * heads + h) * s->hd,
                       angle = (double)t / pow(s->theta, 2.0 * (double)i / (double)s->hd);
                double *a = s->interleaved ? v + 2 * i : v + i,
                       *b = s->interleaved ? v + 2 * i + 1 : v + i + s->hd / 2;
                double x0 = *a, x1 = *b;
                *a = x0 * cos(angle) - x1 * sin(angle);
                *b = x1 * cos(angle) + x0 * sin(angle);
            }
}

static inline void tiny_attention(const struct tiny_shape *s, int64_t len, const double *q,
                                  const double *k, const double *v, double *out)
{
    double *p = malloc((size_t)len * sizeof *p);
    assert_non_null(p);
    for (int64_t h = 0; h < s->heads; h++)
        for (int64_t t = 0; t < len; t++) {
            const int64_t g = h / (s->heads / s->kv);
            double sum = 0;
            for (int64_t u = 0; u <= t; u++) {
                double dot = 0;
                for (int64_t i = 0; i < s->hd; i++)
                    dot += q[(t * s->heads + h) * s->hd + i] * k[(u * s->kv + g) * s->hd + i];
                sum += p[u] = exp(dot / sqrt((double)s->hd));
            }
            for (int64_t i = 0; i < s->hd; i++) {
                double y = 0;
                for (int64_t u = 0; u <= t; u++)
                    y += p[u] / sum * v[(u * s->kv + g) * s->hd + i];
                out[(t * s->heads + h) * s->hd + i] = y;
            }
        }
    free(p);
}

/* logits (len x vocab) of one sequence; hidden, when not NULL, gets the states that enter block
 * `upto` (len x d). */
static inline void tiny_forward(const struct tiny *m, const int32_t *id, int64_t len,
                                double *logits, int64_t upto, double *hidden)
{
    const struct tiny_shape *s = &m->s;
    const int64_t d = s->d, nq = s->heads * s->hd, nkv = s->kv * s->hd;
    double *mem = calloc((size_t)(len * (3 * d + 2 * nq + 2 * nkv + 2 * s->ff)), sizeof *mem),
           *x = mem, *n = x + len * d, *y = n + len * d;
    double *q = y + len * d, *mix = q + len * nq, *k = mix + len * nq, *v = k + len * nkv,
           *g = v + len * nkv, *u = g + len * s->ff;
    assert_non_null(mem);
    for (int64_t i = 0; i < len * d; i++)
        x[i] = m->embd[id[i / d] * d + i % d];
    for (int64_t b = 0; b < s->blocks; b++) {
        if (hidden && b == upto)
            memcpy(hidden, x, (size_t)(len * d) * sizeof *x);
        tiny_norm(x, len, d, m->b[b].norm1, n);
        tiny_product(n, len, m->b[b].q, nq, d, q);
        tiny_product(n, len, m->b[b].k, nkv, d, k);
        tiny_product(n, len, m->b[b].v, nkv, d, v);
        tiny_rope(s, q, len, s->heads);
        tiny_rope(s, k, len, s->kv);
        tiny_attention(s, len, q, k, v, mix);
        tiny_product(mix, len, m->b[b].o, d, nq, y);
        for (int64_t i = 0; i < len * d; i++)
            x[i] += y[i];
        tiny_norm(x, len, d, m->b[b].norm2, n);
        tiny_product(n, len, m->b[b].gate, s->ff, d, g);
        tiny_product(n, len, m->b[b].up, s->ff, d, u);
        for (int64_t i = 0; i < len * s->ff; i++)
            g[i] = g[i] / (1 + exp(-g[i])) * u[i];
        tiny_product(g, len, m->b[b].down, d, s->ff, y);
        for (int64_t i = 0; i < len * d; i++)
            x[i] += y[i];
    }
    tiny_norm(x, len, d, m->out_norm, n);
    tiny_product(n, len, m->out, s->vocab, d, logits);
    free(mem);
}

/* ---- a model's logits by the program */

/* All sequences through all blocks, then the logits of sequence s: (len x vocab), malloc'ed. */
static inline float *model_logits(const struct ptq_model *m, const struct ptq_tokens *t, int64_t s,
                                  struct ptq_pool *pool)
{
    const struct ptq_model_info *info = ptq_model_info(m);
    struct ptq_status st = {0};
    struct ptq_arena a;
    struct ptq_hidden h;
    struct ptq_head *head;
    ptq_arena_init(&a, 0);
    assert_ok(ptq_model_embed(m, t, &a, &h, &st), &st);
    for (int b = 0; b < info->n_blocks; b++) {
        struct ptq_block block;
        assert_ok(ptq_model_load_block(m, b, &a, &block, &st), &st);
        assert_ok(ptq_block_run(m, &block, pool, &h, NULL, &st), &st);
    }
    assert_ok(ptq_model_load_head(m, &a, &head, &st), &st);
    float *logits = malloc((size_t)(t->len[s] * info->vocab_size) * sizeof *logits);
    assert_non_null(logits);
    assert_ok(
        ptq_head_logits(m, head, NULL, h.at + t->offset[s] * info->d_model, t->len[s], logits, &st),
        &st);
    ptq_arena_clear(&a);
    return logits;
}
#endif
