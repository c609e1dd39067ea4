#include "datasets/gguf_types.h"
#include "core/half.h"
#include <stddef.h>
#include <string.h>

/* The bits of a dequantized value are part of the format: every product and sum below is one fp32
 * operation, in the reference's order: (d * scale) * code - dmin * min. (Only the sum and the
 * second product can round: a half's 11 bits times a scale of at most 8 fit into 24.) */

static float half_at(const uint8_t *raw)
{
    return ptq_f32_from_f16((uint16_t)(raw[0] | raw[1] << 8));
}

static uint32_t u32_at(const uint8_t *raw)
{
    return (uint32_t)raw[0] | (uint32_t)raw[1] << 8 | (uint32_t)raw[2] << 16 |
           (uint32_t)raw[3] << 24;
}

/* ---- plain floats: a block is one value */

static void decode_f32(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    memcpy(out, raw, (size_t)n * sizeof *out);
}

static void decode_f16(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = half_at(raw + 2 * i);
}

static void decode_bf16(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = ptq_f32_from_bf16((uint16_t)(raw[2 * i] | raw[2 * i + 1] << 8));
}

static void decode_f64(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (int64_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, raw + 8 * i, sizeof v);
        out[i] = (float)v;
    }
}

/* ---- blocks of 32: low nibbles are the first 16 values, high ones the last 16 */

enum { SMALL = 32, HALF = SMALL / 2 };

static void decode_q4_0(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 18, out += SMALL) {
        const float d = half_at(raw);
        for (int i = 0; i < HALF; i++) {
            out[i] = d * (float)((raw[2 + i] & 15) - 8);
            out[i + HALF] = d * (float)((raw[2 + i] >> 4) - 8);
        }
    }
}

static void decode_q4_1(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 20, out += SMALL) {
        const float d = half_at(raw), m = half_at(raw + 2);
        for (int i = 0; i < HALF; i++) {
            out[i] = d * (float)(raw[4 + i] & 15) + m;
            out[i + HALF] = d * (float)(raw[4 + i] >> 4) + m;
        }
    }
}

/* Bit i of `high` is the fifth bit of value i. */
static void five_bits(const uint8_t *nibbles, uint32_t high, int code[SMALL])
{
    for (int i = 0; i < HALF; i++) {
        code[i] = (nibbles[i] & 15) | (int)(high >> i & 1) << 4;
        code[i + HALF] = nibbles[i] >> 4 | (int)(high >> (i + HALF) & 1) << 4;
    }
}

static void decode_q5_0(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 22, out += SMALL) {
        const float d = half_at(raw);
        int code[SMALL];
        five_bits(raw + 6, u32_at(raw + 2), code);
        for (int i = 0; i < SMALL; i++)
            out[i] = d * (float)(code[i] - 16);
    }
}

static void decode_q5_1(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 24, out += SMALL) {
        const float d = half_at(raw), m = half_at(raw + 2);
        int code[SMALL];
        five_bits(raw + 8, u32_at(raw + 4), code);
        for (int i = 0; i < SMALL; i++)
            out[i] = d * (float)code[i] + m;
    }
}

static void decode_q8_0(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 34, out += SMALL) {
        const float d = half_at(raw);
        for (int i = 0; i < SMALL; i++)
            out[i] = d * (float)(int8_t)raw[2 + i];
    }
}

/* ---- blocks of 256: eight runs of 32 values. Two bits a value: 32 bytes hold four runs, run r in
 * the bits 2 (r mod 4); four bits: 32 bytes hold two. */

enum { RUN = 32, N_RUNS = PTQ_GGUF_MOST_BLOCK / RUN };

static int two_bits(const uint8_t *packed, int run, int i)
{
    return packed[run / 4 * RUN + i] >> 2 * (run % 4) & 3;
}

static int four_bits(const uint8_t *packed, int run, int i)
{
    return packed[run / 2 * RUN + i] >> 4 * (run % 2) & 15;
}

/* scales[16] (scale in the low nibble, minimum in the high), 64 bytes of codes, d, dmin. */
static void decode_q2_k(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 84, out += PTQ_GGUF_MOST_BLOCK) {
        const float d = half_at(raw + 80), dmin = half_at(raw + 82);
        for (int r = 0; r < N_RUNS; r++)
            for (int i = 0; i < RUN; i++) {
                const int pair = raw[2 * r + i / 16];
                out[r * RUN + i] = d * (float)(pair & 15) * (float)two_bits(raw + 16, r, i) -
                                   dmin * (float)(pair >> 4);
            }
    }
}

/* Sixteen scales of six bits: twelve bytes, first the low nibbles of scales 0 .. 7, with those of 8
 * .. 15 above them, then four bytes with the upper two bits, scales k, k + 4, k + 8, k + 12 in byte
 * k. */
static int q3_scale(const uint8_t packed[12], int i)
{
    int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    return (low | (packed[8 + i % 4] >> 2 * (i / 4) & 3) << 4) - 32;
}

/* 32 bytes of third bits (run r in bit r; 4 is taken off where it is clear), 64 bytes of lower
 * bits, scales, d. */
static void decode_q3_k(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 110, out += PTQ_GGUF_MOST_BLOCK) {
        const float d = half_at(raw + 108);
        for (int g = 0; g < 2 * N_RUNS; g++) {
            const float scale = d * (float)q3_scale(raw + 96, g);
            for (int i = g % 2 * 16; i < g % 2 * 16 + 16; i++) {
                const int high = raw[i] >> g / 2 & 1;
                out[g / 2 * RUN + i] =
                    scale * (float)(two_bits(raw + 32, g / 2, i) - (high ? 0 : 4));
            }
        }
    }
}

/* Eight scales and eight minima of six bits in twelve bytes: 0 .. 3 whole in the bytes 0 .. 3 and 4
 * .. 7, whose upper two bits are those of 4 .. 7; their low nibbles are the bytes 8 .. 11, the
 * minimum above the scale. */
static void q4_scale_min(const uint8_t packed[12], int i, int *scale, int *min)
{
    if (i < 4) {
        *scale = packed[i] & 63;
        *min = packed[i + 4] & 63;
    } else {
        *scale = (packed[i + 4] & 15) | packed[i - 4] >> 6 << 4;
        *min = packed[i + 4] >> 4 | packed[i] >> 6 << 4;
    }
}

/* d, dmin, scales and minima of the runs, codes. */
static void decode_q4_k(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 144, out += PTQ_GGUF_MOST_BLOCK)
        for (int r = 0; r < N_RUNS; r++) {
            int s, m;
            q4_scale_min(raw + 4, r, &s, &m);
            const float scale = half_at(raw) * (float)s, min = half_at(raw + 2) * (float)m;
            for (int i = 0; i < RUN; i++)
                out[r * RUN + i] = scale * (float)four_bits(raw + 16, r, i) - min;
        }
}

/* The same with 32 bytes of fifth bits, run r in bit r, before the codes. */
static void decode_q5_k(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 176, out += PTQ_GGUF_MOST_BLOCK)
        for (int r = 0; r < N_RUNS; r++) {
            int s, m;
            q4_scale_min(raw + 4, r, &s, &m);
            const float scale = half_at(raw) * (float)s, min = half_at(raw + 2) * (float)m;
            for (int i = 0; i < RUN; i++) {
                const int code = four_bits(raw + 48, r, i) | (raw[16 + i] >> r & 1) << 4;
                out[r * RUN + i] = scale * (float)code - min;
            }
        }
}

/* 128 bytes of low nibbles (64 bytes hold runs 0, 1 below and 2, 3 above), 64 bytes of upper bits,
 * 16 signed scales, d. */
static void decode_q6_k(const uint8_t *restrict raw, int64_t n, float *restrict out)
{
    for (; n-- > 0; raw += 210, out += PTQ_GGUF_MOST_BLOCK) {
        const float d = half_at(raw + 208);
        for (int g = 0; g < 2 * N_RUNS; g++) {
            const int r = g / 2, shift = 4 * (r % 4 / 2);
            const uint8_t *low = raw + r / 4 * 64 + r % 2 * RUN;
            const float scale = d * (float)(int8_t)raw[192 + g];
            for (int i = g % 2 * 16; i < g % 2 * 16 + 16; i++) {
                const int code = (low[i] >> shift & 15) | two_bits(raw + 128, r, i) << 4;
                out[r * RUN + i] = scale * (float)(code - 32);
            }
        }
    }
}

/* ---- the table */

static const struct ptq_gguf_type table[] = {
    {"F32", 0, 1, 4, 0, 0, decode_f32},
    {"F16", 1, 1, 2, 0, 0, decode_f16},
    {"BF16", 30, 1, 2, 0, 0, decode_bf16},
    {"F64", 28, 1, 8, 0, 0, decode_f64},
    {"Q4_0", 2, 32, 18, 4, 32, decode_q4_0},
    {"Q4_1", 3, 32, 20, 4, 32, decode_q4_1},
    {"Q5_0", 6, 32, 22, 5, 32, decode_q5_0},
    {"Q5_1", 7, 32, 24, 5, 32, decode_q5_1},
    {"Q8_0", 8, 32, 34, 8, 32, decode_q8_0},
    {"Q2_K", 10, 256, 84, 2, 16, decode_q2_k},
    {"Q3_K", 11, 256, 110, 3, 16, decode_q3_k},
    {"Q4_K", 12, 256, 144, 4, 32, decode_q4_k},
    {"Q5_K", 13, 256, 176, 5, 32, decode_q5_k},
    {"Q6_K", 14, 256, 210, 6, 16, decode_q6_k},
    /* Known by name, for messages. */
    {.name = NULL},
    {"Q8_1", 9},
    {"Q8_K", 15},
    {"IQ2_XXS", 16},
    {"IQ2_XS", 17},
    {"IQ3_XXS", 18},
    {"IQ1_S", 19},
    {"IQ4_NL", 20},
    {"IQ3_S", 21},
    {"IQ2_S", 22},
    {"IQ4_XS", 23},
    {"I8", 24},
    {"I16", 25},
    {"I32", 26},
    {"I64", 27},
    {"IQ1_M", 29},
    {"TQ1_0", 34},
    {"TQ2_0", 35},
    {"MXFP4", 39},
};
enum { N_TABLE = sizeof table / sizeof *table };

const struct ptq_gguf_type *ptq_gguf_type(uint32_t id)
{
    for (int i = 0; i < N_TABLE; i++)
        if (table[i].name && table[i].id == id)
            return &table[i];
    return NULL;
}

const struct ptq_gguf_type *ptq_gguf_type_at(int i)
{
    return table[i].name ? &table[i] : NULL;
}
