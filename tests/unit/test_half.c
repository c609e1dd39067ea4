#include "testlib.h"
#include "core/half.h"
#include <float.h>

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

/* The definition (IEEE 754): (-1)^s 2^(e - bias) (1 + m / 2^p), without the 1 for e = 0. */
static double value(uint32_t h, int exponent_bits, int mantissa_bits)
{
    int all = (1 << exponent_bits) - 1, e = (int)(h >> mantissa_bits) & all, bias = all >> 1;
    double m = h & ((1u << mantissa_bits) - 1), scale = ldexp(1, -mantissa_bits);
    double magnitude = e == all ? (m != 0 ? (double)NAN : (double)INFINITY)
                       : e      ? ldexp(1 + m * scale, e - bias)
                                : ldexp(m * scale, 1 - bias);
    return h >> (exponent_bits + mantissa_bits) ? -magnitude : magnitude;
}

static double f16_value(uint32_t h)
{
    return value(h, 5, 10);
}

static double bf16_value(uint32_t h)
{
    return value(h, 8, 7);
}

static void all_patterns_decode_and_come_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = ptq_f32_from_f16((uint16_t)h), b = ptq_f32_from_bf16((uint16_t)h);
        if (isnan(f16_value(h))) {
            assert_true(isnan(f) && (bits_of(f) & 0x400000)); /* quiet */
            assert_int_equal(ptq_f16_from_f32(f), h | 0x200); /* quiet, same payload and sign */
        } else {
            assert_true(f == f16_value(h) && !!signbit(f) == !!signbit(f16_value(h)));
            assert_int_equal(ptq_f16_from_f32(f), h);
        }
        if (isnan(bf16_value(h))) {
            assert_true(isnan(b));
            assert_int_equal(ptq_bf16_from_f32(b), h | 0x40);
        } else {
            assert_true(b == bf16_value(h) && !!signbit(b) == !!signbit(bf16_value(h)));
            assert_int_equal(ptq_bf16_from_f32(b), h);
        }
    }
}

/* Between every two neighbours: the middle goes to the even pattern, its own neighbours to the
 * nearer one. `last` is the pattern of Inf, so that the step to overflow is met too (its value
 * counts as the next power of two). */
static void check_ties(uint16_t (*encode)(float), double (*decode)(uint32_t), uint32_t last,
                       double beyond)
{
    for (uint32_t h = 0; h < last; h++) {
        double lo = decode(h), hi = h + 1 == last ? beyond : decode(h + 1),
               middle = lo + (hi - lo) / 2;
        uint32_t even = h & 1 ? h + 1 : h, sign = 0x8000;
        float m = (float)middle;
        if (m == middle) { /* else below fp32's own steps */
            assert_int_equal(encode(m), even);
            assert_int_equal(encode(-m), even | sign);
        }
        float below = nextafterf(m, 0), above = nextafterf(m, INFINITY);
        if (below > lo && below < middle)
            assert_int_equal(encode(below), h);
        if (above < hi && above > middle)
            assert_int_equal(encode(above), h + 1);
    }
}

static void encoding_rounds_to_nearest_even(void **state)
{
    (void)state;
    check_ties(ptq_f16_from_f32, f16_value, 0x7C00, 65536);
    check_ties(ptq_bf16_from_f32, bf16_value, 0x7F80, 0x1p128);
    assert_int_equal(ptq_f16_from_f32(65519.996f), 0x7BFF);
    assert_int_equal(ptq_f16_from_f32(65520.f), 0x7C00);
    assert_int_equal(ptq_f16_from_f32(-FLT_MAX), 0xFC00);
    assert_int_equal(ptq_f16_from_f32(0x1p-25f), 0);
    assert_int_equal(ptq_f16_from_f32(0x1.000002p-25f), 1);
    assert_int_equal(ptq_f16_from_f32(-0.f), 0x8000);
    assert_int_equal(ptq_f16_from_f32(FLT_TRUE_MIN), 0);
    assert_int_equal(ptq_bf16_from_f32(FLT_MAX), 0x7F80);
}

/* The compiler's own conversion (libgcc's or the CPU's) over a million patterns of fp32, NaN and
 * denormals among them. */
static void agrees_with_the_compiler(void **state)
{
    (void)state;
#ifdef __FLT16_MANT_DIG__
    for (uint64_t u = 0; u < (uint64_t)1 << 32; u += 4099) {
        float x = float_of((uint32_t)u);
        _Float16 y = (_Float16)x;
        uint16_t want;
        memcpy(&want, &y, sizeof want);
        if (isnan(x))
            assert_true((ptq_f16_from_f32(x) & 0x7FFF) > 0x7C00);
        else
            assert_int_equal(ptq_f16_from_f32(x), want);
    }
#else
    printf("SKIP agrees_with_the_compiler: no _Float16\n");
    skip();
#endif
}

/* One rounding from fp64: just beside a tie of the format, nearer than fp32 can tell. By way of
 * fp32 it would be the tie. */
static void check_single_rounding(enum ptq_fmt fmt, double (*decode)(uint32_t), uint32_t last)
{
    for (uint32_t h = 1; h + 1 < last; h++) {
        double lo = decode(h), hi = decode(h + 1), middle = lo + (hi - lo) / 2;
        assert_true(ptq_round_fmt(middle, fmt) == (h & 1 ? hi : lo));
        assert_true(ptq_round_fmt(nextafter(middle, 0), fmt) == lo);
        assert_true(ptq_round_fmt(nextafter(middle, INFINITY), fmt) == hi);
        assert_true(ptq_round_fmt(-nextafter(middle, INFINITY), fmt) == -hi);
        assert_true(ptq_round_fmt(lo, fmt) == lo);
    }
}

static void scales_are_rounded_once(void **state)
{
    (void)state;
    check_single_rounding(PTQ_FMT_F16, f16_value, 0x7C00);
    check_single_rounding(PTQ_FMT_BF16, bf16_value, 0x7F80);
    double beside = 1 + 0x1p-11 + 0x1p-40; /* fp32 sees the tie 1 + 2^-11, which goes down to 1 */
    assert_true(ptq_f32_from_f16(ptq_f16_from_f32((float)beside)) == 1);
    assert_true(ptq_round_fmt(beside, PTQ_FMT_F16) == 1 + 0x1p-10);
}

static void scales_saturate(void **state)
{
    (void)state;
    static const struct {
        enum ptq_fmt fmt;
        double smallest, largest;
    } f[] = {{PTQ_FMT_F16, 0x1p-24, 65504},
             {PTQ_FMT_BF16, 0x1p-133, 0x1.FEp127},
             {PTQ_FMT_F32, FLT_TRUE_MIN, FLT_MAX},
             {PTQ_FMT_NONE, FLT_TRUE_MIN, FLT_MAX}};
    for (int64_t i = 0; i < LENGTH(f); i++) {
        static const double tiny[] = {DBL_TRUE_MIN, 1e-300, 1e-100};
        for (int64_t k = 0; k < LENGTH(tiny); k++) {
            assert_true(ptq_round_fmt(tiny[k], f[i].fmt) == (float)f[i].smallest);
            assert_true(ptq_round_fmt(-tiny[k], f[i].fmt) == -(float)f[i].smallest);
        }
        assert_true(ptq_round_fmt(DBL_MAX, f[i].fmt) == (float)f[i].largest);
        assert_true(ptq_round_fmt(-1e39, f[i].fmt) == -(float)f[i].largest);
        assert_true(ptq_round_fmt(f[i].largest * 1.0001, f[i].fmt) == (float)f[i].largest);
        assert_true(ptq_round_fmt(0, f[i].fmt) == 0);
        assert_true(isinf(ptq_round_fmt(INFINITY, f[i].fmt))); /* a fault stays visible */
        assert_true(isnan(ptq_round_fmt(NAN, f[i].fmt)));
    }
}

static void f32_is_the_compilers_rounding(void **state)
{
    (void)state;
    uint64_t s = 1;
    for (int i = 0; i < 200000; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        double x = ldexp(1 + (double)(s >> 11) * 0x1p-53, (int)(s % 276) - 148);
        if (x < 0x1p-149 || x > FLT_MAX)
            continue;
        assert_true(bits_of(ptq_round_fmt(x, PTQ_FMT_F32)) == bits_of((float)x));
        assert_true(bits_of(ptq_round_fmt(-x, PTQ_FMT_NONE)) == bits_of((float)-x));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_patterns_decode_and_come_back),
        cmocka_unit_test(encoding_rounds_to_nearest_even),
        cmocka_unit_test(agrees_with_the_compiler),
        cmocka_unit_test(scales_are_rounded_once),
        cmocka_unit_test(scales_saturate),
        cmocka_unit_test(f32_is_the_compilers_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
