/* tensors.h: a checkpoint as named tensors with metadata, whatever file it lies in. One file
 * datasets/format_NAME.c = one format (registry by folder); the first whose probe says yes opens
 * the source. Tensors are used in place: nothing is held in memory but names, shapes and metadata,
 * values are read by ranges with pread. Files are untrusted: every count, offset, shape and type is
 * checked against the file's size before memory is taken, metadata is capped, overlapping or
 * missing parts are errors that name file, tensor and reason. Reading is thread-safe. */
#ifndef PTQ_DATASETS_TENSORS_H
#define PTQ_DATASETS_TENSORS_H
#include "core/arena.h"
#include "core/json.h"

enum { PTQ_TENSOR_MAX_RANK = 4 };
struct ptq_tensor {
    const char *name; /* as the file calls it */
    const char
        *type; /* the stored type in the format's own word: "F32" "BF16" "Q4_1" "torch.float16" */
    int rank;  /* 0 .. 4 */
    int64_t dim[PTQ_TENSOR_MAX_RANK]; /* row-major, slowest first (GGUF's order reversed) */
    int64_t n;                        /* elements */
    double stored_bits;               /* bits a value takes in the file, scales included: Q4_1 5 */
    /* Values on a quantization grid already: width of a code and values a group; 0: plain floats.
     */
    int grid_bits, grid_group;
    uint64_t at[2]; /* the format's own: which file, which offset */
};

/* How the tensors are called and what the metadata mean. */
enum ptq_dialect_kind {
    PTQ_CANONICAL,   /* our own names (SCHEMA.md); metadata: the attributes of /model */
    PTQ_HUGGINGFACE, /* metadata: config.json */
    PTQ_GGUF         /* metadata: the key-value pairs, "general.architecture": ... */
};

struct ptq_tensors {
    const struct ptq_file_format *format;
    enum ptq_dialect_kind dialect;
    const char *path;
    struct ptq_tensor *tensor; /* [n] by name (strcmp order) */
    int64_t n;
    json_t *meta;           /* object; owned */
    struct ptq_arena arena; /* names and shapes */
    void *own;              /* the format's */
};

/* source: a file or a folder. PTQ_ERR_USAGE with the list of known formats when none fits. */
int ptq_tensors_open(struct ptq_tensors **, const char *source, struct ptq_status *);
void ptq_tensors_close(struct ptq_tensors *); /* NULL is fine */
const struct ptq_tensor *ptq_tensors_find(const struct ptq_tensors *,
                                          const char *name); /* or NULL */
/* Elements first .. first + n - 1 in row-major order as fp32 (f64 and integers: rounded to fp32);
 * the range must lie in the tensor (assert). Quantized types are dequantized exactly as the format
 * defines, in fp32. */
int ptq_tensors_read(const struct ptq_tensors *, const struct ptq_tensor *, int64_t first,
                     int64_t n, float *out, struct ptq_status *);
/* XXH3-128 over names, types, shapes and stored values of all tensors in name order and the
 * metadata: names the contents in keys, the same for one model in one shard or several. Reads every
 * byte once. */
int ptq_tensors_key(const struct ptq_tensors *, char out_33[33], struct ptq_status *);

/* ---- formats: datasets/format_NAME.c exports const struct ptq_file_format ptq_format_NAME ---- */
struct ptq_probe { /* what is known of a source before it is opened */
    const char *path;
    bool is_folder;
    unsigned char head[16]; /* first bytes of a file, zero-padded */
    int64_t bytes;          /* the file's size */
};
struct ptq_file_format {
    const char *name, *title; /* "safetensors", "Hugging Face folder or .safetensors file" */
    bool (*probe)(const struct ptq_probe *);
    /* Fills dialect, tensor, n (any order: the caller sorts and refuses duplicates), meta, own. On
     * failure close is still called. */
    int (*open)(struct ptq_tensors *, const struct ptq_probe *, struct ptq_status *);
    void (*close)(struct ptq_tensors *);
    int (*read)(const struct ptq_tensors *, const struct ptq_tensor *, int64_t first, int64_t n,
                float *out, struct ptq_status *);
    /* The stored bytes of a tensor, piece by piece, into a hasher: [from, from + bytes) of its
     * n_bytes. */
    int64_t (*n_bytes)(const struct ptq_tensor *);
    int (*bytes)(const struct ptq_tensors *, const struct ptq_tensor *, int64_t from, int64_t bytes,
                 void *out, struct ptq_status *);
};
/* NULL-terminated, in the order of names. */
const struct ptq_file_format *const *ptq_formats(void);

/* Parts of the formats' readers that they share (datasets/tensors.c): a read-only file whose size
 * is known; reads that are checked against it. */
struct ptq_bytes {
    int fd;
    int64_t size;
    const char *path;
};
int ptq_bytes_open(struct ptq_bytes *, const char *path, struct ptq_arena *, struct ptq_status *);
void ptq_bytes_close(struct ptq_bytes *);
/* Whole or an error that names file, offset and size; a file that shrank is told so. */
int ptq_bytes_read(const struct ptq_bytes *, int64_t at, int64_t n, void *out, struct ptq_status *);
#endif
