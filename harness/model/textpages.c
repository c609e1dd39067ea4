/* textpages.c: the documents of the task wikitext of EleutherAI's evaluation harness: pages of the
 * raw file, and the text that its detokenizer makes of one. The steps and their order are the
 * task's; each is a replacement over the whole page. */
#include "model/textfile.h"
#include "model/pytext.h"
#include <stdlib.h>
#include <string.h>

struct page {
    char *at;
    int64_t n;
};

/* Never longer than before: in place. */
static void replace(struct page *p, const char *from, const char *to)
{
    int64_t n_from = (int64_t)strlen(from), n_to = (int64_t)strlen(to), out = 0, i = 0;
    while (i < p->n) {
        if (p->n - i >= n_from && memcmp(p->at + i, from, (size_t)n_from) == 0) {
            memcpy(p->at + out, to, (size_t)n_to);
            out += n_to;
            i += n_from;
        } else {
            p->at[out++] = p->at[i++];
        }
    }
    p->n = out;
}

/* re.sub(r"/' [0-9]/", r"/'[0-9]/"): the replacement is that very text. It is longer by 3 bytes for
 * every 5, for which there is room behind the page: the page is moved there first. */
static void replace_quoted_digit(struct page *p, int64_t room)
{
    static const char with[] = "/'[0-9]/";
    char *from = p->at + room - p->n, *end = p->at + room;
    memmove(from, p->at, (size_t)p->n);
    int64_t out = 0;
    while (from < end) {
        if (end - from >= 5 && memcmp(from, "/' ", 3) == 0 && from[3] >= '0' && from[3] <= '9' &&
            from[4] == '/') {
            memcpy(p->at + out, with, sizeof with - 1);
            out += (int64_t)sizeof with - 1;
            from += 5;
        } else {
            p->at[out++] = *from++;
        }
    }
    p->n = out;
}

/* White space inside a pair of marks goes: "( a )" -> "(a)". A pair is an opening mark and the next
 * closing one. */
static void tighten(struct page *p, char open, char close)
{
    int64_t out = 0, i = 0, from, to;
    bool more = true; /* closing marks */
    while (i < p->n) {
        const char *end = NULL;
        if (more && p->at[i] == open)
            more = (end = memchr(p->at + i + 1, close, (size_t)(p->n - i - 1))) != NULL;
        p->at[out++] = p->at[i++];
        if (!end)
            continue;
        int64_t inner = end - (p->at + i);
        ptq_strip(p->at + i, inner, &from, &to);
        memmove(p->at + out, p->at + i + from, (size_t)(to - from));
        out += to - from;
        p->at[out++] = close;
        i += inner + 1;
    }
    p->n = out;
}

static void detokenize(struct page *p, int64_t room)
{
    static const char *const separators[][2] = {{" @-@ ", "-"}, {" @,@ ", ","}, {" @.@ ", "."},
                                                {" : ", ": "},  {" ; ", "; "},  {" . ", ". "},
                                                {" ! ", "! "},  {" ? ", "? "},  {" , ", ", "}};
    static const char *const rest[][2] = {{"= = = =", "===="},    {"= = =", "==="}, {"= =", "=="},
                                          {" \u00b0 ", "\u00b0"}, {" \n", "\n"},    {"\n ", "\n"},
                                          {" N ", " 1 "},         {" 's", "'s"}};
    replace(p, "s '", "s'");
    replace_quoted_digit(p, room);
    for (size_t i = 0; i < sizeof separators / sizeof *separators; i++)
        replace(p, separators[i][0], separators[i][1]);
    tighten(p, '(', ')');
    tighten(p, '[', ']');
    tighten(p, '{', '}');
    tighten(p, '"', '"');
    tighten(p, '\'', '\'');
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        replace(p, rest[i][0], rest[i][1]);
}

/* A line that begins a page: "= Title =" and not "= = Section = =". */
static bool is_title(const char *line, int64_t bytes, char *scratch)
{
    struct page p = {scratch, bytes};
    int64_t from, to;
    memcpy(scratch, line, (size_t)bytes);
    replace(&p, "= = =", "===");
    replace(&p, "= =", "==");
    ptq_strip(p.at, p.n, &from, &to);
    return to - from >= 2 && memcmp(p.at + from, "= ", 2) == 0 &&
           memcmp(p.at + to - 2, " =", 2) == 0;
}

static bool is_blank(const char *text, int64_t bytes)
{
    int64_t from, to;
    ptq_strip(text, bytes, &from, &to);
    return from == to;
}

struct pages {
    struct ptq_arena *arena;
    struct ptq_page *list;
    int64_t n, most;
    bool left;
    struct ptq_status *st;
};

static int add(struct pages *out, const char *text, int64_t bytes)
{
    if (out->most && out->n == out->most) {
        out->left = true;
        return PTQ_OK;
    }
    int64_t room = bytes + bytes / 5 * 3 + 8;
    struct page p = {ptq_arena_alloc(out->arena, out->st, room, 1), bytes};
    if (!p.at)
        return PTQ_ERR_MEMORY;
    memcpy(p.at, text, (size_t)bytes);
    detokenize(&p, room);
    out->list[out->n++] = (struct ptq_page){p.at, p.n, ptq_count_words(text, bytes), bytes};
    return PTQ_OK;
}

/* Lines are what a split at "\n" gives, the last one often "". A page is joined of its lines, so
 * the newline before the next title belongs to none. */
static int split_pages(const struct ptq_textfile *f, struct pages *out, char *scratch)
{
    const char *text = f->text;
    int64_t begin = 0, rc = PTQ_OK;
    for (int64_t at = 0; at <= f->bytes && !rc;) {
        const char *end = at < f->bytes ? memchr(text + at, '\n', (size_t)(f->bytes - at)) : NULL;
        int64_t bytes = end ? end - (text + at) : f->bytes - at;
        if (is_title(text + at, bytes, scratch)) {
            int64_t page = at > begin ? at - 1 - begin : 0;
            if (!is_blank(text + begin, page))
                rc = add(out, text + begin, page);
            begin = at;
        }
        at += bytes + 1;
    }
    return rc ? (int)rc : add(out, text + begin, f->bytes - begin);
}

int ptq_pages(const struct ptq_textfile *f, int64_t most, struct ptq_arena *arena,
              struct ptq_page **list, int64_t *n, bool *left, struct ptq_status *st)
{
    int64_t lines = 1;
    for (int64_t i = 0; i < f->bytes; i++)
        lines += f->text[i] == '\n';
    struct pages out = {.arena = arena, .most = most, .st = st};
    out.list = ptq_arena_alloc(arena, st, lines, sizeof *out.list);
    char *scratch = malloc((size_t)f->bytes + 1);
    int rc = out.list ? PTQ_OK : PTQ_ERR_MEMORY;
    if (!rc && !scratch)
        rc = ptq_status_nomem(st, "a line", (size_t)f->bytes);
    if (!rc)
        rc = split_pages(f, &out, scratch);
    free(scratch);
    *list = out.list;
    *n = out.n;
    *left = out.left;
    return rc;
}
