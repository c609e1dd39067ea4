/* cmd_synth.c: `ptq synth GENERATOR`: the generators of datasets/synth_*.c. Their options are
 * declared in their own files, so this verb takes the rest of the line as it is. */
#include "cli/cli.h"
#include "core/words.h"
#include "datasets/synth.h"
#include <stdio.h>
#include <string.h>

enum { MAX_OPTS = 32 };

static int unknown_generator(const char *word, struct ptq_status *st)
{
    const char *names[64];
    int n = 0;
    for (const struct ptq_synth *const *s = ptq_synths(); *s && n < 63; s++)
        names[n++] = (*s)->name;
    names[n] = NULL;
    return ptq_unknown_word("generator", word, names, st);
}

static int option_index(const struct ptq_synth *s, const char *word, size_t n)
{
    for (int i = 0; s->opts && s->opts[i].name; i++)
        if (strlen(s->opts[i].name) == n && !strncmp(s->opts[i].name, word, n))
            return i;
    return -1;
}

static int unknown_option(const struct ptq_synth *s, const char *word, struct ptq_status *st)
{
    const char *names[MAX_OPTS + 1];
    int n = 0;
    for (; s->opts && s->opts[n].name && n < MAX_OPTS; n++)
        names[n] = s->opts[n].name;
    names[n] = NULL;
    return ptq_unknown_word("option", word, names, st);
}

/* Words are --name value, --name=value or name=value. */
static int parse(const struct ptq_synth *s, const struct ptq_args *a, const char **values,
                 struct ptq_status *st)
{
    for (int i = 1; i < a->n_positional; i++) {
        const char *w = a->positional[i];
        bool dashes = !strncmp(w, "--", 2);
        const char *name = w + (dashes ? 2 : 0), *eq = strchr(name, '=');
        size_t n = eq ? (size_t)(eq - name) : strlen(name);
        int k = option_index(s, name, n);
        if (k < 0) {
            char word[64];
            snprintf(word, sizeof word, "%.*s", (int)n, name);
            return unknown_option(s, word, st);
        }
        if (!eq && (!dashes || i + 1 >= a->n_positional))
            return ptq_status_set(st, PTQ_ERR_USAGE, "--%s needs a value: %s", s->opts[k].name,
                                  s->opts[k].help);
        values[k] = eq ? eq + 1 : a->positional[++i];
    }
    for (int k = 0; s->opts && s->opts[k].name; k++)
        if (!values[k] && !(values[k] = s->opts[k].def))
            return ptq_status_set(st, PTQ_ERR_USAGE, "--%s is required: %s", s->opts[k].name,
                                  s->opts[k].help);
    return PTQ_OK;
}

static void describe(const struct ptq_synth *s)
{
    printf("%s: %s\n", s->name, s->title);
    for (const struct ptq_synth_opt *o = s->opts; o && o->name; o++)
        printf("  --%-12s %s%s%s%s\n", o->name, o->help, o->def && *o->def ? " [" : "",
               o->def ? o->def : " (required)", o->def && *o->def ? "]" : "");
}

static int run(const struct ptq_args *a, struct ptq_status *st)
{
    if (a->n_positional == 0) {
        for (const struct ptq_synth *const *s = ptq_synths(); *s; s++)
            describe(*s);
        return PTQ_OK;
    }
    const struct ptq_synth *s = ptq_synth_find(a->positional[0]);
    if (!s)
        return unknown_generator(a->positional[0], st);
    if (a->n_positional == 2 && !strcmp(a->positional[1], "help")) {
        describe(s);
        return PTQ_OK;
    }
    const char *values[MAX_OPTS] = {NULL};
    int code = parse(s, a, values, st);
    return code ? code : s->run(values, stdout, st);
}

static const struct ptq_flag flags[] = {{NULL}};
const struct ptq_verb ptq_verb_synth = {
    .name = "synth",
    .title = "Generate data: the demo language, layers of a chosen spectrum",
    .usage = "[GENERATOR [--option value ...]]",
    .details =
        "Without a generator: lists them with their options. `ptq synth GENERATOR help` lists "
        "one.\n"
        "Results are the same bytes on every machine for the same options.\n"
        "  ptq synth facts --seed 5555 --windows 256 --out facts.txt\n"
        "  ptq synth layer --rows 256 --cols 512 --spectrum power:1 --sink .99 --out layer.h5",
    .flags = flags,
    .min_positional = 0,
    .max_positional = PTQ_MAX_POSITIONAL,
    .raw = true,
    .run = run,
};
