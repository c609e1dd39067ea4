#include "core/paths.h"
#include "version.inc"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool executable_root(char out[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0)
        return false;
    out[n] = 0;
    for (int up = 0; up < 3; up++) { /* root/build/release/ptq */
        char *slash = strrchr(out, '/');
        if (!slash)
            return false;
        *slash = 0;
    }
    return true;
}

static char *existing(struct ptq_arena *a, struct ptq_status *st, const char *folder,
                      const char *relative)
{
    char *p = ptq_arena_printf(a, st, "%s/%s", folder, relative);
    return p && access(p, R_OK) == 0 ? p : NULL;
}

int ptq_data_path(const char *relative, struct ptq_arena *a, char **path, struct ptq_status *st)
{
    char root[PATH_MAX] = "";
    const char *env = getenv("PTQ_DATA");
    const char *folders[] = {env && *env ? env : NULL, executable_root(root) ? root : NULL,
                             PTQ_PREFIX "/share/ptqbench", "."};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (folders[i] && (*path = existing(a, st, folders[i], relative)))
            return PTQ_OK;
    return ptq_status_set(st, PTQ_ERR_USAGE,
                          "%s: not found in $PTQ_DATA, %s, %s/share/ptqbench or the working "
                          "folder; set PTQ_DATA to the "
                          "folder that holds it",
                          relative, root, PTQ_PREFIX);
}
