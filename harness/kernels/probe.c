#include "kernels/probe.h"
#include "core/clock.h"
#include <assert.h>

enum { LINE = 64, FIRST_TURNS = 1 << 12, FIRST_PROBES = 12 };

const char *const ptq_probe_names[PTQ_N_PROBES] = {"read", "copy", "fma", "dot"};

int ptq_probe_find(enum ptq_probe_kind kind, unsigned flags)
{
    int found = -1;
    for (int i = 0; i < ptq_n_probe_loops; i++) {
        const struct ptq_probe_loop *l = &ptq_probe_loops[i];
        if (l->kind == kind && !(l->needs & ~flags))
            found = i;
    }
    assert(found >= 0);
    return found;
}

struct job {
    const struct ptq_probe_loop *loop;
    char *from, *to;
    int64_t n; /* a thread */
};

static void piece(void *arg, int64_t begin, int64_t end)
{
    const struct job *j = arg;
    for (int64_t t = begin; t < end; t++)
        j->loop->run(j->n, j->from + t * j->n * LINE, j->to + t * j->n * LINE);
}

/* COPY goes from the first half of the memory to the second. */
static bool of_memory(enum ptq_probe_kind kind)
{
    return kind == PTQ_PROBE_READ || kind == PTQ_PROBE_COPY;
}

static struct job take_job(struct ptq_prober *p, int loop, int threads)
{
    struct job j = {.loop = &ptq_probe_loops[loop], .from = p->memory, .n = p->turns[loop]};
    const int64_t room = j.loop->kind == PTQ_PROBE_COPY ? p->bytes / 2 : p->bytes;
    if (of_memory(j.loop->kind)) {
        if (j.n > room / LINE / threads)
            j.n = room / LINE / threads;
        const int64_t bytes = j.n * LINE * threads;
        p->at = p->at + bytes > room ? 0 : p->at;
        j.from += p->at;
        p->at += bytes;
    }
    j.to = j.from + p->bytes / 2 / LINE * LINE;
    return j;
}

static double run_once(struct ptq_prober *p, int loop, int64_t *ns)
{
    const int threads = ptq_pool_threads(p->pool);
    struct job j = take_job(p, loop, threads);
    const int64_t begin = ptq_now_ns();
    ptq_pool_for(p->pool, threads, 1, piece, &j);
    *ns = ptq_now_ns() - begin;
    return j.loop->work * (double)j.n * threads / (double)(*ns > 0 ? *ns : 1);
}

/* A probe that others slowed down at first is too short: turns only grow. Memory: up to all of it.
 */
static void grow(struct ptq_prober *p, int loop, int64_t ns)
{
    const double longer = (double)p->ns / (double)(ns > 0 ? ns : 1);
    if (longer > 1.5)
        p->turns[loop] = (int64_t)((double)p->turns[loop] * (longer < 8 ? longer : 8)) / 4 * 4;
    if (of_memory(ptq_probe_loops[loop].kind) && p->turns[loop] > p->bytes / LINE)
        p->turns[loop] = p->bytes / LINE;
}

double ptq_probe_run(struct ptq_prober *p, int loop)
{
    int64_t ns;
    for (int i = 0; i < FIRST_PROBES && !p->best[loop]; i++) {
        p->turns[loop] = p->turns[loop] ? p->turns[loop] : FIRST_TURNS;
        (void)run_once(p, loop, &ns);
        grow(p, loop, ns);
    }
    const double rate = run_once(p, loop, &ns);
    grow(p, loop, ns);
    if (rate > p->best[loop])
        p->best[loop] = rate;
    return rate;
}
