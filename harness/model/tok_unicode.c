#include "model/tok_unicode.h"
#include <stdlib.h>
#include <string.h>

struct range {
    uint32_t first, last;
};
struct classes {
    uint32_t first, last, k;
};
struct triple {
    uint32_t a, b, c;
};
struct lower {
    uint32_t first, last, step, delta;
};
#include "model/tok_unicode_tables.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))
enum {
    HANGUL = 0xAC00,
    L_FIRST = 0x1100,
    V_FIRST = 0x1161,
    T_FIRST = 0x11A7,
    N_L = 19,
    N_V = 21,
    N_T = 28
};

/* ---- UTF-8 and bytes ---- */

int ptq_text_buffer_add(struct ptq_text_buffer *b, const char *text, int64_t bytes,
                        struct ptq_status *st)
{
    if (b->room - b->n < bytes) {
        int64_t room = b->room + b->room / 2 + bytes + 256;
        char *larger = realloc(b->at, (size_t)room);
        if (!larger)
            return ptq_status_nomem(st, "a normalized text", (size_t)room);
        b->at = larger;
        b->room = room;
    }
    if (bytes > 0)
        memcpy(b->at + b->n, text, (size_t)bytes);
    b->n += bytes;
    return PTQ_OK;
}

int ptq_utf8_put(uint32_t c, char out[4])
{
    static const unsigned char lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    out[0] = (char)(c | lead[n]);
    return n;
}

bool ptq_utf8_valid(const char *text, int64_t bytes)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    for (int64_t i = 0; i < bytes;) {
        unsigned char b = (unsigned char)text[i];
        int n = ptq_utf8_length(text[i]);
        if (n == 1) {
            i++;
            continue;
        }
        if (b < 0xC2 || b > 0xF4 || bytes - i < n)
            return false;
        for (int k = 1; k < n; k++)
            if ((text[i + k] & 0xC0) != 0x80)
                return false;
        const char *at = text + i;
        uint32_t c = ptq_utf8_next(&at);
        if (c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
            return false;
        i += n;
    }
    return true;
}

/* ---- classes ---- */

/* The row of an ordered table whose first member is the last one not above c; the tables' rows all
 * begin with the code point they are ordered by. NULL: c lies before all. */
static const void *row_of(const void *table, size_t n, size_t row_bytes, uint32_t c)
{
    const char *at = table;
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        uint32_t first;
        memcpy(&first, at + mid * row_bytes, sizeof first);
        if (first <= c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? at + (lo - 1) * row_bytes : NULL;
}

static bool in_ranges(const struct range *r, size_t n, uint32_t c)
{
    const struct range *row = row_of(r, n, sizeof *r, c);
    return row && c <= row->last;
}

bool ptq_unicode_mark(uint32_t c)
{
    return c >= 0x300 && in_ranges(marks, COUNT(marks), c);
}
bool ptq_unicode_other(uint32_t c)
{
    return in_ranges(others, COUNT(others), c);
}
bool ptq_unicode_space(uint32_t c)
{
    return in_ranges(spaces, COUNT(spaces), c);
}
bool ptq_unicode_punctuation(uint32_t c)
{
    return in_ranges(punctuations, COUNT(punctuations), c);
}
bool ptq_unicode_chinese(uint32_t c)
{
    return c >= 0x3400 && in_ranges(chinese, COUNT(chinese), c);
}

int ptq_unicode_lower(uint32_t c, uint32_t out[2])
{
    for (size_t i = 0; i < COUNT(lower_double); i++)
        if (lower_double[i].a == c) {
            out[0] = lower_double[i].b;
            out[1] = lower_double[i].c;
            return 2;
        }
    const struct lower *row = row_of(lower, COUNT(lower), sizeof *lower, c);
    bool found = row && c <= row->last && (c - row->first) % row->step == 0;
    out[0] = found ? c + row->delta : c;
    return 1;
}

static uint32_t class_of(uint32_t c)
{
    const struct classes *row = c < 0x300 ? NULL : row_of(classes, COUNT(classes), sizeof *row, c);
    return row && c <= row->last ? row->k : 0;
}

/* ---- composing and decomposing ---- */

static uint32_t compose(uint32_t a, uint32_t b)
{
    if (a - L_FIRST < N_L && b - V_FIRST < N_V)
        return HANGUL + ((a - L_FIRST) * N_V + (b - V_FIRST)) * N_T;
    if (a - HANGUL < N_L * N_V * N_T && (a - HANGUL) % N_T == 0 && b - T_FIRST - 1 < N_T - 1)
        return a + (b - T_FIRST);
    size_t lo = 0, hi = COUNT(pairs);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct triple *p = &pairs[mid];
        if (p->a == a && p->b == b)
            return p->c;
        if (p->a < a || (p->a == a && p->b < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    return 0;
}

static const struct triple *pair_of_composed(uint32_t c)
{
    size_t lo = 0, hi = COUNT(by_composed);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct triple *p = &pairs[by_composed[mid]];
        if (p->c == c)
            return p;
        if (p->c < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* One step: c = *first, *second; *second 0: a single one. false: c stays. */
static bool split_once(uint32_t c, uint32_t *first, uint32_t *second)
{
    if (c - HANGUL < N_L * N_V * N_T) {
        uint32_t i = c - HANGUL, t = i % N_T;
        *first = t ? c - t : L_FIRST + i / (N_V * N_T);
        *second = t ? T_FIRST + t : V_FIRST + i / N_T % N_V;
        return true;
    }
    const struct triple *p = pair_of_composed(c), *o;
    if (p) {
        *first = p->a;
        *second = p->b;
        return true;
    }
    o = row_of(one_way, COUNT(one_way), sizeof *o, c);
    if (!o || o->a != c)
        return false;
    *first = o->b;
    *second = o->c;
    return true;
}

struct mark {
    uint32_t c, k;
};
/* A starter and the marks after it, as far as read. */
struct former {
    bool composing, has_starter;
    uint32_t starter;
    struct mark *mark, *sorted; /* [room] */
    int64_t n, room;
    struct ptq_text_buffer *out;
    struct ptq_status *st;
};

static int put(struct former *f, uint32_t c)
{
    char utf8[4];
    return ptq_text_buffer_add(f->out, utf8, ptq_utf8_put(c, utf8), f->st);
}

/* Stable by class, linear: texts with a million marks on one letter are no reason to hang. */
static void sort_marks(struct former *f)
{
    int64_t begin[257] = {0};
    bool ordered = true;
    for (int64_t i = 1; i < f->n && ordered; i++)
        ordered = f->mark[i - 1].k <= f->mark[i].k;
    if (ordered)
        return;
    for (int64_t i = 0; i < f->n; i++)
        begin[f->mark[i].k + 1]++;
    for (int k = 0; k < 256; k++)
        begin[k + 1] += begin[k];
    for (int64_t i = 0; i < f->n; i++)
        f->sorted[begin[f->mark[i].k]++] = f->mark[i];
    memcpy(f->mark, f->sorted, (size_t)f->n * sizeof *f->mark);
}

/* A mark composes with the starter unless one of its own class or above stays between them. */
static void compose_marks(struct former *f)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < f->n; i++) {
        bool blocked = kept > 0 && f->mark[kept - 1].k >= f->mark[i].k;
        uint32_t whole = blocked ? 0 : compose(f->starter, f->mark[i].c);
        if (whole)
            f->starter = whole;
        else
            f->mark[kept++] = f->mark[i];
    }
    f->n = kept;
}

static void settle_marks(struct former *f)
{
    sort_marks(f);
    if (f->composing && f->has_starter)
        compose_marks(f);
}

static int flush(struct former *f)
{
    settle_marks(f);
    int code = f->has_starter ? put(f, f->starter) : PTQ_OK;
    for (int64_t i = 0; i < f->n && code == PTQ_OK; i++)
        code = put(f, f->mark[i].c);
    f->n = 0;
    f->has_starter = false;
    return code;
}

static int add_mark(struct former *f, uint32_t c, uint32_t k)
{
    if (f->n == f->room) {
        int64_t room = 2 * f->room + 32;
        struct mark *mark = realloc(f->mark, (size_t)room * sizeof *mark);
        if (mark)
            f->mark = mark;
        struct mark *sorted = mark ? realloc(f->sorted, (size_t)room * sizeof *sorted) : NULL;
        if (!sorted)
            return ptq_status_nomem(f->st, "combining marks", (size_t)room * sizeof *mark);
        f->sorted = sorted;
        f->room = room;
    }
    f->mark[f->n++] = (struct mark){c, k};
    return PTQ_OK;
}

static int add_starter(struct former *f, uint32_t c)
{
    if (f->composing && f->has_starter) {
        settle_marks(f);
        uint32_t whole = f->n == 0 ? compose(f->starter, c) : 0;
        if (whole) {
            f->starter = whole;
            return PTQ_OK;
        }
    }
    int code = flush(f);
    f->starter = c;
    f->has_starter = true;
    return code;
}

/* Depth: the longest canonical decomposition has four code points. */
static int add(struct former *f, uint32_t c)
{
    uint32_t first, second;
    if (c >= 0xC0 && split_once(c, &first, &second)) {
        int code = add(f, first);
        return code == PTQ_OK && second ? add(f, second) : code;
    }
    uint32_t k = class_of(c);
    return k ? add_mark(f, c, k) : add_starter(f, c);
}

/* What begins with a byte below `plain` stays as it is, its last code point apart: that may compose
 * with what follows, or its own marks be moved. Returns how many bytes can be copied. */
static int64_t plain_bytes(const char *text, const char *end, unsigned char plain)
{
    const char *last = text, *at = text;
    while (at < end && (unsigned char)*at < plain) {
        last = at;
        at += ptq_utf8_length(*at);
    }
    return last - text;
}

static int form(const char *text, int64_t bytes, bool composing, struct ptq_text_buffer *out,
                struct ptq_status *st)
{
    struct former f = {.composing = composing, .out = out, .st = st};
    /* NFC leaves everything below U+0300 (0xCC 0x80) alone, NFD everything below U+00C0. */
    const unsigned char plain = composing ? 0xCC : 0xC3;
    int code = PTQ_OK;
    for (const char *at = text, *end = text + bytes; at < end && code == PTQ_OK;) {
        int64_t n = plain_bytes(at, end, plain);
        if (n > 0) {
            code = flush(&f);
            if (code == PTQ_OK)
                code = ptq_text_buffer_add(out, at, n, st);
            at += n;
            continue;
        }
        code = add(&f, ptq_utf8_next(&at));
    }
    if (code == PTQ_OK)
        code = flush(&f);
    free(f.mark);
    free(f.sorted);
    return code;
}

int ptq_unicode_nfc(const char *text, int64_t bytes, struct ptq_text_buffer *out,
                    struct ptq_status *st)
{
    return form(text, bytes, true, out, st);
}

int ptq_unicode_nfd(const char *text, int64_t bytes, struct ptq_text_buffer *out,
                    struct ptq_status *st)
{
    return form(text, bytes, false, out, st);
}
