#include "core/mt19937.h"

enum { N = 624, M = 397 };

/* The generator's own seeding by one number, then by an array of them: init_by_array. */
static void seed_words(struct ptq_mt19937 *r, const uint32_t *key, int n_key)
{
    uint32_t *s = r->s;
    s[0] = 19650218u;
    for (int i = 1; i < N; i++)
        s[i] = 1812433253u * (s[i - 1] ^ (s[i - 1] >> 30)) + (uint32_t)i;
    int i = 1, j = 0;
    for (int k = N > n_key ? N : n_key; k; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + key[j] + (uint32_t)j;
        j = (j + 1) % n_key;
        if (++i == N) {
            s[0] = s[N - 1];
            i = 1;
        }
    }
    for (int k = N - 1; k; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - (uint32_t)i;
        if (++i == N) {
            s[0] = s[N - 1];
            i = 1;
        }
    }
    s[0] = 0x80000000u;
    r->at = N;
}

/* Python drops leading zero words of the seed, all but one of them for 0. */
void ptq_mt19937_seed(struct ptq_mt19937 *r, uint64_t seed)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    seed_words(r, key, key[1] ? 2 : 1);
}

static void refill(struct ptq_mt19937 *r)
{
    uint32_t *s = r->s;
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    r->at = 0;
}

uint32_t ptq_mt19937_u32(struct ptq_mt19937 *r)
{
    if (r->at >= N)
        refill(r);
    uint32_t y = r->s[r->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* getrandbits(k): whole words come low first, the last one by its top bits. */
static uint64_t top_bits(struct ptq_mt19937 *r, int k)
{
    if (k <= 32)
        return ptq_mt19937_u32(r) >> (32 - k);
    uint64_t low = ptq_mt19937_u32(r);
    return low | (uint64_t)(ptq_mt19937_u32(r) >> (64 - k)) << 32;
}

/* randint draws as many bits as n has and draws again while they are not below n. */
uint64_t ptq_mt19937_below(struct ptq_mt19937 *r, uint64_t n)
{
    int k = 64 - __builtin_clzll(n);
    uint64_t v = top_bits(r, k);
    while (v >= n)
        v = top_bits(r, k);
    return v;
}
