/* cpu.c: what this processor offers our kernels. */
#include "kernels/kernel.h"
#if defined(__x86_64__)
#include <cpuid.h>

/* No name for it in the compiler's check before gcc 14. */
static bool has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

unsigned ptq_cpu_flags(enum ptq_isa isa)
{
    unsigned flags = 0;
#if defined(__x86_64__)
    /* the compiler's check includes the operating system's support of the registers */
    __builtin_cpu_init();
    if (isa >= PTQ_ISA_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2"))
        flags |= PTQ_CPU_AVX2 | (has_avx_vnni() ? PTQ_CPU_AVX_VNNI : 0);
    if (!flags || isa < PTQ_ISA_AVX512)
        return flags;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        flags |= PTQ_CPU_AVX512;
        if (__builtin_cpu_supports("avx512vnni"))
            flags |= PTQ_CPU_AVX512_VNNI;
        if (__builtin_cpu_supports("avx512vbmi"))
            flags |= PTQ_CPU_AVX512_VBMI;
    }
#endif
    return flags;
}
