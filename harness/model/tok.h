/* tok.h: inside of tokenizer.h, shared by model/tok_*.c. A reader (tok_read_*.c: one kind of file)
 * fills a definition; a model (tok_bpe.c, tok_spm.c, ...) compiles it and encodes. The container
 * stores definitions, so every reader's tokenizer can be stored and every stored one is run by the
 * same code. */
#ifndef PTQ_MODEL_TOK_H
#define PTQ_MODEL_TOK_H
#include "core/json.h"
#include "model/tokenizer.h"

enum ptq_tok_kind { PTQ_TOK_BYTES, PTQ_TOK_BPE, PTQ_TOK_SPM, PTQ_TOK_LLAMA2C, PTQ_TOK_WORDPIECE };
enum ptq_token_type {
    PTQ_TOKEN_NORMAL,
    PTQ_TOKEN_UNKNOWN,
    PTQ_TOKEN_CONTROL,
    PTQ_TOKEN_BYTE,
    PTQ_TOKEN_USER,
    PTQ_TOKEN_UNUSED
};
/* A token found in the text before anything else runs. */
struct ptq_added_token {
    int32_t id;
    const char *text;
    int64_t bytes;
    bool special, lstrip, rstrip, single_word, normalized;
};
enum { PTQ_MAX_STEPS = 8 };
/* A pre-tokenizer step; every step splits the pieces that the one before it left. */
enum ptq_split_kind {
    PTQ_SPLIT_ISOLATED, /* matches of the pattern are pieces, what lies between too */
    PTQ_SPLIT_REMOVED,  /* what lies between matches are the pieces */
    PTQ_SPLIT_MATCHES   /* matches are the pieces, the rest goes ("Removed" with invert) */
};
struct ptq_pretok {
    const char *pattern; /* in Oniguruma's syntax (tok_pretok.h); NULL: no split */
    enum ptq_split_kind kind;
    bool add_prefix_space; /* a space is put before a piece that does not begin with one */
};
enum ptq_norm_step {
    PTQ_NORM_NONE,
    PTQ_NORM_NFC,
    PTQ_NORM_SPM_SPACES, /* " " -> U+2581 */
    PTQ_NORM_BERT        /* clean, CJK spaced, accents stripped, lower case: flags below */
};
/* PTQ_TOK_SPM: where U+2581 is put before a text. A segment is the text between added tokens. */
enum ptq_spm_prefix {
    PTQ_PREFIX_NONE, /* Gemma; Metaspace with prepend_scheme "never" */
    PTQ_PREFIX_EACH, /* every segment: sentencepiece's dummy prefix, the normalizer Prepend */
    PTQ_PREFIX_MISSING_EACH, /* Metaspace "always": segments that do not begin with U+2581 or " " */
    PTQ_PREFIX_MISSING_FIRST /* Metaspace "first": the same, at the text's beginning alone */
};
struct ptq_tok_def {
    enum ptq_tok_kind kind;
    const char *source;
    int64_t n;          /* tokens */
    const char *text;   /* texts of all tokens one after another: for PTQ_TOK_BPE in the byte-symbol
                           alphabet of GPT-2, else plain UTF-8 (a byte token "<0x0A>") */
    const int64_t *at;  /* [n + 1] token i is text[at[i]] .. text[at[i + 1]] */
    const float *score; /* [n] or NULL: SentencePiece's and llama2.c's */
    const uint8_t *type;  /* [n] enum ptq_token_type, or NULL: all normal */
    int64_t n_merges;     /* in order of rank */
    const int32_t *merge; /* [n_merges][2] ids of the two parts */
    int64_t n_added;
    const struct ptq_added_token *added;
    int n_steps;
    struct ptq_pretok step[PTQ_MAX_STEPS];
    enum ptq_norm_step norm;
    bool ignore_merges; /* a piece that is a token as a whole is that token (Llama 3) */
    bool byte_fallback; /* unknown characters become byte tokens */
    bool dummy_prefix;  /* SentencePiece: decoding drops the first space of a text */
    bool fuse_unk;
    /* PTQ_TOK_SPM merges by rank where merges are given, else by score. */
    enum ptq_spm_prefix prefix;
    bool split_spaces;   /* Metaspace "split": every U+2581 begins a piece; merges stay inside */
    bool squeeze_spaces; /* remove_extra_whitespaces of sentencepiece */
    bool lower_case, strip_accents, split_cjk, clean_text; /* PTQ_NORM_BERT */
    int64_t max_word_chars;               /* WordPiece: longer words are unknown; 100 */
    const char *continuing_prefix;        /* WordPiece: "##" */
    int32_t bos, eos, unk, cls, sep, pad; /* -1: none */
    int n_before, n_after;
    int32_t before[4], after[4];
};

/* Readers: fill the definition in the arena. Texts of messages name file and place. */
int ptq_tok_read_json(const char *path, struct ptq_arena *, struct ptq_tok_def *,
                      struct ptq_status *); /* tokenizer.json; tokenizer_config.json beside it */
int ptq_tok_read_vocab(
    const char *path, struct ptq_arena *, struct ptq_tok_def *,
    struct ptq_status *); /* vocab.json + merges.txt (GPT-2: encoder.json + vocab.bpe) */
int ptq_tok_read_wordlist(const char *path, struct ptq_arena *, struct ptq_tok_def *,
                          struct ptq_status *); /* BERT's vocab.txt */
int ptq_tok_read_spm(const char *path, struct ptq_arena *, struct ptq_tok_def *,
                     struct ptq_status *); /* tokenizer.model: protobuf */
int ptq_tok_read_llama2c(const char *path, struct ptq_arena *, struct ptq_tok_def *,
                         struct ptq_status *); /* tok512.bin */
int ptq_tok_read_gguf(const json_t *meta, const char *path, struct ptq_arena *,
                      struct ptq_tok_def *, struct ptq_status *); /* tokenizer.ggml.* */
int ptq_tok_read_h5(struct ptq_h5 *, struct ptq_arena *, struct ptq_tok_def *, struct ptq_status *);
int ptq_tok_write_h5(const struct ptq_tok_def *, struct ptq_h5 *, struct ptq_status *);
/* Of all that decides ids or text: every field but source. */
int ptq_tok_key(const struct ptq_tok_def *, char out_33[33], struct ptq_status *);
const char *ptq_tok_kind_name(enum ptq_tok_kind); /* "bpe" */

/* Growing list of ids that models append to, and what a model wants to keep between the stretches
 * of one call (its cache): NULL at first, freed by the model's done. */
struct ptq_ids {
    int32_t *at;
    int64_t n, room;
    void *call;
};
int ptq_ids_add(struct ptq_ids *, int32_t id, struct ptq_status *);
/* Room for n more behind at[n], for models that write there themselves. */
int ptq_ids_room(struct ptq_ids *, int64_t n, struct ptq_status *);

/* Ids of tokens by their text (tok_index.c); of equal texts the lowest id. Only tokens that are not
 * PTQ_TOKEN_UNUSED. */
struct ptq_tok_index;
int ptq_tok_index_new(struct ptq_tok_index **, const struct ptq_tok_def *, struct ptq_status *);
void ptq_tok_index_free(struct ptq_tok_index *); /* NULL is fine */
int32_t ptq_tok_index_find(const struct ptq_tok_index *, const char *text, int64_t bytes); /* -1 */
/* PTQ_ERR_USAGE when a lower id has the text of this token, which is not unused. */
int ptq_tok_index_check(const struct ptq_tok_index *, int64_t id, struct ptq_status *);
/* For readers: text and at of a definition are filled, merge lines "left right" become ids. A part
 * that is no token is PTQ_ERR_USAGE with source, number of the merge and its text. */
int ptq_tok_merge_ids(const struct ptq_tok_index *, const char *source, int64_t number,
                      const char *line, int64_t bytes, int32_t out[2], struct ptq_status *);
struct ptq_tok_pair {
    const char *left;
    int64_t left_bytes;
    const char *right;
    int64_t right_bytes;
};
int ptq_tok_pair_ids(const struct ptq_tok_index *, const char *source, int64_t number,
                     struct ptq_tok_pair, int32_t out[2], struct ptq_status *);

/* Byte symbols of GPT-2: the code point that stands for a byte, and back (-1: none). */
uint32_t ptq_byte_symbol(uint8_t byte);
int ptq_symbol_byte(uint32_t symbol);
/* Fills step, n_steps, norm and ignore_merges for a byte-level BPE by GGUF's tokenizer.ggml.pre:
 * "gpt-2" "smollm" "llama-bpe" "qwen2" "bloom" ...; others are PTQ_ERR_USAGE with the list. */
int ptq_pretok_named(const char *name, const char *source, struct ptq_tok_def *,
                     struct ptq_status *);

/* The text with its spaces as PTQ_TOK_SPM sees it (tok_spm.c); replaces what the buffer holds. */
struct ptq_text_buffer;
int ptq_spm_normalize(const struct ptq_tok_def *, const char *text, int64_t bytes, bool first,
                      struct ptq_text_buffer *, struct ptq_status *);

/* A model: compiled from a definition that outlives it. encode sees text between added tokens,
 * valid UTF-8; `first`: nothing lies before it. */
struct ptq_tok_model {
    enum ptq_tok_kind kind;
    int (*compile)(const struct ptq_tok_def *, void **own, struct ptq_status *);
    void (*release)(void *own);
    int (*encode)(const struct ptq_tok_def *, const void *own, const char *text, int64_t bytes,
                  bool first, struct ptq_ids *, struct ptq_status *);
    /* Writes the bytes of one token, at most 4 x those of its text + 8; first: of the text. NULL:
     * its text as it is. */
    int (*decode)(const struct ptq_tok_def *, int32_t id, bool first, char *out, int64_t *n);
    void (*done)(void *call); /* frees ids.call; NULL: nothing is kept */
};
extern const struct ptq_tok_model ptq_tok_bpe, ptq_tok_spm, ptq_tok_llama2c, ptq_tok_wordpiece,
    ptq_tok_bytes;
#endif
