#include "core/arena.h"
#include "core/size.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, CHUNK_BYTES = 1 << 16 };

struct ptq_arena_chunk {
    struct ptq_arena_chunk *next;
    size_t size, used;
    unsigned char *at;
};

void ptq_arena_init(struct ptq_arena *a, size_t limit_bytes)
{
    memset(a, 0, sizeof *a);
    a->limit_bytes = limit_bytes;
}

static struct ptq_arena_chunk *chunk_new(size_t bytes)
{
    struct ptq_arena_chunk *c = malloc(sizeof *c);
    if (!c)
        return NULL;
    c->at = aligned_alloc(ALIGN, bytes);
    if (!c->at) {
        free(c);
        return NULL;
    }
    c->size = bytes;
    c->used = 0;
    c->next = NULL;
    return c;
}

void *ptq_arena_alloc(struct ptq_arena *a, struct ptq_status *st, int64_t n, size_t size)
{
    int64_t bytes;
    if (!ptq_size_mul(n, (int64_t)size, &bytes) || bytes > INT64_MAX - ALIGN) {
        ptq_status_set(st, PTQ_ERR_MEMORY, "a size overflows: %lld elements of %zu bytes",
                       (long long)n, size);
        return NULL;
    }
    size_t want = ((size_t)bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (!want)
        want = ALIGN;
    if (a->limit_bytes &&
        want > a->limit_bytes - (a->used_bytes < a->limit_bytes ? a->used_bytes : a->limit_bytes)) {
        ptq_status_nomem(st, "an arena over its limit", want);
        return NULL;
    }
    struct ptq_arena_chunk *c = a->head;
    if (!c || c->size - c->used < want) {
        c = chunk_new(want > CHUNK_BYTES ? want : CHUNK_BYTES);
        if (!c) {
            ptq_status_nomem(st, "an arena", want);
            return NULL;
        }
        c->next = a->head;
        a->head = c;
    }
    void *p = c->at + c->used;
    c->used += want;
    a->used_bytes += want;
    if (a->used_bytes > a->peak_bytes)
        a->peak_bytes = a->used_bytes;
    memset(p, 0, want);
    return p;
}

char *ptq_arena_strdup(struct ptq_arena *a, struct ptq_status *st, const char *text)
{
    size_t n = strlen(text) + 1;
    char *p = ptq_arena_alloc(a, st, (int64_t)n, 1);
    return p ? memcpy(p, text, n) : NULL;
}

char *ptq_arena_printf(struct ptq_arena *a, struct ptq_status *st, const char *fmt, ...)
{
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : ptq_arena_alloc(a, st, (int64_t)n + 1, 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, ap2);
    va_end(ap2);
    return p;
}

void ptq_arena_clear(struct ptq_arena *a)
{
    while (a->head) {
        struct ptq_arena_chunk *c = a->head;
        a->head = c->next;
        free(c->at);
        free(c);
    }
    a->used_bytes = 0;
}
