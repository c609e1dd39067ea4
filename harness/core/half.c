#include "core/half.h"
#include <float.h>
#include <math.h>
#include <string.h>

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* v >> shift, rounded to nearest, halves to even; 1 <= shift <= 31. A carry runs into the
 * exponent field, where it is right. */
static uint32_t shift_round(uint32_t v, int shift)
{
    uint32_t half = 1u << (shift - 1), rest = v & ((half << 1) - 1), q = v >> shift;
    return q + (rest > half || (rest == half && (q & 1)));
}

uint16_t ptq_f16_from_f32(float x)
{
    uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, mag = u & 0x7FFFFFFF;
    if (mag > 0x7F800000) /* NaN: made quiet, the payload's upper bits kept */
        return (uint16_t)(sign | 0x7E00 | (mag >> 13 & 0x3FF));
    if (mag >= 0x477FF000) /* 65520 = 65504 + half a step, ties to even: Inf */
        return (uint16_t)(sign | 0x7C00);
    if (mag >= 0x38800000) /* normal, >= 2^-14: exponent bias 127 -> 15 */
        return (uint16_t)(sign | shift_round(mag - 0x38000000, 13));
    int exponent = (int)(mag >> 23); /* biased; the value counts steps of 2^-24 */
    if (exponent < 102)              /* below 2^-25: nearer to 0 */
        return (uint16_t)sign;
    uint32_t mantissa = (mag & 0x7FFFFF) | 0x800000;
    return (uint16_t)(sign | shift_round(mantissa, 126 - exponent));
}

float ptq_f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3FF;
    if (exponent == 31) /* Inf, or NaN made quiet */
        return float_of(sign | 0x7F800000 | mantissa << 13 | (mantissa ? 0x400000 : 0));
    if (exponent == 0) { /* subnormal: mantissa * 2^-24, exact in fp32 */
        float magnitude = (float)mantissa * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t ptq_bf16_from_f32(float x)
{
    uint32_t u = bits_of(x);
    if ((u & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)shift_round(u, 16);
}

float ptq_f32_from_bf16(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

/* A binary format: `digits` significant bits, normal numbers from 2^min_exponent on. */
struct format {
    int digits, min_exponent;
    double largest;
};

/* Rounds a finite magnitude > 0 once: double -> fp32 -> half would round twice, and fall on
 * false ties. */
static double round_magnitude(double x, const struct format *f)
{
    int e;
    frexp(x, &e); /* 2^(e-1) <= x < 2^e */
    if (e - 1 < f->min_exponent)
        e = f->min_exponent + 1;
    int step = e - f->digits; /* the format's step at x is 2^step; scaling by it is exact */
    double y = ldexp(rint(ldexp(x, -step)), step);
    double smallest = ldexp(1, f->min_exponent + 1 - f->digits);
    return y > f->largest ? f->largest : y < smallest ? smallest : y;
}

float ptq_round_fmt(double x, enum ptq_fmt fmt)
{
    static const struct format f16 = {11, -14, 65504};
    static const struct format bf16 = {8, -126, 0x1.FEp127};
    static const struct format f32 = {24, -126, FLT_MAX};
    if (x == 0 || !isfinite(x)) /* Inf and NaN are faults of the caller's data: shown, not hidden */
        return (float)x;
    if (fmt == PTQ_FMT_INT)
        return (float)rint(x);
    const struct format *f = fmt == PTQ_FMT_F16 ? &f16 : fmt == PTQ_FMT_BF16 ? &bf16 : &f32;
    return (float)copysign(round_magnitude(fabs(x), f), x);
}
