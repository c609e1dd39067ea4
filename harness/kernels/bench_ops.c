#include "kernels/bench_ops.h"
#include "core/rng.h"
#include "core/size.h"
#include <string.h>

const struct ptq_bench_op_info ptq_bench_ops[PTQ_N_BENCH_OPS] = {
    [PTQ_BENCH_MATMUL_I8] = {"matmul_i8", PTQ_KOP_MATMUL_I8, true, true, true},
    [PTQ_BENCH_MATMUL_F32] = {"matmul_f32", PTQ_KOP_MATMUL_F32, true, true, true},
    [PTQ_BENCH_PACK] = {"pack", PTQ_KOP_PACK, .bits = true},
    [PTQ_BENCH_UNPACK] = {"unpack", PTQ_KOP_UNPACK, .bits = true},
    [PTQ_BENCH_BITS_PACK] = {"bits_pack", PTQ_KOP_BITS_PACK, .bits = true},
    [PTQ_BENCH_BITS_UNPACK] = {"bits_unpack", PTQ_KOP_BITS_UNPACK, .bits = true},
    [PTQ_BENCH_ROWQ_MINMAX] = {"rowq_minmax", PTQ_KOP_ROWQ_MINMAX, .bits = true, .group = true},
    [PTQ_BENCH_ROWQ_MSE] = {"rowq_mse", PTQ_KOP_ROWQ_MSE, .bits = true, .group = true},
    [PTQ_BENCH_ACTQ] = {"actq", PTQ_KOP_ACTQ, .group = true},
    [PTQ_BENCH_HADAMARD] = {"hadamard", PTQ_KOP_HADAMARD},
    [PTQ_BENCH_VQ] = {"vq", PTQ_KOP_VQ_ADD, .bits = true},
};

enum { LINE = 64, VQ_LEN = 256, VQ_TABLE_FLOATS = 1 << 16 };

/* ---- memory and contents ---- */

static void *region(struct ptq_bench_case *c, int64_t n, int64_t bytes, struct ptq_status *st)
{
    int64_t all;
    if (!ptq_size_mul(n, bytes, &all) || all < 1) {
        ptq_status_set(st, PTQ_SKIP, "%lld x %lld bytes", (long long)n, (long long)bytes);
        return NULL;
    }
    void *at = ptq_bench_memory(c->bench, all, st);
    if (at) {
        c->region[c->n_regions].at = at;
        c->region[c->n_regions++].bytes = all;
    }
    return at;
}

/* Of memory that was not got: too much of it is no error but a row that is left out. */
static int failed(const struct ptq_status *st)
{
    return st->code;
}

static int64_t lines(int64_t bytes)
{
    return (bytes + LINE - 1) / LINE * LINE;
}

static void fill_random(void *at, int64_t bytes, uint64_t seed)
{
    uint64_t *v = at;
    for (int64_t i = 0; i < bytes / 8; i++)
        v[i] = ptq_hash_u64(seed, (uint64_t)i);
}

/* About normal: a sum of four bytes. */
static void fill_floats(float *x, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        const uint64_t h = ptq_hash_u64(seed, (uint64_t)i);
        const int sum =
            (int)(h & 255) + (int)(h >> 8 & 255) + (int)(h >> 16 & 255) + (int)(h >> 24 & 255);
        x[i] = (float)(sum - 510) / 128;
    }
}

/* ---- packed weights ---- */

struct places { /* of the pieces of one copy */
    int64_t scale, zero, bytes;
};

static struct places shape_weight(const struct ptq_bench_spec *s, struct ptq_kweight *w)
{
    *w = (struct ptq_kweight){.rows = s->rows,
                              .cols = s->cols,
                              .panels = (s->rows + PTQ_PANEL_ROWS - 1) / PTQ_PANEL_ROWS,
                              .pcols =
                                  (s->cols + PTQ_PANEL_COLS - 1) / PTQ_PANEL_COLS * PTQ_PANEL_COLS,
                              .code = s->table ? PTQ_KCODE_TABLE : PTQ_KCODE_INT,
                              .bits = s->bits};
    w->group = s->group > 0 && s->group < w->pcols ? s->group : w->pcols;
    w->groups = (w->pcols + w->group - 1) / w->group;
    w->panel_bytes = w->pcols * PTQ_PANEL_ROWS * s->bits / 8;
    w->table_cols = w->pcols;
    const int64_t codes = w->panels * w->panel_bytes, n = w->panels * w->groups * PTQ_PANEL_ROWS;
    w->bytes = codes + 2 * n + (s->table ? 16 * (int64_t)sizeof(float) : n);
    return (struct places){lines(codes), lines(codes) + lines(2 * n),
                           lines(codes) + lines(2 * n) + lines(n)};
}

static int make_table(struct ptq_bench_case *c, struct ptq_kweight *w, struct ptq_status *st)
{
    float *table = ptq_arena_alloc(&c->arena, st, 16 + 2, sizeof *table);
    uint8_t *table8 = ptq_arena_alloc(&c->arena, st, 16, 1);
    if (!table || !table8)
        return failed(st);
    table[16] = 0.0078125f;
    table[17] = -1;
    for (int i = 0; i < 1 << w->bits; i++) {
        table8[i] = (uint8_t)(i * 255 / ((1 << w->bits) - 1));
        table[i] = table[16] * (float)table8[i] + table[17];
    }
    w->table = table;
    w->table8 = table8;
    w->table_step = table + 16;
    w->table_min = table + 17;
    return PTQ_OK;
}

static void fill_weight(const struct ptq_kweight *w, struct places at, char *copy)
{
    uint16_t *scale = (uint16_t *)(copy + at.scale);
    uint8_t *zero = (uint8_t *)(copy + at.zero);
    fill_random(copy, at.scale, 1);
    for (int64_t i = 0; i < w->panels * w->groups * PTQ_PANEL_ROWS; i++) {
        scale[i] = (uint16_t)(0x2000 | (ptq_hash_u64(2, (uint64_t)i) & 0x3FF)); /* 1/128 .. 1/64 */
        zero[i] = (uint8_t)(ptq_hash_u64(3, (uint64_t)i) & (uint64_t)((1 << w->bits) - 1));
    }
}

static int make_weights(struct ptq_bench_case *c, struct ptq_bench *b, struct ptq_status *st)
{
    struct ptq_kweight one;
    const struct places at = shape_weight(&c->spec, &one);
    if (c->spec.table && make_table(c, &one, st))
        return failed(st);
    c->work.copies = ptq_bench_copies(b, at.bytes);
    c->weight = ptq_arena_alloc(&c->arena, st, c->work.copies, sizeof *c->weight);
    char *memory = c->weight ? region(c, c->work.copies, at.bytes, st) : NULL;
    if (!memory)
        return failed(st);
    fill_weight(&one, at, memory);
    for (int64_t i = 0; i < c->work.copies; i++) {
        char *copy = memory + i * at.bytes;
        if (i)
            memcpy(copy, memory, (size_t)at.bytes);
        c->weight[i] = one;
        c->weight[i].codes = (uint8_t *)copy;
        c->weight[i].scale16 = (uint16_t *)(copy + at.scale);
        c->weight[i].zero = c->spec.table ? NULL : (uint8_t *)(copy + at.zero);
    }
    return PTQ_OK;
}

/* ---- products ---- */

static void run_matmul(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct ptq_bench_case *c = arg;
    (void)slot;
    c->kernel->run.matmul(&c->weight[copy], &c->acts, begin, end, c->y, c->spec.rows);
}

static int make_acts(struct ptq_bench_case *c, struct ptq_bench *b, struct ptq_status *st)
{
    const struct ptq_bench_spec *s = &c->spec;
    const struct ptq_kinputs in = {.channels = s->cols,
                                   .cols = s->cols,
                                   .pcols = c->weight->pcols,
                                   .group = c->weight->group,
                                   .bits = 8};
    float *x = region(c, s->batch, s->cols * (int64_t)sizeof *x, st);
    const struct ptq_kacts_job job = {&in,     x, s->batch, s->cols, s->op == PTQ_BENCH_MATMUL_I8,
                                      s->flags};
    int64_t bytes;
    if (!x)
        return failed(st);
    fill_floats(x, s->batch * s->cols, 4);
    void *memory = ptq_kacts_bytes(&job, &bytes) ? region(c, 1, bytes, st) : NULL;
    if (memory)
        ptq_kacts_make(&job, b->probe.pool, memory, &c->acts);
    return memory ? PTQ_OK : failed(st);
}

static int open_matmul(struct ptq_bench_case *c, struct ptq_bench *b, struct ptq_status *st)
{
    const bool integers = c->spec.op == PTQ_BENCH_MATMUL_I8;
    struct ptq_kweight shape;
    (void)shape_weight(&c->spec, &shape);
    int code = make_weights(c, b, st);
    code = code ? code : make_acts(c, b, st);
    if (!code && !(c->y = region(c, c->spec.batch, c->spec.rows * (int64_t)sizeof(float), st)))
        code = failed(st);
    c->work.items = shape.panels;
    c->work.run = run_matmul;
    c->work.bytes = (double)shape.bytes;
    c->work.ops = 2.0 * (double)c->spec.rows * (double)c->spec.cols * (double)c->spec.batch;
    c->work.arithmetic = integers ? PTQ_PROBE_DOT : PTQ_PROBE_FMA;
    return code;
}

/* ---- streams: items from one place to another ---- */

static char *from_item(const struct ptq_bench_case *c, int64_t copy, int64_t i)
{
    return c->from + copy * c->from_bytes + i * c->from_ld;
}
static char *to_item(const struct ptq_bench_case *c, int64_t copy, int64_t i)
{
    return c->to + copy * c->to_bytes + i * c->to_ld;
}

static void run_pack(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct ptq_bench_case *c = arg;
    (void)slot;
    for (int64_t p = begin; p < end; p++)
        if (c->spec.op == PTQ_BENCH_PACK)
            c->kernel->run.pack(c->weight, (const uint16_t *)from_item(c, copy, 0), c->spec.cols, p,
                                (uint8_t *)to_item(c, copy, p));
        else
            c->kernel->run.unpack(c->weight, (const uint8_t *)from_item(c, copy, p), p,
                                  (uint16_t *)to_item(c, copy, 0), c->spec.cols);
}

static void run_bits(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct ptq_bench_case *c = arg;
    (void)slot;
    for (int64_t i = begin; i < end; i++) {
        const uint8_t *from = (const uint8_t *)from_item(c, copy, i);
        uint8_t *to = (uint8_t *)to_item(c, copy, i);
        if (c->spec.op == PTQ_BENCH_BITS_PACK)
            c->kernel->run.bits_pack(from, c->spec.cols, c->spec.bits, to);
        else
            c->kernel->run.bits_unpack(from, c->spec.cols, c->spec.bits, to);
    }
}

static void run_rowq(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct ptq_bench_case *c = arg;
    const int64_t cols = c->spec.cols, group = c->spec.group > 0 ? c->spec.group : cols;
    (void)slot;
    for (int64_t i = begin; i < end; i++)
        for (int64_t k = 0; k < cols; k += group) {
            struct ptq_rowq q = {.w = (const float *)from_item(c, copy, i) + k,
                                 .n = cols - k < group ? cols - k : group,
                                 .bits = c->spec.bits,
                                 .codes = (uint8_t *)to_item(c, copy, i) + k};
            c->kernel->run.rowq(&q);
        }
}

static void run_actq(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct ptq_bench_case *c = arg;
    (void)slot;
    for (int64_t i = begin; i < end; i++) {
        char *to = to_item(c, copy, i);
        struct ptq_actq q = {.x = (const float *)from_item(c, copy, i),
                             .n = c->spec.cols,
                             .pcols = c->weight->pcols,
                             .group = c->weight->group,
                             .codes = (int8_t *)to,
                             .sums = (int32_t *)(to + lines(c->weight->pcols))};
        c->kernel->run.actq(&q);
    }
}

static int64_t hadamard_block(int64_t cols)
{
    return cols & -cols;
}

static void run_hadamard(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct ptq_bench_case *c = arg;
    const int64_t n = hadamard_block(c->spec.cols);
    (void)slot;
    c->kernel->run.hadamard((float *)from_item(c, copy, begin), n,
                            (end - begin) * c->spec.cols / n);
}

struct stream {
    void (*run)(void *, int64_t, int64_t, int64_t, int);
    int64_t items, from_ld, to_ld; /* bytes an item; 0: in place */
    double bytes, ops;
    bool floats;
    unsigned mask; /* of 16-bit values: highest code; 0: any bytes */
};

static struct stream stream_of(const struct ptq_bench_case *c)
{
    const struct ptq_bench_spec *s = &c->spec;
    const struct ptq_kweight *w = c->weight;
    const double n = (double)s->rows * (double)s->cols;
    const int64_t codes = PTQ_PANEL_ROWS * s->cols * 2,
                  row_bits = lines((s->cols * s->bits + 7) / 8),
                  quantized = lines(w->pcols) + lines(4 * w->groups);
    const unsigned mask = (1u << s->bits) - 1;
    switch (s->op) {
    case PTQ_BENCH_PACK:
        return (struct stream){run_pack, w->panels, codes, w->panel_bytes, 2 * n + n * s->bits / 8,
                               0,        false,     mask};
    case PTQ_BENCH_UNPACK:
        return (struct stream){
            run_pack, w->panels, w->panel_bytes, codes, 2 * n + n * s->bits / 8, 0, false, 0};
    case PTQ_BENCH_BITS_PACK:
        return (struct stream){run_bits, s->rows, lines(s->cols),  row_bits, n + n * s->bits / 8,
                               0,        false,   mask | mask << 8};
    case PTQ_BENCH_BITS_UNPACK:
        return (struct stream){run_bits, s->rows, row_bits, lines(s->cols), n + n * s->bits / 8,
                               0,        false,   0};
    case PTQ_BENCH_ROWQ_MINMAX:
        return (struct stream){run_rowq, s->rows, 4 * s->cols, s->cols, 5 * n, 0, true, 0};
    case PTQ_BENCH_ROWQ_MSE:
        return (struct stream){run_rowq, s->rows, 4 * s->cols, s->cols, 5 * n, 0, true, 0};
    case PTQ_BENCH_ACTQ:
        return (struct stream){run_actq, s->rows, lines(4 * s->cols), quantized, 5 * n, 0, true, 0};
    default:
        /* zeros stay zeros however often they are transformed */
        return (struct stream){run_hadamard, s->rows,
                               4 * s->cols,  0,
                               8 * n,        n * __builtin_ctzll((uint64_t)hadamard_block(s->cols)),
                               false,        0};
    }
}

static void fill_stream(const struct ptq_bench_case *c, const struct stream *s)
{
    const int64_t n = c->from_bytes;
    if (s->floats)
        fill_floats((float *)c->from, n / 4, 5);
    else if (s->to_ld)
        fill_random(c->from, n, 5);
    for (int64_t i = 0; s->mask && i < n / 2; i++)
        ((uint16_t *)c->from)[i] &= (uint16_t)s->mask;
    for (int64_t i = 1; i < c->work.copies; i++)
        memcpy(c->from + i * n, c->from, (size_t)n);
}

static int open_stream(struct ptq_bench_case *c, struct ptq_bench *b, struct ptq_status *st)
{
    c->weight = ptq_arena_alloc(&c->arena, st, 1, sizeof *c->weight);
    if (!c->weight)
        return failed(st);
    (void)shape_weight(&c->spec, c->weight);
    const struct stream s = stream_of(c);
    c->from_ld = s.from_ld;
    c->to_ld = s.to_ld;
    c->from_bytes = lines(s.items * s.from_ld);
    c->to_bytes = lines(s.items * s.to_ld);
    c->work.copies = ptq_bench_copies(b, c->from_bytes + c->to_bytes);
    c->from = region(c, c->work.copies, c->from_bytes, st);
    c->to = c->from && s.to_ld ? region(c, c->work.copies, c->to_bytes, st) : c->from;
    if (!c->from || !c->to)
        return failed(st);
    fill_stream(c, &s);
    c->work.items = s.items;
    c->work.run = s.run;
    c->work.bytes = s.bytes;
    c->work.ops = s.ops;
    c->work.memory = PTQ_PROBE_COPY;
    c->work.arithmetic = s.ops > 0 ? PTQ_PROBE_FMA : PTQ_BENCH_NO_OPS;
    return PTQ_OK;
}

/* ---- codes of vectors ---- */

/* Every thread makes the token's whole table of partial sums, in pieces that its second-level cache
 * holds, and adds up rows of its own. */
static void run_vq(void *arg, int64_t copy, int64_t begin, int64_t end, int slot)
{
    const struct ptq_bench_case *c = arg;
    const struct ptq_kvector *v = &c->vector[copy];
    float *table = (float *)(c->to + slot * c->to_ld);
    const int64_t piece = VQ_TABLE_FLOATS / v->book_ld;
    const int64_t last = end * PTQ_PANEL_ROWS < v->rows ? end * PTQ_PANEL_ROWS : v->rows;
    memset(c->y + begin * PTQ_PANEL_ROWS, 0,
           (size_t)(last - begin * PTQ_PANEL_ROWS) * sizeof *c->y);
    for (int64_t s = 0; s < v->segments; s += piece) {
        const struct ptq_vq_range range = {s, s + piece < v->segments ? s + piece : v->segments,
                                           begin, end};
        c->second->run.vq_table(v, (const float *)c->from, range.begin, range.end, table);
        c->kernel->run.vq_add(v, table, &range, c->y);
    }
}

static struct ptq_kvector shape_vector(const struct ptq_bench_spec *s)
{
    struct ptq_kvector v = {.rows = s->rows,
                            .dim = 8 / s->bits,
                            .panels = (s->rows + PTQ_PANEL_ROWS - 1) / PTQ_PANEL_ROWS,
                            .book_len = VQ_LEN,
                            .book_ld = VQ_LEN,
                            .code_bits = 8,
                            .groups = 1};
    v.segments = s->cols / v.dim;
    v.cols = v.segments * v.dim;
    v.book_segments = v.group_segments = v.segments;
    v.bytes = v.panels * v.segments * PTQ_PANEL_ROWS + VQ_LEN * v.dim * (int64_t)sizeof(float);
    return v;
}

static int make_vectors(struct ptq_bench_case *c, struct ptq_bench *b, struct ptq_status *st)
{
    struct ptq_kvector one = shape_vector(&c->spec);
    const int64_t bytes = one.panels * one.segments * PTQ_PANEL_ROWS;
    float *books = ptq_arena_alloc(&c->arena, st, VQ_LEN * one.dim, sizeof *books);
    c->work.copies = ptq_bench_copies(b, bytes);
    c->vector = ptq_arena_alloc(&c->arena, st, c->work.copies, sizeof *c->vector);
    char *memory = books && c->vector ? region(c, c->work.copies, bytes, st) : NULL;
    if (!memory)
        return failed(st);
    fill_floats(books, VQ_LEN * one.dim, 6);
    fill_random(memory, bytes, 7);
    one.books = books;
    for (int64_t i = 0; i < c->work.copies; i++) {
        if (i)
            memcpy(memory + i * bytes, memory, (size_t)bytes);
        c->vector[i] = one;
        c->vector[i].codes = memory + i * bytes;
    }
    return PTQ_OK;
}

static int open_vq(struct ptq_bench_case *c, struct ptq_bench *b, struct ptq_status *st)
{
    const int threads = ptq_pool_threads(b->probe.pool);
    if (c->spec.bits == 3)
        return ptq_status_set(st, PTQ_SKIP, "codes of 8 bits hold vectors of 1, 2 or 4 values");
    c->second = ptq_kernel_best(PTQ_KOP_VQ_TABLE, c->spec.flags, NULL, 1);
    if (!c->second)
        return ptq_status_set(st, PTQ_SKIP, "no kernel serves it");
    if (make_vectors(c, b, st))
        return failed(st);
    c->to_ld = VQ_TABLE_FLOATS * (int64_t)sizeof(float);
    c->from = region(c, c->spec.cols, sizeof(float), st);
    c->to = c->from ? region(c, threads, c->to_ld, st) : NULL;
    c->y = c->to ? region(c, c->spec.rows, sizeof(float), st) : NULL;
    if (!c->y)
        return failed(st);
    fill_floats((float *)c->from, c->spec.cols, 8);
    c->work.items = c->vector->panels;
    c->work.run = run_vq;
    c->work.bytes = (double)c->vector->bytes;
    return PTQ_OK;
}

/* ---- cases ---- */

const char *ptq_bench_kernel_name(const struct ptq_kernel *k)
{
    for (int i = 0; i < ptq_n_kernels; i++)
        if (ptq_kernels[i] == k)
            return ptq_kernel_name(i);
    return "-";
}

const struct ptq_kernel *ptq_bench_pick(const struct ptq_bench_spec *s)
{
    struct ptq_kweight shape;
    (void)shape_weight(s, &shape);
    if (s->table) /* a mark of what will be there */
        shape.table8 = (const uint8_t *)"",
        shape.table = shape.table_step = shape.table_min = &(float){0};
    const bool product = s->op == PTQ_BENCH_MATMUL_I8 || s->op == PTQ_BENCH_MATMUL_F32;
    return ptq_kernel_best(ptq_bench_ops[s->op].kernel, s->flags, product ? &shape : NULL,
                           product ? s->batch : 0);
}

int ptq_bench_case_open(struct ptq_bench_case *c, struct ptq_bench *b,
                        const struct ptq_bench_spec *spec, struct ptq_status *st)
{
    *c = (struct ptq_bench_case){.spec = *spec, .bench = b};
    ptq_arena_init(&c->arena, 0);
    if (spec->cols > PTQ_MAX_PCOLS)
        return ptq_status_set(st, PTQ_SKIP, "at most %d columns", PTQ_MAX_PCOLS);
    c->work = (struct ptq_bench_work){.arg = c,
                                      .values = (double)spec->rows * (double)spec->cols,
                                      .memory = PTQ_PROBE_READ,
                                      .arithmetic = PTQ_BENCH_NO_OPS,
                                      .flags = spec->flags};
    if (!(c->kernel = ptq_bench_pick(spec)))
        return ptq_status_set(st, PTQ_SKIP, "no kernel serves it");
    switch (spec->op) {
    case PTQ_BENCH_MATMUL_I8:
    case PTQ_BENCH_MATMUL_F32: return open_matmul(c, b, st);
    case PTQ_BENCH_VQ: return open_vq(c, b, st);
    default: return open_stream(c, b, st);
    }
}

/* Rows for 16 panels a thread: kernels take several side by side. */
enum { CACHED_PANELS = 16, CACHED_COLS = 1024 };
int ptq_bench_cached_open(struct ptq_bench_case *c, struct ptq_bench *b,
                          const struct ptq_bench_spec *spec, struct ptq_status *st)
{
    struct ptq_bench one = *b;
    struct ptq_bench_spec s = *spec;
    one.rotate_bytes = 0;
    s.rows = CACHED_PANELS * PTQ_PANEL_ROWS * (int64_t)ptq_pool_threads(b->probe.pool);
    s.cols = s.cols < CACHED_COLS ? s.cols : CACHED_COLS;
    const int code = ptq_bench_case_open(c, &one, &s, st);
    c->bench = b;
    return code;
}

void ptq_bench_case_close(struct ptq_bench_case *c)
{
    for (int i = 0; i < c->n_regions; i++)
        ptq_bench_memory_free(c->region[i].at, c->region[i].bytes);
    ptq_arena_clear(&c->arena);
    c->n_regions = 0;
}
