/* hash.h: 128-bit content keys (XXH3) as 32 hex digits. Keys name contents, not secrets. Fields are
 * framed by their length, so ("ab","c") and ("a","bc") differ; kinds of fields differ too. */
#ifndef PTQ_CORE_HASH_H
#define PTQ_CORE_HASH_H
#include <stddef.h>
#include <stdint.h>

enum { PTQ_KEY_CHARS = 33 }; /* 32 hex digits and the NUL */
struct ptq_hasher;           /* opaque streaming state */

/* NULL: no memory. The others accept NULL; done then writes "", which is no valid key. */
struct ptq_hasher *ptq_hasher_new(void);
void ptq_hasher_add(struct ptq_hasher *, const void *data, size_t bytes);
/* NULL is a field of its own, unlike "". */
void ptq_hasher_add_text(struct ptq_hasher *, const char *text);
void ptq_hasher_add_i64(struct ptq_hasher *, int64_t v);
void ptq_hasher_add_f64(struct ptq_hasher *, double v); /* by its bits */
/* Writes the key and frees the hasher. */
void ptq_hasher_done(struct ptq_hasher *, char out[PTQ_KEY_CHARS]);

/* Plain XXH3-128 and XXH3-64, without frames. */
void ptq_hash_text(const char *text, char out[PTQ_KEY_CHARS]);
uint64_t ptq_hash64(const void *data, size_t bytes);
#endif
