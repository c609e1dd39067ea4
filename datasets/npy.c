#include "datasets/npy.h"
#include "core/half.h"
#include "core/size.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_HEADER = 65536, PIECE = 8192 /* elements converted at a time */ };

/* ---- header: "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }" ---------------------
 */

static void skip_space(const char **p)
{
    *p += strspn(*p, " \t\n");
}

static bool take(const char **p, char c)
{
    skip_space(p);
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

static bool take_quoted(const char **p, char *out, size_t room)
{
    skip_space(p);
    char quote = **p;
    if (quote != '\'' && quote != '"')
        return false;
    const char *end = strchr(*p + 1, quote);
    size_t n = end ? (size_t)(end - *p - 1) : room;
    if (n >= room)
        return false;
    memcpy(out, *p + 1, n);
    out[n] = '\0';
    *p = end + 1;
    return true;
}

static bool take_word(const char **p, const char *word)
{
    skip_space(p);
    size_t n = strlen(word);
    if (strncmp(*p, word, n) != 0)
        return false;
    *p += n;
    return true;
}

static bool take_size(const char **p, int64_t *out)
{
    skip_space(p);
    if (**p < '0' || **p > '9')
        return false;
    for (*out = 0; **p >= '0' && **p <= '9'; (*p)++)
        if (!ptq_size_mul(*out, 10, out) || !ptq_size_add(*out, **p - '0', out))
            return false;
    return true;
}

/* "(3,)" or "(3, 4)": a tuple of one ends in a comma. */
static bool take_shape(const char **p, struct ptq_npy_info *f)
{
    bool comma = false;
    f->n = 1;
    f->rank = 0;
    if (!take(p, '('))
        return false;
    while (!take(p, ')')) {
        if ((f->rank > 0 && !comma) || f->rank == PTQ_NPY_MAX_RANK ||
            !take_size(p, &f->dim[f->rank]) || !ptq_size_mul(f->n, f->dim[f->rank], &f->n))
            return false;
        f->rank++;
        comma = take(p, ',');
    }
    return f->rank > 1 || (f->rank == 1 && comma);
}

static bool take_type(const char **p, struct ptq_npy_info *f)
{
    char t[8];
    if (!take_quoted(p, t, sizeof t) || strlen(t) != 3)
        return false;
    f->kind = t[1];
    f->width = t[2] - '0';
    bool size = f->width == 1 || f->width == 2 || f->width == 4 || f->width == 8;
    bool kind = f->kind == 'i' || f->kind == 'u' || (f->kind == 'f' && f->width > 1);
    return size && kind && t[0] == (f->width == 1 ? '|' : '<');
}

/* NULL, or what is wrong. Every key exactly once, in any order; nothing behind the dictionary but
 * white space. */
static const char *parse_header(const char *p, struct ptq_npy_info *f)
{
    unsigned seen = 0;
    if (!take(&p, '{'))
        return "its header is no dictionary";
    while (!take(&p, '}')) {
        char key[24];
        if (!take_quoted(&p, key, sizeof key) || !take(&p, ':'))
            return "its header is damaged";
        unsigned bit = !strcmp(key, "descr")           ? 1u
                       : !strcmp(key, "fortran_order") ? 2u
                       : !strcmp(key, "shape")         ? 4u
                                                       : 0;
        if (bit == 0 || (seen & bit))
            return "its header has an unknown or repeated key";
        seen |= bit;
        if (bit == 1 && !take_type(&p, f))
            return "its type is not one of <f2 <f4 <f8 |i1 |u1 <i2 <u2 <i4 <u4 <i8 <u8";
        if (bit == 2 && !take_word(&p, "False"))
            return "it is in Fortran order; save numpy.ascontiguousarray(x)";
        if (bit == 4 && !take_shape(&p, f))
            return "its shape must have 1 to 3 axes";
        if (!take(&p, ',') && *p != '}')
            return "its header is damaged";
    }
    skip_space(&p);
    return seen == 7 && *p == '\0' ? NULL : "its header is damaged";
}

static int bad(const char *path, const char *why, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: cannot be read as .npy: %s", path, why);
}

/* Bytes of header text, or -1. */
static int64_t header_bytes(FILE *f)
{
    unsigned char b[12];
    if (fread(b, 1, 10, f) != 10 || memcmp(b, "\x93NUMPY", 6) != 0 || b[7] != 0)
        return -1;
    if (b[6] == 1)
        return b[8] | b[9] << 8;
    if (b[6] != 2 || fread(b + 10, 1, 2, f) != 2)
        return -1;
    return (int64_t)(b[8] | b[9] << 8 | b[10] << 16 | (uint32_t)b[11] << 24);
}

static int read_header(FILE *f, const char *path, struct ptq_npy_info *info, struct ptq_status *st)
{
    struct stat s;
    int64_t n = header_bytes(f), data;
    if (n < 0)
        return bad(path, "no .npy file of version 1 or 2", st);
    char *text = n <= MAX_HEADER ? calloc((size_t)n + 1, 1) : NULL;
    if (!text || fread(text, 1, (size_t)n, f) != (size_t)n || strlen(text) != (size_t)n) {
        free(text);
        return bad(path, "its header is damaged", st);
    }
    const char *why = parse_header(text, info);
    free(text);
    if (why)
        return bad(path, why, st);
    long at = ftell(f);
    if (at < 0 || fstat(fileno(f), &s) != 0 || !ptq_size_mul(info->n, info->width, &data) ||
        data != s.st_size - at)
        return bad(path, "its size is not what its header says: truncated, or more than one array",
                   st);
    return PTQ_OK;
}

/* ---- values --------------------------------------------------------------------------------- */

static double float_value(const unsigned char *p, int width)
{
    uint16_t h;
    float s;
    double d;
    if (width == 8)
        return memcpy(&d, p, 8), d;
    if (width == 4)
        return memcpy(&s, p, 4), s;
    return memcpy(&h, p, 2), ptq_f32_from_f16(h);
}

static uint64_t little_endian(const unsigned char *p, int width)
{
    uint64_t v = 0;
    for (int i = 0; i < width; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* False: a uint64 over 2^63 - 1. */
static bool integer_value(const unsigned char *p, const struct ptq_npy_info *f, int64_t *out)
{
    uint64_t v = little_endian(p, f->width), sign = UINT64_C(1) << (8 * f->width - 1);
    if (f->kind == 'i') /* sign extension */
        *out = (int64_t)((v ^ sign) - sign);
    else
        *out = (int64_t)v;
    return f->kind == 'i' || *out >= 0;
}

enum want { I64, F32, F64 };

static bool convert(const unsigned char *p, const struct ptq_npy_info *f, enum want want, void *out,
                    int64_t i)
{
    if (want == I64)
        return integer_value(p, f, (int64_t *)out + i);
    if (want == F32)
        ((float *)out)[i] = (float)float_value(p, f->width);
    else
        ((double *)out)[i] = float_value(p, f->width);
    return true;
}

static int read_values(FILE *f, const char *path, const struct ptq_npy_info *info, enum want want,
                       void *out, struct ptq_status *st)
{
    unsigned char *buf = malloc((size_t)PIECE * 8);
    if (!buf)
        return ptq_status_nomem(st, path, (size_t)PIECE * 8);
    int rc = PTQ_OK;
    for (int64_t i = 0; i < info->n && rc == PTQ_OK; i += PIECE) {
        int64_t n = info->n - i < PIECE ? info->n - i : PIECE;
        if (fread(buf, (size_t)info->width, (size_t)n, f) != (size_t)n)
            rc = ptq_status_set(st, PTQ_ERR_IO, "%s: reading failed: %s", path,
                                ferror(f) ? strerror(errno) : "it was cut meanwhile");
        for (int64_t k = 0; k < n && rc == PTQ_OK; k++)
            if (!convert(buf + k * info->width, info, want, out, i + k))
                rc = ptq_status_set(st, PTQ_ERR_USAGE, "%s: value %lld is over 2^63 - 1", path,
                                    (long long)(i + k));
    }
    free(buf);
    return rc;
}

static int read_stream(FILE *f, const char *path, enum want want, struct ptq_arena *arena,
                       void **out, struct ptq_npy_info *info, struct ptq_status *st)
{
    int rc = read_header(f, path, info, st);
    if (rc != PTQ_OK)
        return rc;
    if ((info->kind == 'f') != (want != I64))
        return bad(path,
                   want == I64 ? "it holds floats; integers are needed: x.astype(numpy.int64)"
                               : "it holds integers; floats are needed: x.astype(numpy.float32)",
                   st);
    void *at = ptq_arena_alloc(arena, st, info->n, want == F32 ? 4 : 8);
    if (!at)
        return PTQ_ERR_MEMORY;
    rc = read_values(f, path, info, want, at, st);
    if (rc == PTQ_OK)
        *out = at;
    return rc;
}

static int read_any(const char *path, enum want want, struct ptq_arena *arena, void **out,
                    struct ptq_npy_info *info, struct ptq_status *st)
{
    struct stat s;
    memset(info, 0, sizeof *info);
    errno = 0;
    FILE *f = stat(path, &s) == 0 && S_ISREG(s.st_mode) ? fopen(path, "rb") : NULL;
    if (!f)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: cannot be read: %s; check the path", path,
                              errno ? strerror(errno) : "not a regular file");
    int rc = read_stream(f, path, want, arena, out, info, st);
    fclose(f);
    return rc;
}

#define READER(NAME, T, WANT)                                                                      \
    int ptq_npy_read_##NAME(const char *path, struct ptq_arena *arena, T **out,                    \
                            struct ptq_npy_info *info, struct ptq_status *st)                      \
    {                                                                                              \
        void *at = NULL;                                                                           \
        int rc = read_any(path, WANT, arena, &at, info, st);                                       \
        if (rc == PTQ_OK)                                                                          \
            *out = at;                                                                             \
        return rc;                                                                                 \
    }

READER(i64, int64_t, I64)
READER(f32, float, F32)
READER(f64, double, F64)
