/* progress.h: the progress line on stderr: one tqdm-like line with rate, ETA and peak memory on a
 * terminal, a line per finished unit elsewhere; silent when quiet. Thread-safe. stdout is never
 * touched. */
#ifndef PTQ_CORE_PROGRESS_H
#define PTQ_CORE_PROGRESS_H
#include <stdbool.h>
#include <stdint.h>

struct ptq_progress;
/* total 0: not known. NULL on no memory: the rest accept NULL. */
struct ptq_progress *ptq_progress_new(const char *title, int64_t total, bool quiet);
/* One unit done; label names it ("gptq b3 g64: ppl 1.26"). The ETA takes a unit still to do for as
 * long as the mean of those done. */
void ptq_progress_step(struct ptq_progress *, const char *label);
/* A line of its own; nothing when quiet. */
void ptq_progress_note(struct ptq_progress *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Ends the line. */
void ptq_progress_free(struct ptq_progress *);
#endif
