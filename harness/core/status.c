#include "core/status.h"
#include <stdio.h>

int ptq_status_vset(struct ptq_status *st, enum ptq_code code, const char *fmt, va_list ap)
{
    if (!st)
        return code;
    if (st->code < 0)
        return st->code;
    st->code = code;
    vsnprintf(st->text, sizeof st->text, fmt, ap);
    return code;
}

int ptq_status_set(struct ptq_status *st, enum ptq_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    code = ptq_status_vset(st, code, fmt, ap);
    va_end(ap);
    return code;
}

int ptq_status_nomem(struct ptq_status *st, const char *what, size_t bytes)
{
    return ptq_status_set(
        st, PTQ_ERR_MEMORY,
        "out of memory: %s needs %zu bytes; lower [run] memory or the model's size", what, bytes);
}

void ptq_status_clear(struct ptq_status *st)
{
    st->code = PTQ_OK;
    st->text[0] = 0;
}

int ptq_status_exit_code(int code)
{
    switch (code) {
    case PTQ_OK:
    case PTQ_SKIP: return 0;
    case PTQ_ERR_NUMERIC: return 5;
    case PTQ_ERR_USAGE: return 2;
    default: return 6;
    }
}
