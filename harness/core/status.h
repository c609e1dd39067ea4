/* status.h: one code and one message.
 * A function that can fail returns enum ptq_code (ptq.h) and writes its message once, where the
 * fault is known: file, place, reason, what to do. Callers pass the code up; the first message
 * stays (a later set on a failed status is ignored). Not thread-safe: one status per thread of
 * control. */
#ifndef PTQ_CORE_STATUS_H
#define PTQ_CORE_STATUS_H
#include <stdarg.h>
#include "ptq.h"

struct ptq_status {
    int code;        /* enum ptq_code */
    char text[1024]; /* one line, no trailing newline; "" when code is PTQ_OK */
};

/* Sets code and message unless the status already holds an error (code < 0). Returns the code of
 * the status. st may be NULL. */
int ptq_status_set(struct ptq_status *st, enum ptq_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int ptq_status_vset(struct ptq_status *st, enum ptq_code code, const char *fmt, va_list ap);
/* "out of memory: WHAT needs N bytes" */
int ptq_status_nomem(struct ptq_status *st, const char *what, size_t bytes);
void ptq_status_clear(struct ptq_status *st);
/* Exit code of the program for a status code (design: 0 ok, 2 usage, 5 numeric, 6 incomplete). */
int ptq_status_exit_code(int code);
#endif
