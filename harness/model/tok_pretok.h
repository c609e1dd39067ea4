/* tok_pretok.h: the pre-tokenizer of a byte-level BPE: splits text into pieces that are merged
 * alone. Patterns are written for Oniguruma, the engine of the `tokenizers` library; they are
 * rewritten where PCRE2 means something else by the same signs, and refused where it cannot say the
 * same. Classes such as \p{L} are those of PCRE2's version of Unicode: characters that are younger
 * than the installed PCRE2 count as unassigned. */
#ifndef PTQ_MODEL_TOK_PRETOK_H
#define PTQ_MODEL_TOK_PRETOK_H
#include "model/tok.h"

struct ptq_splitter; /* compiled steps; read-only, shared by threads */
int ptq_splitter_new(struct ptq_splitter **, const struct ptq_tok_def *, struct ptq_status *);
void ptq_splitter_free(struct ptq_splitter *); /* NULL is fine */

struct ptq_split_call; /* working memory of one thread of control */
int ptq_split_call_new(struct ptq_split_call **, struct ptq_status *);
void ptq_split_call_free(struct ptq_split_call *); /* NULL is fine */

/* Calls piece for every piece of valid UTF-8 in order; none is empty. A code other than PTQ_OK ends
 * it. A pattern that takes more than a million steps at one place is PTQ_ERR_USAGE. */
struct ptq_pieces {
    int (*piece)(void *arg, const char *text, int64_t bytes, struct ptq_status *);
    void *arg;
};
int ptq_splitter_run(const struct ptq_splitter *, struct ptq_split_call *, const char *text,
                     int64_t bytes, const struct ptq_pieces *, struct ptq_status *);

/* The Oniguruma pattern as one for PCRE2, in the arena; source names the file in messages. */
int ptq_pattern_translate(const char *pattern, const char *source, struct ptq_arena *, char **out,
                          struct ptq_status *);
/* Patterns of steps that files name by a word. */
extern const char ptq_pattern_gpt2[];
#endif
