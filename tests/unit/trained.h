/* trained.h: loss of trained models of other people's programs over all windows of the figures of
 * ../shared/data/README.md. A test program a model: they are long under sanitizers. */
#ifndef PTQ_TRAINED_H
#define PTQ_TRAINED_H
#include "model/eval.h"
#include "model_cases.h"

struct windows {
    int64_t *len, *offset, n_seq, n_total;
    int32_t *id;
};

/* Room for n windows of at most `width` ids. */
static inline void windows_new(struct windows *w, int64_t n, int64_t width)
{
    *w = (struct windows){.len = malloc((size_t)n * sizeof *w->len),
                          .offset = malloc((size_t)n * sizeof *w->offset),
                          .id = malloc((size_t)(n * width) * sizeof *w->id)};
    assert_true(w->len && w->offset && w->id);
}

/* One of n ids: lead (or none, < 0) and the next ones of the text. */
static inline void windows_add(struct windows *w, int64_t n, int32_t lead, const int32_t *id)
{
    int32_t *at = w->id + w->n_total;
    w->len[w->n_seq] = n;
    w->offset[w->n_seq++] = w->n_total;
    w->n_total += n;
    if (lead >= 0)
        *at++ = lead;
    memcpy(at, id, (size_t)(lead < 0 ? n : n - 1) * sizeof *at);
}

/* n windows of `width` ids each, side by side in the text. */
static inline void windows_make(struct windows *w, int64_t n, int64_t width, int32_t lead,
                                const int32_t *id)
{
    windows_new(w, n, width);
    for (int64_t s = 0; s < n; s++)
        windows_add(w, width, lead, id + s * (lead < 0 ? width : width - 1));
}

/* Every id but the first of its window is scored; their mean loss is `want`. Frees the windows. */
static inline void check_figure(const char *model, struct windows *w, double want, double within)
{
    struct ptq_status st = {0};
    struct ptq_arena a;
    struct ptq_model *m;
    struct ptq_pool *pool;
    struct ptq_eval e;
    ptq_arena_init(&a, 0);
    const struct ptq_text text = {.tokens = {w->n_seq, w->n_total, w->len, w->offset, w->id}};
    assert_ok(ptq_model_open(&m, model, NULL, &st), &st);
    assert_ok(ptq_pool_new(&pool, 0, &st), &st);
    const struct ptq_eval_args args = {.model = m, .text = &text, .pool = pool};
    assert_ok(ptq_eval_model(&args, &a, &e, &st), &st);
    double nll = ptq_eval_nll(&e);
    assert_int_equal(e.n_scored, w->n_total - w->n_seq);
    if (!(fabs(nll - want) < within))
        fail_msg("%s: nll %.6f, expected %.5f", model, nll, want);
    ptq_pool_free(pool);
    ptq_model_close(m);
    ptq_arena_clear(&a);
    free(w->len);
    free(w->offset);
    free(w->id);
}

#endif
