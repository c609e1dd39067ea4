/* npy.h: arrays of NumPy's .npy files (format versions 1 and 2; little-endian; C order; 1 to 3
 * axes). Files are untrusted: the header is parsed strictly and the file must have exactly the
 * bytes that it announces before memory is taken. No state; any thread may call. Messages name
 * file, reason and what to do. */
#ifndef PTQ_DATASETS_NPY_H
#define PTQ_DATASETS_NPY_H
#include "core/arena.h"

enum { PTQ_NPY_MAX_RANK = 3 };
struct ptq_npy_info {
    char kind; /* 'f', 'i' or 'u' */
    int width; /* bytes of a stored element: f 2 4 8; i, u 1 2 4 8 */
    int rank;  /* 1..3 */
    int64_t dim[PTQ_NPY_MAX_RANK], n;
};
/* The array in the arena, info filled (not NULL). i64: integers of any width (uint64 up to 2^63 -
 * 1); f32, f64: floats of any width (f64 values are rounded to nearest by _f32). NaN and Inf pass.
 */
int ptq_npy_read_i64(const char *path, struct ptq_arena *, int64_t **, struct ptq_npy_info *,
                     struct ptq_status *);
int ptq_npy_read_f32(const char *path, struct ptq_arena *, float **, struct ptq_npy_info *,
                     struct ptq_status *);
int ptq_npy_read_f64(const char *path, struct ptq_arena *, double **, struct ptq_npy_info *,
                     struct ptq_status *);
#endif
