/* textzipf.h: token ids without language, for models without a tokenizer: "synth:zipf:SEED". Each
 * id is drawn alone with a probability that falls as 1 / (id + 2.7), as the words of a large text
 * do by rank (Zipf, Mandelbrot), so that rows of the embedding are used as unevenly as a text uses
 * them. Windows of `window` ids (0: the protocol's, or the model's context; never more), `n_seq` of
 * them (0: 16). */
#ifndef PTQ_MODEL_TEXTZIPF_H
#define PTQ_MODEL_TEXTZIPF_H
#include "model/text.h"

bool ptq_is_zipf(const char *source);
int ptq_zipf_text(const struct ptq_model_info *, const struct ptq_text_request *,
                  struct ptq_arena *, struct ptq_text *, struct ptq_status *);
#endif
