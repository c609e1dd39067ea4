/* blas.h: which BLAS serves us, on which core type, and the repair of a core pinned too low (design
 * section 4). */
#ifndef PTQ_CORE_BLAS_H
#define PTQ_CORE_BLAS_H
#include "core/status.h"

enum ptq_isa { PTQ_ISA_SCALAR, PTQ_ISA_AVX2, PTQ_ISA_AVX512 };

struct ptq_machine {
    char cpu[128];        /* /proc/cpuinfo model name */
    enum ptq_isa cpu_isa; /* best the CPU and the OS offer */
    enum ptq_isa isa; /* in use: PTQ_CPU=scalar|avx2|avx512, or --portable (avx2), else cpu_isa */
    char blas_library[256];  /* file that serves cblas_sgemm (dladdr) */
    char blas_config[256];   /* openblas_get_config() */
    char blas_core[64];      /* openblas_get_corename() */
    char blas_inherited[64]; /* OPENBLAS_CORETYPE found in the environment, "" if none */
    bool blas_repaired;      /* this process was executed again with another OPENBLAS_CORETYPE */
};

/* Call first in main, before any thread: when the BLAS core is not the one of the ISA in use
 * (avx512: SkylakeX, avx2: Haswell, scalar: Nehalem, the last only if named by PTQ_CPU), sets
 * OPENBLAS_CORETYPE and executes the program once more with the same arguments (not under
 * PTQ_NO_REEXEC=1). Always calls openblas_set_num_threads(1). An unknown word in PTQ_CPU is
 * PTQ_ERR_USAGE, and so is --portable without the Haswell core. portable: --portable was given
 * (AVX2 kernels, Haswell core). argv ends with NULL; argv == NULL: never executes again. */
int ptq_machine_init(struct ptq_machine *, bool portable, char **argv, struct ptq_status *);
const char *ptq_isa_name(enum ptq_isa);
#endif
