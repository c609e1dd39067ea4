#include "cli/verbs.h"
#include "core/words.h"
#include <assert.h>
#include <string.h>

#define ENTRY(name, version) extern const struct ptq_verb ptq_verb_##name;
#include "verbs.inc"
#undef ENTRY

const struct ptq_verb *const *ptq_verbs(void)
{
#define ENTRY(name, version) &ptq_verb_##name,
    static const struct ptq_verb *const all[] = {
#include "verbs.inc"
        NULL};
#undef ENTRY
    return all;
}

enum { MAX_FLAGS = sizeof((struct ptq_args *)0)->value / sizeof(char *) };

static int flag_index(const struct ptq_verb *verb, const char *name, size_t n)
{
    for (int i = 0; verb->flags && verb->flags[i].name; i++) {
        const struct ptq_flag *f = &verb->flags[i];
        if ((strlen(f->name) == n && !strncmp(f->name, name, n)) ||
            (f->alias && strlen(f->alias) == n && !strncmp(f->alias, name, n)))
            return i;
    }
    return -1;
}

bool ptq_has_flag(const struct ptq_verb *verb, const char *flag)
{
    return flag_index(verb, flag, strlen(flag)) >= 0;
}

const char *ptq_arg(const struct ptq_args *a, const char *flag)
{
    int i = flag_index(a->verb, flag, strlen(flag));
    assert(i >= 0 && i < MAX_FLAGS);
    return a->value[i];
}

int ptq_arg_i64(const struct ptq_args *a, const char *flag, int64_t min, int64_t max, int64_t *out,
                struct ptq_status *st)
{
    char what[64];
    if (!ptq_arg(a, flag))
        return PTQ_OK;
    snprintf(what, sizeof what, "--%s", flag);
    return ptq_parse_i64(ptq_arg(a, flag), what, min, max, out, st);
}

static int letter_index(const struct ptq_verb *verb, char letter)
{
    for (int i = 0; verb->flags && verb->flags[i].name; i++)
        if (verb->flags[i].letter == letter && letter)
            return i;
    return -1;
}

static int unknown_flag(const struct ptq_verb *verb, const char *word, struct ptq_status *st)
{
    const char *names[MAX_FLAGS + 2];
    char text[MAX_FLAGS + 1][40];
    int n = 0;
    for (int i = 0; verb->flags && verb->flags[i].name && n < MAX_FLAGS; i++, n++) {
        snprintf(text[n], sizeof text[n], "--%s", verb->flags[i].name);
        names[n] = text[n];
    }
    names[n++] = "--help";
    names[n] = NULL;
    return ptq_unknown_word("option", word, names, st);
}

/* Sets flag i from `inline_value` (--name=value) or the next word; *at is advanced past what was
 * used. */
static int set_flag(struct ptq_args *a, int i, const char *inline_value, int argc, char **argv,
                    int *at, struct ptq_status *st)
{
    const struct ptq_flag *f = &a->verb->flags[i];
    if (a->value[i])
        return ptq_status_set(st, PTQ_ERR_USAGE, "--%s is given twice", f->name);
    if (f->kind == PTQ_FLAG_SWITCH) {
        if (inline_value)
            return ptq_status_set(st, PTQ_ERR_USAGE, "--%s takes no value", f->name);
        a->value[i] = "1";
        return PTQ_OK;
    }
    if (!inline_value) {
        if (*at + 1 >= argc)
            return ptq_status_set(st, PTQ_ERR_USAGE, "--%s needs a value: %s", f->name,
                                  f->value_name);
        inline_value = argv[++*at];
    }
    a->value[i] = inline_value;
    return PTQ_OK;
}

static int parse_word(struct ptq_args *a, int argc, char **argv, int *at, struct ptq_status *st)
{
    const char *w = argv[*at];
    int i;
    if (!a->verb->raw && w[0] == '-' && w[1] == '-' && w[2]) {
        const char *eq = strchr(w, '=');
        i = flag_index(a->verb, w + 2, eq ? (size_t)(eq - w - 2) : strlen(w + 2));
        return i < 0 ? unknown_flag(a->verb, w, st)
                     : set_flag(a, i, eq ? eq + 1 : NULL, argc, argv, at, st);
    }
    if (!a->verb->raw && w[0] == '-' && w[1] && !(w[1] >= '0' && w[1] <= '9')) {
        i = letter_index(a->verb, w[1]);
        return i < 0 ? unknown_flag(a->verb, w, st)
                     : set_flag(a, i, w[2] ? w + 2 : NULL, argc, argv, at, st);
    }
    if (a->n_positional >= a->verb->max_positional)
        return ptq_status_set(st, PTQ_ERR_USAGE, "one argument too many: '%s'; usage: ptq %s %s", w,
                              a->verb->name, a->verb->usage);
    a->positional[a->n_positional++] = w;
    return PTQ_OK;
}

int ptq_args_parse(struct ptq_args *a, const struct ptq_verb *verb, int argc, char **argv,
                   bool *help, struct ptq_status *st)
{
    memset(a, 0, sizeof *a);
    a->verb = verb;
    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            *help = true;
            return PTQ_OK;
        }
    for (int i = 0; i < argc; i++) {
        int code = parse_word(a, argc, argv, &i, st);
        if (code)
            return code;
    }
    if (a->n_positional < verb->min_positional)
        return ptq_status_set(st, PTQ_ERR_USAGE, "something is missing; usage: ptq %s %s",
                              verb->name, verb->usage);
    return PTQ_OK;
}

void ptq_verb_help(const struct ptq_verb *verb, FILE *f)
{
    fprintf(f, "usage: ptq %s %s\n%s.\n\n%s\n", verb->name, verb->usage, verb->title,
            verb->details ? verb->details : "");
    if (verb->flags && verb->flags[0].name)
        fputs("\noptions:\n", f);
    for (int i = 0; verb->flags && verb->flags[i].name; i++) {
        const struct ptq_flag *g = &verb->flags[i];
        char left[64], letter[8] = "";
        if (g->letter)
            snprintf(letter, sizeof letter, "-%c, ", g->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, g->name, g->value_name ? " " : "",
                 g->value_name ? g->value_name : "");
        fprintf(f, "  %-28s %s\n", left, g->help);
    }
}
