#include "model/textfile.h"
#include "core/ini.h"
#include "core/json.h"
#include "core/paths.h"
#include "core/words.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_BYTES = 1 << 30 };

/* ---- configs/texts.ini */

static const char *const row_words[] = {[PTQ_ROWS_WHOLE] = "whole",
                                        [PTQ_ROWS_WIKITEXT] = "wikitext",
                                        [PTQ_ROWS_STRIPPED] = "stripped",
                                        [PTQ_ROWS_JSON] = "json",
                                        NULL};
static const char *const join_words[] = {"none", "space", "blank-line", NULL};
static const char *const joins[] = {"", " ", "\n\n"};
static const char *const default_words[] = {"evaluation", "calibration", NULL};

struct reader {
    struct ptq_ini ini;
    struct ptq_arena *arena;
    struct ptq_status *st;
};

static int word_of(const struct reader *r, const struct ptq_ini_entry *e, const char *const *words,
                   int *out)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], e->value) == 0) {
            *out = i;
            return PTQ_OK;
        }
    return ptq_ini_unknown_value(&r->ini, e, e->key, e->value, words, r->st);
}

static int number_of(const struct reader *r, const struct ptq_ini_entry *e, int64_t *out)
{
    const char *place = ptq_ini_place(&r->ini, e, r->arena, r->st);
    return place ? ptq_parse_i64(e->value, place, 0, INT32_MAX, out, r->st) : PTQ_ERR_MEMORY;
}

/* Keys whose value is kept as it is, and those that are numbers. */
static const char **text_of(struct ptq_known_text *t, const char *key)
{
    const struct {
        const char *key;
        const char **at;
    } keys[] = {{"title", &t->title},
                {"family", &t->family},
                {"where", &t->where},
                {"sha256", &t->sha256},
                {"joined_sha256", &t->joined_sha256},
                {"lines_sha256", &t->lines_sha256},
                {"stands_for", &t->stands_for}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i].key, key) == 0)
            return keys[i].at;
    return NULL;
}

static int64_t *count_of(struct ptq_known_text *t, const char *key)
{
    const struct {
        const char *key;
        int64_t *at;
    } keys[] = {{"first_rows", &t->first_rows},
                {"windows", &t->windows},
                {"crops", &t->crops},
                {"from_percent", &t->from_percent},
                {"to_percent", &t->to_percent}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i].key, key) == 0)
            return keys[i].at;
    return NULL;
}

static int read_entry(const struct reader *r, const struct ptq_ini_entry *e,
                      struct ptq_known_text *t)
{
    static const char *const keys[] = {
        "title", "family",        "where",        "sha256",       "files",   "stands_for",
        "rows",  "joined_sha256", "join",         "default",      "windows", "first_rows",
        "crops", "to_percent",    "from_percent", "lines_sha256", NULL};
    int word = 0, rc;
    if (text_of(t, e->key)) {
        *text_of(t, e->key) = e->value;
        return PTQ_OK;
    }
    if (count_of(t, e->key))
        return number_of(r, e, count_of(t, e->key));
    if (strcmp(e->key, "files") == 0)
        return ptq_split(e->value, ',', "files", r->arena, &t->files, &t->n_files, r->st);
    if (strcmp(e->key, "rows") == 0) {
        rc = word_of(r, e, row_words, &word);
        t->rows = (enum ptq_row_rule)word;
        return rc;
    }
    if (strcmp(e->key, "join") == 0) {
        rc = word_of(r, e, join_words, &word);
        t->join = joins[word];
        return rc;
    }
    if (strcmp(e->key, "default") == 0) {
        rc = word_of(r, e, default_words, &word);
        *(word ? &t->calibration : &t->evaluation) = true;
        return rc;
    }
    return ptq_ini_unknown_key(&r->ini, e, keys, r->st);
}

/* "wikitext2.test" -> "wikitext2", "test" */
static int begin_text(const struct reader *r, const struct ptq_ini_entry *e,
                      struct ptq_known_text *t)
{
    char *name = ptq_arena_strdup(r->arena, r->st, e->section);
    char *dot = name ? strchr(name, '.') : NULL;
    if (!name)
        return PTQ_ERR_MEMORY;
    if (!dot)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s:%d: [%s]: a section is [NAME.SPLIT]",
                              r->ini.file, e->line, name);
    *dot = 0;
    *t = (struct ptq_known_text){
        .name = name, .split = dot + 1, .title = name, .where = "", .join = "", .to_percent = 100};
    return PTQ_OK;
}

static int find_text(const struct reader *r, const struct ptq_ini_entry *e,
                     struct ptq_known_text *list, int64_t *n, struct ptq_known_text **out)
{
    for (int64_t i = 0; i < *n; i++) {
        size_t name = strlen(list[i].name);
        *out = &list[i];
        if (strncmp(e->section, list[i].name, name) == 0 && e->section[name] == '.' &&
            strcmp(e->section + name + 1, list[i].split) == 0)
            return PTQ_OK;
    }
    *out = &list[(*n)++];
    return begin_text(r, e, *out);
}

int ptq_known_texts(struct ptq_arena *arena, const struct ptq_known_text **out, int64_t *n,
                    struct ptq_status *st)
{
    char *path;
    struct reader r = {.arena = arena, .st = st};
    int rc = ptq_data_path("configs/texts.ini", arena, &path, st);
    if (rc || (rc = ptq_ini_read_file(path, arena, &r.ini, st)))
        return rc;
    struct ptq_known_text *list = ptq_arena_alloc(arena, st, r.ini.n, sizeof *list), *t;
    *n = 0;
    rc = list ? PTQ_OK : PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < r.ini.n && !rc; i++)
        if (!(rc = find_text(&r, &r.ini.entries[i], list, n, &t)))
            rc = read_entry(&r, &r.ini.entries[i], t);
    *out = list;
    return rc;
}

/* ---- where a file is */

static const char *readable(struct ptq_arena *arena, struct ptq_status *st, const char *folder,
                            const char *name)
{
    const char *path = ptq_arena_printf(arena, st, "%s%s%s", folder, *folder ? "/" : "", name);
    return path && access(path, R_OK) == 0 ? path : NULL;
}

static const char *in_own_folder(struct ptq_arena *arena, struct ptq_status *st, const char *name)
{
    struct ptq_status none = {0};
    char *path, *relative = ptq_arena_printf(arena, st, "datasets/texts/%s", name);
    return relative && ptq_data_path(relative, arena, &path, &none) == PTQ_OK ? path : NULL;
}

/* suffix: "" or ".gz". */
static const char *look(const struct ptq_known_text *t, struct ptq_arena *arena, const char *suffix,
                        struct ptq_status *st)
{
    const char *folder = getenv("PTQ_TEXTS"), *path = NULL;
    for (int64_t i = 0; i < t->n_files && !path && st->code == PTQ_OK; i++) {
        const char *name = ptq_arena_printf(arena, st, "%s%s", t->files[i], suffix);
        if (name && name[0] == '/') {
            path = readable(arena, st, "", name);
        } else if (name) {
            path = folder && *folder ? readable(arena, st, folder, name) : NULL;
            path = path ? path : in_own_folder(arena, st, name);
        }
    }
    return path;
}

int ptq_known_text_path(const struct ptq_known_text *t, struct ptq_arena *arena, const char **path,
                        struct ptq_status *st)
{
    struct ptq_status own = {0};
    *path = look(t, arena, "", &own);
    if (own.code)
        return ptq_status_set(st, (enum ptq_code)own.code, "%s", own.text);
    return *path ? PTQ_OK : PTQ_SKIP;
}

/* ---- which text is meant */

struct search {
    const struct ptq_textfile_request *ask;
    struct ptq_arena *arena;
    struct ptq_status *st;
    const struct ptq_known_text *list;
    int64_t n;
};

static bool is_called(const struct ptq_known_text *t, const char *name, size_t length)
{
    return strlen(t->name) == length && strncmp(t->name, name, length) == 0;
}

const struct ptq_known_text *ptq_known_text_find(const struct ptq_known_text *list, int64_t n,
                                                 const char *source, bool calibration)
{
    const char *colon = strchr(source, ':');
    size_t length = strcspn(source, ":");
    const struct ptq_known_text *last = NULL;
    for (int64_t i = 0; i < n; i++) {
        const struct ptq_known_text *t = &list[i];
        if (!is_called(t, source, length))
            continue;
        if (colon ? strcmp(t->split, colon + 1) == 0 : calibration ? t->calibration : t->evaluation)
            return t;
        last = t;
    }
    return colon ? NULL : last;
}

/* A status is set when the text is known and its split is not. */
static void check_split(const struct search *s)
{
    const char *source = s->ask->source, *colon = strchr(source, ':');
    size_t length = strcspn(source, ":"), used = 0;
    char splits[256] = "";
    for (int64_t i = 0; i < s->n && used < sizeof splits; i++)
        if (is_called(&s->list[i], source, length))
            used += (size_t)snprintf(splits + used, sizeof splits - used, " %s", s->list[i].split);
    if (used)
        ptq_status_set(s->st, PTQ_ERR_USAGE, "%s: unknown split '%s'; the text %.*s has:%s", source,
                       colon + 1, (int)length, source, splits);
}

/* NULL with no status set: no known text of that name. */
static const struct ptq_known_text *find_known(const struct search *s)
{
    const char *source = s->ask->source;
    const struct ptq_known_text *t =
        ptq_known_text_find(s->list, s->n, source, s->ask->calibration);
    if (!t && strchr(source, ':'))
        check_split(s);
    return t;
}

/* A path to a file that nobody named, or a misspelt name. */
static int absent(const struct search *s, const char *path)
{
    const char *names[64] = {NULL}, *near;
    int n = 0;
    for (int64_t i = 0; i < s->n && n < 63; i++)
        if (!n || strcmp(names[n - 1], s->list[i].name) != 0)
            names[n++] = s->list[i].name;
    near = strchr(path, '/') ? NULL : ptq_nearest(path, names);
    if (near)
        return ptq_status_set(s->st, PTQ_ERR_USAGE,
                              "%s: no such file, and no known text of that name; did you mean "
                              "'%s'? `ptq list texts` shows them all",
                              path, near);
    return ptq_status_set(s->st, PTQ_ERR_USAGE,
                          "%s: no such file, and no known text (`ptq list texts`) of that name",
                          path);
}

/* ---- reading and checking */

static int read_whole(struct ptq_textfile *f, struct ptq_status *st)
{
    size_t bytes;
    int rc = ptq_read_file(f->path, MOST_BYTES, &f->data, &bytes, st);
    if (rc)
        return rc;
    f->text = f->data;
    f->bytes = (int64_t)bytes;
    ptq_sha256(f->data, bytes, f->sha256);
    return PTQ_OK;
}

static int wrong_file(const struct ptq_textfile *f, struct ptq_status *st)
{
    char repair[512];
    ptq_text_repair(f->known, f->text, f->bytes, repair);
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: not the text %s: its sha256 is %.16s..., expected %.16s...; %s",
                          f->path, f->name, f->sha256, f->known->sha256,
                          *repair ? repair : "get the file anew (`ptq list texts` says where)");
}

/* Without a known hash, line ends that a loader would have changed are still seen. */
static int check_unknown(struct ptq_textfile *f, struct ptq_arena *arena, struct ptq_status *st)
{
    if (f->known->rows != PTQ_ROWS_JSON && memmem(f->text, (size_t)f->bytes, "\r\n", 2))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: lines end in CR LF, those of %s in LF; repair it with: sed -i "
                              "'s/\\r$//' %s",
                              f->path, f->name, f->path);
    f->note = ptq_arena_printf(arena, st,
                               "%s: no published hash of %s is known here: unverified, sha256 %s",
                               f->path, f->name, f->sha256);
    return f->note ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* The first line's begin at or behind a share of the bytes. */
static int64_t line_at(const struct ptq_textfile *f, int64_t percent)
{
    int64_t at = f->bytes / 100 * percent + f->bytes % 100 * percent / 100;
    while (at > 0 && at < f->bytes && f->text[at - 1] != '\n')
        at++;
    return at;
}

static void take_part(struct ptq_textfile *f)
{
    int64_t from = line_at(f, f->known->from_percent), to = line_at(f, f->known->to_percent);
    f->text += from;
    f->bytes = to > from ? to - from : 0;
}

static int use_known(struct ptq_textfile *f, const struct ptq_known_text *known,
                     struct ptq_arena *arena, struct ptq_status *st)
{
    f->known = known;
    f->rows = known->rows;
    f->join = known->join;
    f->name = ptq_arena_printf(arena, st, "%s:%s", known->name, known->split);
    return f->name ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int open_known(const struct search *s, const struct ptq_known_text *known, const char *path,
                      struct ptq_textfile *f)
{
    int rc = use_known(f, known, s->arena, s->st);
    f->path = path;
    if (rc || (rc = read_whole(f, s->st)))
        return rc;
    f->verified = known->sha256 && strcmp(known->sha256, f->sha256) == 0;
    if (!f->verified && known->sha256)
        rc = wrong_file(f, s->st);
    else if (!f->verified)
        rc = check_unknown(f, s->arena, s->st);
    if (!rc)
        take_part(f);
    return rc;
}

/* ---- a text that is not here */

const struct ptq_known_text *ptq_known_text_stand_in(const struct ptq_known_text *list, int64_t n,
                                                     bool calibration)
{
    for (int64_t i = 0; i < n; i++)
        if (list[i].stands_for && (calibration ? list[i].calibration : list[i].evaluation))
            return &list[i];
    return NULL;
}

static int not_here(const struct search *s, const struct ptq_known_text *t)
{
    struct ptq_status own = {0};
    const char *packed = look(t, s->arena, ".gz", &own);
    if (packed)
        return ptq_status_set(s->st, PTQ_ERR_USAGE, "%s: packed; unpack it: gunzip -k %s", packed,
                              packed);
    return ptq_status_set(s->st, PTQ_ERR_USAGE,
                          "%s:%s is not here: put %s into $PTQ_TEXTS (%s) or datasets/texts/; it "
                          "is %s",
                          t->name, t->split, t->n_files ? t->files[0] : "its file",
                          getenv("PTQ_TEXTS") ? getenv("PTQ_TEXTS") : "not set", t->where);
}

static int open_stand_in(const struct search *s, const struct ptq_known_text *wanted,
                         struct ptq_textfile *f)
{
    const struct ptq_known_text *prose =
        ptq_known_text_stand_in(s->list, s->n, s->ask->calibration);
    const char *path;
    int rc =
        prose && prose != wanted ? ptq_known_text_path(prose, s->arena, &path, s->st) : PTQ_SKIP;
    if (rc < 0)
        return rc;
    if (rc == PTQ_SKIP && prose && prose != wanted)
        return ptq_status_set(
            s->st, PTQ_ERR_USAGE,
            "%s:%s is not here: put %s into $PTQ_TEXTS or datasets/texts/; nor is "
            "the text that would stand in: %s",
            wanted->name, wanted->split, wanted->n_files ? wanted->files[0] : "its file",
            prose->where);
    if (rc == PTQ_SKIP)
        return not_here(s, wanted);
    f->fallback = true;
    if ((rc = open_known(s, prose, path, f)))
        return rc;
    f->note = ptq_arena_printf(
        s->arena, s->st,
        "%s:%s is not here (put %s into $PTQ_TEXTS or datasets/texts/): %s stands in, under "
        "protocol names of its own that compare with no published number",
        wanted->name, wanted->split, wanted->n_files ? wanted->files[0] : "its file", prose->title);
    return f->note ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int open_named(const struct search *s, const struct ptq_known_text *known,
                      struct ptq_textfile *f)
{
    const char *path;
    int rc = ptq_known_text_path(known, s->arena, &path, s->st);
    if (rc != PTQ_SKIP)
        return rc ? rc : open_known(s, known, path, f);
    return s->ask->fallback ? open_stand_in(s, known, f) : not_here(s, known);
}

/* A file that is called like a known text and is not it: a text of its own, and said. */
static int note_name(const struct search *s, struct ptq_textfile *f)
{
    const char *slash = strrchr(f->path, '/'), *base = slash ? slash + 1 : f->path;
    char repair[512];
    for (int64_t i = 0; i < s->n; i++) {
        const struct ptq_known_text *t = &s->list[i];
        if (!t->sha256 || !t->n_files || strcmp(t->files[0], base) != 0 ||
            strcmp(t->sha256, f->sha256) == 0)
            continue;
        ptq_text_repair(t, f->text, f->bytes, repair);
        f->note = ptq_arena_printf(s->arena, s->st,
                                   "%s: called like %s:%s, but its sha256 is another: taken as a "
                                   "text of its own%s%s",
                                   f->path, t->name, t->split, *repair ? "; " : "", repair);
        return f->note ? PTQ_OK : PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
}

/* A file of the user's; its hash may be that of a known text, which it then is. */
static int open_path(const struct search *s, const char *path, struct ptq_textfile *f)
{
    f->path = f->name = path;
    f->rows = ptq_ends_with(path, ".json") || ptq_ends_with(path, ".jsonl") ? PTQ_ROWS_JSON
                                                                            : PTQ_ROWS_WHOLE;
    f->join = f->rows == PTQ_ROWS_JSON ? "\n\n" : "";
    if (ptq_ends_with(path, ".gz"))
        return ptq_status_set(s->st, PTQ_ERR_USAGE, "%s: packed; unpack it: gunzip -k %s", path,
                              path);
    int rc = read_whole(f, s->st);
    for (int64_t i = 0; i < s->n && !rc && !f->known; i++)
        if (!s->list[i].stands_for && s->list[i].sha256 &&
            strcmp(s->list[i].sha256, f->sha256) == 0) {
            f->verified = true;
            rc = use_known(f, &s->list[i], s->arena, s->st);
        }
    return rc || f->known ? rc : note_name(s, f);
}

int ptq_textfile_open(const struct ptq_textfile_request *ask, struct ptq_arena *arena,
                      struct ptq_textfile *f, struct ptq_status *st)
{
    struct search s = {.ask = ask, .arena = arena, .st = st};
    bool is_path = ptq_starts_with(ask->source, "text:");
    *f = (struct ptq_textfile){0};
    int rc = ptq_known_texts(arena, &s.list, &s.n, st);
    if (rc)
        return rc;
    const struct ptq_known_text *known = is_path ? NULL : find_known(&s);
    const char *path = is_path ? ask->source + 5 : ask->source;
    if (st->code < 0)
        rc = st->code;
    else if (known)
        rc = open_named(&s, known, f);
    else
        rc = !is_path && access(path, F_OK) != 0 ? absent(&s, path) : open_path(&s, path, f);
    if (rc)
        ptq_textfile_close(f);
    return rc;
}

void ptq_textfile_close(struct ptq_textfile *f)
{
    free(f->data);
    f->data = NULL;
    f->text = NULL;
}
