/* textrepair.c: what happened to a text on its way. Every fault that files of text commonly catch
 * is undone, and the hash says whether it was the one. */
#include "model/textfile.h"
#include "model/pytext.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 64 << 20 };

struct copy {
    char *at;
    int64_t n;
};

static void cut(struct copy *c, int64_t from, int64_t n)
{
    memmove(c->at + from, c->at + from + n, (size_t)(c->n - from - n));
    c->n -= n;
}

static void drop_mark(struct copy *c)
{
    if (c->n >= 3 && memcmp(c->at, "\xef\xbb\xbf", 3) == 0)
        cut(c, 0, 3);
}

static void drop_returns(struct copy *c)
{
    int64_t out = 0;
    for (int64_t i = 0; i < c->n; i++)
        if (c->at[i] != '\r' || i + 1 == c->n || c->at[i + 1] != '\n')
            c->at[out++] = c->at[i];
    c->n = out;
}

/* Keeps the lines that keep() says; fill: empty ones become one space. There is room for that: a
 * copy has twice the bytes. */
static void edit_lines(struct copy *c, bool (*keep)(int64_t line, bool empty, bool *after_text),
                       bool fill)
{
    char *from = c->at + c->n, *end = c->at + 2 * c->n;
    int64_t out = 0, line = 0;
    bool after_text = false;
    memcpy(from, c->at, (size_t)c->n);
    for (; from < end; line++) {
        char *stop = memchr(from, '\n', (size_t)(end - from));
        int64_t n = (stop ? stop + 1 : end) - from;
        if (!keep || keep(line, *from == '\n', &after_text)) {
            if (fill && *from == '\n')
                c->at[out++] = ' ';
            memmove(c->at + out, from, (size_t)n);
            out += n;
        }
        from += n;
    }
    c->n = out;
}

static bool every_second(int64_t line, bool empty, bool *after_text)
{
    (void)empty;
    (void)after_text;
    return line % 2 == 0;
}

/* A row that was printed with its newline left an empty line behind it. */
static bool not_behind_text(int64_t line, bool empty, bool *after_text)
{
    bool keep = !(empty && *after_text);
    (void)line;
    *after_text = !empty;
    return keep;
}

static void fill_empty(struct copy *c)
{
    edit_lines(c, NULL, true);
}
static void undouble(struct copy *c)
{
    edit_lines(c, every_second, false);
}
static void undouble_and_fill(struct copy *c)
{
    edit_lines(c, every_second, true);
}
static void unprint(struct copy *c)
{
    edit_lines(c, not_behind_text, true);
}
static void end_line(struct copy *c)
{
    c->at[c->n++] = '\n';
}
static void drop_end(struct copy *c)
{
    c->n -= c->n > 0 && c->at[c->n - 1] == '\n';
}

struct fault {
    void (*undo)(struct copy *); /* NULL: nothing */
    const char *what, *repair;
};
static const struct fault transport[] = {
    {drop_mark, "a byte-order mark", "sed -i '1s/^\\xEF\\xBB\\xBF//' FILE"},
    {drop_returns, "lines that end in CR LF", "sed -i 's/\\r$//' FILE"}};
static const struct fault blanks[] = {
    {NULL, NULL, NULL},
    {fill_empty, "blank lines without their space", "sed -i 's/^$/ /' FILE"},
    {undouble, "every line end doubled", "sed -i 'n;d' FILE"},
    {undouble_and_fill, "every line end doubled and blank lines without their space",
     "sed -i -e 'n;d' -e 's/^$/ /' FILE"},
    {unprint, "a blank line behind every row of text, as printed rows have",
     "sed -i -e '/[^ ]/{n;d}' -e 's/^$/ /' FILE"}};
static const struct fault ends[] = {
    {NULL, NULL, NULL},
    {end_line, "no newline at its end", "echo >> FILE"},
    {drop_end, "one newline too many at its end", "truncate -s -1 FILE"}};
enum { N_TRANSPORT = 2, N_BLANKS = 5, N_ENDS = 3, N_FAULTS = N_TRANSPORT + 2 };

static void set(struct copy *to, const struct copy *from)
{
    memcpy(to->at, from->at, (size_t)from->n);
    to->n = from->n;
}

static bool is_known(const struct ptq_known_text *known, const struct copy *c)
{
    char hash[PTQ_SHA256_CHARS];
    ptq_sha256(c->at, (size_t)c->n, hash);
    return strcmp(hash, known->sha256) == 0;
}

static void tell(const struct fault *const *found, int n, char out[512])
{
    int used = snprintf(out, 512, "it has ");
    for (int i = 0; i < n && used < 512; i++)
        used += snprintf(out + used, 512 - (size_t)used, "%s%s", i ? ", " : "", found[i]->what);
    if (used < 512)
        used += snprintf(out + used, 512 - (size_t)used, "; repair it with: ");
    for (int i = 0; i < n && used < 512; i++)
        used += snprintf(out + used, 512 - (size_t)used, "%s%s", i ? " && " : "", found[i]->repair);
}

/* Lines of text alone, without the white space around them: what blank lines and line ends cannot
 * change. */
static bool has_right_lines(const struct ptq_known_text *known, struct copy *c)
{
    char hash[PTQ_SHA256_CHARS];
    int64_t out = 0, from, to;
    for (int64_t i = 0; i < c->n;) {
        const char *end = memchr(c->at + i, '\n', (size_t)(c->n - i));
        int64_t n = end ? end - (c->at + i) : c->n - i;
        ptq_strip(c->at + i, n, &from, &to);
        memmove(c->at + out, c->at + i + from, (size_t)(to - from));
        out += to - from;
        if (to > from)
            c->at[out++] = '\n';
        i += n + 1;
    }
    ptq_sha256(c->at, (size_t)out, hash);
    return known->lines_sha256 && strcmp(hash, known->lines_sha256) == 0;
}

/* base: the text less the faults of transport; try: room for a change of it. */
static bool search(const struct ptq_known_text *known, const struct copy *base, struct copy *try,
                   const struct fault **found, int n, char out[512])
{
    for (int b = 0; b < N_BLANKS; b++)
        for (int e = 0; e < N_ENDS; e++) {
            int k = n;
            set(try, base);
            if (blanks[b].undo) {
                blanks[b].undo(try);
                found[k++] = &blanks[b];
            }
            if (ends[e].undo) {
                ends[e].undo(try);
                found[k++] = &ends[e];
            }
            if (k && is_known(known, try)) {
                tell(found, k, out);
                return true;
            }
        }
    return false;
}

static void diagnose(const struct ptq_known_text *known, struct copy *base, struct copy *try,
                     char out[512])
{
    const struct fault *found[N_FAULTS];
    int n = 0;
    for (int i = 0; i < N_TRANSPORT; i++) {
        int64_t before = base->n;
        transport[i].undo(base);
        if (base->n != before)
            found[n++] = &transport[i];
    }
    if (search(known, base, try, found, n, out))
        return;
    if (has_right_lines(known, base))
        snprintf(out, 512,
                 "its lines of text are the right ones, but blank lines or the white space around "
                 "lines were lost or added: they cannot be put back by a rule, get the raw file");
}

void ptq_text_repair(const struct ptq_known_text *known, const char *text, int64_t bytes,
                     char out[512])
{
    char hash[PTQ_SHA256_CHARS];
    out[0] = 0;
    if (!known->sha256 || bytes < 1 || bytes > MOST_BYTES)
        return;
    ptq_sha256(text, (size_t)bytes, hash);
    if (known->joined_sha256 && strcmp(hash, known->joined_sha256) == 0) {
        snprintf(out, 512, "it is the text with its rows joined already: give the raw file");
        return;
    }
    struct copy base = {malloc(2 * (size_t)bytes + 2), bytes},
                try = {malloc(2 * (size_t)bytes + 2), 0};
    if (base.at && try.at) {
        memcpy(base.at, text, (size_t)bytes);
        diagnose(known, &base, &try, out);
    }
    free(base.at);
    free(try.at);
}
