#include "model/stats.h"
#include "core/clones.h"
#include "core/hash.h"
#include "core/linalg.h"
#include "core/size.h"
#include "model/internal.h"
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
    int adding; /* input whose slots are being added */
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

static void take_samples(const struct job *j, struct ptq_input_stats *out, int64_t s,
                         const float *x, int64_t len)
{
    /* Samples ascend, so those of this sequence are a run; its start is near n_acts before /
     * n_tokens. */
    int64_t first = j->before[s], n = out->n_acts;
    int64_t k = (int64_t)((double)first * (double)n / (double)j->n_tokens);
    while (k > 0 && sample_row(k - 1, n, j->n_tokens) >= first)
        k--;
    for (; k < n && sample_row(k, n, j->n_tokens) < first + len; k++)
        if (sample_row(k, n, j->n_tokens) >= first)
            memcpy(out->acts + k * out->d_in,
                   x + (sample_row(k, n, j->n_tokens) - first) * out->d_in,
                   (size_t)out->d_in * sizeof *x);
}

static int see(void *arg, const char *input, int64_t s, const float *x, int64_t len, int64_t d,
               struct ptq_status *st)
{
    struct job *j = arg;
    int i = 0;
    while (strcmp(j->out[i].name, input) != 0)
        i++;
    struct partial *p = &j->slot[s * j->n_inputs + i];
    p->n_sink = len < j->o->sink_tokens ? len : j->o->sink_tokens;
    memcpy(p->sink, x, (size_t)(p->n_sink * d) * sizeof *x);
    memset(p->sum, 0, (size_t)d * sizeof *p->sum);
    memset(p->sumabs, 0, (size_t)d * sizeof *p->sumabs);
    memset(p->absmax, 0, (size_t)d * sizeof *p->absmax);
    for (int64_t t = 0; t < len; t++)
        moments_add(x + t * d, d, p->sum, p->sumabs, p->absmax);
    take_samples(j, &j->out[i], j->wave + s, x, len);
    const float *rest = x + p->n_sink * d;
    return p->gram ? gram_f32(rest, len - p->n_sink, d, p->gram, st)
                   : gram_f64(rest, len - p->n_sink, d, p->gram64, st);
}

/* ---- adding a wave up */

PTQ_CLONES static void add_f32(double *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

PTQ_CLONES static void add_f64(double *to, const double *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

static void add_rows(void *arg, int64_t begin, int64_t end)
{
    struct job *j = arg;
    struct ptq_input_stats *out = &j->out[j->adding];
    const int64_t d = out->d_in, at = begin * d, n = (end - begin) * d;
    for (int64_t s = 0; s < j->n_wave; s++) {
        const struct partial *p = &j->slot[s * j->n_inputs + j->adding];
        if (p->gram)
            add_f32(out->hess_rest + at, p->gram + at, n);
        else
            add_f64(out->hess_rest + at, p->gram64 + at, n);
        for (int64_t t = 0; t < p->n_sink; t++)
            outer_add(p->sink + t * d, d, begin, end, out->hess_sink);
        add_f64(j->sum[j->adding] + begin, p->sum + begin, end - begin);
        add_f64(j->sumabs[j->adding] + begin, p->sumabs + begin, end - begin);
        for (int64_t c = begin; c < end; c++)
            out->absmax[c] = p->absmax[c] > out->absmax[c] ? p->absmax[c] : out->absmax[c];
    }
}

static int run_waves(struct job *j, const struct ptq_model *m, const struct ptq_block *b,
                     struct ptq_pool *pool, const char *only, struct ptq_status *st)
{
    const struct ptq_tokens *all = j->hidden->tokens;
    const struct ptq_block_tap tap = {see, j, only, !j->o->advance, j->o->stop, j->o->stop_arg};
    for (j->wave = 0; j->wave < all->n_seq; j->wave += j->n_wave) {
        j->n_wave = all->n_seq - j->wave < j->n_slots ? all->n_seq - j->wave : j->n_slots;
        struct ptq_tokens part = {j->n_wave, all->n_total, all->len + j->wave,
                                  all->offset + j->wave, all->id};
        struct ptq_hidden view = *j->hidden;
        view.tokens = &part;
        int rc = ptq_block_run(m, b, pool, &view, &tap, st);
        if (rc)
            return rc;
        for (j->adding = 0; j->adding < j->n_inputs; j->adding++)
            ptq_pool_for(pool, j->out[j->adding].d_in, ROWS_A_PIECE, add_rows, j);
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
        if (!s->name || !s->hess || !s->hess_sink || !s->hess_rest || !s->absmax || !s->absmean ||
            !s->mean || !s->acts)
            return PTQ_ERR_MEMORY;
    }
    if (*n == 0)
        return ptq_status_set(st, PTQ_ERR_USAGE, "block %d has no input %s", b->index,
                              only ? only : "at all");
    return PTQ_OK;
}

static int make_slots(struct job *j, int threads, struct ptq_arena *own, struct ptq_status *st)
{
    int64_t longest = 0, widest = 0;
    for (int64_t s = 0; s < j->hidden->tokens->n_seq; s++)
        longest = j->hidden->tokens->len[s] > longest ? j->hidden->tokens->len[s] : longest;
    for (int i = 0; i < j->n_inputs; i++)
        widest = j->out[i].d_in > widest ? j->out[i].d_in : widest;
    const int64_t n_sink = longest < j->o->sink_tokens ? longest : j->o->sink_tokens;
    j->n_slots = (int64_t)threads * (widest <= SMALL_INPUT ? SLOTS_A_THREAD : 1);
    if (j->n_slots > j->hidden->tokens->n_seq)
        j->n_slots = j->hidden->tokens->n_seq;
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
    }
    for (int i = 0; i < j->n_inputs; i++) {
        j->sumabs[i] = ptq_arena_alloc(own, st, j->out[i].d_in, sizeof(double));
        j->sum[i] = ptq_arena_alloc(own, st, j->out[i].d_in, sizeof(double));
        if (!j->sumabs[i] || !j->sum[i])
            return PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
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
        rc = make_slots(&j, ptq_pool_threads(pool), &own, st);
    }
    if (!rc)
        rc = run_waves(&j, m, b, pool, only, st);
    for (int i = 0; i < j.n_inputs && !rc; i++)
        rc = finish_input(&j, i, st);
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
}
