#include "sweep/store.h"
#include "core/clock.h"
#include "sweep/row.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A power cut may cost this much work, a crash of the program none. */
static const int64_t sync_every_ns = INT64_C(3000000000);

struct ptq_store {
    pthread_mutex_t lock;
    char path[PATH_MAX];
    int fd;
    int64_t size, n_torn, synced_ns;
    int64_t seq;    /* the largest host.seq there is */
    json_t *by_key; /* key -> row */
};

/* ---- files -------------------------------------------------------------------------------------
 */

int ptq_run_file(char *out, size_t size, const char *run_dir, const char *stem,
                 const char *extension, int shard, int n_shards, struct ptq_status *st)
{
    int n = n_shards > 1 ? snprintf(out, size, "%s/%s.%d-of-%d.%s", run_dir, stem, shard + 1,
                                    n_shards, extension)
                         : snprintf(out, size, "%s/%s.%s", run_dir, stem, extension);
    if (n < 0 || (size_t)n >= size)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: the folder's name is too long; choose a shorter one", run_dir);
    return PTQ_OK;
}

static const char *remedy(int error)
{
    if (error == ENOSPC || error == EDQUOT)
        return "free some space, then run the same command again: finished cells are kept";
    if (error == EFBIG)
        return "raise the limit on file sizes (ulimit -f), then run the same command again";
    return "choose a folder that can be written ([run] out)";
}

static int write_failed(const char *path, int error, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_IO, "%s: cannot write: %s; %s", path, strerror(error),
                          remedy(error));
}

int ptq_open_locked(const char *path, int *fd, struct ptq_status *st)
{
    *fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (*fd < 0)
        return write_failed(path, errno, st);
    if (!flock(*fd, LOCK_EX | LOCK_NB))
        return PTQ_OK;
    int error = errno;
    close(*fd);
    *fd = -1;
    if (error == EWOULDBLOCK)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: another sweep is writing here; wait for it, or give this one "
                              "another [run] name or a shard",
                              path);
    return ptq_status_set(st, PTQ_ERR_IO,
                          "%s: cannot lock: %s; choose a folder on a local disk ([run] out)", path,
                          strerror(error));
}

int ptq_append_whole(int fd, const char *path, const void *data, size_t bytes, int64_t *size,
                     struct ptq_status *st)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = write(fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            while (ftruncate(fd, *size) && errno == EINTR)
                ;
            return write_failed(path, error, st);
        }
        done += (size_t)n;
    }
    *size += (int64_t)bytes;
    return PTQ_OK;
}

/* ---- opening -----------------------------------------------------------------------------------
 */

/* Offset after the last newline of the file. */
static int whole_lines(int fd, const char *path, int64_t size, int64_t *end, struct ptq_status *st)
{
    char buffer[4096];
    while (size > 0) {
        int64_t first = size > (int64_t)sizeof buffer ? size - (int64_t)sizeof buffer : 0;
        ssize_t n = pread(fd, buffer, (size_t)(size - first), first);
        if (n != (ssize_t)(size - first))
            return ptq_status_set(st, PTQ_ERR_IO, "%s: cannot read: %s; check the disk", path,
                                  n < 0 ? strerror(errno) : "shorter");
        for (int64_t i = n; i > 0; i--)
            if (buffer[i - 1] == '\n') {
                *end = first + i;
                return PTQ_OK;
            }
        size = first;
    }
    *end = 0;
    return PTQ_OK;
}

/* A line without its newline was being written when the program or the machine stopped. */
static int cut_torn_line(struct ptq_store *s, struct ptq_status *st)
{
    struct stat info;
    if (fstat(s->fd, &info))
        return ptq_status_set(st, PTQ_ERR_IO, "%s: %s", s->path, strerror(errno));
    int code = whole_lines(s->fd, s->path, info.st_size, &s->size, st);
    if (code < 0 || s->size == info.st_size)
        return code;
    s->n_torn = 1;
    return ftruncate(s->fd, s->size) ? write_failed(s->path, errno, st) : PTQ_OK;
}

static int read_rows(struct ptq_store *s, const char *run_dir, struct ptq_status *st)
{
    struct ptq_rows rows = {0};
    int code = ptq_rows_read_all(run_dir, &rows, st);
    for (int64_t i = 0; code >= 0 && i < rows.n; i++) {
        int64_t seq = ptq_row_seq(rows.at[i]);
        s->seq = seq > s->seq ? seq : s->seq;
        if (json_object_set(s->by_key, ptq_row_text(rows.at[i], "key"), rows.at[i]))
            code = ptq_status_nomem(st, "the rows of the run", 0);
    }
    ptq_rows_release(&rows);
    return code;
}

static struct ptq_store *new_store(struct ptq_status *st)
{
    struct ptq_store *s = calloc(1, sizeof *s);
    json_t *by_key = s ? json_object() : NULL;
    if (!by_key) {
        free(s);
        ptq_status_nomem(st, "the results store", sizeof *s);
        return NULL;
    }
    s->fd = -1;
    s->by_key = by_key;
    s->synced_ns = ptq_now_ns();
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

static int give(struct ptq_store *s, int code, struct ptq_store **out)
{
    if (code < 0)
        ptq_store_close(s, NULL);
    else
        *out = s;
    return code < 0 ? code : PTQ_OK;
}

int ptq_store_open(struct ptq_store **out, const char *run_dir, int shard, int n_shards,
                   struct ptq_status *st)
{
    *out = NULL;
    struct ptq_store *s = new_store(st);
    if (!s)
        return PTQ_ERR_MEMORY;
    int code = ptq_make_dirs(run_dir, st);
    if (code >= 0)
        code =
            ptq_run_file(s->path, sizeof s->path, run_dir, "cells", "jsonl", shard, n_shards, st);
    if (code >= 0)
        code = ptq_open_locked(s->path, &s->fd, st);
    if (code >= 0)
        code = cut_torn_line(s, st);
    if (code >= 0)
        code = read_rows(s, run_dir, st);
    return give(s, code, out);
}

int ptq_store_read(struct ptq_store **out, const char *run_dir, struct ptq_status *st)
{
    *out = NULL;
    struct ptq_store *s = new_store(st);
    return s ? give(s, read_rows(s, run_dir, st), out) : PTQ_ERR_MEMORY;
}

int ptq_store_close(struct ptq_store *s, struct ptq_status *st)
{
    int code = PTQ_OK;
    if (!s)
        return PTQ_OK;
    if (s->fd >= 0 && fsync(s->fd) && errno != EINVAL && errno != EROFS)
        code = write_failed(s->path, errno, st);
    if (s->fd >= 0 && close(s->fd) && code == PTQ_OK)
        code = write_failed(s->path, errno, st);
    json_decref(s->by_key);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return code;
}

/* ---- rows --------------------------------------------------------------------------------------
 */

const json_t *ptq_store_find(struct ptq_store *s, const char *key)
{
    pthread_mutex_lock(&s->lock);
    const json_t *row = json_object_get(s->by_key, key);
    pthread_mutex_unlock(&s->lock);
    return row;
}

int64_t ptq_store_next_seq(struct ptq_store *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t seq = ++s->seq;
    pthread_mutex_unlock(&s->lock);
    return seq;
}

static int append_locked(struct ptq_store *s, const char *line, json_t *row, struct ptq_status *st)
{
    int code = ptq_append_whole(s->fd, s->path, line, strlen(line), &s->size, st);
    if (code < 0)
        return code;
    if (json_object_set(s->by_key, ptq_row_text(row, "key"), row))
        return ptq_status_nomem(st, "the rows of the run", 0);
    int64_t now_ns = ptq_now_ns();
    if (now_ns - s->synced_ns < sync_every_ns)
        return PTQ_OK;
    s->synced_ns = now_ns;
    return fdatasync(s->fd) && errno != EINVAL && errno != EROFS ? write_failed(s->path, errno, st)
                                                                 : PTQ_OK;
}

int ptq_store_append(struct ptq_store *s, json_t *row, struct ptq_status *st)
{
    char *line = ptq_json_line(row);
    if (!line)
        return ptq_status_nomem(st, "a row", 0);
    pthread_mutex_lock(&s->lock);
    int code = append_locked(s, line, row, st);
    pthread_mutex_unlock(&s->lock);
    free(line);
    return code;
}

int64_t ptq_store_torn(const struct ptq_store *s)
{
    return s->n_torn;
}
