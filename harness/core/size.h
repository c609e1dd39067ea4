/* size.h: products and sums of sizes that come from files or options, checked for overflow. */
#ifndef PTQ_CORE_SIZE_H
#define PTQ_CORE_SIZE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a * b (a + b); false on overflow or a negative operand, *out then undefined. */
static inline bool ptq_size_mul(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}
static inline bool ptq_size_add(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_add_overflow(a, b, out);
}
#endif
