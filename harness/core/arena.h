/* arena.h: memory with one owner and one end of life.
 * An arena hands out zeroed 64-byte aligned pieces and frees them all at once. Ownership: the
 * arena's owner; a piece is never freed alone. Not thread-safe. Running out sets the status and
 * returns NULL. */
#ifndef PTQ_CORE_ARENA_H
#define PTQ_CORE_ARENA_H
#include "core/status.h"

struct ptq_arena_chunk;
/* Where large pieces go when memory is short: files of this folder that have no name and vanish
 * with the arena. Disk space is reserved at once, so a full disk is an error of the allocation. */
struct ptq_spill {
    const char *folder;
    int64_t above_bytes; /* pieces that would bring the arena over this are put there */
};
struct ptq_arena {
    struct ptq_arena_chunk *head;
    size_t used_bytes, peak_bytes; /* handed out now; most since init */
    size_t limit_bytes;            /* 0: none */
    struct ptq_spill spill;        /* folder NULL: none */
};

void ptq_arena_init(struct ptq_arena *, size_t limit_bytes);
/* n elements of size bytes, zeroed; n may be 0 (a valid unique pointer). NULL: overflow, limit or
 * no memory; status set. */
void *ptq_arena_alloc(struct ptq_arena *, struct ptq_status *, int64_t n, size_t size);
char *ptq_arena_strdup(struct ptq_arena *, struct ptq_status *, const char *text);
char *ptq_arena_printf(struct ptq_arena *, struct ptq_status *, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* True when the piece lies in a file of the spill folder: its pages may be given back to the system
 * at any time (ptq_spill_rest). */
bool ptq_arena_is_spilled(const struct ptq_arena *, const void *piece);
/* Tells the system that bytes of a spilled piece are not needed soon. Their contents stay. */
void ptq_spill_rest(void *at, size_t bytes);
/* Frees every piece; the arena can be used again. */
void ptq_arena_clear(struct ptq_arena *);
#endif
