/* tok_special.h: shared by readers of vocabularies whose tokens have types. */
#ifndef PTQ_MODEL_TOK_SPECIAL_H
#define PTQ_MODEL_TOK_SPECIAL_H
#include "model/tok.h"

/* Makes added tokens of the control and unknown tokens, as the `tokenizers` and transformers
 * libraries do for these files, so that "<s>" and "<unk>" in a text become their ids; with `user`
 * also of the symbols of the user, which are not special. n, text, at and type are filled. */
int ptq_tok_add_specials(struct ptq_tok_def *, bool user, struct ptq_arena *, struct ptq_status *);
#endif
