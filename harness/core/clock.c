#include "core/clock.h"
#include <sys/resource.h>
#include <time.h>

int64_t ptq_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t ptq_peak_rss_bytes(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return 0;
    return (int64_t)u.ru_maxrss * 1024; /* Linux counts KiB */
}
