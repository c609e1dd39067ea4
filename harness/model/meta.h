/* meta.h: reading metadata of a checkpoint (config.json, GGUF's key-value pairs, attributes of
 * /model): a JSON object whose values are checked on the way. A missing key without default, a
 * wrong type and a value out of range are PTQ_ERR_USAGE with file and key. */
#ifndef PTQ_MODEL_META_H
#define PTQ_MODEL_META_H
#include "core/arena.h"
#include "core/json.h"

struct ptq_meta {
    const char *source; /* named in messages */
    const json_t *object;
    const char *prefix;      /* put before every key of ptq_meta_*: GGUF's "llama."; or "" */
    struct ptq_arena *arena; /* texts that are handed out */
};
/* key: as it is, or "a.b": b of the object a. NULL: absent or null. */
const json_t *ptq_meta_find(const struct ptq_meta *, const char *key);
/* Absent (or null): the value is left as it stands when `required` is false. */
int ptq_meta_i64(const struct ptq_meta *, const char *key, bool required, int64_t min, int64_t max,
                 int64_t *out, struct ptq_status *);
int ptq_meta_f64(const struct ptq_meta *, const char *key, bool required, double min, double max,
                 double *out, struct ptq_status *);
int ptq_meta_bool(const struct ptq_meta *, const char *key, bool required, bool *out,
                  struct ptq_status *);
int ptq_meta_text(const struct ptq_meta *, const char *key, bool required, const char **out,
                  struct ptq_status *);
/* The value must be the only one that is supported ("rope_type": "default"); absent is fine. */
int ptq_meta_only(const struct ptq_meta *, const char *key, const char *word, struct ptq_status *);
/* One of words (NULL-terminated); *out its index. */
int ptq_meta_word(const struct ptq_meta *, const char *key, bool required, const char *const *words,
                  int *out, struct ptq_status *);
#endif
