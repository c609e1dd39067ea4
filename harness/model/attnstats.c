#include "model/attnstats.h"
#include "core/hash.h"
#include "core/linalg.h"
#include "core/num.h"
#include "core/size.h"
#include "model/attention.h"
#include "model/internal.h"
#include <math.h>
#include <string.h>

struct slot { /* of a sequence of the wave */
    float *q, *k, *x, *slopes;
    struct ptq_attention at; /* reads the copies */
    struct ptq_shown_attention shown;
};
struct outcome {
    int rc;
    struct ptq_status status;
};
struct ptq_attnsum {
    struct ptq_attnsum_args a;
    int64_t n_heads, n_kv, head_dim, d;
    const struct ptq_linear *out; /* W_o */
    struct ptq_attn_sums *sums;   /* [n_kv] */
    double *hcol;                 /* where sums[].mixed lie, and the result; or NULL */
    struct slot *slot;
    struct outcome *outcome; /* [n_kv] */
    struct ptq_pool *pool;
    int64_t n_wave;
};

/* ---- memory ------------------------------------------------------------------------------------
 */

static int64_t longest(const struct ptq_tokens *t)
{
    int64_t most = 0;
    for (int64_t s = 0; s < t->n_seq; s++)
        most = t->len[s] > most ? t->len[s] : most;
    return most;
}

static int make_slot(const struct ptq_attnsum *s, struct slot *slot, struct ptq_arena *arena,
                     struct ptq_status *st)
{
    const int64_t len = longest(s->a.tokens);
    const size_t head = (size_t)s->head_dim * sizeof(float);
    const bool mixed = s->a.options->attention == PTQ_ATTN_ALL;
    slot->q = ptq_arena_alloc(arena, st, len, (size_t)s->n_heads * head);
    slot->k = ptq_arena_alloc(arena, st, len, (size_t)s->n_kv * head);
    slot->x = ptq_arena_alloc(arena, st, mixed ? len : 0, (size_t)s->d * sizeof(float));
    slot->slopes = ptq_arena_alloc(arena, st, s->n_heads, sizeof(float));
    return slot->q && slot->k && slot->x && slot->slopes ? PTQ_OK : PTQ_ERR_MEMORY;
}

static bool triangle(int64_t n, int64_t *out)
{
    return ptq_size_mul(n, n + 1, out) && (*out /= 2, true);
}

static int make_sums(struct ptq_attnsum *s, struct ptq_arena *arena, struct ptq_status *st)
{
    const size_t hh = (size_t)(s->head_dim * s->head_dim);
    double *rows = ptq_arena_alloc(arena, st, 2 * s->n_kv, hh * sizeof *rows);
    int64_t n;
    if (!triangle(s->d, &n) || n > PTRDIFF_MAX / (int64_t)sizeof(double))
        return ptq_status_set(st, PTQ_ERR_MEMORY, "the attention statistics of block %d overflow",
                              s->a.block->index);
    const bool all = s->a.options->attention == PTQ_ATTN_ALL;
    if (all)
        s->hcol = ptq_arena_alloc(s->a.result, st, s->n_kv, (size_t)n * sizeof *s->hcol);
    if (!rows || (all && !s->hcol))
        return PTQ_ERR_MEMORY;
    for (int64_t g = 0; g < s->n_kv; g++)
        s->sums[g] =
            (struct ptq_attn_sums){rows + (size_t)(2 * g) * hh, rows + (size_t)(2 * g + 1) * hh,
                                   all ? s->hcol + g * n : NULL};
    return PTQ_OK;
}

static const struct ptq_linear *linear_of(const struct ptq_block *b, enum ptq_role role)
{
    for (int i = 0; i < b->n_linears; i++)
        if (b->lin[i].role == role)
            return &b->lin[i];
    return NULL;
}

int ptq_attnsum_new(struct ptq_attnsum **out, const struct ptq_attnsum_args *a,
                    struct ptq_arena *arena, struct ptq_status *st)
{
    const struct ptq_model_info *m = ptq_model_info(a->model);
    struct ptq_attnsum *s = ptq_arena_alloc(arena, st, 1, sizeof *s);
    if (!s)
        return PTQ_ERR_MEMORY;
    *s = (struct ptq_attnsum){.a = *a,
                              .n_heads = m->n_heads,
                              .n_kv = m->n_kv_heads,
                              .head_dim = m->head_dim,
                              .d = m->d_model,
                              .out = linear_of(a->block, PTQ_ROLE_O)};
    s->sums = ptq_arena_alloc(arena, st, s->n_kv, sizeof *s->sums);
    s->outcome = ptq_arena_alloc(arena, st, s->n_kv, sizeof *s->outcome);
    s->slot = ptq_arena_alloc(arena, st, a->n_slots, sizeof *s->slot);
    int rc = s->sums && s->outcome && s->slot ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < a->n_slots && !rc; i++)
        rc = make_slot(s, &s->slot[i], arena, st);
    *out = s;
    return rc ? rc : make_sums(s, arena, st);
}

struct ptq_attn_cost ptq_attn_cost(const struct ptq_model_info *m, const struct ptq_tokens *t,
                                   const struct ptq_stats_options *o, int threads)
{
    if (o->attention == PTQ_ATTN_NONE)
        return (struct ptq_attn_cost){0};
    const bool all = o->attention == PTQ_ATTN_ALL;
    const double len = (double)longest(t), d = all ? (double)m->d_model : 0,
                 hd = (double)m->head_dim, heads = (double)m->n_heads, kv = (double)m->n_kv_heads,
                 part = o->f64 ? 8 : 4, at_once = threads <= kv ? threads : 1;
    const double columns = kv * d * (d + 1) / 2, rows = heads + 2 * kv;
    int64_t widest = m->d_ff > m->d_model ? m->d_ff : m->d_model;
    if (m->n_heads * m->head_dim > widest)
        widest = m->n_heads * m->head_dim;
    const double slots =
        4 * len * ((heads + kv) * hd + d) * (double)ptq_stats_slots(widest, t->n_seq, threads);
    double pairs = 0;
    for (int64_t s = 0; s < t->n_seq; s++)
        pairs += (double)t->len[s] * (double)t->len[s];
    const double work = part * (len * (2 * d + 2 * hd + 256) + d * d) * at_once;
    return (struct ptq_attn_cost){
        .memory_bytes = 8 * columns + 8 * (rows + 2 * kv) * hd * hd + slots + work,
        .file_bytes = (double)m->n_blocks * part * (columns + rows * hd * (hd + 1) / 2),
        .flops = (double)m->n_blocks * heads *
                 (all ? pairs * (hd + d) + 2 * (double)t->n_total * d * d : 0)};
}

int ptq_attn_check(const struct ptq_model_info *m, const struct ptq_tokens *t,
                   const struct ptq_stats_options *o, int threads, int64_t memory_bytes,
                   struct ptq_status *st)
{
    const double bytes = ptq_attn_cost(m, t, o, threads).memory_bytes, mib = 1 << 20;
    if (!memory_bytes || bytes <= (double)memory_bytes)
        return PTQ_OK;
    return ptq_status_set(
        st, PTQ_ERR_MEMORY,
        "statistics of attention would take %.0f MiB of memory beside the others (%lld kv heads x "
        "%lld^2, sequences of up to %lld tokens, %d threads), and the budget is %.0f MiB: %sfewer "
        "threads, shorter sequences, or a larger memory budget",
        bytes / mib, (long long)m->n_kv_heads, (long long)m->d_model, (long long)longest(t),
        threads, (double)memory_bytes / mib,
        o->attention == PTQ_ATTN_ALL
            ? "take --block-v off ([calib] attention = rows in a sweep: v is then quantized with "
              "the Hessian of its input), "
            : "");
}

/* ---- sums --------------------------------------------------------------------------------------
 */

void ptq_attnsum_keep(struct ptq_attnsum *s, int64_t slot, const struct ptq_shown_attention *shown)
{
    struct slot *to = &s->slot[slot];
    const struct ptq_attention *at = shown->at;
    const size_t row = (size_t)(at->len * at->head_dim) * sizeof(float);
    memcpy(to->q, at->q, (size_t)at->n_heads * row);
    memcpy(to->k, at->k, (size_t)at->n_kv_heads * row);
    if (s->a.options->attention == PTQ_ATTN_ALL)
        memcpy(to->x, shown->x, (size_t)(at->len * s->d) * sizeof(float));
    if (at->slopes)
        memcpy(to->slopes, at->slopes, (size_t)at->n_heads * sizeof(float));
    to->at = *at;
    to->at.q = to->q;
    to->at.k = to->k;
    to->at.v = NULL;
    to->at.out = NULL;
    to->at.slopes = at->slopes ? to->slopes : NULL;
    to->shown = *shown;
    to->shown.at = &to->at;
}

static int add_head(struct ptq_attnsum *s, int64_t kv_head, struct ptq_status *st)
{
    const struct ptq_stats_options *o = s->a.options;
    int rc = PTQ_OK;
    for (int64_t i = 0; i < s->n_wave && !rc; i++) {
        const struct ptq_attn_sequence q = {&s->slot[i].at, s->slot[i].x, s->d, kv_head};
        if (o->stop && o->stop(o->stop_arg))
            return ptq_status_set(st, PTQ_ERR_CANCELLED, "cancelled");
        rc = o->f64 ? ptq_attn_add_f64(s->pool, &q, &s->sums[kv_head], st)
                    : ptq_attn_add_f32(s->pool, &q, &s->sums[kv_head], st);
    }
    return rc;
}

static void add_heads(void *arg, int64_t begin, int64_t end)
{
    struct ptq_attnsum *s = arg;
    for (int64_t g = begin; g < end; g++)
        s->outcome[g].rc = add_head(s, g, &s->outcome[g].status);
}

int ptq_attnsum_add(struct ptq_attnsum *s, struct ptq_pool *pool, int64_t n, struct ptq_status *st)
{
    s->pool = pool;
    s->n_wave = n;
    if (s->n_kv < ptq_pool_threads(pool)) /* then the products of a head share the threads */
        add_heads(s, 0, s->n_kv);
    else
        ptq_pool_for(pool, s->n_kv, 1, add_heads, s);
    for (int64_t g = 0; g < s->n_kv; g++)
        if (s->outcome[g].rc)
            return ptq_status_set(st, (enum ptq_code)s->outcome[g].rc, "%s",
                                  s->outcome[g].status.text);
    return PTQ_OK;
}

/* ---- rotations ---------------------------------------------------------------------------------
 */

/* R_l^T C R_l of channels (a0, a1) of pair i and (b0, b1) of pair j is, with c = cos, s = sin of
 * their angles at l,
 *   | c_i  s_i | | C_a0b0  C_a0b1 | | c_j  -s_j |
 *   |-s_i  c_i | | C_a1b0  C_a1b1 | | s_j   c_j |
 * so that the mean over l needs the means of four products of cosines and sines. */
struct turns {
    int64_t half;
    bool interleaved;
    double *cc, *cs, *sc, *ss; /* (half x half) means of c_i c_j, c_i s_j, s_i c_j, s_i s_j */
};

static void add_position(struct turns *t, const double *c, const double *s, double weight)
{
    for (int64_t i = 0; i < t->half; i++)
        for (int64_t j = 0; j < t->half; j++) {
            const int64_t e = i * t->half + j;
            t->cc[e] += weight * c[i] * c[j];
            t->cs[e] += weight * c[i] * s[j];
            t->sc[e] += weight * s[i] * c[j];
            t->ss[e] += weight * s[i] * s[j];
        }
}

static int make_turns(const struct ptq_attnsum *s, struct ptq_arena *own, struct turns *t,
                      struct ptq_status *st)
{
    const struct ptq_tokens *tokens = s->a.tokens;
    const struct ptq_model *m = s->a.model;
    const int64_t half = s->head_dim / 2;
    double **tables[] = {&t->cc, &t->cs, &t->sc, &t->ss};
    t->half = half;
    t->interleaved = m->info.rope.interleaved;
    for (int i = 0; i < 4; i++)
        if (!(*tables[i] = ptq_arena_alloc(own, st, half, (size_t)half * sizeof(double))))
            return PTQ_ERR_MEMORY;
    double *c = ptq_arena_alloc(own, st, 2 * half, sizeof *c), *sine = c + half;
    if (!c)
        return PTQ_ERR_MEMORY;
    for (int64_t l = 0, end = longest(tokens); l < end; l++) {
        double n = 0;
        for (int64_t q = 0; q < tokens->n_seq; q++)
            n += tokens->len[q] > l;
        for (int64_t i = 0; i < half; i++)
            ptq_sincos((double)l * m->rope_frequency[i], &sine[i], &c[i]);
        add_position(t, c, sine, n / (double)tokens->n_total);
    }
    return PTQ_OK;
}

static void mean_turn(const struct turns *t, const double *from, double *to)
{
    const int64_t hd = 2 * t->half, step = t->interleaved ? 1 : t->half;
    for (int64_t i = 0; i < t->half; i++)
        for (int64_t j = 0; j < t->half; j++) {
            const int64_t e = i * t->half + j, r = (t->interleaved ? 2 * i : i) * hd,
                          k = t->interleaved ? 2 * j : j;
            const double cc = t->cc[e], cs = t->cs[e], sc = t->sc[e], ss = t->ss[e],
                         a = from[r + k], b = from[r + k + step], c = from[r + step * hd + k],
                         d = from[r + step * hd + k + step];
            to[r + k] = a * cc + b * cs + c * sc + d * ss;
            to[r + k + step] = b * cc - a * cs + d * sc - c * ss;
            to[r + step * hd + k] = c * cc + d * cs - a * sc - b * ss;
            to[r + step * hd + k + step] = d * cc - c * cs - b * sc + a * ss;
        }
}

/* ---- the end -----------------------------------------------------------------------------------
 */

static double stored(const struct ptq_attnsum *s, double v)
{
    return s->a.options->f64 ? v : (double)(float)v;
}

/* The row factor from a second moment: turned, between the gains, scaled and rounded; exactly
 * symmetric. */
static void row_factor(const struct ptq_attnsum *s, const struct turns *t, const double *sum,
                       const float *gain, double scale, double *out, double *scratch)
{
    const int64_t hd = s->head_dim;
    if (t)
        mean_turn(t, sum, scratch);
    else
        memcpy(scratch, sum, (size_t)(hd * hd) * sizeof *scratch);
    for (int64_t i = 0; i < hd; i++)
        for (int64_t j = i; j < hd; j++) {
            const double g = gain ? (double)gain[i] * (double)gain[j] : 1;
            out[i * hd + j] = out[j * hd + i] =
                stored(s, (scratch[i * hd + j] + scratch[j * hd + i]) / 2 * g * scale);
        }
}

/* Rows of q and k. */
static int finish_rows(const struct ptq_attnsum *s, double *q, double *k, struct ptq_status *st)
{
    const struct ptq_shown_attention *shown = &s->slot[0].shown;
    const int64_t group = s->n_heads / s->n_kv, hh = s->head_dim * s->head_dim;
    const double scale = 2 / (double)s->a.tokens->n_total;
    struct ptq_arena own;
    struct turns turns;
    ptq_arena_init(&own, 0);
    double *scratch = ptq_arena_alloc(&own, st, hh, sizeof *scratch);
    int rc = !scratch ? PTQ_ERR_MEMORY : shown->rotated ? make_turns(s, &own, &turns, st) : PTQ_OK;
    const struct turns *t = shown->rotated ? &turns : NULL;
    for (int64_t g = 0; g < s->n_kv && !rc; g++) {
        row_factor(s, t, s->sums[g].queries, shown->k_gain, scale / (double)group, k + g * hh,
                   scratch);
        row_factor(s, t, s->sums[g].keys, shown->q_gain, scale, q + g * group * hh, scratch);
        for (int64_t h = g * group + 1; h < (g + 1) * group; h++)
            memcpy(q + h * hh, q + g * group * hh, (size_t)hh * sizeof *q);
    }
    ptq_arena_clear(&own);
    return rc;
}

/* Rows of v: sums over the query heads of W_o,h^T W_o,h. */
static int output_rows(const struct ptq_attnsum *s, struct ptq_pool *pool, double *v,
                       struct ptq_status *st)
{
    const int64_t hd = s->head_dim, hh = hd * hd, d = s->out->d_out, ld = s->out->d_in;
    struct ptq_arena own;
    ptq_arena_init(&own, 0);
    double *w = ptq_arena_alloc(&own, st, d, (size_t)hd * sizeof *w),
           *gram = ptq_arena_alloc(&own, st, hh, sizeof *gram);
    int rc = w && gram ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t h = 0; h < s->n_heads && !rc; h++) {
        double *to = v + h / (s->n_heads / s->n_kv) * hh;
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = 0; j < hd; j++)
                w[i * hd + j] = s->out->w[i * ld + h * hd + j];
        rc = ptq_syrk_f64(pool, w, d, hd, hd, gram, hd, st);
        for (int64_t e = 0; e < hh && !rc; e++)
            to[e] += gram[e];
    }
    for (int64_t e = 0; e < s->n_kv * hh && !rc; e++)
        v[e] = stored(s, v[e]);
    ptq_arena_clear(&own);
    return rc;
}

static void finish_columns(const struct ptq_attnsum *s)
{
    const int64_t n = s->n_kv * (s->d * (s->d + 1) / 2);
    const double scale =
        2 / ((double)s->a.tokens->n_total * ((double)s->n_heads / (double)s->n_kv));
    for (int64_t e = 0; s->hcol && e < n; e++)
        s->hcol[e] = stored(s, s->hcol[e] * scale);
}

uint64_t ptq_attn_key(const struct ptq_attn *a, int64_t d_in)
{
    const size_t rows = (size_t)(a->n_heads * a->head_dim * a->head_dim) * sizeof(double),
                 cols = (size_t)(a->n_heads * (d_in * (d_in + 1) / 2)) * sizeof(double);
    const uint64_t parts[] = {(uint64_t)a->n_heads, (uint64_t)a->head_dim,
                              ptq_hash64(a->hrow, rows), a->hcol ? ptq_hash64(a->hcol, cols) : 0};
    return ptq_hash64(parts, sizeof parts);
}

static int check_finite(const struct ptq_attnsum *s, const struct ptq_attn *a, const char *what,
                        struct ptq_status *st)
{
    const int64_t hh = s->head_dim * s->head_dim, n = s->d * (s->d + 1) / 2;
    int64_t bad = ptq_first_nonfinite_f64(a->hrow, a->n_heads * hh);
    int64_t head = bad / hh;
    if (bad < 0 && a->hcol) {
        bad = ptq_first_nonfinite_f64(a->hcol, a->n_heads * n);
        head = bad / n;
    }
    return bad < 0 ? PTQ_OK
                   : ptq_status_set(st, PTQ_ERR_NUMERIC,
                                    "the attention statistics of blk.%d.%s are not finite in head "
                                    "%lld: inputs overflow; check the weights before it",
                                    s->a.block->index, what, (long long)head);
}

int ptq_attnsum_finish(struct ptq_attnsum *s, struct ptq_pool *pool,
                       const struct ptq_attn_stats **out, struct ptq_status *st)
{
    struct ptq_arena *arena = s->a.result;
    const size_t hh = (size_t)(s->head_dim * s->head_dim) * sizeof(double);
    struct ptq_attn_stats *r = ptq_arena_alloc(arena, st, 1, sizeof *r);
    double *q = ptq_arena_alloc(arena, st, s->n_heads, hh),
           *k = ptq_arena_alloc(arena, st, s->n_kv, hh),
           *v = ptq_arena_alloc(arena, st, s->n_kv, hh);
    if (!r || !q || !k || !v)
        return PTQ_ERR_MEMORY;
    int rc = finish_rows(s, q, k, st);
    if (rc || (rc = output_rows(s, pool, v, st)))
        return rc;
    finish_columns(s);
    *r = (struct ptq_attn_stats){.q = {.n_heads = s->n_heads, .head_dim = s->head_dim, .hrow = q},
                                 .k = {.n_heads = s->n_kv, .head_dim = s->head_dim, .hrow = k},
                                 .v = {s->n_kv, s->head_dim, v, s->hcol, 0}};
    if ((rc = check_finite(s, &r->q, "attn_q", st)) ||
        (rc = check_finite(s, &r->k, "attn_k", st)) || (rc = check_finite(s, &r->v, "attn_v", st)))
        return rc;
    r->q.key = ptq_attn_key(&r->q, s->d);
    r->k.key = ptq_attn_key(&r->k, s->d);
    r->v.key = ptq_attn_key(&r->v, s->d);
    *out = r;
    return PTQ_OK;
}
