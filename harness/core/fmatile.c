#include "core/fmatile.h"
#include "core/clones.h"
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { ROWS = PTQ_FMATILE_ROWS, COLS = PTQ_FMATILE_COLS };

PTQ_CLONES static void tile_plain(const struct ptq_fmatile *t)
{
    float sum[ROWS][COLS] = {{0}};
    for (int64_t k = 0; k < t->n; k++) {
        const float *b = t->b + k * COLS;
        for (int r = 0; r < ROWS; r++) {
            float a = t->row[r][k * t->step];
            if (!t->seen)
                for (int c = 0; c < COLS; c++)
                    sum[r][c] += a * b[c];
            else
                for (int c = 0; c < COLS; c++)
                    sum[r][c] += t->seen[k] >> c & 1 ? a * b[c] : 0;
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++)
            t->c[r * t->ldc + c] = t->add ? t->c[r * t->ldc + c] + sum[r][c] : sum[r][c];
}

#if defined(__x86_64__)

/* ---- AVX-512: the whole tile in 24 registers */

#define AVX512 __attribute__((target("avx512f")))
enum { LANES = 16, VECTORS = COLS / LANES };

AVX512 static inline void put_512(const struct ptq_fmatile *t, int r, int v, __m512 sum)
{
    float *c = t->c + r * t->ldc + v * LANES;
    _mm512_storeu_ps(c, t->add ? _mm512_add_ps(_mm512_loadu_ps(c), sum) : sum);
}

/* masked is a constant where this is inlined. */
AVX512 static inline __attribute__((always_inline)) void run_512(const struct ptq_fmatile *t,
                                                                 bool masked)
{
    __m512 sum[ROWS][VECTORS];
    const float *row[ROWS], *b = t->b;
    for (int r = 0; r < ROWS; r++) {
        row[r] = t->row[r];
        for (int v = 0; v < VECTORS; v++) {
            sum[r][v] = _mm512_setzero_ps();
            __builtin_prefetch(t->c + r * t->ldc + v * LANES, 1);
        }
    }
    const int64_t step = t->step, end = t->n * step;
    for (int64_t k = 0, at = 0; at < end; k++, at += step, b += COLS) {
        __m512 x[VECTORS];
        for (int v = 0; v < VECTORS; v++)
            x[v] = _mm512_loadu_ps(b + v * LANES);
        const uint64_t seen = masked ? t->seen[k] : 0;
        for (int r = 0; r < ROWS; r++) {
            const __m512 a = _mm512_set1_ps(row[r][at]);
            for (int v = 0; v < VECTORS; v++)
                sum[r][v] = masked ? _mm512_mask3_fmadd_ps(a, x[v], sum[r][v],
                                                           (__mmask16)(seen >> v * LANES))
                                   : _mm512_fmadd_ps(a, x[v], sum[r][v]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++)
            put_512(t, r, v, sum[r][v]);
}

AVX512 static void tile_512(const struct ptq_fmatile *t)
{
    if (t->seen)
        run_512(t, true);
    else
        run_512(t, false);
}

/* ---- AVX2: a quarter of the tile at a time, 4 rows x 24 columns in 12 registers */

#define AVX2 __attribute__((target("avx2,fma")))
enum { LANES_2 = 8, ROWS_2 = 4, VECTORS_2 = 3, COLS_2 = LANES_2 * VECTORS_2 };

/* All bits of lane i set when bit i is. */
AVX2 static inline __m256 lanes_of(uint64_t bits)
{
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i all = _mm256_set1_epi32((int)(bits & 0xff));
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, each), each));
}

AVX2 static inline __attribute__((always_inline)) void run_256(const struct ptq_fmatile *t,
                                                               int row0, int col0, bool masked)
{
    __m256 sum[ROWS_2][VECTORS_2];
    const float *row[ROWS_2], *b = t->b + col0;
    for (int r = 0; r < ROWS_2; r++) {
        row[r] = t->row[row0 + r];
        for (int v = 0; v < VECTORS_2; v++)
            sum[r][v] = _mm256_setzero_ps();
    }
    const int64_t step = t->step, end = t->n * step;
    for (int64_t k = 0, at = 0; at < end; k++, at += step, b += COLS) {
        __m256 x[VECTORS_2];
        for (int v = 0; v < VECTORS_2; v++)
            x[v] = _mm256_loadu_ps(b + v * LANES_2);
        for (int r = 0; r < ROWS_2; r++) {
            const __m256 a = _mm256_broadcast_ss(row[r] + at);
            for (int v = 0; v < VECTORS_2; v++) {
                __m256 next = _mm256_fmadd_ps(a, x[v], sum[r][v]);
                if (masked)
                    next = _mm256_blendv_ps(sum[r][v], next,
                                            lanes_of(t->seen[k] >> (col0 + v * LANES_2)));
                sum[r][v] = next;
            }
        }
    }
    for (int r = 0; r < ROWS_2; r++)
        for (int v = 0; v < VECTORS_2; v++) {
            float *c = t->c + (row0 + r) * t->ldc + col0 + v * LANES_2;
            _mm256_storeu_ps(c, t->add ? _mm256_add_ps(_mm256_loadu_ps(c), sum[r][v]) : sum[r][v]);
        }
}

AVX2 static void tile_256(const struct ptq_fmatile *t)
{
    for (int r = 0; r < ROWS; r += ROWS_2)
        for (int c = 0; c < COLS; c += COLS_2)
            if (t->seen)
                run_256(t, r, c, true);
            else
                run_256(t, r, c, false);
}
#endif

/* ---- choice */

ptq_fmatile_fn *ptq_fmatile_best(void)
{
#if defined(__x86_64__)
    const char *word = getenv("PTQ_CPU");
    if (!word || strcmp(word, "scalar") != 0) {
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && !(word && strcmp(word, "avx2") == 0))
            return tile_512;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            return tile_256;
    }
#endif
    return tile_plain;
}

bool ptq_fmatile_fuses(void)
{
    return ptq_fmatile_best() != tile_plain;
}
