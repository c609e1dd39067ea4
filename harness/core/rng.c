#include "core/rng.h"
#include "core/num.h"
#include <math.h>

static const uint64_t GOLDEN = 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio, odd */

/* The finaliser of splitmix64: a bijection of 64 bits in which every input bit reaches every
 * output bit. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

uint64_t ptq_rng_u64(struct ptq_rng *r)
{
    return mix(r->s += GOLDEN);
}

uint64_t ptq_rng_below(struct ptq_rng *r, uint64_t n)
{
    return ptq_rng_u64(r) % n;
}

/* The seed is mixed first: else stream s + GOLDEN would be stream s moved by one draw. */
uint64_t ptq_hash_u64(uint64_t seed, uint64_t i)
{
    return mix(mix(seed + GOLDEN) + i * GOLDEN);
}

double ptq_uniform(uint64_t seed, uint64_t i)
{
    return (double)(ptq_hash_u64(seed, i) >> 11) * 0x1p-53;
}

double ptq_normal(uint64_t seed, uint64_t i)
{
    /* (0, 1]: the logarithm stays finite; the largest radius is sqrt(2 * 53 ln 2) = 8.57. */
    double u = (double)((ptq_hash_u64(seed, 2 * i) >> 11) + 1) * 0x1p-53;
    double s, c;
    ptq_sincos(6.283185307179586 * ptq_uniform(seed, 2 * i + 1), &s, &c);
    return sqrt(-2 * ptq_log(u)) * c;
}
