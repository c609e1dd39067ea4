#include "core/pool.h"
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Pieces are taken from an atomic counter: which thread computes a piece is open, what a piece is
 * depends on (n, grain). */
struct job {
    void (*fn)(void *arg, int64_t begin, int64_t end);
    void *arg;
    int64_t n, grain, n_pieces;
    _Atomic int64_t next_piece;
    int seats;   /* workers that may still join; under the pool's lock */
    int working; /* workers inside; under the pool's lock */
};

struct ptq_pool {
    int n_threads; /* with the caller */
    int n_started;
    pthread_mutex_t one_job; /* held by the thread whose job runs: a second caller waits here */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a job came, or stop */
    pthread_cond_t idle; /* the last worker left the job */
    struct job *job;
    uint64_t job_number;
    bool stop;
    pthread_t thread[];
};

/* A fact about the calling thread, not state of the module: true while it is inside a piece. */
static _Thread_local bool inside_piece;

bool ptq_pool_inside(void)
{
    return inside_piece;
}

int ptq_pool_threads(const struct ptq_pool *p)
{
    return p ? p->n_threads : 1;
}

static void run_pieces(struct job *j)
{
    for (;;) {
        int64_t piece = atomic_fetch_add(&j->next_piece, 1);
        if (piece >= j->n_pieces)
            break;
        int64_t begin = piece * j->grain;
        int64_t end = j->n - begin < j->grain ? j->n : begin + j->grain;
        j->fn(j->arg, begin, end);
    }
}

static void run_pieces_shared(struct job *j)
{
    inside_piece = true;
    run_pieces(j);
    inside_piece = false;
}

static void *worker(void *arg)
{
    struct ptq_pool *p = arg;
    uint64_t seen = 0;
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        struct job *j = p->job;
        if (!j || p->job_number == seen || j->seats == 0) {
            pthread_cond_wait(&p->wake, &p->lock);
            continue;
        }
        seen = p->job_number;
        j->seats--;
        j->working++;
        pthread_mutex_unlock(&p->lock);
        run_pieces_shared(j);
        pthread_mutex_lock(&p->lock);
        if (--j->working == 0)
            pthread_cond_signal(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Threads the scheduler would give us: respects taskset and containers, unlike the number of CPUs
 * on line. */
static int allowed_threads(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

int ptq_pool_new(struct ptq_pool **out, int n_threads, struct ptq_status *st)
{
    *out = NULL;
    if (n_threads < 0 || n_threads > 4096)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "threads = %d: give a number from 1 to 4096, or 0 for all",
                              n_threads);
    if (n_threads == 0)
        n_threads = allowed_threads();
    size_t bytes = sizeof(struct ptq_pool) + (size_t)(n_threads - 1) * sizeof(pthread_t);
    struct ptq_pool *p = calloc(1, bytes);
    if (!p)
        return ptq_status_nomem(st, "the thread pool", bytes);
    p->n_threads = n_threads;
    pthread_mutex_init(&p->one_job, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->idle, NULL);
    for (; p->n_started < n_threads - 1; p->n_started++) {
        int e = pthread_create(&p->thread[p->n_started], NULL, worker, p);
        if (e) {
            ptq_pool_free(p);
            return ptq_status_set(st, PTQ_ERR_MEMORY,
                                  "cannot start %d threads: %s; lower [run] threads", n_threads,
                                  strerror(e));
        }
    }
    *out = p;
    return PTQ_OK;
}

void ptq_pool_free(struct ptq_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    assert(!p->job);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_started; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->idle);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->one_job);
    free(p);
}

/* The caller works too, then waits for the workers that joined; after job = NULL under the lock
 * nobody can join any more, so the job may live on this stack. */
static void run_shared(struct ptq_pool *p, struct job *j)
{
    pthread_mutex_lock(&p->one_job);
    pthread_mutex_lock(&p->lock);
    p->job = j;
    p->job_number++;
    if (j->seats == 1)
        pthread_cond_signal(&p->wake);
    else
        pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    run_pieces_shared(j);
    pthread_mutex_lock(&p->lock);
    p->job = NULL;
    while (j->working > 0)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
    pthread_mutex_unlock(&p->one_job);
}

void ptq_pool_for_at_most(struct ptq_pool *p, int max_threads, int64_t n, int64_t grain,
                          void (*fn)(void *arg, int64_t begin, int64_t end), void *arg)
{
    if (n <= 0)
        return;
    if (grain < 1)
        grain = 1;
    struct job j = {
        .fn = fn, .arg = arg, .n = n, .grain = grain, .n_pieces = n / grain + (n % grain != 0)};
    int64_t threads = ptq_pool_threads(p);
    if (threads > max_threads)
        threads = max_threads < 1 ? 1 : max_threads;
    if (threads > j.n_pieces)
        threads = j.n_pieces;
    j.seats = (int)threads - 1;
    if (j.seats == 0 || inside_piece)
        run_pieces(&j);
    else
        run_shared(p, &j);
}

void ptq_pool_for(struct ptq_pool *p, int64_t n, int64_t grain,
                  void (*fn)(void *arg, int64_t begin, int64_t end), void *arg)
{
    ptq_pool_for_at_most(p, ptq_pool_threads(p), n, grain, fn, arg);
}
