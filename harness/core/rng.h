/* rng.h: random numbers without hidden state. Counter-based: the i-th number of stream (seed) is
 * a pure function of (seed, i), so any thread may draw any number. The sequential generator is
 * splitmix64, as the facts language specifies it. */
#ifndef PTQ_CORE_RNG_H
#define PTQ_CORE_RNG_H
#include <stdint.h>

struct ptq_rng {
    uint64_t s; /* state; the seed at first */
};
uint64_t ptq_rng_u64(struct ptq_rng *); /* splitmix64 */
/* u64() % n, n > 0: the facts language's rule. */
uint64_t ptq_rng_below(struct ptq_rng *, uint64_t n);

uint64_t ptq_hash_u64(uint64_t seed, uint64_t i); /* splitmix64 finaliser of seed and counter */
double ptq_uniform(uint64_t seed, uint64_t i);    /* [0, 1), 53 bits */
/* Standard normal, |x| < 8.6: Box-Muller on counters 2i, 2i+1 (i < 2^63); the same bits on every
 * CPU. */
double ptq_normal(uint64_t seed, uint64_t i);
#endif
