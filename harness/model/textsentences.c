/* textsentences.c: sentences of a text, each a sequence by itself: what encoders read. */
#include "core/hash.h"
#include "core/rng.h"
#include "core/size.h"
#include "model/pytext.h"
#include "model/textcut.h"
#include <stdlib.h>
#include <string.h>

enum { LEAST_WORDS = 5, MOST_IDS = 1 << 30 };

struct piece {
    const char *at; /* in the file, or in the list's arena */
    int64_t bytes;
};

struct list {
    struct ptq_arena rows; /* rows of JSON */
    struct piece *piece;
    int64_t n, room;
    /* Which texts are in it: an index into piece plus one, 0: free; open addressing at the hash. */
    int64_t *slot, n_slots;
    struct ptq_status *st;
};

/* ---- the list */

static int64_t *slot_of(const struct list *l, const struct piece *p)
{
    uint64_t at = ptq_hash64(p->at, (size_t)p->bytes) & (uint64_t)(l->n_slots - 1);
    for (;; at = (at + 1) & (uint64_t)(l->n_slots - 1)) {
        const struct piece *q = l->slot[at] ? &l->piece[l->slot[at] - 1] : NULL;
        if (!q || (q->bytes == p->bytes && memcmp(q->at, p->at, (size_t)p->bytes) == 0))
            return &l->slot[at];
    }
}

/* Twice the room, and slots for twice as many: a power of two, at most half of them in use. */
static int grow(struct list *l)
{
    const int64_t room = l->room ? 2 * l->room : 1024;
    struct piece *piece = realloc(l->piece, (size_t)room * sizeof *piece);
    if (piece)
        l->piece = piece;
    int64_t *slot = calloc((size_t)(2 * room), sizeof *slot);
    if (!piece || !slot) {
        free(slot);
        return ptq_status_nomem(l->st, "a list of sentences", (size_t)room * sizeof *piece);
    }
    free(l->slot);
    l->slot = slot;
    l->n_slots = 2 * room;
    l->room = room;
    for (int64_t i = 0; i < l->n; i++)
        *slot_of(l, &l->piece[i]) = i + 1;
    return PTQ_OK;
}

/* A sentence that came before would be its own nearest neighbour. */
static int add(struct list *l, const struct piece *p)
{
    int rc = l->n == l->room ? grow(l) : PTQ_OK;
    int64_t *slot = rc ? NULL : slot_of(l, p);
    if (rc || *slot)
        return rc;
    l->piece[l->n++] = *p;
    *slot = l->n;
    return PTQ_OK;
}

static void release(struct list *l)
{
    ptq_arena_clear(&l->rows);
    free(l->piece);
    free(l->slot);
}

/* ---- cutting */

static struct piece stripped(const char *text, int64_t bytes)
{
    int64_t from, to;
    ptq_strip(text, bytes, &from, &to);
    return (struct piece){text + from, to - from};
}

static bool is_heading(const struct piece *p)
{
    return p->bytes > 0 && p->at[0] == '=' && p->at[p->bytes - 1] == '=';
}

static bool ends_sentence(const struct piece *p, int64_t i)
{
    return strchr(".?!", p->at[i]) && p->at[i] &&
           (i + 1 == p->bytes || ptq_space_at(p->at + i + 1, p->bytes - i - 1) > 0);
}

static int cut_line(struct list *l, const char *text, int64_t bytes)
{
    const struct piece line = stripped(text, bytes);
    int rc = PTQ_OK;
    for (int64_t i = 0, begin = 0; i < line.bytes && !rc && !is_heading(&line); i++) {
        if (!ends_sentence(&line, i) && i + 1 < line.bytes)
            continue;
        const struct piece p = stripped(line.at + begin, i + 1 - begin);
        if (p.bytes > 0 && ptq_count_words(p.at, p.bytes) >= LEAST_WORDS)
            rc = add(l, &p);
        begin = i + 1;
    }
    return rc;
}

static int cut_text(struct list *l, const char *text, int64_t bytes)
{
    int rc = PTQ_OK;
    for (int64_t i = 0; i < bytes && !rc;) {
        const char *end = memchr(text + i, '\n', (size_t)(bytes - i));
        int64_t n = end ? end - (text + i) : bytes - i;
        rc = cut_line(l, text + i, n);
        i += n + 1;
    }
    return rc;
}

/* Only JSON has rows that do not lie in the file as they are. */
static int cut_file(struct list *l, const struct ptq_textfile *f)
{
    struct ptq_text_rows rows;
    const char *text;
    int64_t bytes;
    if (f->rows != PTQ_ROWS_JSON)
        return cut_text(l, f->text, f->bytes);
    int rc = ptq_text_rows_open(f, &l->rows, &rows, l->st);
    for (int64_t i = 0; i < rows.n && !rc; i++)
        if (!(rc = ptq_text_rows_get(&rows, i, &l->rows, &text, &bytes, l->st)))
            rc = cut_text(l, text, bytes);
    return rc;
}

/* ---- sequences */

/* The first n of a random order, in place. */
static void shuffle(struct list *l, uint64_t seed, int64_t n)
{
    struct ptq_rng rng = {seed};
    for (int64_t i = 0; i < n; i++) {
        int64_t k = i + (int64_t)ptq_rng_below(&rng, (uint64_t)(l->n - i));
        struct piece p = l->piece[i];
        l->piece[i] = l->piece[k];
        l->piece[k] = p;
    }
}

/* Of a sentence that is too long the last tokens go, but not the special ones behind them. */
static int take(struct ptq_load *l, struct ptq_stream *s, const struct piece *p,
                struct ptq_arena *one, struct ptq_cut *c)
{
    const int64_t after = s->tok ? ptq_tokenizer_info(s->tok)->n_after : 0;
    int32_t *id, *to = c->id + c->n_total;
    int64_t n;
    ptq_arena_clear(one);
    int rc = ptq_stream_encode(s, p->at, p->bytes, one, &id, &n);
    if (rc)
        return rc;
    const int64_t len = n < l->window ? n : l->window;
    memcpy(to, id, (size_t)len * sizeof *to);
    if (len < n)
        memcpy(to + len - after, id + n - after, (size_t)after * sizeof *to);
    ptq_cut_end(c, len);
    return PTQ_OK;
}

static int take_all(struct ptq_load *l, struct ptq_stream *s, const struct list *list, int64_t n,
                    struct ptq_cut *c)
{
    struct ptq_arena one;
    int64_t ids;
    if (!ptq_size_mul(n, l->window, &ids) || ids > MOST_IDS)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: %lld sentences of up to %lld tokens are too many",
                              l->ask->source, (long long)n, (long long)l->window);
    ptq_arena_init(&one, 0);
    int rc = ptq_cut_alloc(l, c, n, ids);
    for (int64_t i = 0; i < n && !rc; i++)
        rc = take(l, s, &list->piece[i], &one, c);
    ptq_arena_clear(&one);
    return rc;
}

static int check(const struct ptq_load *l, const struct ptq_stream *s, const struct list *list)
{
    const struct ptq_tokenizer_info *t = s->tok ? ptq_tokenizer_info(s->tok) : NULL;
    if (t && l->window <= t->n_before + t->n_after)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: %lld tokens a sentence leave none beside the %d special ones",
                              l->ask->source, (long long)l->window, t->n_before + t->n_after);
    if (list->n > 0)
        return PTQ_OK;
    return ptq_status_set(l->st, PTQ_ERR_USAGE, "%s: no sentence of %d words or more in it",
                          l->ask->source, LEAST_WORDS);
}

int ptq_cut_sentences(struct ptq_load *l, struct ptq_stream *s, const struct ptq_textfile *f,
                      const struct ptq_draw_request *draw, struct ptq_cut *c)
{
    struct list list = {.st = l->st};
    const int64_t want = draw ? draw->n : l->ask->n_seq;
    ptq_arena_init(&list.rows, 0);
    int rc = cut_file(&list, f);
    if (!rc && !(rc = check(l, s, &list))) {
        int64_t n = want && want < list.n ? want : list.n;
        if (draw)
            shuffle(&list, draw->seed, n);
        rc = take_all(l, s, &list, n, c);
        c->left = n < list.n;
    }
    release(&list);
    return rc;
}
