/* h5.h: HDF5 as named arrays with attributes (the only place that includes hdf5.h).
 * Files are untrusted: every rank, size and type is checked before memory is taken; no dataset over
 * 64 GiB is read. The library is not thread-safe: one lock inside this module guards every call, so
 * any thread may call. Messages name file, object path, reason and what to do. HDF5's own error
 * stack is silenced. Links, raw data and virtual datasets that lead out of the file are refused;
 * filter plugins are not loaded. Not promised: that libhdf5 itself survives every damage of its
 * inner structures (random byte errors in a small file crash 1.10.8 about once in 200). */
#ifndef PTQ_DATASETS_H5_H
#define PTQ_DATASETS_H5_H
#include "core/arena.h"
#include "core/json.h"

struct ptq_h5; /* an open file */

enum ptq_h5_mode {
    PTQ_H5_READ,
    PTQ_H5_CREATE, /* truncates */
    PTQ_H5_APPEND, /* creates when absent; a file that this process has open otherwise fails */
    PTQ_H5_MEMORY  /* a new one that never reaches a disk; path is its name in messages */
};
int ptq_h5_open(struct ptq_h5 **, const char *path, enum ptq_h5_mode, struct ptq_status *);
/* Closes and, for written files, reports a flush that failed (disk full). NULL is fine. The handle
 * is gone either way. */
int ptq_h5_close(struct ptq_h5 *, struct ptq_status *);
const char *ptq_h5_path(const struct ptq_h5 *);

/* Group or dataset; intermediate groups may be absent. */
bool ptq_h5_exists(struct ptq_h5 *, const char *object);
/* Names of the members of a group in name order (strcmp), in the arena. */
int ptq_h5_list(struct ptq_h5 *, const char *group, struct ptq_arena *, char ***names, int64_t *n,
                struct ptq_status *);

enum ptq_h5_type {
    PTQ_H5_OTHER,
    PTQ_H5_F16,
    PTQ_H5_BF16,
    PTQ_H5_F32,
    PTQ_H5_F64,
    PTQ_H5_U8,
    PTQ_H5_U16,
    PTQ_H5_I32,
    PTQ_H5_I64,
    PTQ_H5_TEXT
};
enum { PTQ_H5_MAX_RANK = 4 };
struct ptq_h5_info {
    enum ptq_h5_type type;
    int rank;
    int64_t dim[PTQ_H5_MAX_RANK];
    int64_t n; /* elements */
};
/* The dataset's shape and type. f16 is a 16-bit IEEE float type; bf16 is uint16 with the attribute
 * encoding = "bf16". */
int ptq_h5_info(struct ptq_h5 *, const char *dataset, struct ptq_h5_info *, struct ptq_status *);

/* Reads the whole dataset converted to fp32 / fp64 / int64 / bytes into memory of the arena; shape
 * checked by the caller through info (which is filled). Floating data may be f16, bf16, f32 or f64;
 * _i64 takes any integer type that fits, _u8 uint8 only. */
int ptq_h5_read_f32(struct ptq_h5 *, const char *dataset, struct ptq_arena *, float **,
                    struct ptq_h5_info *, struct ptq_status *);
int ptq_h5_read_f64(struct ptq_h5 *, const char *dataset, struct ptq_arena *, double **,
                    struct ptq_h5_info *, struct ptq_status *);
int ptq_h5_read_i64(struct ptq_h5 *, const char *dataset, struct ptq_arena *, int64_t **,
                    struct ptq_h5_info *, struct ptq_status *);
int ptq_h5_read_u8(struct ptq_h5 *, const char *dataset, struct ptq_arena *, uint8_t **,
                   struct ptq_h5_info *, struct ptq_status *);

/* Rows first .. first + n_rows - 1 (elements, of one axis) of a floating dataset of one or two axes
 * as fp32; out has room for them. */
int ptq_h5_read_rows_f32(struct ptq_h5 *, const char *dataset, int64_t first, int64_t n_rows,
                         float *out, struct ptq_status *);

/* Writes a dataset (replacing one of the name), creating the groups on its path. type is the stored
 * type; the data are fp32 for F16 BF16 F32, else of the type's own C type (TEXT: not here).
 * data NULL: the values follow by ptq_h5_write_rows, every row once. */
int ptq_h5_write(struct ptq_h5 *, const char *dataset, enum ptq_h5_type, int rank,
                 const int64_t *dim, const void *data, struct ptq_status *);

int ptq_h5_write_rows(struct ptq_h5 *, const char *dataset, int64_t first, int64_t n_rows,
                      const void *data, struct ptq_status *);

/* All scalar attributes of an object that are numbers or text, as a JSON object of the caller. */
int ptq_h5_attributes(struct ptq_h5 *, const char *object, json_t **, struct ptq_status *);
/* Attributes of an object ("/" for the file). set_* on an absent object makes a group of it. get_*:
 * absent -> PTQ_SKIP and the value untouched (no status set). Text may be a fixed or
 * variable-length string, an integer also a Python bool as h5py writes it. */
int ptq_h5_set_text(struct ptq_h5 *, const char *object, const char *name, const char *value,
                    struct ptq_status *);
int ptq_h5_set_f64(struct ptq_h5 *, const char *object, const char *name, double value,
                   struct ptq_status *);
int ptq_h5_set_i64(struct ptq_h5 *, const char *object, const char *name, int64_t value,
                   struct ptq_status *);
int ptq_h5_get_text(struct ptq_h5 *, const char *object, const char *name, struct ptq_arena *,
                    char **value, struct ptq_status *);
int ptq_h5_get_f64(struct ptq_h5 *, const char *object, const char *name, double *value,
                   struct ptq_status *);
int ptq_h5_get_i64(struct ptq_h5 *, const char *object, const char *name, int64_t *value,
                   struct ptq_status *);
/* XXH3-128 of a whole file's bytes as hex (hash.h): how inputs are named in keys. */
int ptq_file_key(const char *path, char *out_33, struct ptq_status *);
#endif
