/* eval.h: scoring of token sequences: NLL per window, agreement with a reference model. fp64
 * log-sum-exp over fp32 logits. Of an encoder: the embedding of every window. */
#ifndef PTQ_MODEL_EVAL_H
#define PTQ_MODEL_EVAL_H
#include "model/text.h"

/* Scored tokens of sequence s: first .. len - 1 (ptq_text_first; 1 unless the protocol says
 * another) and the one behind the window where there is one; flat index of token t: those of the
 * sequences before + t - first. */
struct ptq_eval {
    const struct ptq_text *text;
    int64_t n_windows, n_scored;
    /* (n_windows x d_embedding) of an encoder: mean of the last hidden states over all positions of
     * the window, divided by its norm; nothing below is scored then, all of it is NULL. NULL of a
     * model that predicts tokens. */
    double *embedding;
    int64_t d_embedding;
    double *nll_window; /* [n_windows] mean NLL, nats/token; NaN for a window of one token */
    int64_t *n_window;  /* [n_windows] scored tokens */
    uint8_t *hit;       /* [n_scored] 1 when the target is the argmax (ties to the lower id) */
    double *kl;         /* [n_scored] KL(reference || this), nats; NULL without a reference */
    double top1_agree;  /* share of positions with the same argmax as the reference; NaN without */
    const struct ptq_eval *reference; /* NULL for the full-precision model itself */
    float *final_hidden;              /* (n_total x d_model) kept for a reference; else NULL */
};
struct ptq_eval_args {
    const struct ptq_model *model;
    const struct ptq_text *text;
    struct ptq_pool *pool;
    const struct ptq_eval *reference; /* NULL: none */
    bool keep_hidden;                 /* this result will be a reference */
    /* NULL, or asked before every sequence and window, on any thread: true ends the work with
     * PTQ_ERR_CANCELLED. */
    bool (*stop)(void *stop_arg);
    void *stop_arg;
    struct ptq_spill spill; /* where hidden states go; folder NULL: they stay in memory */
};
/* From hidden states that left the last block. Result arrays in the arena. */
int ptq_eval_score(const struct ptq_eval_args *, const struct ptq_hidden *, struct ptq_arena *,
                   struct ptq_eval *, struct ptq_status *);
/* The full-precision model over the text: embed, blocks, score. */
int ptq_eval_model(const struct ptq_eval_args *, struct ptq_arena *, struct ptq_eval *,
                   struct ptq_status *);
/* Mean over windows of the window means weighted by scored tokens, nats/token. */
double ptq_eval_nll(const struct ptq_eval *);
#endif
