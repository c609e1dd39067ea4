#include "kernels/bench.h"
#include "core/clock.h"
#include "core/stat.h"
#include "kernels/machine.h"
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* ROTATE: a cache that does not evict in order of age keeps a quarter of four times its size at
 * most. NAP: libraries' threads spin for a while after their work. */
enum { ROTATE = 4, PROBE_NS = 3000000, REPETITION_NS = 10000000, NAP_NS = 30000000, PAGE = 4096 };
enum { LEAST_ROTATION = 64 << 20, WARM_UP = 4, LOOKS = 3, SLOW = 50 };
static const double DISTURBED = 0.9;    /* of the best probe */
static const double LEAST_SHARE = 0.97; /* of a repetition that each thread was on a processor */

/* ---- memory ---- */

void *ptq_bench_memory(const struct ptq_bench *b, int64_t bytes, struct ptq_status *st)
{
    if (bytes > b->most_bytes) {
        ptq_status_set(st, PTQ_SKIP, "needs %.1f GiB, a quarter of the free memory is %.1f GiB",
                       (double)bytes / (1 << 30), (double)b->most_bytes / (1 << 30));
        return NULL;
    }
    void *at =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        ptq_status_set(st, PTQ_ERR_MEMORY, "a benchmark's data: %lld bytes: %s", (long long)bytes,
                       strerror(errno));
        return NULL;
    }
    (void)madvise(at, (size_t)bytes, MADV_HUGEPAGE); /* only a wish */
    for (int64_t i = 0; i < bytes; i += PAGE)
        ((volatile char *)at)[i] = 0;
    return at;
}

void ptq_bench_memory_free(void *at, int64_t bytes)
{
    if (at)
        munmap(at, (size_t)bytes);
}

int64_t ptq_bench_copies(const struct ptq_bench *b, int64_t bytes)
{
    int64_t n = (b->rotate_bytes + bytes - 1) / bytes;
    if (n > b->most_bytes / bytes)
        n = b->most_bytes / bytes;
    return n < 1 ? 1 : n;
}

int ptq_bench_open(struct ptq_bench *b, struct ptq_pool *pool, struct ptq_bench_time t,
                   struct ptq_status *st)
{
    const int64_t memory = ptq_free_memory_bytes();
    *b = (struct ptq_bench){.cache_bytes = ptq_last_cache_bytes(),
                            .most_bytes = memory / 4,
                            .row_ns = (int64_t)(t.row_s * 1e9),
                            .repetition_ns = REPETITION_NS,
                            .least_rounds = t.least_rounds};
    if (b->row_ns / 20 < b->repetition_ns)
        b->repetition_ns = b->row_ns / 20 + 1;
    b->rotate_bytes = ROTATE * b->cache_bytes;
    if (b->rotate_bytes < LEAST_ROTATION)
        b->rotate_bytes = LEAST_ROTATION;
    b->probe = (struct ptq_prober){.pool = pool,
                                   .bytes = b->rotate_bytes,
                                   .ns = PROBE_NS < b->repetition_ns ? PROBE_NS : b->repetition_ns};
    if (b->probe.bytes > memory / 8)
        b->probe.bytes = memory / 8 / PAGE * PAGE + PAGE;
    b->probe.memory = ptq_bench_memory(b, b->probe.bytes, st);
    return b->probe.memory ? PTQ_OK : PTQ_ERR_MEMORY;
}

void ptq_bench_close(struct ptq_bench *b)
{
    ptq_bench_memory_free(b->probe.memory, b->probe.bytes);
    b->probe.memory = NULL;
}

/* ---- statistics ---- */

struct ptq_bench_summary ptq_bench_summary(const double *samples, const bool *marked, int64_t n)
{
    double kept[PTQ_BENCH_ROUNDS];
    int64_t n_kept = 0;
    assert(n <= PTQ_BENCH_ROUNDS);
    for (int64_t i = 0; i < n; i++)
        if (!marked || !marked[i])
            kept[n_kept++] = samples[i];
    if (n_kept < 3)
        for (n_kept = 0; n_kept < n; n_kept++)
            kept[n_kept] = samples[n_kept];
    ptq_sort_f64(kept, n_kept);
    return (struct ptq_bench_summary){.n = n_kept,
                                      .median = ptq_quantile_sorted(kept, n_kept, 0.5),
                                      .q1 = ptq_quantile_sorted(kept, n_kept, 0.25),
                                      .q3 = ptq_quantile_sorted(kept, n_kept, 0.75),
                                      .least = ptq_quantile_sorted(kept, n_kept, 0)};
}

struct ptq_bench_share ptq_bench_share(const struct ptq_bench_work *w, double ns,
                                       struct ptq_bench_limit limit)
{
    struct ptq_bench_share s = {.bound = "-"};
    s.memory = limit.gbs > 0 ? w->bytes / limit.gbs / ns : 0;
    s.ops = limit.gops > 0 ? w->ops / limit.gops / ns : 0;
    s.share = s.memory > s.ops ? s.memory : s.ops;
    if (s.share > 0)
        s.bound = s.memory > s.ops ? "memory" : "ops";
    return s;
}

/* ---- one repetition ---- */

struct turn { /* of one work; passes start where the last repetition ended */
    const struct ptq_bench_work *work;
    struct ptq_bench *bench;
    int64_t loops;
    int64_t slice; /* items of a thread in one loop, where all of its own take too long */
    int64_t first; /* loop, counted over repetitions */
    int64_t begin_ns;
    double *on_processor; /* [threads]: share of the time since begin_ns */
};

struct range {
    int64_t begin, end;
};
static struct range own_items(const struct turn *t, int64_t slot)
{
    const int64_t threads = ptq_pool_threads(t->bench->probe.pool), n = t->work->items;
    return (struct range){n * slot / threads, n * (slot + 1) / threads};
}

/* Copies take turns before items move on, or some would never meet. */
static void one_thread(const struct turn *t, int64_t slot)
{
    const struct ptq_bench_work *w = t->work;
    const struct range own = own_items(t, slot);
    const int64_t n = own.end - own.begin, slice = t->slice < n ? t->slice : n;
    for (int64_t i = t->first; n && i < t->first + t->loops; i++) {
        const int64_t begin = own.begin + (slice < n ? i / w->copies * slice % (n - slice + 1) : 0);
        w->run(w->arg, i % w->copies, begin, begin + slice, (int)slot);
    }
}

static void threads_piece(void *arg, int64_t begin, int64_t end)
{
    const struct turn *t = arg;
    for (int64_t slot = begin; slot < end; slot++) {
        const int64_t cpu = ptq_thread_ns();
        one_thread(t, slot);
        t->on_processor[slot] =
            (double)(ptq_thread_ns() - cpu) / (double)(ptq_now_ns() - t->begin_ns);
    }
}

static void nap(int64_t ns)
{
    const struct timespec t = {ns / 1000000000, ns % 1000000000};
    nanosleep(&t, NULL);
}

/* ns of a whole pass. */
static double repeat(struct turn *t, bool *disturbed)
{
    struct ptq_pool *pool = t->bench->probe.pool;
    const int threads = ptq_pool_threads(pool);
    t->begin_ns = ptq_now_ns();
    if (t->work->own_threads)
        for (int64_t i = t->first; i < t->first + t->loops; i++)
            t->work->run(t->work->arg, i % t->work->copies, 0, t->work->items, 0);
    else
        ptq_pool_for(pool, threads, 1, threads_piece, t);
    const double ns = (double)(ptq_now_ns() - t->begin_ns);
    const struct range longest = own_items(t, threads - 1);
    const double n = (double)(longest.end - longest.begin);
    *disturbed = false;
    for (int i = 0; i < threads && !t->work->own_threads; i++)
        *disturbed |= t->on_processor[i] < LEAST_SHARE && t->work->items >= threads;
    if (t->work->own_threads)
        nap(NAP_NS);
    t->first += t->loops;
    const double pass = ns / (double)t->loops * ((double)t->slice < n ? n / (double)t->slice : 1);
    if (2 * ns < (double)t->bench->repetition_ns) /* others slowed it down when it was fitted */
        t->loops *= 2;
    return pass;
}

/* Where a pass takes longer than several repetitions, loops are shortened. The least of some looks
 * decides: one may be disturbed, and a part of the items is not what is asked for. */
static void fit_slice(struct turn *t)
{
    const struct range own = own_items(t, ptq_pool_threads(t->bench->probe.pool) - 1);
    const double n = (double)(own.end - own.begin), most = SLOW * (double)t->bench->repetition_ns;
    double least = INFINITY;
    bool disturbed;
    t->loops = t->slice = 1;
    for (int i = 0; i < LOOKS && least > most; i++)
        least = fmin(least, repeat(t, &disturbed));
    t->slice = least <= most || n <= 1 ? INT64_MAX : (int64_t)(n * most / SLOW / least) + 1;
}

/* Loops until a repetition is long enough. */
static void fit(struct turn *t)
{
    const double target = (double)t->bench->repetition_ns;
    bool disturbed;
    t->slice = INT64_MAX;
    if (!t->work->own_threads)
        fit_slice(t);
    double ns = 0;
    for (t->loops = 1; ns < target / 4;) {
        const int64_t loops = t->loops, begin = ptq_now_ns();
        (void)repeat(t, &disturbed);
        ns = (double)(ptq_now_ns() - begin) - (t->work->own_threads ? NAP_NS : 0);
        t->loops = ns < target / 4 ? 2 * loops : loops;
    }
    if (ns < target)
        t->loops = (int64_t)((double)t->loops * target / ns) + 1;
}

/* ---- rounds ---- */

struct rounds {
    int64_t n;
    bool needed[PTQ_MAX_PROBE_LOOPS];
    double probe[PTQ_MAX_PROBE_LOOPS][PTQ_BENCH_ROUNDS + 1];
    double ns[PTQ_BENCH_WORKS][PTQ_BENCH_ROUNDS];
    bool marked[PTQ_BENCH_WORKS][PTQ_BENCH_ROUNDS];
};

static int memory_loop(const struct ptq_bench_work *w)
{
    return ptq_probe_find(w->memory, ptq_cpu_flags(PTQ_ISA_AVX512));
}

static int ops_loop(const struct ptq_bench_work *w)
{
    return w->arithmetic == PTQ_BENCH_NO_OPS
               ? -1
               : ptq_probe_find((enum ptq_probe_kind)w->arithmetic, w->flags);
}

static void probe_all(struct ptq_bench *b, struct rounds *r)
{
    for (int l = 0; l < ptq_n_probe_loops; l++)
        if (r->needed[l])
            r->probe[l][r->n] = ptq_probe_run(&b->probe, l);
}

/* Means of the probes before and after a repetition: a short dip in one says little. */
static double around(const struct rounds *r, int loop, int64_t i)
{
    return loop < 0 ? 0 : (r->probe[loop][i] + r->probe[loop][i + 1]) / 2;
}

static void learn_best(struct ptq_bench *b, const struct rounds *r)
{
    for (int l = 0; l < ptq_n_probe_loops; l++)
        for (int64_t i = 0; r->needed[l] && i < r->n; i++)
            b->best[l] = fmax(b->best[l], around(r, l, i));
}

static struct ptq_bench_limit limit_of(const struct rounds *r, const struct ptq_bench_work *w,
                                       int64_t i)
{
    return (struct ptq_bench_limit){around(r, memory_loop(w), i), around(r, ops_loop(w), i)};
}

/* What binds a work, or nearly, decides whether the machine was slow for it. */
static bool slow(const struct ptq_bench *b, const struct rounds *r, const struct ptq_bench_work *w,
                 double ns, int64_t i)
{
    const struct ptq_bench_limit limit = limit_of(r, w, i);
    const struct ptq_bench_share s = ptq_bench_share(w, ns, limit);
    return (s.memory > s.share / 2 && limit.gbs < DISTURBED * b->best[memory_loop(w)]) ||
           (s.ops > s.share / 2 && limit.gops < DISTURBED * b->best[ops_loop(w)]);
}

static void mark_slow(struct ptq_bench *b, struct rounds *r, const struct ptq_bench_work *work,
                      int works)
{
    learn_best(b, r);
    for (int k = 0; k < works; k++)
        for (int64_t i = 0; i < r->n; i++)
            r->marked[k][i] |= slow(b, r, &work[k], r->ns[k][i], i);
}

static void sum_up(const struct ptq_bench *b, const struct rounds *r,
                   const struct ptq_bench_work *work, int k, struct ptq_bench_result *out)
{
    const struct ptq_bench_work *w = &work[k];
    double gbs[PTQ_BENCH_ROUNDS], gops[PTQ_BENCH_ROUNDS], memory[PTQ_BENCH_ROUNDS],
        ops[PTQ_BENCH_ROUNDS], speed[PTQ_BENCH_ROUNDS];
    bool either[PTQ_BENCH_ROUNDS];
    const bool *marked = r->marked[k];
    *out =
        (struct ptq_bench_result){.rounds = r->n, .ns = ptq_bench_summary(r->ns[k], marked, r->n)};
    for (int64_t i = 0; i < r->n; i++) {
        const struct ptq_bench_limit limit = limit_of(r, w, i);
        const struct ptq_bench_share s = ptq_bench_share(w, r->ns[k][i], limit);
        gbs[i] = limit.gbs;
        gops[i] = limit.gops;
        memory[i] = s.memory;
        ops[i] = s.ops;
        speed[i] = r->ns[k][i] / r->ns[0][i];
        either[i] = marked[i] || r->marked[0][i];
        out->marked += marked[i];
    }
    out->limit = (struct ptq_bench_limit){ptq_bench_summary(gbs, marked, r->n).median,
                                          ptq_bench_summary(gops, marked, r->n).median};
    out->share = ptq_bench_share(w, out->ns.median, out->limit);
    out->share.memory = ptq_bench_summary(memory, marked, r->n).median;
    out->share.ops = ptq_bench_summary(ops, marked, r->n).median;
    out->share.share = fmax(out->share.memory, out->share.ops);
    out->spread = (out->ns.q3 - out->ns.q1) / 2 / out->ns.median;
    const struct ptq_bench_limit best = {b->probe.best[memory_loop(w)],
                                         ops_loop(w) < 0 ? 0 : b->probe.best[ops_loop(w)]};
    out->best = ptq_bench_share(w, out->ns.least, best).share;
    out->speed = ptq_bench_summary(speed, either, r->n).median;
}

static void run_rounds(struct ptq_bench *b, struct turn *turn, int works, struct rounds *r)
{
    const int64_t begin = ptq_now_ns();
    for (; r->n < PTQ_BENCH_ROUNDS; r->n++) {
        probe_all(b, r);
        if (r->n >= b->least_rounds && ptq_now_ns() - begin > b->row_ns)
            return;
        for (int k = 0; k < works; k++)
            r->ns[k][r->n] = repeat(&turn[k], &r->marked[k][r->n]);
    }
    probe_all(b, r);
}

int ptq_bench_run(struct ptq_bench *b, const struct ptq_bench_work *work, int n,
                  struct ptq_bench_result *out, struct ptq_status *st)
{
    const int threads = ptq_pool_threads(b->probe.pool);
    struct ptq_arena a;
    ptq_arena_init(&a, 0);
    struct rounds *r = ptq_arena_alloc(&a, st, 1, sizeof *r);
    double *share = ptq_arena_alloc(&a, st, threads, sizeof *share);
    struct turn turn[PTQ_BENCH_WORKS];
    assert(n <= PTQ_BENCH_WORKS);
    for (int k = 0; r && share && k < n; k++) {
        turn[k] = (struct turn){.work = &work[k], .bench = b, .on_processor = share};
        r->needed[memory_loop(&work[k])] = true;
        if (ops_loop(&work[k]) >= 0)
            r->needed[ops_loop(&work[k])] = true;
        fit(&turn[k]);
    }
    if (r && share) {
        for (int i = 0; i < WARM_UP; i++)
            probe_all(b, r);
        const struct ptq_cpu_time before = ptq_cpu_time();
        const int64_t begin = ptq_now_ns();
        run_rounds(b, turn, n, r);
        const struct ptq_cpu_time after = ptq_cpu_time();
        mark_slow(b, r, work, n);
        for (int k = 0; k < n; k++) {
            sum_up(b, r, work, k, &out[k]);
            const double ns = (double)(ptq_now_ns() - begin);
            /* in steps of 10 ms: may come out below 0 */
            out[k].others = fmax(0, (double)(after.others_ns - before.others_ns) / ns);
            out[k].stolen = (double)(after.stolen_ns - before.stolen_ns) / ns;
        }
    }
    const int code = r && share ? PTQ_OK : PTQ_ERR_MEMORY;
    ptq_arena_clear(&a);
    return code;
}
