/* protocol.h: evaluation protocols and calibration draws as data, one entry each. A protocol turns
 * a text into windows and says which of their tokens are scored; its name and rules are printed
 * with every result, and values of different names do not compare. */
#ifndef PTQ_MODEL_PROTOCOL_H
#define PTQ_MODEL_PROTOCOL_H
#include "core/arena.h"

enum ptq_material {                  /* what is cut */
                    PTQ_OF_FACTS,    /* windows of the facts language */
                    PTQ_OF_IDS,      /* token ids as given */
                    PTQ_OF_FILE,     /* the file as it lies */
                    PTQ_OF_PROMPT,   /* the same without a last newline */
                    PTQ_OF_ROWS,     /* its rows joined by the text's rule */
                    PTQ_OF_PAGES,    /* its pages one by one, detokenized */
                    PTQ_OF_SENTENCES /* its sentences one by one */
};
enum ptq_bos { PTQ_BOS_AS_TEXT, PTQ_BOS_INSTEAD, PTQ_BOS_BEFORE }; /* at the head of a window */
enum ptq_scored {
    PTQ_SCORE_REST,     /* all tokens but a window's first */
    PTQ_SCORE_HALF,     /* behind the middle: tokens N / 2 + 1 .. N - 1 */
    PTQ_SCORE_ROLLING,  /* every token of a page once, the first from a prefix token */
    PTQ_SCORE_EMBEDDING /* none: the embedding of the whole window is compared (encoders) */
};
struct ptq_protocol {
    const char *name;  /* "gptq": of the full name "gptq-2048" */
    const char *known; /* windows that results are published with: "2048, 4096", or "" */
    int64_t window;    /* when none is asked for, at most the model's context; 0: the context */
    enum ptq_material material;
    bool specials; /* the tokenizer's own special tokens around the whole text */
    bool added;    /* the text "<s>" is the token; false: three characters */
    enum ptq_bos bos;
    enum ptq_scored scored;
    const char *title, *rules; /* rules: N is the window */
};
const struct ptq_protocol *ptq_protocols(int *n);
/* "gptq-2048", or "gptq" with *window = 0. Unknown: PTQ_ERR_USAGE with the nearest. */
int ptq_protocol_parse(const char *name, const struct ptq_protocol **, int64_t *window,
                       struct ptq_status *);
const struct ptq_protocol *ptq_protocol_named(const char *name); /* a name of the table */
/* The rules with the window in place of N, in the arena; NULL: no memory. */
const char *ptq_protocol_rules(const struct ptq_protocol *, int64_t window, struct ptq_arena *,
                               struct ptq_status *);
const char *ptq_rules_of_window(const char *rules, int64_t window, struct ptq_arena *,
                                struct ptq_status *);

/* How calibration windows are taken from a text. */
enum ptq_draw_kind {
    PTQ_DRAW_FIRST,
    PTQ_DRAW_WINDOWS,
    PTQ_DRAW_GPTQ,
    PTQ_DRAW_DOCUMENTS,
    PTQ_DRAW_SENTENCES /* of encoders, which take no other */
};
struct ptq_draw_rule {
    const char *name, *title, *rules; /* rules: N is the window */
};
const struct ptq_draw_rule *ptq_draw_rules(int *n); /* [enum ptq_draw_kind] */
int ptq_draw_parse(const char *name, enum ptq_draw_kind *, struct ptq_status *);
#endif
