#include "model/states.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct head { /* as it lies in the file */
    char magic[8], key[40];
    int64_t blocks_done, n_total, d_model;
};

static struct head head_of(const struct ptq_states_id *id, int64_t blocks_done,
                           const struct ptq_hidden *h)
{
    struct head x = {"ptqstat", "", blocks_done, h->tokens->n_total, h->d_model};
    snprintf(x.key, sizeof x.key, "%s", id->key);
    return x;
}

static int cannot_write(const char *path, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_IO,
                          "%s: hidden states cannot be written: %s; make room there, or let its "
                          "folder be written to",
                          path, strerror(errno));
}

static int cannot_read(const char *path, struct ptq_status *st)
{
    return ptq_status_set(st, PTQ_ERR_IO,
                          "%s: hidden states cannot be read: %s; remove the file: they are made "
                          "again",
                          path, strerror(errno));
}

static bool write_all(FILE *f, const struct head *x, const struct ptq_hidden *h)
{
    const size_t n = (size_t)(x->n_total * x->d_model);
    return fwrite(x, sizeof *x, 1, f) == 1 && fwrite(h->at, sizeof *h->at, n, f) == n &&
           fflush(f) == 0 && fsync(fileno(f)) == 0;
}

int ptq_states_save(const struct ptq_states_id *id, int64_t blocks_done, const struct ptq_hidden *h,
                    struct ptq_status *st)
{
    char tmp[4096];
    const struct head x = head_of(id, blocks_done, h);
    if (snprintf(tmp, sizeof tmp, "%s.tmp", id->path) >= (int)sizeof tmp)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: the path is too long; choose a shorter one",
                              id->path);
    FILE *f = fopen(tmp, "wb");
    if (!f)
        return cannot_write(tmp, st);
    bool ok = write_all(f, &x, h);
    ok = fclose(f) == 0 && ok;
    if (ok && rename(tmp, id->path) == 0)
        return PTQ_OK;
    int rc = cannot_write(tmp, st);
    unlink(tmp);
    return rc;
}

/* The whole file must be there before the states are touched. */
static bool fits(FILE *f, const struct head *x, const struct head *want)
{
    const int64_t bytes = want->n_total * want->d_model * (int64_t)sizeof(float);
    return !memcmp(x->magic, want->magic, sizeof x->magic) &&
           !memcmp(x->key, want->key, sizeof x->key) && x->n_total == want->n_total &&
           x->d_model == want->d_model && x->blocks_done > 0 && fseeko(f, 0, SEEK_END) == 0 &&
           ftello(f) == (off_t)sizeof *x + bytes && fseeko(f, (off_t)sizeof *x, SEEK_SET) == 0;
}

int ptq_states_load(const struct ptq_states_id *id, int64_t *blocks_done, struct ptq_hidden *h,
                    struct ptq_status *st)
{
    struct head x;
    const struct head want = head_of(id, 0, h);
    const size_t n = (size_t)(want.n_total * want.d_model);
    FILE *f = fopen(id->path, "rb");
    if (!f)
        return PTQ_SKIP;
    int rc = fread(&x, sizeof x, 1, f) == 1 && fits(f, &x, &want) ? PTQ_OK : PTQ_SKIP;
    if (!rc && fread(h->at, sizeof *h->at, n, f) != n)
        rc = cannot_read(id->path, st);
    fclose(f);
    if (!rc)
        *blocks_done = x.blocks_done;
    return rc;
}
