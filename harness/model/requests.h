/* requests.h: log-likelihoods of continuations after contexts, for zero-shot tasks that a script or
 * EleutherAI's evaluation harness drives. JSON Lines in:
 *   {"id": any, "context": [ids], "continuation": [ids]}
 *   {"id": any, "context_text": "...", "continuation_text": "..."}   with a tokenizer
 * and out, in the same order:
 *   {"id": any, "logprob": sum of ln p in nats, "greedy": bool, "n_tokens": n}
 * greedy: every token of the continuation is the most likely one (ties to the lower id). Texts
 * become ids as the harness does it: white space at the context's end belongs to the continuation;
 * the continuation's ids are those of both texts together less the context's number of ids; special
 * tokens are not added; an empty context_text is the token BOS (else EOS), unless the continuation
 * begins with it. What is longer than `window` inputs loses the first ids of the context, and the
 * row says how many: "truncated": n. */
#ifndef PTQ_MODEL_REQUESTS_H
#define PTQ_MODEL_REQUESTS_H
#include "model/model.h"
#include "model/tokenizer.h"

struct ptq_requests {
    const struct ptq_model *model;
    const struct ptq_tokenizer *tokenizer; /* NULL: ids alone (byte models: texts are bytes) */
    struct ptq_pool *pool;
    const char *name; /* of the file, for messages */
    const char *text;
    int64_t bytes;
    int64_t window; /* inputs; 0: the model's context */
    /* Sees every row as a line; a value < 0 ends the work with it. */
    int (*row)(void *arg, const char *line, struct ptq_status *);
    void *arg;
};
/* Every line is checked before the first is run. PTQ_ERR_USAGE: FILE:LINE: reason. */
int ptq_requests_run(const struct ptq_requests *, struct ptq_status *);
#endif
