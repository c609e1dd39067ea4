/* unpack_scalar.c: codes of 32 rows from a panel's stream, plainly. */
#include "kernels/kernel.h"
#include "kernels/layout.h"

static void unpack(const struct ptq_kweight *w, const uint8_t *in, int64_t panel, uint16_t *codes,
                   int64_t ld)
{
    const int64_t row0 = panel * PTQ_PANEL_ROWS;
    const int low = w->bits == 3 ? 3 : (1 << w->bits) - 1;
    for (int r = 0; r < PTQ_PANEL_ROWS && row0 + r < w->rows; r++)
        for (int64_t k = 0; k < w->cols; k++) {
            const struct ptq_code_place p = ptq_code_place(w->bits, r, k);
            int code = in[p.byte] >> p.shift & low;
            if (p.high_byte >= 0)
                code |= (in[p.high_byte] >> p.high_shift & 1) << 2;
            codes[(row0 + r) * ld + k] = (uint16_t)code;
        }
}

const struct ptq_kernel ptq_kernel_unpack_scalar = {.op = PTQ_KOP_UNPACK, .run.unpack = unpack};
