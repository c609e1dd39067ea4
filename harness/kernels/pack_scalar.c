/* pack_scalar.c: codes of 32 rows into a panel's stream, plainly. */
#include "kernels/kernel.h"
#include "kernels/layout.h"
#include <string.h>

static void pack(const struct ptq_kweight *w, const uint16_t *codes, int64_t ld, int64_t panel,
                 uint8_t *out)
{
    const int64_t row0 = panel * PTQ_PANEL_ROWS;
    const int low = w->bits == 3 ? 3 : (1 << w->bits) - 1;
    memset(out, 0, (size_t)w->panel_bytes);
    for (int r = 0; r < PTQ_PANEL_ROWS && row0 + r < w->rows; r++)
        for (int64_t k = 0; k < w->cols; k++) {
            const struct ptq_code_place p = ptq_code_place(w->bits, r, k);
            const int code = codes[(row0 + r) * ld + k];
            out[p.byte] |= (uint8_t)((code & low) << p.shift);
            if (p.high_byte >= 0)
                out[p.high_byte] |= (uint8_t)((code >> 2 & 1) << p.high_shift);
        }
}

const struct ptq_kernel ptq_kernel_pack_scalar = {.op = PTQ_KOP_PACK, .run.pack = pack};
