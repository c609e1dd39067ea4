#include "model/stats.h"
#include "core/clones.h"
#include "core/hash.h"
#include "core/linalg.h"
#include "core/size.h"
#include "model/attention.h"
#include "model/attnstats.h"
#include "model/internal.h"
#include "model/ops.h"
#include "model/shards.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Slots hold a fp32 matrix each: several a thread only where they are small. Their number cannot
 * change a sum. */
enum { SLOTS_A_THREAD = 4, SMALL_INPUT = 4096, ROWS_A_PIECE = 16 };

/* Sums of one sequence for one input, in a slot of the wave; added up in sequence order when the
 * wave is over. */
struct partial {
    float *gram;    /* (d x d) X^T X of the tokens behind the sink class in fp32, or NULL: */
    double *gram64; /* the same in fp64 (option f64) */
    float *sink;    /* (n_sink x d) the first tokens themselves */
    int64_t n_sink;
    double *sumabs, *sum; /* [d] */
    float *absmax;        /* [d] */
    /* beside a full-precision walk, else NULL: */
    float *ahead; /* (len x d) its inputs, then less ours */
    float *cross; /* (d x d) ahead^T X in fp32, or NULL: */
    double *cross64;
};

struct job {
    const struct ptq_hidden *hidden;
    const struct ptq_stats_options *o;
    struct ptq_input_stats *out;
    int n_inputs;
    int64_t wave;            /* first sequence of the wave in hand */
    int64_t n_slots, n_wave; /* slots there are; sequences in the wave */
    struct partial *slot;    /* [n_slots][n_inputs] */
    double *sumabs[PTQ_MAX_STAGES], *sum[PTQ_MAX_STAGES];
    const int64_t *before; /* [n_seq] tokens before a sequence */
    int64_t n_tokens;
    int adding;                       /* input whose slots are being added */
    struct ptq_input_stats *attended; /* input of q, k and v, where attention is looked at */
    struct ptq_attnsum *attn;         /* NULL: no statistics of it */
};

/* Row of the j-th sample: the middle of the j-th of n equal parts of the text. */
static int64_t sample_row(int64_t j, int64_t n, int64_t n_tokens)
{
    return n >= n_tokens ? j : (int64_t)((2 * (double)j + 1) * (double)n_tokens / (2 * (double)n));
}

/* ---- one sequence */

/* Rows begin .. end - 1 of g += x x^T; products of two floats are exact in fp64. */
PTQ_CLONES static void outer_add(const float *x, int64_t d, int64_t begin, int64_t end, double *g)
{
    for (int64_t i = begin; i < end; i++) {
        double xi = x[i];
        for (int64_t j = 0; j < d; j++)
            g[i * d + j] += xi * x[j];
    }
}

PTQ_CLONES static void moments_add(const float *x, int64_t d, double *sum, double *sumabs,
                                   float *absmax)
{
    for (int64_t i = 0; i < d; i++) {
        float a = fabsf(x[i]);
        sum[i] += x[i];
        sumabs[i] += a;
        absmax[i] = a > absmax[i] ? a : absmax[i];
    }
}

static int gram_f32(const float *x, int64_t len, int64_t d, float *g, struct ptq_status *st)
{
    if (len > 0)
        return ptq_syrk_f32(NULL, x, len, d, d, g, d, st);
    memset(g, 0, (size_t)(d * d) * sizeof *g);
    return PTQ_OK;
}

static int gram_f64(const float *x, int64_t len, int64_t d, double *g, struct ptq_status *st)
{
    if (len <= 0) {
        memset(g, 0, (size_t)(d * d) * sizeof *g);
        return PTQ_OK;
    }
    double *wide = malloc((size_t)(len * d) * sizeof *wide);
    if (!wide)
        return ptq_status_nomem(st, "a sequence in fp64", (size_t)(len * d) * sizeof *wide);
    for (int64_t i = 0; i < len * d; i++)
        wide[i] = x[i];
    int rc = ptq_syrk_f64(NULL, wide, len, d, d, g, d, st);
    free(wide);
    return rc;
}

/* Those of the n samples (rows of d) that lie in sequence s, x (len x d). */
static int cross_f64(const struct partial *p, const float *x, int64_t len, int64_t d,
                     struct ptq_status *st)
{
    double *wide = malloc((size_t)(2 * len * d) * sizeof *wide), *ahead = wide + len * d;
    if (!wide)
        return ptq_status_nomem(st, "a sequence in fp64", (size_t)(2 * len * d) * sizeof *wide);
    for (int64_t i = 0; i < len * d; i++) {
        wide[i] = x[i];
        ahead[i] = (double)p->ahead[i] - x[i];
    }
    const struct ptq_gemm_f64 g = {.m = d,
                                   .n = d,
                                   .k = len,
                                   .ta = true,
                                   .alpha = 1,
                                   .a = ahead,
                                   .lda = d,
                                   .b = wide,
                                   .ldb = d,
                                   .c = p->cross64,
                                   .ldc = d};
    int rc = ptq_gemm_f64(NULL, &g, st);
    free(wide);
    return rc;
}

static int cross_f32(const struct partial *p, const float *x, int64_t len, int64_t d,
                     struct ptq_status *st)
{
    for (int64_t i = 0; i < len * d; i++)
        p->ahead[i] -= x[i];
    const struct ptq_gemm_f32 g = {.m = d,
                                   .n = d,
                                   .k = len,
                                   .ta = true,
                                   .alpha = 1,
                                   .a = p->ahead,
                                   .lda = d,
                                   .b = x,
                                   .ldb = d,
                                   .c = p->cross,
                                   .ldc = d};
    return ptq_gemm_f32(NULL, &g, st);
}

static void take_samples(const struct job *j, int64_t s, const float *x, int64_t len, int64_t d,
                         int64_t n, float *to)
{
    /* Samples ascend, so those of this sequence are a run; its start is near n before / n_tokens.
     */
    int64_t first = j->before[s];
    int64_t k = (int64_t)((double)first * (double)n / (double)j->n_tokens);
    while (k > 0 && sample_row(k - 1, n, j->n_tokens) >= first)
        k--;
    for (; k < n && sample_row(k, n, j->n_tokens) < first + len; k++)
        if (sample_row(k, n, j->n_tokens) >= first)
            memcpy(to + k * d, x + (sample_row(k, n, j->n_tokens) - first) * d,
                   (size_t)d * sizeof *x);
}

static int input_index(const struct job *j, const char *input)
{
    int i = 0;
    while (strcmp(j->out[i].name, input) != 0)
        i++;
    return i;
}

/* The full-precision model's input of the same tokens comes first. */
static int see_ahead(void *arg, const char *input, int64_t s, const float *x, int64_t len,
                     int64_t d, struct ptq_status *st)
{
    struct job *j = arg;
    (void)st;
    memcpy(j->slot[s * j->n_inputs + input_index(j, input)].ahead, x,
           (size_t)(len * d) * sizeof *x);
    return PTQ_OK;
}

static int see(void *arg, const char *input, int64_t s, const float *x, int64_t len, int64_t d,
               struct ptq_status *st)
{
    struct job *j = arg;
    const int i = input_index(j, input);
    struct partial *p = &j->slot[s * j->n_inputs + i];
    p->n_sink = len < j->o->sink_tokens ? len : j->o->sink_tokens;
    memcpy(p->sink, x, (size_t)(p->n_sink * d) * sizeof *x);
    memset(p->sum, 0, (size_t)d * sizeof *p->sum);
    memset(p->sumabs, 0, (size_t)d * sizeof *p->sumabs);
    memset(p->absmax, 0, (size_t)d * sizeof *p->absmax);
    for (int64_t t = 0; t < len; t++)
        moments_add(x + t * d, d, p->sum, p->sumabs, p->absmax);
    take_samples(j, j->wave + s, x, len, d, j->out[i].n_acts, j->out[i].acts);
    const float *rest = x + p->n_sink * d;
    int rc = !p->ahead  ? PTQ_OK
             : p->cross ? cross_f32(p, x, len, d, st)
                        : cross_f64(p, x, len, d, st);
    if (rc)
        return rc;
    return p->gram ? gram_f32(rest, len - p->n_sink, d, p->gram, st)
                   : gram_f64(rest, len - p->n_sink, d, p->gram64, st);
}

static int see_attention(void *arg, int64_t s, const struct ptq_shown_attention *shown,
                         struct ptq_status *st)
{
    struct job *j = arg;
    struct ptq_input_stats *out = j->attended;
    const struct ptq_attention *at = shown->at;
    (void)st;
    if (out->n_cached) {
        take_samples(j, j->wave + s, at->k, at->len, out->d_cached, out->n_cached, out->kcache);
        take_samples(j, j->wave + s, at->v, at->len, out->d_cached, out->n_cached, out->vcache);
    }
    if (j->attn)
        ptq_attnsum_keep(j->attn, s, shown);
    return PTQ_OK;
}

/* ---- adding a wave up */

static void add_shard(const struct job *j, struct ptq_input_stats *out, int64_t s,
                      const struct partial *p, int64_t begin, int64_t end)
{
    const struct ptq_shard_part part = {p->gram, p->gram64, p->sink, p->n_sink};
    const int64_t n_seq = j->hidden->tokens->n_seq;
    ptq_shards_add(out, ptq_shard_of(j->wave + s, n_seq, out->n_shards), &part, begin, end);
}

static void add_rows(void *arg, int64_t begin, int64_t end)
{
    struct job *j = arg;
    struct ptq_input_stats *out = &j->out[j->adding];
    const int64_t d = out->d_in, at = begin * d, n = (end - begin) * d;
    for (int64_t s = 0; s < j->n_wave; s++) {
        const struct partial *p = &j->slot[s * j->n_inputs + j->adding];
        if (p->gram)
            ptq_sum_f32(out->hess_rest + at, p->gram + at, n);
        else
            ptq_sum_f64(out->hess_rest + at, p->gram64 + at, n);
        if (p->cross)
            ptq_sum_f32(out->cross + at, p->cross + at, n);
        if (p->cross64)
            ptq_sum_f64(out->cross + at, p->cross64 + at, n);
        for (int64_t t = 0; t < p->n_sink; t++)
            outer_add(p->sink + t * d, d, begin, end, out->hess_sink);
        if (out->n_shards)
            add_shard(j, out, s, p, begin, end);
        ptq_sum_f64(j->sum[j->adding] + begin, p->sum + begin, end - begin);
        ptq_sum_f64(j->sumabs[j->adding] + begin, p->sumabs + begin, end - begin);
        for (int64_t c = begin; c < end; c++)
            out->absmax[c] = p->absmax[c] > out->absmax[c] ? p->absmax[c] : out->absmax[c];
    }
}

static int run_ahead(struct job *j, const struct ptq_model *m, struct ptq_pool *pool,
                     const struct ptq_tokens *part, const char *only, struct ptq_status *st)
{
    const struct ptq_block_tap tap = {.see = see_ahead,
                                      .arg = j,
                                      .only = only,
                                      .keep = true,
                                      .stop = j->o->stop,
                                      .stop_arg = j->o->stop_arg};
    struct ptq_hidden view = *j->o->fp->hidden;
    view.tokens = part;
    return ptq_block_run(m, j->o->fp->block, pool, &view, &tap, st);
}

static int run_waves(struct job *j, const struct ptq_model *m, const struct ptq_block *b,
                     struct ptq_pool *pool, const char *only, struct ptq_status *st)
{
    const struct ptq_tokens *all = j->hidden->tokens;
    const struct ptq_block_tap tap = {see,
                                      j,
                                      only,
                                      !j->o->advance,
                                      j->o->stop,
                                      j->o->stop_arg,
                                      j->attended ? see_attention : NULL};
    for (j->wave = 0; j->wave < all->n_seq; j->wave += j->n_wave) {
        j->n_wave = all->n_seq - j->wave < j->n_slots ? all->n_seq - j->wave : j->n_slots;
        struct ptq_tokens part = {j->n_wave, all->n_total, all->len + j->wave,
                                  all->offset + j->wave, all->id};
        struct ptq_hidden view = *j->hidden;
        int rc = j->o->fp ? run_ahead(j, m, pool, &part, only, st) : PTQ_OK;
        view.tokens = &part;
        if (rc || (rc = ptq_block_run(m, b, pool, &view, &tap, st)))
            return rc;
        for (j->adding = 0; j->adding < j->n_inputs; j->adding++)
            ptq_pool_for(pool, j->out[j->adding].d_in, ROWS_A_PIECE, add_rows, j);
        if (j->attn && (rc = ptq_attnsum_add(j->attn, pool, j->n_wave, st)))
            return rc;
    }
    return PTQ_OK;
}

/* ---- memory and the end */

static int list_inputs(const struct ptq_block *b, const char *only,
                       const struct ptq_stats_options *o, int64_t n_tokens, struct ptq_arena *arena,
                       struct ptq_input_stats *out, int *n, struct ptq_status *st)
{
    *n = 0;
    for (int k = 0; k < b->n_linears; k++) {
        const struct ptq_linear *l = &b->lin[k];
        if ((only && strcmp(only, l->input) != 0) || ptq_stats_find(out, *n, l->input))
            continue;
        assert(*n < PTQ_MAX_STAGES);
        int64_t d = l->d_in, dd;
        if (!ptq_size_mul(d, d, &dd))
            return ptq_status_set(st, PTQ_ERR_MEMORY, "the Hessian of %s overflows", l->input);
        struct ptq_input_stats *s = &out[(*n)++];
        *s = (struct ptq_input_stats){
            .name = ptq_arena_strdup(arena, st, l->input), .d_in = d, .norm = PTQ_NORM_TOKEN};
        s->n_acts = o->n_acts < n_tokens ? o->n_acts : n_tokens;
        s->hess = ptq_arena_alloc(arena, st, dd, sizeof *s->hess);
        s->hess_sink = ptq_arena_alloc(arena, st, dd, sizeof *s->hess_sink);
        s->hess_rest = ptq_arena_alloc(arena, st, dd, sizeof *s->hess_rest);
        s->absmax = ptq_arena_alloc(arena, st, d, sizeof *s->absmax);
        s->absmean = ptq_arena_alloc(arena, st, d, sizeof *s->absmean);
        s->mean = ptq_arena_alloc(arena, st, d, sizeof *s->mean);
        s->acts = ptq_arena_alloc(arena, st, s->n_acts, (size_t)d * sizeof *s->acts);
        if (o->fp && !(s->cross = ptq_arena_alloc(arena, st, dd, sizeof *s->cross)))
            return PTQ_ERR_MEMORY;
        if (!s->name || !s->hess || !s->hess_sink || !s->hess_rest || !s->absmax || !s->absmean ||
            !s->mean || !s->acts)
            return PTQ_ERR_MEMORY;
    }
    if (*n == 0)
        return ptq_status_set(st, PTQ_ERR_USAGE, "block %d has no input %s", b->index,
                              only ? only : "at all");
    return PTQ_OK;
}

int64_t ptq_stats_slots(int64_t widest, int64_t n_seq, int threads)
{
    const int64_t n = (int64_t)threads * (widest <= SMALL_INPUT ? SLOTS_A_THREAD : 1);
    return n < n_seq ? n : n_seq;
}

static int make_cross(struct partial *p, int64_t len, int64_t d, bool f64, struct ptq_arena *own,
                      struct ptq_status *st)
{
    p->ahead = ptq_arena_alloc(own, st, len, (size_t)d * sizeof *p->ahead);
    if (f64)
        p->cross64 = ptq_arena_alloc(own, st, d, (size_t)d * sizeof *p->cross64);
    else
        p->cross = ptq_arena_alloc(own, st, d, (size_t)d * sizeof *p->cross);
    return p->ahead && (p->cross || p->cross64) ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int make_slots(struct job *j, int threads, struct ptq_arena *own, struct ptq_status *st)
{
    int64_t longest = 0, widest = 0;
    for (int64_t s = 0; s < j->hidden->tokens->n_seq; s++)
        longest = j->hidden->tokens->len[s] > longest ? j->hidden->tokens->len[s] : longest;
    for (int i = 0; i < j->n_inputs; i++)
        widest = j->out[i].d_in > widest ? j->out[i].d_in : widest;
    const int64_t n_sink = longest < j->o->sink_tokens ? longest : j->o->sink_tokens;
    j->n_slots = ptq_stats_slots(widest, j->hidden->tokens->n_seq, threads);
    j->slot = ptq_arena_alloc(own, st, j->n_slots * j->n_inputs, sizeof *j->slot);
    if (!j->slot)
        return PTQ_ERR_MEMORY;
    for (int64_t k = 0; k < j->n_slots * j->n_inputs; k++) {
        const int64_t d = j->out[k % j->n_inputs].d_in;
        struct partial *p = &j->slot[k];
        if (j->o->f64)
            p->gram64 = ptq_arena_alloc(own, st, d * d, sizeof *p->gram64);
        else
            p->gram = ptq_arena_alloc(own, st, d * d, sizeof *p->gram);
        p->sink = ptq_arena_alloc(own, st, n_sink * d, sizeof *p->sink);
        p->sumabs = ptq_arena_alloc(own, st, d, sizeof *p->sumabs);
        p->sum = ptq_arena_alloc(own, st, d, sizeof *p->sum);
        p->absmax = ptq_arena_alloc(own, st, d, sizeof *p->absmax);
        if (!(p->gram || p->gram64) || !p->sink || !p->sumabs || !p->sum || !p->absmax)
            return PTQ_ERR_MEMORY;
        if (j->o->fp && make_cross(p, longest, d, j->o->f64, own, st))
            return PTQ_ERR_MEMORY;
    }
    for (int i = 0; i < j->n_inputs; i++) {
        j->sumabs[i] = ptq_arena_alloc(own, st, j->out[i].d_in, sizeof(double));
        j->sum[i] = ptq_arena_alloc(own, st, j->out[i].d_in, sizeof(double));
        if (!j->sumabs[i] || !j->sum[i])
            return PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
}

/* The attention that the block's q, k and v lead to, where it is asked for and their input is one
 * of ours. */
static int attend(struct job *j, const struct ptq_model *m, const struct ptq_block *b,
                  struct ptq_arena *arena, struct ptq_arena *own, struct ptq_status *st)
{
    const struct ptq_model_info *info = ptq_model_info(m);
    struct ptq_input_stats *s = NULL;
    for (int k = 0; k < b->n_linears; k++)
        for (int i = 0; i < j->n_inputs && b->lin[k].role == PTQ_ROLE_Q; i++)
            if (!strcmp(j->out[i].name, b->lin[k].input))
                s = &j->out[i];
    if (!s || (j->o->attention == PTQ_ATTN_NONE && j->o->n_cached == 0))
        return PTQ_OK;
    j->attended = s;
    s->d_cached = info->n_kv_heads * info->head_dim;
    s->n_cached = j->o->n_cached < j->n_tokens ? j->o->n_cached : j->n_tokens;
    const size_t row = (size_t)s->d_cached * sizeof(float);
    if (s->n_cached && (!(s->kcache = ptq_arena_alloc(arena, st, s->n_cached, row)) ||
                        !(s->vcache = ptq_arena_alloc(arena, st, s->n_cached, row))))
        return PTQ_ERR_MEMORY;
    const struct ptq_attnsum_args a = {m, b, j->hidden->tokens, j->o, j->n_slots, arena};
    return j->o->attention == PTQ_ATTN_NONE ? PTQ_OK : ptq_attnsum_new(&j->attn, &a, own, st);
}

void ptq_stats_total(struct ptq_input_stats *s)
{
    for (int64_t e = 0; e < s->d_in * s->d_in; e++)
        s->hess[e] = s->hess_rest[e] + s->hess_sink[e];
}

static uint64_t key_of(const struct ptq_input_stats *s)
{
    const size_t bytes = (size_t)(s->d_in * s->d_in) * sizeof(double);
    const uint64_t parts[] = {(uint64_t)s->d_in, (uint64_t)s->norm, ptq_hash64(s->hess, bytes),
                              s->hess_sink ? ptq_hash64(s->hess_sink, bytes) : 0};
    return ptq_hash64(parts, sizeof parts);
}

/* Sums to values: normalised, the classes rounded to the stored type, their sum finite. */
static int finish_input(const struct job *j, int i, struct ptq_status *st)
{
    struct ptq_input_stats *s = &j->out[i];
    const int64_t d = s->d_in;
    double *h[2] = {s->hess_rest, s->hess_sink};
    s->n_tokens = (double)j->n_tokens;
    s->n_sequences = (double)j->hidden->tokens->n_seq;
    for (int k = 0; k < 2; k++)
        for (int64_t e = 0; e < d * d; e++) {
            double v = h[k][e] * 2 / s->n_tokens;
            h[k][e] = j->o->f64 ? v : (double)(float)v;
        }
    ptq_stats_total(s);
    for (int64_t e = 0; s->cross && e < d * d; e++)
        s->cross[e] *= 2 / s->n_tokens;
    ptq_shards_finish(s, 2 / s->n_tokens, j->o->f64);
    for (int64_t c = 0; c < d; c++) {
        s->mean[c] = (float)(j->sum[i][c] / s->n_tokens);
        s->absmean[c] = (float)(j->sumabs[i][c] / s->n_tokens);
    }
    int64_t bad = ptq_first_nonfinite_f64(s->hess, d * d);
    if (bad >= 0)
        return ptq_status_set(st, PTQ_ERR_NUMERIC,
                              "the Hessian of %s is not finite at (%lld, %lld): inputs overflow; "
                              "check the weights before it",
                              s->name, (long long)(bad / d), (long long)(bad % d));
    s->key = key_of(s);
    return PTQ_OK;
}

static int64_t *tokens_before(const struct ptq_tokens *t, int64_t *n_tokens, struct ptq_arena *own,
                              struct ptq_status *st)
{
    int64_t *before = ptq_arena_alloc(own, st, t->n_seq, sizeof *before);
    *n_tokens = 0;
    for (int64_t s = 0; before && s < t->n_seq; s++) {
        before[s] = *n_tokens;
        *n_tokens += t->len[s];
    }
    return before;
}

int ptq_stats_block(const struct ptq_model *m, const struct ptq_block *b, struct ptq_pool *pool,
                    const struct ptq_hidden *h, const struct ptq_stats_options *o, const char *only,
                    struct ptq_arena *arena, struct ptq_input_stats *out, int *n,
                    struct ptq_status *st)
{
    struct job j = {.hidden = h, .o = o, .out = out};
    struct ptq_arena own;
    assert(!only || !o->advance);
    ptq_arena_init(&own, 0);
    int rc = (j.before = tokens_before(h->tokens, &j.n_tokens, &own, st)) ? PTQ_OK : PTQ_ERR_MEMORY;
    if (!rc && !(rc = list_inputs(b, only, o, j.n_tokens, arena, out, n, st))) {
        j.n_inputs = *n;
        for (int i = 0; i < *n && o->n_shards && !rc; i++)
            rc = ptq_shards_new(&out[i], o->n_shards, h->tokens, arena, st);
        if (!rc && !(rc = make_slots(&j, ptq_pool_threads(pool), &own, st)))
            rc = attend(&j, m, b, arena, &own, st);
    }
    if (!rc)
        rc = run_waves(&j, m, b, pool, only, st);
    for (int i = 0; i < j.n_inputs && !rc; i++)
        rc = finish_input(&j, i, st);
    if (!rc && j.attn)
        rc = ptq_attnsum_finish(j.attn, pool, &j.attended->attn, st);
    ptq_arena_clear(&own);
    return rc;
}

const struct ptq_input_stats *ptq_stats_find(const struct ptq_input_stats *s, int n,
                                             const char *input)
{
    for (int i = 0; i < n; i++)
        if (strcmp(s[i].name, input) == 0)
            return &s[i];
    return NULL;
}

uint64_t ptq_stats_key(const struct ptq_input_stats *s)
{
    return key_of(s);
}

/* What a projection sees of the attention; NULL for all others, and where it does not fit it. */
static const struct ptq_attn *attn_of(const struct ptq_linear *l, const struct ptq_attn_stats *s)
{
    const struct ptq_attn *a = !s                      ? NULL
                               : l->role == PTQ_ROLE_Q ? &s->q
                               : l->role == PTQ_ROLE_K ? &s->k
                               : l->role == PTQ_ROLE_V ? &s->v
                                                       : NULL;
    return a && a->n_heads * a->head_dim == l->d_out ? a : NULL;
}

void ptq_layer_from_model(const struct ptq_linear *l, int block, const struct ptq_input_stats *s,
                          struct ptq_layer *out)
{
    *out = (struct ptq_layer){
        .name = l->name, .block = block, .role = l->role, .w = {l->w, l->d_out, l->d_in, l->d_in}};
    if (!s)
        return;
    assert(s->d_in == l->d_in);
    out->hess = (struct ptq_cdmat){s->hess, s->d_in, s->d_in, s->d_in};
    if (s->hess_sink) {
        out->hess_sink = (struct ptq_cdmat){s->hess_sink, s->d_in, s->d_in, s->d_in};
        out->hess_rest = (struct ptq_cdmat){s->hess_rest, s->d_in, s->d_in, s->d_in};
    }
    out->hess_norm = s->norm;
    out->n_tokens = s->n_tokens;
    out->n_sequences = s->n_sequences;
    out->hess_key = s->key;
    if (s->n_acts > 0)
        out->acts = (struct ptq_cmat){s->acts, s->n_acts, s->d_in, s->d_in};
    out->x_absmax = s->absmax;
    out->x_absmean = s->absmean;
    out->x_mean = s->mean;
    out->attn = attn_of(l, s->attn);
    if (s->cross)
        out->cross = (struct ptq_cdmat){s->cross, s->d_in, s->d_in, s->d_in};
}
