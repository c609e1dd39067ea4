#include "core/ini.h"
#include "core/json.h"
#include "core/words.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Entries are searched one by one, also for duplicates: 4096^2 / 2 comparisons are milliseconds.
 * Expansion could multiply a small file by a large environment variable, so its sum is limited
 * too. */
enum { FILE_MAX_BYTES = 1 << 20, ENTRIES_MAX = 4096, EXPANDED_MAX_BYTES = 4 << 20 };

struct parser {
    struct ptq_ini *ini;
    struct ptq_arena *arena;
    struct ptq_status *st;
    const char *section; /* NULL before the first */
    int line;            /* 0: command line */
    int64_t capacity;
    size_t expanded_bytes;
};

static int fail(const struct parser *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fail(const struct parser *p, const char *fmt, ...)
{
    char text[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (p->line)
        return ptq_status_set(p->st, PTQ_ERR_USAGE, "%.300s:%d: %s", p->ini->file, p->line, text);
    return ptq_status_set(p->st, PTQ_ERR_USAGE, "command line: %s", text);
}

const struct ptq_ini_entry *ptq_ini_find(const struct ptq_ini *ini, const char *section,
                                         const char *key)
{
    for (int64_t i = 0; i < ini->n; i++)
        if (!strcmp(ini->entries[i].key, key) && !strcmp(ini->entries[i].section, section))
            return &ini->entries[i];
    return NULL;
}

/* ---- values ---------------------------------------------------------------------------------- */

struct buffer {
    char *at;
    size_t used, size;
};

static int append(struct parser *p, struct buffer *b, const char *text, size_t n)
{
    p->expanded_bytes += n;
    if (p->expanded_bytes > EXPANDED_MAX_BYTES)
        return fail(p,
                    "the values grow beyond %d MiB when their ${...} are filled in; shorten them",
                    EXPANDED_MAX_BYTES >> 20);
    if (b->size - b->used <= n) {
        size_t size = 2 * (b->used + n + 64);
        char *larger = realloc(b->at, size);
        if (!larger)
            return ptq_status_nomem(p->st, "a configuration value", size);
        b->at = larger;
        b->size = size;
    }
    memcpy(b->at + b->used, text, n);
    b->used += n;
    b->at[b->used] = 0;
    return PTQ_OK;
}

/* *text stands at "${"; appends the variable's value and moves past "}". */
static int append_variable(struct parser *p, struct buffer *b, const char **text)
{
    char name[64], shown[PTQ_PRINTABLE];
    const char *start = *text + 2, *end = strchr(start, '}');
    size_t n = end ? (size_t)(end - start) : 0;
    ptq_printable(*text, shown);
    if (!end || !n || n >= sizeof name)
        return fail(p, "'%s': ${ is not closed or its name is empty or too long; write ${NAME}",
                    shown);
    memcpy(name, start, n);
    name[n] = 0;
    const char *value = getenv(name);
    if (!value)
        return fail(p, "the environment variable %s is not set; set it or write the value itself",
                    name);
    *text = end + 1;
    return append(p, b, value, strlen(value));
}

static int append_home(struct parser *p, struct buffer *b)
{
    const char *home = getenv("HOME");
    if (!home)
        return fail(
            p,
            "~ stands for a folder that HOME does not name; set HOME or write the folder itself");
    return append(p, b, home, strlen(home));
}

static int expand_into(struct parser *p, struct buffer *b, const char *text)
{
    int code = append(p, b, "", 0);
    if (code == PTQ_OK && *text == '~' && (text[1] == '/' || !text[1])) {
        code = append_home(p, b);
        text++;
    }
    while (code == PTQ_OK && *text) {
        if (text[0] == '$' && text[1] == '{') {
            code = append_variable(p, b, &text);
            continue;
        }
        const char *next = strstr(text, "${");
        size_t n = next ? (size_t)(next - text) : strlen(text);
        code = append(p, b, text, n);
        text += n;
    }
    return code;
}

static int expand(struct parser *p, const char *text, char **out)
{
    struct buffer b = {NULL, 0, 0};
    int code = expand_into(p, &b, text);
    *out = NULL;
    if (code == PTQ_OK && !(*out = ptq_arena_strdup(p->arena, p->st, b.at)))
        code = PTQ_ERR_MEMORY;
    free(b.at);
    return code;
}

/* ---- entries --------------------------------------------------------------------------------- */

static bool is_name(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
            return false;
    return true;
}

/* Room for one more; the arena cannot give back, so the array doubles. */
static int reserve(struct parser *p)
{
    struct ptq_ini *ini = p->ini;
    if (ini->n >= ENTRIES_MAX)
        return fail(p, "more than %d entries; is this a configuration file?", ENTRIES_MAX);
    if (ini->n < p->capacity)
        return PTQ_OK;
    int64_t capacity = 2 * ini->n + 16;
    struct ptq_ini_entry *larger = ptq_arena_alloc(p->arena, p->st, capacity, sizeof *larger);
    if (!larger)
        return PTQ_ERR_MEMORY;
    if (ini->n)
        memcpy(larger, ini->entries, (size_t)ini->n * sizeof *larger);
    ini->entries = larger;
    p->capacity = capacity;
    return PTQ_OK;
}

static int add(struct parser *p, const char *section, const char *key, const char *raw)
{
    char *value;
    struct ptq_ini_entry *known = (struct ptq_ini_entry *)ptq_ini_find(p->ini, section, key);
    if (known && p->line)
        return fail(p, "[%.64s] %.64s is already set in line %d; remove one of the two", section,
                    key, known->line);
    int code = expand(p, raw, &value);
    if (code == PTQ_OK && !known)
        code = reserve(p);
    if (code != PTQ_OK)
        return code;
    if (known) { /* the command line wins */
        known->value = value;
        known->line = 0;
        return PTQ_OK;
    }
    struct ptq_ini_entry entry = {section, ptq_arena_strdup(p->arena, p->st, key), value, p->line};
    if (!entry.key)
        return PTQ_ERR_MEMORY;
    p->ini->entries[p->ini->n++] = entry;
    return PTQ_OK;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static char *trim(char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    size_t n = strlen(s);
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r'))
        n--;
    s[n] = 0;
    return s;
}

static void cut_comment(char *s)
{
    for (char *p = s; *p; p++)
        if ((*p == ';' || *p == '#') && (p == s || p[-1] == ' ' || p[-1] == '\t')) {
            *p = 0;
            return;
        }
}

static int section_line(struct parser *p, char *s)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(s, shown);
    size_t n = strlen(s);
    if (s[n - 1] != ']')
        return fail(p, "'%s': the section's name is not closed; write [name]", shown);
    s[n - 1] = 0;
    char *name = trim(s + 1);
    if (!is_name(name))
        return fail(p, "'%s': a section's name is made of letters, digits and . _ -", shown);
    p->section = ptq_arena_strdup(p->arena, p->st, name);
    return p->section ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int parse_line(struct parser *p, char *s)
{
    char shown[PTQ_PRINTABLE];
    cut_comment(s);
    s = trim(s);
    if (!*s)
        return PTQ_OK;
    if (*s == '[')
        return section_line(p, s);
    ptq_printable(s, shown);
    char *equals = strchr(s, '=');
    if (!equals)
        return fail(p, "'%s': expected key = value or [section]; comments begin with ; or #",
                    shown);
    *equals = 0;
    char *key = trim(s), *value = trim(equals + 1);
    if (!is_name(key))
        return fail(p, "'%s': a key is made of letters, digits and . _ -", shown);
    if (!p->section)
        return fail(p, "'%s' stands before the first [section]; add one above it", shown);
    return add(p, p->section, key, value);
}

/* Length of the UTF-8 character at s (at most n bytes), 0 when it is none or a control
 * character. Overlong forms, surrogates and numbers above U+10FFFF are none. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return s[0] >= 32 ? s[0] != 127 : s[0] == '\t' || s[0] == '\n' || s[0] == '\r';
    size_t want = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || n < want)
        return 0;
    for (size_t i = 1; i < want; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
        (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return want;
}

static int check_text(struct parser *p, const char *text, size_t bytes)
{
    for (size_t i = 0, n; i < bytes; i += n) {
        n = utf8_length((const unsigned char *)text + i, bytes - i);
        if (!n)
            return fail(p, "byte 0x%02X is no UTF-8 text; %s as UTF-8", (unsigned char)text[i],
                        p->line ? "save the file" : "write it");
        p->line += p->line && text[i] == '\n';
    }
    return PTQ_OK;
}

int ptq_ini_parse(const char *name, const char *text, size_t bytes, struct ptq_arena *a,
                  struct ptq_ini *ini, struct ptq_status *st)
{
    *ini = (struct ptq_ini){ptq_arena_strdup(a, st, name), NULL, 0};
    struct parser p = {.ini = ini, .arena = a, .st = st};
    if (!ini->file)
        return PTQ_ERR_MEMORY;
    if (bytes > FILE_MAX_BYTES)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%.300s: more than %d bytes; is this a configuration file?", name,
                              FILE_MAX_BYTES);
    if (bytes >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) { /* byte order mark */
        text += 3;
        bytes -= 3;
    }
    p.line = 1;
    int code = check_text(&p, text, bytes);
    char *copy = code == PTQ_OK ? ptq_arena_alloc(a, st, (int64_t)bytes + 1, 1) : NULL;
    if (!copy)
        return code != PTQ_OK ? code : PTQ_ERR_MEMORY;
    if (bytes)
        memcpy(copy, text, bytes);
    p.line = 1;
    for (char *end; code == PTQ_OK; copy = end + 1, p.line++) {
        end = strchr(copy, '\n');
        if (end)
            *end = 0;
        code = parse_line(&p, copy);
        if (!end)
            break;
    }
    return code;
}

int ptq_ini_read_file(const char *path, struct ptq_arena *a, struct ptq_ini *ini,
                      struct ptq_status *st)
{
    char *text;
    size_t bytes;
    *ini = (struct ptq_ini){path, NULL, 0};
    int code = ptq_read_file(path, FILE_MAX_BYTES, &text, &bytes, st);
    if (code != PTQ_OK)
        return code;
    code = ptq_ini_parse(path, text, bytes, a, ini, st);
    free(text);
    return code;
}

/* ---- the command line ------------------------------------------------------------------------ */

/* Takes "section.key=value" or "section.key='value with spaces'" from *text; the rest begins
 * after it. */
static int next_override(struct parser *p, char **text, char **name, char **value)
{
    char shown[PTQ_PRINTABLE];
    char *s = *text;
    ptq_printable(s, shown);
    size_t n = strcspn(s, " \t\n=");
    if (s[n] != '=')
        return fail(p, "'%s': expected section.key=value (no spaces around =)", shown);
    s[n] = 0;
    *name = s;
    *value = s + n + 1;
    char *end;
    if (**value == '\'') {
        end = strchr(++*value, '\'');
        if (!end)
            return fail(p, "'%s': the quote ' is not closed", shown);
        *end++ = 0;
        if (*end && !isspace((unsigned char)*end))
            return fail(p, "'%s': text follows the closing quote; put a space between", shown);
    } else {
        end = *value + strcspn(*value, " \t\n");
    }
    *text = *end ? end + 1 : end;
    *end = 0;
    return PTQ_OK;
}

static int override_one(struct parser *p, char *name, const char *value)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(name, shown);
    char *dot = strchr(name, '.');
    if (!dot)
        return fail(p, "'%s' has no section; write section.key=value", shown);
    *dot = 0;
    if (!is_name(name) || !is_name(dot + 1))
        return fail(p, "'%s': section and key are made of letters, digits and . _ -", shown);
    return add(p, name, dot + 1, value);
}

int ptq_ini_override(struct ptq_ini *ini, const char *words, struct ptq_arena *a,
                     struct ptq_status *st)
{
    struct parser p = {.ini = ini, .arena = a, .st = st, .capacity = ini->n};
    char *name = NULL, *value = NULL, *text;
    if (strlen(words) > FILE_MAX_BYTES)
        return fail(&p, "more than %d bytes", FILE_MAX_BYTES);
    int code = check_text(&p, words, strlen(words));
    if (code != PTQ_OK)
        return code;
    text = ptq_arena_strdup(a, st, words);
    if (!text)
        return PTQ_ERR_MEMORY;
    while (*(text += strspn(text, " \t\r\n"))) {
        code = next_override(&p, &text, &name, &value);
        if (code == PTQ_OK)
            code = override_one(&p, name, value);
        if (code != PTQ_OK)
            return code;
    }
    return PTQ_OK;
}

/* ---- messages -------------------------------------------------------------------------------- */

static void place(const struct ptq_ini *ini, const struct ptq_ini_entry *e, char *out, size_t size)
{
    if (e->line)
        snprintf(out, size, "%.200s:%d", ini->file, e->line);
    else
        snprintf(out, size, "command line");
}

const char *ptq_ini_place(const struct ptq_ini *ini, const struct ptq_ini_entry *e,
                          struct ptq_arena *a, struct ptq_status *st)
{
    char where[256];
    place(ini, e, where, sizeof where);
    return ptq_arena_printf(a, st, "%s: [%.64s] %.64s", where, e->section, e->key);
}

int ptq_ini_unknown_key(const struct ptq_ini *ini, const struct ptq_ini_entry *e,
                        const char *const *valid, struct ptq_status *st)
{
    char where[256], what[96];
    place(ini, e, where, sizeof where);
    snprintf(what, sizeof what, "key in [%.64s]:", e->section);
    return ptq_unknown_word_at(where, what, e->key, valid, st);
}

int ptq_ini_unknown_section(const struct ptq_ini *ini, const struct ptq_ini_entry *e,
                            const char *const *valid, struct ptq_status *st)
{
    char where[256];
    place(ini, e, where, sizeof where);
    return ptq_unknown_word_at(where, "section", e->section, valid, st);
}

int ptq_ini_unknown_value(const struct ptq_ini *ini, const struct ptq_ini_entry *e,
                          const char *what, const char *word, const char *const *valid,
                          struct ptq_status *st)
{
    char where[512], file[256];
    place(ini, e, file, sizeof file);
    snprintf(where, sizeof where, "%s: [%.64s] %.64s", file, e->section, e->key);
    return ptq_unknown_word_at(where, what, word, valid, st);
}
