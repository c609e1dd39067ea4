#include "core/panels.h"
#include "core/clones.h"
#include "core/fmatile.h"
#include <string.h>

/* A piece is up to GROUP panels of 48 columns. Of their operand op(B), DEPTH terms are laid out for
 * the kernel at once (216 KiB: second cache) and used for all rows, then the next DEPTH. Rows of A
 * meet a group's panels one after the other: loaded once. */
enum { ROWS = PTQ_FMATILE_ROWS, COLS = PTQ_FMATILE_COLS, DEPTH = 576, GROUP = 2, LEAST_ROWS = 256 };

typedef struct ptq_gemm_f32 gemm;

struct product {
    const gemm *g;
    ptq_fmatile_fn *kernel;
    int64_t depth;               /* terms at a time: equal shares, a function of k alone */
    int64_t row_blocks, n_block; /* rows are shared out too when there are few panels */
};

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

/* Four columns by four terms are turned in registers. */
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t order __attribute__((vector_size(16)));

static inline void turn(const float *b, int64_t ldb, float *to)
{
    const four r0 = *(const four *)b, r1 = *(const four *)(b + ldb),
               r2 = *(const four *)(b + 2 * ldb), r3 = *(const four *)(b + 3 * ldb);
    const order low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, last = {2, 3, 6, 7};
    const four a = __builtin_shuffle(r0, r1, low), c = __builtin_shuffle(r0, r1, high),
               d = __builtin_shuffle(r2, r3, low), e = __builtin_shuffle(r2, r3, high);
    *(four *)to = __builtin_shuffle(a, d, first);
    *(four *)(to + COLS) = __builtin_shuffle(a, d, last);
    *(four *)(to + 2 * COLS) = __builtin_shuffle(c, e, first);
    *(four *)(to + 3 * COLS) = __builtin_shuffle(c, e, last);
}

/* 16 columns side by side: a stored line of memory is filled at once. */
PTQ_CLONES static void pack_16(const float *b, int64_t ldb, int64_t n, float *to)
{
    int64_t k = 0;
    for (; k + 4 <= n; k += 4)
        for (int j = 0; j < 16; j += 4)
            turn(b + j * ldb + k, ldb, to + k * COLS + j);
    for (; k < n; k++)
        for (int j = 0; j < 16; j++)
            to[k * COLS + j] = b[j * ldb + k];
}

/* to (n x COLS) = op(B)[k0 .. k0 + n, j0 .. j0 + COLS), zeros past the last column. */
static void pack(const gemm *g, int64_t j0, int64_t k0, int64_t n, float *to)
{
    const int64_t cols = min_of(g->n - j0, COLS);
    if (!g->tb) {
        for (int64_t k = 0; k < n; k++) {
            memcpy(to + k * COLS, g->b + (k0 + k) * g->ldb + j0, (size_t)cols * sizeof *to);
            memset(to + k * COLS + cols, 0, (size_t)(COLS - cols) * sizeof *to);
        }
        return;
    }
    const float *b = g->b + j0 * g->ldb + k0;
    int64_t j = 0;
    for (; j + 16 <= cols; j += 16)
        pack_16(b + j * g->ldb, g->ldb, n, to + j);
    for (; j < COLS; j++)
        for (int64_t k = 0; k < n; k++)
            to[k * COLS + j] = j < cols ? b[j * g->ldb + k] : 0;
}

/* Rows i .. i + 8 of the panel; what sticks out is computed aside from copies of the last row. */
static void strip(const struct product *p, int64_t i, int64_t j0, int64_t k0, struct ptq_fmatile *t)
{
    const gemm *g = p->g;
    const int64_t rows = min_of(g->m - i, ROWS), cols = min_of(g->n - j0, COLS);
    float edge[ROWS * COLS], *c = g->c + i * g->ldc + j0;
    for (int64_t r = 0; r < ROWS; r++) {
        const int64_t row = i + min_of(r, rows - 1);
        t->row[r] = g->ta ? g->a + k0 * g->lda + row : g->a + row * g->lda + k0;
    }
    const bool whole = rows == ROWS && cols == COLS;
    t->c = whole ? c : edge;
    t->ldc = whole ? g->ldc : COLS;
    t->add = k0 > 0;
    for (int64_t r = 0; r < rows && !whole && t->add; r++)
        memcpy(edge + r * COLS, c + r * g->ldc, (size_t)cols * sizeof *c);
    p->kernel(t);
    for (int64_t r = 0; r < rows && !whole; r++)
        memcpy(c + r * g->ldc, edge + r * COLS, (size_t)cols * sizeof *c);
}

static void pieces(void *arg, int64_t begin, int64_t end)
{
    const struct product *p = arg;
    const gemm *g = p->g;
    _Alignas(64) float b[GROUP][DEPTH * COLS];
    for (int64_t piece = begin; piece < end; piece++) {
        const int64_t j0 = piece / p->row_blocks * GROUP * COLS,
                      panels = min_of(GROUP, ceil_div(g->n - j0, COLS)),
                      i0 = piece % p->row_blocks * p->n_block, i1 = min_of(g->m, i0 + p->n_block);
        for (int64_t k0 = 0; k0 < g->k; k0 += p->depth) {
            struct ptq_fmatile t = {.step = g->ta ? g->lda : 1, .n = min_of(g->k - k0, p->depth)};
            for (int64_t j = 0; j < panels; j++)
                pack(g, j0 + j * COLS, k0, t.n, b[j]);
            for (int64_t i = i0; i < i1; i += ROWS)
                for (int64_t j = 0; j < panels; j++) {
                    t.b = b[j];
                    strip(p, i, j0 + j * COLS, k0, &t);
                }
        }
    }
}

bool ptq_panels_fit(const gemm *g)
{
    return g->alpha == 1 && g->beta == 0 && g->k > 0 && ptq_fmatile_fuses();
}

void ptq_panels_run(struct ptq_pool *pool, const gemm *g)
{
    struct product p = {g, ptq_fmatile_best(), ceil_div(g->k, ceil_div(g->k, DEPTH)), 1, g->m};
    const int64_t groups = ceil_div(g->n, GROUP * COLS),
                  threads = ptq_pool_inside() ? 1 : ptq_pool_threads(pool);
    if (threads > 1 && groups < 8 * threads) {
        const int64_t most = ceil_div(g->m, LEAST_ROWS);
        p.row_blocks = min_of(most, ceil_div(8 * threads, groups));
        p.n_block = ceil_div(ceil_div(g->m, p.row_blocks), ROWS) * ROWS;
        p.row_blocks = ceil_div(g->m, p.n_block);
    }
    ptq_pool_for(pool, groups * p.row_blocks, 1, pieces, &p);
}
