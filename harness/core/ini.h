/* ini.h: the INI reader. Sections in [brackets], `key = value`, comments from ; or # (at line start
 * or after white space), UTF-8, lines of any length, continuation by indentation not supported.
 * Names of sections and keys are made of letters, digits and . _ - only; a section may be opened
 * again. Duplicate keys in a section are errors with both lines. Values keep inner spaces; ${ENV}
 * and a leading ~ are expanded (unknown ENV: error). Files are untrusted: at most 1 MiB, 4096
 * entries and 4 MiB of expanded values. Messages begin with FILE:LINE. */
#ifndef PTQ_CORE_INI_H
#define PTQ_CORE_INI_H
#include "core/arena.h"

struct ptq_ini_entry {
    const char *section, *key, *value;
    int line; /* 0: from the command line */
};
struct ptq_ini {
    const char *file; /* as named in messages */
    struct ptq_ini_entry *entries;
    int64_t n;
};

/* Everything lives in the arena. */
int ptq_ini_read_file(const char *path, struct ptq_arena *, struct ptq_ini *, struct ptq_status *);
int ptq_ini_parse(const char *name, const char *text, size_t bytes, struct ptq_arena *,
                  struct ptq_ini *, struct ptq_status *);
/* SET="sweep.bits=2-4 eval.windows=4": overrides or adds; each word is section.key=value (the
 * section ends at the first dot); values hold no spaces unless quoted '...'. The last one wins. */
int ptq_ini_override(struct ptq_ini *, const char *words, struct ptq_arena *, struct ptq_status *);
const struct ptq_ini_entry *ptq_ini_find(const struct ptq_ini *, const char *section,
                                         const char *key);

/* "demo.ini:12: [sweep] bits" or "command line: [sweep] bits": what the parsers in words.h take as
 * `what`. NULL: no memory. */
const char *ptq_ini_place(const struct ptq_ini *, const struct ptq_ini_entry *, struct ptq_arena *,
                          struct ptq_status *);
/* "demo.ini:12: unknown key in [sweep]: 'bit'; did you mean 'bits'? valid: ..." and the same for a
 * section and for one word of a value (what names it: "method"). Return PTQ_ERR_USAGE; valid is
 * NULL-terminated. */
int ptq_ini_unknown_key(const struct ptq_ini *, const struct ptq_ini_entry *,
                        const char *const *valid, struct ptq_status *);
int ptq_ini_unknown_section(const struct ptq_ini *, const struct ptq_ini_entry *,
                            const char *const *valid, struct ptq_status *);
int ptq_ini_unknown_value(const struct ptq_ini *, const struct ptq_ini_entry *, const char *what,
                          const char *word, const char *const *valid, struct ptq_status *);
#endif
