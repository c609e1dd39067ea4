/* bits_pack_scalar.c: a stream of fields, least significant bit first, the end padded with 0 to a
 * whole byte. */
#include "kernels/kernel.h"

static void bits_pack(const uint8_t *fields, int64_t n, int bits, uint8_t *stream)
{
    uint32_t acc = 0;
    int waiting = 0;
    for (int64_t i = 0; i < n; i++) {
        acc |= (uint32_t)fields[i] << waiting;
        waiting += bits;
        if (waiting >= 8) {
            *stream++ = (uint8_t)acc;
            acc >>= 8;
            waiting -= 8;
        }
    }
    if (waiting)
        *stream = (uint8_t)acc;
}

const struct ptq_kernel ptq_kernel_bits_pack_scalar = {.op = PTQ_KOP_BITS_PACK,
                                                       .run.bits_pack = bits_pack};
