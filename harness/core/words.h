/* words.h: lists, nearest words and simple matches for messages and configuration. Texts are
 * untrusted. `what` names the text in messages ("demo.ini:12: [sweep] bits"). Errors are
 * PTQ_ERR_USAGE. */
#ifndef PTQ_CORE_WORDS_H
#define PTQ_CORE_WORDS_H
#include "core/arena.h"

/* Copies text for a message: unprintable bytes become '?'; a long text is cut and ends in "...". */
enum { PTQ_PRINTABLE = 80 };
void ptq_printable(const char *text, char out[PTQ_PRINTABLE]);

/* "2-4,8" -> 2 3 4 8; "-1,128,64" -> those; ranges are lo-hi with hi >= lo >= 0. At most 4096
 * values; duplicates are errors. */
int ptq_list_i64(const char *text, const char *what, struct ptq_arena *, int64_t **out, int64_t *n,
                 struct ptq_status *);
int ptq_list_f64(const char *text, const char *what, struct ptq_arena *, double **out, int64_t *n,
                 struct ptq_status *);
/* Splits at sep, trims white space; empty fields are errors, an empty text gives n = 0. */
int ptq_split(const char *text, char sep, const char *what, struct ptq_arena *, char ***out,
              int64_t *n, struct ptq_status *);

/* Whole-string decimal numbers; range checked; never NaN or Inf. */
int ptq_parse_i64(const char *text, const char *what, int64_t min, int64_t max, int64_t *out,
                  struct ptq_status *);
int ptq_parse_f64(const char *text, const char *what, double min, double max, double *out,
                  struct ptq_status *);
/* 1 0 true false yes no on off */
int ptq_parse_bool(const char *text, const char *what, bool *out, struct ptq_status *);
/* "512M", "2G", "65536" -> bytes. */
int ptq_parse_bytes(const char *text, const char *what, int64_t *out, struct ptq_status *);

/* The valid word nearest to `word` (edit distance; case-blind, '-' is '_'), or NULL when none is
 * near (more than a third of it differs). valid is NULL-terminated. */
const char *ptq_nearest(const char *word, const char *const *valid);
/* Sets "unknown WHAT 'word'; did you mean 'x'? valid: a, b, c"; returns PTQ_ERR_USAGE. */
int ptq_unknown_word(const char *what, const char *word, const char *const *valid,
                     struct ptq_status *);
/* The same after a place: "PLACE: unknown WHAT ..."; place "" or NULL: none. */
int ptq_unknown_word_at(const char *place, const char *what, const char *word,
                        const char *const *valid, struct ptq_status *);
bool ptq_starts_with(const char *text, const char *start);
bool ptq_ends_with(const char *text, const char *end);
/* Shell-like match with * and ?. */
bool ptq_glob(const char *pattern, const char *text);
#endif
