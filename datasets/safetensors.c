#include "datasets/safetensors.h"
#include "core/half.h"
#include "core/size.h"
#include "core/sync.h"
#include "core/words.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 1 << 14 }; /* values converted at once */

struct place {
    const char *name;
    enum ptq_st_type type;
    int64_t at, n; /* byte from the values' begin; values */
};
struct ptq_st_writer {
    struct ptq_arena arena;
    char *path, *temporary;
    int fd;
    int failed;   /* the first error's code: nothing is kept */
    int64_t data; /* where the values begin */
    struct place *place;
    int64_t n, now, done; /* tensors; the one that is written, and how many of its values are */
};

static const char *const words[] = {"F32", "F16", "BF16"};

static int width(enum ptq_st_type type)
{
    return type == PTQ_ST_F32 ? 4 : 2;
}

static int io_error(const struct ptq_st_writer *w, int error, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_IO, "%s: cannot write: %s; %s", w->path, strerror(error),
                          error == ENOSPC || error == EDQUOT
                              ? "free some space or choose another disk, then run again"
                              : "choose a folder that can be written");
}

static int write_at(const struct ptq_st_writer *w, int64_t at, const void *from, int64_t bytes,
                    struct ptq_status *st)
{
    for (int64_t done = 0; done < bytes;) {
        ssize_t n = pwrite(w->fd, (const char *)from + done, (size_t)(bytes - done), at + done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_error(w, errno, st);
        done += n;
    }
    return PTQ_OK;
}

/* ---- the header */

static int bad_entry(const struct ptq_st_writer *w, const char *name, const char *why,
                     struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(name, shown);
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: tensor %s cannot be written: %s", w->path, shown,
                          why);
}

static int take_entries(struct ptq_st_writer *w, const struct ptq_st_entry *e, int64_t n,
                        struct ptq_status *st)
{
    w->n = n;
    w->place = ptq_arena_alloc(&w->arena, st, n, sizeof *w->place);
    if (!w->place)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        struct place *p = &w->place[i];
        assert(e[i].rank >= 0 && e[i].rank <= 4);
        p->type = e[i].type;
        p->n = 1;
        for (int k = 0; k < e[i].rank; k++)
            if (!ptq_size_mul(p->n, e[i].dim[k], &p->n))
                return bad_entry(w, e[i].name, "its shape overflows", st);
        if (!(p->name = ptq_arena_strdup(&w->arena, st, e[i].name)))
            return PTQ_ERR_MEMORY;
    }
    return PTQ_OK;
}

/* Wide types first, so that every tensor is aligned to its own width whatever their order. */
static int lay_out(struct ptq_st_writer *w, struct ptq_status *st)
{
    int64_t end = 0, bytes;
    for (int wide = 1; wide >= 0; wide--)
        for (int64_t i = 0; i < w->n; i++) {
            struct place *p = &w->place[i];
            if ((p->type == PTQ_ST_F32) != wide)
                continue;
            p->at = end;
            if (!ptq_size_mul(p->n, width(p->type), &bytes) || !ptq_size_add(end, bytes, &end))
                return bad_entry(w, p->name, "the file would be too large", st);
        }
    return PTQ_OK;
}

static json_t *entry_json(const struct place *p, const struct ptq_st_entry *e)
{
    json_t *shape = json_array();
    for (int i = 0; i < e->rank; i++)
        json_array_append_new(shape, json_integer(e->dim[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", words[p->type], "shape", shape,
                     "data_offsets", (json_int_t)p->at,
                     (json_int_t)(p->at + p->n * width(p->type)));
}

static int header_json(const struct ptq_st_writer *w, const struct ptq_st_entry *e,
                       const char *const *metadata, json_t *root, struct ptq_status *st)
{
    json_t *meta = metadata ? json_object() : NULL;
    for (int i = 0; metadata && metadata[i]; i += 2)
        if (json_object_set_new(meta, metadata[i], json_string(metadata[i + 1]))) {
            json_decref(meta);
            return ptq_status_set(st, PTQ_ERR_USAGE, "%s: its metadata are no UTF-8", w->path);
        }
    if (meta)
        json_object_set_new(root, "__metadata__", meta);
    for (int64_t i = 0; i < w->n; i++) {
        if (!strcmp(e[i].name, "__metadata__") || json_object_get(root, e[i].name))
            return bad_entry(w, e[i].name, "the name is taken", st);
        if (json_object_set_new(root, e[i].name, entry_json(&w->place[i], &e[i])))
            return bad_entry(w, e[i].name, "the name is no UTF-8", st);
    }
    return PTQ_OK;
}

/* Length, JSON, and spaces so that the values begin at a multiple of 8. */
static int write_header(struct ptq_st_writer *w, const json_t *root, struct ptq_status *st)
{
    unsigned char length[8];
    char *text = json_dumps(root, JSON_COMPACT);
    if (!text)
        return ptq_status_nomem(st, w->path, 1);
    const int64_t n = (int64_t)strlen(text), padded = (n + 7) / 8 * 8;
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    w->data = 8 + padded;
    int rc = write_at(w, 0, length, 8, st);
    if (!rc)
        rc = write_at(w, 8, text, n, st);
    if (!rc)
        rc = write_at(w, 8 + n, "        ", padded - n, st);
    free(text);
    return rc;
}

/* ---- life */

static int create_file(struct ptq_st_writer *w, const json_t *root, struct ptq_status *st)
{
    w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    return w->fd < 0 ? io_error(w, errno, st) : write_header(w, root, st);
}

static void release(struct ptq_st_writer *w, bool keep)
{
    if (w->fd >= 0) {
        close(w->fd);
        if (!keep)
            unlink(w->temporary);
    }
    ptq_arena_clear(&w->arena);
    free(w);
}

static int prepare(struct ptq_st_writer *w, const char *path, const struct ptq_st_entry *e,
                   int64_t n, struct ptq_status *st)
{
    w->path = ptq_arena_strdup(&w->arena, st, path);
    w->temporary = ptq_arena_printf(&w->arena, st, "%s.tmp", path);
    if (!w->path || !w->temporary)
        return PTQ_ERR_MEMORY;
    int rc = take_entries(w, e, n, st);
    return rc ? rc : lay_out(w, st);
}

int ptq_st_create(struct ptq_st_writer **out, const char *path, const struct ptq_st_entry *e,
                  int64_t n, const char *const *metadata, struct ptq_status *st)
{
    *out = NULL;
    struct ptq_st_writer *w = calloc(1, sizeof *w);
    json_t *root = json_object();
    int rc = w && root ? PTQ_OK : ptq_status_nomem(st, path, sizeof *w);
    if (w) {
        w->fd = -1;
        ptq_arena_init(&w->arena, 0);
    }
    if (!rc)
        rc = prepare(w, path, e, n, st);
    if (!rc)
        rc = header_json(w, e, metadata, root, st);
    if (!rc)
        rc = create_file(w, root, st);
    json_decref(root);
    if (rc && w)
        release(w, false);
    else
        *out = w;
    return rc;
}

/* ---- values */

static bool is_inf16(enum ptq_st_type type, uint16_t v)
{
    const uint16_t inf = type == PTQ_ST_F16 ? 0x7c00 : 0x7f80;
    return (v & 0x7fff) == inf;
}

/* The index of the first finite value that does not fit, or -1. */
static int64_t narrow(enum ptq_st_type type, const float *x, int64_t n, uint16_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = type == PTQ_ST_F16 ? ptq_f16_from_f32(x[i]) : ptq_bf16_from_f32(x[i]);
        if (is_inf16(type, out[i]) && isfinite(x[i]))
            return i;
    }
    return -1;
}

/* Values of one tensor, at most PIECE. */
static int write_piece(struct ptq_st_writer *w, const float *x, int64_t n, struct ptq_status *st)
{
    uint16_t half[PIECE];
    const struct place *p = &w->place[w->now];
    const void *from = x;
    if (p->type != PTQ_ST_F32) {
        int64_t bad = narrow(p->type, x, n, half);
        char shown[PTQ_PRINTABLE];
        ptq_printable(p->name, shown);
        if (bad >= 0)
            return ptq_status_set(
                st, PTQ_ERR_NUMERIC,
                "%s: tensor %s: value %lld is %g, more than %s holds; write it as "
                "F32",
                w->path, shown, (long long)(w->done + bad), (double)x[bad], words[p->type]);
        from = half;
    }
    return write_at(w, w->data + p->at + w->done * width(p->type), from, n * width(p->type), st);
}

int ptq_st_write(struct ptq_st_writer *w, const float *x, int64_t n, struct ptq_status *st)
{
    while (n && !w->failed) {
        assert(w->now < w->n); /* more values than were announced */
        int64_t piece = w->place[w->now].n - w->done;
        piece = piece < n ? piece : n;
        piece = piece < PIECE ? piece : PIECE;
        w->failed = write_piece(w, x, piece, st);
        w->done += piece, x += piece, n -= piece;
        if (w->done == w->place[w->now].n)
            w->now++, w->done = 0;
    }
    return w->failed;
}

int ptq_st_finish(struct ptq_st_writer *w, bool keep, struct ptq_status *st)
{
    int rc = w->failed;
    if (keep && !rc) {
        while (w->now < w->n && w->place[w->now].n == 0)
            w->now++;
        assert(w->now == w->n);
        int error = ptq_sync_file(w->fd);
        if (error)
            rc = io_error(w, error, st);
        if (!rc && rename(w->temporary, w->path))
            rc = io_error(w, errno, st);
        if (!rc)
            ptq_sync_folder_of(w->path);
    }
    release(w, keep && !rc);
    return rc;
}
