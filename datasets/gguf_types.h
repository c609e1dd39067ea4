/* gguf_types.h: the value types of GGUF tensors: their names, the layout of a block and its exact
 * dequantization in fp32. All fields are little-endian; a range of values is a whole number of
 * blocks. Types whose numbers are known but that are not read here have a name alone. */
#ifndef PTQ_DATASETS_GGUF_TYPES_H
#define PTQ_DATASETS_GGUF_TYPES_H
#include <stdint.h>

enum { PTQ_GGUF_MOST_BLOCK = 256 }; /* values a block has at most */
struct ptq_gguf_type {
    const char *name;          /* "Q4_1" */
    uint32_t id;               /* as files store it */
    int block, bytes;          /* values a block, bytes a block */
    int grid_bits, grid_group; /* width of a code, values that share a scale; 0: plain floats */
    /* n_blocks blocks, packed; NULL: known by name alone. */
    void (*decode)(const uint8_t *restrict raw, int64_t n_blocks, float *restrict out);
};
const struct ptq_gguf_type *ptq_gguf_type(uint32_t id); /* NULL: unknown */
/* The types that can be read, NULL behind the last; i from 0. */
const struct ptq_gguf_type *ptq_gguf_type_at(int i);
#endif
