#include "model/text.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/rng.h"
#include "core/size.h"
#include "core/words.h"
#include "datasets/facts.h"
#include "datasets/npy.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 30, FACTS_WINDOWS = 256, MOST_FACTS = 1 << 20 };

struct load { /* a text being made */
    const struct ptq_model_info *model;
    const struct ptq_text_request *ask;
    int64_t window;
    struct ptq_arena *arena;
    struct ptq_text *out;
    struct ptq_status *st;
};

/* Windows in the order of the text: room for n_seq of them over n_total ids. */
struct cut {
    int64_t *len, *offset;
    int32_t *id;
    int64_t n_seq, n_total;
    bool left; /* the source holds more than was taken */
};

static int cut_alloc(struct load *l, struct cut *c, int64_t n_seq, int64_t n_total)
{
    *c = (struct cut){ptq_arena_alloc(l->arena, l->st, n_seq, sizeof *c->len),
                      ptq_arena_alloc(l->arena, l->st, n_seq, sizeof *c->offset),
                      ptq_arena_alloc(l->arena, l->st, n_total, sizeof *c->id),
                      0,
                      0,
                      false};
    return c->len && c->offset && c->id ? PTQ_OK : PTQ_ERR_MEMORY;
}

static void cut_end(struct cut *c, int64_t len)
{
    c->len[c->n_seq] = len;
    c->offset[c->n_seq++] = c->n_total;
    c->n_total += len;
}

static int key_of(struct load *l)
{
    const struct ptq_tokens *t = &l->out->tokens;
    struct ptq_hasher *h = ptq_hasher_new();
    if (!h)
        return ptq_status_nomem(l->st, "a hash", 1024);
    ptq_hasher_add_i64(h, t->n_seq);
    ptq_hasher_add(h, t->len, (size_t)t->n_seq * sizeof *t->len);
    ptq_hasher_add(h, t->id, (size_t)t->n_total * sizeof *t->id);
    ptq_hasher_done(h, l->out->key);
    return PTQ_OK;
}

/* base: "facts", "bytes", "ids". part: fewer windows than the protocol's. */
static int finish(struct load *l, const struct cut *c, const char *base, bool part,
                  const char *rules)
{
    struct ptq_text *t = l->out;
    int64_t n_scored = 0;
    for (int64_t s = 0; s < c->n_seq; s++)
        n_scored += c->len[s] - 1;
    if (n_scored == 0)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s: no window has a token to score: it takes two tokens, and whole "
                              "windows of %lld for text",
                              l->ask->source, (long long)l->window);
    t->tokens = (struct ptq_tokens){c->n_seq, c->n_total, c->len, c->offset, c->id};
    t->source = ptq_arena_strdup(l->arena, l->st, l->ask->source);
    t->rules = rules;
    t->protocol = part ? ptq_arena_printf(l->arena, l->st, "%s-%lld/first%lld", base,
                                          (long long)l->window, (long long)c->n_seq)
                       : ptq_arena_printf(l->arena, l->st, "%s-%lld", base, (long long)l->window);
    return t->source && t->protocol ? key_of(l) : PTQ_ERR_MEMORY;
}

static int need_bytes(const struct load *l)
{
    if (strcmp(l->model->tokenizer, "bytes") == 0)
        return PTQ_OK;
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "%s: text needs a tokenizer, and the model %s has none (kind \"%s\"); "
                          "give token ids instead "
                          "(--tokens FILE)",
                          l->ask->source, l->model->name, l->model->tokenizer);
}

/* ---- the facts language */

static int load_facts(struct load *l, const char *seed_text)
{
    int64_t seed, n = l->ask->n_seq ? l->ask->n_seq : FACTS_WINDOWS;
    struct ptq_facts_window *w;
    struct cut c;
    int rc = ptq_parse_i64(seed_text, "the seed of synth:facts:SEED", 0, INT64_MAX, &seed, l->st);
    if (rc || (rc = need_bytes(l)))
        return rc;
    if (l->ask->window && l->ask->window != PTQ_FACTS_WINDOW_BYTES)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s has windows of %d bytes, not %lld: leave the window out",
                              l->ask->source, PTQ_FACTS_WINDOW_BYTES, (long long)l->ask->window);
    if (n < 1 || n > MOST_FACTS)
        return ptq_status_set(l->st, PTQ_ERR_USAGE, "%s: %lld windows; choose 1 .. %d",
                              l->ask->source, (long long)n, MOST_FACTS);
    l->window = PTQ_FACTS_WINDOW_BYTES;
    if ((rc = ptq_facts_windows((uint64_t)seed, n, l->arena, &w, l->st)) ||
        (rc = cut_alloc(l, &c, n, n * PTQ_FACTS_WINDOW_BYTES)))
        return rc;
    for (int64_t s = 0; s < n; s++) {
        for (int i = 0; i < PTQ_FACTS_WINDOW_BYTES; i++)
            c.id[c.n_total + i] = w[s].text[i];
        cut_end(&c, PTQ_FACTS_WINDOW_BYTES);
    }
    l->out->facts = w;
    l->out->bytes_per_token = 1;
    const char *rules = ptq_arena_printf(
        l->arena, l->st,
        "windows of 256 bytes of the facts language, each by itself; byte 0 is unscored, bytes 1 "
        "to 255 are scored; %lld window%s",
        (long long)n, n == 1 ? "" : "s");
    return rules ? finish(l, &c, "facts", n != FACTS_WINDOWS, rules) : PTQ_ERR_MEMORY;
}

/* ---- text files */

/* Windows one after another, or at drawn positions. */
static void cut_bytes(const struct load *l, const char *text, int64_t bytes, int64_t n,
                      struct cut *c)
{
    struct ptq_rng r = {l->ask->seed};
    for (int64_t s = 0; s < n; s++) {
        int64_t at = s * l->window;
        if (l->ask->random)
            at = (int64_t)ptq_rng_below(&r, (uint64_t)(bytes - l->window + 1));
        for (int64_t i = 0; i < l->window; i++)
            c->id[c->n_total + i] = (unsigned char)text[at + i];
        cut_end(c, l->window);
    }
}

static int finish_bytes(struct load *l, const struct cut *c, bool part)
{
    l->out->bytes_per_token = 1;
    int rc = finish(l, c, "bytes", part,
                    "the file's bytes cut into whole windows one after another, a shorter rest "
                    "dropped; the first byte of a window is unscored, no byte is put before it");
    if (rc || !l->ask->random)
        return rc;
    l->out->rules =
        "windows of the file's bytes at positions drawn uniformly (splitmix64 of the seed, "
        "with replacement); the first byte of a window is unscored";
    l->out->protocol = ptq_arena_printf(l->arena, l->st, "bytes-%lld/random%lld",
                                        (long long)l->window, (long long)c->n_seq);
    return l->out->protocol ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int load_text(struct load *l, const char *path)
{
    char *text;
    size_t bytes;
    struct cut c;
    int rc = need_bytes(l);
    if (rc || (rc = ptq_read_file(path, MOST_BYTES, &text, &bytes, l->st)))
        return rc;
    int64_t all = (int64_t)bytes / l->window, n = l->ask->n_seq, ids = 0;
    if (!n || (n > all && !l->ask->random) || all == 0)
        n = all;
    if (!ptq_size_mul(n, l->window, &ids) || ids > MOST_BYTES)
        rc = ptq_status_set(l->st, PTQ_ERR_USAGE, "%s: %lld windows of %lld bytes are too many",
                            path, (long long)n, (long long)l->window);
    if (!rc && !(rc = cut_alloc(l, &c, n, ids)))
        cut_bytes(l, text, (int64_t)bytes, n, &c);
    free(text);
    return rc ? rc : finish_bytes(l, &c, n < all);
}

/* ---- token ids */

static bool is_full(const struct load *l, const struct cut *c)
{
    return l->ask->n_seq && c->n_seq >= l->ask->n_seq;
}

/* Appends the n ids behind the last window as windows; at most the number asked for. */
static void cut_sequence(const struct load *l, struct cut *c, int64_t n)
{
    int64_t at = 0;
    for (; at < n && !is_full(l, c); at += l->window)
        cut_end(c, n - at < l->window ? n - at : l->window);
    c->left = c->left || at < n;
}

static int check_id(const struct load *l, const char *path, int64_t line, int64_t index, int64_t id)
{
    if (id >= 0 && id < l->model->vocab_size)
        return PTQ_OK;
    return ptq_status_set(
        l->st, PTQ_ERR_USAGE,
        "%s:%lld: token %lld of the line is %lld: outside the vocabulary of %s, 0 .. %lld", path,
        (long long)line, (long long)index, (long long)id, l->model->name,
        (long long)l->model->vocab_size - 1);
}

static bool is_gap(char ch)
{
    return ch == ' ' || ch == '\t' || ch == ',' || ch == '\r';
}

/* A number at text[*at]; moves behind it. Twelve digits are enough for any id and cannot overflow.
 */
static int parse_id(const struct load *l, const char *path, int64_t line, const char *text,
                    int64_t end, int64_t *at, int64_t *id)
{
    int64_t i = *at, v = 0;
    bool minus = text[i] == '-';
    int digits = 0;
    for (i += minus; i < end && text[i] >= '0' && text[i] <= '9' && digits < 12; i++, digits++)
        v = v * 10 + (text[i] - '0');
    if (!digits || (i < end && !is_gap(text[i]) && text[i] != '\n')) {
        int n = 0;
        while (*at + n < end && n < 20 && !is_gap(text[*at + n]) && text[*at + n] != '\n')
            n++;
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s:%lld: '%.*s' is not a token id; a line holds whole numbers "
                              "between spaces or commas",
                              path, (long long)line, n, text + *at);
    }
    *at = i;
    *id = minus ? -v : v;
    return PTQ_OK;
}

/* Every sequence ends at a newline; room was made for the most there can be. */
static int parse_lines(struct load *l, const char *path, const char *text, int64_t bytes,
                       struct cut *c)
{
    int64_t line = 1, n = 0;
    for (int64_t i = 0; i <= bytes;) {
        if (i == bytes || text[i] == '\n') {
            cut_sequence(l, c, n);
            n = 0;
            line++;
            i++;
        } else if (is_gap(text[i])) {
            i++;
        } else if (is_full(l, c)) {
            c->left = true;
            return PTQ_OK;
        } else {
            int64_t id = 0;
            int rc = parse_id(l, path, line, text, bytes, &i, &id);
            if (rc || (rc = check_id(l, path, line, n + 1, id)))
                return rc;
            c->id[c->n_total + n++] = (int32_t)id;
        }
    }
    return PTQ_OK;
}

static int load_lines(struct load *l, const char *path, struct cut *c)
{
    char *text;
    size_t bytes;
    int rc = ptq_read_file(path, MOST_BYTES, &text, &bytes, l->st);
    if (rc)
        return rc;
    int64_t lines = 1, ids = (int64_t)bytes / 2 + 1; /* an id takes a digit and a gap */
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    rc = cut_alloc(l, c, lines + ids / l->window + 1, ids);
    if (!rc)
        rc = parse_lines(l, path, text, (int64_t)bytes, c);
    free(text);
    return rc;
}

static int load_npy(struct load *l, const char *path, struct cut *c)
{
    struct ptq_npy_info info;
    int64_t *v;
    int rc = ptq_npy_read_i64(path, l->arena, &v, &info, l->st);
    if (rc)
        return rc;
    if (info.rank != 1 && info.rank != 2)
        return ptq_status_set(
            l->st, PTQ_ERR_USAGE,
            "%s: an array of %d axes; token ids have one (a sequence) or two (a sequence a row)",
            path, info.rank);
    if (info.n == 0) { /* nothing to score: said by the caller */
        *c = (struct cut){0};
        return PTQ_OK;
    }
    int64_t rows = info.rank == 2 ? info.dim[0] : 1, cols = info.dim[info.rank - 1];
    if ((rc = cut_alloc(l, c, rows * (cols / l->window + 1), rows * cols)))
        return rc;
    for (int64_t r = 0; r < rows && !is_full(l, c); r++) {
        for (int64_t i = 0; i < cols; i++) {
            if ((rc = check_id(l, path, r + 1, i + 1, v[r * cols + i])))
                return rc;
            c->id[c->n_total + i] = (int32_t)v[r * cols + i];
        }
        cut_sequence(l, c, cols);
        c->left = c->left || (is_full(l, c) && r + 1 < rows);
    }
    return PTQ_OK;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static int load_ids(struct load *l, const char *path)
{
    struct cut c;
    int rc = ends_in(path, ".npy") ? load_npy(l, path, &c) : load_lines(l, path, &c);
    l->out->bytes_per_token = strcmp(l->model->tokenizer, "bytes") == 0 ? 1 : NAN;
    return rc ? rc
              : finish(l, &c, "ids", c.left,
                       "token ids as given, a sequence a line or row, cut into windows, shorter "
                       "ones scored whole; the first token of a "
                       "window is unscored, no token is put before it");
}

static int load_synth(struct load *l, const char *rest)
{
    static const char *const words[] = {"facts:SEED", NULL};
    return strncmp(rest, "facts:", 6) == 0
               ? load_facts(l, rest + 6)
               : ptq_unknown_word("source of text synth:...", rest, words, l->st);
}

int ptq_text_load(const struct ptq_model_info *m, const struct ptq_text_request *ask,
                  struct ptq_arena *arena, struct ptq_text *out, struct ptq_status *st)
{
    struct load l = {m, ask, ask->window ? ask->window : m->max_context, arena, out, st};
    const char *s = ask->source;
    *out = (struct ptq_text){0};
    if (l.window < 2 || l.window > m->max_context)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "a window of %lld tokens: the model %s takes 2 .. %lld",
                              (long long)l.window, m->name, (long long)m->max_context);
    if (ask->n_seq < 0)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%lld windows of %s: choose at least 1, or 0 for all",
                              (long long)ask->n_seq, s);
    if (strncmp(s, "synth:", 6) == 0)
        return load_synth(&l, s + 6);
    if (strncmp(s, "text:", 5) == 0)
        return load_text(&l, s + 5);
    if (strncmp(s, "ids:", 4) == 0)
        return load_ids(&l, s + 4);
    return ends_in(s, ".npy") || ends_in(s, ".ids") ? load_ids(&l, s) : load_text(&l, s);
}
