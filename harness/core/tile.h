/* tile.h: the tile shape of a product, the same for both precisions; private to linalg. */
#ifndef PTQ_CORE_TILE_H
#define PTQ_CORE_TILE_H
#include <stdbool.h>
#include <stdint.h>

struct ptq_tile {
    int64_t m, n, k;
};
/* A function of its arguments alone: never of threads, memory or the machine. square: m == n is
 * wanted. */
struct ptq_tile ptq_tile_choose(int64_t m, int64_t n, int64_t k, bool square);
/* Makes every later BLAS call of the process single-threaded. Cheap; any thread. */
void ptq_blas_single_thread(void);
#endif
