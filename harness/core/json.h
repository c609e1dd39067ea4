/* json.h: small helpers over jansson for rows: numbers with 17 digits, NaN and Inf as null, atomic
 * whole-file writes, capped reads. */
#ifndef PTQ_CORE_JSON_H
#define PTQ_CORE_JSON_H
#include <jansson.h>
#include "core/status.h"

/* A JSON real, or null when v is not finite. */
json_t *ptq_json_num(double v);
/* One line (compact, keys in insertion order, 17 digits), malloc'ed, newline at the end; NULL: no
 * memory. */
char *ptq_json_line(const json_t *);
/* Writes text to path.tmp, fsyncs, renames: the file is whole or untouched. A device or pipe is
 * written in place. */
int ptq_write_file(const char *path, const char *text, size_t bytes, struct ptq_status *);
/* Reads a whole regular file of at most max_bytes; NUL-terminated, malloc'ed. PTQ_ERR_USAGE when
 * absent, too long or no regular file. */
int ptq_read_file(const char *path, size_t max_bytes, char **text, size_t *bytes,
                  struct ptq_status *);
/* The parser's memory grows with the values, its stack with the depth: both are counted before it
 * runs. NULL, or why the text is refused: "nested too deep", "too many values". */
const char *ptq_json_too_much(const char *text, size_t bytes, int64_t most_depth,
                              int64_t most_values);
/* mkdir -p. */
int ptq_make_dirs(const char *path, struct ptq_status *);
#endif
