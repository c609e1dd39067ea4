#include "core/blas.h"
#include <cblas.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Set for the second execution, with the OPENBLAS_CORETYPE that was found ("" if none): it reports
 * that value, and its presence keeps a library that ignores the variable from sending us round for
 * ever. */
#define GUARD "PTQ_BLAS_INHERITED"

static const char *const isa_names[] = {"scalar", "avx2", "avx512"};

const char *ptq_isa_name(enum ptq_isa isa)
{
    return isa_names[isa];
}

/* ---- the processor ---- */

static void copy_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from ? from : "");
}

static void read_cpu_name(char *name, size_t size)
{
    copy_text(name, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f)
        return;
    char line[512];
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = 0;
        copy_text(name, size, colon + 1 + strspn(colon + 1, " "));
        break;
    }
    fclose(f);
}

/* What our kernels of that name use; the compiler's check includes the operating system's support
 * of the registers. */
static enum ptq_isa detect_isa(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return PTQ_ISA_SCALAR;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return PTQ_ISA_AVX512;
    return PTQ_ISA_AVX2;
#else
    return PTQ_ISA_SCALAR;
#endif
}

/* ISA in use, from PTQ_CPU and --portable; *named: the user named one. */
static int choose_isa(struct ptq_machine *m, bool portable, bool *named, struct ptq_status *st)
{
    const char *word = getenv("PTQ_CPU");
    m->isa = portable ? PTQ_ISA_AVX2 : m->cpu_isa;
    *named = portable;
    if (word && *word) {
        int i = 0;
        while (i < 3 && strcmp(word, isa_names[i]) != 0)
            i++;
        if (i == 3)
            return ptq_status_set(
                st, PTQ_ERR_USAGE,
                "environment: PTQ_CPU=%.40s is unknown; give scalar, avx2 or avx512", word);
        if (portable && i < PTQ_ISA_AVX2)
            return ptq_status_set(
                st, PTQ_ERR_USAGE,
                "PTQ_CPU=%s and --portable (avx2) contradict each other; drop one", word);
        if (!portable) /* a wider processor does not widen what is portable */
            m->isa = (enum ptq_isa)i;
        *named = true;
    }
    if (m->isa > m->cpu_isa)
        return ptq_status_set(
            st, PTQ_ERR_USAGE, "%s needs %s, but this processor (%s) offers %s at most",
            portable ? "--portable" : "PTQ_CPU", isa_names[m->isa], m->cpu, isa_names[m->cpu_isa]);
    return PTQ_OK;
}

/* ---- the library ---- */

static void read_blas(struct ptq_machine *m)
{
    openblas_set_num_threads(1);
    copy_text(m->blas_core, sizeof m->blas_core, openblas_get_corename());
    copy_text(m->blas_config, sizeof m->blas_config, openblas_get_config());
    Dl_info info;
    void *symbol =
        dlsym(RTLD_DEFAULT, "cblas_sgemm"); /* not &cblas_sgemm, which may be a stub of ours */
    copy_text(m->blas_library, sizeof m->blas_library,
              symbol && dladdr(symbol, &info) ? info.dli_fname : "linked statically");
}

/* The core type to ask for, or NULL when the one in use will do. One core an instruction set,
 * although others of its class are as fast (Cooperlake for SkylakeX, Zen for Haswell): the core is
 * part of every cell's key, and a key must not depend on whether the environment or the library
 * chose. A processor without AVX2 keeps what the library chose for it unless scalar was named. */
static const char *wanted_core(const struct ptq_machine *m, bool named)
{
#if defined(__x86_64__)
    static const char *const core[] = {"Nehalem", "Haswell", "SkylakeX"};
    bool free_choice = m->isa == PTQ_ISA_SCALAR && !named;
    return free_choice || strcmp(m->blas_core, core[m->isa]) == 0 ? NULL : core[m->isa];
#else
    (void)m, (void)named;
    return NULL;
#endif
}

/* Returns only when the program could not be executed again. */
static int execute_again(const struct ptq_machine *m, const char *core, char **argv,
                         struct ptq_status *st)
{
    fflush(NULL);
    if (setenv(GUARD, m->blas_inherited, 1) == 0 && setenv("OPENBLAS_CORETYPE", core, 1) == 0)
        execv("/proc/self/exe", argv);
    int e = errno;
    unsetenv(GUARD);
    return ptq_status_set(st, PTQ_ERR_IO,
                          "cannot execute the program again for the BLAS core %s (now %s): %s; set "
                          "OPENBLAS_CORETYPE=%s or "
                          "PTQ_NO_REEXEC=1",
                          core, m->blas_core, strerror(e), core);
}

static bool may_execute_again(void)
{
    const char *no = getenv("PTQ_NO_REEXEC");
    return !no || !*no || strcmp(no, "0") == 0;
}

int ptq_machine_init(struct ptq_machine *m, bool portable, char **argv, struct ptq_status *st)
{
    memset(m, 0, sizeof *m);
    read_cpu_name(m->cpu, sizeof m->cpu);
    m->cpu_isa = detect_isa();
    const char *guard = getenv(GUARD);
    m->blas_repaired = guard != NULL;
    copy_text(m->blas_inherited, sizeof m->blas_inherited,
              guard ? guard : getenv("OPENBLAS_CORETYPE"));
    unsetenv(GUARD); /* a program started by this one begins afresh */
    read_blas(m);
    bool named;
    int rc = choose_isa(m, portable, &named, st);
    const char *core = rc == PTQ_OK ? wanted_core(m, named) : NULL;
    if (core && !m->blas_repaired && argv && may_execute_again())
        return execute_again(m, core, argv, st);
    if (core && portable)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "--portable needs the BLAS core Haswell, but %s runs %s; set "
                              "OPENBLAS_CORETYPE=Haswell%s",
                              m->blas_library, m->blas_core,
                              m->blas_repaired ? " or install an OpenBLAS with DYNAMIC_ARCH" : "");
    return rc;
}
