/* Statistics of attention (BoA, arXiv 2406.13474, Table 1) against a direct fp64 computation from
 * the definition, over what the block shows of itself: q, k, x; dense rotations; attention summed
 * key by key. The mask of the direct computation is the architecture's by its own rule, and is held
 * against the output of the model's attention. */
#include "hf_folder.h"
#include "model/attention.h"
#include "model/attnstats.h"
#include "model_cases.h"

enum { N_SEQ = 7, N_CACHED = 11 };

struct shown { /* of one sequence */
    int64_t len;
    float *q, *k, *v, *x, *mixed;
};
struct fixture {
    struct ptq_arena arena;
    struct ptq_status st;
    char dir[TEST_PATH];
    struct ptq_model *model;
    const struct ptq_model_info *info;
    struct ptq_hidden h;
    struct ptq_block block;
    struct ptq_tokens tokens;
    int64_t len[N_SEQ], offset[N_SEQ];
    struct shown s[N_SEQ];
    int64_t window;
    bool bidirectional, rotary, alibi;
};

/* ---- models */

static void *copy_of(struct fixture *f, const float *x, int64_t n)
{
    float *to = malloc((size_t)n * sizeof *to);
    assert_non_null(to);
    (void)f;
    return memcpy(to, x, (size_t)n * sizeof *to);
}

static int see_attention(void *arg, int64_t s, const struct ptq_shown_attention *a,
                         struct ptq_status *st)
{
    struct fixture *f = arg;
    const struct ptq_attention *at = a->at;
    (void)st;
    assert_true(a->rotated == f->rotary && (at->slopes != NULL) == f->alibi);
    f->s[s] = (struct shown){.len = at->len,
                             .q = copy_of(f, at->q, at->len * at->n_heads * at->head_dim),
                             .k = copy_of(f, at->k, at->len * at->n_kv_heads * at->head_dim),
                             .v = copy_of(f, at->v, at->len * at->n_kv_heads * at->head_dim),
                             .x = copy_of(f, a->x, at->len * f->info->d_model)};
    return PTQ_OK;
}

static int see(void *arg, const char *input, int64_t s, const float *x, int64_t len, int64_t d,
               struct ptq_status *st)
{
    struct fixture *f = arg;
    (void)st;
    if (strstr(input, "attn_o_in"))
        f->s[s].mixed = copy_of(f, x, len * d);
    return PTQ_OK;
}

/* The last block of the model, the states that enter it, and what it shows. `longest` tokens in the
 * longest sequence; one has a single token. */
static void open_model(struct fixture *f, const char *source, int64_t longest)
{
    int64_t n = 0;
    assert_ok(ptq_model_open(&f->model, source, NULL, &f->st), &f->st);
    f->info = ptq_model_info(f->model);
    for (int s = 0; s < N_SEQ; s++) {
        f->len[s] = s == 2 ? 1 : longest - 3 * s;
        f->offset[s] = n;
        n += f->len[s];
    }
    int32_t *id = ptq_arena_alloc(&f->arena, NULL, n, sizeof *id);
    for (int64_t i = 0; i < n; i++)
        id[i] = (int32_t)(ptq_hash_u64(6, (uint64_t)i) % (uint64_t)f->info->vocab_size);
    f->tokens = (struct ptq_tokens){N_SEQ, n, f->len, f->offset, id};
    assert_ok(ptq_model_embed(f->model, &f->tokens, &f->arena, &f->h, &f->st), &f->st);
    for (int b = 0; b < f->info->n_blocks; b++) {
        assert_ok(ptq_model_load_block(f->model, b, &f->arena, &f->block, &f->st), &f->st);
        if (b + 1 < f->info->n_blocks)
            assert_ok(ptq_block_run(f->model, &f->block, NULL, &f->h, NULL, &f->st), &f->st);
    }
    f->rotary = !strcmp(f->info->arch, "llama");
    f->alibi = !strcmp(f->info->arch, "bloom");
    f->bidirectional = !strcmp(f->info->arch, "bert");
    f->window = f->block.index >= f->info->window_from ? f->info->sliding_window : 0;
    const struct ptq_block_tap tap = {
        .see = see, .arg = f, .keep = true, .see_attention = see_attention};
    assert_ok(ptq_block_run(f->model, &f->block, NULL, &f->h, &tap, &f->st), &f->st);
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    test_tmpdir(f->dir);
}

static void open_tiny(struct fixture *f, bool interleaved, int64_t longest)
{
    const struct tiny_shape shape = {24, 2, 4, 2, 8, 40, 256, 600, interleaved, true, 100};
    struct tiny tiny;
    char path[TEST_PATH];
    begin(f);
    test_path(f->dir, "model.h5", path);
    tiny_make(&tiny, &shape, &f->arena);
    tiny_write(&tiny, path);
    open_model(f, path, longest);
}

static void open_hf(struct fixture *f, const char *name, const char *key, json_t *to,
                    int64_t longest)
{
    struct hf_checkpoint c;
    begin(f);
    hf_load(&c, name);
    if (key)
        hf_set(&c, key, to);
    hf_write(&c, f->dir, "");
    hf_release(&c);
    open_model(f, f->dir, longest);
}

static void end(struct fixture *f)
{
    for (int s = 0; s < N_SEQ; s++) {
        free(f->s[s].q);
        free(f->s[s].k);
        free(f->s[s].v);
        free(f->s[s].x);
        free(f->s[s].mixed);
    }
    ptq_model_close(f->model);
    ptq_arena_clear(&f->arena);
    test_rmdir(f->dir);
}

static const struct ptq_input_stats *made(struct fixture *f, struct ptq_pool *pool,
                                          const struct ptq_stats_options *o, const char *only)
{
    struct ptq_input_stats *s = ptq_arena_alloc(&f->arena, NULL, PTQ_MAX_STAGES, sizeof *s);
    int n;
    assert_ok(ptq_stats_block(f->model, &f->block, pool, &f->h, o, only, &f->arena, s, &n, &f->st),
              &f->st);
    const struct ptq_input_stats *in = ptq_stats_find(s, n, f->block.lin[0].input);
    for (int i = 0; i < n; i++)
        assert_true((s[i].attn != NULL) == (&s[i] == in && o->attention));
    return in;
}

/* ---- the direct computation */

/* a (len x len): the attention of a head from its definition. */
static void direct_attention(const struct fixture *f, int64_t s, int64_t head, double *a)
{
    const struct ptq_model_info *m = f->info;
    const int64_t len = f->s[s].len, hd = m->head_dim, nq = m->n_heads * hd,
                  nkv = m->n_kv_heads * hd, kv = head / (m->n_heads / m->n_kv_heads);
    /* the slopes of ALiBi for a power of two of heads, and the odd ones of twice as many behind */
    const int64_t p = m->n_heads == 3 ? 2 : 4;
    const double slope =
        head < p ? pow(2, -8. * (double)(head + 1) / (double)p) : pow(2, -4. / (double)p);
    for (int64_t t = 0; t < len; t++) {
        double sum = 0;
        for (int64_t u = 0; u < len; u++) {
            double dot = 0;
            for (int64_t i = 0; i < hd; i++)
                dot += (double)f->s[s].q[t * nq + head * hd + i] * f->s[s].k[u * nkv + kv * hd + i];
            const bool sees = (f->bidirectional || u <= t) && (!f->window || t - u < f->window);
            sum += a[t * len + u] =
                sees ? exp(dot / sqrt((double)hd) + (f->alibi ? slope * (double)(u - t) : 0)) : 0;
        }
        for (int64_t u = 0; u < len; u++)
            a[t * len + u] /= sum;
    }
}

/* The dense rotation of position l, as rows act on channels: y = R x. */
static void rotation(const struct fixture *f, int64_t l, double *r)
{
    const int64_t hd = f->info->head_dim, half = hd / 2;
    const struct ptq_rope *rope = &f->info->rope;
    memset(r, 0, (size_t)(hd * hd) * sizeof *r);
    for (int64_t i = 0; i < half; i++) {
        const double angle = (double)l * pow(rope->theta, -2. * (double)i / (double)hd);
        const int64_t a = rope->interleaved ? 2 * i : i, b = rope->interleaved ? a + 1 : a + half;
        r[a * hd + a] = r[b * hd + b] = f->rotary ? cos(angle) : 1;
        r[a * hd + b] = f->rotary ? -sin(angle) : 0;
        r[b * hd + a] = f->rotary ? sin(angle) : 0;
    }
}

/* out = mean over all tokens of R_l^T c R_l, l the token's position. */
static void direct_mean(const struct fixture *f, const double *c, double *out)
{
    const int64_t hd = f->info->head_dim;
    double *r = malloc((size_t)(2 * hd * hd) * sizeof *r), *cr = r + hd * hd;
    assert_non_null(r);
    memset(out, 0, (size_t)(hd * hd) * sizeof *out);
    for (int64_t l = 0; l < f->len[0]; l++) {
        double n = 0;
        for (int s = 0; s < N_SEQ; s++)
            n += f->len[s] > l;
        rotation(f, l, r);
        for (int64_t i = 0; i < hd; i++)
            for (int64_t j = 0; j < hd; j++) {
                cr[i * hd + j] = 0;
                for (int64_t k = 0; k < hd; k++)
                    cr[i * hd + j] += c[i * hd + k] * r[k * hd + j];
            }
        for (int64_t i = 0; i < hd; i++)
            for (int64_t j = 0; j < hd; j++)
                for (int64_t k = 0; k < hd; k++)
                    out[i * hd + j] +=
                        n / (double)f->tokens.n_total * r[k * hd + i] * cr[k * hd + j];
    }
    free(r);
}

static double largest_of(const double *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

static void check_close(const char *what, const double *got, const double *want, int64_t n,
                        double tolerance)
{
    const double scale = largest_of(want, n);
    assert_true(scale > 0);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance * scale))
            fail_msg("%s: element %lld is %.12g, expected %.12g", what, (long long)i, got[i],
                     want[i]);
}

static const float *vector_of(const struct fixture *f, const char *suffix)
{
    for (int i = 0; i < f->block.n_vectors; i++) {
        const char *name = f->block.vec[i].name, *dot = name ? strchr(name + 4, '.') : NULL;
        if (dot && !strcmp(dot + 1, suffix))
            return f->block.vec[i].at;
    }
    return NULL;
}

/* Rows of the heads' own projection: 2 / tokens sum of z z^T over heads first .. first + n - 1 of
 * an array with `heads` of them, mean over those n, averaged over rotations, between the gains. */
static void direct_rows(const struct fixture *f, bool keys, int64_t first, int64_t n, double *out)
{
    const int64_t hd = f->info->head_dim, ld = (keys ? f->info->n_kv_heads : f->info->n_heads) * hd;
    const float *gain = vector_of(f, keys ? "attn_q_norm" : "attn_k_norm");
    double *c = calloc((size_t)(hd * hd), sizeof *c);
    assert_non_null(c);
    for (int s = 0; s < N_SEQ; s++)
        for (int64_t t = 0; t < f->len[s]; t++)
            for (int64_t h = first; h < first + n; h++) {
                const float *z = (keys ? f->s[s].k : f->s[s].q) + t * ld + h * hd;
                for (int64_t i = 0; i < hd * hd; i++)
                    c[i] +=
                        2. / (double)f->tokens.n_total / (double)n * (double)z[i / hd] * z[i % hd];
            }
    direct_mean(f, c, out);
    for (int64_t i = 0; gain && i < hd * hd; i++)
        out[i] *= (double)gain[i / hd] * gain[i % hd];
    free(c);
}

/* y (len x d) = A x */
static void mix(const double *a, const float *x, int64_t len, int64_t d, int64_t ld, double *y)
{
    for (int64_t t = 0; t < len; t++)
        for (int64_t i = 0; i < d; i++) {
            y[t * d + i] = 0;
            for (int64_t u = 0; u < len; u++)
                y[t * d + i] += a[t * len + u] * x[u * ld + i];
        }
}

/* The model's own attention is A v: mask, slopes, window and scale are the model's. */
static void check_attention(const struct fixture *f)
{
    const struct ptq_model_info *m = f->info;
    const int64_t hd = m->head_dim, nq = m->n_heads * hd, group = m->n_heads / m->n_kv_heads;
    for (int s = 0; s < N_SEQ; s++) {
        const int64_t len = f->len[s];
        double *a = malloc((size_t)(len * len + len * hd) * sizeof *a), *y = a + len * len;
        assert_non_null(a);
        for (int64_t h = 0; h < m->n_heads; h++) {
            direct_attention(f, s, h, a);
            mix(a, f->s[s].v + h / group * hd, len, hd, m->n_kv_heads * hd, y);
            for (int64_t t = 0; t < len; t++)
                for (int64_t i = 0; i < hd; i++)
                    if (!(fabs(y[t * hd + i] - f->s[s].mixed[t * nq + h * hd + i]) < 2e-5))
                        fail_msg("A v of head %lld at %lld is %.9g, the model's %.9g", (long long)h,
                                 (long long)t, y[t * hd + i], f->s[s].mixed[t * nq + h * hd + i]);
        }
        free(a);
    }
}

/* q and k by the weights from x: bias, norm and rotation are in them. */
static void check_projection(const struct fixture *f, bool keys)
{
    const int64_t hd = f->info->head_dim, d = f->info->d_model;
    const struct ptq_linear *l = &f->block.lin[keys ? 1 : 0];
    const float *bias = vector_of(f, keys ? "attn_k.bias" : "attn_q.bias"),
                *gain = vector_of(f, keys ? "attn_k_norm" : "attn_q_norm");
    double *z = malloc((size_t)(hd * hd + hd) * sizeof *z), *r = z + hd;
    const int64_t t = f->len[1] - 1; /* the last token of sequence 1 */
    const float *x = f->s[1].x + t * d, *got = (keys ? f->s[1].k : f->s[1].q) + t * l->d_out;
    assert_non_null(z);
    rotation(f, t, r);
    for (int64_t h = 0; h < l->d_out / hd; h++) {
        double square = 0;
        for (int64_t i = 0; i < hd; i++) {
            z[i] = bias ? bias[h * hd + i] : 0;
            for (int64_t j = 0; j < d; j++)
                z[i] += (double)l->w[(h * hd + i) * d + j] * x[j];
            square += z[i] * z[i] / (double)hd;
        }
        for (int64_t i = 0; i < hd && gain; i++)
            z[i] *= gain[i] / sqrt(square + f->info->norm_eps);
        for (int64_t i = 0; i < hd; i++) {
            double y = 0;
            for (int64_t j = 0; j < hd; j++)
                y += r[i * hd + j] * z[j];
            assert_true(fabs(y - got[h * hd + i]) < 1e-5);
        }
    }
    free(z);
}

static void direct_columns(const struct fixture *f, int64_t kv, double *out)
{
    const struct ptq_model_info *m = f->info;
    const int64_t d = m->d_model, group = m->n_heads / m->n_kv_heads;
    memset(out, 0, (size_t)(d * (d + 1) / 2) * sizeof *out);
    for (int s = 0; s < N_SEQ; s++) {
        const int64_t len = f->len[s];
        double *a = malloc((size_t)(len * len + len * d) * sizeof *a), *y = a + len * len;
        assert_non_null(a);
        for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
            direct_attention(f, s, h, a);
            mix(a, f->s[s].x, len, d, d, y);
            for (int64_t i = 0, e = 0; i < d; i++)
                for (int64_t j = i; j < d; j++, e++)
                    for (int64_t t = 0; t < len; t++)
                        out[e] += 2. / (double)f->tokens.n_total / (double)group * y[t * d + i] *
                                  y[t * d + j];
        }
        free(a);
    }
}

static void direct_output_rows(const struct fixture *f, int64_t kv, double *out)
{
    const struct ptq_model_info *m = f->info;
    const int64_t hd = m->head_dim, nq = m->n_heads * hd, group = m->n_heads / m->n_kv_heads;
    const struct ptq_linear *o = &f->block.lin[3];
    assert_int_equal(o->role, PTQ_ROLE_O);
    memset(out, 0, (size_t)(hd * hd) * sizeof *out);
    for (int64_t h = kv * group; h < (kv + 1) * group; h++)
        for (int64_t i = 0; i < hd * hd; i++)
            for (int64_t r = 0; r < o->d_out; r++)
                out[i] += (double)o->w[r * nq + h * hd + i / hd] * o->w[r * nq + h * hd + i % hd];
}

static void check_all(const struct fixture *f, const struct ptq_attn_stats *s, double tolerance)
{
    const struct ptq_model_info *m = f->info;
    const int64_t hh = m->head_dim * m->head_dim, n = m->d_model * (m->d_model + 1) / 2,
                  group = m->n_heads / m->n_kv_heads;
    double *want = malloc((size_t)(hh > n ? hh : n) * sizeof *want);
    assert_non_null(want);
    assert_true(s->q.n_heads == m->n_heads && s->k.n_heads == m->n_kv_heads &&
                s->v.n_heads == m->n_kv_heads && s->q.head_dim == m->head_dim && !s->q.hcol &&
                !s->k.hcol);
    for (int64_t h = 0; h < m->n_heads; h++) {
        direct_rows(f, true, h / group, 1, want);
        check_close("rows of q", s->q.hrow + h * hh, want, hh, tolerance);
    }
    for (int64_t g = 0; g < m->n_kv_heads; g++) {
        direct_rows(f, false, g * group, group, want);
        check_close("rows of k", s->k.hrow + g * hh, want, hh, tolerance);
        direct_output_rows(f, g, want);
        check_close("rows of v", s->v.hrow + g * hh, want, hh, tolerance);
        direct_columns(f, g, want);
        check_close("columns of v", s->v.hcol + g * n, want, n, tolerance);
    }
    for (int64_t h = 0; h < m->n_heads; h++)
        for (int64_t i = 0; i < hh; i++)
            assert_true(s->q.hrow[h * hh + i] ==
                        s->q.hrow[h * hh + i % m->head_dim * m->head_dim + i / m->head_dim]);
    free(want);
}

/* fp64: to rounding; fp32: partials and stored values of fp32. */
static void check_model(struct fixture *f)
{
    struct ptq_stats_options o = {.sink_tokens = 1, .f64 = true, .attention = PTQ_ATTN_ALL};
    check_attention(f);
    check_projection(f, false);
    check_projection(f, true);
    check_all(f, made(f, NULL, &o, NULL)->attn, 1e-9);
    o.f64 = false;
    check_all(f, made(f, NULL, &o, NULL)->attn, 2e-6);
    end(f);
}

static void test_half_split(void **state)
{
    (void)state;
    struct fixture f;
    open_tiny(&f, false, 40);
    check_model(&f);
}

static void test_interleaved(void **state)
{
    (void)state;
    struct fixture f;
    open_tiny(&f, true, 40);
    check_model(&f);
}

/* More queries than are worked on at once. */
static void test_long_sequences(void **state)
{
    (void)state;
    struct fixture f;
    open_tiny(&f, false, 300);
    check_model(&f);
}

static void test_opt_bias(void **state)
{
    (void)state;
    static const char *const names[] = {"opt", "opt_350m", "gpt2"};
    for (int64_t i = 0; i < LENGTH(names); i++) {
        struct fixture f;
        open_hf(&f, names[i], NULL, NULL, 40);
        assert_non_null(vector_of(&f, "attn_k.bias"));
        check_model(&f);
    }
}

static void test_bloom_alibi(void **state)
{
    (void)state;
    static const char *const names[] = {"bloom", "bloom4"};
    for (int64_t i = 0; i < LENGTH(names); i++) {
        struct fixture f;
        open_hf(&f, names[i], NULL, NULL, 40);
        check_model(&f);
    }
}

static void test_window(void **state)
{
    (void)state;
    struct fixture f;
    open_hf(&f, "mistral", "max_position_embeddings", json_integer(400), 300);
    assert_int_equal(f.window, 11);
    check_model(&f);
}

static void test_normed_heads(void **state)
{
    (void)state;
    struct fixture f;
    open_hf(&f, "qwen3", NULL, NULL, 40);
    assert_non_null(vector_of(&f, "attn_q_norm"));
    check_model(&f);
}

static void test_bidirectional(void **state)
{
    (void)state;
    struct fixture f;
    open_hf(&f, "bert", NULL, NULL, 40);
    check_model(&f);
}

/* ---- properties */

/* A sums to 1 and has nothing above the diagonal. */
static void check_causal(const struct fixture *f, int64_t s, int64_t head)
{
    const struct ptq_model_info *m = f->info;
    const int64_t len = f->len[s];
    const struct ptq_attention at = {.len = len,
                                     .n_heads = m->n_heads,
                                     .n_kv_heads = m->n_kv_heads,
                                     .head_dim = m->head_dim,
                                     .q = f->s[s].q,
                                     .k = f->s[s].k,
                                     .window = f->window};
    struct ptq_status st = {0};
    double *a = malloc((size_t)(len * len) * sizeof *a),
           *want = malloc((size_t)(len * len) * sizeof *want);
    assert_true(a && want);
    direct_attention(f, s, head, want);
    for (int64_t t0 = 0; t0 < len; t0 += 13) {
        struct ptq_attn_rows r = {.head = head, .t0 = t0, .n = len - t0 < 13 ? len - t0 : 13};
        assert_ok(ptq_attn_weights_f64(NULL, &at, &r, a, &st), &st);
        for (int64_t t = t0; t < t0 + r.n; t++) {
            double sum = 0;
            for (int64_t u = 0; u < len; u++) {
                const double v =
                    u >= r.first && u < r.first + r.cols ? a[(t - t0) * r.cols + u - r.first] : 0;
                assert_true(u <= t ? v >= 0 : v == 0);
                assert_true(fabs(v - want[t * len + u]) < 1e-12);
                sum += v;
            }
            assert_true(fabs(sum - 1) < 1e-14);
        }
    }
    free(a);
    free(want);
}

static void test_no_mass_above_the_diagonal(void **state)
{
    (void)state;
    struct fixture f;
    open_hf(&f, "mistral", NULL, NULL, 40);
    for (int64_t h = 0; h < f.info->n_heads; h++)
        check_causal(&f, 1, h);
    end(&f);
    open_tiny(&f, false, 40);
    check_causal(&f, 2, 0);
    check_causal(&f, 0, 3);
    end(&f);
}

/* The value Hessian is exact: a change dW of the values of a kv head changes the mixed values of
 * its query heads by dW X A^T. */
static void test_value_hessian_is_exact(void **state)
{
    (void)state;
    struct fixture f;
    open_tiny(&f, false, 40);
    const struct ptq_model_info *m = f.info;
    const int64_t d = m->d_model, n = d * (d + 1) / 2, hd = m->head_dim;
    const struct ptq_stats_options o = {.f64 = true, .attention = PTQ_ATTN_ALL};
    const struct ptq_attn_stats *s = made(&f, NULL, &o, NULL)->attn;
    double by_hessian = 0, direct = 0, dw[24];
    for (int64_t row = 0; row < m->n_kv_heads * hd; row++) {
        const double *hcol = s->v.hcol + row / hd * n;
        for (int64_t i = 0; i < d; i++)
            dw[i] = ptq_normal(99, (uint64_t)(row * d + i));
        for (int64_t i = 0, e = 0; i < d; i++)
            for (int64_t j = i; j < d; j++, e++)
                by_hessian += (i == j ? 1 : 2) * dw[i] * hcol[e] * dw[j];
        for (int q = 0; q < N_SEQ; q++) {
            const int64_t len = f.len[q];
            double *a = malloc((size_t)(len * len) * sizeof *a);
            assert_non_null(a);
            for (int64_t h = row / hd * 2; h < row / hd * 2 + 2; h++) { /* two query heads a kv */
                direct_attention(&f, q, h, a);
                for (int64_t t = 0; t < len; t++) {
                    double y = 0;
                    for (int64_t u = 0; u < len; u++)
                        for (int64_t i = 0; i < d; i++)
                            y += a[t * len + u] * f.s[q].x[u * d + i] * dw[i];
                    direct += y * y / 2; /* mean over the two */
                }
            }
            free(a);
        }
    }
    direct *= 2. / (double)f.tokens.n_total;
    assert_true(fabs(by_hessian - direct) < 1e-9 * direct);
    end(&f);
}

static void same_attn(const struct ptq_attn *a, const struct ptq_attn *b, int64_t d)
{
    assert_true(a->n_heads == b->n_heads && a->head_dim == b->head_dim && a->key == b->key);
    assert_memory_equal(a->hrow, b->hrow,
                        (size_t)(a->n_heads * a->head_dim * a->head_dim) * sizeof(double));
    assert_true((a->hcol != NULL) == (b->hcol != NULL));
    if (a->hcol)
        assert_memory_equal(a->hcol, b->hcol,
                            (size_t)(a->n_heads * d * (d + 1) / 2) * sizeof(double));
}

static void same_stats(const struct ptq_input_stats *a, const struct ptq_input_stats *b)
{
    same_attn(&a->attn->q, &b->attn->q, a->d_in);
    same_attn(&a->attn->k, &b->attn->k, a->d_in);
    same_attn(&a->attn->v, &b->attn->v, a->d_in);
    assert_true(a->n_cached == b->n_cached && a->d_cached == b->d_cached);
    const size_t bytes = (size_t)(a->n_cached * a->d_cached) * sizeof(float);
    if (bytes) {
        assert_memory_equal(a->kcache, b->kcache, bytes);
        assert_memory_equal(a->vcache, b->vcache, bytes);
    }
}

/* The same bits on any number of threads (more than kv heads, too), with the input alone, and with
 * the other statistics as they are without attention. */
static void test_threads_and_only(void **state)
{
    (void)state;
    struct fixture f;
    open_tiny(&f, false, 300);
    const struct ptq_stats_options o = {
        .sink_tokens = 1, .n_acts = 5, .attention = PTQ_ATTN_ALL, .n_cached = N_CACHED};
    const struct ptq_input_stats *one = made(&f, NULL, &o, NULL), *more;
    for (int threads = 2; threads <= 3; threads++) {
        struct ptq_pool *pool;
        assert_ok(ptq_pool_new(&pool, threads, &f.st), &f.st);
        more = made(&f, pool, &o, threads == 2 ? NULL : f.block.lin[0].input);
        same_stats(one, more);
        ptq_pool_free(pool);
    }
    const struct ptq_stats_options without = {.sink_tokens = 1, .n_acts = 5};
    const struct ptq_input_stats *plain = made(&f, NULL, &without, NULL);
    assert_true(plain->key == one->key && !plain->kcache);
    assert_memory_equal(plain->acts, one->acts, (size_t)(5 * plain->d_in) * sizeof(float));
    struct ptq_input_stats other[PTQ_MAX_STAGES]; /* another input alone: no attention is seen */
    int n;
    assert_ok(ptq_stats_block(f.model, &f.block, NULL, &f.h, &o, f.block.lin[3].input, &f.arena,
                              other, &n, &f.st),
              &f.st);
    assert_true(n == 1 && !other[0].attn && !other[0].kcache);
    end(&f);
}

static void test_layers_see_it(void **state)
{
    (void)state;
    struct fixture f;
    open_tiny(&f, false, 40);
    const struct ptq_stats_options o = {.attention = PTQ_ATTN_ROWS};
    const struct ptq_input_stats *s = made(&f, NULL, &o, NULL);
    const struct ptq_attn *want[] = {&s->attn->q, &s->attn->k, &s->attn->v};
    assert_null(s->attn->v.hcol);
    for (int i = 0; i < 3; i++) {
        struct ptq_layer l;
        ptq_layer_from_model(&f.block.lin[i], 1, s, &l);
        assert_ptr_equal(l.attn, want[i]);
    }
    struct ptq_linear other = f.block.lin[1];
    struct ptq_layer l;
    other.d_out += f.info->head_dim; /* statistics of another model */
    ptq_layer_from_model(&other, 1, s, &l);
    assert_null(l.attn);
    end(&f);
}

/* Keys (rotated) and values at the middles of equal parts of the text. */
static void test_caches(void **state)
{
    (void)state;
    struct fixture f;
    open_tiny(&f, false, 40);
    const struct ptq_stats_options o = {.n_cached = N_CACHED};
    const struct ptq_input_stats *s = made(&f, NULL, &o, NULL);
    const int64_t d = f.info->n_kv_heads * f.info->head_dim;
    assert_true(s->n_cached == N_CACHED && s->d_cached == d && !s->attn);
    for (int64_t i = 0; i < N_CACHED; i++) {
        int64_t row = (2 * i + 1) * f.tokens.n_total / (2 * N_CACHED), q = 0;
        while (row >= f.len[q])
            row -= f.len[q++];
        assert_memory_equal(s->kcache + i * d, f.s[q].k + row * d, (size_t)d * sizeof(float));
        assert_memory_equal(s->vcache + i * d, f.s[q].v + row * d, (size_t)d * sizeof(float));
    }
    end(&f);
}

/* ---- files */

static void test_file_round_trip(void **state)
{
    (void)state;
    struct fixture f;
    char path[TEST_PATH];
    open_tiny(&f, false, 40);
    for (int i = 0; i < 3; i++) {
        const struct ptq_stats_options o = {.sink_tokens = 1,
                                            .f64 = i == 1,
                                            .attention = i == 2 ? PTQ_ATTN_ROWS : PTQ_ATTN_ALL,
                                            .n_cached = N_CACHED};
        const struct ptq_input_stats *s = made(&f, NULL, &o, NULL);
        struct ptq_input_stats read;
        struct ptq_h5 *h5;
        test_path(f.dir, "s.h5", path);
        assert_ok(ptq_h5_open(&h5, path, PTQ_H5_CREATE, &f.st), &f.st);
        assert_ok(ptq_stats_write_input(h5, "calib", s, o.f64, &f.st), &f.st);
        assert_ok(ptq_stats_read_input(h5, "calib", s->name, &f.arena, &read, &f.st), &f.st);
        same_stats(s, &read);
        assert_ok(ptq_h5_close(h5, &f.st), &f.st);
    }
    end(&f);
}

static void capture(struct fixture *f, const struct ptq_stats_options *o, const char *out, int want)
{
    const struct ptq_text text = {.tokens = f->tokens,
                                  .source = "made up",
                                  .protocol = "",
                                  .rules = "",
                                  .key = "0123456789abcdef0123456789abcdef"};
    const struct ptq_capture_args a = {.model = f->model,
                                       .text = &text,
                                       .options = o,
                                       .out_path = out,
                                       .name = "calib",
                                       .quiet = true,
                                       .memory_bytes = want == PTQ_ERR_MEMORY ? 1000 : 1 << 30};
    assert_int_equal(ptq_capture(&a, &f->st), want);
}

static void test_capture(void **state)
{
    (void)state;
    struct fixture f;
    char path[TEST_PATH], plain[TEST_PATH];
    struct ptq_h5 *h5;
    struct ptq_input_stats read;
    int64_t v;
    open_tiny(&f, false, 40);
    test_path(f.dir, "s.h5", path);
    test_path(f.dir, "plain.h5", plain);
    struct ptq_stats_options o = {
        .sink_tokens = 1, .attention = PTQ_ATTN_ALL, .n_cached = N_CACHED};
    capture(&f, &o, path, PTQ_ERR_MEMORY);
    assert_status(&f.st, PTQ_ERR_MEMORY, "2 kv heads x 24^2");
    assert_status(&f.st, PTQ_ERR_MEMORY, "--block-v off");
    ptq_status_clear(&f.st);
    assert_int_equal(access(path, F_OK), -1); /* nothing was written */
    capture(&f, &o, path, PTQ_OK);
    const struct ptq_input_stats *s = made(&f, NULL, &o, NULL);
    /* goes on behind block 0, and makes the same */
    assert_ok(ptq_h5_open(&h5, path, PTQ_H5_APPEND, &f.st), &f.st);
    assert_ok(ptq_h5_set_i64(h5, "/stats/calib", "blocks_done", 1, &f.st), &f.st);
    const int64_t dim[2] = {2, 300};
    assert_ok(ptq_h5_write(h5, "/stats/calib/blk.1.attn_in/attn_v_cols", PTQ_H5_F32, 2, dim,
                           (float[600]){1}, &f.st),
              &f.st);
    assert_ok(ptq_h5_close(h5, &f.st), &f.st);
    capture(&f, &o, path, PTQ_OK);
    assert_ok(ptq_h5_open(&h5, path, PTQ_H5_READ, &f.st), &f.st);
    assert_ok(ptq_stats_read_input(h5, "calib", s->name, &f.arena, &read, &f.st), &f.st);
    same_stats(s, &read);
    assert_ok(ptq_h5_close(h5, &f.st), &f.st);
    /* other requests */
    o.attention = PTQ_ATTN_ROWS;
    capture(&f, &o, path, PTQ_ERR_USAGE);
    ptq_status_clear(&f.st);
    o.attention = PTQ_ATTN_NONE;
    o.n_cached = 0;
    capture(&f, &o, path, PTQ_ERR_USAGE);
    ptq_status_clear(&f.st);
    /* without: no trace of it in the file */
    capture(&f, &o, plain, PTQ_OK);
    assert_ok(ptq_h5_open(&h5, plain, PTQ_H5_READ, &f.st), &f.st);
    assert_int_equal(ptq_h5_get_i64(h5, "/stats/calib", "attention", &v, &f.st), PTQ_SKIP);
    assert_int_equal(ptq_h5_get_i64(h5, "/stats/calib", "n_cached", &v, &f.st), PTQ_SKIP);
    assert_ok(ptq_stats_read_input(h5, "calib", s->name, &f.arena, &read, &f.st), &f.st);
    assert_true(!read.attn && !read.kcache && read.key == s->key);
    assert_ok(ptq_h5_close(h5, &f.st), &f.st);
    end(&f);
}

static void expect_bad(struct fixture *f, struct ptq_h5 *h5, int code, const char *text)
{
    struct ptq_input_stats read;
    assert_int_equal(ptq_stats_read_input(h5, "calib", "blk.1.attn_in", &f->arena, &read, &f->st),
                     code);
    assert_status(&f->st, code, text);
    ptq_status_clear(&f->st);
}

static void test_bad_files(void **state)
{
    (void)state;
    struct fixture f;
    struct ptq_h5 *h5;
    char path[TEST_PATH];
    static const char group[] = "/stats/calib/blk.1.attn_in",
                      cols[] = "/stats/calib/blk.1.attn_in/attn_v_cols",
                      cache[] = "/stats/calib/blk.1.attn_in/vcache";
    float junk[900] = {1};
    open_tiny(&f, false, 40);
    test_path(f.dir, "s.h5", path);
    const struct ptq_stats_options o = {.attention = PTQ_ATTN_ALL, .n_cached = N_CACHED};
    capture(&f, &o, path, PTQ_OK);
    assert_ok(ptq_h5_open(&h5, path, PTQ_H5_APPEND, &f.st), &f.st);
    static const int64_t head_dims[] = {0, -3, 7, 9, INT64_MAX, 1 << 20};
    for (int64_t i = 0; i < LENGTH(head_dims); i++) {
        assert_ok(ptq_h5_set_i64(h5, group, "head_dim", head_dims[i], &f.st), &f.st);
        expect_bad(&f, h5, PTQ_ERR_USAGE,
                   i < 2 || i == 4 ? "the attribute head_dim" : "packed triangle");
    }
    assert_ok(ptq_h5_set_i64(h5, group, "head_dim", 8, &f.st), &f.st);
    assert_ok(ptq_h5_write(h5, cols, PTQ_H5_F32, 2, (int64_t[]){3, 300}, junk, &f.st), &f.st);
    expect_bad(&f, h5, PTQ_ERR_USAGE, "attn_v_cols is no matrix");
    junk[301] = NAN;
    assert_ok(ptq_h5_write(h5, cols, PTQ_H5_F32, 2, (int64_t[]){2, 300}, junk, &f.st), &f.st);
    expect_bad(&f, h5, PTQ_ERR_NUMERIC, "not finite at element 301");
    junk[301] = 0;
    assert_ok(ptq_h5_write(h5, cols, PTQ_H5_F32, 2, (int64_t[]){2, 300}, junk, &f.st), &f.st);
    assert_ok(ptq_h5_write(h5, cache, PTQ_H5_F32, 2, (int64_t[]){N_CACHED + 1, 16}, junk, &f.st),
              &f.st);
    expect_bad(&f, h5, PTQ_ERR_USAGE, "vcache is not a matrix");
    assert_ok(ptq_h5_close(h5, &f.st), &f.st);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_split),
        cmocka_unit_test(test_interleaved),
        cmocka_unit_test(test_long_sequences),
        cmocka_unit_test(test_opt_bias),
        cmocka_unit_test(test_bloom_alibi),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_normed_heads),
        cmocka_unit_test(test_bidirectional),
        cmocka_unit_test(test_no_mass_above_the_diagonal),
        cmocka_unit_test(test_value_hessian_is_exact),
        cmocka_unit_test(test_threads_and_only),
        cmocka_unit_test(test_layers_see_it),
        cmocka_unit_test(test_caches),
        cmocka_unit_test(test_file_round_trip),
        cmocka_unit_test(test_capture),
        cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
