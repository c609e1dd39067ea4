/* random.c: the random numbers of methods (ptq.h): those of core/rng.h. */
#include "core/rng.h"
#include "ptq.h"

double ptq_random_uniform(uint64_t seed, uint64_t i)
{
    return ptq_uniform(seed, i);
}

double ptq_random_normal(uint64_t seed, uint64_t i)
{
    return ptq_normal(seed, i);
}
