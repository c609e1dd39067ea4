/* layout.h: where a code of a panel lies in its stream (kernel.h). Private to kernels/. */
#ifndef PTQ_KERNELS_LAYOUT_H
#define PTQ_KERNELS_LAYOUT_H
#include <stdint.h>

/* The bits of one code; 3 bits have their high one apart. */
struct ptq_code_place {
    int64_t byte, high_byte; /* high_byte < 0: none */
    int shift, high_shift;
};
static inline struct ptq_code_place ptq_code_place(int bits, int row, int64_t col)
{
    const int64_t s = col / 4, unit = col / 16;
    const int b = row / 16, half = (int)(s % 2), lane_byte = 4 * (row % 16) + (int)(col % 4);
    switch (bits) {
    case 8: return (struct ptq_code_place){64 * (2 * s + b) + lane_byte, -1, 0, 0};
    case 4: return (struct ptq_code_place){64 * s + lane_byte, -1, 4 * b, 0};
    case 3:
        return (struct ptq_code_place){64 * (3 * unit + s % 4 / 2) + lane_byte,
                                       64 * (3 * unit + 2) + lane_byte, 2 * (b + 2 * half),
                                       b + 2 * (int)(s % 4)};
    default: return (struct ptq_code_place){64 * (s / 2) + lane_byte, -1, 2 * (b + 2 * half), 0};
    }
}
#endif
