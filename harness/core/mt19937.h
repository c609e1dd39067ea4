/* mt19937.h: the numbers of Python's `random` module, for calibration draws that are defined by it:
 * MT19937 (Matsumoto and Nishimura 1998) seeded by the 32-bit words of |seed|, low word first. */
#ifndef PTQ_CORE_MT19937_H
#define PTQ_CORE_MT19937_H
#include <stdint.h>

struct ptq_mt19937 {
    uint32_t s[624];
    int at;
};
void ptq_mt19937_seed(struct ptq_mt19937 *, uint64_t seed); /* random.seed(seed) */
uint32_t ptq_mt19937_u32(struct ptq_mt19937 *);             /* random.getrandbits(32) */
/* random.randint(0, n - 1), n > 0. */
uint64_t ptq_mt19937_below(struct ptq_mt19937 *, uint64_t n);
#endif
