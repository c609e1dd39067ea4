/* Every kernel of the registry against the scalar one of its operation, bit for bit: a kernel that
 * is added is tested without a line here. All buffers end at a page that may not be touched, and
 * the bytes before them are watched. */
#include "testlib.h"
#include "core/rng.h"
#include "kernels/kernel.h"
#include <sys/mman.h>

/* ---- guarded memory ---- */

enum { CANARY = 0xA5, MAX_PIECES = 16, MAX_OUTPUTS = 3 };

struct piece {
    uint8_t *map, *at;
    size_t map_bytes, bytes;
};
struct kcase {
    uint64_t seed, draws;
    struct piece piece[MAX_PIECES];
    int n_pieces;
    const struct piece *output[MAX_OUTPUTS];
    uint8_t *want[MAX_OUTPUTS];
    int n_outputs;
    /* of one operation */
    struct ptq_kweight w;
    struct ptq_kacts x;
    struct ptq_kvector v;
    struct ptq_vq_range range;
    struct ptq_rowq rowq;
    struct ptq_actq actq;
    int64_t begin, end, ld, panel, n, blocks;
    int bits;
    const void *in;
};

/* The last byte stands before the forbidden page; bytes is then a multiple of align. */
static void *take(struct kcase *c, int64_t n, size_t size, size_t align)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size_t)n * size;
    assert_true(c->n_pieces < MAX_PIECES);
    assert_int_equal(bytes % align, 0);
    struct piece *p = &c->piece[c->n_pieces++];
    p->bytes = bytes;
    p->map_bytes = (bytes + 64 + page - 1) / page * page + page;
    p->map = mmap(NULL, p->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p->map != MAP_FAILED);
    assert_int_equal(mprotect(p->map + p->map_bytes - page, page, PROT_NONE), 0);
    p->at = p->map + p->map_bytes - page - bytes;
    memset(p->map, CANARY, p->map_bytes - page - bytes);
    return p->at;
}

static void *take_output(struct kcase *c, int64_t n, size_t size, size_t align)
{
    void *at = take(c, n, size, align);
    c->output[c->n_outputs++] = &c->piece[c->n_pieces - 1];
    return at;
}

static void release(struct kcase *c)
{
    for (int i = 0; i < c->n_pieces; i++)
        munmap(c->piece[i].map, c->piece[i].map_bytes);
    for (int i = 0; i < c->n_outputs; i++)
        free(c->want[i]);
}

static bool canaries_live(const struct kcase *c)
{
    bool live = true;
    for (int i = 0; i < c->n_pieces; i++)
        for (const uint8_t *b = c->piece[i].map; b < c->piece[i].at; b++)
            live = live && *b == CANARY;
    return live;
}

/* ---- draws ---- */

static uint64_t draw(struct kcase *c, uint64_t below)
{
    return ptq_hash_u64(c->seed, c->draws++) % below;
}
#define PICK(c, array) ((array)[draw((c), LENGTH(array))])

/* Ways to fill a case. */
enum mode { RANDOM, PEAKS, TINY, ZEROS, SPREAD, N_MODES };

static float draw_float(struct kcase *c, enum mode mode)
{
    const float u = (float)(2 * ptq_uniform(c->seed, c->draws++) - 1);
    switch (mode) {
    case PEAKS: return u < 0 ? -1e20f : 1e20f;
    case TINY: return u * 1e-39f; /* subnormal */
    case ZEROS: return u < 0 ? -0.0f : 0.0f;
    case SPREAD: return ldexpf(u, (int)draw(c, 61) - 30);
    default: return 3 * u;
    }
}

/* ---- products ---- */

static const int64_t groups_of[] = {16, 32, 64, 128, PTQ_GROUP_ROW};
static const int64_t tokens_of[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33};
struct variant {
    enum ptq_kcode code;
    int bits;
    bool zeros, blocks; /* INT: an array of zeros; TABLE: several tables */
};
static const struct variant variants[] = {
    {PTQ_KCODE_INT, 2, true, false},    {PTQ_KCODE_INT, 3, true, false},
    {PTQ_KCODE_INT, 4, true, false},    {PTQ_KCODE_INT, 8, true, false},
    {PTQ_KCODE_INT, 2, false, false},   {PTQ_KCODE_INT, 3, false, false},
    {PTQ_KCODE_INT, 4, false, false},   {PTQ_KCODE_INT, 8, false, false},
    {PTQ_KCODE_TABLE, 2, false, true},  {PTQ_KCODE_TABLE, 3, false, true},
    {PTQ_KCODE_TABLE, 4, false, true},  {PTQ_KCODE_TABLE, 2, false, false},
    {PTQ_KCODE_TABLE, 3, false, false}, {PTQ_KCODE_TABLE, 4, false, false}};
enum { MATMUL_CASES = 14 * 5 * 2 * 18 };

static const struct ptq_kernel *scalar_of(enum ptq_kop op)
{
    for (int i = 0; i < ptq_n_kernels; i++)
        if (ptq_kernels[i]->op == op && ptq_kernels[i]->isa == PTQ_ISA_SCALAR)
            return ptq_kernels[i];
    fail_msg("no scalar kernel of %s", ptq_kop_names[op]);
    return NULL;
}

static void shape(struct kcase *c, int bits, int64_t group)
{
    static const int64_t rows[] = {1, 31, 32, 33, 64, 100, 230},
                         cols[] = {1, 15, 17, 64, 100, 130, 257, 1030};
    struct ptq_kweight *w = &c->w;
    w->bits = bits;
    w->rows = PICK(c, rows);
    w->cols = PICK(c, cols);
    w->panels = (w->rows + 31) / 32;
    w->pcols = (w->cols + 15) / 16 * 16;
    w->group = group < 0 || group > w->pcols ? w->pcols : group;
    w->groups = (w->pcols + w->group - 1) / w->group;
    w->panel_bytes = w->pcols * 32 * bits / 8;
}

static void draw_codes(struct kcase *c, enum mode mode, uint16_t *codes, int64_t ld)
{
    const struct ptq_kweight *w = &c->w;
    const uint64_t below = UINT64_C(1) << w->bits;
    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t k = 0; k < w->cols; k++)
            codes[i * ld + k] = (uint16_t)(mode == PEAKS   ? below - 1
                                           : mode == ZEROS ? 0
                                                           : draw(c, below));
}

static void pack_all(struct kcase *c, enum mode mode)
{
    struct ptq_kweight *w = &c->w;
    uint16_t *codes = calloc((size_t)(w->rows * w->cols), sizeof *codes);
    uint8_t *stream = take(c, w->panels, (size_t)w->panel_bytes, 64);
    assert_non_null(codes);
    draw_codes(c, mode, codes, w->cols);
    for (int64_t p = 0; p < w->panels; p++)
        scalar_of(PTQ_KOP_PACK)->run.pack(w, codes, w->cols, p, stream + p * w->panel_bytes);
    w->codes = stream;
    free(codes);
}

static uint16_t draw_half(struct kcase *c, enum mode mode)
{
    /* 65,504; the smallest; from 2^-10 to 2 */
    return (uint16_t)(mode == PEAKS  ? 0x7bff
                      : mode == TINY ? 1 + draw(c, 4)
                                     : 0x1400 + draw(c, 0x2c00));
}

static void draw_grids(struct kcase *c, enum mode mode, bool halves, bool zeros)
{
    struct ptq_kweight *w = &c->w;
    const int64_t n = w->panels * w->groups * 32;
    uint16_t *scale16 = halves ? take(c, n, 2, 64) : NULL;
    float *scale32 = halves ? NULL : take(c, n, 4, 64);
    uint8_t *zero = zeros ? take(c, n, 1, 32) : NULL;
    const uint64_t below = UINT64_C(1) << w->bits;
    for (int64_t i = 0; i < n; i++) {
        const bool inside = i / (w->groups * 32) * 32 + i % 32 < w->rows;
        if (halves)
            scale16[i] = inside ? draw_half(c, mode) : 0;
        else
            scale32[i] = !inside ? 0 : mode == PEAKS ? 1e12f : fabsf(draw_float(c, mode));
        if (zeros)
            zero[i] = (uint8_t)(!inside || mode == PEAKS ? 0
                                : mode == ZEROS          ? below - 1
                                                         : draw(c, below));
    }
    w->scale16 = scale16;
    w->scale32 = scale32;
    w->zero = zero;
    w->zero_const = (int)draw(c, zeros ? 1 : 256);
}

static void draw_tables(struct kcase *c, enum mode mode, bool blocks)
{
    struct ptq_kweight *w = &c->w;
    w->table_cols = blocks ? w->group * (int64_t)(1 + draw(c, 2)) : w->pcols;
    w->table_cols = w->table_cols < w->pcols ? w->table_cols : w->pcols;
    const int64_t n = (w->pcols + w->table_cols - 1) / w->table_cols;
    float *table = take(c, n * 16, 4, 64), *step = take(c, n, 4, 4), *min = take(c, n, 4, 4);
    uint8_t *table8 = take(c, n * 16, 1, 16);
    for (int64_t i = 0; i < n * 16; i++) {
        table[i] = draw_float(c, mode == PEAKS ? RANDOM : mode);
        table8[i] = (uint8_t)(mode == PEAKS ? 255 : draw(c, 256));
    }
    for (int64_t i = 0; i < n; i++) {
        step[i] = draw_float(c, mode == PEAKS ? RANDOM : mode);
        min[i] = draw_float(c, mode == PEAKS ? RANDOM : mode);
    }
    w->table = table;
    w->table8 = table8;
    w->table_step = step;
    w->table_min = min;
}

/* kernel.h, struct ptq_kacts */
static float sum32_of(const float *x, int64_t n)
{
    float p[16] = {0};
    for (int64_t k = 0; k < n; k++)
        p[k % 16] += x[k];
    for (int j = 0; j < 8; j++)
        p[j] += p[j + 8];
    for (int j = 0; j < 4; j++)
        p[j] += p[j + 4];
    return (p[0] + p[2]) + (p[1] + p[3]);
}

static int64_t group_cols(const struct ptq_kweight *w, int64_t g)
{
    return w->pcols - g * w->group < w->group ? w->pcols - g * w->group : w->group;
}

static void draw_f32(struct kcase *c, enum mode mode)
{
    const struct ptq_kweight *w = &c->w;
    float *x = take(c, c->x.n * c->x.ld, 4, 64), *sum = take(c, c->x.n * w->groups, 4, 4);
    memset(x, 0, (size_t)(c->x.n * c->x.ld) * sizeof *x);
    for (int64_t t = 0; t < c->x.n; t++) {
        for (int64_t k = 0; k < w->cols; k++)
            x[t * c->x.ld + k] = draw_float(c, mode);
        for (int64_t g = 0; g < w->groups; g++)
            sum[t * w->groups + g] = sum32_of(x + t * c->x.ld + g * w->group, group_cols(w, g));
    }
    c->x.f32 = x;
    c->x.sum32 = sum;
}

static void draw_i8(struct kcase *c, enum mode mode)
{
    const struct ptq_kweight *w = &c->w;
    int8_t *x = take(c, c->x.n * c->x.ld, 1, 64);
    int32_t *sum = take(c, c->x.n * w->groups, 4, 4);
    float *scale = take(c, c->x.n, 4, 4);
    const bool same = draw(c, 2);
    memset(x, 0, (size_t)(c->x.n * c->x.ld));
    memset(sum, 0, (size_t)(c->x.n * w->groups) * sizeof *sum);
    for (int64_t t = 0; t < c->x.n; t++) {
        scale[t] = mode == ZEROS ? 0 : fabsf(draw_float(c, mode == PEAKS ? RANDOM : mode));
        for (int64_t k = 0; k < w->cols; k++) {
            const int v = mode == ZEROS   ? 0
                          : mode == PEAKS ? (same || draw(c, 2) ? 127 : -127)
                                          : (int)draw(c, 255) - 127;
            x[t * c->x.ld + k] = (int8_t)(mode == PEAKS && same && t % 2 ? -v : v);
            sum[t * w->groups + k / w->group] += x[t * c->x.ld + k];
        }
    }
    c->x.i8 = x;
    c->x.sum8 = sum;
    c->x.scale = scale;
}

static void draw_range(struct kcase *c)
{
    c->begin = draw(c, 3) ? 0 : (int64_t)draw(c, (uint64_t)c->w.panels);
    c->end = draw(c, 3) ? c->w.panels
                        : c->begin + (int64_t)draw(c, (uint64_t)(c->w.panels - c->begin) + 1);
}

static void make_matmul(struct kcase *c, int64_t index, bool integers)
{
    const struct variant *v = &variants[index % 14];
    const enum mode mode = draw(c, 2) ? RANDOM : (enum mode)draw(c, N_MODES);
    shape(c, v->bits, groups_of[index / 14 % 5]);
    c->w.code = v->code;
    c->x.n = tokens_of[index / 140];
    c->x.ld = (c->w.pcols + 63) / 64 * 64;
    pack_all(c, mode);
    draw_grids(c, mode, index / 70 % 2, v->zeros);
    if (v->code == PTQ_KCODE_TABLE)
        draw_tables(c, mode, v->blocks);
    if (integers)
        draw_i8(c, mode);
    else
        draw_f32(c, mode);
    draw_range(c);
    c->ld = c->w.rows + (int64_t)draw(c, 3);
    take_output(c, (c->x.n - 1) * c->ld + c->w.rows, 4, 4);
}
static void make_matmul_f32(struct kcase *c, int64_t index)
{
    make_matmul(c, index, false);
}
static void make_matmul_i8(struct kcase *c, int64_t index)
{
    make_matmul(c, index, true);
}
static void call_matmul(const struct ptq_kernel *k, struct kcase *c)
{
    k->run.matmul(&c->w, &c->x, c->begin, c->end, (float *)(void *)c->output[0]->at, c->ld);
}

/* ---- packing ---- */

static const int panel_bits[] = {2, 3, 4, 8};

static void make_pack(struct kcase *c, int64_t index)
{
    shape(c, panel_bits[index % 4], PTQ_GROUP_ROW);
    c->ld = c->w.cols + (int64_t)draw(c, 3);
    uint16_t *codes = take(c, (c->w.rows - 1) * c->ld + c->w.cols, 2, 2);
    memset(codes, 0, c->piece[0].bytes);
    draw_codes(c, draw(c, 4) ? RANDOM : PEAKS, codes, c->ld);
    c->in = codes;
    c->panel = (int64_t)draw(c, (uint64_t)c->w.panels);
    take_output(c, c->w.panel_bytes, 1, 64);
}
static void call_pack(const struct ptq_kernel *k, struct kcase *c)
{
    k->run.pack(&c->w, c->in, c->ld, c->panel, c->output[0]->at);
}

static void make_unpack(struct kcase *c, int64_t index)
{
    shape(c, panel_bits[index % 4], PTQ_GROUP_ROW);
    pack_all(c, draw(c, 4) ? RANDOM : PEAKS);
    c->panel = (int64_t)draw(c, (uint64_t)c->w.panels);
    c->ld = c->w.cols + (int64_t)draw(c, 3);
    take_output(c, (c->w.rows - 1) * c->ld + c->w.cols, 2, 2);
}
static void call_unpack(const struct ptq_kernel *k, struct kcase *c)
{
    k->run.unpack(&c->w, c->w.codes + c->panel * c->w.panel_bytes, c->panel,
                  (uint16_t *)(void *)c->output[0]->at, c->ld);
}

static void draw_bits(struct kcase *c, int64_t index)
{
    static const int64_t sizes[] = {1, 2, 7, 8, 9, 31, 63, 64, 65, 127, 200, 513, 1000, 4099};
    c->bits = 1 + (int)(index % 8);
    c->n = PICK(c, sizes);
}
static void make_bits_pack(struct kcase *c, int64_t index)
{
    draw_bits(c, index);
    uint8_t *fields = take(c, c->n, 1, 1);
    const bool peaks = draw(c, 4) == 0;
    for (int64_t i = 0; i < c->n; i++)
        fields[i] = (uint8_t)(peaks ? (1 << c->bits) - 1 : (int)draw(c, UINT64_C(1) << c->bits));
    c->in = fields;
    take_output(c, (c->n * c->bits + 7) / 8, 1, 1);
}
static void call_bits_pack(const struct ptq_kernel *k, struct kcase *c)
{
    k->run.bits_pack(c->in, c->n, c->bits, c->output[0]->at);
}
static void make_bits_unpack(struct kcase *c, int64_t index)
{
    draw_bits(c, index);
    const int64_t bytes = (c->n * c->bits + 7) / 8;
    uint8_t *stream = take(c, bytes, 1, 1);
    for (int64_t i = 0; i < bytes; i++)
        stream[i] = (uint8_t)draw(c, 256);
    c->in = stream;
    take_output(c, c->n, 1, 1);
}
static void call_bits_unpack(const struct ptq_kernel *k, struct kcase *c)
{
    k->run.bits_unpack(c->in, c->n, c->bits, c->output[0]->at);
}

/* ---- quantization ---- */

/* One sign only, one value only, halves: on top of the modes. */
static void draw_weights(struct kcase *c, int64_t n, float *w)
{
    const enum mode mode = (enum mode)draw(c, N_MODES);
    const uint64_t shape_of = draw(c, 6);
    const float one = draw_float(c, mode);
    for (int64_t i = 0; i < n; i++) {
        const float v = draw_float(c, mode);
        w[i] = shape_of == 0   ? fabsf(v)
               : shape_of == 1 ? -fabsf(v)
               : shape_of == 2 ? one
               : shape_of == 3 ? (float)((int)draw(c, 255) - 127) / 2 /* ties */
               : shape_of == 4 ? (i % 2 ? 2.5e38f : -1e38f)
                               : v;
    }
}

static void make_rowq(struct kcase *c, int64_t index)
{
    static const int64_t sizes[] = {1,  3,  7,  8,  9,  15,  16,  17,  31,
                                    32, 33, 63, 64, 65, 100, 128, 129, 1000};
    float *w = take(c, sizes[index % LENGTH(sizes)], 4, 4);
    const int64_t n = sizes[index % LENGTH(sizes)];
    draw_weights(c, n, w);
    c->rowq = (struct ptq_rowq){.w = w, .n = n, .bits = 1 + (int)draw(c, 8)};
    take_output(c, n, 1, 1);
    take_output(c, 2, 4, 4);
}
static void call_rowq(const struct ptq_kernel *k, struct kcase *c)
{
    struct ptq_rowq q = c->rowq;
    q.codes = c->output[0]->at;
    k->run.rowq(&q);
    memcpy(c->output[1]->at, &q.scale, 4);
    memcpy(c->output[1]->at + 4, &q.zero, 4);
}

static void make_actq(struct kcase *c, int64_t index)
{
    static const int64_t sizes[] = {1, 15, 16, 17, 63, 64, 65, 100, 127, 128, 130, 257, 1030};
    const int64_t n = PICK(c, sizes), pcols = (n + 15) / 16 * 16;
    int64_t group = groups_of[index % 5];
    float *x = take(c, n, 4, 4);
    draw_weights(c, n, x);
    group = group < 0 || group > pcols ? pcols : group;
    c->actq = (struct ptq_actq){.x = x, .n = n, .pcols = pcols, .group = group};
    take_output(c, pcols, 1, 16);
    take_output(c, (pcols + group - 1) / group, 4, 4);
    take_output(c, 1, 4, 4);
}
static void call_actq(const struct ptq_kernel *k, struct kcase *c)
{
    struct ptq_actq q = c->actq;
    q.codes = (int8_t *)c->output[0]->at;
    q.sums = (int32_t *)(void *)c->output[1]->at;
    k->run.actq(&q);
    memcpy(c->output[2]->at, &q.scale, 4);
}

static void make_hadamard(struct kcase *c, int64_t index)
{
    c->n = INT64_C(1) << index % 13;
    c->blocks = 1 + (int64_t)draw(c, 5);
    const enum mode mode = (enum mode)draw(c, N_MODES);
    float *x = malloc((size_t)(c->n * c->blocks) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < c->n * c->blocks; i++)
        x[i] = draw_float(c, mode);
    c->in = x;
    take_output(c, c->n * c->blocks, 4, 4);
}
static void call_hadamard(const struct ptq_kernel *k, struct kcase *c)
{
    memcpy(c->output[0]->at, c->in, c->output[0]->bytes);
    k->run.hadamard((float *)(void *)c->output[0]->at, c->n, c->blocks);
}

/* ---- codes of vectors ---- */

static void vector_shape(struct kcase *c, bool by_rows)
{
    static const int64_t dims[] = {1, 2, 3, 4, 8}, rows[] = {1, 31, 33, 64, 100},
                         lens[] = {2, 4, 15, 16, 17, 64, 200, 256, 257, 600};
    struct ptq_kvector *v = &c->v;
    v->by_rows = by_rows;
    v->dim = PICK(c, dims);
    v->rows = PICK(c, rows);
    v->book_len = PICK(c, lens);
    v->tree_levels = by_rows ? (int)draw(c, 4) : 0;
    v->segments = (1 + (int64_t)draw(c, 12)) << v->tree_levels << (by_rows ? draw(c, 5) : 0);
    v->cols = v->segments * v->dim;
    v->panels = (v->rows + 31) / 32;
    v->book_ld = by_rows ? v->book_len : (v->book_len + 15) / 16 * 16;
    v->book_segments = 1 + (int64_t)draw(c, (uint64_t)v->segments);
    v->book_rows = by_rows ? 1 + (int64_t)draw(c, (uint64_t)v->rows) : v->rows;
    v->code_bits = v->book_len <= 16 && !by_rows ? 4 : v->book_len <= 256 ? 8 : 16;
}

static void vector_books(struct kcase *c, enum mode mode)
{
    struct ptq_kvector *v = &c->v;
    const int64_t books = ((v->segments - 1) / v->book_segments + 1) *
                          ((v->rows - 1) / v->book_rows + 1),
                  n = books * v->dim * v->book_ld;
    float *at = take(c, n, 4, v->by_rows ? 4 : 64);
    for (int64_t i = 0; i < n; i++)
        at[i] = !v->by_rows && i % v->book_ld >= v->book_len ? 0 : draw_float(c, mode);
    v->books = at;
}

static void vector_codes(struct kcase *c)
{
    struct ptq_kvector *v = &c->v;
    const int64_t lanes = v->by_rows ? v->rows * v->segments : v->panels * v->segments * 32,
                  bytes = lanes * v->code_bits / 8;
    uint8_t *at = take(c, bytes, 1, v->by_rows ? (size_t)v->code_bits / 8 : 16);
    const uint64_t len = (uint64_t)v->book_len;
    for (int64_t i = 0; i < (v->code_bits == 4 ? bytes : lanes); i++) {
        const uint16_t code = (uint16_t)draw(c, len);
        if (v->code_bits == 4)
            at[i] = (uint8_t)(code | draw(c, len) << 4);
        else
            memcpy(at + i * v->code_bits / 8, &code, (size_t)v->code_bits / 8);
    }
    v->codes = at;
}

static float *tokens(struct kcase *c, int64_t cols, enum mode mode)
{
    c->x.ld = (cols + 63) / 64 * 64;
    float *x = take(c, c->x.n * c->x.ld, 4, 64);
    memset(x, 0, (size_t)(c->x.n * c->x.ld) * sizeof *x);
    for (int64_t t = 0; t < c->x.n; t++)
        for (int64_t k = 0; k < cols; k++)
            x[t * c->x.ld + k] = draw_float(c, mode);
    c->x.f32 = x;
    return x;
}

static void segment_range(struct kcase *c)
{
    const uint64_t n = (uint64_t)c->v.segments;
    c->range.begin = draw(c, 2) ? 0 : (int64_t)draw(c, n);
    c->range.end = c->range.begin + 1 + (int64_t)draw(c, n - (uint64_t)c->range.begin);
}

static void make_vq_table(struct kcase *c, int64_t index)
{
    const enum mode mode = index % 3 ? RANDOM : (enum mode)draw(c, N_MODES);
    vector_shape(c, false);
    vector_books(c, mode == PEAKS ? RANDOM : mode);
    c->x.n = 1;
    tokens(c, c->v.cols, mode);
    segment_range(c);
    take_output(c, (c->range.end - c->range.begin) * c->v.book_ld, 4, 64);
}
static void call_vq_table(const struct ptq_kernel *k, struct kcase *c)
{
    k->run.vq_table(&c->v, c->x.f32, c->range.begin, c->range.end,
                    (float *)(void *)c->output[0]->at);
}

static void vector_scales(struct kcase *c)
{
    struct ptq_kvector *v = &c->v;
    v->group_segments = 1 + (int64_t)draw(c, (uint64_t)v->segments);
    v->groups = (v->segments - 1) / v->group_segments + 1;
    float *at = take(c, v->panels * v->groups * 32, 4, 64);
    for (int64_t i = 0; i < v->panels * v->groups * 32; i++)
        at[i] = draw_float(c, RANDOM);
    v->scale = at;
}

static void make_vq_add(struct kcase *c, int64_t index)
{
    const enum mode mode = index % 3 ? RANDOM : (enum mode)draw(c, N_MODES);
    vector_shape(c, false);
    vector_codes(c);
    if (index % 2)
        vector_scales(c);
    segment_range(c);
    const int64_t n = (c->range.end - c->range.begin) * c->v.book_ld;
    float *table = take(c, n, 4, 64);
    for (int64_t i = 0; i < n; i++)
        table[i] = draw_float(c, mode);
    c->in = table;
    c->range.panel_begin = (int64_t)draw(c, (uint64_t)c->v.panels);
    c->range.panel_end =
        c->range.panel_begin + (int64_t)draw(c, (uint64_t)(c->v.panels - c->range.panel_begin) + 1);
    take_output(c, c->v.rows, 4, 4);
}
/* The canary's bytes are a float as good as any to start from. */
static void call_vq_add(const struct ptq_kernel *k, struct kcase *c)
{
    k->run.vq_add(&c->v, c->in, &c->range, (float *)(void *)c->output[0]->at);
}

static void vector_tree(struct kcase *c)
{
    struct ptq_kvector *v = &c->v;
    v->tree_ld = (v->cols / 2 + 63) / 64 * 8;
    const int64_t n = v->rows * v->tree_levels * v->tree_ld;
    uint8_t *at = take(c, n, 1, 1);
    for (int64_t i = 0; i < n; i++)
        at[i] = (uint8_t)draw(c, 256);
    v->tree_bits = at;
}

static void make_vq_rows(struct kcase *c, int64_t index)
{
    const enum mode mode = index % 3 ? RANDOM : (enum mode)draw(c, N_MODES);
    vector_shape(c, true);
    vector_books(c, mode == PEAKS ? RANDOM : mode);
    vector_codes(c);
    vector_tree(c);
    c->x.n = 1 + (int64_t)draw(c, 4);
    tokens(c, c->v.cols, mode);
    c->begin = (int64_t)draw(c, (uint64_t)c->v.rows);
    c->end = c->begin + 1 + (int64_t)draw(c, (uint64_t)(c->v.rows - c->begin));
    c->ld = c->v.rows + (int64_t)draw(c, 3);
    c->in = take(c, 3 * c->v.cols, 4, 4);
    take_output(c, (c->x.n - 1) * c->ld + c->v.rows, 4, 4);
}
static void call_vq_rows(const struct ptq_kernel *k, struct kcase *c)
{
    k->run.vq_rows(&c->v, &c->x, c->begin, c->end, (float *)c->in,
                   (float *)(void *)c->output[0]->at, c->ld);
}

/* ---- all of them ---- */

struct operation {
    int64_t n_cases;
    void (*make)(struct kcase *, int64_t index);
    void (*call)(const struct ptq_kernel *, struct kcase *);
};
static const struct operation operations[PTQ_N_KOPS] = {
    [PTQ_KOP_MATMUL_F32] = {MATMUL_CASES, make_matmul_f32, call_matmul},
    [PTQ_KOP_MATMUL_I8] = {MATMUL_CASES, make_matmul_i8, call_matmul},
    [PTQ_KOP_PACK] = {400, make_pack, call_pack},
    [PTQ_KOP_UNPACK] = {400, make_unpack, call_unpack},
    [PTQ_KOP_BITS_PACK] = {800, make_bits_pack, call_bits_pack},
    [PTQ_KOP_BITS_UNPACK] = {800, make_bits_unpack, call_bits_unpack},
    [PTQ_KOP_ROWQ_MINMAX] = {2000, make_rowq, call_rowq},
    [PTQ_KOP_ROWQ_MSE] = {600, make_rowq, call_rowq},
    [PTQ_KOP_ACTQ] = {1000, make_actq, call_actq},
    [PTQ_KOP_HADAMARD] = {200, make_hadamard, call_hadamard},
    [PTQ_KOP_VQ_TABLE] = {300, make_vq_table, call_vq_table},
    [PTQ_KOP_VQ_ADD] = {600, make_vq_add, call_vq_add},
    [PTQ_KOP_VQ_ROWS] = {600, make_vq_rows, call_vq_rows},
};

static void reset_outputs(struct kcase *c)
{
    for (int i = 0; i < c->n_outputs; i++)
        memset(c->output[i]->at, CANARY, c->output[i]->bytes);
}

static void take_wanted(const struct operation *op, enum ptq_kop id, struct kcase *c)
{
    reset_outputs(c);
    op->call(scalar_of(id), c);
    if (!canaries_live(c))
        fail_msg("scalar %s wrote before its output", ptq_kop_names[id]);
    for (int i = 0; i < c->n_outputs; i++) {
        c->want[i] = malloc(c->output[i]->bytes + 1);
        assert_non_null(c->want[i]);
        memcpy(c->want[i], c->output[i]->at, c->output[i]->bytes);
    }
}

static void describe(const struct kcase *c, char *out, size_t size)
{
    snprintf(out, size,
             "rows %lld cols %lld bits %d group %lld n %lld panels %lld..%lld; vectors: rows %lld "
             "segments %lld dim %lld book %lld levels %d",
             (long long)c->w.rows, (long long)c->w.cols, c->w.bits ? c->w.bits : c->bits,
             (long long)c->w.group, (long long)(c->x.n ? c->x.n : c->n), (long long)c->begin,
             (long long)c->end, (long long)c->v.rows, (long long)c->v.segments, (long long)c->v.dim,
             (long long)c->v.book_len, c->v.tree_levels);
}

static void compare(const struct operation *op, int k, int64_t index, struct kcase *c)
{
    char what[300];
    reset_outputs(c);
    op->call(ptq_kernels[k], c);
    describe(c, what, sizeof what);
    if (!canaries_live(c))
        fail_msg("%s, case %lld wrote before a buffer: %s", ptq_kernel_name(k), (long long)index,
                 what);
    for (int i = 0; i < c->n_outputs; i++) {
        const uint8_t *got = c->output[i]->at, *want = c->want[i];
        size_t at = 0;
        while (at < c->output[i]->bytes && got[at] == want[at])
            at++;
        if (at < c->output[i]->bytes)
            fail_msg("%s, case %lld: output %d differs from the scalar kernel's at byte %zu of "
                     "%zu: %s",
                     ptq_kernel_name(k), (long long)index, i, at, c->output[i]->bytes, what);
    }
}

static bool serves(const struct ptq_kernel *k, const struct kcase *c)
{
    return !k->serves || k->serves(&c->w, c->x.n);
}

static void run_case(enum ptq_kop id, int64_t index, unsigned flags, int64_t *n_compared)
{
    const struct operation *op = &operations[id];
    struct kcase c = {.seed = 1000003 * (uint64_t)id + (uint64_t)index};
    op->make(&c, index);
    take_wanted(op, id, &c);
    for (int k = 0; k < ptq_n_kernels; k++) {
        const struct ptq_kernel *kernel = ptq_kernels[k];
        if (kernel->op != id || kernel->isa == PTQ_ISA_SCALAR || kernel->needs & ~flags ||
            !serves(kernel, &c))
            continue;
        compare(op, k, index, &c);
        n_compared[k]++;
    }
    if (id == PTQ_KOP_HADAMARD)
        free((void *)(uintptr_t)c.in);
    release(&c);
}

static void report(enum ptq_kop id, unsigned flags, const int64_t *n_compared)
{
    for (int k = 0; k < ptq_n_kernels; k++) {
        const struct ptq_kernel *kernel = ptq_kernels[k];
        if (kernel->op != id || kernel->isa == PTQ_ISA_SCALAR)
            continue;
        if (kernel->needs & ~flags)
            printf("SKIP %s: this processor lacks flags 0x%x\n", ptq_kernel_name(k),
                   kernel->needs & ~flags);
        else if (!n_compared[k])
            fail_msg("%s served none of the cases", ptq_kernel_name(k));
        else
            printf("     %s: %lld cases\n", ptq_kernel_name(k), (long long)n_compared[k]);
    }
    fflush(stdout);
}

static void run_operation(enum ptq_kop id)
{
    const unsigned flags = ptq_cpu_flags(PTQ_ISA_AVX512);
    int64_t *n_compared = calloc((size_t)ptq_n_kernels, sizeof *n_compared);
    assert_non_null(n_compared);
    assert_non_null(operations[id].make);
    for (int64_t i = 0; i < operations[id].n_cases; i++)
        run_case(id, i, flags, n_compared);
    report(id, flags, n_compared);
    free(n_compared);
}

static void test_operation(void **state)
{
    run_operation((enum ptq_kop)(intptr_t)*state);
}

/* What the scalar product must not write, no SIMD kernel may: rows of other panels, and the gaps
 * between tokens. */
static void test_scalar_stays_inside(void **state)
{
    (void)state;
    for (int64_t index = 0; index < MATMUL_CASES; index += 7) {
        struct kcase c = {.seed = (uint64_t)index};
        make_matmul_i8(&c, index);
        reset_outputs(&c);
        call_matmul(scalar_of(PTQ_KOP_MATMUL_I8), &c);
        const uint8_t *at = c.output[0]->at;
        for (size_t i = 0; i < c.output[0]->bytes / 4; i++) {
            const int64_t row = (int64_t)i % c.ld;
            if (row >= c.w.rows || row < 32 * c.begin || row >= 32 * c.end)
                assert_true(at[4 * i] == CANARY && at[4 * i + 3] == CANARY);
        }
        release(&c);
    }
}

/* Without any instruction set the scalar kernel serves. */
static void test_best(void **state)
{
    (void)state;
    for (int id = 0; id < PTQ_N_KOPS; id++) {
        struct kcase c = {.seed = 7};
        operations[id].make(&c, 0);
        const struct ptq_kernel *k = ptq_kernel_best((enum ptq_kop)id, 0, &c.w, c.x.n);
        assert_ptr_equal(k, scalar_of((enum ptq_kop)id));
        if (id == PTQ_KOP_HADAMARD)
            free((void *)(uintptr_t)c.in);
        release(&c);
    }
}

int main(void)
{
    struct CMUnitTest tests[PTQ_N_KOPS + 2];
    for (intptr_t id = 0; id < PTQ_N_KOPS; id++)
        tests[id] = (struct CMUnitTest){
            .name = ptq_kop_names[id], .test_func = test_operation, .initial_state = (void *)id};
    tests[PTQ_N_KOPS] = (struct CMUnitTest)cmocka_unit_test(test_best);
    tests[PTQ_N_KOPS + 1] = (struct CMUnitTest)cmocka_unit_test(test_scalar_stays_inside);
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
