#include "datasets/h5.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

enum { PIECE_BYTES = 1 << 20 };

static int hash_stream(FILE *f, const char *path, XXH3_state_t *x, unsigned char *buf,
                       struct ptq_status *st)
{
    size_t n;
    XXH3_128bits_reset(x);
    while ((n = fread(buf, 1, PIECE_BYTES, f)) > 0)
        XXH3_128bits_update(x, buf, n);
    if (ferror(f))
        return ptq_status_set(st, PTQ_ERR_IO, "%s: reading failed: %s", path, strerror(errno));
    return PTQ_OK;
}

/* The unframed XXH3-128, so that `xxh128sum FILE` prints the same digits. */
int ptq_file_key(const char *path, char *out_33, struct ptq_status *st)
{
    struct stat s;
    FILE *f = stat(path, &s) == 0 && S_ISREG(s.st_mode) ? fopen(path, "rb") : NULL;
    if (!f)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: cannot be read: %s; check the path", path,
                              errno ? strerror(errno) : "not a regular file");
    XXH3_state_t *x = XXH3_createState();
    unsigned char *buf = malloc(PIECE_BYTES);
    int rc = x && buf ? hash_stream(f, path, x, buf, st)
                      : ptq_status_nomem(st, "hashing a file", PIECE_BYTES);
    if (rc == PTQ_OK) {
        XXH128_hash_t h = XXH3_128bits_digest(x);
        snprintf(out_33, 33, "%016llx%016llx", (unsigned long long)h.high64,
                 (unsigned long long)h.low64);
    }
    XXH3_freeState(x);
    free(buf);
    fclose(f);
    return rc;
}
