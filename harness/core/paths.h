/* paths.h: where the program's own data files lie (configs/, plots/, datasets/demo.h5). Looked for
 * in this order: $PTQ_DATA, the source tree the executable was built in (two folders above it), the
 * installed PREFIX/share/ptqbench, the working folder. */
#ifndef PTQ_CORE_PATHS_H
#define PTQ_CORE_PATHS_H
#include "core/arena.h"

/* Full path of "configs/presets.ini" and the like; PTQ_ERR_USAGE with the folders tried when
 * absent. */
int ptq_data_path(const char *relative, struct ptq_arena *, char **path, struct ptq_status *);
#endif
