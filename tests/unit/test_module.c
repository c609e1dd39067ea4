/* What methods see of the block around a layer: neighbours, and losses of modules, against whole
 * blocks with one half switched off and plain fp64 loops over inputs that a tap shows. */
#include "model/module.h"
#include "model_cases.h"
#include "quant/ctx.h"

static const struct tiny_shape shape = {24, 2, 4, 2, 8, 40, 256, 48, false, true, 10000};
enum { N_SEQ = 6, Q = 0, K, V, O, GATE, UP, DOWN };
enum { MOST_TOKENS = 100 };

struct module_case {
    struct tiny_case c;
    struct ptq_tokens windows;
    struct ptq_block block;
    struct ptq_hidden hidden; /* of the windows, at the block */
    struct ptq_modules *modules;
    struct ptq_ctx ctx;
};

static void open_case(struct module_case *f)
{
    struct tiny_case *c = &f->c;
    int64_t len[N_SEQ];
    memset(f, 0, sizeof *f);
    for (int s = 0; s < N_SEQ; s++)
        len[s] = 20 + s;
    tiny_open(c, &shape, 1);
    tiny_text(c, N_SEQ, len, 6);
    assert_ok(ptq_sample_windows(&c->text.tokens, MOST_TOKENS, &c->arena, &f->windows, &c->st),
              &c->st);
    assert_ok(ptq_model_embed(c->model, &f->windows, &c->arena, &f->hidden, &c->st), &c->st);
    assert_ok(ptq_model_load_block(c->model, 0, &c->arena, &f->block, &c->st), &c->st);
    const struct ptq_modules_args args = {.model = f->c.model,
                                          .exact = &f->block,
                                          .current = &f->block,
                                          .hidden = &f->hidden,
                                          .windows = &f->windows};
    assert_ok(ptq_modules_new(&f->modules, &args, &f->c.st), &f->c.st);
    f->ctx.st = &f->c.st;
    pthread_mutex_init(&f->ctx.lock, NULL);
}

static void close_case(struct module_case *f)
{
    pthread_mutex_destroy(&f->ctx.lock);
    ptq_modules_free(f->modules);
    tiny_close(&f->c);
}

static void layer_at(const struct module_case *f, int lin, struct ptq_layer *l,
                     struct ptq_neighbours *near)
{
    const struct ptq_linear *w = &f->block.lin[lin];
    *l = (struct ptq_layer){
        .name = w->name, .role = w->role, .w = {w->w, w->d_out, w->d_in, w->d_in}};
    ptq_layer_place(l, &f->block, lin, ptq_modules_module(f->modules), near);
}

/* The weights of a linear with noise on them. */
static float *noisy(struct module_case *f, int lin, double by)
{
    const struct ptq_linear *l = &f->block.lin[lin];
    float *w = ptq_arena_alloc(&f->c.arena, NULL, l->d_out * l->d_in, sizeof *w);
    for (int64_t i = 0; i < l->d_out * l->d_in; i++)
        w[i] = l->w[i] + (float)(by * ptq_normal(90 + (uint64_t)lin, (uint64_t)i));
    return w;
}

static double loss_of_layer(struct module_case *f, int lin, const float *const *candidate)
{
    struct ptq_layer l;
    struct ptq_neighbours near;
    double loss = -1;
    layer_at(f, lin, &l, &near);
    assert_ok(ptq_module_loss(&f->ctx, &l, candidate, &loss), &f->c.st);
    return loss;
}

static void windows(void **state)
{
    (void)state;
    struct module_case f;
    struct ptq_tokens w;
    open_case(&f);
    assert_int_equal(f.windows.n_seq, 4); /* 20 + 21 + 22 + 23 = 86, 110 with the next */
    assert_int_equal(f.windows.n_total, 86);
    assert_ok(ptq_sample_windows(&f.c.text.tokens, 7, &f.c.arena, &w, &f.c.st), &f.c.st);
    assert_true(w.n_seq == 1 && w.n_total == 7 && w.len[0] == 7 && w.id == f.c.text.tokens.id);
    assert_ok(ptq_sample_windows(&f.c.text.tokens, 1000, &f.c.arena, &w, &f.c.st), &f.c.st);
    assert_true(w.n_seq == N_SEQ && w.n_total == f.c.text.tokens.n_total);
    close_case(&f);
}

static void neighbours(void **state)
{
    (void)state;
    struct module_case f;
    struct ptq_layer l;
    struct ptq_neighbours near;
    open_case(&f);
    layer_at(&f, K, &l, &near);
    assert_int_equal(l.n_siblings, 3);
    assert_true(l.siblings[0]->w.at == f.block.lin[Q].w && l.siblings[1] == &l &&
                l.siblings[2]->role == PTQ_ROLE_V && l.siblings[2]->w.rows == 16);
    assert_int_equal(l.producer, PTQ_PRODUCER_NORM);
    layer_at(&f, UP, &l, &near);
    assert_true(l.n_siblings == 2 && l.siblings[1] == &l);
    layer_at(&f, DOWN, &l, &near);
    assert_true(l.n_siblings == 1 && l.siblings[0] == &l);
    assert_int_equal(l.producer, PTQ_PRODUCER_LINEAR);
    layer_at(&f, O, &l, &near);
    assert_int_equal(l.producer, PTQ_PRODUCER_NONE); /* value heads are shared */
    close_case(&f);
}

struct shown {
    const struct ptq_tokens *t;
    float *x;
};
static int keep(void *arg, const char *input, int64_t s, const float *x, int64_t len, int64_t d,
                struct ptq_status *st)
{
    struct shown *k = arg;
    (void)input;
    (void)st;
    memcpy(k->x + k->t->offset[s] * d, x, (size_t)(len * d) * sizeof *x);
    return PTQ_OK;
}

/* A module's last product: mean of |dW x|^2 over tokens and outputs. */
static double last_loss(struct module_case *f, int lin, const float *w)
{
    const struct ptq_linear *l = &f->block.lin[lin];
    struct shown k = {&f->windows, malloc((size_t)(f->windows.n_total * l->d_in) * sizeof(float))};
    const struct ptq_block_tap tap = {.see = keep, .arg = &k, .only = l->input};
    assert_ok(ptq_block_run(f->c.model, &f->block, NULL, &f->hidden, &tap, &f->c.st), &f->c.st);
    double sum = 0;
    for (int64_t t = 0; t < f->windows.n_total; t++)
        for (int64_t i = 0; i < l->d_out; i++) {
            double e = 0;
            for (int64_t j = 0; j < l->d_in; j++)
                e += ((double)w[i * l->d_in + j] - (double)l->w[i * l->d_in + j]) *
                     (double)k.x[t * l->d_in + j];
            sum += e * e;
        }
    free(k.x);
    return sum / (double)(f->windows.n_total * l->d_out);
}

/* The block's output with and without the candidates where the other half adds nothing. */
static double half_loss(struct module_case *f, const int *lins, const float *const *candidate,
                        int n, int off)
{
    const int64_t size = f->windows.n_total * shape.d;
    const struct ptq_linear *last = &f->block.lin[off];
    float *zero = calloc((size_t)(last->d_out * last->d_in), sizeof *zero);
    struct ptq_block b = f->block;
    struct ptq_hidden h[2];
    b.lin[off].w = zero;
    double sum = 0;
    for (int pass = 0; pass < 2; pass++) {
        h[pass] = f->hidden;
        h[pass].at = malloc((size_t)size * sizeof(float));
        memcpy(h[pass].at, f->hidden.at, (size_t)size * sizeof(float));
        for (int i = 0; pass && i < n; i++)
            b.lin[lins[i]].w = candidate[i];
        assert_ok(ptq_block_run(f->c.model, &b, NULL, &h[pass], NULL, &f->c.st), &f->c.st);
    }
    for (int64_t i = 0; i < size; i++) {
        double e = (double)h[1].at[i] - (double)h[0].at[i];
        sum += e * e;
    }
    free(zero);
    free(h[0].at);
    free(h[1].at);
    return sum / (double)size;
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-4 * want && want > 0)) /* fp32 sums of numbers near 1 */
        fail_msg("%.9g, %.9g expected", got, want);
}

static void losses(void **state)
{
    (void)state;
    struct module_case f;
    open_case(&f);
    static const int qkv[] = {Q, K, V};
    const float *own[] = {f.block.lin[Q].w, f.block.lin[K].w, f.block.lin[V].w};
    assert_true(loss_of_layer(&f, V, own) == 0);
    const float *some[] = {noisy(&f, Q, .05), noisy(&f, K, .05), noisy(&f, V, .05)};
    near(loss_of_layer(&f, K, some), half_loss(&f, qkv, some, 3, DOWN));
    const float *o[] = {noisy(&f, O, .05)};
    near(loss_of_layer(&f, O, o), last_loss(&f, O, o[0]));
    const float *down[] = {noisy(&f, DOWN, .05)};
    near(loss_of_layer(&f, DOWN, down), last_loss(&f, DOWN, down[0]));
    float *overflows = noisy(&f, DOWN, 0);
    overflows[5] = INFINITY;
    const float *bad[] = {overflows};
    assert_true(isinf(loss_of_layer(&f, DOWN, bad)));
    close_case(&f);
}

/* The MLP reads what attention leaves as it stands; its output is compared with exact weights. */
static void candidates_of_the_mlp(void **state)
{
    (void)state;
    struct module_case f;
    open_case(&f);
    const float *some[] = {noisy(&f, GATE, .05), noisy(&f, UP, .05)};
    double got = loss_of_layer(&f, GATE, some);
    /* The same from the whole block: attention adds what it adds in both. */
    const int64_t size = f.windows.n_total * shape.d;
    struct ptq_block b = f.block;
    double sum = 0;
    float *first = malloc((size_t)size * sizeof *first), *x = f.hidden.at;
    float *second = malloc((size_t)size * sizeof *second);
    f.hidden.at = memcpy(first, x, (size_t)size * sizeof *x);
    assert_ok(ptq_block_run(f.c.model, &b, NULL, &f.hidden, NULL, &f.c.st), &f.c.st);
    b.lin[GATE].w = some[0];
    b.lin[UP].w = some[1];
    f.hidden.at = memcpy(second, x, (size_t)size * sizeof *x);
    assert_ok(ptq_block_run(f.c.model, &b, NULL, &f.hidden, NULL, &f.c.st), &f.c.st);
    for (int64_t i = 0; i < size; i++) {
        double e = (double)first[i] - (double)second[i];
        sum += e * e;
    }
    near(got, sum / (double)size);
    free(first);
    free(second);
    close_case(&f);
}

static void same_bits_for_any_threads(void **state)
{
    (void)state;
    struct module_case one, three;
    struct ptq_pool *pool;
    open_case(&one);
    open_case(&three);
    assert_ok(ptq_pool_new(&pool, 3, &one.c.st), &one.c.st);
    three.ctx.pool = pool;
    const float *some[] = {noisy(&one, Q, .05), noisy(&one, K, .05), noisy(&one, V, .05)};
    assert_true(loss_of_layer(&one, Q, some) == loss_of_layer(&three, Q, some));
    const float *mlp[] = {noisy(&one, GATE, .05), noisy(&one, UP, .05)};
    assert_true(loss_of_layer(&one, UP, mlp) == loss_of_layer(&three, UP, mlp));
    close_case(&one);
    close_case(&three);
    ptq_pool_free(pool);
}

/* ---- the memo */

static int calls;
static int count(void *arg, const struct ptq_layer *l, const float *const *c, struct ptq_pool *pool,
                 double *loss, struct ptq_status *st)
{
    (void)arg;
    (void)l;
    (void)pool;
    (void)st;
    *loss = ++calls + (double)c[0][0];
    return PTQ_OK;
}
static const char *input_name(void *arg, const struct ptq_layer *l)
{
    (void)l;
    return arg;
}

static void asked_twice(void **state)
{
    (void)state;
    struct module_case f;
    struct ptq_module m = {count, input_name, "attn_in", NULL};
    struct ptq_layer q, k;
    struct ptq_neighbours near_q, near_k;
    double first, second;
    open_case(&f);
    calls = 0;
    assert_ok(ptq_module_memo_new(&m.memo, &f.c.st), &f.c.st);
    layer_at(&f, Q, &q, &near_q);
    layer_at(&f, K, &k, &near_k);
    q.module = k.module = &m;
    const float *some[] = {noisy(&f, Q, .05), noisy(&f, K, .05), noisy(&f, V, .05)};
    const float *copy[] = {noisy(&f, Q, .05), noisy(&f, K, .05), noisy(&f, V, .05)};
    const float *other[] = {some[0], some[1], noisy(&f, V, .06)};
    assert_ok(ptq_module_loss(&f.ctx, &q, some, &first), &f.c.st);
    assert_ok(ptq_module_loss(&f.ctx, &k, copy, &second), &f.c.st); /* equal contents */
    assert_true(calls == 1 && first == second);
    assert_ok(ptq_module_loss(&f.ctx, &k, other, &second), &f.c.st);
    assert_int_equal(calls, 2);
    m.arg = "ffn_in";
    assert_ok(ptq_module_loss(&f.ctx, &k, other, &second), &f.c.st);
    assert_int_equal(calls, 3);
    q.module = NULL;
    assert_int_equal(ptq_module_loss(&f.ctx, &q, some, &first), PTQ_SKIP);
    ptq_module_memo_free(m.memo);
    close_case(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows),
        cmocka_unit_test(neighbours),
        cmocka_unit_test(losses),
        cmocka_unit_test(candidates_of_the_mlp),
        cmocka_unit_test(same_bits_for_any_threads),
        cmocka_unit_test(asked_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
