/* formpack.h: stored forms of a sweep: results/NAME/forms.pack (forms.1-of-4.pack of a shard).
 *
 * One append-only file of records; a record is a header (magic, form key, shape, the method's notes
 * and times, length and hash) and the packed bytes of quant/form.h. It is a cache on its own
 * machine: what is torn, broken or from another build counts as absent and is made again; another
 * build's records stay, for that build. So it is never synced, and thousands of small layers cost
 * no thousands of files. */
#ifndef PTQ_SWEEP_FORMPACK_H
#define PTQ_SWEEP_FORMPACK_H
#include "core/hash.h"
#include "quant/run.h"

struct ptq_pack;
/* Opens the shard's own file for appending (a torn end is cut off: what has no whole record behind
 * it) and those of other shards for reading. */
int ptq_pack_open(struct ptq_pack **, const char *run_dir, int shard, int n_shards,
                  struct ptq_status *);
/* Every shard's file for reading: takes no lock and changes nothing. No put. */
int ptq_pack_read(struct ptq_pack **, const char *run_dir, struct ptq_status *);
/* The same, and what other builds stored counts too, where this one can read it. */
int ptq_pack_read_any(struct ptq_pack **, const char *run_dir, struct ptq_status *);
void ptq_pack_close(struct ptq_pack *); /* NULL is fine */
/* Deletes the shard's own file ([run] keep_forms = 0). */
void ptq_pack_remove(const char *run_dir, int shard, int n_shards);

/* All thread-safe. put: result as the session gave it. */
int ptq_pack_put(struct ptq_pack *, const char *form_key, const struct ptq_result *,
                 struct ptq_status *);
bool ptq_pack_has(struct ptq_pack *, const char *form_key);
/* Fills a result (quant, what, notes, times) in its own arena; release it. PTQ_SKIP: absent or
 * broken. */
int ptq_pack_get(struct ptq_pack *, const char *form_key, struct ptq_result *, struct ptq_status *);
/* True when the record is there and its bytes are whole; a broken one is forgotten. */
bool ptq_pack_verify(struct ptq_pack *, const char *form_key);
#endif
