#include "model/textcut.h"
#include "core/hash.h"
#include "core/words.h"
#include "model/textzipf.h"
#include <math.h>
#include <string.h>

int ptq_cut_alloc(struct ptq_load *l, struct ptq_cut *c, int64_t n_seq, int64_t n_total)
{
    *c = (struct ptq_cut){ptq_arena_alloc(l->arena, l->st, n_seq, sizeof *c->len),
                          ptq_arena_alloc(l->arena, l->st, n_seq, sizeof *c->offset),
                          ptq_arena_alloc(l->arena, l->st, n_total, sizeof *c->id)};
    return c->len && c->offset && c->id ? PTQ_OK : PTQ_ERR_MEMORY;
}

int ptq_cut_alloc_scored(struct ptq_load *l, struct ptq_cut *c, int64_t n_seq)
{
    c->first = ptq_arena_alloc(l->arena, l->st, n_seq, sizeof *c->first);
    c->after = ptq_arena_alloc(l->arena, l->st, n_seq, sizeof *c->after);
    return c->first && c->after ? PTQ_OK : PTQ_ERR_MEMORY;
}

void ptq_cut_end(struct ptq_cut *c, int64_t len)
{
    if (c->first)
        c->first[c->n_seq] = 1;
    if (c->after)
        c->after[c->n_seq] = -1;
    c->len[c->n_seq] = len;
    c->offset[c->n_seq++] = c->n_total;
    c->n_total += len;
}

/* What makes values per byte and per word of those per token. */
static void add_rate(struct ptq_hasher *h, double rate)
{
    ptq_hasher_add_f64(h, isnan(rate) ? 0 : rate); /* NaN has many bit patterns */
}

static int key_of(struct ptq_load *l)
{
    const struct ptq_text *x = l->out;
    const struct ptq_tokens *t = &x->tokens;
    struct ptq_hasher *h = ptq_hasher_new();
    if (!h)
        return ptq_status_nomem(l->st, "a hash", 1024);
    ptq_hasher_add_i64(h, t->n_seq);
    ptq_hasher_add(h, t->len, (size_t)t->n_seq * sizeof *t->len);
    ptq_hasher_add(h, t->id, (size_t)t->n_total * sizeof *t->id);
    if (x->first_scored)
        ptq_hasher_add(h, x->first_scored, (size_t)t->n_seq * sizeof *x->first_scored);
    if (x->after)
        ptq_hasher_add(h, x->after, (size_t)t->n_seq * sizeof *x->after);
    if (!l->ask->draw) { /* calibration reads tokens alone */
        add_rate(h, x->bytes_per_token);
        add_rate(h, x->words_per_token);
    }
    ptq_hasher_done(h, l->out->key);
    return PTQ_OK;
}

const char *ptq_cut_name(struct ptq_load *l, const char *base, bool part, int64_t n)
{
    if (part)
        return ptq_arena_printf(l->arena, l->st, "%s-%lld/first%lld", base, (long long)l->window,
                                (long long)n);
    return ptq_arena_printf(l->arena, l->st, "%s-%lld", base, (long long)l->window);
}

int ptq_cut_finish(struct ptq_load *l, const struct ptq_cut *c, const char *protocol,
                   const char *rules)
{
    struct ptq_text *t = l->out;
    int64_t n_scored = 0;
    if (!protocol || !rules)
        return PTQ_ERR_MEMORY;
    t->tokens = (struct ptq_tokens){c->n_seq, c->n_total, c->len, c->offset, c->id};
    t->first_scored = c->first;
    t->after = c->after;
    for (int64_t s = 0; s < c->n_seq; s++)
        n_scored += ptq_text_scored(t, s);
    if (n_scored == 0)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: no window has a token to score: it takes two tokens, and whole "
                              "windows of %lld for text",
                              l->ask->source, (long long)l->window);
    t->source = ptq_arena_strdup(l->arena, l->st, l->ask->source);
    t->name = t->name ? t->name : t->source;
    t->protocol = protocol;
    t->rules = rules;
    return t->source ? key_of(l) : PTQ_ERR_MEMORY;
}

/* A name such as gptq-2048 and a window of another length contradict each other. */
int ptq_load_window(struct ptq_load *l, int64_t def)
{
    const int64_t context = l->model->max_context;
    if (l->named_window && l->ask->window && l->named_window != l->ask->window)
        return ptq_status_set(
            l->st, PTQ_ERR_USAGE,
            "%s has windows of %lld tokens, and %lld are asked for; leave one out",
            l->ask->protocol, (long long)l->named_window, (long long)l->ask->window);
    l->window = l->named_window ? l->named_window : l->ask->window;
    if (!l->window)
        l->window = def && def < context ? def : context;
    if (l->window >= 2 && l->window <= context)
        return PTQ_OK;
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "a window of %lld tokens: the model %s takes 2 .. %lld",
                          (long long)l->window, l->model->name, (long long)context);
}

int ptq_load_check_kind(const struct ptq_load *l)
{
    const bool embeds = l->protocol->scored == PTQ_SCORE_EMBEDDING;
    if (embeds == l->model->encoder)
        return PTQ_OK;
    if (embeds)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: the protocol %s compares embeddings, and %s is no encoder: "
                              "choose a protocol that scores tokens, such as gptq-2048 (ptq list "
                              "protocols)",
                              l->ask->source, l->protocol->name, l->model->name);
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "%s: the protocol %s scores predicted tokens, and %s is an encoder, "
                          "which predicts none: give it a text under the protocol sentences-N",
                          l->ask->source, l->protocol->name, l->model->name);
}

/* The source decides whether a protocol can be run on it. */
static int need(struct ptq_load *l, enum ptq_material material, const char *name)
{
    if (!l->protocol)
        l->protocol = ptq_protocol_named(name);
    if (l->protocol->material == material) {
        int rc = ptq_load_check_kind(l);
        return rc ? rc : ptq_load_window(l, l->protocol->window);
    }
    return ptq_status_set(l->st, PTQ_ERR_USAGE, "%s is read by the protocol %s, not by %s",
                          l->ask->source, name, l->ask->protocol);
}

static int load(struct ptq_load *l)
{
    const char *s = l->ask->source, *path = ptq_starts_with(s, "ids:") ? s + 4 : s;
    int rc;
    if (ptq_starts_with(s, "synth:facts:")) {
        rc = need(l, PTQ_OF_FACTS, "facts");
        return rc ? rc : ptq_load_facts(l, s + 12);
    }
    if (ptq_is_zipf(s) && l->model->encoder)
        return need(l, PTQ_OF_IDS, "ids"); /* refused: ids without a text have no sentences */
    if (ptq_is_zipf(s))
        return ptq_zipf_text(l->model, l->ask, l->arena, l->out, l->st);
    if (ptq_starts_with(s, "synth:")) {
        static const char *const words[] = {"facts:SEED", "zipf:SEED", NULL};
        return ptq_unknown_word("source of text synth:...", s + 6, words, l->st);
    }
    if (path != s ||
        (!ptq_starts_with(s, "text:") && (ptq_ends_with(s, ".npy") || ptq_ends_with(s, ".ids")))) {
        rc = need(l, PTQ_OF_IDS, "ids");
        return rc ? rc : ptq_load_ids(l, path);
    }
    return ptq_load_file(l);
}

int ptq_text_load(const struct ptq_model_info *m, const struct ptq_text_request *ask,
                  struct ptq_arena *arena, struct ptq_text *out, struct ptq_status *st)
{
    struct ptq_load l = {.model = m, .ask = ask, .arena = arena, .out = out, .st = st};
    *out = (struct ptq_text){.bytes_per_token = NAN, .words_per_token = NAN};
    if (ask->n_seq < 0)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%lld windows of %s: choose at least 1, or 0 for all",
                              (long long)ask->n_seq, ask->source);
    int rc = ask->protocol ? ptq_protocol_parse(ask->protocol, &l.protocol, &l.named_window, st)
                           : PTQ_OK;
    return rc ? rc : load(&l);
}
