/* The error of a quantized model block by block: sums against an fp64 forward pass of models whose
 * blocks are mixed by hand, and identities that hold to the last bit. */
#include "model_cases.h"
#include "sweep/propagation.h"

enum { N_SEQ = 4, SINKS = 2, N_LINEARS = 7 };
static const int64_t lengths[N_SEQ] = {9, 1, 14, 12}; /* one is all sink */

struct prop_case {
    struct ptq_arena arena;
    struct ptq_status st;
    char dir[TEST_PATH];
    struct tiny exact, quant; /* of 3 blocks; the model has the first n_blocks */
    int64_t n_blocks;
    struct ptq_model *model;
    struct ptq_tokens text;
    int64_t offset[N_SEQ];
    struct ptq_result result[TINY_BLOCKS][N_LINEARS]; /* what: weights of quant */
    bool quantized[TINY_BLOCKS];
    struct ptq_block_errors errors[TINY_BLOCKS];
};

static float *bend(struct prop_case *f, const float *w, int64_t n, uint64_t stream)
{
    float *x = ptq_arena_alloc(&f->arena, NULL, n, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(w[i] * (1 + .2 * ptq_normal(stream, (uint64_t)i)));
    return x;
}

static void bend_block(struct prop_case *f, int b)
{
    const struct tiny_shape *s = &f->exact.s;
    const int64_t d = s->d, q = s->heads * s->hd, kv = s->kv * s->hd;
    float **to[N_LINEARS] = {&f->quant.b[b].q,   &f->quant.b[b].k,    &f->quant.b[b].v,
                             &f->quant.b[b].o,   &f->quant.b[b].gate, &f->quant.b[b].up,
                             &f->quant.b[b].down};
    const int64_t n[N_LINEARS] = {q * d, kv * d, kv * d, d * q, s->ff * d, s->ff * d, d * s->ff};
    for (int i = 0; i < N_LINEARS; i++) {
        *to[i] = bend(f, *to[i], n[i], (uint64_t)(100 * b + i));
        f->result[b][i].what = *to[i];
    }
}

static void open_case(struct prop_case *f, int64_t n_blocks)
{
    static const struct tiny_shape shape = {24, 3, 4, 2, 8, 40, 256, 48, false, true, 10000};
    char path[TEST_PATH];
    int64_t n = 0;
    memset(f, 0, sizeof *f);
    ptq_arena_init(&f->arena, 0);
    test_tmpdir(f->dir);
    test_path(f->dir, "model.h5", path);
    tiny_make(&f->exact, &shape, &f->arena);
    f->quant = f->exact;
    for (int b = 0; b < TINY_BLOCKS; b++) {
        bend_block(f, b);
        f->quantized[b] = true;
    }
    struct tiny written = f->exact;
    written.s.blocks = f->n_blocks = n_blocks;
    tiny_write(&written, path);
    assert_ok(ptq_model_open(&f->model, path, NULL, &f->st), &f->st);
    for (int s = 0; s < N_SEQ; s++) {
        f->offset[s] = n;
        n += lengths[s];
    }
    int32_t *id = ptq_arena_alloc(&f->arena, NULL, n, sizeof *id);
    for (int64_t i = 0; i < n; i++)
        id[i] = (int32_t)(ptq_hash_u64(7, (uint64_t)i) % 256);
    f->text = (struct ptq_tokens){N_SEQ, n, lengths, f->offset, id};
}

static void close_case(struct prop_case *f)
{
    ptq_model_close(f->model);
    ptq_arena_clear(&f->arena);
    test_rmdir(f->dir);
}

static int form_of(void *arg, const struct ptq_block *block, int lin, struct ptq_result *own,
                   const struct ptq_result **use, struct ptq_status *st)
{
    struct prop_case *f = arg;
    (void)own;
    (void)st;
    if (!f->quantized[block->index])
        return PTQ_SKIP;
    assert_true(lin < N_LINEARS);
    *use = &f->result[block->index][lin];
    return PTQ_OK;
}

static bool always(void *arg)
{
    (void)arg;
    return true;
}

static void run(struct prop_case *f, struct ptq_pool *pool, struct ptq_spill spill)
{
    const struct ptq_forms forms = {form_of, f};
    const struct ptq_propagation_args args = {.model = f->model,
                                              .forms = &forms,
                                              .tokens = &f->text,
                                              .sink_tokens = SINKS,
                                              .pool = pool,
                                              .spill = spill};
    memset(f->errors, 0x55, sizeof f->errors);
    assert_ok(ptq_propagation(&args, f->errors, &f->st), &f->st);
}

/* ---- against models mixed by hand */

/* States that leave block b: the blocks before it are quantized or not, and so is the block. */
static void states_behind(struct prop_case *f, int b, bool before, bool at, double *out)
{
    struct tiny mixed = f->exact;
    double *logits = calloc((size_t)(64 * 256), sizeof *logits);
    assert_non_null(logits);
    for (int i = 0; i < b && before; i++)
        mixed.b[i] = f->quant.b[i];
    if (at)
        mixed.b[b] = f->quant.b[b];
    for (int s = 0; s < N_SEQ; s++)
        tiny_forward(&mixed, f->text.id + f->offset[s], lengths[s], logits, b + 1,
                     out + f->offset[s] * mixed.s.d);
    free(logits);
}

static void direct(struct prop_case *f, int b, struct ptq_block_errors *want)
{
    enum { MOST = 64 * 24 };
    static double exact[MOST], total[MOST], local[MOST], inherited[MOST];
    states_behind(f, b, false, false, exact);
    states_behind(f, b, true, true, total);
    states_behind(f, b, false, true, local);
    states_behind(f, b, true, false, inherited);
    memset(want, 0, sizeof *want);
    for (int s = 0; s < N_SEQ; s++)
        for (int64_t i = 0; i < lengths[s] * f->exact.s.d; i++) {
            double *sum = want->sum[i / f->exact.s.d < SINKS ? PTQ_SINK_TOKENS : PTQ_REST_TOKENS];
            const int64_t at = f->offset[s] * f->exact.s.d + i;
            const double own = total[at] - inherited[at], came = inherited[at] - exact[at];
            sum[PTQ_ERROR_NORM] += exact[at] * exact[at];
            sum[PTQ_ERROR_TOTAL] += (total[at] - exact[at]) * (total[at] - exact[at]);
            sum[PTQ_ERROR_LOCAL] += (local[at] - exact[at]) * (local[at] - exact[at]);
            sum[PTQ_ERROR_INHERITED] += came * came;
            sum[PTQ_ERROR_OWN] += own * own;
            sum[PTQ_ERROR_CROSS] += own * came;
        }
}

static void test_direct(void **state)
{
    struct prop_case f;
    (void)state;
    open_case(&f, 2);
    run(&f, NULL, (struct ptq_spill){0});
    for (int b = 0; b < 2; b++) {
        struct ptq_block_errors want;
        direct(&f, b, &want);
        for (int c = 0; c < PTQ_N_TOKEN_CLASSES; c++)
            for (int k = 0; k < PTQ_N_ERROR_SUMS; k++) {
                const double *w = want.sum[c], got = f.errors[b].sum[c][k],
                             scale = k == PTQ_ERROR_CROSS
                                         ? sqrt(w[PTQ_ERROR_OWN] * w[PTQ_ERROR_INHERITED])
                                         : w[k];
                if (fabs(got - w[k]) > 1e-5 * scale)
                    fail_msg("block %d class %d sum %d: %.9g, directly %.9g", b, c, k, got, w[k]);
                assert_true(k == PTQ_ERROR_INHERITED || k == PTQ_ERROR_CROSS || w[k] > 0);
            }
    }
    close_case(&f);
}

/* |Q(q) - F(h)|^2 taken apart at F(q). */
static void test_adds_up(void **state)
{
    struct prop_case f;
    (void)state;
    open_case(&f, 3);
    run(&f, NULL, (struct ptq_spill){0});
    for (int b = 0; b < 3; b++)
        for (int c = 0; c < PTQ_N_TOKEN_CLASSES; c++) {
            const double *s = f.errors[b].sum[c];
            assert_rel(s[PTQ_ERROR_OWN] + s[PTQ_ERROR_INHERITED] + 2 * s[PTQ_ERROR_CROSS],
                       s[PTQ_ERROR_TOTAL], 1e-12);
        }
    close_case(&f);
}

/* ---- to the last bit */

static void test_one_block(void **state)
{
    struct prop_case f;
    (void)state;
    open_case(&f, 3);
    f.quantized[0] = f.quantized[2] = false;
    run(&f, NULL, (struct ptq_spill){0});
    for (int c = 0; c < PTQ_N_TOKEN_CLASSES; c++) {
        const double *before = f.errors[0].sum[c], *at = f.errors[1].sum[c],
                     *behind = f.errors[2].sum[c];
        assert_true(before[PTQ_ERROR_NORM] > 0 && before[PTQ_ERROR_TOTAL] == 0 &&
                    before[PTQ_ERROR_LOCAL] == 0 && before[PTQ_ERROR_INHERITED] == 0);
        assert_true(at[PTQ_ERROR_INHERITED] == 0 && at[PTQ_ERROR_CROSS] == 0);
        assert_true(at[PTQ_ERROR_TOTAL] > 0 && at[PTQ_ERROR_TOTAL] == at[PTQ_ERROR_LOCAL] &&
                    at[PTQ_ERROR_TOTAL] == at[PTQ_ERROR_OWN]);
        assert_true(behind[PTQ_ERROR_LOCAL] == 0 && behind[PTQ_ERROR_OWN] == 0);
        assert_true(behind[PTQ_ERROR_TOTAL] > 0 &&
                    behind[PTQ_ERROR_TOTAL] == behind[PTQ_ERROR_INHERITED]);
    }
    close_case(&f);
}

static void test_threads_and_memory(void **state)
{
    struct prop_case f;
    struct ptq_block_errors alone[TINY_BLOCKS];
    (void)state;
    open_case(&f, 3);
    run(&f, NULL, (struct ptq_spill){0});
    memcpy(alone, f.errors, sizeof alone);
    for (int threads = 1; threads <= 5; threads += 2) {
        struct ptq_pool *pool;
        assert_ok(ptq_pool_new(&pool, threads, &f.st), &f.st);
        run(&f, pool, (struct ptq_spill){0});
        assert_memory_equal(alone, f.errors, sizeof alone);
        run(&f, pool, (struct ptq_spill){f.dir, 1});
        assert_memory_equal(alone, f.errors, sizeof alone);
        ptq_pool_free(pool);
    }
    close_case(&f);
}

static void test_stop(void **state)
{
    struct prop_case f;
    (void)state;
    open_case(&f, 3);
    const struct ptq_forms forms = {form_of, &f};
    const struct ptq_propagation_args args = {
        .model = f.model, .forms = &forms, .tokens = &f.text, .stop = always};
    assert_int_equal(ptq_propagation(&args, f.errors, &f.st), PTQ_ERR_CANCELLED);
    close_case(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_direct), cmocka_unit_test(test_adds_up),
        cmocka_unit_test(test_one_block), cmocka_unit_test(test_threads_and_memory),
        cmocka_unit_test(test_stop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
