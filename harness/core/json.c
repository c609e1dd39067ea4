#include "core/json.h"
#include "core/sync.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

json_t *ptq_json_num(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

char *ptq_json_line(const json_t *row)
{
    char *text = json_dumps(row, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    if (!text)
        return NULL;
    size_t n = strlen(text);
    char *line = realloc(text, n + 2);
    if (!line) {
        free(text);
        return NULL;
    }
    memcpy(line + n, "\n", 2);
    return line;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_failed(const char *path, int error, struct ptq_status *st)
{
    const char *remedy = "choose a folder that can be written";
    if (error == ENOSPC || error == EDQUOT)
        remedy = "free some space or choose a folder on another disk, then run again";
    else if (error == EFBIG)
        remedy = "raise the limit on file sizes (ulimit -f)";
    return ptq_status_set(st, PTQ_ERR_IO, "%s: cannot write: %s; %s", path, strerror(error),
                          remedy);
}

/* 0 or errno. */
static int write_all(int fd, const char *text, size_t bytes)
{
    while (bytes) {
        ssize_t n = write(fd, text, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        text += n;
        bytes -= (size_t)n;
    }
    return 0;
}

/* 0 or errno. */
static int write_and_close(int fd, const char *text, size_t bytes)
{
    int error = write_all(fd, text, bytes);
    if (!error)
        error = ptq_sync_file(fd);
    if (close(fd) && !error)
        error = errno;
    return error;
}

/* A device or pipe is written in place: a rename would put a file where it was. */
static int write_in_place(const char *path, const char *text, size_t bytes, struct ptq_status *st)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int error = fd < 0 ? errno : write_and_close(fd, text, bytes);
    return error ? write_failed(path, error, st) : PTQ_OK;
}

int ptq_write_file(const char *path, const char *text, size_t bytes, struct ptq_status *st)
{
    struct stat info;
    char temporary[PATH_MAX];
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return write_failed(path, EISDIR, st);
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return write_in_place(path, text, bytes, st);
    if (snprintf(temporary, sizeof temporary, "%s.tmp", path) >= (int)sizeof temporary)
        return write_failed(path, ENAMETOOLONG, st);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return write_failed(path, errno, st);
    int error = write_and_close(fd, text, bytes);
    if (!error && rename(temporary, path))
        error = errno;
    if (error) {
        unlink(temporary);
        return write_failed(path, error, st);
    }
    ptq_sync_folder_of(path);
    return PTQ_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_failed(const char *path, int error, struct ptq_status *st)
{
    bool absent = error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG;
    return ptq_status_set(st, absent ? PTQ_ERR_USAGE : PTQ_ERR_IO, "%s: cannot read: %s; %s", path,
                          strerror(error),
                          absent ? "check the name" : "check permissions and the disk");
}

/* Opens without waiting for a pipe's other end, and looks before it reads. */
static int open_regular(const char *path, size_t max_bytes, int *fd, size_t *bytes,
                        struct ptq_status *st)
{
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0)
        return read_failed(path, errno, st);
    if (fstat(*fd, &info))
        return read_failed(path, errno, st);
    if (!S_ISREG(info.st_mode))
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: not a regular file (%s); copy its contents to a file first",
                              path, S_ISDIR(info.st_mode) ? "a folder" : "a pipe or device");
    if ((uintmax_t)info.st_size > max_bytes)
        return ptq_status_set(
            st, PTQ_ERR_USAGE,
            "%s: %lld bytes, more than the %zu this kind of file may have; is it the right file?",
            path, (long long)info.st_size, max_bytes);
    *bytes = (size_t)info.st_size;
    return PTQ_OK;
}

/* Fills text with up to `bytes` bytes; *got is less when the file shrank meanwhile. */
static int read_all(int fd, const char *path, char *text, size_t bytes, size_t *got,
                    struct ptq_status *st)
{
    *got = 0;
    while (*got < bytes) {
        ssize_t n = read(fd, text + *got, bytes - *got);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return read_failed(path, errno, st);
        *got += n > 0 ? (size_t)n : 0;
    }
    return PTQ_OK;
}

int ptq_read_file(const char *path, size_t max_bytes, char **text, size_t *bytes,
                  struct ptq_status *st)
{
    int fd = -1;
    size_t size = 0, got = 0;
    char *buffer = NULL;
    *text = NULL;
    *bytes = 0;
    int code = open_regular(path, max_bytes, &fd, &size, st);
    if (code == PTQ_OK && !(buffer = size < SIZE_MAX ? malloc(size + 1) : NULL))
        code = ptq_status_nomem(st, path, size);
    if (code == PTQ_OK)
        code = read_all(fd, path, buffer, size, &got, st);
    if (fd >= 0)
        close(fd);
    if (code != PTQ_OK) {
        free(buffer);
        return code;
    }
    buffer[got] = 0;
    *text = buffer;
    *bytes = got;
    return PTQ_OK;
}

/* ---- folders --------------------------------------------------------------------------------- */

static int make_one(const char *path, struct ptq_status *st)
{
    struct stat info;
    if (mkdir(path, 0777) == 0)
        return PTQ_OK;
    int error = errno;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            return PTQ_OK;
        error = ENOTDIR;
    }
    return ptq_status_set(st, PTQ_ERR_IO,
                          "%s: cannot make the folder: %s; choose a folder that can be written",
                          path, strerror(error));
}

int ptq_make_dirs(const char *path, struct ptq_status *st)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (!n || n >= sizeof part)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "a folder name of %zu bytes; give one of 1 to %zu bytes", n,
                              sizeof part - 1);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0)
            continue;
        part[i] = 0;
        int code = make_one(part, st);
        if (code != PTQ_OK)
            return code;
        part[i] = path[i];
    }
    return PTQ_OK;
}

/* Brackets inside texts do not count. */
const char *ptq_json_too_much(const char *text, size_t bytes, int64_t most_depth,
                              int64_t most_values)
{
    int64_t depth = 0, values = 0;
    bool quoted = false;
    for (size_t i = 0; i < bytes; i++) {
        const char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted) {
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
            values += c == ',' || c == '{' || c == '[';
        }
        if (depth > most_depth)
            return "nested too deep";
    }
    return values > most_values ? "too many values" : NULL;
}
