/* safetensors.h: writing of a safetensors file, tensor by tensor (the reader is
 * format_safetensors.c). Values are converted from fp32 to the stored type by rounding to nearest
 * even. The header is written first, so all names and shapes are known before any value; the file
 * appears under its name only when it is whole (path.tmp, fsync, rename). */
#ifndef PTQ_DATASETS_SAFETENSORS_H
#define PTQ_DATASETS_SAFETENSORS_H
#include "core/arena.h"

enum ptq_st_type { PTQ_ST_F32, PTQ_ST_F16, PTQ_ST_BF16 };
struct ptq_st_entry {
    const char *name;
    enum ptq_st_type type;
    int rank;
    int64_t dim[4];
};
struct ptq_st_writer;
int ptq_st_create(struct ptq_st_writer **, const char *path, const struct ptq_st_entry *, int64_t n,
                  const char *const *metadata /* key, value, ..., NULL */, struct ptq_status *);
/* The next values of the tensors in the order given at creation; any split. A finite value that the
 * stored type cannot hold: PTQ_ERR_NUMERIC. */
int ptq_st_write(struct ptq_st_writer *, const float *values, int64_t n, struct ptq_status *);
/* Finishes the file; too few values written: assert. The handle is gone either way; on an earlier
 * error nothing is left. */
int ptq_st_finish(struct ptq_st_writer *, bool keep, struct ptq_status *);
#endif
