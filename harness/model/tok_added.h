/* tok_added.h: where texts of added tokens ("<|endoftext|>") lie in a text: the leftmost one, the
 * longest of those that begin there; binary search, whatever their number. */
#ifndef PTQ_MODEL_TOK_ADDED_H
#define PTQ_MODEL_TOK_ADDED_H
#include "model/tok.h"

struct ptq_added; /* read-only, shared by threads; refers to the tokens that it was made of */
/* Of the tokens for which normalized is as given; pattern[i]: what to look for in place of token
 * i's own text, or pattern NULL. Memory of the arena. */
struct ptq_added_text {
    const char *at;
    int64_t bytes;
};
int ptq_added_new(struct ptq_added **, const struct ptq_tok_def *, bool normalized,
                  const struct ptq_added_text *pattern, struct ptq_arena *, struct ptq_status *);
struct ptq_added_match {
    const struct ptq_added_token *token;
    int64_t begin, end;
};
/* The first match at or behind `from`; false: none. */
bool ptq_added_next(const struct ptq_added *, const char *text, int64_t bytes, int64_t from,
                    struct ptq_added_match *);
#endif
