/* packed.h: matrices as other programs pack them into a checkpoint: whole numbers in 32-bit words,
 * and what they are multiplied by. Three layouts, told apart by the names of their tensors:
 *
 *   gptq   BASE.qweight int32 (in * bits / 32 x out): column o is a stream of in codes, least
 *          significant bit first; BASE.qzeros int32 (groups x out * bits / 32): rows are streams of
 *          out zeros; BASE.scales (groups x out); BASE.g_idx int32 (in), optional: the group of a
 *          column, else j / (in / groups). Version 1 stores zero - 1, modulo 2^bits; "gptq_v2"
 *          (checkpoint_format of quantization_config or quantize_config.json) stores the zero.
 *   awq    BASE.qweight int32 (in x out / 8), 4 bits: nibble i of word w of a row is the code of
 *          output 8 w + {0 2 4 6 1 3 5 7}[i]; BASE.qzeros (groups x out / 8) likewise;
 *          BASE.scales (groups x out).
 *   compressed-tensors (pack-quantized)
 *          BASE.weight_packed int32 (out x ceil(in bits / 32)): rows are streams of signed codes,
 *          2^(bits-1) added (older files, where bits do not divide 32: 32 / bits a word);
 * BASE.weight_scale (out x groups); BASE.weight_zero_point, optional: int8 (out x groups), or int32
 * packed along out like the codes; BASE.weight_shape (out, in); BASE.weight_g_idx, optional.
 *
 * What the arrays mean is the reader's business: value = scale * (code - zero) in all three. Files
 * are untrusted: shapes are checked against each other before memory is taken. */
#ifndef PTQ_DATASETS_PACKED_H
#define PTQ_DATASETS_PACKED_H
#include "datasets/tensors.h"

struct ptq_packed_matrix {
    const char *layout; /* "gptq", "gptq_v2", "awq", "compressed-tensors" */
    int bits;
    int64_t rows, cols;      /* outputs, inputs */
    int64_t n_groups;        /* of a row */
    const uint16_t *codes;   /* (rows x cols) below 2^bits */
    const float *scale;      /* (rows x n_groups), as stored: may be 0, negative or not finite */
    const char *scale_type;  /* "F16", "BF16", "F32" */
    const int32_t *zero;     /* (rows x n_groups); NULL: 2^(bits-1) everywhere, not stored */
    const int32_t *group_of; /* [cols], each below n_groups */
    bool stored_groups;      /* group_of is stored, not j / (cols / n_groups) */
    int64_t file_bits;       /* of all its tensors */
};
/* cols: inputs of the matrix, from the model it belongs to. PTQ_SKIP: no packed matrix of that
 * base. Everything in the arena. */
int ptq_packed_matrix_read(const struct ptq_tensors *, const char *base, int64_t cols,
                           struct ptq_arena *, struct ptq_packed_matrix *, struct ptq_status *);
/* Some tensor of the file belongs to a packed matrix. */
bool ptq_packed_has_any(const struct ptq_tensors *);
/* n codes of `bits` bits as a stream over 32-bit words, least significant bit first, no word left
 * out; `step` words from one word of the stream to the next. */
void ptq_unpack_stream(const uint32_t *words, int64_t step, int bits, int64_t n, uint16_t *codes,
                       int64_t code_step);
#endif
