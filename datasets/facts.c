#include "datasets/facts.h"
#include "core/num.h"
#include "core/rng.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* The steps are numbered as in datasets/README.md ("The facts language"); every draw counts, in
 * this order. */

enum { N_ATTR = 6, N_TEMPLATES = 3, N_DIGITS = 3, MAX_VALUES = 100, NAME_BYTES = 4, MAX_DOC = 256 };
enum { WORLD_SEED = 2025, N_CONS = 16, N_VOWS = 5, N_WORDS = N_CONS * N_VOWS * N_CONS * N_VOWS };
enum { TOWN, JOB, EMPLOYER, FRUIT, YEAR, COLOUR };
/* Bytes before the first clause: "Bozi [#4+6%3] ". */
enum { HEAD_BYTES = NAME_BYTES + 10 };

static const int n_values[N_ATTR] = {64, 32, 64, 16, 100, 16};
static const char *const template[N_ATTR][N_TEMPLATES] = {
    {"was born in ", "hails from ", "grew up in "},
    {"works as a ", "has the job of ", "earns money as a "},
    {"is paid by ", "serves at ", "got hired by "},
    {"likes to eat ", "loves the taste of ", "buys "},
    {"moved house in ", "got married in ", "left school in "},
    {"prefers ", "always wears ", "paints walls "},
};

struct world {
    char value[N_ATTR][MAX_VALUES][8];
    char name[PTQ_FACTS_PEOPLE][8];
    uint8_t attr[PTQ_FACTS_PEOPLE][N_ATTR];
};

struct document { /* one document and the draws behind it */
    char text[MAX_DOC];
    int len;
    int person, digit[N_DIGITS];
    int order[N_ATTR], tmpl[N_ATTR]; /* of the k-th clause as rendered */
    int copy[N_DIGITS];
    struct ptq_facts_span span[N_ATTR + N_DIGITS]; /* relative to the document */
};

/* ---- world ---------------------------------------------------------------------------------- */

static int below(struct ptq_rng *r, int n)
{
    return (int)ptq_rng_below(r, (uint64_t)n);
}

/* A two-syllable word not drawn before, with a suffix and perhaps a capital. */
static void new_word(struct ptq_rng *r, bool used[N_WORDS], const char *suffix, bool capital,
                     char out[8])
{
    int c1, v1, c2, v2, index;
    do {
        c1 = below(r, N_CONS), v1 = below(r, N_VOWS);
        c2 = below(r, N_CONS), v2 = below(r, N_VOWS);
        index = ((c1 * N_VOWS + v1) * N_CONS + c2) * N_VOWS + v2;
    } while (used[index]);
    used[index] = true;
    snprintf(out, 8, "%c%c%c%c%s", "bdfghjklmnprstvz"[c1], "aeiou"[v1], "bdfghjklmnprstvz"[c2],
             "aeiou"[v2], suffix);
    if (capital)
        out[0] = (char)(out[0] - 'a' + 'A');
}

static void make_world(struct world *w, bool used[N_WORDS])
{
    static const struct {
        int attr;
        const char *suffix;
        bool capital;
    } list[] = {{TOWN, "n", true},
                {JOB, "r", false},
                {EMPLOYER, "x", true},
                {FRUIT, "", false},
                {COLOUR, "sh", false}};
    struct ptq_rng r = {WORLD_SEED};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        for (int v = 0; v < n_values[list[i].attr]; v++)
            new_word(&r, used, list[i].suffix, list[i].capital, w->value[list[i].attr][v]);
    for (int v = 0; v < n_values[YEAR]; v++)
        snprintf(w->value[YEAR][v], 8, "19%02d", v % 100);
    for (int p = 0; p < PTQ_FACTS_PEOPLE; p++)
        new_word(&r, used, "", true, w->name[p]);
    for (int p = 0; p < PTQ_FACTS_PEOPLE; p++)
        for (int a = 0; a < N_ATTR; a++)
            w->attr[p][a] = (uint8_t)below(&r, n_values[a]);
}

/* ---- documents ------------------------------------------------------------------------------ */

static void shuffle(struct ptq_rng *r, int *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int j = below(r, i + 1), t = x[i];
        x[i] = x[j];
        x[j] = t;
    }
}

static void append(struct document *d, const char *text)
{
    int n = (int)strlen(text);
    assert(d->len + n < MAX_DOC); /* the longest possible document has 150 bytes */
    memcpy(d->text + d->len, text, (size_t)n + 1);
    d->len += n;
}

static void span(struct document *d, int i, int attr, int begin)
{
    d->span[i] = (struct ptq_facts_span){attr, begin, d->len};
}

static void draw(struct ptq_rng *r, struct document *d)
{
    d->person = below(r, PTQ_FACTS_PEOPLE);
    for (int i = 0; i < N_DIGITS; i++)
        d->digit[i] = below(r, 10);
    shuffle(r, d->order, N_ATTR);
    for (int k = 0; k < N_ATTR; k++)
        d->tmpl[k] = below(r, N_TEMPLATES);
    shuffle(r, d->copy, N_DIGITS);
}

static void render(const struct world *w, struct document *d)
{
    char head[16];
    d->len = 0;
    append(d, w->name[d->person]);
    snprintf(head, sizeof head, " [#%d+%d%%%d] ", d->digit[0] % 10, d->digit[1] % 10,
             d->digit[2] % 10);
    append(d, head);
    for (int k = 0; k < N_ATTR; k++) {
        int a = d->order[k];
        append(d, k ? ", " : "");
        append(d, template[a][d->tmpl[k]]);
        int begin = d->len;
        append(d, w->value[a][w->attr[d->person][a]]);
        span(d, k, a, begin);
    }
    append(d, ". ");
    for (int k = 0; k < N_DIGITS; k++) {
        char mark[3] = {"#+%"[d->copy[k]], (char)('0' + d->digit[d->copy[k]]), '\0'};
        append(d, mark);
        span(d, N_ATTR + k, PTQ_FACTS_COPY, d->len - 1);
    }
}

/* ---- entropy -------------------------------------------------------------------------------- */

static double log2_of(double x)
{
    return ptq_log(x) / 0.69314718055994530942;
}

/* Does the clause (attribute a of the person, template t) start with these bytes? */
static bool clause_starts(const struct world *w, int person, int a, int t, const char *seen, int n)
{
    char clause[48];
    snprintf(clause, sizeof clause, "%s%s", template[a][t], w -> value[a][w->attr[person][a]]);
    return strncmp(clause, seen, (size_t)n) == 0;
}

/* Bits of a name cut after n bytes: how many people share them. */
static double name_bits(const struct world *w, const char *seen, int n)
{
    int same = 0;
    for (int p = 0; p < PTQ_FACTS_PEOPLE; p++)
        same += strncmp(w->name[p], seen, (size_t)n) == 0;
    return -log2_of((double)same / PTQ_FACTS_PEOPLE);
}

/* Bits of the k-th clause cut after n bytes: how many of the (attribute, template) pairs that
 * remain start like it. */
static double clause_bits(const struct world *w, const struct document *d, int k, const char *seen,
                          int n)
{
    int same = 0;
    for (int i = k; i < N_ATTR; i++)
        for (int t = 0; t < N_TEMPLATES; t++)
            same += clause_starts(w, d->person, d->order[i], t, seen, n);
    return -log2_of((double)same / (N_TEMPLATES * (N_ATTR - k)));
}

/* -log2 P(a document starts with the first n bytes of d); n == d->len gives the whole document's
 * bits: log2 people + 3 log2 10 + log2 6! + 6 log2 3 + log2 3!. */
static double prefix_bits(const struct world *w, const struct document *d, int n)
{
    if (n <= NAME_BYTES)
        return name_bits(w, d->text, n);
    double bits = log2_of(PTQ_FACTS_PEOPLE);
    for (int i = 0; i < N_DIGITS; i++)
        if (n > NAME_BYTES + 3 + 2 * i)
            bits += log2_of(10);
    for (int k = 0; k < N_ATTR; k++) {
        int a = d->order[k];
        int begin = d->span[k].begin - (int)strlen(template[a][d->tmpl[k]]), end = d->span[k].end;
        if (n <= begin)
            return bits;
        bits += clause_bits(w, d, k, d->text + begin, (n < end ? n : end) - begin);
        if (n < end)
            return bits;
    }
    /* ". #4+6%3": the first mark is one of three, the second one of two; the digits are copies. */
    int tail = d->span[N_ATTR - 1].end;
    if (n > tail + 2)
        bits += log2_of(3);
    if (n > tail + 4)
        bits += 1;
    return bits;
}

/* ---- windows -------------------------------------------------------------------------------- */

static void add_document(const struct world *w, const struct document *d, int at,
                         struct ptq_facts_window *out)
{
    int room = PTQ_FACTS_WINDOW_BYTES - at, n = d->len < room ? d->len : room;
    memcpy(out->text + at, d->text, (size_t)n);
    out->bits += prefix_bits(w, d, n);
    for (int i = 0; i < N_ATTR + N_DIGITS; i++) {
        struct ptq_facts_span s = d->span[i];
        if (at + s.end > PTQ_FACTS_WINDOW_BYTES)
            continue;
        assert(out->n_spans < 64);
        out->span[out->n_spans++] = (struct ptq_facts_span){s.attr, at + s.begin, at + s.end};
    }
}

static void make_window(const struct world *w, struct ptq_rng *r, struct ptq_facts_window *out)
{
    for (int len = 0; len < PTQ_FACTS_WINDOW_BYTES;) {
        struct document d;
        out->text[len++] = '\n';
        draw(r, &d); /* also when the newline was the last byte: the stream goes on behind it */
        render(w, &d);
        if (len < PTQ_FACTS_WINDOW_BYTES)
            add_document(w, &d, len, out);
        len += d.len;
    }
}

int ptq_facts_windows(uint64_t seed, int64_t n, struct ptq_arena *arena,
                      struct ptq_facts_window **out, struct ptq_status *st)
{
    struct world *w = ptq_arena_alloc(arena, st, 1, sizeof *w);
    bool *used = ptq_arena_alloc(arena, st, N_WORDS, sizeof *used);
    struct ptq_facts_window *x = ptq_arena_alloc(arena, st, n, sizeof *x);
    if (!w || !used || !x)
        return PTQ_ERR_MEMORY;
    make_world(w, used);
    struct ptq_rng r = {seed};
    for (int64_t i = 0; i < n; i++)
        make_window(w, &r, &x[i]);
    *out = x;
    return PTQ_OK;
}
