/* registry.c: the folder's kernels, and which one serves. */
#include "kernels/kernel.h"

#define ENTRY(name, hash) extern const struct ptq_kernel ptq_kernel_##name;
#include "kernels.inc"
#undef ENTRY

#define ENTRY(name, hash) &ptq_kernel_##name,
const struct ptq_kernel *const ptq_kernels[] = {
#include "kernels.inc"
    NULL};
#undef ENTRY

#define ENTRY(name, hash) #name,
static const char *const names[] = {
#include "kernels.inc"
    NULL};
#undef ENTRY

const int ptq_n_kernels = sizeof ptq_kernels / sizeof *ptq_kernels - 1;

const char *const ptq_kop_names[PTQ_N_KOPS] = {
    "matmul_f32", "matmul_i8", "pack",     "unpack",   "bits_pack", "bits_unpack", "rowq_minmax",
    "rowq_mse",   "actq",      "hadamard", "vq_table", "vq_add",    "vq_rows"};

const char *ptq_kernels_version(void)
{
    return ""
#define ENTRY(name, hash) hash
#include "kernels.inc"
#undef ENTRY
        ;
}

const char *ptq_kernel_name(int index)
{
    return names[index];
}

const struct ptq_kernel *ptq_kernel_best(enum ptq_kop op, unsigned flags,
                                         const struct ptq_kweight *w, int64_t n_tokens)
{
    const struct ptq_kernel *best = NULL;
    for (int i = 0; i < ptq_n_kernels; i++) {
        const struct ptq_kernel *k = ptq_kernels[i];
        if (k->op != op || (k->needs & ~flags) || (k->serves && !k->serves(w, n_tokens)))
            continue;
        if (!best || k->rank > best->rank)
            best = k;
    }
    return best;
}
