/* quant_lib.h: layers, cells and runs for the tests of quant/ and methods/. */
#ifndef PTQ_QUANT_LIB_H
#define PTQ_QUANT_LIB_H
#include "testlib.h"
#include "core/pool.h"
#include "core/rng.h"
#include "quant/run.h"

struct fixture { /* of every test of these files; layer: for those that run one */
    struct ptq_arena arena;
    struct ptq_status st;
    struct ptq_layer layer;
};

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (f)
        ptq_arena_init(&f->arena, 0);
    return f ? 0 : -1;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    ptq_arena_clear(&f->arena);
    free(f);
    return 0;
}

static inline struct ptq_cell cell_of(int bits, int64_t group)
{
    return (struct ptq_cell){
        .w_bits = bits, .group_size = group, .zero_in_range = true, .scale_fmt = PTQ_FMT_F32};
}

/* Ranges of the layer's inputs from its acts. */
static inline void synthetic_ranges(struct ptq_arena *a, struct ptq_layer *l)
{
    struct ptq_status st = {0};
    const struct ptq_cmat *x = &l->acts;
    float *most = ptq_arena_alloc(a, &st, x->cols, sizeof *most),
          *size = ptq_arena_alloc(a, &st, x->cols, sizeof *size),
          *mean = ptq_arena_alloc(a, &st, x->cols, sizeof *mean);
    assert_true(most && size && mean);
    for (int64_t t = 0; t < x->rows; t++)
        for (int64_t j = 0; j < x->cols; j++) {
            float v = x->at[t * x->ld + j];
            most[j] = fmaxf(most[j], fabsf(v));
            size[j] += fabsf(v) / (float)x->rows;
            mean[j] += v / (float)x->rows;
        }
    l->x_absmax = most;
    l->x_absmean = size;
    l->x_mean = mean;
}

/* A layer whose inputs are correlated, have unequal powers and `n_dead` dead inputs; weights
 * with heavy tails, row 1 without negatives. H per token from 4 rows of inputs a column, and
 * their ranges.
 * Everything in the arena. */
static inline void synthetic_layer(struct ptq_arena *a, int64_t rows, int64_t cols, int n_dead,
                                   struct ptq_layer *l)
{
    struct ptq_status st = {0};
    int64_t n = 4 * cols;
    float *w = ptq_arena_alloc(a, &st, rows * cols, sizeof *w);
    float *x = ptq_arena_alloc(a, &st, n * cols, sizeof *x);
    assert_non_null(w);
    assert_non_null(x);
    for (int64_t i = 0; i < rows * cols; i++) {
        double g = ptq_normal(11, (uint64_t)i);
        w[i] = (float)(0.03 * (i % 97 == 13 ? 5 * g : g));
        if (i / cols == 1)
            w[i] = fabsf(w[i]);
    }
    for (int64_t t = 0; t < n; t++)
        for (int64_t j = 0; j < cols; j++) {
            double common = ptq_normal(13, (uint64_t)(t * 8 + j % 8));
            double v = (ptq_normal(12, (uint64_t)(t * cols + j)) + common) *
                       (j % 11 == 3 ? 4 : 1 + (double)(j % 5) / 4);
            x[t * cols + j] = j % 7 == 2 && j / 7 < n_dead ? 0 : (float)v;
        }
    memset(l, 0, sizeof *l);
    l->name = "synthetic";
    l->block = -1;
    l->w = (struct ptq_cmat){w, rows, cols, cols};
    l->acts = (struct ptq_cmat){x, n, cols, cols};
    synthetic_ranges(a, l);
    l->hess_norm = PTQ_NORM_TOKEN;
    l->n_tokens = (double)n;
    l->n_sequences = 4;
    l->hess_key = 0x5eed0000u + (uint64_t)(rows * 131 + cols * 7 + n_dead);
    assert_ok(ptq_hess_from_acts(NULL, &l->acts, PTQ_NORM_TOKEN, 0, PTQ_DOUBLE_PRECISION, a,
                                 &l->hess, &st),
              &st);
    assert_ok(ptq_layer_check(l, "synthetic", &st), &st);
}

struct run_args {
    const struct ptq_layer *layer;
    const char *spec;
    struct ptq_cell cell;
    enum ptq_precision precision;
    struct ptq_pool *pool;
    int64_t block; /* not 0: value of the option `block`, past the method's normalise */
};

static inline void set_block(const struct ptq_spec *spec, int64_t block)
{
    const struct ptq_opt *o = spec->entry->single->opts;
    while (strcmp(o->name, "block") != 0)
        o++;
    memcpy((char *)spec->opts + o->offset, &block, sizeof block);
}

/* One cell in a session of its own. */
static inline int run_cell(const struct run_args *a, struct ptq_result *r, struct ptq_status *st)
{
    struct ptq_arena arena;
    struct ptq_spec spec;
    struct ptq_session *s = NULL;
    struct ptq_session_args sa = {.layer = a->layer, .precision = a->precision, .pool = a->pool};
    ptq_arena_init(&arena, 0);
    int rc = ptq_spec_parse(a->spec, &arena, &spec, st);
    if (rc == PTQ_OK && a->block)
        set_block(&spec, a->block);
    if (rc == PTQ_OK)
        rc = ptq_session_new(&s, &sa, st);
    if (rc == PTQ_OK)
        rc = ptq_session_quantize(s, &spec, &a->cell, r, st);
    ptq_session_free(s);
    ptq_arena_clear(&arena);
    return rc;
}

static inline double note_of(const struct ptq_result *r, const char *key)
{
    for (int i = 0; i < r->n_notes; i++)
        if (!strcmp(r->notes[i].key, key))
            return r->notes[i].value;
    return NAN;
}

/* tr((What - W) H (What - W)^T), plainly. */
static inline double loss_of(const struct ptq_layer *l, const float *what)
{
    double total = 0;
    int64_t n = l->w.cols;
    for (int64_t i = 0; i < l->w.rows; i++)
        for (int64_t j = 0; j < n; j++) {
            double dj = (double)what[i * n + j] - (double)l->w.at[i * l->w.ld + j], sum = 0;
            for (int64_t k = 0; k < n; k++)
                sum += l->hess.at[j * l->hess.ld + k] *
                       ((double)what[i * n + k] - (double)l->w.at[i * l->w.ld + k]);
            total += dj * sum;
        }
    return total;
}

static inline int64_t count_different(const uint16_t *a, const uint16_t *b, int64_t n)
{
    int64_t different = 0;
    for (int64_t i = 0; i < n; i++)
        different += a[i] != b[i];
    return different;
}
#endif
