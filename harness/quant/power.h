/* power.h: the power 2.4 by which searches of grids judge errors. These steps, not pow, are the
 * definition: they have the same bits everywhere, and kernels/ repeats them in registers. */
#ifndef PTQ_QUANT_POWER_H
#define PTQ_QUANT_POWER_H
#include <stdint.h>
#include <string.h>

/* t^(-1/5) for t in (1e-300, 1e300): the exponent by an integer fifth of the bits (1/5 = 3/16 (1
 * + 1/16) (1 + 1/256) ...), good to 3.2 %, then Newton's y (6 - t y^5) / 5, whose error e
 * becomes 3 e^2: 3e-3, 3e-5, 2e-9, rounding. The constant is 1.2 (1023 - 0.05) 2^52; 0.05 makes
 * the first guess's largest error smallest. */
#define PTQ_FIFTH_ROOT_BITS UINT64_C(0x4CB8A3D70A3D7000)
static inline double ptq_inverse_fifth_root(double t)
{
    uint64_t u;
    memcpy(&u, &t, sizeof u);
    uint64_t fifth = (u >> 3) + (u >> 4);
    fifth += fifth >> 4;
    fifth += fifth >> 8;
    fifth += fifth >> 16;
    u = PTQ_FIFTH_ROOT_BITS - fifth;
    double y;
    memcpy(&y, &u, sizeof y);
    for (int i = 0; i < 4; i++) {
        double y2 = y * y, y4 = y2 * y2;
        y = y * (1.2 - 0.2 * t * (y4 * y));
    }
    return y;
}

/* |e|^2.4 = t^2 (t^(-1/5))^4 with t = e^2. The small term keeps 0 out of the root; squared it is
 * 0. */
static inline double ptq_power_2_4(double e)
{
    double t = e * e + 1e-300, y = ptq_inverse_fifth_root(t), y2 = y * y;
    return t * t * (y2 * y2);
}
#endif
