#include "core/arena.h"
#include "core/size.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN = 64, CHUNK_BYTES = 1 << 16, SPILL_BYTES = 1 << 14, PAGE = 4096 };

struct ptq_arena_chunk {
    struct ptq_arena_chunk *next;
    size_t size, used;
    unsigned char *at;
    bool mapped; /* in a file of the spill folder */
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
    c->mapped = false;
    return c;
}

/* A file without a name, as large as the piece, in memory's place. */
static void *map_file(const char *folder, size_t bytes, struct ptq_status *st)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), error = errno;
    if (fd < 0) { /* file systems without unnamed files */
        char path[4096];
        if (snprintf(path, sizeof path, "%s/.spill.XXXXXX", folder) < (int)sizeof path &&
            (fd = mkstemp(path)) >= 0)
            unlink(path);
        error = errno;
    }
    if (fd >= 0)
        error = posix_fallocate(fd, 0, (off_t)bytes);
    void *at = fd >= 0 && !error ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                                 : MAP_FAILED;
    if (at == MAP_FAILED)
        ptq_status_set(st, PTQ_ERR_IO,
                       "%s: cannot put %zu MiB there that do not fit into the memory budget: %s",
                       folder, bytes >> 20, strerror(error ? error : errno));
    if (fd >= 0)
        close(fd);
    return at == MAP_FAILED ? NULL : at;
}

static struct ptq_arena_chunk *chunk_spilled(const struct ptq_spill *s, size_t bytes,
                                             struct ptq_status *st)
{
    struct ptq_arena_chunk *c = calloc(1, sizeof *c);
    if (c) {
        c->at = map_file(s->folder, bytes, st);
        c->size = bytes;
        c->mapped = true;
    }
    if (c && !c->at) {
        free(c);
        return NULL;
    }
    return c;
}

static bool goes_to_disk(const struct ptq_arena *a, size_t want)
{
    return a->spill.folder && want >= SPILL_BYTES &&
           a->used_bytes + want > (size_t)a->spill.above_bytes;
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
    const bool disk = goes_to_disk(a, want);
    if (!c || disk || c->size - c->used < want) {
        c = disk ? chunk_spilled(&a->spill, want, st)
                 : chunk_new(want > CHUNK_BYTES ? want : CHUNK_BYTES);
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
    if (!c->mapped) /* a new file reads as zeros */
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

bool ptq_arena_is_spilled(const struct ptq_arena *a, const void *piece)
{
    const unsigned char *p = piece;
    for (const struct ptq_arena_chunk *c = a->head; c; c = c->next)
        if (p >= c->at && p < c->at + c->size)
            return c->mapped;
    return false;
}

/* Whole pages inside the range; dirty ones are written by the system when it likes. */
void ptq_spill_rest(void *at, size_t bytes)
{
    uintptr_t begin = ((uintptr_t)at + PAGE - 1) / PAGE * PAGE,
              end = ((uintptr_t)at + bytes) / PAGE * PAGE;
    if (end > begin)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void ptq_arena_clear(struct ptq_arena *a)
{
    while (a->head) {
        struct ptq_arena_chunk *c = a->head;
        a->head = c->next;
        if (c->mapped)
            munmap(c->at, c->size);
        else
            free(c->at);
        free(c);
    }
    a->used_bytes = 0;
}
