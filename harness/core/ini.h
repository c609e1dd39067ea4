/* ini.h: the INI reader. Sections in [brackets], `key = value`, comments from ; or # (at line start or after white space),
 * UTF-8, lines of any length, continuation by indentation not supported. Duplicate keys in a section are errors with both
 * lines. Files are untrusted: at most 1 MiB. Values keep inner spaces; ${ENV} and a leading ~ are expanded (unknown ENV: error). */
#ifndef PTQ_CORE_INI_H
#define PTQ_CORE_INI_H
#include "core/arena.h"

struct ptq_ini_entry { const char *section, *key, *value; int line; /* 0: from the command line */ };
struct ptq_ini {
    const char *file;           /* as named in messages */
    struct ptq_ini_entry *entries;
    int64_t n;
};

/* Everything lives in the arena. */
int ptq_ini_read_file(const char *path, struct ptq_arena *, struct ptq_ini *, struct ptq_status *);
int ptq_ini_parse(const char *name, const char *text, size_t bytes, struct ptq_arena *, struct ptq_ini *, struct ptq_status *);
/* SET="sweep.bits=2-4 eval.windows=4": overrides or adds; each word is section.key=value; values hold no spaces unless quoted '...'. */
int ptq_ini_override(struct ptq_ini *, const char *words, struct ptq_arena *, struct ptq_status *);
const struct ptq_ini_entry *ptq_ini_find(const struct ptq_ini *, const char *section, const char *key);
#endif
