/* textids.c: texts that need no tokenizer: the facts language, and token ids as given. */
#include "model/textcut.h"
#include "core/json.h"
#include "core/words.h"
#include "datasets/facts.h"
#include "datasets/npy.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 30, FACTS_WINDOWS = 256, MOST_FACTS = 1 << 20 };

/* The request's tokenizer counts before the model's own. */
static bool takes_bytes(const struct ptq_load *l)
{
    const char *kind = l->ask->tokenizer ? l->ask->tokenizer : l->model->tokenizer;
    return strcmp(kind, "bytes") == 0;
}

static int need_bytes(const struct ptq_load *l)
{
    if (takes_bytes(l))
        return PTQ_OK;
    return ptq_status_set(l->st, PTQ_ERR_USAGE,
                          "%s: the facts language is made of bytes, and the tokenizer of the model "
                          "%s is \"%s\"; choose another text, or token ids (--tokens FILE)",
                          l->ask->source, l->model->name, l->model->tokenizer);
}

/* ---- the facts language */

int ptq_load_facts(struct ptq_load *l, const char *seed_text)
{
    int64_t seed, n = l->ask->n_seq ? l->ask->n_seq : FACTS_WINDOWS;
    struct ptq_facts_window *w;
    struct ptq_cut c;
    int rc = ptq_parse_i64(seed_text, "the seed of synth:facts:SEED", 0, INT64_MAX, &seed, l->st);
    if (rc || (rc = need_bytes(l)))
        return rc;
    if (l->window != PTQ_FACTS_WINDOW_BYTES)
        return ptq_status_set(l->st, PTQ_ERR_USAGE,
                              "%s has windows of %d bytes, not %lld: leave the window out (the "
                              "model %s takes %lld)",
                              l->ask->source, PTQ_FACTS_WINDOW_BYTES, (long long)l->window,
                              l->model->name, (long long)l->model->max_context);
    if (n < 1 || n > MOST_FACTS)
        return ptq_status_set(l->st, PTQ_ERR_USAGE, "%s: %lld windows; choose 1 .. %d",
                              l->ask->source, (long long)n, MOST_FACTS);
    if ((rc = ptq_facts_windows((uint64_t)seed, n, l->arena, &w, l->st)) ||
        (rc = ptq_cut_alloc(l, &c, n, n * PTQ_FACTS_WINDOW_BYTES)))
        return rc;
    for (int64_t s = 0; s < n; s++) {
        for (int i = 0; i < PTQ_FACTS_WINDOW_BYTES; i++)
            c.id[c.n_total + i] = w[s].text[i];
        ptq_cut_end(&c, PTQ_FACTS_WINDOW_BYTES);
    }
    l->out->facts = w;
    l->out->bytes_per_token = 1;
    l->out->family = "facts";
    const char *rule = ptq_protocol_rules(l->protocol, l->window, l->arena, l->st);
    const char *rules = rule ? ptq_arena_printf(l->arena, l->st, "%s; %lld window%s", rule,
                                                (long long)n, n == 1 ? "" : "s")
                             : NULL;
    return ptq_cut_finish(l, &c, ptq_cut_name(l, "facts", n != FACTS_WINDOWS, n), rules);
}

/* ---- token ids */

static bool is_full(const struct ptq_load *l, const struct ptq_cut *c)
{
    return l->ask->n_seq && c->n_seq >= l->ask->n_seq;
}

/* Appends the n ids behind the last window as windows; at most the number asked for. */
static void cut_sequence(const struct ptq_load *l, struct ptq_cut *c, int64_t n)
{
    int64_t at = 0;
    for (; at < n && !is_full(l, c); at += l->window)
        ptq_cut_end(c, n - at < l->window ? n - at : l->window);
    c->left = c->left || at < n;
}

static int check_id(const struct ptq_load *l, const char *path, int64_t line, int64_t index,
                    int64_t id)
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
static int parse_id(const struct ptq_load *l, const char *path, int64_t line, const char *text,
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
static int parse_lines(struct ptq_load *l, const char *path, const char *text, int64_t bytes,
                       struct ptq_cut *c)
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

static int load_lines(struct ptq_load *l, const char *path, struct ptq_cut *c)
{
    char *text;
    size_t bytes;
    int rc = ptq_read_file(path, MOST_BYTES, &text, &bytes, l->st);
    if (rc)
        return rc;
    int64_t lines = 1, ids = (int64_t)bytes / 2 + 1; /* an id takes a digit and a gap */
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    rc = ptq_cut_alloc(l, c, lines + ids / l->window + 1, ids);
    if (!rc)
        rc = parse_lines(l, path, text, (int64_t)bytes, c);
    free(text);
    return rc;
}

static int load_npy(struct ptq_load *l, const char *path, struct ptq_cut *c)
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
        *c = (struct ptq_cut){0};
        return PTQ_OK;
    }
    int64_t rows = info.rank == 2 ? info.dim[0] : 1, cols = info.dim[info.rank - 1];
    if ((rc = ptq_cut_alloc(l, c, rows * (cols / l->window + 1), rows * cols)))
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

int ptq_load_ids(struct ptq_load *l, const char *path)
{
    struct ptq_cut c;
    int rc = ptq_ends_with(path, ".npy") ? load_npy(l, path, &c) : load_lines(l, path, &c);
    l->out->bytes_per_token = takes_bytes(l) ? 1 : NAN;
    return rc ? rc
              : ptq_cut_finish(l, &c, ptq_cut_name(l, "ids", c.left, c.n_seq),
                               ptq_protocol_rules(l->protocol, l->window, l->arena, l->st));
}
