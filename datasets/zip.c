#include "datasets/zip.h"
#include "core/words.h"
#include <stdlib.h>
#include <string.h>

/* Sizes of the records without their variable parts (PKWARE's APPNOTE 4.3), and what is allowed. */
enum {
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    MAX_COMMENT_BYTES = 65535,
    MAX_DIRECTORY_BYTES = 64 << 20,
    MAX_ENTRIES = 1 << 20
};
#define SIGNATURE_LOCAL   0x04034b50u
#define SIGNATURE_CENTRAL 0x02014b50u
#define SIGNATURE_END     0x06054b50u
#define SIGNATURE_END64   0x06064b50u
#define SIGNATURE_LOCATOR 0x07064b50u

struct directory {
    const struct ptq_bytes *file;
    int64_t n, at, bytes; /* entries; where it begins; its size */
};
struct entry {
    struct ptq_zip_entry out;
    int64_t head; /* where its local header begins */
};

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static int bad(const struct ptq_bytes *file, const char *why, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: its zip directory cannot be used: %s; get it again", file->path,
                          why);
}

static int bad_entry(const struct ptq_bytes *file, const char *name, const char *why,
                     struct ptq_status *st)
{
    char shown[PTQ_PRINTABLE];
    ptq_printable(name, shown);
    return ptq_status_set(st, PTQ_ERR_USAGE, "%s: zip entry %s %s", file->path, shown, why);
}

/* ---- the end records */

/* 64-bit sizes, when their record is there; where the smaller record is not saturated both must
 * agree, or two readers would see two archives. */
static int read_end64(struct directory *d, int64_t locator, const unsigned char *end,
                      int64_t *records, struct ptq_status *st)
{
    unsigned char raw[END64_BYTES], where[LOCATOR_BYTES];
    int rc = ptq_bytes_read(d->file, locator, LOCATOR_BYTES, where, st);
    if (rc || little(where, 4) != SIGNATURE_LOCATOR)
        return rc;
    uint64_t at = little(where + 8, 8);
    if (locator < END64_BYTES || at > (uint64_t)(locator - END64_BYTES))
        return bad(d->file, "the zip64 record lies outside", st);
    if ((rc = ptq_bytes_read(d->file, (int64_t)at, END64_BYTES, raw, st)))
        return rc;
    uint64_t n = little(raw + 32, 8), bytes = little(raw + 40, 8), from = little(raw + 48, 8);
    if (little(raw, 4) != SIGNATURE_END64 || n > MAX_ENTRIES || bytes > MAX_DIRECTORY_BYTES ||
        from > (uint64_t)d->file->size)
        return bad(d->file, "the zip64 record is damaged", st);
    if ((little(end + 10, 2) != 0xffff && little(end + 10, 2) != n) ||
        (little(end + 12, 4) != 0xffffffff && little(end + 12, 4) != bytes) ||
        (little(end + 16, 4) != 0xffffffff && little(end + 16, 4) != from))
        return bad(d->file, "its two end records differ", st);
    d->n = (int64_t)n, d->bytes = (int64_t)bytes, d->at = (int64_t)from;
    *records = (int64_t)at;
    return PTQ_OK;
}

/* The end record stands last, behind it only a comment whose length it names. -1: none. */
static int64_t find_end(const unsigned char *tail, int64_t n)
{
    for (int64_t at = n - END_BYTES; at >= 0; at--)
        if (little(tail + at, 4) == SIGNATURE_END &&
            (int64_t)little(tail + at + 20, 2) == n - at - END_BYTES)
            return at;
    return -1;
}

static int read_end(struct directory *d, struct ptq_status *st)
{
    const int64_t most = END_BYTES + MAX_COMMENT_BYTES;
    const int64_t n = d->file->size < most ? d->file->size : most;
    unsigned char *tail = malloc((size_t)n + 1);
    int rc = tail ? ptq_bytes_read(d->file, d->file->size - n, n, tail, st)
                  : ptq_status_nomem(st, d->file->path, (size_t)n);
    const int64_t found = rc ? -1 : find_end(tail, n);
    if (!rc && found < 0)
        rc = bad(d->file, "it has no end record: truncated", st);
    if (!rc) {
        const unsigned char *end = tail + found;
        int64_t records = d->file->size - n + found; /* the directory must end before these */
        d->n = (int64_t)little(end + 10, 2);
        d->bytes = (int64_t)little(end + 12, 4);
        d->at = (int64_t)little(end + 16, 4);
        if (records >= LOCATOR_BYTES)
            rc = read_end64(d, records - LOCATOR_BYTES, end, &records, st);
        if (!rc && (d->bytes > MAX_DIRECTORY_BYTES || d->at > records ||
                    d->bytes > records - d->at || d->n > d->bytes / CENTRAL_BYTES))
            rc = bad(d->file, "its size and place do not fit the file", st);
    }
    free(tail);
    return rc;
}

/* ---- entries */

/* The next 8-byte value of the zip64 extra field (they stand in the order size, packed size,
 * offset, and only those that are saturated in the record). False: none. */
static bool take64(const unsigned char **extra, int64_t *left, uint64_t *v)
{
    if (*left < 8)
        return false;
    *v = little(*extra, 8);
    *extra += 8, *left -= 8;
    return true;
}

static const unsigned char *find_zip64(const unsigned char *extra, int64_t n, int64_t *bytes)
{
    while (n >= 4) {
        int64_t size = (int64_t)little(extra + 2, 2);
        if (size > n - 4)
            break;
        *bytes = size;
        if (little(extra, 2) == 1)
            return extra + 4;
        extra += 4 + size, n -= 4 + size;
    }
    *bytes = 0;
    return extra;
}

/* One record of the directory; *used: its bytes. */
static int parse_entry(const struct directory *d, const unsigned char *p, int64_t left,
                       struct entry *e, int64_t *used, struct ptq_arena *a, struct ptq_status *st)
{
    if (left < CENTRAL_BYTES || little(p, 4) != SIGNATURE_CENTRAL)
        return bad(d->file, "a record is damaged", st);
    const int64_t name = (int64_t)little(p + 28, 2), extra = (int64_t)little(p + 30, 2),
                  comment = (int64_t)little(p + 32, 2);
    *used = CENTRAL_BYTES + name + extra + comment;
    if (*used > left || !name || memchr(p + CENTRAL_BYTES, 0, (size_t)name))
        return bad(d->file, "a record is damaged", st);
    e->out.name = ptq_arena_printf(a, st, "%.*s", (int)name, (const char *)p + CENTRAL_BYTES);
    if (!e->out.name)
        return PTQ_ERR_MEMORY;
    if (little(p + 8, 2) & 1)
        return bad_entry(d->file, e->out.name, "is encrypted; save it plain", st);
    if (little(p + 10, 2) != 0)
        return bad_entry(d->file, e->out.name,
                         "is compressed; torch stores entries as they are: save it again with "
                         "torch.save",
                         st);
    uint64_t packed = little(p + 20, 4), size = little(p + 24, 4), head = little(p + 42, 4);
    int64_t left64;
    const unsigned char *wide = find_zip64(p + CENTRAL_BYTES + name, extra, &left64);
    if ((size == 0xffffffff && !take64(&wide, &left64, &size)) ||
        (packed == 0xffffffff && !take64(&wide, &left64, &packed)) ||
        (head == 0xffffffff && !take64(&wide, &left64, &head)))
        return bad_entry(d->file, e->out.name, "lacks its 64-bit sizes; get the file again", st);
    if (packed != size || size > (uint64_t)d->at || head > (uint64_t)d->at)
        return bad_entry(d->file, e->out.name, "lies outside of the file; get it again", st);
    e->out.bytes = (int64_t)size;
    e->head = (int64_t)head;
    return PTQ_OK;
}

/* Where the contents begin is known to the local header alone; its name must be the same. */
static int locate(const struct directory *d, struct entry *e, struct ptq_status *st)
{
    unsigned char raw[LOCAL_BYTES];
    char *name = NULL;
    int rc = ptq_bytes_read(d->file, e->head, LOCAL_BYTES, raw, st);
    if (rc)
        return rc;
    const int64_t n = (int64_t)little(raw + 26, 2), extra = (int64_t)little(raw + 28, 2);
    bool same = little(raw, 4) == SIGNATURE_LOCAL && (size_t)n == strlen(e->out.name);
    if (same && !(name = malloc((size_t)n)))
        return ptq_status_nomem(st, d->file->path, (size_t)n);
    if (same)
        rc = ptq_bytes_read(d->file, e->head + LOCAL_BYTES, n, name, st);
    same = same && !rc && !memcmp(name, e->out.name, (size_t)n);
    free(name);
    if (rc)
        return rc;
    if (!same)
        return bad_entry(d->file, e->out.name, "has another local header; get the file again", st);
    e->out.at = e->head + LOCAL_BYTES + n + extra;
    if (e->out.at > d->at || e->out.bytes > d->at - e->out.at)
        return bad_entry(d->file, e->out.name, "lies outside of the file; get it again", st);
    return PTQ_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return (x->head > y->head) - (x->head < y->head);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ptq_zip_entry *)a)->name, ((const struct ptq_zip_entry *)b)->name);
}

static int check_places(const struct directory *d, struct entry *e, struct ptq_status *st)
{
    if (d->n)
        qsort(e, (size_t)d->n, sizeof *e, by_place);
    for (int64_t i = 1; i < d->n; i++)
        if (e[i].head < e[i - 1].out.at + e[i - 1].out.bytes)
            return bad_entry(d->file, e[i].out.name,
                             "overlaps another one: not a plain archive; get it from a source you "
                             "trust",
                             st);
    return PTQ_OK;
}

static int parse_all(const struct directory *d, const unsigned char *raw, struct entry *e,
                     struct ptq_arena *a, struct ptq_status *st)
{
    int64_t at = 0, used = 0;
    int rc = PTQ_OK;
    for (int64_t i = 0; i < d->n && !rc; i++, at += used)
        if (!(rc = parse_entry(d, raw + at, d->bytes - at, &e[i], &used, a, st)))
            rc = locate(d, &e[i], st);
    if (!rc && at != d->bytes)
        rc = bad(d->file, "it holds more than its records", st);
    return rc ? rc : check_places(d, e, st);
}

static int hand_out(struct ptq_zip *z, const struct directory *d, const struct entry *e,
                    struct ptq_arena *a, struct ptq_status *st)
{
    z->n = d->n;
    z->entry = ptq_arena_alloc(a, st, d->n, sizeof *z->entry);
    if (!z->entry)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < d->n; i++)
        z->entry[i] = e[i].out;
    if (d->n)
        qsort(z->entry, (size_t)d->n, sizeof *z->entry, by_name);
    for (int64_t i = 1; i < d->n; i++)
        if (!strcmp(z->entry[i].name, z->entry[i - 1].name))
            return bad_entry(d->file, z->entry[i].name, "is there twice; get the file again", st);
    return PTQ_OK;
}

int ptq_zip_open(struct ptq_zip *z, const struct ptq_bytes *file, struct ptq_arena *a,
                 struct ptq_status *st)
{
    struct directory d = {.file = file};
    *z = (struct ptq_zip){0};
    int rc = read_end(&d, st);
    if (rc)
        return rc;
    unsigned char *raw = malloc((size_t)d.bytes + 1);
    struct entry *e = calloc((size_t)d.n + 1, sizeof *e);
    rc = raw && e ? ptq_bytes_read(file, d.at, d.bytes, raw, st)
                  : ptq_status_nomem(st, file->path, (size_t)d.bytes);
    if (!rc)
        rc = parse_all(&d, raw, e, a, st);
    if (!rc)
        rc = hand_out(z, &d, e, a, st);
    free(raw);
    free(e);
    return rc;
}

const struct ptq_zip_entry *ptq_zip_find(const struct ptq_zip *z, const char *name)
{
    const struct ptq_zip_entry key = {.name = name};
    return z->n ? bsearch(&key, z->entry, (size_t)z->n, sizeof key, by_name) : NULL;
}
