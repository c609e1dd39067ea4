/* pool.h: a small pthread pool.
 * Threads take whole pieces of an index range; piece borders depend on (n, grain) alone, so results
 * cannot depend on the thread count when pieces write disjoint data. A parallel_for inside a
 * parallel_for runs serially on the calling thread. No spinning: workers sleep on a condition
 * variable. The pool is created once, before other threads, and freed last. */
#ifndef PTQ_CORE_POOL_H
#define PTQ_CORE_POOL_H
#include "core/status.h"

struct ptq_pool;
/* n_threads >= 1 (the caller counts as one); 0: as many as the process may use (sched_getaffinity).
 */
int ptq_pool_new(struct ptq_pool **, int n_threads, struct ptq_status *);
void ptq_pool_free(struct ptq_pool *);         /* NULL is fine */
int ptq_pool_threads(const struct ptq_pool *); /* NULL: 1 */
/* Calls fn(arg, begin, end) for the pieces of [0, n); returns when all are done. pool == NULL or
 * one thread: serial, in order. */
void ptq_pool_for(struct ptq_pool *, int64_t n, int64_t grain,
                  void (*fn)(void *arg, int64_t begin, int64_t end), void *arg);
/* True on a thread that is inside a piece of a loop that several threads share (nested calls are
 * then serial). A loop that runs serially anyway (no pool, one piece, at most one thread) does not
 * count: loops inside its pieces may use the whole pool. */
bool ptq_pool_inside(void);
/* Runs the pieces with at most max_threads workers (memory budgets); same rules otherwise. */
void ptq_pool_for_at_most(struct ptq_pool *, int max_threads, int64_t n, int64_t grain,
                          void (*fn)(void *arg, int64_t begin, int64_t end), void *arg);
#endif
