#include "model/internal.h"

#define ENTRY(name, hash) extern const struct ptq_arch ptq_arch_##name;
#include "archs.inc"
#undef ENTRY

const struct ptq_arch *const *ptq_archs(void)
{
#define ENTRY(name, hash) &ptq_arch_##name,
    static const struct ptq_arch *const table[] = {
#include "archs.inc"
        NULL};
#undef ENTRY
    return table;
}
