#include "metrics/metric.h"
#include <math.h>
#include <stdlib.h>

extern const struct ptq_metric ptq_metric_embed_nn10;

enum { NEAREST = 10 };

struct search {
    int64_t n, d;
    double *across;  /* (d x n) the embeddings transposed: one sum a column, in order, at once */
    double *cosines; /* [n] of one sentence to all */
};

static void transpose(struct search *s, const double *e)
{
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < s->d; k++)
            s->across[k * s->n + i] = e[i * s->d + k];
}

static void cosines_of(struct search *s, int64_t i)
{
    for (int64_t j = 0; j < s->n; j++)
        s->cosines[j] = 0;
    for (int64_t k = 0; k < s->d; k++) {
        const double *row = s->across + k * s->n, a = row[i];
        for (int64_t j = 0; j < s->n; j++)
            s->cosines[j] += a * row[j];
    }
}

/* The nearest first; of equals the lower index, which comes first, stays before. */
static void nearest(const struct search *s, int64_t i, int64_t out[NEAREST])
{
    int n = 0;
    for (int64_t j = 0; j < s->n; j++) {
        int at = n;
        if (j == i)
            continue;
        while (at > 0 && s->cosines[j] > s->cosines[out[at - 1]])
            at--;
        if (at == NEAREST)
            continue;
        n += n < NEAREST;
        for (int k = n - 1; k > at; k--)
            out[k] = out[k - 1];
        out[at] = j;
    }
}

/* (n x NEAREST) */
static void neighbours(struct search *s, const double *embedding, int64_t *out)
{
    transpose(s, embedding);
    for (int64_t i = 0; i < s->n; i++) {
        cosines_of(s, i);
        nearest(s, i, out + i * NEAREST);
    }
}

static double overlap(const int64_t *a, const int64_t *b, int64_t n)
{
    int64_t both = 0;
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < NEAREST; k++)
            for (int q = 0; q < NEAREST; q++)
                both += a[i * NEAREST + k] == b[i * NEAREST + q];
    return (double)both / (double)(n * NEAREST);
}

static bool is_finite(const struct ptq_eval *e)
{
    for (int64_t i = 0; i < e->n_windows * e->d_embedding; i++)
        if (!isfinite(e->embedding[i]))
            return false;
    return true;
}

static int model(const struct ptq_model_eval *m, struct ptq_value *v)
{
    const struct ptq_eval *e = m->eval, *ref = e->reference;
    struct search s = {.n = e->n_windows, .d = e->d_embedding};
    if (!ref)
        return ptq_value_none(v, "no full-precision reference");
    if (s.n <= NEAREST)
        return ptq_value_none(v, "fewer than eleven sentences");
    if (!is_finite(e) || !is_finite(ref))
        return ptq_value_none(v, "an embedding is not finite");
    s.across = malloc((size_t)(s.n * s.d) * sizeof *s.across);
    s.cosines = malloc((size_t)s.n * sizeof *s.cosines);
    int64_t *of = malloc((size_t)(2 * s.n * NEAREST) * sizeof *of);
    int rc = PTQ_ERR_MEMORY;
    if (s.across && s.cosines && of) {
        neighbours(&s, e->embedding, of);
        neighbours(&s, ref->embedding, of + s.n * NEAREST);
        rc = ptq_value_set(v, overlap(of, of + s.n * NEAREST, s.n));
    }
    free(s.across);
    free(s.cosines);
    free(of);
    return rc;
}

const struct ptq_metric ptq_metric_embed_nn10 = {
    .id = "embed_nn10",
    .title = "overlap of a sentence's ten nearest others by cosine with those of full precision, "
             "mean over sentences; ties to the lower index",
    .unit = "share",
    .better = PTQ_HIGHER,
    .of = PTQ_OF_EMBEDDINGS,
    .model = model,
};
