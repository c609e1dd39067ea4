#include "analysis/put.h"
#include "core/json.h"
#include <stdlib.h>
#include <string.h>

/* One character of UTF-8 text made harmless: bytes used, and what to write instead of a control
 * character. */
static int step(const char *s, bool *control)
{
    unsigned char c = (unsigned char)s[0], d = c ? (unsigned char)s[1] : 0;
    bool c1 = c == 0xC2 && d >= 0x80 && d < 0xA0; /* C1 controls: some terminals obey them */
    *control = c < 0x20 || c == 0x7F || c1;
    return c1 ? 2 : 1;
}

/* Writes every byte of s, or what `replace` gives for it. */
static void put_mapped(FILE *f, const char *s, const char *(*replace)(char))
{
    bool control;
    for (int n; s && *s; s += n) {
        n = step(s, &control);
        const char *r = control ? "?" : replace ? replace(*s) : NULL;
        if (r)
            fputs(r, f);
        else
            fputc(*s, f);
    }
}

static const char *html_char(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

static const char *latex_char(char c)
{
    switch (c) {
    case '\\': return "\\textbackslash{}";
    case '~': return "\\textasciitilde{}";
    case '^': return "\\textasciicircum{}";
    case '<': return "\\textless{}";
    case '>': return "\\textgreater{}";
    case '|': return "\\textbar{}";
    case '"': return "\\textquotedbl{}";
    case '{': return "\\{";
    case '}': return "\\}";
    case '#': return "\\#";
    case '$': return "\\$";
    case '%': return "\\%";
    case '&': return "\\&";
    case '_': return "\\_";
    default: return NULL;
    }
}

static const char *md_char(char c)
{
    switch (c) {
    case '|': return "\\|";
    case '\\': return "\\\\";
    case '`': return "\\`";
    case '*': return "\\*";
    case '_': return "\\_";
    case '[': return "\\[";
    case '<': return "&lt;";
    case '&': return "&amp;";
    default: return NULL;
    }
}

static const char *tsv_char(char c)
{
    return c == '"' ? "'" : NULL;
}

static const char *csv_char(char c)
{
    return c == '"' ? "\"\"" : NULL;
}

void ptq_put_text(FILE *f, const char *s)
{
    put_mapped(f, s, NULL);
}

void ptq_put_html(FILE *f, const char *s)
{
    put_mapped(f, s, html_char);
}

void ptq_put_latex(FILE *f, const char *s)
{
    put_mapped(f, s, latex_char);
}

void ptq_put_md(FILE *f, const char *s)
{
    put_mapped(f, s, md_char);
}

void ptq_put_csv(FILE *f, const char *s)
{
    bool quote = s && strpbrk(s, ",\"");
    if (!quote) {
        put_mapped(f, s, NULL);
        return;
    }
    fputc('"', f);
    put_mapped(f, s, csv_char);
    fputc('"', f);
}

void ptq_put_tsv(FILE *f, const char *s)
{
    put_mapped(f, s, tsv_char);
}

int ptq_text_width(const char *s)
{
    int n = 0;
    for (; s && *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

int ptq_buffer_open(struct ptq_buffer *b, struct ptq_status *st)
{
    *b = (struct ptq_buffer){0};
    b->f = open_memstream(&b->text, &b->bytes);
    return b->f ? PTQ_OK : ptq_status_nomem(st, "a report", 0);
}

int ptq_buffer_close(struct ptq_buffer *b, struct ptq_status *st)
{
    bool bad = ferror(b->f) != 0;
    bad |= fclose(b->f) != 0;
    b->f = NULL;
    return bad ? ptq_status_nomem(st, "a report", b->bytes) : PTQ_OK;
}

int ptq_buffer_save(struct ptq_buffer *b, const char *path, struct ptq_status *st)
{
    int code = ptq_buffer_close(b, st);
    if (code == PTQ_OK)
        code = ptq_write_file(path, b->text, b->bytes, st);
    free(b->text);
    b->text = NULL;
    return code;
}
