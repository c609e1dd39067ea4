#include "core/words.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 4096, WORD_MAX = 64 };

void ptq_printable(const char *text, char out[PTQ_PRINTABLE])
{
    size_t n = 0;
    for (; text[n] && n < PTQ_PRINTABLE - 4; n++)
        out[n] = (unsigned char)text[n] < 32 || text[n] == 127 ? '?' : text[n];
    while (text[n] && n && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--; /* not in the middle of a UTF-8 character */
    strcpy(out + n, text[n] ? "..." : "");
}

/* ---- numbers --------------------------------------------------------------------------------- */

static int bad_number(const char *what, const char *text, const char *wanted, struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(text, shown);
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: '%s' is not %s", what, shown, wanted);
}

/* Digits with an optional minus sign, the whole text; false also when it does not fit. */
static bool whole_i64(const char *text, int64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)text[text[0] == '-']))
        return false;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return !*end && !errno;
}

int ptq_parse_i64(const char *text, const char *what, int64_t min, int64_t max, int64_t *out,
                  struct ptq_status *st)
{
    int64_t v;
    if (!whole_i64(text, &v))
        return bad_number(what, text, "a whole number", st);
    if (v < min || v > max)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %lld is outside %lld .. %lld", what,
                              (long long)v, (long long)min, (long long)max);
    *out = v;
    return PTQ_OK;
}

/* strtod would also take white space, "inf", "nan" and hexadecimal. */
static bool whole_f64(const char *text, double *out)
{
    char *end;
    if (!*text || text[strspn(text, "0123456789+-.eE")])
        return false;
    *out = strtod(text, &end);
    return !*end && isfinite(*out);
}

int ptq_parse_f64(const char *text, const char *what, double min, double max, double *out,
                  struct ptq_status *st)
{
    double v;
    if (!whole_f64(text, &v))
        return bad_number(what, text, "a number", st);
    if (!(v >= min && v <= max))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s is outside %g .. %g", what, text, min,
                              max);
    *out = v;
    return PTQ_OK;
}

int ptq_parse_bool(const char *text, const char *what, bool *out, struct ptq_status *st)
{
    static const char *const words[] = {"0", "1", "false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(text, words[i])) {
            *out = i & 1;
            return PTQ_OK;
        }
    return bad_number(what, text, "one of 1 0 true false yes no on off", st);
}

int ptq_parse_bytes(const char *text, const char *what, int64_t *out, struct ptq_status *st)
{
    static const char wanted[] =
        "a size such as 512M, 2G or 65536 (units: K M G T, powers of 1024)";
    char *end;
    int64_t v;
    if (!isdigit((unsigned char)*text))
        return bad_number(what, text, wanted, st);
    errno = 0;
    v = strtoll(text, &end, 10);
    if (errno)
        return bad_number(what, text, wanted, st);
    const char *unit = *end ? strchr("KMGT", toupper((unsigned char)*end)) : NULL;
    if (*end && (!unit || (end[1] && strcasecmp(end + 1, "B") && strcasecmp(end + 1, "iB"))))
        return bad_number(what, text, wanted, st);
    int shift = unit ? 10 * (int)(unit - "KMGT" + 1) : 0;
    if (v > INT64_MAX >> shift)
        return bad_number(what, text, wanted, st);
    *out = v << shift;
    return PTQ_OK;
}

/* ---- lists ----------------------------------------------------------------------------------- */

static char *trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        n--;
    s[n] = 0;
    return s;
}

int ptq_split(const char *text, char sep, const char *what, struct ptq_arena *a, char ***out,
              int64_t *n, struct ptq_status *st)
{
    *n = 0;
    *out = NULL;
    char *copy = ptq_arena_strdup(a, st, text);
    if (!copy)
        return PTQ_ERR_MEMORY;
    copy = trim(copy);
    if (!*copy)
        return PTQ_OK;
    int64_t count = 1;
    for (const char *p = copy; *p; p++)
        count += *p == sep;
    char **fields = ptq_arena_alloc(a, st, count, sizeof *fields);
    if (!fields)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        char *end = strchr(copy, sep); /* NULL for the last field only */
        if (end)
            *end = 0;
        fields[i] = trim(copy);
        if (!*fields[i])
            return ptq_status_set(st, PTQ_ERR_USAGE,
                                  "%s: field %lld of %lld is empty; remove one '%c'", what,
                                  (long long)i + 1, (long long)count, sep);
        if (end)
            copy = end + 1;
    }
    *out = fields;
    *n = count;
    return PTQ_OK;
}

/* "7" or "2-4"; a leading minus belongs to a single number. */
static bool range(const char *text, int64_t *lo, int64_t *hi)
{
    char head[32];
    const char *dash = strchr(text + (*text == '-'), '-');
    if (!dash) {
        bool ok = whole_i64(text, lo);
        *hi = *lo;
        return ok;
    }
    size_t n = (size_t)(dash - text);
    if (n >= sizeof head)
        return false;
    memcpy(head, text, n);
    head[n] = 0;
    return whole_i64(head, lo) && whole_i64(dash + 1, hi) && 0 <= *lo && *lo <= *hi;
}

static int list_too_long(const char *what, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: more than %d values in a list; split the work",
                          what, LIST_MAX);
}

/* Appends lo..hi to list (n so far). */
static int append_range(const char *what, int64_t lo, int64_t hi, int64_t *list, int64_t *n,
                        struct ptq_status *st)
{
    if (hi - lo >= LIST_MAX - *n) /* lo == hi, or both >= 0: no overflow */
        return list_too_long(what, st);
    for (int64_t v = lo;; v++) {
        for (int64_t k = 0; k < *n; k++)
            if (list[k] == v)
                return ptq_status_set(st, PTQ_ERR_USAGE,
                                      "%s: %lld stands twice in the list; remove one", what,
                                      (long long)v);
        list[(*n)++] = v;
        if (v == hi)
            return PTQ_OK;
    }
}

int ptq_list_i64(const char *text, const char *what, struct ptq_arena *a, int64_t **out, int64_t *n,
                 struct ptq_status *st)
{
    char **fields;
    int64_t count, lo, hi;
    *n = 0;
    *out = NULL;
    int code = ptq_split(text, ',', what, a, &fields, &count, st);
    if (code != PTQ_OK)
        return code;
    int64_t *list = ptq_arena_alloc(a, st, LIST_MAX, sizeof *list);
    if (!list)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        if (!range(fields[i], &lo, &hi))
            return bad_number(what, fields[i], "a whole number or a range such as 2-4", st);
        code = append_range(what, lo, hi, list, n, st);
        if (code != PTQ_OK)
            return code;
    }
    *out = list;
    return PTQ_OK;
}

int ptq_list_f64(const char *text, const char *what, struct ptq_arena *a, double **out, int64_t *n,
                 struct ptq_status *st)
{
    char **fields;
    int64_t count;
    *n = 0;
    *out = NULL;
    int code = ptq_split(text, ',', what, a, &fields, &count, st);
    if (code != PTQ_OK)
        return code;
    if (count > LIST_MAX)
        return list_too_long(what, st);
    double *list = ptq_arena_alloc(a, st, count, sizeof *list);
    if (!list)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        if (!whole_f64(fields[i], &list[i]))
            return bad_number(what, fields[i], "a number", st);
        for (int64_t k = 0; k < i; k++)
            if (list[k] == list[i])
                return ptq_status_set(st, PTQ_ERR_USAGE,
                                      "%s: %s stands twice in the list; remove one", what,
                                      fields[i]);
    }
    *out = list;
    *n = count;
    return PTQ_OK;
}

/* ---- nearest words --------------------------------------------------------------------------- */

static int fold(char c)
{
    return c == '-' ? '_' : tolower((unsigned char)c);
}

/* Optimal string alignment: insertions, deletions, replacements and swaps of neighbours cost 1.
 * Both words < WORD_MAX. */
static int edit_distance(const char *a, const char *b)
{
    int row[3][WORD_MAX + 1]; /* of the prefixes of a with i - 2, i - 1 and i letters */
    int na = (int)strlen(a), nb = (int)strlen(b);
    for (int j = 0; j <= nb; j++)
        row[0][j] = j;
    for (int i = 1; i <= na; i++) {
        int *now = row[i % 3], *before = row[(i + 2) % 3], *before2 = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= nb; j++) {
            int best = before[j - 1] + (fold(a[i - 1]) != fold(b[j - 1]));
            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
                fold(a[i - 2]) == fold(b[j - 1]) && before2[j - 2] + 1 < best)
                best = before2[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[na % 3][nb];
}

/* The longest word that `word` begins with ("gptq2048": gptq); of three letters at least. */
static const char *beginning(const char *word, const char *const *valid)
{
    const char *best = NULL;
    size_t most = 2;
    for (; *valid; valid++) {
        size_t n = strlen(*valid);
        if (n > most && !strncmp(word, *valid, n)) {
            best = *valid;
            most = n;
        }
    }
    return best;
}

const char *ptq_nearest(const char *word, const char *const *valid)
{
    const char *best = NULL;
    const char *const *all = valid;
    size_t n = strlen(word);
    if (!n || n >= WORD_MAX)
        return NULL;
    int limit = ((int)n + 1) / 3 + 1; /* a distance must stay below: a third of the letters */
    for (; *valid; valid++) {
        if (strlen(*valid) >= WORD_MAX)
            continue;
        int d = edit_distance(word, *valid);
        if (d < limit) {
            best = *valid;
            limit = d;
        }
    }
    return best ? best : beginning(word, all);
}

/* "a, b, c" as far as it fits, then "...". */
static void join(const char *const *words, char *out, size_t size)
{
    size_t used = 0;
    *out = 0;
    for (int i = 0; words[i]; i++) {
        size_t n = strlen(words[i]);
        if (used + n + sizeof ", ..." > size) {
            strcpy(out + used, i ? ", ..." : "...");
            return;
        }
        used += (size_t)sprintf(out + used, "%s%s", i ? ", " : "", words[i]);
    }
}

int ptq_unknown_word_at(const char *place, const char *what, const char *word,
                        const char *const *valid, struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE], list[512];
    ptq_printable(word, shown);
    join(valid, list, sizeof list);
    const char *near = ptq_nearest(word, valid);
    const char *colon = place && *place ? ": " : "";
    if (near)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%.300s%sunknown %s '%s'; did you mean '%s'? valid: %s",
                              place ? place : "", colon, what, shown, near, list);
    return ptq_status_set(st, PTQ_ERR_USAGE, "%.300s%sunknown %s '%s'; valid: %s",
                          place ? place : "", colon, what, shown, *list ? list : "none");
}

int ptq_unknown_word(const char *what, const char *word, const char *const *valid,
                     struct ptq_status *st)
{
    return ptq_unknown_word_at(NULL, what, word, valid, st);
}

bool ptq_starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

bool ptq_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* A later star makes an earlier one final, so only the last is ever tried again: at most
 * |pattern| * |text| steps. */
bool ptq_glob(const char *pattern, const char *text)
{
    const char *star = NULL, *from = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            from = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}
