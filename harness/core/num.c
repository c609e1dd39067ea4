/* num.c: exp, log, pow, sin and cos from additions, multiplications, divisions and bit moves alone.
 * These are correctly rounded everywhere and contraction is off, so every CPU and every clone gives
 * the same bits. Series are Taylor's: their coefficients are written as quotients of small integers
 * and can be checked by eye. */
#include "core/num.h"
#include "core/clones.h"
#include <stdbool.h>
#include <string.h>

static inline uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline double of_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Adding 1.5 * 2^52 rounds to an integer (halves to even) and leaves it, as two's complement, in
 * the low bits. */
#define ROUNDER 0x1.8p52

/* ---- sums and products with their rounding error (Knuth, Dekker); no FMA, so that the error's
 * bits are the same everywhere */

struct pair {
    double hi, lo;
};

static inline struct pair two_sum(double a, double b)
{
    double s = a + b, t = s - a;
    return (struct pair){s, (a - (s - t)) + (b - t)};
}

static inline struct pair fast_two_sum(double a, double b) /* |a| >= |b| */
{
    double s = a + b;
    return (struct pair){s, b - (s - a)};
}

/* Upper 26 bits of the significand by cutting; of the four products of upper and lower parts only
 * the last, lower times lower, may round, 2^-106 below the product. */
static inline double upper(double a)
{
    return of_bits(bits_of(a) & 0xfffffffff8000000u);
}

static inline struct pair two_product(double a, double b)
{
    double ah = upper(a), al = a - ah, bh = upper(b), bl = b - bh, p = a * b;
    return (struct pair){p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
}

/* ---- exp ---- */

/* ln 2 = LN2_HI + LN2_LO; HI has 32 significant bits, so that k * LN2_HI is exact for |k| < 2^21.
 */
#define LN2_HI  0x1.62e42fee00000p-1
#define LN2_LO  0x1.a39ef35793c76p-33
#define INV_LN2 0x1.71547652b82fep0

/* 2^k for a whole k of a normal number. */
static inline double power_of_two(double k)
{
    return of_bits((bits_of(k + ROUNDER) << 52) + 0x3ff0000000000000u);
}

/* 2^k x for x in [1/2, 2) and |k| < 2000: one exact step, and one that may round (below the normal
 * range). */
static inline double scale_by_power(double x, double k)
{
    double half = (0.5 * k + ROUNDER) - ROUNDER;
    return x * power_of_two(half) * power_of_two(k - half);
}

/* Beyond these bounds exp is 0 or Inf all the same; NaN goes through. */
static inline double clamp_high(double x, double bound)
{
    return x > bound ? bound : x;
}

static inline double clamp_low(double x, double bound)
{
    return x < bound ? bound : x;
}

/* exp(c + tail) for -760 <= c <= 720 or NaN, |tail| <= ulp(c). c = k ln 2 + r, |r| <= 0.347: 1 + r
 * + r^2 / 2! + ... + r^13 / 13! leaves 4e-18. */
static inline double exp_sum(double c, double tail)
{
    double k = (c * INV_LN2 + ROUNDER) - ROUNDER;
    double hi = c - k * LN2_HI, lo = tail - k * LN2_LO;
    struct pair r = two_sum(hi, lo);
    double t = r.hi, q = 1.0 / 6227020800;
    q = q * t + 1.0 / 479001600;
    q = q * t + 1.0 / 39916800;
    q = q * t + 1.0 / 3628800;
    q = q * t + 1.0 / 362880;
    q = q * t + 1.0 / 40320;
    q = q * t + 1.0 / 5040;
    q = q * t + 1.0 / 720;
    q = q * t + 1.0 / 120;
    q = q * t + 1.0 / 24;
    q = q * t + 1.0 / 6;
    q = q * t + 0.5;
    double y = 1 + (t + (t * t * q + r.lo));
    return scale_by_power(y, k);
}

double ptq_exp(double x)
{
    return exp_sum(clamp_low(clamp_high(x, 720), -760), 0);
}

/* ---- log ---- */

struct split {
    double m, k; /* x = 2^k m, m in [sqrt(1/2), sqrt(2)) */
};

static inline struct split split_normal(double x)
{
    uint64_t u = bits_of(x);
    double m = of_bits((u & 0x000fffffffffffffu) | 0x3ff0000000000000u);
    double k = of_bits((u >> 52) | 0x4330000000000000u) -
               (0x1p52 + 1023); /* exponent bits as the low bits of 2^52 */
    bool upper_half = m > 0x1.6a09e667f3bcdp0;
    return (struct split){upper_half ? 0.5 * m : m, upper_half ? k + 1 : k};
}

static inline struct split split_positive(double x)
{
    if (x >= 0x1p-1022)
        return split_normal(x);
    struct split s = split_normal(x * 0x1p54);
    s.k -= 54;
    return s;
}

/* atanh(s) = s + s^3 / 3 + s^5 (1/5 + z / 7 + z^2 / 9 + ...), z = s^2 <= 0.0295: what is in the
 * brackets, to z^9 / 23. */
static inline double atanh_tail(double z)
{
    double q = 1.0 / 23;
    q = q * z + 1.0 / 21;
    q = q * z + 1.0 / 19;
    q = q * z + 1.0 / 17;
    q = q * z + 1.0 / 15;
    q = q * z + 1.0 / 13;
    q = q * z + 1.0 / 11;
    q = q * z + 1.0 / 9;
    q = q * z + 1.0 / 7;
    return q * z + 1.0 / 5;
}

/* With s = f / (2 + f): log(1 + f) = 2 atanh(s) = 2 s + s R, R = 2 (s^2 / 3 + s^4 / 5 + ...). Since
 * 2 s = f - s f and s f = f^2 / 2 - s f^2 / 2, this is f - (f^2 / 2 - s (f^2 / 2 + R)), whose
 * leading term f is exact. */
double ptq_log(double x)
{
    if (!(x > 0))
        return x == 0 ? -__builtin_inf() : __builtin_nan("");
    if (x > 0x1.fffffffffffffp1023)
        return x;
    struct split x2 = split_positive(x);
    double k = x2.k, f = x2.m - 1, s = f / (2 + f), z = s * s, half = 0.5 * f * f;
    double r = 2 * z * (1.0 / 3 + z * atanh_tail(z));
    return k * LN2_HI - ((half - (s * (half + r) + k * LN2_LO)) - f);
}

/* ---- pow ---- */

/* log x with an error near 2^-66 of it, as a pair: s = (m - 1) / (m + 1) = s.hi + s.lo by one step
 * of long division, then 2 s (1 + s^2 / 3 + s^4 (1/5 + ...)), the first two terms as pairs. */
static inline struct pair log_pair(struct split x)
{
    static const struct pair third = {0x1.5555555555555p-2, 0x1.5555555555555p-56};
    double f = x.m - 1, d = x.m + 1, d_lo = x.m - (d - 1);
    struct pair s = {f / d, 0}, sd = two_product(s.hi, d);
    s.lo = (((f - sd.hi) - sd.lo) - s.hi * d_lo) / d;
    struct pair z = two_product(s.hi, s.hi);
    z.lo += 2 * s.hi * s.lo;
    struct pair c = two_sum(third.hi, z.hi * atanh_tail(z.hi)); /* 1/3 + s^2 / 5 + ... */
    c.lo += third.lo;
    struct pair w = two_product(z.hi, c.hi);
    w.lo += z.hi * c.lo + z.lo * c.hi;
    struct pair sw = two_product(s.hi, w.hi);
    sw.lo += s.hi * w.lo + s.lo * w.hi;
    struct pair t = fast_two_sum(2 * s.hi, 2 * sw.hi);
    t.lo += 2 * (s.lo + sw.lo);
    struct pair sum = two_sum(x.k * LN2_HI, t.hi);
    sum.lo += t.lo + x.k * LN2_LO;
    return fast_two_sum(sum.hi, sum.lo);
}

/* y log x as a pair */
static inline struct pair log_times(struct split x, double y)
{
    struct pair l = log_pair(x), p = two_product(l.hi, y);
    p.lo += l.lo * y;
    return fast_two_sum(p.hi, p.lo);
}

double ptq_pow(double x, double y)
{
    if (y == 0 || x == 1)
        return 1;
    if (y != y)
        return y;
    if (!(x > 0))
        return x != 0 ? __builtin_nan("") : y > 0 ? 0 : __builtin_inf();
    /* |log x| >= 2^-53 here: beyond these bounds of y the result is 0 or Inf */
    if (x > 0x1.fffffffffffffp1023 || y > 0x1p70 || y < -0x1p70)
        return (x > 1) == (y > 0) ? __builtin_inf() : 0;
    struct pair p = log_times(split_positive(x), y);
    if (!(p.hi < 720 && p.hi > -760))
        return p.hi > 0 ? __builtin_inf() : 0;
    return exp_sum(p.hi, p.lo);
}

enum { BLOCK = 256 };

/* Loops of one step each: where one loop clamps and goes on, gcc makes the clamped value a path of
 * its own and vectorises nothing. Only for |y| <= 1000, normal positive x and results: pow_repair
 * does the others. */
PTQ_CLONES static void pow_block(const double *restrict x, double y, double *restrict out,
                                 int64_t n)
{
    struct {
        double m[BLOCK], k[BLOCK], hi[BLOCK], lo[BLOCK];
    } b;
    for (int64_t i = 0; i < n; i++) {
        struct split s = split_normal(x[i]);
        b.m[i] = s.m;
        b.k[i] = s.k;
    }
    for (int64_t i = 0; i < n; i++) {
        struct pair p = log_times((struct split){b.m[i], b.k[i]}, y);
        b.hi[i] = p.hi;
        b.lo[i] = p.lo;
    }
    for (int64_t i = 0; i < n; i++)
        b.hi[i] = clamp_high(b.hi[i], 719);
    for (int64_t i = 0; i < n; i++)
        b.hi[i] = clamp_low(b.hi[i], -759);
    for (int64_t i = 0; i < n; i++)
        out[i] = exp_sum(b.hi[i], b.lo[i]);
}

PTQ_CLONES static bool all_plain(const double *x, const double *out, int64_t n)
{
    uint64_t odd = 0;
    for (int64_t i = 0; i < n; i++) {
        odd |= !(x[i] >= 0x1p-1022 && x[i] <= 0x1.fffffffffffffp1023);
        odd |= !(out[i] >= 0x1p-1022 && out[i] <= 0x1.fffffffffffffp1023);
    }
    return !odd;
}

static void pow_repair(const double *x, double y, double *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!all_plain(x + i, out + i, 1))
            out[i] = ptq_pow(x[i], y);
}

void ptq_pow_n(const double *x, double y, double *out, int64_t n)
{
    bool usual = y >= -1000 && y <= 1000 && y != 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = n - i < BLOCK ? n - i : BLOCK;
        if (usual)
            pow_block(x + i, y, out + i, m);
        for (int64_t j = i; j < i + m && !usual; j++)
            out[j] = ptq_pow(x[j], y);
        if (usual && !all_plain(x + i, out + i, m))
            pow_repair(x + i, y, out + i, m);
    }
}

/* ---- sin, cos ---- */

/* pi / 2 in three parts of 23 bits, whose products with n < 2^30 are exact, and a rest of 53. */
#define PIO2_1 0x1.921fb4p0
#define PIO2_2 0x1.4442d0p-24
#define PIO2_3 0x1.846988p-48
#define PIO2_4 0x1.8cc51701b839ap-72

/* x - n pi / 2 as a pair, |sum| <= pi / 4. The first difference is exact; the others keep their
 * errors, because x may lie so close to n pi / 2 that the leading bits cancel. */
static struct pair reduce(double x, unsigned *quadrant)
{
    double shifted = x * 0x1.45f306dc9c883p-1 + ROUNDER, n = shifted - ROUNDER;
    *quadrant = (unsigned)(bits_of(shifted) & 3);
    struct pair b = two_sum(x - n * PIO2_1, -(n * PIO2_2)), c = two_sum(b.hi, -(n * PIO2_3));
    return two_sum(c.hi, (b.lo + c.lo) - n * PIO2_4);
}

void ptq_sincos(double x, double *s, double *c)
{
    if (!(x > -1e9 && x < 1e9)) {
        *s = *c = __builtin_nan("");
        return;
    }
    unsigned quadrant;
    struct pair r = reduce(x, &quadrant);
    double t = r.hi, z = t * t, p = 1.0 / 355687428096000, q = 1.0 / 20922789888000;
    p = 1.0 / 1307674368000 - p * z;
    p = 1.0 / 6227020800 - p * z;
    p = 1.0 / 39916800 - p * z;
    p = 1.0 / 362880 - p * z;
    p = 1.0 / 5040 - p * z;
    p = 1.0 / 120 - p * z;
    p = 1.0 / 6 - p * z;
    q = 1.0 / 87178291200 - q * z;
    q = 1.0 / 479001600 - q * z;
    q = 1.0 / 3628800 - q * z;
    q = 1.0 / 40320 - q * z;
    q = 1.0 / 720 - q * z;
    q = 1.0 / 24 - q * z;
    double half = 0.5 * z, one = 1 - half;
    double sine = t + (r.lo * one - t * z * p),
           cosine = one + (((1 - one) - half) + (z * z * q - t * r.lo));
    double first = quadrant & 1 ? cosine : sine, second = quadrant & 1 ? sine : cosine;
    *s = quadrant & 2 ? -first : first;
    *c = (quadrant + 1) & 2 ? -second : second;
}

/* ---- exp of many, fp64 ---- */

/* A loop a clamp, as in pow_block. */
PTQ_CLONES static void exp_block_f64(const double *x, double *y, int64_t n)
{
    double c[BLOCK];
    for (int64_t i = 0; i < n; i++)
        c[i] = clamp_high(x[i], 720);
    for (int64_t i = 0; i < n; i++)
        c[i] = clamp_low(c[i], -760);
    for (int64_t i = 0; i < n; i++)
        y[i] = exp_sum(c[i], 0);
}

void ptq_exp_n(const double *x, double *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += BLOCK)
        exp_block_f64(x + i, y + i, n - i < BLOCK ? n - i : BLOCK);
}

/* ---- exp in fp32 ---- */

#define ROUNDER_F 0x1.8p23f

/* LN2_HI_F has 15 significant bits: k times it is exact for |k| < 2^9. */
#define LN2_HI_F  0x1.62e4p-1f
#define LN2_LO_F  0x1.7f7d1cp-20f
#define INV_LN2_F 0x1.715476p0f

/* 2^k for a whole k of a normal number. */
static inline float power_of_two_f(float k)
{
    float shifted = k + ROUNDER_F, x;
    uint32_t u;
    memcpy(&u, &shifted, sizeof u);
    u = (u << 23) + 0x3f800000u;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* exp(c) for -105 <= c <= 89 or NaN, in fp32 alone (softmax calls it once a pair of positions).
 * hi is exact and so is lo, what t leaves of the difference. 1 + t + ... + t^7 / 7! leaves 5e-9, a
 * tenth of half an ulp. The last sum rounds by half an ulp, the one before by a quarter at most. */
static inline float exp_clamped(float c)
{
    float k = (c * INV_LN2_F + ROUNDER_F) - ROUNDER_F;
    float hi = c - k * LN2_HI_F, cut = k * LN2_LO_F, t = hi - cut, lo = (hi - t) - cut;
    float q = 1.0f / 5040;
    q = q * t + 1.0f / 720;
    q = q * t + 1.0f / 120;
    q = q * t + 1.0f / 24;
    q = q * t + 1.0f / 6;
    q = q * t + 0.5f;
    float y = 1 + (t + (t * t * q + lo)), half = (0.5f * k + ROUNDER_F) - ROUNDER_F;
    return y * power_of_two_f(half) * power_of_two_f(k - half);
}

static inline float clamp_high_f(float x, float bound)
{
    return x > bound ? bound : x;
}

static inline float clamp_low_f(float x, float bound)
{
    return x < bound ? bound : x;
}

float ptq_expf(float x)
{
    return exp_clamped(clamp_low_f(clamp_high_f(x, 89), -105));
}

/* A loop a clamp, as in pow_block. */
PTQ_CLONES static void exp_block(const float *x, float shift, float *y, int64_t n)
{
    float c[BLOCK];
    for (int64_t i = 0; i < n; i++)
        c[i] = clamp_high_f(x[i] - shift, 89);
    for (int64_t i = 0; i < n; i++)
        c[i] = clamp_low_f(c[i], -105);
    for (int64_t i = 0; i < n; i++)
        y[i] = exp_clamped(c[i]);
}

void ptq_expf_n(const float *x, float shift, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += BLOCK)
        exp_block(x + i, shift, y + i, n - i < BLOCK ? n - i : BLOCK);
}
