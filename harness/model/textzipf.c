#include "model/textzipf.h"
#include "core/hash.h"
#include "core/rng.h"
#include "core/size.h"
#include "core/words.h"
#include <math.h>
#include <string.h>

enum { DEFAULT_WINDOWS = 16 };
static const char prefix[] = "synth:zipf:";

bool ptq_is_zipf(const char *source)
{
    return !strncmp(source, prefix, sizeof prefix - 1);
}

/* cdf[i]: probability of an id up to i. Divisions and sums in index order: the same everywhere. */
static double *cumulate(int64_t vocab, struct ptq_arena *arena, struct ptq_status *st)
{
    double *cdf = ptq_arena_alloc(arena, st, vocab, sizeof *cdf), sum = 0;
    for (int64_t i = 0; cdf && i < vocab; i++)
        cdf[i] = sum += 1 / ((double)i + 2.7);
    for (int64_t i = 0; cdf && i < vocab; i++)
        cdf[i] /= sum;
    return cdf;
}

static int32_t draw(const double *cdf, int64_t vocab, double u)
{
    int64_t lo = 0, hi = vocab - 1;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (cdf[mid] > u)
            hi = mid;
        else
            lo = mid + 1;
    }
    return (int32_t)lo;
}

/* n_seq windows side by side; PTQ_ERR_USAGE when they are too many to count. */
static int lay_out(int64_t n_seq, int64_t window, struct ptq_arena *arena, struct ptq_tokens *t,
                   int32_t **id, struct ptq_status *st)
{
    int64_t n_total;
    if (!ptq_size_mul(n_seq, window, &n_total) || n_total > INT32_MAX)
        return ptq_status_set(st, PTQ_ERR_USAGE, "synth:zipf: %lld windows of %lld ids: too many",
                              (long long)n_seq, (long long)window);
    int64_t *len = ptq_arena_alloc(arena, st, n_seq, sizeof *len),
            *offset = ptq_arena_alloc(arena, st, n_seq, sizeof *offset);
    *id = ptq_arena_alloc(arena, st, n_total, sizeof **id);
    if (!len || !offset || !*id)
        return PTQ_ERR_MEMORY;
    *t = (struct ptq_tokens){n_seq, n_total, len, offset, *id};
    for (int64_t s = 0; s < n_seq; s++) {
        len[s] = window;
        offset[s] = s * window;
    }
    return PTQ_OK;
}

/* The window that a protocol asks for ("gptq-2048") as far as the model's context goes; else all of
 * the context. */
static int64_t window_of(const struct ptq_model_info *info, const struct ptq_text_request *ask)
{
    struct ptq_status ignored = {0};
    const char *dash = ask->protocol ? strrchr(ask->protocol, '-') : NULL;
    int64_t window = ask->window;
    if (!window && dash)
        ptq_parse_i64(dash + 1, "window", 1, INT32_MAX, &window, &ignored);
    return window && window < info->max_context ? window : info->max_context;
}

static void set_key(struct ptq_text *t)
{
    struct ptq_hasher *h = ptq_hasher_new();
    ptq_hasher_add_text(h, "zipf");
    ptq_hasher_add_i64(h, t->tokens.n_seq);
    ptq_hasher_add(h, t->tokens.id, (size_t)t->tokens.n_total * sizeof *t->tokens.id);
    ptq_hasher_done(h, t->key);
}

int ptq_zipf_text(const struct ptq_model_info *info, const struct ptq_text_request *ask,
                  struct ptq_arena *arena, struct ptq_text *out, struct ptq_status *st)
{
    int64_t seed, n_seq = ask->n_seq ? ask->n_seq : DEFAULT_WINDOWS;
    int64_t window = window_of(info, ask), vocab = info->vocab_size;
    int32_t *id = NULL;
    *out = (struct ptq_text){.source = ptq_arena_strdup(arena, st, ask->source),
                             .family = "zipf",
                             .bytes_per_token = NAN,
                             .words_per_token = NAN,
                             .rules = "token ids drawn alone by Zipf's law; every id but a "
                                      "window's first is scored; says nothing about language"};
    out->name = out->source;
    out->protocol =
        ptq_arena_printf(arena, st, "zipf-%lld/first%lld", (long long)window, (long long)n_seq);
    if (!out->source || !out->protocol)
        return PTQ_ERR_MEMORY;
    int code = ptq_parse_i64(ask->source + sizeof prefix - 1, ask->source, 0, INT64_MAX, &seed, st);
    if (code >= 0)
        code = lay_out(n_seq, window, arena, &out->tokens, &id, st);
    double *cdf = code < 0 ? NULL : cumulate(vocab, arena, st);
    if (!cdf)
        return code < 0 ? code : PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < out->tokens.n_total; i++)
        id[i] = draw(cdf, vocab, ptq_uniform((uint64_t)seed, (uint64_t)i));
    set_key(out);
    return PTQ_OK;
}
