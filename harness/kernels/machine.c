#include "kernels/machine.h"
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CACHES = 8 };

static bool read_line(const char *path, char *line, int size)
{
    FILE *f = fopen(path, "r");
    const bool got = f && fgets(line, size, f);
    if (f)
        fclose(f);
    return got;
}

/* ---- caches ---- */

/* "32768K" -> bytes. */
static int64_t size_of(const char *text)
{
    long long n = 0;
    char unit = 0;
    if (sscanf(text, "%lld%c", &n, &unit) < 1 || n < 0 || n > 1 << 30)
        return 0;
    return unit == 'K' ? n << 10 : unit == 'M' ? n << 20 : n;
}

/* Of the highest level that processor 0 has. The library's own answer adds the caches of a whole
 * socket up, which no thread of a part of it sees. */
static int64_t cache_in_sys(void)
{
    int64_t bytes = 0;
    int top = 0;
    for (int i = 0; i < MAX_CACHES; i++) {
        char path[96], line[64];
        int level = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        if (!read_line(path, line, sizeof line) || sscanf(line, "%d", &level) != 1 || level <= top)
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (read_line(path, line, sizeof line)) {
            top = level;
            bytes = size_of(line);
        }
    }
    return bytes;
}

int64_t ptq_last_cache_bytes(void)
{
    const int64_t bytes = cache_in_sys();
    const long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return bytes > 0 ? bytes : l3 > 0 ? l3 : l2 > 0 ? l2 : 0;
}

/* ---- memory ---- */

static int64_t free_in_proc(void)
{
    char line[160];
    int64_t kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %" SCNd64, &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

/* What a control group leaves: limit - usage. */
static int64_t free_in_group(const char *limit, const char *usage)
{
    char line[64];
    int64_t most = 0, used = 0;
    if (!read_line(limit, line, sizeof line) || sscanf(line, "%" SCNd64, &most) != 1 ||
        !read_line(usage, line, sizeof line) || sscanf(line, "%" SCNd64, &used) != 1)
        return INT64_MAX;
    return most > used ? most - used : 0;
}

int64_t ptq_free_memory_bytes(void)
{
    const int64_t all = free_in_proc(),
                  v2 = free_in_group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
                  v1 = free_in_group("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                     "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
                  group = v1 < v2 ? v1 : v2;
    return group < all ? group : all;
}

/* ---- who ran ---- */

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t ptq_thread_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

struct ptq_cpu_time ptq_cpu_time(void)
{
    struct ptq_cpu_time t = {0};
    char line[256];
    /* user nice system idle iowait irq softirq steal */
    long long v[8] = {0};
    const long ticks = sysconf(_SC_CLK_TCK);
    if (ticks <= 0 || !read_line("/proc/stat", line, sizeof line) ||
        sscanf(line, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &v[0], &v[1], &v[2], &v[3],
               &v[4], &v[5], &v[6], &v[7]) != 8)
        return t;
    const int64_t tick_ns = 1000000000 / ticks;
    t.others_ns = (v[0] + v[1] + v[2] + v[5] + v[6]) * tick_ns - clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    t.stolen_ns = v[7] * tick_ns;
    return t;
}
