/* hffolder.h: what format_safetensors.c and format_torch.c share: the folder of a Hugging Face
 * checkpoint (config.json, one weight file or an index with shards), the stored types, and tensors
 * of plain numbers read by ranges. A format adds only how one weight file lists its tensors. */
#ifndef PTQ_DATASETS_HFFOLDER_H
#define PTQ_DATASETS_HFFOLDER_H
#include "datasets/tensors.h"

enum ptq_hf_number {
    PTQ_HF_F64,
    PTQ_HF_F32,
    PTQ_HF_F16,
    PTQ_HF_BF16,
    PTQ_HF_I64,
    PTQ_HF_I32,
    PTQ_HF_I16,
    PTQ_HF_I8,
    PTQ_HF_U64,
    PTQ_HF_U32,
    PTQ_HF_U16,
    PTQ_HF_U8,
    PTQ_HF_BOOL,
    PTQ_HF_N_NUMBERS
};
struct ptq_hf_type {
    enum ptq_hf_number number;
    int bytes;
    const char *safetensors, *torch, *storage; /* "F32" "torch.float32" "torch.FloatStorage" */
};
extern const struct ptq_hf_type ptq_hf_types[PTQ_HF_N_NUMBERS];

/* Where a tensor lies. Flat: row-major without gaps. Otherwise torch's strides: either the last
 * axis lies together (rows, possibly apart), or the tensor is a transposed matrix (columns lie
 * together). */
enum ptq_hf_layout { PTQ_HF_FLAT, PTQ_HF_ROWS, PTQ_HF_COLUMNS };
struct ptq_hf_view {
    const struct ptq_hf_type *type;
    int64_t file, at;                    /* which file; byte of element 0 */
    enum ptq_hf_layout layout;           /* the rest is unused when flat */
    int64_t stride[PTQ_TENSOR_MAX_RANK]; /* in elements */
};

/* The own of both formats; a tensor's at[0] is its view. */
struct ptq_hf {
    struct ptq_bytes *file;
    int64_t n_files;
    struct ptq_hf_view *view; /* [capacity of t->tensor] */
    int64_t capacity;
};

/* How a format calls its files, and how it lists the tensors of one of them. */
struct ptq_hf_weights {
    const char *single, *index; /* "model.safetensors", "model.safetensors.index.json" */
    const char *suffix;         /* any one file that ends so will do; NULL: none but `single` */
    /* Calls ptq_hf_add for every tensor of file number `file`. May set t->meta where it is NULL
     * (a file alone, without config.json). */
    int (*list)(struct ptq_tensors *, int64_t file, struct ptq_status *);
};

bool ptq_hf_folder_has(const char *folder, const struct ptq_hf_weights *);
/* The open, close, read, n_bytes and bytes of struct ptq_file_format. */
int ptq_hf_open(struct ptq_tensors *, const struct ptq_probe *, const struct ptq_hf_weights *,
                struct ptq_status *);
void ptq_hf_close(struct ptq_tensors *);
int ptq_hf_read(const struct ptq_tensors *, const struct ptq_tensor *, int64_t first, int64_t n,
                float *out, struct ptq_status *);
int64_t ptq_hf_n_bytes(const struct ptq_tensor *);
int ptq_hf_bytes(const struct ptq_tensors *, const struct ptq_tensor *, int64_t from, int64_t bytes,
                 void *out, struct ptq_status *);

/* Elements and bytes of a shape; false when they overflow. */
bool ptq_hf_extent(const int64_t *dim, int rank, int width, int64_t *n, int64_t *bytes);
/* Copies a tensor (name, type, rank, dim given; the rest is derived) and its view, which the
 * caller has checked against the file. */
int ptq_hf_add(struct ptq_tensors *, const struct ptq_tensor *, const struct ptq_hf_view *,
               struct ptq_status *);
/* An object from untrusted JSON: depth and number of values are capped, no duplicate keys. path is
 * for messages. */
int ptq_hf_json(const char *path, const char *text, size_t bytes, json_t **, struct ptq_status *);
#endif
