/* probe_loops.c: the loops behind probe.h. Arithmetic is written in assembler: a compiler would
 * keep its accumulators in memory, or see that nothing comes of them. Twelve chains hide four
 * cycles of latency on three units. */
#include "kernels/probe.h"
#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET(features) __attribute__((target(features)))
#else
#define TARGET(features)
#endif

enum { LINE = 64, AHEAD_LINES = 128 }; /* prefetch 8 KiB ahead: see the products' kernels */

/* ---- memory ---- */

typedef uint64_t line_t __attribute__((vector_size(LINE), may_alias));

__attribute__((always_inline)) static inline void read_lines(int64_t n, const void *from)
{
    const line_t *at = from;
    line_t sum[4] = {{0}};
    for (int64_t i = 0; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) {
            __builtin_prefetch(at + i + k + AHEAD_LINES);
            sum[k] ^= at[i + k];
        }
    sum[0] ^= sum[1] ^ sum[2] ^ sum[3];
    /* used, as far as the compiler can tell */
    __asm__ volatile("" : : "r"(sum[0][0] ^ sum[0][3] ^ sum[0][7]));
}

#if defined(__x86_64__)

TARGET("avx512f") static void read_512(int64_t n, const void *from, void *to)
{
    (void)to;
    read_lines(n, from);
}
TARGET("avx2") static void read_256(int64_t n, const void *from, void *to)
{
    (void)to;
    read_lines(n, from);
}
TARGET("avx512f") static void copy_512(int64_t n, const void *from, void *to)
{
    const char *a = from;
    char *b = to;
    for (int64_t i = 0; i < n * LINE; i += LINE) {
        _mm_prefetch(a + i + AHEAD_LINES * LINE, _MM_HINT_T0);
        _mm512_stream_si512((void *)(b + i), _mm512_load_si512((const void *)(a + i)));
    }
    _mm_sfence();
}
static void copy_128(int64_t n, const void *from, void *to)
{
    const char *a = from;
    char *b = to;
    for (int64_t i = 0; i < n * LINE; i += LINE) {
        _mm_prefetch(a + i + AHEAD_LINES * LINE, _MM_HINT_T0);
        for (int k = 0; k < LINE; k += 16)
            _mm_stream_si128((void *)(b + i + k), _mm_load_si128((const void *)(a + i + k)));
    }
    _mm_sfence();
}

/* ---- arithmetic ---- */

#define TWELVE(f) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define USED                                                                                       \
    "xmm0", "xmm1", "xmm2", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",      \
        "xmm12", "xmm13", "xmm14", "xmm15", "cc"
#define CLEAR(r) "xorps %%xmm" #r ",%%xmm" #r "\n\t"
/* vzeroupper: code compiled without AVX follows. */
#define LOOP(name, body, after)                                                                    \
    static void name(int64_t n, const void *from, void *to)                                        \
    {                                                                                              \
        (void)from, (void)to;                                                                      \
        __asm__ volatile(CLEAR(0) CLEAR(1) CLEAR(2) TWELVE(CLEAR) "1:\n\t" body                    \
                                                                  "dec %0\n\tjnz 1b\n\t" after     \
                         : "+r"(n)                                                                 \
                         :                                                                         \
                         : USED);                                                                  \
    }

#define FMA_512(r) "vfmadd231ps %%zmm0,%%zmm1,%%zmm" #r "\n\t"
#define FMA_256(r) "vfmadd231ps %%ymm0,%%ymm1,%%ymm" #r "\n\t"
LOOP(fma_512, "" TWELVE(FMA_512), "vzeroupper")
LOOP(fma_256, "" TWELVE(FMA_256), "vzeroupper")
/* without fused instructions: as many products as sums, of four lanes */
#define MUL(r) "mulps %%xmm0,%%xmm" #r "\n\t"
#define ADD(r) "addps %%xmm0,%%xmm" #r "\n\t"
LOOP(mul_add_128,
     MUL(4) ADD(5) MUL(6) ADD(7) MUL(8) ADD(9) MUL(10) ADD(11) MUL(12) ADD(13) MUL(14) ADD(15), "")

#define DOT_512(r) "vpdpbusd %%zmm0,%%zmm1,%%zmm" #r "\n\t"
#define DOT_256(r) "%{vex%} vpdpbusd %%ymm0,%%ymm1,%%ymm" #r "\n\t"
LOOP(dot_512, "" TWELVE(DOT_512), "vzeroupper")
LOOP(dot_vex, "" TWELVE(DOT_256), "vzeroupper")
/* without them: products of pairs in 16 bits, pairs of pairs in 32, and the sum */
#define THREE(v, t, sum)                                                                           \
    "vpmaddubsw %%" v "0,%%" v "1,%%" v t "\n\tvpmaddwd %%" v "2,%%" v t ",%%" v t                 \
    "\n\tvpaddd %%" v t ",%%" v sum ",%%" v sum "\n\t"
#define SIX(v)                                                                                     \
    THREE(v, "4", "10")                                                                            \
    THREE(v, "5", "11")                                                                            \
    THREE(v, "6", "12") THREE(v, "7", "13") THREE(v, "8", "14") THREE(v, "9", "15")
LOOP(maddubs_512, SIX("zmm"), "vzeroupper")
LOOP(maddubs_256, SIX("ymm"), "vzeroupper")
/* bytes already widened to 16 bits */
#define MADD(t, sum)                                                                               \
    "movdqa %%xmm0,%%xmm" t "\n\tpmaddwd %%xmm1,%%xmm" t "\n\tpaddd %%xmm" t ",%%xmm" sum "\n\t"
LOOP(madd_128,
     MADD("4", "10") MADD("5", "11") MADD("6", "12") MADD("7", "13") MADD("8", "14")
         MADD("9", "15"),
     "")

#else
static void copy_128(int64_t n, const void *from, void *to)
{
    __builtin_memcpy(to, from, (size_t)(n * LINE));
}
#endif

static void read_plain(int64_t n, const void *from, void *to)
{
    (void)to;
    read_lines(n, from);
}

#if !defined(__x86_64__)
static void mul_add_128(int64_t n, const void *from, void *to)
{
    (void)from, (void)to;
    float a[12] = {0}, b = 1;
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 12; k++) {
            a[k] = a[k] * b + b;
            __asm__ volatile("" : "+m"(b));
        }
    __asm__ volatile("" : : "m"(a));
}
static void madd_128(int64_t n, const void *from, void *to)
{
    (void)from, (void)to;
    int32_t a[12] = {0}, b = 1;
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 12; k++) {
            a[k] += b * b;
            __asm__ volatile("" : "+m"(b));
        }
    __asm__ volatile("" : : "m"(a));
}
enum { MUL_ADD_WORK = 24, MADD_WORK = 24 };
#else
enum { MUL_ADD_WORK = 12 * 4, MADD_WORK = 6 * 16 };
#endif

/* Of a kind the later, the faster. */
const struct ptq_probe_loop ptq_probe_loops[PTQ_MAX_PROBE_LOOPS] = {
    {PTQ_PROBE_READ, 0, "loads of 128 bits", LINE, read_plain},
    {PTQ_PROBE_COPY, 0, "loads and streaming stores of 128 bits", 2 * LINE, copy_128},
    {PTQ_PROBE_FMA, 0, "mulps and addps of 128 bits", MUL_ADD_WORK, mul_add_128},
    {PTQ_PROBE_DOT, 0, "pmaddwd of 128 bits", MADD_WORK, madd_128},
#if defined(__x86_64__)
    {PTQ_PROBE_READ, PTQ_CPU_AVX2, "loads of 256 bits", LINE, read_256},
    {PTQ_PROBE_FMA, PTQ_CPU_AVX2, "vfmadd of 256 bits", 12 * 16, fma_256},
    {PTQ_PROBE_DOT, PTQ_CPU_AVX2, "vpmaddubsw of 256 bits", 6 * 64, maddubs_256},
    {PTQ_PROBE_DOT, PTQ_CPU_AVX_VNNI, "vpdpbusd of 256 bits", 12 * 64, dot_vex},
    {PTQ_PROBE_READ, PTQ_CPU_AVX512, "loads of 512 bits", LINE, read_512},
    {PTQ_PROBE_COPY, PTQ_CPU_AVX512, "loads and streaming stores of 512 bits", 2 * LINE, copy_512},
    {PTQ_PROBE_FMA, PTQ_CPU_AVX512, "vfmadd of 512 bits", 12 * 32, fma_512},
    {PTQ_PROBE_DOT, PTQ_CPU_AVX512, "vpmaddubsw of 512 bits", 6 * 128, maddubs_512},
    {PTQ_PROBE_DOT, PTQ_CPU_AVX512_VNNI, "vpdpbusd of 512 bits", 12 * 128, dot_512},
#endif
};
#if defined(__x86_64__)
const int ptq_n_probe_loops = 13;
#else
const int ptq_n_probe_loops = 4;
#endif
