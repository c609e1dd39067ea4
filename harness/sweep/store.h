/* store.h: results/NAME/, the memory of a sweep.
 *
 * - cells.jsonl: the truth: one row a line (row.h), append-only; shard 1/4 writes
 *   cells.1-of-4.jsonl
 * - plan.txt: keys of the rows the last configuration wants, one a line; rows of older
 *   configurations stay in the files but readers (ptq_rows_read_run) leave them out
 * - run.json: commit, compiler, CPU, libraries, configuration and input keys of the last start
 * - forms.pack: stored forms of the layers (formpack.h); a cache: may be deleted, is made again
 * - stats.KEY.h5: calibration and held-out statistics; a cache too
 *
 * A row is one write(2) to a file opened for appending. After a kill or power cut at most the last
 * line is torn: it has no newline, is cut off at the next start, and its cell runs again. A write
 * that fails (disk full) is undone to the last whole line. */
#ifndef PTQ_SWEEP_STORE_H
#define PTQ_SWEEP_STORE_H
#include "core/json.h"

struct ptq_store;
/* Makes the folder, locks the shard's file against a second sweep (PTQ_ERR_USAGE), cuts a torn
 * line, reads the rows of every shard. Folder or file not writable: PTQ_ERR_IO. */
int ptq_store_open(struct ptq_store **, const char *run_dir, int shard, int n_shards,
                   struct ptq_status *);
/* For looking only (--dry-run): takes no lock, makes, cuts and writes nothing, and may read beside
 * a running sweep. No append. */
int ptq_store_read(struct ptq_store **, const char *run_dir, struct ptq_status *);
/* What the next row carries as host.seq: larger than that of every row of the folder when it was
 * opened, growing with each call. Of two rows of one key the larger is the newer one (row.h),
 * whichever shard's file it lies in; no clock is asked. Thread-safe. */
int64_t ptq_store_next_seq(struct ptq_store *);
/* Syncs and unlocks; PTQ_ERR_IO when rows may not have reached the disk. NULL is fine. */
int ptq_store_close(struct ptq_store *, struct ptq_status *);
/* The newest row of a key, or NULL; valid until the key is appended again. Thread-safe. */
const json_t *ptq_store_find(struct ptq_store *, const char *key);
/* Appends a row (borrowed; not to be changed afterwards). Thread-safe; syncs every few seconds. */
int ptq_store_append(struct ptq_store *, json_t *row, struct ptq_status *);
int64_t ptq_store_torn(const struct ptq_store *); /* lines cut off when it was opened: 0 or 1 */

/* "cells.jsonl", "cells.1-of-4.jsonl": DIR/STEM[.I-of-N].EXTENSION into out. Shards count from 1 in
 * names. */
int ptq_run_file(char *out, size_t size, const char *run_dir, const char *stem,
                 const char *extension, int shard, int n_shards, struct ptq_status *);
/* An O_APPEND file, locked: for cells and forms. */
int ptq_open_locked(const char *path, int *fd, struct ptq_status *);
/* Writes all or nothing: a failed write is cut off again. *size is the file's length before, and
 * after success. */
int ptq_append_whole(int fd, const char *path, const void *data, size_t bytes, int64_t *size,
                     struct ptq_status *);
#endif
