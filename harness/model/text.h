/* text.h: where token sequences come from, and the named protocols of evaluation. A text is named
 * by a source: "synth:facts:SEED" (the demo language), a text file (tokenized by the model's
 * tokenizer), or a file of token ids (one sequence a line, or .npy). The name, its contents' key
 * and the protocol travel with every result. */
#ifndef PTQ_MODEL_TEXT_H
#define PTQ_MODEL_TEXT_H
#include "model/model.h"

struct ptq_text {
    struct ptq_tokens tokens;
    const char *source; /* as configured */
    /* "facts-256" (256 windows), "bytes-256", "ids-512"; fewer windows than the text gives, or
     * another number of facts windows: "facts-256/first64"; random ones: "bytes-256/random64" */
    const char *protocol;
    const char *rules; /* the protocol described to the last rule, one sentence */
    char key[33];      /* hash of ids and borders */
    /* Scored bytes / scored tokens; 1 for byte models, NaN when unknown (ids files). */
    double bytes_per_token;
    /* [n_seq] for synth:facts, else NULL: spans for fact recall and copy accuracy */
    const struct ptq_facts_window *facts;
};
struct ptq_text_request {
    /* "synth:facts:SEED"; "ids:PATH"; "text:PATH" or a plain path: text, but token ids when it ends
     * in .npy or .ids */
    const char *source;
    int64_t n_seq;  /* windows wanted; 0: all there are (synth: 256) */
    int64_t window; /* tokens a window; 0: the model's context (synth:facts: 256) */
    /* Text files: n_seq windows at positions drawn from seed (calibration) instead of in order;
     * they may overlap. The facts language is random by its own seed, id files are taken in order.
     */
    bool random;
    uint64_t seed;
};
/* In the arena. A text that is shorter than asked gives what it has; none at all is PTQ_ERR_USAGE.
 * Tail rule: a last window shorter than `window` is dropped for text files, kept for id files
 * (shorter sequences are scored whole). */
int ptq_text_load(const struct ptq_model_info *, const struct ptq_text_request *,
                  struct ptq_arena *, struct ptq_text *, struct ptq_status *);
#endif
