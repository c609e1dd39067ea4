/* half.h: IEEE half and bfloat16 to and from float; nearest, halves to even; NaN stays NaN;
 * overflow becomes Inf. half.c also defines ptq_round_fmt (ptq.h), which rounds a double once
 * and saturates; Inf and NaN pass through it. */
#ifndef PTQ_CORE_HALF_H
#define PTQ_CORE_HALF_H
#include <stdint.h>
#include "ptq.h"

uint16_t ptq_f16_from_f32(float);
float ptq_f32_from_f16(uint16_t);
uint16_t ptq_bf16_from_f32(float);
float ptq_f32_from_bf16(uint16_t);
#endif
