/* textdraw.c: calibration windows, as the named rules draw them. */
#include "model/textcut.h"
#include "core/mt19937.h"
#include "core/rng.h"
#include "core/size.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_IDS = 1 << 30, MOST_REJECTED = 50000 };

static int check_size(const struct ptq_load *l, int64_t n)
{
    int64_t ids;
    if (ptq_size_mul(n, l->window, &ids) && ids <= MOST_IDS)
        return PTQ_OK;
    return ptq_status_set(l->st, PTQ_ERR_USAGE, "%s: %lld windows of %lld tokens are too many",
                          l->ask->source, (long long)n, (long long)l->window);
}

static int too_short(const struct ptq_load *l, int64_t n)
{
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "%s: %lld tokens hold no window of %lld; choose shorter ones",
                          l->ask->source, (long long)n, (long long)l->window);
}

static void take(const struct ptq_load *l, const int32_t *from, struct ptq_cut *c)
{
    memcpy(c->id + c->n_total, from, (size_t)l->window * sizeof *from);
    ptq_cut_end(c, l->window);
}

/* ---- from the tokens of the whole text */

static int draw_from(struct ptq_load *l, const struct ptq_draw_request *draw, const int32_t *id,
                     int64_t n, struct ptq_cut *c)
{
    struct ptq_rng own = {draw->seed};
    struct ptq_mt19937 python;
    const int64_t all = n / l->window;
    /* randint(0, n - W - 1): a text of W tokens and no more has no window for it */
    const int64_t places = draw->kind == PTQ_DRAW_GPTQ ? n - l->window : n - l->window + 1;
    int64_t want = draw->n ? draw->n : all;
    if (places < 1)
        return too_short(l, n);
    if (draw->kind == PTQ_DRAW_FIRST && want > all)
        want = all;
    int rc = check_size(l, want);
    if (rc || (rc = ptq_cut_alloc(l, c, want, want * l->window)))
        return rc;
    ptq_mt19937_seed(&python, draw->seed);
    for (int64_t s = 0; s < want; s++) {
        int64_t at = s * l->window;
        if (draw->kind == PTQ_DRAW_WINDOWS)
            at = (int64_t)ptq_rng_below(&own, (uint64_t)places);
        else if (draw->kind == PTQ_DRAW_GPTQ)
            at = (int64_t)ptq_mt19937_below(&python, (uint64_t)places);
        take(l, id + at, c);
    }
    return PTQ_OK;
}

static int draw_stream(struct ptq_load *l, struct ptq_stream *s, const struct ptq_textfile *f,
                       const struct ptq_draw_request *draw, struct ptq_cut *c)
{
    struct ptq_arena ids;
    char *joined = NULL;
    const char *text = f->text;
    int64_t bytes = f->bytes, n;
    int32_t *id;
    /* byte models read the file as it lies; JSON has no raw text */
    bool raw = f->rows == PTQ_ROWS_WHOLE || (!s->tok && f->rows != PTQ_ROWS_JSON);
    int rc = raw ? PTQ_OK : ptq_text_rows_joined(f, &joined, &bytes, l->st);
    ptq_arena_init(&ids, 0);
    if (!rc && !(rc = ptq_stream_encode(s, joined ? joined : text, bytes, &ids, &id, &n)))
        rc = draw_from(l, draw, id, n, c);
    free(joined);
    ptq_arena_clear(&ids);
    return rc;
}

/* ---- from single documents */

/* A document of more than W tokens. The published code takes one of exactly W too, and then fails
 * at randint(0, -1); its later copies draw again, as here. */
static int long_document(struct ptq_load *l, struct ptq_stream *s, const struct ptq_text_rows *rows,
                         struct ptq_mt19937 *r, struct ptq_arena *one, int32_t **id, int64_t *n)
{
    for (int64_t tries = 0; tries < MOST_REJECTED; tries++) {
        const char *text;
        int64_t bytes;
        int64_t row = (int64_t)ptq_mt19937_below(r, (uint64_t)rows->n);
        ptq_arena_clear(one);
        int rc = ptq_text_rows_get(rows, row, one, &text, &bytes, l->st);
        if (rc || (rc = ptq_stream_encode(s, text, bytes, one, id, n)))
            return rc;
        if (*n > l->window)
            return PTQ_OK;
    }
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "%s: %d rows drawn one after another have no more than %lld tokens; "
                          "choose shorter windows or another draw",
                          l->ask->source, MOST_REJECTED, (long long)l->window);
}

static int draw_documents(struct ptq_load *l, struct ptq_stream *s, const struct ptq_textfile *f,
                          const struct ptq_draw_request *draw, struct ptq_cut *c)
{
    struct ptq_arena lines, one;
    struct ptq_mt19937 python;
    struct ptq_text_rows rows;
    int64_t want = draw->n ? draw->n : 1, n;
    int32_t *id;
    int rc = check_size(l, want);
    ptq_arena_init(&lines, 0);
    ptq_arena_init(&one, 0);
    if (!rc && !(rc = ptq_cut_alloc(l, c, want, want * l->window)) &&
        !(rc = ptq_text_rows_open(f, &lines, &rows, l->st)) && rows.n == 0)
        rc = too_short(l, 0);
    ptq_mt19937_seed(&python, draw->seed);
    for (int64_t w = 0; w < want && !rc; w++) {
        rc = long_document(l, s, &rows, &python, &one, &id, &n);
        if (!rc)
            take(l, id + ptq_mt19937_below(&python, (uint64_t)(n - l->window)), c);
    }
    ptq_arena_clear(&one);
    ptq_arena_clear(&lines);
    return rc;
}

int ptq_draw_windows(struct ptq_load *l, struct ptq_stream *s, const struct ptq_textfile *f,
                     const struct ptq_draw_request *draw, struct ptq_cut *c)
{
    return draw->kind == PTQ_DRAW_DOCUMENTS ? draw_documents(l, s, f, draw, c)
                                            : draw_stream(l, s, f, draw, c);
}
