/* clock.h: wall time and peak memory of the process. */
#ifndef PTQ_CORE_CLOCK_H
#define PTQ_CORE_CLOCK_H
#include <stdint.h>

int64_t ptq_now_ns(void);         /* CLOCK_MONOTONIC */
int64_t ptq_peak_rss_bytes(void); /* getrusage */
#endif
