#include "model/eval.h"
#include "core/clones.h"
#include "core/num.h"
#include "core/size.h"
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct job {
    const struct ptq_eval_args *args;
    const struct ptq_hidden *hidden;
    const struct ptq_head *head;
    struct ptq_eval *out;
    const int64_t *first; /* [n_windows] flat index of a window's first scored position */
    int64_t *n_agree;     /* [n_windows] or NULL */
    int64_t chunk, vocab;
    pthread_mutex_t lock; /* guards failed, status */
    int64_t failed;
    struct ptq_status status;
};

enum { LEAST_ROWS = 64, MOST_ROWS = 384 };

struct buffers { /* a window's: logits of this model and of the reference, row by row */
    float *own, *ref;
    double nll[MOST_ROWS];
    bool agree[MOST_ROWS];
};

/* Rows of logits at a time: 64 MiB of them, so that the output matrix is read from memory once for
 * many rows. */
static int64_t chunk_rows(int64_t vocab)
{
    int64_t rows = (INT64_C(1) << 24) / vocab;
    return rows < LEAST_ROWS ? LEAST_ROWS : rows > MOST_ROWS ? MOST_ROWS : rows;
}

/* ---- a row of logits */

/* Values at a time; sums run in 16 lanes inside a block, then block after block. */
enum { BLOCK = 512, LANES = 16 };
typedef double wide __attribute__((vector_size(128), aligned(8), may_alias));

struct row {
    double lse;   /* log of the sum of exp over the vocabulary */
    int64_t best; /* argmax, the lowest id of equals */
};

/* A maximum has no order; lanes, because the compiler may not reorder floats. NaN is passed over.
 */
PTQ_CLONES static float block_max(const float *x, int64_t n)
{
    float most[LANES], m = -INFINITY;
    for (int j = 0; j < LANES; j++)
        most[j] = -INFINITY;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
    for (int j = 0; j < LANES; j++)
        m = most[j] > m ? most[j] : m;
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

static int64_t argmax(const float *x, int64_t n)
{
    float top = -INFINITY;
    int64_t at = 0;
    for (int64_t v = 0; v < n; v += BLOCK) {
        float m = block_max(x + v, n - v < BLOCK ? n - v : BLOCK);
        if (m > top) {
            top = m;
            at = v;
        }
    }
    for (int64_t v = at; v < n; v++)
        if (x[v] == top)
            return v;
    return 0; /* nothing above -Inf */
}

PTQ_CLONES static void subtract(const float *x, double from, double *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] - from;
}

/* x is padded with zeros to whole lanes. */
PTQ_CLONES static double block_sum(double *x, int64_t n)
{
    wide a = {0};
    double s = 0;
    for (int64_t i = n; i % LANES; i++)
        x[i] = 0;
    for (int64_t i = 0; i < n; i += LANES)
        a += *(const wide *)(x + i);
    for (int j = 0; j < LANES; j++)
        s += a[j];
    return s;
}

static struct row row_of(const float *logit, int64_t vocab)
{
    struct row r = {0, argmax(logit, vocab)};
    double top = logit[r.best], sum = 0, e[BLOCK];
    for (int64_t v = 0; v < vocab; v += BLOCK) {
        int64_t n = vocab - v < BLOCK ? vocab - v : BLOCK;
        subtract(logit + v, top, e, n);
        ptq_exp_n(e, e, n);
        sum += block_sum(e, n);
    }
    r.lse = top + ptq_log(sum);
    return r;
}

/* e_i = p_i (log p_i - log q_i), p_i in e and log p_i, with its rounding, in log_p */
PTQ_CLONES static void weigh(const double *log_p, const float *q, double lse_q, double *e,
                             int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        e[i] *= log_p[i] - (q[i] - lse_q);
}

/* KL(p || q) = sum_v p_v (log p_v - log q_v); tiny negative rounding is left as it is: clipping
 * would bias means. */
static double divergence(const float *p, double lse_p, const float *q, double lse_q, int64_t vocab)
{
    double kl = 0, log_p[BLOCK], e[BLOCK];
    for (int64_t v = 0; v < vocab; v += BLOCK) {
        int64_t n = vocab - v < BLOCK ? vocab - v : BLOCK;
        subtract(p + v, lse_p, log_p, n);
        ptq_exp_n(log_p, e, n);
        weigh(log_p, q + v, lse_q, e, n);
        kl += block_sum(e, n);
    }
    return kl;
}

/* ---- rows, chunks, windows */

struct chunk { /* rows of logits and what becomes of them */
    struct job *job;
    struct buffers *buffers;
    const int32_t *target;
    int64_t n_inside; /* rows whose target is a token of the window */
    int32_t after;    /* the target of the row behind them */
    int64_t flat;     /* index of the first row */
};

static void score_rows(void *arg, int64_t begin, int64_t end)
{
    const struct chunk *c = arg;
    const struct job *j = c->job;
    struct buffers *b = c->buffers;
    for (int64_t i = begin; i < end; i++) {
        const float *own = b->own + i * j->vocab;
        struct row q = row_of(own, j->vocab);
        int32_t target = i < c->n_inside ? c->target[i] : c->after;
        b->nll[i] = q.lse - own[target];
        j->out->hit[c->flat + i] = q.best == target;
        if (!b->ref)
            continue;
        const float *ref = b->ref + i * j->vocab;
        struct row p = row_of(ref, j->vocab);
        j->out->kl[c->flat + i] = divergence(ref, p.lse, own, q.lse, j->vocab);
        b->agree[i] = p.best == q.best;
    }
}

/* Positions t .. t + n - 1 of window s predict tokens t + 1 .. t + n. Returns the sum of their NLL
 * through *sum. */
static int score_chunk(struct job *j, int64_t s, int64_t t, int64_t n, struct buffers *b,
                       double *sum, struct ptq_status *st)
{
    const struct ptq_tokens *tok = j->hidden->tokens;
    const int64_t d = j->hidden->d_model, at = tok->offset[s] + t;
    const struct ptq_eval *ref = j->args->reference;
    const struct ptq_text *text = j->args->text;
    struct chunk c = {.job = j,
                      .buffers = b,
                      .target = tok->id + at + 1,
                      .n_inside = tok->len[s] - 1 - t,
                      .after = ptq_text_has_after(text, s) ? text->after[s] : 0,
                      .flat = j->first[s] + t - (ptq_text_first(text, s) - 1)};
    int rc = ptq_head_logits(j->args->model, j->head, j->args->pool, j->hidden->at + at * d, n,
                             b->own, st);
    if (!rc && ref)
        rc = ptq_head_logits(j->args->model, j->head, j->args->pool, ref->final_hidden + at * d, n,
                             b->ref, st);
    if (rc)
        return rc;
    ptq_pool_for(j->args->pool, n, 8, score_rows, &c);
    for (int64_t i = 0; i < n; i++) {
        *sum += b->nll[i];
        if (ref)
            j->n_agree[s] += b->agree[i];
    }
    return PTQ_OK;
}

static int score_window(struct job *j, int64_t s, struct buffers *b, struct ptq_status *st)
{
    const int64_t n = j->out->n_window[s], first = ptq_text_first(j->args->text, s) - 1;
    double sum = 0;
    for (int64_t t = 0; t < n; t += j->chunk) {
        int rc = score_chunk(j, s, first + t, n - t < j->chunk ? n - t : j->chunk, b, &sum, st);
        if (rc)
            return rc;
    }
    j->out->nll_window[s] = n > 0 ? sum / (double)n : NAN;
    return PTQ_OK;
}

static void piece(void *arg, int64_t begin, int64_t end)
{
    struct job *j = arg;
    struct ptq_status st = {0};
    const size_t bytes = (size_t)(j->chunk * j->vocab) * sizeof(float);
    struct buffers b = {malloc(bytes), j->args->reference ? malloc(bytes) : NULL};
    int rc =
        b.own && (b.ref || !j->args->reference) ? PTQ_OK : ptq_status_nomem(&st, "logits", bytes);
    int64_t s = begin;
    for (; s < end && !rc; s++)
        rc = j->args->stop && j->args->stop(j->args->stop_arg)
                 ? ptq_status_set(&st, PTQ_ERR_CANCELLED, "cancelled")
                 : score_window(j, s, &b, &st);
    if (rc) {
        pthread_mutex_lock(&j->lock);
        if (j->failed < 0 || s < j->failed) {
            j->failed = s;
            j->status = st;
        }
        pthread_mutex_unlock(&j->lock);
    }
    free(b.own);
    free(b.ref);
}

/* Result arrays; *first gets the flat index of each window's first scored position. */
static int allocate(const struct ptq_eval_args *a, struct ptq_arena *arena, struct ptq_eval *e,
                    int64_t **first, struct ptq_status *st)
{
    const struct ptq_tokens *t = &a->text->tokens;
    *e = (struct ptq_eval){
        .text = a->text, .n_windows = t->n_seq, .top1_agree = NAN, .reference = a->reference};
    e->nll_window = ptq_arena_alloc(arena, st, t->n_seq, sizeof *e->nll_window);
    e->n_window = ptq_arena_alloc(arena, st, t->n_seq, sizeof *e->n_window);
    *first = ptq_arena_alloc(arena, st, t->n_seq, sizeof **first);
    if (!e->nll_window || !e->n_window || !*first)
        return PTQ_ERR_MEMORY;
    for (int64_t s = 0; s < t->n_seq; s++) {
        (*first)[s] = e->n_scored;
        e->n_window[s] = ptq_text_scored(a->text, s);
        e->n_scored += e->n_window[s];
    }
    e->hit = ptq_arena_alloc(arena, st, e->n_scored, sizeof *e->hit);
    if (a->reference)
        e->kl = ptq_arena_alloc(arena, st, e->n_scored, sizeof *e->kl);
    return e->hit && (e->kl || !a->reference) ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int keep_hidden(const struct ptq_hidden *h, struct ptq_arena *arena, struct ptq_eval *e,
                       struct ptq_status *st)
{
    int64_t n = h->tokens->n_total * h->d_model;
    e->final_hidden = ptq_arena_alloc(arena, st, n, sizeof *e->final_hidden);
    if (!e->final_hidden)
        return PTQ_ERR_MEMORY;
    memcpy(e->final_hidden, h->at, (size_t)n * sizeof *e->final_hidden);
    return PTQ_OK;
}

static int run_job(struct job *j, struct ptq_arena *arena, struct ptq_status *st)
{
    struct ptq_eval *e = j->out;
    if (e->reference &&
        !(j->n_agree = ptq_arena_alloc(arena, st, e->n_windows, sizeof *j->n_agree)))
        return PTQ_ERR_MEMORY;
    pthread_mutex_init(&j->lock, NULL);
    ptq_pool_for(j->args->pool, e->n_windows, 1, piece, j);
    pthread_mutex_destroy(&j->lock);
    if (j->failed >= 0)
        return ptq_status_set(st, j->status.code, "%s", j->status.text);
    int64_t agree = 0;
    for (int64_t s = 0; e->reference && s < e->n_windows; s++)
        agree += j->n_agree[s];
    if (e->reference && e->n_scored > 0)
        e->top1_agree = (double)agree / (double)e->n_scored;
    return j->args->keep_hidden ? keep_hidden(j->hidden, arena, e, st) : PTQ_OK;
}

/* ---- encoders */

/* A mean of zero has no direction: NaN, as of states that are not finite. */
static void embed_window(const float *x, int64_t len, int64_t d, double *out)
{
    double norm = 0;
    for (int64_t k = 0; k < d; k++)
        out[k] = 0;
    for (int64_t t = 0; t < len; t++)
        for (int64_t k = 0; k < d; k++)
            out[k] += x[t * d + k];
    for (int64_t k = 0; k < d; k++)
        norm += out[k] * out[k];
    norm = sqrt(norm); /* the mean's length over the number of positions: it cancels */
    for (int64_t k = 0; k < d; k++)
        out[k] = norm > 0 ? out[k] / norm : NAN;
}

static int embed_windows(const struct ptq_eval_args *a, const struct ptq_hidden *h,
                         struct ptq_arena *arena, struct ptq_eval *e, struct ptq_status *st)
{
    const struct ptq_tokens *t = h->tokens;
    int64_t n;
    *e = (struct ptq_eval){.text = a->text,
                           .n_windows = t->n_seq,
                           .d_embedding = h->d_model,
                           .top1_agree = NAN,
                           .reference = a->reference};
    if (!ptq_size_mul(t->n_seq, h->d_model, &n))
        return ptq_status_nomem(st, "embeddings", 0);
    if (!(e->embedding = ptq_arena_alloc(arena, st, n, sizeof *e->embedding)))
        return PTQ_ERR_MEMORY;
    for (int64_t s = 0; s < t->n_seq; s++)
        embed_window(h->at + t->offset[s] * h->d_model, t->len[s], h->d_model,
                     e->embedding + s * h->d_model);
    return PTQ_OK;
}

/* ---- */

int ptq_eval_score(const struct ptq_eval_args *a, const struct ptq_hidden *h,
                   struct ptq_arena *arena, struct ptq_eval *out, struct ptq_status *st)
{
    if (ptq_model_info(a->model)->encoder)
        return embed_windows(a, h, arena, out, st);
    const int64_t vocab = ptq_model_info(a->model)->vocab_size;
    assert(h->tokens->n_total == a->text->tokens.n_total);
    assert(!a->reference || (a->reference->final_hidden && a->reference->text == a->text));
    struct job j = {.args = a,
                    .hidden = h,
                    .out = out,
                    .chunk = chunk_rows(vocab),
                    .vocab = vocab,
                    .failed = -1};
    struct ptq_arena own; /* the head and the bookkeeping */
    struct ptq_head *head;
    int64_t *first;
    ptq_arena_init(&own, 0);
    int rc = allocate(a, arena, out, &first, st);
    if (!rc)
        rc = ptq_model_load_head(a->model, &own, &head, st);
    if (!rc) {
        j.first = first;
        j.head = head;
        rc = run_job(&j, arena, st);
    }
    ptq_arena_clear(&own);
    return rc;
}

int ptq_eval_model(const struct ptq_eval_args *a, struct ptq_arena *arena, struct ptq_eval *out,
                   struct ptq_status *st)
{
    const struct ptq_model_info *info = ptq_model_info(a->model);
    const struct ptq_block_tap tap = {.stop = a->stop, .stop_arg = a->stop_arg};
    struct ptq_arena own, one;
    struct ptq_hidden h;
    ptq_arena_init(&own, 0);
    ptq_arena_init(&one, 0);
    own.spill = a->spill;
    int rc = ptq_model_embed(a->model, &a->text->tokens, &own, &h, st);
    for (int b = 0; b < info->n_blocks && !rc; b++) {
        struct ptq_block block;
        ptq_arena_clear(&one);
        if (!(rc = ptq_model_load_block(a->model, b, &one, &block, st)))
            rc = ptq_block_run(a->model, &block, a->pool, &h, &tap, st);
    }
    ptq_arena_clear(&one);
    if (!rc)
        rc = ptq_eval_score(a, &h, arena, out, st);
    ptq_arena_clear(&own);
    return rc;
}

double ptq_eval_nll(const struct ptq_eval *e)
{
    double sum = 0;
    for (int64_t s = 0; s < e->n_windows; s++)
        if (e->n_window[s] > 0)
            sum += e->nll_window[s] * (double)e->n_window[s];
    return e->n_scored > 0 ? sum / (double)e->n_scored : NAN;
}
