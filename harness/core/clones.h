/* clones.h: PTQ_CLONES for the harness's own loops: one loop compiled for several instruction sets,
 * chosen by the loader. Defined, with its rules, in ptq.h; integer reductions are fine too. */
#ifndef PTQ_CORE_CLONES_H
#define PTQ_CORE_CLONES_H
#include "ptq.h"
#endif
