/* tile.h: 256 columns of a panel, which pack and unpack keep as bytes between their two steps:
 * codes of 16 columns of a row lie together, those of all 32 rows behind one another, so that
 * matrices are walked along their rows and streams along their lines. Private to kernels/. */
#ifndef PTQ_KERNELS_TILE_H
#define PTQ_KERNELS_TILE_H
#include "kernels/kernel.h"

enum { TILE_UNITS = 16, TILE_COLS = 16 * TILE_UNITS, UNIT_BYTES = 16 * PTQ_PANEL_ROWS };

/* Bytes of a stream for 16 columns. */
static inline int64_t unit_stride(int bits)
{
    return 64 * bits;
}
#endif
