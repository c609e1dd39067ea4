#include "model/eval.h"
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

struct buffers { /* a thread's: logits of this model and of the reference */
    float *own, *ref;
};

/* Rows of logits at a time: a function of the vocabulary alone, because the product's tiles depend
 * on the number of rows. */
static int64_t chunk_rows(int64_t vocab)
{
    int64_t rows = (INT64_C(1) << 20) / vocab;
    return rows < 64 ? 64 : rows;
}

struct row {
    double lse;   /* log of the sum of exp over the vocabulary */
    int64_t best; /* argmax, the lowest id of equals */
};

static struct row row_of(const float *logit, int64_t vocab)
{
    struct row r = {0, 0};
    for (int64_t v = 1; v < vocab; v++)
        if (logit[v] > logit[r.best])
            r.best = v;
    double top = logit[r.best], sum = 0;
    for (int64_t v = 0; v < vocab; v++)
        sum += ptq_exp(logit[v] - top);
    r.lse = top + ptq_log(sum);
    return r;
}

/* KL(p || q) = sum_v p_v (log p_v - log q_v); tiny negative rounding is left as it is: clipping
 * would bias means. */
static double divergence(const float *p, double lse_p, const float *q, double lse_q, int64_t vocab)
{
    double kl = 0;
    for (int64_t v = 0; v < vocab; v++) {
        double log_p = p[v] - lse_p;
        kl += ptq_exp(log_p) * (log_p - (q[v] - lse_q));
    }
    return kl;
}

/* Positions t .. t + n - 1 of window s predict tokens t + 1 .. t + n. Returns the sum of their NLL
 * through *sum. */
static int score_chunk(struct job *j, int64_t s, int64_t t, int64_t n, const struct buffers *b,
                       double *sum, struct ptq_status *st)
{
    const struct ptq_tokens *tok = j->hidden->tokens;
    const int64_t d = j->hidden->d_model, at = tok->offset[s] + t, flat = j->first[s] + t;
    const struct ptq_eval *ref = j->args->reference;
    int rc = ptq_head_logits(j->args->model, j->head, j->hidden->at + at * d, n, b->own, st);
    if (!rc && ref)
        rc = ptq_head_logits(j->args->model, j->head, ref->final_hidden + at * d, n, b->ref, st);
    for (int64_t i = 0; i < n && !rc; i++) {
        const float *own = b->own + i * j->vocab;
        int32_t target = tok->id[at + i + 1];
        struct row q = row_of(own, j->vocab);
        *sum += q.lse - own[target];
        j->out->hit[flat + i] = q.best == target;
        if (!ref)
            continue;
        struct row p = row_of(b->ref + i * j->vocab, j->vocab);
        j->out->kl[flat + i] = divergence(b->ref + i * j->vocab, p.lse, own, q.lse, j->vocab);
        j->n_agree[s] += p.best == q.best;
    }
    return rc;
}

static int score_window(struct job *j, int64_t s, const struct buffers *b, struct ptq_status *st)
{
    const int64_t n = j->hidden->tokens->len[s] - 1;
    double sum = 0;
    for (int64_t t = 0; t < n; t += j->chunk) {
        int rc = score_chunk(j, s, t, n - t < j->chunk ? n - t : j->chunk, b, &sum, st);
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
        e->n_window[s] = t->len[s] - 1;
        e->n_scored += t->len[s] - 1;
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

int ptq_eval_score(const struct ptq_eval_args *a, const struct ptq_hidden *h,
                   struct ptq_arena *arena, struct ptq_eval *out, struct ptq_status *st)
{
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
