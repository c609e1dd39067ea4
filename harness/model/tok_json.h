/* tok_json.h: shared by the readers of JSON vocabularies (tok_read_json.c, tok_read_vocab.c). */
#ifndef PTQ_MODEL_TOK_JSON_H
#define PTQ_MODEL_TOK_JSON_H
#include "model/tok.h"

struct ptq_tok_reading {
    const char *path;
    struct ptq_arena *arena;
    struct ptq_tok_def *def;
    struct ptq_tok_index *index;   /* of the vocabulary, once it is there */
    struct ptq_added_token *added; /* [def->n_added] */
    bool byte_level;               /* the pre-tokenizer ended in ByteLevel */
    struct ptq_status *st;
};

/* Parses a whole file that must hold an object; *out is the caller's. */
int ptq_json_object_file(const char *path, json_t **out, struct ptq_status *);
/* The object in the file beside path, or NULL when there is no such file. */
int ptq_json_beside(const struct ptq_tok_reading *, const char *name, json_t **out);
/* Fills n, text, at, type and index from {"token": id, ...}; ids of added tokens that the
 * vocabulary does not name are PTQ_TOKEN_UNUSED there. */
int ptq_tok_fill_vocab(struct ptq_tok_reading *, const json_t *vocab);
/* Room for n merges, and the one of this number (from 0). */
int ptq_tok_merges_room(struct ptq_tok_reading *, int64_t n, int32_t **out);
/* Id of a token by its text, among added tokens too; -1: none. */
int32_t ptq_tok_id_of(const struct ptq_tok_reading *, const char *text, int64_t bytes);
/* bos .. pad, and what add_bos_token and add_eos_token say about before and after: from the values
 * of tokenizer_config.json or special_tokens_map.json; NULL: by usual names. */
int ptq_tok_roles(struct ptq_tok_reading *, const json_t *config, const json_t *map);

/* ---- tokenizer.json's normalizer, pre-tokenizer and post-processor (tok_json_steps.c) ---- */
int ptq_tok_json_normalizer(struct ptq_tok_reading *, const json_t *);
int ptq_tok_json_pretokenizer(struct ptq_tok_reading *, const json_t *);
int ptq_tok_json_postprocessor(struct ptq_tok_reading *, const json_t *);
/* Members, with what stands for an absent or null one. */
const char *ptq_json_word(const json_t *object, const char *key, const char *absent);
bool ptq_json_yes(const json_t *object, const char *key, bool absent);
#endif
