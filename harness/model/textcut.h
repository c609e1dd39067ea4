/* textcut.h: a text under way from source to windows; internal to text*.c. */
#ifndef PTQ_MODEL_TEXTCUT_H
#define PTQ_MODEL_TEXTCUT_H
#include "model/protocol.h"
#include "model/text.h"
#include "model/textfile.h"
#include "model/tokenizer.h"

struct ptq_load {
    const struct ptq_model_info *model;
    const struct ptq_text_request *ask;
    const struct ptq_protocol *protocol; /* NULL: to be decided by the source */
    int64_t named_window;                /* by the protocol's name; 0: none */
    int64_t window;
    struct ptq_arena *arena; /* the result's */
    struct ptq_text *out;
    struct ptq_status *st;
};

/* Windows in the order of the text: room for n_seq of them over n_total ids. */
struct ptq_cut {
    int64_t *len, *offset;
    int32_t *id;
    int64_t *first; /* NULL: all 1 */
    int32_t *after; /* NULL: none */
    int64_t n_seq, n_total;
    bool left; /* the source holds more than was taken */
};
int ptq_cut_alloc(struct ptq_load *, struct ptq_cut *, int64_t n_seq, int64_t n_total);
int ptq_cut_alloc_scored(struct ptq_load *, struct ptq_cut *, int64_t n_seq);
void ptq_cut_end(struct ptq_cut *, int64_t len); /* the ids are in place */
/* Fills the text but its name: name: the protocol's; rules in the arena. */
int ptq_cut_finish(struct ptq_load *, const struct ptq_cut *, const char *protocol,
                   const char *rules);
/* "gptq-2048", "gptq-2048/first20" when part; NULL: no memory. */
const char *ptq_cut_name(struct ptq_load *, const char *base, bool part, int64_t n);
/* The window from request, protocol and model; def: of the protocol (0: the context). */
int ptq_load_window(struct ptq_load *, int64_t def);

/* Encoders and models that predict tokens have protocols of their own: PTQ_ERR_USAGE for the
 * other's.
 */
int ptq_load_check_kind(const struct ptq_load *);

int ptq_load_facts(struct ptq_load *, const char *seed); /* textids.c */
int ptq_load_ids(struct ptq_load *, const char *path);   /* textids.c */
int ptq_load_file(struct ptq_load *);                    /* textwindows.c */

/* Tokens of a text: bytes where tok is NULL. */
struct ptq_stream {
    const struct ptq_load *load;
    const struct ptq_tokenizer *tok;
    bool specials, added;
    /* sums over everything encoded: text bytes over tokens of text is bytes_per_token */
    int64_t n_bytes, n_ids;
};
int ptq_stream_encode(struct ptq_stream *, const char *text, int64_t bytes, struct ptq_arena *,
                      int32_t **ids, int64_t *n);
/* Windows of a calibration draw, or the crops that an evaluation of old C4 is (textdraw.c). */
struct ptq_draw_request {
    enum ptq_draw_kind kind;
    int64_t n;
    uint64_t seed;
};
int ptq_draw_windows(struct ptq_load *, struct ptq_stream *, const struct ptq_textfile *,
                     const struct ptq_draw_request *, struct ptq_cut *);
/* Sentences, each a window of its own length: the first in order, or by a draw (textsentences.c).
 */
int ptq_cut_sentences(struct ptq_load *, struct ptq_stream *, const struct ptq_textfile *,
                      const struct ptq_draw_request * /* or NULL */, struct ptq_cut *);
#endif
