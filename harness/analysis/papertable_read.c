/* papertable_read.c: the INI file of a paper's table; see configs/tables/README for the format. */
#include "analysis/papertable.h"
#include "core/paths.h"
#include "core/words.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    struct ptq_ini ini;
    struct ptq_paper_table *t;
    struct ptq_arena *arena;
    struct ptq_status *st;
};

static const char *const mark_words[] = {"none", "not-reproducible", "base-unknown",
                                         "detail-missing", NULL};

static int wrong(const struct reader *r, const struct ptq_ini_entry *e, const char *what)
{
    return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s:%d: [%.60s] %.60s: %s", r->ini.file, e->line,
                          e->section, e->key, what);
}

static int word_of(const struct reader *r, const struct ptq_ini_entry *e, const char *what,
                   const char *word, const char *const *words, int *index)
{
    for (*index = 0; words[*index]; ++*index)
        if (!strcmp(words[*index], word))
            return PTQ_OK;
    return ptq_ini_unknown_value(&r->ini, e, what, word, words, r->st);
}

/* ---- a printed number --------------------------------------------------------------------------
 */

/* One decimal number at *at, which moves behind it. *half: half a unit of its last digit. Only
 * digits, a point and an exponent: no sign, no hexadecimal, no "inf". */
static bool number(const char **at, double *value, double *half)
{
    const char *s = *at;
    char text[32];
    int digits = 0, decimals = 0, exponent = 0;
    for (; *s >= '0' && *s <= '9'; s++)
        digits++;
    if (*s == '.' && s[1] >= '0' && s[1] <= '9')
        for (s++; *s >= '0' && *s <= '9'; s++)
            decimals++;
    if (*s == 'e' && s[1] >= '0' && s[1] <= '9') {
        exponent = s[1] - '0';
        for (s += 2; *s >= '0' && *s <= '9' && exponent < 30; s++)
            exponent = 10 * exponent + (*s - '0');
    }
    if (digits + decimals == 0 || exponent > 30 || (size_t)(s - *at) >= sizeof text)
        return false;
    memcpy(text, *at, (size_t)(s - *at));
    text[s - *at] = 0;
    *value = strtod(text, NULL);
    *half = .5 * pow(10, exponent - decimals);
    *at = s;
    return *value > 0;
}

static enum ptq_paper_mark mark_of(char c)
{
    return c == '!'   ? PTQ_PAPER_NOT_REPRODUCIBLE
           : c == '*' ? PTQ_PAPER_BASE_UNKNOWN
                      : PTQ_PAPER_DETAIL_MISSING;
}

/* What stands behind the number: marks, "@trust", "~tolerance in percent". */
static int qualifiers(const struct reader *r, const struct ptq_ini_entry *e, const char *s,
                      struct ptq_paper_cell *c)
{
    while (*s) {
        char word[16];
        double half;
        int k = 0;
        if (strchr("!*?", *s)) {
            c->mark = mark_of(*s++);
        } else if (*s == '@') {
            size_t n = strspn(++s, "abcdefghijklmnopqrstuvwxyz2");
            if (n >= sizeof word)
                return wrong(r, e, "no such trust");
            memcpy(word, s, n);
            word[n] = 0;
            if (word_of(r, e, "trust", word, ptq_paper_trust_words, &k) < 0)
                return r->st->code;
            c->trust = ptq_paper_trust_words[k];
            s += n;
        } else if (*s == '~') {
            s++;
            if (!number(&s, &c->tolerance, &half) || c->tolerance > 100)
                return wrong(r, e, "~ wants a tolerance in percent, such as ~0.5");
            c->tolerance /= 100;
        } else {
            return wrong(r, e,
                         "a cell is NUMBER or LOW..HIGH, then % ! * ? @TRUST ~PERCENT, or - for "
                         "none");
        }
    }
    return PTQ_OK;
}

static int parse_cell(const struct reader *r, const struct ptq_ini_entry *e, const char *word,
                      struct ptq_paper_cell *c)
{
    const char *s = word;
    double half = 0;
    bool fine = number(&s, &c->lo, &c->half_digit);
    c->hi = c->lo;
    if (fine && s[0] == '.' && s[1] == '.') {
        s += 2;
        fine = number(&s, &c->hi, &half) && c->hi >= c->lo;
        c->half_digit = fmax(c->half_digit, half);
    }
    s += fine && *s == '%';
    if (!fine)
        return wrong(r, e, "a cell is a positive number such as 27.65, 1.3e3, 5.61..5.69 or 17.8%");
    c->printed = ptq_arena_printf(r->arena, r->st, "%.*s", (int)(s - word), word);
    return c->printed ? qualifiers(r, e, s, c) : PTQ_ERR_MEMORY;
}

/* "37.28 25.94 -": one word a column, in the columns' order. */
static int parse_values(struct reader *r, const struct ptq_ini_entry *e, int64_t row, int64_t data)
{
    struct ptq_paper_table *t = r->t;
    const struct ptq_paper_row *line = &t->rows[row];
    const char *s = e->value;
    char word[64];
    int64_t n = 0;
    for (s += strspn(s, " \t"); *s; s += strspn(s, " \t"), n++) {
        size_t len = strcspn(s, " \t");
        if (n >= t->n_columns || len >= sizeof word)
            return wrong(r, e, n >= t->n_columns ? "more values than columns" : "a word too long");
        memcpy(word, s, len);
        word[len] = 0;
        s += len;
        if (!strcmp(word, "-"))
            continue;
        struct ptq_paper_cell *c = &t->cells[t->n_cells++];
        *c = (struct ptq_paper_cell){.row = row,
                                     .data = data,
                                     .column = n,
                                     .trust = line->trust,
                                     .tolerance = line->tolerance,
                                     .mark = line->mark,
                                     .selected = true,
                                     .verdict = PTQ_PAPER_TO_RUN,
                                     .ours = NAN,
                                     .spread = NAN,
                                     .label = "",
                                     .why = ""};
        if (parse_cell(r, e, word, c) < 0)
            return r->st->code;
    }
    return n == t->n_columns ? PTQ_OK : wrong(r, e, "fewer values than columns: write - for none");
}

/* ---- sections ----------------------------------------------------------------------------------
 */

static int add_set(struct reader *r, const struct ptq_ini_entry *e, struct ptq_paper_sets *sets)
{
    static const char *const mine[] = {"run.out", "run.name", "sweep.methods", "model.name"};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++)
        if (!strcmp(e->key, mine[i]))
            return wrong(r, e, "is set by `ptq table` itself (methods: a key of the row)");
    for (int64_t i = 0; i < sets->n; i++)
        if (!strcmp(sets->at[i].name, e->key))
            return wrong(r, e, "twice");
    if (!sets->at) /* as many as the file has lines: sections are small */
        sets->at = ptq_arena_alloc(r->arena, r->st, 64, sizeof *sets->at);
    if (!sets->at)
        return PTQ_ERR_MEMORY;
    if (sets->n == 64)
        return wrong(r, e, "more than 64 settings");
    sets->at[sets->n++] = (struct ptq_paper_set){e->key, e->value};
    return PTQ_OK;
}

static bool is_setting(const struct ptq_ini_entry *e)
{
    return strchr(e->key, '.') != NULL;
}

static int table_key(struct reader *r, const struct ptq_ini_entry *e)
{
    static const char *const valid[] = {"title", "paper", "version", "protocol", "note", NULL};
    const char **at[] = {&r->t->title, &r->t->paper, &r->t->version, &r->t->protocol, &r->t->note};
    for (int i = 0; valid[i]; i++)
        if (!strcmp(e->key, valid[i])) {
            *at[i] = e->value;
            return PTQ_OK;
        }
    return ptq_ini_unknown_key(&r->ini, e, valid, r->st);
}

static int column_key(struct reader *r, const struct ptq_ini_entry *e, struct ptq_paper_column *c)
{
    static const char *const valid[] = {"title", "folders", NULL};
    if (is_setting(e))
        return add_set(r, e, &c->sets);
    if (!strcmp(e->key, "title")) {
        c->title = e->value;
        return PTQ_OK;
    }
    if (strcmp(e->key, "folders") != 0)
        return ptq_ini_unknown_key(&r->ini, e, valid, r->st);
    if (ptq_split(e->value, ',', "folders", r->arena, &c->folders, &c->n_folders, r->st) < 0)
        return r->st->code;
    for (int64_t i = 0; i < c->n_folders; i++)
        if (c->folders[i][0] == '/' || strstr(c->folders[i], ".."))
            return wrong(r, e, "folders lie below MODEL_DIR");
    c->needs_model = c->n_folders > 0;
    return PTQ_OK;
}

static int data_key(struct reader *r, const struct ptq_ini_entry *e, struct ptq_paper_data *d)
{
    static const char *const valid[] = {"title", "metric", NULL};
    if (is_setting(e))
        return add_set(r, e, &d->sets);
    if (!strcmp(e->key, "title"))
        d->title = e->value;
    else if (!strcmp(e->key, "metric"))
        d->metric = e->value;
    else
        return ptq_ini_unknown_key(&r->ini, e, valid, r->st);
    return PTQ_OK;
}

static int64_t data_named(const struct ptq_paper_table *t, const char *id)
{
    for (int64_t i = 0; i < t->n_data; i++)
        if (!strcmp(t->data[i].id, id))
            return i;
    return -1;
}

static int row_trust(struct reader *r, const struct ptq_ini_entry *e, struct ptq_paper_row *row)
{
    int k = 0;
    if (word_of(r, e, "trust", e->value, ptq_paper_trust_words, &k) < 0)
        return r->st->code;
    row->trust = ptq_paper_trust_words[k];
    return PTQ_OK;
}

static int row_mark(struct reader *r, const struct ptq_ini_entry *e, struct ptq_paper_row *row)
{
    int k = 0;
    if (word_of(r, e, "mark", e->value, mark_words, &k) < 0)
        return r->st->code;
    row->mark = (enum ptq_paper_mark)k;
    return PTQ_OK;
}

static int row_number(struct reader *r, const struct ptq_ini_entry *e, struct ptq_paper_row *row)
{
    const char *what = ptq_ini_place(&r->ini, e, r->arena, r->st);
    if (!what)
        return PTQ_ERR_MEMORY;
    if (!strcmp(e->key, "data_free"))
        return ptq_parse_bool(e->value, what, &row->data_free, r->st);
    int code = ptq_parse_f64(e->value, what, 0, 100, &row->tolerance, r->st);
    row->tolerance /= 100;
    return code;
}

static int row_key(struct reader *r, const struct ptq_ini_entry *e, struct ptq_paper_row *row)
{
    const struct {
        const char *key, **at;
    } texts[] = {{"title", &row->title},     {"source", &row->source}, {"note", &row->note},
                 {"methods", &row->methods}, {"of", &row->of},         {"over", &row->over}};
    static const char *const valid[] = {"title", "source", "note",      "methods",   "of", "over",
                                        "trust", "mark",   "tolerance", "data_free", NULL};
    if (is_setting(e))
        return add_set(r, e, &row->sets);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!strcmp(e->key, texts[i].key)) {
            *texts[i].at = e->value;
            return PTQ_OK;
        }
    if (!strcmp(e->key, "trust"))
        return row_trust(r, e, row);
    if (!strcmp(e->key, "mark"))
        return row_mark(r, e, row);
    if (!strcmp(e->key, "tolerance") || !strcmp(e->key, "data_free"))
        return row_number(r, e, row);
    /* Lines of values come in the second pass, when the columns are known. */
    return data_named(r->t, e->key) >= 0 ? PTQ_OK : ptq_ini_unknown_key(&r->ini, e, valid, r->st);
}

/* The part of a section's name behind "row." and the like, or NULL. */
static const char *id_of(const char *section, const char *kind)
{
    size_t n = strlen(kind);
    return !strncmp(section, kind, n) && section[n] ? section + n : NULL;
}

static int64_t row_named(const struct ptq_paper_table *t, const char *id)
{
    for (int64_t i = 0; id && i < t->n_rows; i++)
        if (!strcmp(t->rows[i].id, id))
            return i;
    return -1;
}

static int64_t column_named(const struct ptq_paper_table *t, const char *id)
{
    for (int64_t i = 0; i < t->n_columns; i++)
        if (!strcmp(t->columns[i].id, id))
            return i;
    return -1;
}

static int declare(struct reader *r, const struct ptq_ini_entry *e)
{
    static const char *const valid[] = {"table",     "settings", "column.NAME",
                                        "data.NAME", "row.NAME", NULL};
    struct ptq_paper_table *t = r->t;
    const char *column = id_of(e->section, "column."), *data = id_of(e->section, "data."),
               *row = id_of(e->section, "row.");
    if ((column && *column == '.') || (row && *row == '.') || (data && *data == '.'))
        return wrong(r, e,
                     "a name begins with a letter or digit: results are folders of that name");
    if (column && column_named(t, column) < 0)
        t->columns[t->n_columns++] = (struct ptq_paper_column){.id = column, .title = column};
    if (data && data_named(t, data) < 0)
        t->data[t->n_data++] = (struct ptq_paper_data){.id = data, .title = data};
    if (row && row_named(t, row) < 0)
        t->rows[t->n_rows++] = (struct ptq_paper_row){.id = row,
                                                      .title = row,
                                                      .source = "",
                                                      .note = "",
                                                      .of_row = -1,
                                                      .over_row = -1,
                                                      .tolerance = -1,
                                                      .first = e};
    if (column || data || row || !strcmp(e->section, "table") || !strcmp(e->section, "settings"))
        return PTQ_OK;
    return ptq_ini_unknown_section(&r->ini, e, valid, r->st);
}

static int fill(struct reader *r, const struct ptq_ini_entry *e)
{
    struct ptq_paper_table *t = r->t;
    const char *column = id_of(e->section, "column."), *data = id_of(e->section, "data."),
               *row = id_of(e->section, "row.");
    if (column)
        return column_key(r, e, &t->columns[column_named(t, column)]);
    if (data)
        return data_key(r, e, &t->data[data_named(t, data)]);
    if (row)
        return row_key(r, e, &t->rows[row_named(t, row)]);
    if (!strcmp(e->section, "table"))
        return table_key(r, e);
    return is_setting(e) ? add_set(r, e, &t->sets)
                         : wrong(r, e, "a setting is section.key of a sweep configuration");
}

static int finish_row(struct reader *r, struct ptq_paper_row *row)
{
    if (row->methods && !strcmp(row->methods, "fp")) {
        row->fp = true;
        row->methods = NULL;
    }
    if (!row->trust)
        return wrong(r, row->first, "the row has no trust (code text repro num 2nd mem inf)");
    if (!*row->source)
        return wrong(r, row->first, "the row has no source: which table of which paper");
    if (row->tolerance < 0)
        return wrong(r, row->first, "the row has no tolerance, in percent");
    row->of_row = row_named(r->t, row->of);
    row->over_row = row_named(r->t, row->over);
    if ((row->of || row->over) && (row->of_row < 0 || row->over_row < 0))
        return wrong(r, row->first, "of and over name two rows");
    if (row->of &&
        (row->methods || row->fp || r->t->rows[row->of_row].of || r->t->rows[row->over_row].of))
        return wrong(r, row->first, "a ratio is one of two measured rows");
    return PTQ_OK;
}

static int finish(struct reader *r)
{
    struct ptq_paper_table *t = r->t;
    int64_t most = 0;
    if (!t->title || !t->paper || !t->version)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: [table] wants title, paper and version",
                              r->ini.file);
    if (!t->n_rows || !t->n_data || !t->n_columns)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: a table has rows, columns and data",
                              r->ini.file);
    for (int64_t i = 0; i < t->n_rows; i++)
        if (finish_row(r, &t->rows[i]) < 0)
            return r->st->code;
    for (int64_t i = 0; i < r->ini.n; i++)
        most +=
            id_of(r->ini.entries[i].section, "row.") && data_named(t, r->ini.entries[i].key) >= 0;
    if (t->n_columns > 64 || most * t->n_columns > 65536)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: more than 64 columns or 65536 cells; make two tables",
                              r->ini.file);
    t->cells = ptq_arena_alloc(r->arena, r->st, most * t->n_columns, sizeof *t->cells);
    if (!t->cells)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < r->ini.n; i++) {
        const struct ptq_ini_entry *e = &r->ini.entries[i];
        int64_t row = row_named(t, id_of(e->section, "row.")), data = data_named(t, e->key);
        if (row >= 0 && data >= 0 && parse_values(r, e, row, data) < 0)
            return r->st->code;
    }
    return t->n_cells ? PTQ_OK
                      : ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: no printed cell", r->ini.file);
}

/* ---- files -------------------------------------------------------------------------------------
 */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int ptq_paper_names(struct ptq_arena *arena, const char ***names, int64_t *n, struct ptq_status *st)
{
    enum { MOST = 1024 };
    char *folder;
    *n = 0;
    *names = ptq_arena_alloc(arena, st, MOST + 1, sizeof **names);
    int code = *names ? ptq_data_path("configs/tables", arena, &folder, st) : PTQ_ERR_MEMORY;
    if (code < 0)
        return code;
    DIR *dir = opendir(folder);
    if (!dir)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s cannot be read", folder);
    for (struct dirent *e; code >= 0 && *n < MOST && (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        if (len < 5 || e->d_name[0] == '.' || strcmp(e->d_name + len - 4, ".ini") != 0)
            continue;
        const char *name = ptq_arena_printf(arena, st, "%.*s", (int)len - 4, e->d_name);
        code = name ? PTQ_OK : PTQ_ERR_MEMORY;
        (*names)[(*n)++] = name;
    }
    closedir(dir);
    qsort(*names, (size_t)*n, sizeof **names, by_name);
    return code;
}

static int find_file(const char *name, struct ptq_arena *arena, char **path, struct ptq_status *st)
{
    const char **names;
    int64_t n;
    if (strchr(name, '/') || ptq_ends_with(name, ".ini")) {
        *path = ptq_arena_strdup(arena, st, name);
        return *path ? PTQ_OK : PTQ_ERR_MEMORY;
    }
    int code = ptq_paper_names(arena, &names, &n, st);
    for (int64_t i = 0; code >= 0 && i < n; i++)
        if (!strcmp(names[i], name)) {
            char *relative = ptq_arena_printf(arena, st, "configs/tables/%s.ini", name);
            return relative ? ptq_data_path(relative, arena, path, st) : PTQ_ERR_MEMORY;
        }
    return code < 0 ? code : ptq_unknown_word("table", name, names, st);
}

/* "dir/qet.ini" -> "qet" */
static char *stem(const char *path, struct ptq_arena *arena, struct ptq_status *st)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t n = strlen(base);
    n -= ptq_ends_with(base, ".ini") ? 4 : 0;
    return ptq_arena_printf(arena, st, "%.*s", (int)n, base);
}

int ptq_paper_read(const char *name, struct ptq_arena *arena, struct ptq_paper_table *t,
                   struct ptq_status *st)
{
    struct reader r = {.t = t, .arena = arena, .st = st};
    char *path;
    *t = (struct ptq_paper_table){.note = "", .protocol = ""};
    int code = find_file(name, arena, &path, st);
    if (code >= 0)
        code = ptq_ini_read_file(path, arena, &r.ini, st);
    if (code < 0)
        return code;
    t->file = path;
    t->name = stem(path, arena, st);
    t->columns = ptq_arena_alloc(arena, st, r.ini.n, sizeof *t->columns);
    t->data = ptq_arena_alloc(arena, st, r.ini.n, sizeof *t->data);
    t->rows = ptq_arena_alloc(arena, st, r.ini.n, sizeof *t->rows);
    code = t->name && t->columns && t->data && t->rows ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t i = 0; code >= 0 && i < r.ini.n; i++)
        code = declare(&r, &r.ini.entries[i]);
    for (int64_t i = 0; code >= 0 && i < r.ini.n; i++)
        code = fill(&r, &r.ini.entries[i]);
    return code < 0 ? code : finish(&r);
}
