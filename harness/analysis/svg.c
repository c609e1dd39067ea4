/* svg.c: gnuplot paints axes and text black on nothing. On a dark page they would vanish, so black
 * becomes currentColor, and the file brings a style that sets the colour by the reader's scheme.
 * Replacements are exact strings that gnuplot writes. Labels come from files: gnuplot escapes & and
 * < in them, so no label can open an element; one that holds an attribute's very text would be
 * misspelt, no more. */
#include "analysis/plot.h"
#include "analysis/put.h"
#include <stdlib.h>
#include <string.h>

static const char style[] = "<style>.ptq-plot{color:#1f2328;color-scheme:light dark}"
                            ".ptq-plot .gridline{stroke-opacity:.45}"
                            "@media (prefers-color-scheme:dark){.ptq-plot{color:#e6edf3}}</style>";

struct swap {
    const char *from, *to;
};
static const struct swap swaps[] = {
    {" color=\"black\"", ""},
    {"stroke='black'", "stroke='currentColor'"},
    {"stroke=\"black\"", "stroke=\"currentColor\""},
    {"fill='black'", "fill='currentColor'"},
    {"fill=\"black\"", "fill=\"currentColor\""},
    {"fill = 'black'", "fill='currentColor'"},
    {"stroke='rgb(  0,   0,   0)'", "stroke='currentColor'"},
    {"stroke=\"rgb(  0,   0,   0)\"", "stroke=\"currentColor\""},
    {"fill='rgb(  0,   0,   0)'", "fill='currentColor'"},
    {"fill=\"rgb(0,0,0)\"", "fill=\"currentColor\""},
};

/* Writes the replacement for what stands at s; bytes used, 0: nothing to replace. */
static size_t swap_at(const char *s, const char *name, FILE *f)
{
    for (size_t i = 0; i < sizeof swaps / sizeof *swaps; i++)
        if (!strncmp(s, swaps[i].from, strlen(swaps[i].from))) {
            fputs(swaps[i].to, f);
            return strlen(swaps[i].from);
        }
    static const char *const ids[] = {"id='gp", "id=\"gp", "id=\"gnuplot_", "href='#gp",
                                      "href=\"#gp"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (!strncmp(s, ids[i], strlen(ids[i]))) {
            size_t head = strcspn(ids[i], "'\"") + 1 + (ids[i][0] == 'h');
            fprintf(f, "%.*s%s-%s", (int)head, ids[i], name, ids[i] + head);
            return strlen(ids[i]);
        }
    return 0;
}

/* Parts left out whole, from their beginning to their end: what gnuplot says of itself, its name
 * for every curve (a tooltip in browsers), and the white discs it paints under the points of error
 * bars, which would show on a dark page. */
static size_t part_at(const char *s)
{
    if (!strncmp(s, "<use ", 5)) {
        size_t n = strcspn(s, ">");
        const char *white = strstr(s, "color='white'");
        return s[n] && white && white < s + n ? n + 1 : 0;
    }
    static const struct swap parts[] = {
        {"<desc>", "</desc>"}, {"<filter ", "</filter>"}, {"<title>", "</title>"}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strncmp(s, parts[i].from, strlen(parts[i].from))) {
            const char *end = strstr(s, parts[i].to);
            return end ? (size_t)(end - s) + strlen(parts[i].to) : 0;
        }
    return 0;
}

static void put_root(FILE *f, const struct ptq_plot *p)
{
    fputs("<svg class=\"ptq-plot\" role=\"img\" aria-label=\"", f);
    ptq_put_html(f, *p->alt ? p->alt : p->title);
    fputs("\"", f);
}

int ptq_svg_adapt(const char *svg, const struct ptq_plot *p, char **out, size_t *bytes,
                  struct ptq_status *st)
{
    struct ptq_buffer b;
    const char *root = strstr(svg, "<svg");
    *out = NULL;
    if (!root)
        return ptq_status_set(st, PTQ_SKIP, "%s: gnuplot wrote no SVG", p->name);
    const char *end = strchr(root, '>');
    if (ptq_buffer_open(&b, st))
        return PTQ_ERR_MEMORY;
    fprintf(b.f, "%.*s", (int)(root - svg), svg);
    put_root(b.f, p);
    for (const char *s = root + strlen("<svg"); *s;) {
        if (s == end)
            fprintf(b.f, ">\n%s<title>", style), ptq_put_html(b.f, p->title),
                fputs("</title>", b.f), s++;
        size_t n = part_at(s);
        n = n ? n : swap_at(s, p->name, b.f);
        if (!n && *s)
            fputc(*s++, b.f);
        s += n;
    }
    int code = ptq_buffer_close(&b, st);
    *out = b.text;
    *bytes = b.bytes;
    return code;
}

void ptq_svg_inline(const char *svg, FILE *f)
{
    const char *root = strstr(svg, "<svg");
    for (const char *s = root ? root : ""; *s; s++) {
        if (!strncmp(s, " xmlns",
                     6)) { /* HTML knows the name spaces: no address stays in the page */
            const char *open = strpbrk(s, "\"'"), *close = open ? strchr(open + 1, *open) : NULL;
            if (close)
                s = close + 1;
        }
        if (*s)
            fputc(*s, f);
    }
}
