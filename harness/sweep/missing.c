/* missing.c: texts that a configuration names and that are not on this machine. */
#include "model/textfile.h"
#include "sweep/sweep.h"
#include <string.h>
#include <unistd.h>

struct search {
    const struct ptq_known_text *all;
    int64_t n;
    const char **names;
    int64_t n_names;
    struct ptq_arena *arena;
};

/* "wikitext2", "wikitext2:valid": the known text that is read under this name, or NULL. */
static const struct ptq_known_text *find(const struct search *s, const char *name, bool calibration)
{
    size_t stem = strcspn(name, ":");
    for (int64_t i = 0; i < s->n; i++) {
        const struct ptq_known_text *t = &s->all[i];
        bool meant = name[stem]    ? !strcmp(name + stem + 1, t->split)
                     : calibration ? t->calibration
                                   : t->evaluation;
        if (meant && strlen(t->name) == stem && !strncmp(t->name, name, stem))
            return t;
    }
    return NULL;
}

static int look(struct search *s, const char *name, bool calibration, struct ptq_status *st)
{
    static const char stand_in[] = "prose";
    const struct ptq_known_text *t = name ? find(s, name, calibration) : NULL;
    const char *path;
    int code = t ? ptq_known_text_path(t, s->arena, &path, st) : PTQ_OK;
    if (code != PTQ_SKIP)
        return code;
    if (!(s->names[s->n_names++] = ptq_arena_printf(s->arena, st, "%s:%s", t->name, t->split)))
        return PTQ_ERR_MEMORY;
    return strcmp(t->name, stand_in) ? look(s, stand_in, calibration, st) : PTQ_OK;
}

int ptq_config_missing_texts(const struct ptq_config *c, struct ptq_arena *arena,
                             const char ***names, int64_t *n, struct ptq_status *st)
{
    enum { MOST = 6 }; /* three texts, each with its stand-in */
    struct search s = {.arena = arena, .names = ptq_arena_alloc(arena, st, MOST, sizeof *s.names)};
    *names = s.names;
    *n = 0;
    if (!strncmp(c->model.source, "synth:", 6)) /* random weights read no text */
        return s.names ? PTQ_OK : PTQ_ERR_MEMORY;
    bool there = c->fetched || !strcmp(c->model.source, "demo") || !access(c->model.source, F_OK);
    if (!there) /* first things first */
        return s.names ? PTQ_OK : PTQ_ERR_MEMORY;
    int code = s.names ? ptq_known_texts(arena, &s.all, &s.n, st) : PTQ_ERR_MEMORY;
    if (code >= 0)
        code = look(&s, c->calib.text, true, st);
    if (code >= 0)
        code = look(&s, c->calib.heldout, true, st);
    if (code >= 0)
        code = look(&s, c->eval.text, false, st);
    *n = s.n_names;
    return code;
}
