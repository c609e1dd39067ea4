/* Scoring: against plain loops with glibc's exp and log over the same logits, closed forms, ties,
 * the reference's divergence. */
#include "model/eval.h"
#include "model_cases.h"

/* A vocabulary of two blocks of the sums (eval.c) and a rest. */
static const struct tiny_shape shape = {24, 2, 4, 2, 8, 40, 1100, 48, false, false, 10000};
enum { N_SEQ = 5 };

static void setup(struct tiny_case *f, const struct tiny_shape *shape_in, double out_scale)
{
    static const int64_t len[N_SEQ] = {48, 1, 2, 33, 48};
    tiny_open(f, shape_in, out_scale);
    tiny_text(f, N_SEQ, len, 8);
}

/* Hidden states behind the last block; noise on the weights when not 0 (a stand-in for a quantized
 * model). */
static void run_blocks(struct tiny_case *f, double noise, struct ptq_hidden *h)
{
    assert_ok(ptq_model_embed(f->model, &f->text.tokens, &f->arena, h, &f->st), &f->st);
    for (int i = 0; i < 2; i++) {
        struct ptq_block b;
        assert_ok(ptq_model_load_block(f->model, i, &f->arena, &b, &f->st), &f->st);
        for (int k = 0; k < b.n_linears && noise != 0; k++) {
            int64_t n = b.lin[k].d_out * b.lin[k].d_in;
            float *w = ptq_arena_alloc(&f->arena, NULL, n, sizeof *w);
            assert_non_null(w);
            for (int64_t j = 0; j < n; j++)
                w[j] = b.lin[k].w[j] +
                       (float)(noise * ptq_normal((uint64_t)(i * 10 + k), (uint64_t)j));
            b.lin[k].w = w;
        }
        assert_ok(ptq_block_run(f->model, &b, NULL, h, NULL, &f->st), &f->st);
    }
}

/* Of the scored rows alone, as the program asks for them: the number of rows decides the product's
 * tiles, so fp32 bits. */
static float *logits_of(struct tiny_case *f, const struct ptq_hidden *h, int s)
{
    struct ptq_head *head;
    float *l = malloc((size_t)(f->text.tokens.len[s] * shape.vocab) * sizeof *l);
    assert_non_null(l);
    assert_ok(ptq_model_load_head(f->model, &f->arena, &head, &f->st), &f->st);
    assert_ok(ptq_head_logits(f->model, head, NULL, h->at + f->text.tokens.offset[s] * shape.d,
                              f->text.tokens.len[s] - 1, l, &f->st),
              &f->st);
    return l;
}

static long double naive_lse(const float *l)
{
    long double sum = 0;
    for (int v = 0; v < shape.vocab; v++)
        sum += expl(l[v]);
    return logl(sum);
}

static int naive_best(const float *l)
{
    int best = 0;
    for (int v = 0; v < shape.vocab; v++)
        best = l[v] > l[best] ? v : best;
    return best;
}

static void test_against_loops(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h, noisy;
    struct ptq_eval fp, q;
    setup(&f, &shape, 1);
    run_blocks(&f, 0, &h);
    run_blocks(&f, .05, &noisy);
    struct ptq_eval_args a = {.model = f.model, .text = &f.text, .keep_hidden = true};
    assert_ok(ptq_eval_score(&a, &h, &f.arena, &fp, &f.st), &f.st);
    a.reference = &fp;
    a.keep_hidden = false;
    assert_ok(ptq_eval_score(&a, &noisy, &f.arena, &q, &f.st), &f.st);
    assert_int_equal(q.n_scored, 47 + 0 + 1 + 32 + 47);
    assert_null(fp.kl);
    assert_true(isnan(fp.top1_agree) && isnan(q.nll_window[1]) && q.n_window[1] == 0);
    int64_t flat = 0, agree = 0;
    long double total = 0;
    for (int s = 0; s < N_SEQ; s++) {
        float *p = logits_of(&f, &h, s), *l = logits_of(&f, &noisy, s);
        long double sum = 0;
        for (int64_t t = 0; t + 1 < f.text.tokens.len[s]; t++, flat++) {
            const float *pt = p + t * shape.vocab, *lt = l + t * shape.vocab;
            const int32_t target = f.id[f.text.tokens.offset[s] + t + 1];
            long double lp = naive_lse(pt), lq = naive_lse(lt), kl = 0;
            for (int v = 0; v < shape.vocab; v++)
                kl += expl(pt[v] - lp) * ((pt[v] - lp) - (lt[v] - lq));
            assert_true(fabsl(q.kl[flat] - kl) < 1e-13L);
            sum += lq - lt[target];
            assert_int_equal(q.hit[flat], naive_best(lt) == target);
            agree += naive_best(lt) == naive_best(pt);
        }
        if (f.text.tokens.len[s] > 1)
            assert_true(fabsl(q.nll_window[s] - sum / (long double)(f.text.tokens.len[s] - 1)) <
                        1e-12L);
        total += sum;
        free(p);
        free(l);
    }
    assert_int_equal(flat, q.n_scored);
    assert_true(agree > flat / 10 &&
                agree < flat); /* the noise is neither nothing nor everything */
    assert_true(q.top1_agree == (double)agree / (double)flat);
    assert_true(fabsl(ptq_eval_nll(&q) - total / (long double)flat) < 1e-12L);
    tiny_close(&f);
}

/* The whole model is the blocks and the score; itself as reference has no divergence. */
static void test_model_is_the_sum_of_parts(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_hidden h;
    struct ptq_eval parts, whole, again;
    setup(&f, &shape, 1);
    run_blocks(&f, 0, &h);
    for (int threads = 1; threads <= 3; threads++) {
        struct ptq_pool *pool;
        assert_ok(ptq_pool_new(&pool, threads, &f.st), &f.st);
        struct ptq_eval_args a = {
            .model = f.model, .text = &f.text, .pool = pool, .keep_hidden = true};
        assert_ok(ptq_eval_score(&a, &h, &f.arena, &parts, &f.st), &f.st);
        assert_ok(ptq_eval_model(&a, &f.arena, &whole, &f.st), &f.st);
        a.reference = &whole;
        assert_ok(ptq_eval_model(&a, &f.arena, &again, &f.st), &f.st);
        assert_memory_equal(parts.nll_window, whole.nll_window, N_SEQ * sizeof(double));
        assert_memory_equal(parts.hit, whole.hit, (size_t)whole.n_scored);
        assert_true(again.top1_agree == 1);
        for (int64_t i = 0; i < again.n_scored; i++)
            assert_true(again.kl[i] == 0);
        ptq_pool_free(pool);
    }
    tiny_close(&f);
}

/* Equal logits: nll = ln vocab at every position, the argmax of equals is id 0. */
static void test_equal_logits(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_eval e;
    setup(&f, &shape, 0);
    f.id[1] = f.id[20] = 0;
    const struct ptq_eval_args a = {.model = f.model, .text = &f.text};
    assert_ok(ptq_eval_model(&a, &f.arena, &e, &f.st), &f.st);
    assert_rel(ptq_eval_nll(&e), log(1100), 1e-15);
    int hits = 0, zeros = 0;
    for (int s = 0, flat = 0; s < N_SEQ; s++)
        for (int64_t t = 1; t < f.text.tokens.len[s]; t++, flat++) {
            assert_int_equal(e.hit[flat], f.id[f.text.tokens.offset[s] + t] == 0);
            hits += e.hit[flat];
            zeros += f.id[f.text.tokens.offset[s] + t] == 0;
        }
    assert_true(hits == zeros && hits >= 2);
    tiny_close(&f);
}

/* True from the (after + 1)-th time it is asked. */
static bool stop_after(void *arg)
{
    int *after = arg;
    return (*after)-- <= 0;
}

/* Asked once a sequence of a block and once a window. */
static void test_stops(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_eval e;
    setup(&f, &shape, 1);
    const int all = ((int)ptq_model_info(f.model)->n_blocks + 1) * N_SEQ;
    const int enough[] = {1, all - 1, all};
    for (int k = 0; k < 3; k++) {
        int after = enough[k];
        const struct ptq_eval_args a = {
            .model = f.model, .text = &f.text, .stop = stop_after, .stop_arg = &after};
        assert_int_equal(ptq_eval_model(&a, &f.arena, &e, &f.st),
                         k < 2 ? PTQ_ERR_CANCELLED : PTQ_OK);
        assert_string_equal(f.st.text, k < 2 ? "cancelled" : "");
        ptq_status_clear(&f.st);
    }
    tiny_close(&f);
}

/* Logits of hundreds: exp overflows without the shift by the largest. */
static void test_large_logits(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_eval e;
    setup(&f, &shape, 3000);
    const struct ptq_eval_args a = {.model = f.model, .text = &f.text};
    assert_ok(ptq_eval_model(&a, &f.arena, &e, &f.st), &f.st);
    assert_true(isfinite(ptq_eval_nll(&e)) && ptq_eval_nll(&e) > 1000);
    tiny_close(&f);
}

/* A vocabulary so large that logits come in several chunks a window (chunk_rows: 2^24 / 90000 = 186
 * rows). Three windows with one beginning, of one chunk, a chunk and a row, and two; the last token
 * of each is what the model says there. */
static void test_chunks(void **state)
{
    (void)state;
    struct tiny_case f;
    struct ptq_eval e;
    const struct tiny_shape wide = {8, 1, 1, 1, 8, 8, 90000, 200, false, true, 10000};
    const int64_t len[3] = {60, 188, 200}, offset[3] = {0, 60, 248};
    int32_t base[200], id[448];
    setup(&f, &wide, 1);
    for (int i = 0; i < 200; i++)
        base[i] = (i * 7919) % 90000;
    double *want = malloc((size_t)200 * 90000 * sizeof *want), sum = 0;
    assert_non_null(want);
    tiny_forward(&f.tiny, base, 200, want, -1, NULL);
    for (int s = 0; s < 3; s++) {
        const double *last = want + (len[s] - 2) * 90000;
        int32_t best = 0;
        for (int v = 0; v < 90000; v++)
            best = last[v] > last[best] ? v : best;
        memcpy(id + offset[s], base, (size_t)len[s] * sizeof *id);
        id[offset[s] + len[s] - 1] = best;
        for (int t = 0; t + 1 < len[s]; t++) {
            double z = 0;
            for (int v = 0; v < 90000; v++)
                z += exp(want[t * 90000 + v]);
            sum += log(z) - want[t * 90000 + id[offset[s] + t + 1]];
        }
    }
    f.text.tokens = (struct ptq_tokens){3, 448, len, offset, id};
    const struct ptq_eval_args a = {.model = f.model, .text = &f.text};
    assert_ok(ptq_eval_model(&a, &f.arena, &e, &f.st), &f.st);
    assert_rel(ptq_eval_nll(&e), sum / 445, 1e-6);
    for (int i = 0; i < 445; i++)
        assert_int_equal(e.hit[i], i == 58 || i == 59 + 186 || i == 59 + 187 + 198);
    free(want);
    tiny_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_loops), cmocka_unit_test(test_model_is_the_sum_of_parts),
        cmocka_unit_test(test_equal_logits),  cmocka_unit_test(test_large_logits),
        cmocka_unit_test(test_chunks),        cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
