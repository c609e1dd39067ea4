#include "model/tok_pretok.h"
#include "core/words.h"
#include <ctype.h>
#include <string.h>

/* What \s and \w are to Oniguruma over Unicode, spelled out: PCRE2's \s has U+180E too, its \w
 * knows no marks before version 10.43. White_Space; and Alphabetic, marks, decimal digits and
 * connectors, with the superscripts and fractions of Latin-1. */
#define SPACE                                                                                      \
    "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}" \
    "\\x{3000}"
#define WORD                                                                                       \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}"     \
    "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
/* The longest text that one step of the translation writes for the two bytes that it reads. */
enum { MOST_PATTERN = 1 << 14, MOST_GROWTH = 160 };

struct translation {
    const char *pattern, *source, *at; /* at: what comes next */
    char *out;
    int64_t n;
    int depth; /* of classes */
    struct ptq_status *st;
};

static void put(struct translation *t, const char *text, size_t n)
{
    memcpy(t->out + t->n, text, n);
    t->n += (int64_t)n;
}

static void put_text(struct translation *t, const char *text)
{
    put(t, text, strlen(text));
}

static int refuse(const struct translation *t, const char *what)
{
    char text[PTQ_PRINTABLE];
    ptq_printable(t->pattern, text);
    return ptq_status_set(t->st, PTQ_ERR_USAGE,
                          "%s: pre-tokenizer pattern '%s': %s at byte %lld is not supported",
                          t->source, text, what, (long long)(t->at - t->pattern));
}

/* A class by a letter: its members, in brackets when it stands alone. */
static int put_class(struct translation *t, const char *members, bool negated)
{
    if (t->depth > 0 && negated)
        return refuse(t, "a negated class inside a class");
    if (t->depth == 0)
        put_text(t, negated ? "[^" : "[");
    put_text(t, members);
    if (t->depth == 0)
        put_text(t, "]");
    t->at += 2;
    return PTQ_OK;
}

static int put_u_escape(struct translation *t)
{
    char code[16] = "\\x{";
    for (int i = 0; i < 4; i++) {
        if (!isxdigit((unsigned char)t->at[2 + i]))
            return refuse(t, "\\u without four hexadecimal digits");
        code[3 + i] = t->at[2 + i];
    }
    code[7] = '}';
    put_text(t, code);
    t->at += 6;
    return PTQ_OK;
}

static int put_escape(struct translation *t)
{
    char c = t->at[1];
    switch (c) {
    case 's': return put_class(t, SPACE, false);
    case 'S': return put_class(t, SPACE, true);
    case 'w': return put_class(t, WORD, false);
    case 'W': return put_class(t, WORD, true);
    case 'h': return put_class(t, "0-9a-fA-F", false);
    case 'H': return put_class(t, "0-9a-fA-F", true);
    case 'v': return put_class(t, "\\x{b}", false);
    case 'u': return put_u_escape(t);
    default: break;
    }
    /* The same to both: digits, properties, control characters, ends of the text, signs. */
    if (!c || (isalnum((unsigned char)c) && !strchr("dDpPnrtfaexAzZ", c)) || (unsigned char)c > 126)
        return refuse(t, "this escape");
    const char *end = t->at + 2;
    if (strchr("pPx", c) && *end == '{') { /* \p{L}, \x{2028}: the braces belong to it */
        end = strchr(end, '}');
        if (!end)
            return refuse(t, "{ without }");
        end++;
    }
    put(t, t->at, (size_t)(end - t->at));
    t->at = end;
    return PTQ_OK;
}

/* "[" inside a class: Oniguruma adds the members of the inner class, PCRE2 has no such thing. */
static int open_inner(struct translation *t)
{
    if (t->at[1] == ':' || t->at[1] == '^')
        return refuse(t, t->at[1] == ':' ? "[:name:]" : "a negated class inside a class");
    t->depth++;
    t->at++;
    return PTQ_OK;
}

static int in_class(struct translation *t)
{
    if (*t->at == '[')
        return open_inner(t);
    if (t->at[0] == '&' && t->at[1] == '&')
        return refuse(t, "&& in a class");
    if (*t->at == ']' && --t->depth > 0) {
        t->at++;
        return PTQ_OK;
    }
    put(t, t->at++, 1);
    return PTQ_OK;
}

static void open_class(struct translation *t)
{
    size_t n = t->at[1] == '^' ? 2 : 1;
    n += t->at[n] == ']'; /* a member when it comes first */
    put(t, t->at, n);
    t->at += n;
    t->depth = 1;
}

/* (?i: and looks to both sides; (?m and (?s mean other things to the two. */
static int open_group(struct translation *t)
{
    const char *c = t->at + 1;
    if (*c == '?') {
        c++;
        while (*c == 'i' || *c == '-')
            c++;
        if (c[0] == '<' && c[1] != '=' && c[1] != '!')
            return refuse(t, "a named group");
        if (!*c || !strchr(":=!><)", *c))
            return refuse(t, "this kind of group");
    }
    put(t, t->at, (size_t)(c - t->at));
    t->at = c;
    return PTQ_OK;
}

/* {,n} counts from zero; a + behind {n,m} repeats it, where PCRE2 makes it possessive. */
static int put_count(struct translation *t)
{
    const char *end = t->at + 1 + strspn(t->at + 1, "0123456789,");
    if (*end != '}' || end == t->at + 1) {
        put_text(t, "\\{");
        t->at++;
        return PTQ_OK;
    }
    if (end[1] == '+')
        return refuse(t, "+ behind {n,m}");
    put_text(t, t->at[1] == ',' ? "{0" : "{");
    put(t, t->at + 1, (size_t)(end - t->at));
    t->at = end + 1;
    return PTQ_OK;
}

static int translate_one(struct translation *t)
{
    if (*t->at == '\\')
        return put_escape(t);
    if (t->depth > 0)
        return in_class(t);
    switch (*t->at) {
    case '[': open_class(t); return PTQ_OK;
    case '(': return open_group(t);
    case '{': return put_count(t);
    default: put(t, t->at++, 1); return PTQ_OK;
    }
}

int ptq_pattern_translate(const char *pattern, const char *source, struct ptq_arena *a, char **out,
                          struct ptq_status *st)
{
    size_t n = strlen(pattern);
    struct translation t = {.pattern = pattern, .source = source, .at = pattern, .st = st};
    if (n > MOST_PATTERN)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: a pre-tokenizer pattern of %zu bytes; at most %d are read",
                              source, n, MOST_PATTERN);
    t.out = ptq_arena_alloc(a, st, (int64_t)n + 1, MOST_GROWTH);
    if (!t.out)
        return PTQ_ERR_MEMORY;
    int code = PTQ_OK;
    while (*t.at && code == PTQ_OK)
        code = translate_one(&t);
    if (code == PTQ_OK && t.depth > 0)
        code = refuse(&t, "a class without end");
    *out = t.out;
    return code;
}
