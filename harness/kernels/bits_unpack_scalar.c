/* bits_unpack_scalar.c: fields of a stream, least significant bit first. */
#include "kernels/kernel.h"

static void bits_unpack(const uint8_t *stream, int64_t n, int bits, uint8_t *fields)
{
    uint32_t acc = 0;
    int waiting = 0;
    for (int64_t i = 0; i < n; i++) {
        if (waiting < bits) {
            acc |= (uint32_t)*stream++ << waiting;
            waiting += 8;
        }
        fields[i] = (uint8_t)(acc & ((1u << bits) - 1));
        acc >>= bits;
        waiting -= bits;
    }
}

const struct ptq_kernel ptq_kernel_bits_unpack_scalar = {.op = PTQ_KOP_BITS_UNPACK,
                                                         .run.bits_unpack = bits_unpack};
