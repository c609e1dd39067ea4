/* method.c: the registry of methods, presets, and SPEC texts. */
#include "quant/method.h"
#include "core/ini.h"
#include "core/paths.h"
#include "core/words.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- registry ---- */

#define ENTRY(method, hash)                                                                        \
    extern const struct ptq_method ptq_method_##method##_f32, ptq_method_##method##_f64;
#include "methods.inc"
#undef ENTRY

const struct ptq_method_entry *ptq_methods(int *n)
{
#define ENTRY(method, hash) {#method, hash, &ptq_method_##method##_f32, &ptq_method_##method##_f64},
    static const struct ptq_method_entry all[] = {
#include "methods.inc"
    };
#undef ENTRY
    *n = (int)(sizeof all / sizeof *all);
    return all;
}

const struct ptq_method_entry *ptq_method_find(const char *name)
{
    int n;
    const struct ptq_method_entry *e = ptq_methods(&n);
    for (int i = 0; i < n; i++)
        if (!strcmp(e[i].name, name))
            return &e[i];
    return NULL;
}

const char *const ptq_grid_words[] = {"minmax", "mse", "hess", NULL};
const char *const ptq_sym_kind_words[] = {"full", "gptq", "absmax", NULL};
const char *const ptq_scale_words[] = {"f16", "bf16", "f32", NULL};

/* ---- presets ---- */

static int read_preset(const struct ptq_ini *ini, const char *section, struct ptq_preset *p,
                       struct ptq_status *st)
{
    static const char *const keys[] = {"method", "options", "help", NULL};
    for (int64_t i = 0; i < ini->n; i++) {
        const struct ptq_ini_entry *e = &ini->entries[i];
        if (strcmp(e->section, section))
            continue;
        if (!strcmp(e->key, "method"))
            p->method = e->value;
        else if (!strcmp(e->key, "options"))
            p->options = e->value;
        else if (!strcmp(e->key, "help"))
            p->help = e->value;
        else
            return ptq_ini_unknown_key(ini, e, keys, st);
    }
    if (!p->method)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: preset [%s] has no key method; add method = NAME", ini->file,
                              section);
    return PTQ_OK;
}

static bool have_preset(const struct ptq_preset *p, int64_t n, const char *name)
{
    for (int64_t i = 0; i < n; i++)
        if (!strcmp(p[i].name, name))
            return true;
    return false;
}

int ptq_presets(struct ptq_arena *arena, struct ptq_preset **out, int64_t *n, struct ptq_status *st)
{
    char *path;
    struct ptq_ini ini;
    int rc = ptq_data_path("configs/presets.ini", arena, &path, st);
    if (rc == PTQ_OK)
        rc = ptq_ini_read_file(path, arena, &ini, st);
    if (rc != PTQ_OK)
        return rc;
    struct ptq_preset *p = ptq_arena_alloc(arena, st, ini.n, sizeof *p);
    if (!p)
        return PTQ_ERR_MEMORY;
    *n = 0;
    for (int64_t i = 0; i < ini.n; i++) {
        const char *section = ini.entries[i].section;
        if (have_preset(p, *n, section))
            continue;
        p[*n] = (struct ptq_preset){.name = section, .options = "", .help = ""};
        if ((rc = read_preset(&ini, section, &p[*n], st)) != PTQ_OK)
            return rc;
        ++*n;
    }
    *out = p;
    return PTQ_OK;
}

/* ---- options ---- */

static void *opt_at(const struct ptq_opt *o, void *opts)
{
    return (char *)opts + o->offset;
}

double ptq_opt_value(const struct ptq_opt *o, const void *opts)
{
    const char *at = (const char *)opts + o->offset;
    bool b;
    int64_t i;
    double d;
    switch (o->type) {
    case PTQ_OPT_BOOL: memcpy(&b, at, sizeof b); return b;
    case PTQ_OPT_REAL: memcpy(&d, at, sizeof d); return d;
    case PTQ_OPT_INT:
    case PTQ_OPT_CHOICE: memcpy(&i, at, sizeof i); return (double)i;
    }
    return NAN;
}

static void opt_store(const struct ptq_opt *o, double v, void *opts)
{
    bool b = v != 0;
    int64_t i = (int64_t)v;
    switch (o->type) {
    case PTQ_OPT_BOOL: memcpy(opt_at(o, opts), &b, sizeof b); break;
    case PTQ_OPT_REAL: memcpy(opt_at(o, opts), &v, sizeof v); break;
    case PTQ_OPT_INT:
    case PTQ_OPT_CHOICE: memcpy(opt_at(o, opts), &i, sizeof i); break;
    }
}

static int word_index(const char *place, const char *word, const char *const *words, int64_t *out,
                      struct ptq_status *st)
{
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], word)) {
            *out = i;
            return PTQ_OK;
        }
    return ptq_unknown_word_at(place, "value", word, words, st);
}

static int opt_parse(const struct ptq_opt *o, const char *what, const char *text, void *opts,
                     struct ptq_status *st)
{
    bool b = false;
    int64_t i = 0;
    double v = 0;
    int rc = PTQ_OK;
    switch (o->type) {
    case PTQ_OPT_BOOL:
        rc = ptq_parse_bool(text, what, &b, st);
        v = b;
        break;
    case PTQ_OPT_REAL: rc = ptq_parse_f64(text, what, o->min, o->max, &v, st); break;
    case PTQ_OPT_INT:
        rc = ptq_parse_i64(text, what, (int64_t)o->min, (int64_t)o->max, &i, st);
        v = (double)i;
        break;
    case PTQ_OPT_CHOICE:
        rc = word_index(what, text, o->choices, &i, st);
        v = (double)i;
        break;
    }
    if (rc == PTQ_OK)
        opt_store(o, v, opts);
    return rc;
}

/* Shortest of 15 to 17 digits that reads back the same. */
static void put_number(double v, char buf[40])
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(buf, 40, "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            return;
    }
}

static const char *opt_text(const struct ptq_opt *o, const void *opts, char buf[40])
{
    double v = ptq_opt_value(o, opts);
    if (o->type == PTQ_OPT_CHOICE)
        return o->choices[(int)v];
    put_number(v, buf);
    return buf;
}

/* ---- one SPEC ---- */

struct parse {
    struct ptq_arena *arena;
    struct ptq_status *st;
    struct ptq_spec *spec;
    const struct ptq_method *m;
    int64_t seen; /* bit i: option i given by the text itself; bit 62: grid */
};

enum { GRID_BIT = 62 };

static const struct ptq_opt *find_opt(const struct ptq_method *m, const char *name)
{
    for (const struct ptq_opt *o = m->opts; o && o->name; o++)
        if (!strcmp(o->name, name) || (o->alias && !strcmp(o->alias, name)))
            return o;
    return NULL;
}

static int unknown_opt(struct parse *p, const char *name)
{
    const char *words[64] = {NULL};
    int n = 0;
    for (const struct ptq_opt *o = p->m->opts; o && o->name && n < 62; o++)
        words[n++] = o->name;
    words[n] = "grid";
    char what[96];
    snprintf(what, sizeof what, "option of %.60s", p->m->name);
    return ptq_unknown_word(what, name, words, p->st);
}

static int repeated(struct parse *p, int bit, const char *name)
{
    if (p->seen >> bit & 1)
        return ptq_status_set(p->st, PTQ_ERR_USAGE,
                              "method '%s': option %s stands twice; remove one", p->spec->label,
                              name);
    p->seen |= INT64_C(1) << bit;
    return PTQ_OK;
}

/* One "option=value". */
static int apply(struct parse *p, char *field, bool from_text)
{
    char *value = strchr(field, '='), what[128];
    if (!value)
        return ptq_status_set(p->st, PTQ_ERR_USAGE, "method '%s': '%s' is not option=value",
                              p->spec->label, field);
    *value++ = 0;
    snprintf(what, sizeof what, "method %.50s: option %.50s", p->spec->name, field);
    if (!strcmp(field, "grid")) {
        int64_t i = 0;
        int rc = from_text ? repeated(p, GRID_BIT, field) : PTQ_OK;
        if (rc == PTQ_OK)
            rc = word_index(what, value, ptq_grid_words, &i, p->st);
        p->spec->has_grid = true;
        p->spec->grid = (enum ptq_grid)i;
        return rc;
    }
    const struct ptq_opt *o = find_opt(p->m, field);
    if (!o)
        return unknown_opt(p, field);
    int rc = from_text ? repeated(p, (int)(o - p->m->opts), o->name) : PTQ_OK;
    return rc == PTQ_OK ? opt_parse(o, what, value, p->spec->opts, p->st) : rc;
}

static int apply_all(struct parse *p, char **fields, int64_t n, bool from_text)
{
    int rc = PTQ_OK;
    for (int64_t i = 0; i < n && rc == PTQ_OK; i++)
        rc = apply(p, fields[i], from_text);
    return rc;
}

static int unknown_method(const char *name, const struct ptq_preset *presets, int64_t n_presets,
                          struct ptq_arena *arena, struct ptq_status *st)
{
    int n_methods, k = 0;
    const struct ptq_method_entry *e = ptq_methods(&n_methods);
    const char **words = ptq_arena_alloc(arena, st, n_presets + n_methods + 1, sizeof *words);
    if (!words)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n_presets; i++)
        words[k++] = presets[i].name;
    for (int i = 0; i < n_methods; i++)
        if (!have_preset(presets, n_presets, e[i].name))
            words[k++] = e[i].name;
    return ptq_unknown_word("method", name, words, st);
}

/* Finds preset or method; *options: the preset's. */
static int resolve(struct parse *p, const char **options)
{
    struct ptq_preset *presets;
    int64_t n;
    int rc = ptq_presets(p->arena, &presets, &n, p->st);
    if (rc != PTQ_OK)
        return rc;
    const char *method = p->spec->name;
    *options = "";
    for (int64_t i = 0; i < n; i++)
        if (!strcmp(presets[i].name, p->spec->name)) {
            method = presets[i].method;
            *options = presets[i].options;
        }
    p->spec->entry = ptq_method_find(method);
    if (p->spec->entry)
        return PTQ_OK;
    return unknown_method(method, presets, n, p->arena, p->st);
}

static int canonical(struct parse *p)
{
    char buf[40];
    const char *text = "";
    for (const struct ptq_opt *o = p->m->opts; o && o->name && text; o++)
        text = ptq_arena_printf(p->arena, p->st, "%s%s%s=%s", text, *text ? ":" : "", o->name,
                                opt_text(o, p->spec->opts, buf));
    if (text && p->spec->has_grid)
        text = ptq_arena_printf(p->arena, p->st, "%s%sgrid=%s", text, *text ? ":" : "",
                                ptq_grid_words[p->spec->grid]);
    p->spec->canonical = text;
    return text ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* "name:a=b:c=d" without the white space between fields. */
static const char *joined(struct parse *p, char **fields, int64_t n)
{
    const char *text = fields[0];
    for (int64_t i = 1; i < n && text; i++)
        text = ptq_arena_printf(p->arena, p->st, "%s:%s", text, fields[i]);
    return text;
}

static int set_options(struct parse *p, char **fields, int64_t n_fields, const char *preset_options)
{
    char **preset;
    int64_t n_preset;
    if (p->m->opts_size) {
        p->spec->opts = ptq_arena_alloc(p->arena, p->st, 1, p->m->opts_size);
        if (!p->spec->opts)
            return PTQ_ERR_MEMORY;
    }
    for (const struct ptq_opt *o = p->m->opts; o && o->name; o++)
        opt_store(o, o->def, p->spec->opts);
    int rc =
        ptq_split(preset_options, ':', "options of a preset", p->arena, &preset, &n_preset, p->st);
    if (rc == PTQ_OK)
        rc = apply_all(p, preset, n_preset, false);
    if (rc == PTQ_OK)
        rc = apply_all(p, fields + 1, n_fields - 1, true);
    if (rc == PTQ_OK && p->m->normalise)
        p->m->normalise(p->spec->opts);
    return rc == PTQ_OK ? canonical(p) : rc;
}

int ptq_spec_parse(const char *text, struct ptq_arena *arena, struct ptq_spec *out,
                   struct ptq_status *st)
{
    char **fields;
    int64_t n;
    struct parse p = {.arena = arena, .st = st, .spec = out};
    memset(out, 0, sizeof *out);
    int rc = ptq_split(text, ':', "method", arena, &fields, &n, st);
    if (rc != PTQ_OK)
        return rc;
    if (n == 0)
        return ptq_status_set(st, PTQ_ERR_USAGE, "method: empty; `ptq list methods` names them");
    out->name = fields[0];
    out->label = joined(&p, fields, n);
    const char *preset_options = NULL;
    if (!out->label)
        return PTQ_ERR_MEMORY;
    rc = resolve(&p, &preset_options);
    if (rc != PTQ_OK)
        return rc;
    p.m = out->entry->single;
    return set_options(&p, fields, n, preset_options);
}

unsigned ptq_spec_needs(const struct ptq_spec *spec)
{
    const struct ptq_method *m = spec->entry->single;
    return m->needs_of ? m->needs_of(spec->opts) : m->needs;
}

void ptq_spec_cell(const struct ptq_spec *spec, const struct ptq_cell *cell, struct ptq_cell *out)
{
    *out = *cell;
    if (spec->has_grid)
        out->grid = spec->grid;
}

/* ---- sweeps of options ---- */

enum { MAX_SPECS = 4096 };

struct axis {         /* one field of the text: "percdamp=0.01|0.1" */
    const char *head; /* "percdamp=" */
    char **values;
    int64_t n;
};

static int read_axis(char *field, struct ptq_arena *arena, struct axis *a, struct ptq_status *st)
{
    char *value = strchr(field, '=');
    if (!value)
        value = field; /* the name, or a fault that ptq_spec_parse reports */
    else
        value++;
    int rc = ptq_split(value, '|', field, arena, &a->values, &a->n, st);
    if (rc == PTQ_OK && a->n == 0)
        rc = ptq_status_set(st, PTQ_ERR_USAGE, "'%s': no value after '='", field);
    *value = 0;
    a->head = value == field ? "" : field;
    return rc;
}

static int combination(const struct axis *axes, int64_t n_axes, int64_t k, struct ptq_arena *arena,
                       struct ptq_spec *out, struct ptq_status *st)
{
    const char *text = "";
    for (int64_t i = n_axes - 1; i >= 0 && text;
         i--) { /* last axis fastest, written from the right */
        text = ptq_arena_printf(arena, st, "%s%s%s%s", axes[i].head, axes[i].values[k % axes[i].n],
                                *text ? ":" : "", text);
        k /= axes[i].n;
    }
    return text ? ptq_spec_parse(text, arena, out, st) : PTQ_ERR_MEMORY;
}

int ptq_spec_expand(const char *text, struct ptq_arena *arena, struct ptq_spec **out, int64_t *n,
                    struct ptq_status *st)
{
    char **fields;
    int64_t n_axes;
    int rc = ptq_split(text, ':', "method", arena, &fields, &n_axes, st);
    if (rc != PTQ_OK)
        return rc;
    struct axis *axes = ptq_arena_alloc(arena, st, n_axes, sizeof *axes);
    if (!axes)
        return PTQ_ERR_MEMORY;
    *n = 1;
    for (int64_t i = 0; i < n_axes; i++) {
        if ((rc = read_axis(fields[i], arena, &axes[i], st)) != PTQ_OK)
            return rc;
        if (axes[i].n > MAX_SPECS / *n)
            return ptq_status_set(
                st, PTQ_ERR_USAGE,
                "method '%s': more than %d combinations of options; split the sweep", text,
                MAX_SPECS);
        *n *= axes[i].n;
    }
    *out = ptq_arena_alloc(arena, st, *n, sizeof **out);
    if (!*out)
        return PTQ_ERR_MEMORY;
    for (int64_t k = 0; k < *n && rc == PTQ_OK; k++)
        rc = combination(axes, n_axes, k, arena, &(*out)[k], st);
    return rc;
}
