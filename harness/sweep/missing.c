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

/* A text and, when it is not here, the one that would stand in for it. */
static int look(struct search *s, const struct ptq_known_text *t, bool calibration,
                struct ptq_status *st)
{
    const char *path;
    int code = t ? ptq_known_text_path(t, s->arena, &path, st) : PTQ_OK;
    if (code != PTQ_SKIP)
        return code;
    if (!(s->names[s->n_names++] = ptq_arena_printf(s->arena, st, "%s:%s", t->name, t->split)))
        return PTQ_ERR_MEMORY;
    if (t->stands_for)
        return PTQ_OK;
    return look(s, ptq_known_text_stand_in(s->all, s->n, calibration), calibration, st);
}

static int look_for(struct search *s, const char *name, bool calibration, struct ptq_status *st)
{
    return name ? look(s, ptq_known_text_find(s->all, s->n, name, calibration), calibration, st)
                : PTQ_OK;
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
        code = look_for(&s, c->calib.text, true, st);
    if (code >= 0)
        code = look_for(&s, c->calib.heldout, true, st);
    if (code >= 0)
        code = look_for(&s, c->eval.text, false, st);
    *n = s.n_names;
    return code;
}
