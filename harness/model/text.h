/* text.h: where token sequences come from, and the named protocols of evaluation. A text is named
 * by a source:
 *   "wikitext2", "wikitext2:valid", "ptb_new", "c4", "prose", ...  a text of configs/texts.ini,
 *       looked for in $PTQ_TEXTS and datasets/texts/; a split that is not named is the one that
 *       papers evaluate, or calibrate on where a draw is asked for
 *   "text:PATH" or a plain path: a text file (.json, .jsonl: a row a line, its "text"); one that
 *       has the SHA-256 of a known text is that text
 *   "ids:PATH", a path that ends in .npy or .ids: token ids
 *   "synth:facts:SEED": the demo language
 * The name, the file's hash, the key of the ids and the protocol travel with every result. */
#ifndef PTQ_MODEL_TEXT_H
#define PTQ_MODEL_TEXT_H
#include "model/model.h"

struct ptq_facts_window;
struct ptq_text {
    struct ptq_tokens tokens;
    /* [n_seq] first scored token of a window, >= 1: tokens before it are context alone. NULL: 1
     * everywhere. */
    const int64_t *first_scored;
    /* [n_seq] a token behind the window's last one that is scored and not run (a window of the
     * model's whole context has one more target than it has inputs); -1: none. NULL: none. */
    const int32_t *after;
    const char *source; /* as configured */
    const char *name;   /* "wikitext2:test"; the source where no known text was recognised */
    /* Texts of one family are in-domain of each other: "wikitext", "ptb", "c4", "prose", "facts";
     * NULL: unknown. */
    const char *family;
    /* "gptq-2048", "facts-256" (256 windows), "bytes-256", "ids-512"; fewer windows than the
     * protocol gives: "gptq-2048/first20"; drawn ones: "windows-512/128" (draw, window, number) */
    const char *protocol;
    const char *rules; /* the protocol described to the last rule */
    /* NULL, or one line that the user is to see on stderr: another text stands in, or the file's
     * hash is not known. Printing it is the caller's. */
    const char *note;
    char sha256[65]; /* of the file as it lies; "" for synth */
    bool verified;   /* sha256 is the known one */
    bool fallback;   /* prose stands in for the text that was asked for and is not here */
    /* Hash of ids, borders, what is scored, and of an evaluation the bytes and words a token below:
     * where keys are equal, every metric's values are. */
    char key[33];
    /* Bytes of the text over its tokens; 1 for byte models, NaN when unknown (ids files). */
    double bytes_per_token;
    double words_per_token; /* lm-eval-word: words of the original text; else NaN */
    /* [n_seq] for synth:facts, else NULL: spans for fact recall and copy accuracy */
    const struct ptq_facts_window *facts;
};
static inline int64_t ptq_text_first(const struct ptq_text *t, int64_t s)
{
    return t->first_scored ? t->first_scored[s] : 1;
}
static inline bool ptq_text_has_after(const struct ptq_text *t, int64_t s)
{
    return t->after && t->after[s] >= 0;
}
/* Scored tokens of window s. */
static inline int64_t ptq_text_scored(const struct ptq_text *t, int64_t s)
{
    int64_t n = t->tokens.len[s] + ptq_text_has_after(t, s) - ptq_text_first(t, s);
    return n > 0 ? n : 0;
}

struct ptq_text_request {
    const char *source;
    int64_t n_seq;  /* windows wanted (lm-eval-word: documents); 0: all there are (facts: 256) */
    int64_t window; /* tokens a window; 0: the protocol's, else the model's context */
    /* Calibration: how n_seq windows are taken, a draw of protocol.h ("first", "windows",
     * "gptq-windows", "gptq-documents"); NULL: evaluation, by the protocol. The facts language is
     * random by its own seed, id files are taken in order: they take "first" and "windows" alike.
     * Encoders take "sentences" alone. */
    const char *draw;
    uint64_t seed;
    /* "gptq-2048", "llamacpp-512", ... (protocol.h); NULL: the one of the source: ids, facts; of a
     * text "sentences" for an encoder, "bytes" for a byte tokenizer, else "gptq" with windows of
     * min(2048, context). */
    const char *protocol;
    /* Where the tokenizer is (tokenizer.h: open); NULL: the model's own (info->tokenizer). */
    const char *tokenizer;
    /* A known text that is not here: the text `prose` instead, under its own protocol name, note
     * set. false: PTQ_ERR_USAGE that says where the text may be had. */
    bool fallback;
};
/* The draw that is named, or where none is the one of an encoder, else `of_others`. */
static inline const char *ptq_text_draw(const struct ptq_model_info *m, const char *named,
                                        const char *of_others)
{
    return named ? named : m->encoder ? "sentences" : of_others;
}
/* In the arena. A text that is shorter than asked gives what it has; none at all is PTQ_ERR_USAGE.
 * A file whose hash is not that of the known text is refused, with the repair that makes it right
 * where one does. Tail rule: a last window shorter than `window` is dropped for texts, kept for id
 * files (shorter sequences are scored whole). */
int ptq_text_load(const struct ptq_model_info *, const struct ptq_text_request *,
                  struct ptq_arena *, struct ptq_text *, struct ptq_status *);
#endif
