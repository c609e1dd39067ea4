#include "datasets/synth.h"
#include <string.h>

#define ENTRY(name, version) extern const struct ptq_synth ptq_synth_##name;
#include "synths.inc"
#undef ENTRY

const struct ptq_synth *const *ptq_synths(void)
{
#define ENTRY(name, version) &ptq_synth_##name,
    static const struct ptq_synth *const all[] = {
#include "synths.inc"
        NULL};
#undef ENTRY
    return all;
}

const struct ptq_synth *ptq_synth_find(const char *name)
{
    for (const struct ptq_synth *const *s = ptq_synths(); *s; s++)
        if (!strcmp((*s)->name, name))
            return *s;
    return NULL;
}
