#include "datasets/tensors.h"
#include "core/hash.h"
#include "core/words.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRY(name, hash) extern const struct ptq_file_format ptq_format_##name;
#include "formats.inc"
#undef ENTRY

enum { PIECE_BYTES = 1 << 20 };

const struct ptq_file_format *const *ptq_formats(void)
{
#define ENTRY(name, hash) &ptq_format_##name,
    static const struct ptq_file_format *const table[] = {
#include "formats.inc"
        NULL};
#undef ENTRY
    return table;
}

/* ---- files */

int ptq_bytes_open(struct ptq_bytes *b, const char *path, struct ptq_arena *a,
                   struct ptq_status *st)
{
    struct stat info;
    *b = (struct ptq_bytes){.fd = -1, .path = ptq_arena_strdup(a, st, path)};
    if (!b->path)
        return PTQ_ERR_MEMORY;
    /* O_NONBLOCK: a pipe under this name must not hang the program. */
    b->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (b->fd < 0)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(b->fd, &info) || !S_ISREG(info.st_mode)) {
        ptq_bytes_close(b);
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: not a regular file", path);
    }
    b->size = info.st_size;
    return PTQ_OK;
}

void ptq_bytes_close(struct ptq_bytes *b)
{
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
}

int ptq_bytes_read(const struct ptq_bytes *b, int64_t at, int64_t n, void *out,
                   struct ptq_status *st)
{
    if (at < 0 || n < 0 || at > b->size || n > b->size - at)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: bytes %lld .. %lld are wanted, the file has %lld: truncated; "
                              "get it again",
                              b->path, (long long)at, (long long)(at + n), (long long)b->size);
    for (int64_t done = 0; done < n;) {
        ssize_t got = pread(b->fd, (char *)out + done, (size_t)(n - done), at + done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return ptq_status_set(st, PTQ_ERR_IO, "%s: reading at byte %lld: %s", b->path,
                                  (long long)(at + done), strerror(errno));
        if (got == 0)
            return ptq_status_set(st, PTQ_ERR_IO, "%s: the file became shorter while it was read",
                                  b->path);
        done += got;
    }
    return PTQ_OK;
}

/* ---- opening */

static int probe(const char *source, struct ptq_probe *p, struct ptq_status *st)
{
    struct stat info;
    struct ptq_bytes file;
    struct ptq_arena a;
    *p = (struct ptq_probe){.path = source};
    if (!strncmp(source, "synth:", 6)) /* made on demand: there is no file */
        return PTQ_OK;
    if (stat(source, &info))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: cannot open: %s", source, strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        p->is_folder = true;
        return PTQ_OK;
    }
    ptq_arena_init(&a, 0);
    int rc = ptq_bytes_open(&file, source, &a, st);
    if (!rc) {
        p->bytes = file.size;
        int64_t n = file.size < (int64_t)sizeof p->head ? file.size : (int64_t)sizeof p->head;
        rc = ptq_bytes_read(&file, 0, n, p->head, st);
        ptq_bytes_close(&file);
    }
    ptq_arena_clear(&a);
    return rc;
}

static int unknown(const char *source, struct ptq_status *st)
{
    char list[512] = "";
    const struct ptq_file_format *const *all = ptq_formats();
    for (int i = 0; all[i]; i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", all[i]->title);
    }
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: no known kind of checkpoint; known: %s", source,
                          list);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ptq_tensor *)a)->name, ((const struct ptq_tensor *)b)->name);
}

static int sort_tensors(struct ptq_tensors *t, struct ptq_status *st)
{
    if (t->n)
        qsort(t->tensor, (size_t)t->n, sizeof *t->tensor, by_name);
    for (int64_t i = 1; i < t->n; i++)
        if (!strcmp(t->tensor[i].name, t->tensor[i - 1].name)) {
            char name[PTQ_PRINTABLE];
            ptq_printable(t->tensor[i].name, name);
            return ptq_status_set(st, PTQ_ERR_USAGE, "%s: tensor %s is there twice", t->path, name);
        }
    return PTQ_OK;
}

int ptq_tensors_open(struct ptq_tensors **out, const char *source, struct ptq_status *st)
{
    struct ptq_probe p;
    const struct ptq_file_format *const *all = ptq_formats();
    *out = NULL;
    int rc = probe(source, &p, st);
    if (rc)
        return rc;
    while (*all && !(*all)->probe(&p))
        all++;
    if (!*all)
        return unknown(source, st);
    struct ptq_tensors *t = calloc(1, sizeof *t);
    if (!t)
        return ptq_status_nomem(st, "a checkpoint", sizeof *t);
    ptq_arena_init(&t->arena, 0);
    t->format = *all;
    t->path = ptq_arena_strdup(&t->arena, st, source);
    rc = t->path ? t->format->open(t, &p, st) : PTQ_ERR_MEMORY;
    if (!rc)
        rc = sort_tensors(t, st);
    if (rc)
        ptq_tensors_close(t);
    else
        *out = t;
    return rc;
}

void ptq_tensors_close(struct ptq_tensors *t)
{
    if (!t)
        return;
    t->format->close(t);
    json_decref(t->meta);
    ptq_arena_clear(&t->arena);
    free(t);
}

const struct ptq_tensor *ptq_tensors_find(const struct ptq_tensors *t, const char *name)
{
    const struct ptq_tensor key = {.name = name};
    return t->n ? bsearch(&key, t->tensor, (size_t)t->n, sizeof key, by_name) : NULL;
}

int ptq_tensors_read(const struct ptq_tensors *t, const struct ptq_tensor *x, int64_t first,
                     int64_t n, float *out, struct ptq_status *st)
{
    assert(first >= 0 && n >= 0 && first <= x->n && n <= x->n - first);
    return n ? t->format->read(t, x, first, n, out, st) : PTQ_OK;
}

/* ---- the key */

static int add_tensor(const struct ptq_tensors *t, const struct ptq_tensor *x, char *piece,
                      struct ptq_hasher *h, struct ptq_status *st)
{
    ptq_hasher_add_text(h, x->name);
    ptq_hasher_add_text(h, x->type);
    ptq_hasher_add_i64(h, x->rank);
    for (int i = 0; i < x->rank; i++)
        ptq_hasher_add_i64(h, x->dim[i]);
    const int64_t bytes = t->format->n_bytes(x);
    int rc = PTQ_OK;
    for (int64_t at = 0; at < bytes && !rc; at += PIECE_BYTES) {
        int64_t n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        if (!(rc = t->format->bytes(t, x, at, n, piece, st)))
            ptq_hasher_add(h, piece, (size_t)n);
    }
    return rc;
}

int ptq_tensors_key(const struct ptq_tensors *t, char out[33], struct ptq_status *st)
{
    struct ptq_hasher *h = ptq_hasher_new();
    char *piece = malloc(PIECE_BYTES), *meta = json_dumps(t->meta, JSON_COMPACT | JSON_SORT_KEYS);
    int rc =
        h && piece && meta ? PTQ_OK : ptq_status_nomem(st, "the key of a checkpoint", PIECE_BYTES);
    if (!rc)
        ptq_hasher_add_text(h, meta);
    for (int64_t i = 0; i < t->n && !rc; i++)
        rc = add_tensor(t, &t->tensor[i], piece, h, st);
    ptq_hasher_done(h, out);
    free(piece);
    free(meta);
    return rc;
}
