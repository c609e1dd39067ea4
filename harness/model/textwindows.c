/* textwindows.c: texts that are files: their tokens, cut by a protocol or a draw. */
#include "model/textcut.h"
#include "core/size.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_IDS = 1 << 30 };

/* ---- tokens */

static int check_ids(const struct ptq_load *l, const int32_t *id, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (id[i] < 0 || id[i] >= l->model->vocab_size)
            return ptq_status_set(l->st, PTQ_ERR_USAGE,
                                  "%s: the tokenizer gives the id %d, and the vocabulary of %s is "
                                  "0 .. %lld: it is another model's (--tokenizer)",
                                  l->ask->source, (int)id[i], l->model->name,
                                  (long long)l->model->vocab_size - 1);
    return PTQ_OK;
}

int ptq_stream_encode(struct ptq_stream *s, const char *text, int64_t bytes,
                      struct ptq_arena *arena, int32_t **ids, int64_t *n)
{
    const struct ptq_load *l = s->load;
    const struct ptq_encode ask = {text, bytes, s->specials, s->added};
    int rc;
    if (bytes > MOST_IDS)
        return ptq_status_set(l->st, PTQ_ERR_USAGE, "%s: %lld bytes of text are too many",
                              l->ask->source, (long long)bytes);
    s->n_bytes += bytes;
    if (s->tok) {
        const struct ptq_tokenizer_info *info = ptq_tokenizer_info(s->tok);
        rc = ptq_tokenizer_encode(s->tok, &ask, arena, ids, n, l->st);
        s->n_ids += rc ? 0 : *n - (s->specials ? info->n_before + info->n_after : 0);
        return rc ? rc : check_ids(l, *ids, *n);
    }
    *n = bytes;
    s->n_ids += bytes;
    if (!(*ids = ptq_arena_alloc(arena, l->st, bytes, sizeof **ids)))
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < bytes; i++)
        (*ids)[i] = (unsigned char)text[i];
    return check_ids(l, *ids, *n);
}

/* *tok stays NULL for bytes. */
static int open_tokenizer(struct ptq_load *l, struct ptq_tokenizer **tok)
{
    const char *source = l->ask->tokenizer;
    *tok = NULL;
    if (!source && strcmp(l->model->tokenizer, "own") == 0)
        source = l->model->source;
    if (!source)
        source = l->model->tokenizer;
    if (strcmp(source, "bytes") == 0)
        return PTQ_OK;
    int rc = strcmp(source, "none") == 0 ? PTQ_SKIP : ptq_tokenizer_open(tok, source, l->st);
    if (rc != PTQ_SKIP)
        return rc;
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "%s: text needs a tokenizer, and %s has none; name one (--tokenizer) or "
                          "give token ids instead (--tokens FILE)",
                          l->ask->source, l->ask->tokenizer ? source : l->model->name);
}

/* ---- windows of one stream of tokens */

/* What a protocol does with the tokens of a text. */
struct plan {
    const struct ptq_protocol *protocol;
    int32_t bos;    /* put before or instead of a window's first token; -1: nothing */
    int64_t stride; /* tokens of the stream a window */
    int64_t most;   /* windows there are; 0: all */
};

static int plan_of(struct ptq_load *l, const struct ptq_stream *s, const struct ptq_textfile *f,
                   struct plan *p)
{
    const struct ptq_tokenizer_info *info = s->tok ? ptq_tokenizer_info(s->tok) : NULL;
    *p = (struct plan){l->protocol, -1, l->window, 0};
    if (l->protocol->material == PTQ_OF_ROWS && f->known)
        p->most = f->known->windows;
    if (l->protocol->bos == PTQ_BOS_INSTEAD && info) {
        if (info->n_after)
            return ptq_status_set(l->st, PTQ_ERR_USAGE,
                                  "%s: the tokenizer puts tokens behind a text, which %s does not "
                                  "know",
                                  l->ask->source, l->protocol->title);
        p->bos = info->n_before && info->before[0] == info->bos ? info->bos : -1;
    }
    if (l->protocol->bos != PTQ_BOS_BEFORE)
        return PTQ_OK;
    p->bos = info ? info->bos : -1;
    p->stride = l->window - 1;
    return p->bos >= 0 ? PTQ_OK
                       : ptq_status_set(l->st, PTQ_ERR_USAGE,
                                        "%s: the protocol bos needs a tokenizer with a BOS token",
                                        l->ask->source);
}

static void cut_window(const struct ptq_load *l, const struct plan *p, const int32_t *id,
                       struct ptq_cut *c)
{
    int32_t *to = c->id + c->n_total;
    if (p->protocol->bos == PTQ_BOS_BEFORE)
        *to++ = p->bos;
    memcpy(to, id, (size_t)p->stride * sizeof *id);
    if (p->protocol->bos == PTQ_BOS_INSTEAD && p->bos >= 0)
        *to = p->bos;
    ptq_cut_end(c, l->window);
    if (p->protocol->scored == PTQ_SCORE_HALF)
        c->first[c->n_seq - 1] = l->window / 2 + 1;
}

static int cut_stream(struct ptq_load *l, const struct plan *p, const int32_t *id, int64_t n,
                      struct ptq_cut *c)
{
    int64_t all = n / p->stride, take, ids;
    if (p->protocol->scored == PTQ_SCORE_HALF && n < 2 * l->window)
        return ptq_status_set(
            l->st, PTQ_ERR_USAGE, "%s: %lld tokens; %s takes at least two windows of %lld",
            l->ask->source, (long long)n, l->protocol->title, (long long)l->window);
    if (p->most && all > p->most)
        all = p->most;
    take = l->ask->n_seq && l->ask->n_seq < all ? l->ask->n_seq : all;
    if (!ptq_size_mul(take, l->window, &ids) || ids > MOST_IDS)
        return ptq_status_set(l->st, PTQ_ERR_USAGE, "%s: %lld windows of %lld tokens are too many",
                              l->ask->source, (long long)take, (long long)l->window);
    int rc = ptq_cut_alloc(l, c, take, ids);
    if (!rc && p->protocol->scored == PTQ_SCORE_HALF &&
        !(c->first = ptq_arena_alloc(l->arena, l->st, take, sizeof *c->first)))
        rc = PTQ_ERR_MEMORY;
    for (int64_t s = 0; s < take && !rc; s++)
        cut_window(l, p, id + s * p->stride, c);
    c->left = take < all;
    return rc;
}

/* JSON rows have no raw text. */
static bool is_joined(const struct ptq_textfile *f, const struct ptq_protocol *p)
{
    return f->rows == PTQ_ROWS_JSON || (p->material == PTQ_OF_ROWS && f->rows != PTQ_ROWS_WHOLE);
}

/* The text as the protocol reads it; *own: malloc'ed, or NULL when it lies in the file. */
static int material(const struct ptq_textfile *f, const struct ptq_protocol *p, const char **text,
                    int64_t *bytes, char **own, struct ptq_status *st)
{
    *own = NULL;
    *text = f->text;
    *bytes = f->bytes;
    if (p->material == PTQ_OF_PROMPT && *bytes && f->text[*bytes - 1] == '\n')
        --*bytes;
    if (!is_joined(f, p))
        return PTQ_OK;
    int rc = ptq_text_rows_joined(f, own, bytes, st);
    *text = *own;
    return rc;
}

static int windows_of_stream(struct ptq_load *l, struct ptq_stream *s, const struct ptq_textfile *f,
                             struct ptq_cut *c)
{
    struct ptq_arena ids;
    struct plan plan;
    const char *text;
    char *own = NULL;
    int64_t bytes, n;
    int32_t *id;
    int rc = plan_of(l, s, f, &plan);
    ptq_arena_init(&ids, 0);
    if (!rc && !(rc = material(f, l->protocol, &text, &bytes, &own, l->st)) &&
        !(rc = ptq_stream_encode(s, text, bytes, &ids, &id, &n)))
        rc = cut_stream(l, &plan, id, n, c);
    free(own);
    ptq_arena_clear(&ids);
    return rc;
}

/* ---- rolling windows over pages */

/* One page of n tokens: a prefix token goes before it, and every window of up to W inputs scores
 * the tokens that no window before it did. The last target of a window is no input of it. */
static void roll(const struct ptq_load *l, const int32_t *id, int64_t n, int32_t prefix,
                 struct ptq_cut *c)
{
    const int64_t w = l->window;
    for (int64_t done = 0; done < n;) {
        int64_t end = n - done < w ? n : done + w;     /* tokens scored behind this window */
        int64_t from = end - w > 0 ? end - w - 1 : -1; /* first input; -1: the prefix */
        int64_t len = end - 1 - from;
        int32_t *to = c->id + c->n_total;
        for (int64_t i = 0; i < len; i++)
            to[i] = from + i < 0 ? prefix : id[from + i];
        ptq_cut_end(c, len);
        c->first[c->n_seq - 1] = done - from;
        c->after[c->n_seq - 1] = id[end - 1];
        done = end;
    }
}

struct page_ids {
    int32_t *id;
    int64_t n;
};

static int roll_pages(struct ptq_load *l, const struct page_ids *page, int64_t n_pages,
                      int32_t prefix, struct ptq_cut *c)
{
    int64_t windows = 0, ids = 0;
    for (int64_t p = 0; p < n_pages; p++) {
        windows += page[p].n / l->window + 1;
        ids += (page[p].n / l->window + 1) * l->window;
    }
    int rc = ptq_cut_alloc(l, c, windows, ids);
    if (!rc)
        rc = ptq_cut_alloc_scored(l, c, windows);
    for (int64_t p = 0; p < n_pages && !rc; p++)
        roll(l, page[p].id, page[p].n, prefix, c);
    return rc;
}

static int windows_of_pages(struct ptq_load *l, struct ptq_stream *s, const struct ptq_textfile *f,
                            struct ptq_cut *c, int64_t *n_pages)
{
    const struct ptq_tokenizer_info *info = s->tok ? ptq_tokenizer_info(s->tok) : NULL;
    int32_t prefix = !info ? -1 : info->bos >= 0 ? info->bos : info->eos;
    struct ptq_arena own;
    struct ptq_page *page;
    bool left = false;
    int64_t words = 0, bytes = 0, scored = 0;
    if (f->rows == PTQ_ROWS_JSON)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: lm-eval-word reads the pages of a WikiText file, not JSON rows",
                              l->ask->source);
    if (prefix < 0)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: the protocol lm-eval-word needs a tokenizer with a BOS or EOS "
                              "token",
                              l->ask->source);
    ptq_arena_init(&own, 0);
    int rc = ptq_pages(f, l->ask->n_seq, &own, &page, n_pages, &left, l->st);
    struct page_ids *ids = rc ? NULL : ptq_arena_alloc(&own, l->st, *n_pages, sizeof *ids);
    if (!rc && !ids)
        rc = PTQ_ERR_MEMORY;
    for (int64_t p = 0; p < *n_pages && !rc; p++) {
        rc = ptq_stream_encode(s, page[p].text, page[p].bytes, &own, &ids[p].id, &ids[p].n);
        words += page[p].n_words;
        bytes += page[p].n_bytes;
        scored += rc ? 0 : ids[p].n;
    }
    if (!rc && !(rc = roll_pages(l, ids, *n_pages, prefix, c))) {
        c->left = left;
        l->out->bytes_per_token = (double)bytes / (double)scored;
        l->out->words_per_token = (double)words / (double)scored;
    }
    ptq_arena_clear(&own);
    return rc;
}

/* ---- names and rules */

static const char *rows_rule(const struct ptq_load *l, const struct ptq_textfile *f)
{
    static const char *const rules[] = {
        [PTQ_ROWS_WHOLE] = "the file as it is",
        [PTQ_ROWS_WIKITEXT] = "rows (a line with its newline, \"\" for a blank one) joined with ",
        [PTQ_ROWS_STRIPPED] = "rows (a line without the white space around it) joined with ",
        [PTQ_ROWS_JSON] = "rows (\"text\" of a JSON object a line) joined with "};
    const char *join = strcmp(f->join, " ") == 0 ? "a space" : "\"\\n\\n\"";
    if (f->rows == PTQ_ROWS_WHOLE)
        return rules[f->rows];
    if (f->known && f->known->first_rows)
        return ptq_arena_printf(l->arena, l->st, "the first %lld %s%s",
                                (long long)f->known->first_rows, rules[f->rows], join);
    return ptq_arena_printf(l->arena, l->st, "%s%s", rules[f->rows], join);
}

/* A text that stands in for others has protocol names of its own: "prose-2048". */
static const char *base_name(const struct ptq_load *l, const struct ptq_textfile *f)
{
    const char *name = l->protocol->name, *other = f->known ? f->known->stands_for : NULL;
    if (!other)
        return name;
    return strcmp(name, "gptq") == 0 ? other
                                     : ptq_arena_printf(l->arena, l->st, "%s-%s", other, name);
}

/* Old C4: no windows of a stream. */
static const char *crops_rule(const struct ptq_load *l, int64_t crops)
{
    int n;
    return ptq_arena_printf(l->arena, l->st,
                            "%lld windows of N = %lld by the rule gptq-documents with seed 0 (%s); "
                            "positions 0 .. N-2 predict tokens 1 .. N-1; perplexity is exp of the "
                            "mean of the windows' mean NLL",
                            (long long)crops, (long long)l->window,
                            ptq_draw_rules(&n)[PTQ_DRAW_DOCUMENTS].rules);
}

static const char *full_rules(const struct ptq_load *l, const struct ptq_textfile *f)
{
    const char *rules = ptq_protocol_rules(l->protocol, l->window, l->arena, l->st);
    bool rows = l->protocol->material == PTQ_OF_ROWS;
    if (l->protocol->material == PTQ_OF_SENTENCES)
        return rules;
    if (rows && f->known && f->known->crops)
        return crops_rule(l, f->known->crops);
    if (!rows && !is_joined(f, l->protocol))
        return rules;
    const char *of_rows = rows_rule(l, f);
    if (!rules || !of_rows)
        return NULL;
    return f->known && f->known->windows
               ? ptq_arena_printf(l->arena, l->st, "%s; %s; the first %lld windows", of_rows, rules,
                                  (long long)f->known->windows)
               : ptq_arena_printf(l->arena, l->st, "%s; %s", of_rows, rules);
}

static int finish_protocol(struct ptq_load *l, const struct ptq_textfile *f,
                           const struct ptq_cut *c, int64_t n)
{
    const char *base = base_name(l, f);
    return ptq_cut_finish(l, c, base ? ptq_cut_name(l, base, c->left, n) : NULL, full_rules(l, f));
}

static int finish_draw(struct ptq_load *l, const struct ptq_draw_request *draw,
                       const struct ptq_cut *c)
{
    int n;
    const struct ptq_draw_rule *rule = &ptq_draw_rules(&n)[draw->kind];
    return ptq_cut_finish(l, c,
                          ptq_arena_printf(l->arena, l->st, "%s-%lld/%lld", rule->name,
                                           (long long)l->window, (long long)c->n_seq),
                          ptq_rules_of_window(rule->rules, l->window, l->arena, l->st));
}

/* ---- one file */

static void describe(struct ptq_load *l, const struct ptq_textfile *f)
{
    struct ptq_text *t = l->out;
    t->name = ptq_arena_strdup(l->arena, l->st, f->name);
    t->family = f->known ? ptq_arena_strdup(l->arena, l->st, f->known->family) : NULL;
    t->note = f->note;
    t->verified = f->verified;
    t->fallback = f->fallback;
    memcpy(t->sha256, f->sha256, sizeof t->sha256);
}

static int evaluate(struct ptq_load *l, struct ptq_stream *s, const struct ptq_textfile *f)
{
    struct ptq_cut c = {0};
    int64_t n = 0;
    const int64_t crops = f->known ? f->known->crops : 0;
    int rc;
    if (l->protocol->material == PTQ_OF_SENTENCES) {
        rc = ptq_cut_sentences(l, s, f, NULL, &c);
    } else if (l->protocol->material == PTQ_OF_PAGES) {
        rc = windows_of_pages(l, s, f, &c, &n);
    } else if (l->protocol->material == PTQ_OF_ROWS && crops) {
        const struct ptq_draw_request draw = {
            PTQ_DRAW_DOCUMENTS, l->ask->n_seq && l->ask->n_seq < crops ? l->ask->n_seq : crops, 0};
        rc = ptq_draw_windows(l, s, f, &draw, &c);
        c.left = draw.n < crops;
    } else {
        rc = windows_of_stream(l, s, f, &c);
    }
    if (rc)
        return rc;
    if (isnan(l->out->bytes_per_token) && s->n_ids)
        l->out->bytes_per_token = (double)s->n_bytes / (double)s->n_ids;
    return finish_protocol(l, f, &c, n ? n : c.n_seq);
}

static int calibrate(struct ptq_load *l, struct ptq_stream *s, const struct ptq_textfile *f)
{
    struct ptq_draw_request draw = {.n = l->ask->n_seq, .seed = l->ask->seed};
    struct ptq_cut c = {0};
    int rc = ptq_draw_parse(l->ask->draw, &draw.kind, l->st);
    if (!rc && (draw.kind == PTQ_DRAW_SENTENCES) != l->model->encoder)
        rc = ptq_status_set(
            l->st, PTQ_ERR_USAGE, "%s: the draw %s is for %s; of %s the draw is %s", l->ask->source,
            l->ask->draw, l->model->encoder ? "models that predict tokens" : "encoders",
            l->model->name, l->model->encoder ? "sentences" : "windows, or another");
    if (!rc)
        rc = l->model->encoder ? ptq_cut_sentences(l, s, f, &draw, &c)
                               : ptq_draw_windows(l, s, f, &draw, &c);
    if (rc)
        return rc;
    l->out->bytes_per_token = s->n_ids ? (double)s->n_bytes / (double)s->n_ids : NAN;
    return finish_draw(l, &draw, &c);
}

/* Encoders read sentences, byte models files as they lie, others the text that the papers make of
 * them. */
static int choose_protocol(struct ptq_load *l, const struct ptq_tokenizer *tok)
{
    if (!l->protocol || l->ask->draw)
        l->protocol = ptq_protocol_named(l->model->encoder ? "sentences" : tok ? "gptq" : "bytes");
    int rc = ptq_load_check_kind(l);
    if (rc)
        return rc;
    if (l->protocol->material == PTQ_OF_FACTS || l->protocol->material == PTQ_OF_IDS)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s is a text, which the protocol %s does not "
                              "read",
                              l->ask->source, l->ask->protocol);
    if (strcmp(l->protocol->name, "bytes") == 0 && tok)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: the protocol bytes is for byte models; %s has a tokenizer",
                              l->ask->source, l->model->name);
    return ptq_load_window(l, l->protocol->window);
}

int ptq_load_file(struct ptq_load *l)
{
    const struct ptq_textfile_request ask = {l->ask->source, l->ask->draw != NULL,
                                             l->ask->fallback};
    struct ptq_textfile f;
    struct ptq_tokenizer *tok = NULL;
    int rc = open_tokenizer(l, &tok);
    if (!rc)
        rc = choose_protocol(l, tok);
    if (!rc && !(rc = ptq_textfile_open(&ask, l->arena, &f, l->st))) {
        struct ptq_stream s = {l, tok, l->protocol->specials, l->protocol->added, 0, 0};
        describe(l, &f);
        rc = l->ask->draw ? calibrate(l, &s, &f) : evaluate(l, &s, &f);
        ptq_textfile_close(&f);
    }
    ptq_tokenizer_close(tok);
    return rc;
}
