/* clones.h: one loop compiled for several instruction sets, chosen by the loader.
 * Only for loops whose bits cannot depend on the vector width: elementwise work without reductions of floating point numbers
 * (integer reductions are fine). Contraction is off and none of the targets names FMA, so every clone rounds alike.
 * Dropped under sanitizers: the resolver of a clone runs before their runtime is up. */
#ifndef PTQ_CORE_CLONES_H
#define PTQ_CORE_CLONES_H
#if defined(PTQ_SANITIZE) || !defined(__x86_64__) || !defined(__OPTIMIZE__)
#define PTQ_CLONES
#else
#define PTQ_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
