#include "model/tok_added.h"
#include <stdlib.h>
#include <string.h>

struct entry {
    struct ptq_added_text text;
    const struct ptq_added_token *token;
    int64_t parent; /* the longest other entry that this one begins with, or -1 */
};
struct ptq_added {
    struct entry *entry; /* [n] in the order of their bytes, no two alike */
    int64_t n;
    bool begins[256]; /* first bytes */
};

static int compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int64_t n = x->text.bytes < y->text.bytes ? x->text.bytes : y->text.bytes;
    int order = memcmp(x->text.at, y->text.at, (size_t)n);
    if (order == 0)
        order = (x->text.bytes > y->text.bytes) - (x->text.bytes < y->text.bytes);
    return order ? order : (x->token > y->token) - (x->token < y->token);
}

static bool starts_with(const struct ptq_added_text *text, const struct ptq_added_text *start)
{
    return text->bytes >= start->bytes && memcmp(text->at, start->at, (size_t)start->bytes) == 0;
}

/* Of equal texts the first token stays. In sorted order an entry's parent is the one before it, or
 * that one's parent, and so on. */
static void link_entries(struct ptq_added *m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < m->n; i++) {
        struct entry e = m->entry[i];
        int64_t p = n - 1;
        while (p >= 0 && !starts_with(&e.text, &m->entry[p].text))
            p = m->entry[p].parent;
        if (p >= 0 && m->entry[p].text.bytes == e.text.bytes)
            continue;
        e.parent = p;
        m->entry[n++] = e;
        m->begins[(unsigned char)e.text.at[0]] = true;
    }
    m->n = n;
}

int ptq_added_new(struct ptq_added **out, const struct ptq_tok_def *def, bool normalized,
                  const struct ptq_added_text *pattern, struct ptq_arena *a, struct ptq_status *st)
{
    struct ptq_added *m = *out = ptq_arena_alloc(a, st, 1, sizeof *m);
    if (!m || !(m->entry = ptq_arena_alloc(a, st, def->n_added, sizeof *m->entry)))
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < def->n_added; i++) {
        const struct ptq_added_token *t = &def->added[i];
        struct ptq_added_text text =
            pattern ? pattern[i] : (struct ptq_added_text){t->text, t->bytes};
        if (t->normalized == normalized && text.bytes > 0)
            m->entry[m->n++] = (struct entry){text, t, -1};
    }
    if (m->n > 1)
        qsort(m->entry, (size_t)m->n, sizeof *m->entry, compare);
    link_entries(m);
    return PTQ_OK;
}

/* The longest entry that the text begins with, or NULL. All entries that it begins with are the
 * last one not behind it in order, or parents of that. */
static const struct entry *longest(const struct ptq_added *m, const struct ptq_added_text *text)
{
    const struct entry key = {*text, NULL, -1};
    int64_t low = 0, high = m->n;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        int64_t n = text->bytes < m->entry[mid].text.bytes ? text->bytes : m->entry[mid].text.bytes;
        int order = memcmp(m->entry[mid].text.at, key.text.at, (size_t)n);
        if (order < 0 || (order == 0 && m->entry[mid].text.bytes <= text->bytes))
            low = mid + 1;
        else
            high = mid;
    }
    int64_t p = low - 1;
    while (p >= 0 && !starts_with(text, &m->entry[p].text))
        p = m->entry[p].parent;
    return p < 0 ? NULL : &m->entry[p];
}

bool ptq_added_next(const struct ptq_added *m, const char *text, int64_t bytes, int64_t from,
                    struct ptq_added_match *out)
{
    for (int64_t i = from; m->n > 0 && i < bytes; i++) {
        if (!m->begins[(unsigned char)text[i]])
            continue;
        const struct ptq_added_text rest = {text + i, bytes - i};
        const struct entry *e = longest(m, &rest);
        if (!e)
            continue;
        *out = (struct ptq_added_match){e->token, i, i + e->text.bytes};
        return true;
    }
    return false;
}
