/* machine.h: facts of the system that a measurement depends on: caches, free memory, who else ran.
 * Linux; what cannot be read is 0. Private to kernels/ and `ptq bench`. */
#ifndef PTQ_KERNELS_MACHINE_H
#define PTQ_KERNELS_MACHINE_H
#include <stdint.h>

int64_t ptq_last_cache_bytes(void);
/* What may be taken without harm: free or reclaimable, within the limits of a container. */
int64_t ptq_free_memory_bytes(void);

struct ptq_cpu_time {  /* ns since some moment, of all processors together */
    int64_t others_ns; /* busy with other processes or the system's own work */
    int64_t stolen_ns; /* taken by the host of a virtual machine */
};
/* In steps of 10 ms. */
struct ptq_cpu_time ptq_cpu_time(void);
int64_t ptq_thread_ns(void); /* time on a processor of the calling thread */
#endif
