/* baseline_onednn.c: oneDNN's product of 8-bit integers: unsigned inputs, signed weights packed as
 * the library likes them, sums of 32 bits, no group scales. The library is opened when it is asked
 * for: the program neither needs it nor loads it otherwise. */
#include "kernels/bench_ops.h"
#include <stdio.h>
#if defined(__has_include) && !defined(PTQ_SANITIZE)
#if __has_include(<oneapi/dnnl/dnnl.h>)
#include <oneapi/dnnl/dnnl.h>
#if DNNL_VERSION_MAJOR == 2
#define HAVE_DNNL
#endif
#endif
#endif

#ifndef HAVE_DNNL

int ptq_rival_onednn_open(struct ptq_rival *r, struct ptq_bench *b, const struct ptq_rival_shape *s,
                          struct ptq_status *st)
{
    (void)b, (void)s;
    *r = (struct ptq_rival){.own = NULL};
    snprintf(r->name, sizeof r->name, "built without oneDNN 2 (libdnnl-dev)");
    return ptq_status_set(st, PTQ_SKIP, "%s", r->name);
}

void ptq_rival_onednn_close(struct ptq_rival *r)
{
    (void)r;
}

#else
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* Every function that is called, by its name. */
#define FUNCTIONS(F)                                                                               \
    F(engine_create)                                                                               \
    F(engine_destroy)                                                                              \
    F(stream_create)                                                                               \
    F(stream_destroy)                                                                              \
    F(stream_wait)                                                                                 \
    F(memory_desc_init_by_tag)                                                                     \
    F(memory_desc_get_size)                                                                        \
    F(matmul_desc_init)                                                                            \
    F(primitive_desc_create)                                                                       \
    F(primitive_desc_destroy)                                                                      \
    F(primitive_desc_query_md)                                                                     \
    F(primitive_create)                                                                            \
    F(primitive_destroy)                                                                           \
    F(primitive_execute)                                                                           \
    F(memory_create)                                                                               \
    F(memory_destroy)

struct library {
    void *handle;
#define DECLARE(f) __typeof__(dnnl_##f) *f;
    FUNCTIONS(DECLARE)
#undef DECLARE
};

struct onednn {
    struct library lib;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t described;
    dnnl_primitive_t product;
    dnnl_memory_t x, y, *w; /* w: [copies] */
    char *memory;           /* weights, then x, then y */
    int64_t bytes, copies;
};

static bool find(void *handle, const char *name, void *function)
{
    void *at = dlsym(handle, name);
    memcpy(function, &at, sizeof at);
    return at;
}

static bool load(struct library *l, int threads)
{
    char soname[32];
    snprintf(soname, sizeof soname, "libdnnl.so.%d", DNNL_VERSION_MAJOR);
    l->handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    if (!l->handle)
        return false;
    void (*set_threads)(int);
    if (find(l->handle, "omp_set_num_threads", &set_threads))
        set_threads(threads);
    bool all = true;
#define FIND(f) all = all && find(l->handle, "dnnl_" #f, &l->f);
    FUNCTIONS(FIND)
#undef FIND
    return all;
}

static bool describe(struct onednn *o, const struct ptq_rival_shape *s)
{
    const dnnl_dims_t x = {s->batch, s->cols}, w = {s->cols, s->rows}, y = {s->batch, s->rows};
    dnnl_memory_desc_t dx, dw, dy;
    dnnl_matmul_desc_t d;
    const struct library *l = &o->lib;
    return !l->engine_create(&o->engine, dnnl_cpu, 0) &&
           !l->stream_create(&o->stream, o->engine, dnnl_stream_default_flags) &&
           !l->memory_desc_init_by_tag(&dx, 2, x, dnnl_u8, dnnl_ab) &&
           !l->memory_desc_init_by_tag(&dw, 2, w, dnnl_s8, dnnl_format_tag_any) &&
           !l->memory_desc_init_by_tag(&dy, 2, y, dnnl_s32, dnnl_ab) &&
           !l->matmul_desc_init(&d, &dx, &dw, NULL, &dy) &&
           !l->primitive_desc_create(&o->described, &d, NULL, o->engine, NULL) &&
           !l->primitive_create(&o->product, o->described);
}

static const dnnl_memory_desc_t *md_of(const struct onednn *o, dnnl_query_t what)
{
    return o->lib.primitive_desc_query_md(o->described, what, 0);
}

static int64_t size_of(const struct onednn *o, dnnl_query_t what)
{
    return (int64_t)(o->lib.memory_desc_get_size(md_of(o, what)) + 4095) / 4096 * 4096;
}

/* Contents are whatever bytes: each is a valid number. */
static bool take_memory(struct onednn *o, struct ptq_bench *b, struct ptq_status *st)
{
    const struct library *l = &o->lib;
    const int64_t w = size_of(o, dnnl_query_weights_md), x = size_of(o, dnnl_query_src_md),
                  y = size_of(o, dnnl_query_dst_md), copies = ptq_bench_copies(b, w);
    o->bytes = copies * w + x + y;
    o->memory = ptq_bench_memory(b, o->bytes, st);
    o->w = calloc((size_t)copies, sizeof *o->w);
    if (!o->memory || !o->w)
        return false;
    for (int64_t i = 0; i < copies * w + x; i++)
        o->memory[i] = (char)((uint64_t)i * 2654435761u >> 13);
    for (; o->copies < copies; o->copies++)
        if (l->memory_create(&o->w[o->copies], md_of(o, dnnl_query_weights_md), o->engine,
                             o->memory + o->copies * w))
            return false;
    char *rest = o->memory + copies * w;
    return !l->memory_create(&o->x, md_of(o, dnnl_query_src_md), o->engine, rest) &&
           !l->memory_create(&o->y, md_of(o, dnnl_query_dst_md), o->engine, rest + x);
}

static void run(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct onednn *o = arg;
    (void)begin, (void)end, (void)slot;
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, o->x}, {DNNL_ARG_WEIGHTS, o->w[copy]}, {DNNL_ARG_DST, o->y}};
    (void)o->lib.primitive_execute(o->product, o->stream, 3, args);
    (void)o->lib.stream_wait(o->stream);
}

static int refuse(struct ptq_rival *r, const char *why, struct ptq_status *st)
{
    snprintf(r->name, sizeof r->name, "%.90s", why);
    return ptq_status_set(st, PTQ_SKIP, "%s", why);
}

int ptq_rival_onednn_open(struct ptq_rival *r, struct ptq_bench *b, const struct ptq_rival_shape *s,
                          struct ptq_status *st)
{
    *r = (struct ptq_rival){.own = NULL};
    struct onednn *o = r->own = calloc(1, sizeof *o);
    if (!o)
        return ptq_status_nomem(st, "a benchmark", sizeof *o);
    if (!load(&o->lib, ptq_pool_threads(b->probe.pool)))
        return refuse(r, "oneDNN 2 (libdnnl2) is not installed", st);
    if (!describe(o, s))
        return refuse(r, "oneDNN has no such product", st);
    if (!take_memory(o, b, st))
        return refuse(r, st->code ? st->text : "oneDNN has no memory", st);
    const double ops = 2.0 * (double)s->rows * (double)s->cols * (double)s->batch;
    r->work = (struct ptq_bench_work){.items = 1,
                                      .copies = o->copies,
                                      .run = run,
                                      .arg = o,
                                      .own_threads = true,
                                      .bytes = (double)s->rows * (double)s->cols,
                                      .ops = ops,
                                      .values = (double)s->rows * (double)s->cols,
                                      .memory = PTQ_PROBE_READ,
                                      .arithmetic = PTQ_PROBE_DOT,
                                      .flags = ptq_cpu_flags(PTQ_ISA_AVX512)};
    snprintf(r->name, sizeof r->name, "oneDNN %d.%d, own threads", DNNL_VERSION_MAJOR,
             DNNL_VERSION_MINOR);
    return PTQ_OK;
}

/* The library stays loaded: its threads would run into the void. */
void ptq_rival_onednn_close(struct ptq_rival *r)
{
    struct onednn *o = r->own;
    if (!o)
        return;
    const struct library *l = &o->lib;
    for (int64_t i = 0; i < o->copies; i++)
        l->memory_destroy(o->w[i]);
    if (o->x)
        l->memory_destroy(o->x);
    if (o->y)
        l->memory_destroy(o->y);
    if (o->product)
        l->primitive_destroy(o->product);
    if (o->described)
        l->primitive_desc_destroy(o->described);
    if (o->stream)
        l->stream_destroy(o->stream);
    if (o->engine)
        l->engine_destroy(o->engine);
    ptq_bench_memory_free(o->memory, o->bytes);
    free(o->w);
    free(o);
    r->own = NULL;
}
#endif
