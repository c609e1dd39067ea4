#include "model/meta.h"
#include "core/words.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

const json_t *ptq_meta_find(const struct ptq_meta *m, const char *key)
{
    char name[256];
    const json_t *at = m->object;
    if (snprintf(name, sizeof name, "%s%s", m->prefix, key) >= (int)sizeof name)
        return NULL;
    const json_t *whole = json_object_get(at, name);
    for (char *part = name; !whole && part;) {
        char *dot = strchr(part, '.');
        if (dot)
            *dot = 0;
        at = json_object_get(at, part);
        part = dot ? dot + 1 : NULL;
        if (!part)
            whole = at;
    }
    return whole && !json_is_null(whole) ? whole : NULL;
}

static int missing(const struct ptq_meta *m, const char *key, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: the setting %s%s is missing; add it to the "
                          "metadata (of a folder: config.json), or take the file anew from where "
                          "it came from",
                          m->source, m->prefix, key);
}

static int wrong(const struct ptq_meta *m, const char *key, const json_t *v, const char *wanted,
                 struct ptq_status *st)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    char shown[PTQ_PRINTABLE];
    ptq_printable(text ? text : "?", shown);
    free(text);
    return ptq_status_set(
        st, PTQ_ERR_USAGE,
        "%s: the setting %s%s is %s; expected %s: repair the metadata (of a folder: "
        "config.json), or take the file anew from where it came from",
        m->source, m->prefix, key, shown, wanted);
}

int ptq_meta_i64(const struct ptq_meta *m, const char *key, bool required, int64_t min, int64_t max,
                 int64_t *out, struct ptq_status *st)
{
    char wanted[96];
    const json_t *v = ptq_meta_find(m, key);
    if (!v)
        return required ? missing(m, key, st) : PTQ_OK;
    snprintf(wanted, sizeof wanted, "a whole number, %lld .. %lld", (long long)min, (long long)max);
    /* Some writers put 2048.0 where a whole number is meant. */
    double d = json_is_number(v) ? json_number_value(v) : NAN;
    if (!(d >= (double)min && d <= (double)max) || d != floor(d))
        return wrong(m, key, v, wanted, st);
    *out = json_is_integer(v) ? json_integer_value(v) : (int64_t)d;
    return PTQ_OK;
}

int ptq_meta_f64(const struct ptq_meta *m, const char *key, bool required, double min, double max,
                 double *out, struct ptq_status *st)
{
    char wanted[96];
    const json_t *v = ptq_meta_find(m, key);
    if (!v)
        return required ? missing(m, key, st) : PTQ_OK;
    snprintf(wanted, sizeof wanted, "a number, %g .. %g", min, max);
    double d = json_is_number(v) ? json_number_value(v) : NAN;
    if (!(d >= min && d <= max))
        return wrong(m, key, v, wanted, st);
    *out = d;
    return PTQ_OK;
}

int ptq_meta_bool(const struct ptq_meta *m, const char *key, bool required, bool *out,
                  struct ptq_status *st)
{
    const json_t *v = ptq_meta_find(m, key);
    if (!v)
        return required ? missing(m, key, st) : PTQ_OK;
    /* The container has no truth type. */
    if (json_is_integer(v) && (json_integer_value(v) == 0 || json_integer_value(v) == 1))
        *out = json_integer_value(v) == 1;
    else if (json_is_boolean(v))
        *out = json_is_true(v);
    else
        return wrong(m, key, v, "true or false", st);
    return PTQ_OK;
}

int ptq_meta_text(const struct ptq_meta *m, const char *key, bool required, const char **out,
                  struct ptq_status *st)
{
    const json_t *v = ptq_meta_find(m, key);
    if (!v)
        return required ? missing(m, key, st) : PTQ_OK;
    if (!json_is_string(v))
        return wrong(m, key, v, "text", st);
    char *copy = ptq_arena_strdup(m->arena, st, json_string_value(v));
    if (!copy)
        return PTQ_ERR_MEMORY;
    *out = copy;
    return PTQ_OK;
}

int ptq_meta_word(const struct ptq_meta *m, const char *key, bool required,
                  const char *const *words, int *out, struct ptq_status *st)
{
    char what[160];
    const json_t *v = ptq_meta_find(m, key);
    if (!v)
        return required ? missing(m, key, st) : PTQ_OK;
    if (!json_is_string(v))
        return wrong(m, key, v, "text", st);
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], json_string_value(v))) {
            *out = i;
            return PTQ_OK;
        }
    snprintf(what, sizeof what, "value of %s%s", m->prefix, key);
    return ptq_unknown_word_at(m->source, what, json_string_value(v), words, st);
}

int ptq_meta_only(const struct ptq_meta *m, const char *key, const char *word,
                  struct ptq_status *st)
{
    const char *const words[] = {word, NULL};
    int ignored = 0;
    return ptq_meta_word(m, key, false, words, &ignored, st);
}
