/* rope.c: rotary positions: angle of pair i at position t is t * frequency[i], frequency[i] = theta
 * ^ (-2 i / head_dim), scaled where the model says so. Angles in fp64. */
#include "core/num.h"
#include "model/internal.h"
#include "model/weights.h"

enum { TABLE_ROWS = 4096 };

/* Llama 3: wavelengths over original / low are stretched by factor, those under original / high
 * kept, between them a weighted mean (smooth goes from 0 to 1). */
static double llama3(const struct ptq_rope *r, double frequency)
{
    const double two_pi = 6.283185307179586476925;
    double turns = (double)r->original_context * frequency / two_pi;
    if (turns < r->low)
        return frequency / r->factor;
    if (turns > r->high)
        return frequency;
    double smooth = (turns - r->low) / (r->high - r->low);
    return (1 - smooth) * frequency / r->factor + smooth * frequency;
}

/* Some files hold the divisors of the frequencies instead of a rule. */
static int divide(struct ptq_model *m, int64_t half, struct ptq_status *st)
{
    float *by;
    if (!ptq_weights_has(m, "rope_freqs"))
        return PTQ_OK;
    int rc = ptq_weights_read(m, "rope_freqs", half, 0, &m->arena, &by, st);
    for (int64_t i = 0; i < half && !rc; i++)
        if (by[i] > 0)
            m->rope_frequency[i] /= by[i];
        else
            rc = ptq_status_set(st, PTQ_ERR_USAGE,
                                "%s: tensor rope_freqs holds %g at %lld: expected positive numbers",
                                m->info.source, (double)by[i], (long long)i);
    return rc;
}

static void row(const struct ptq_model *m, int64_t position, float *cos_out, float *sin_out)
{
    for (int64_t i = 0; i < m->info.head_dim / 2; i++) {
        double c, s;
        ptq_sincos((double)position * m->rope_frequency[i], &s, &c);
        cos_out[i] = (float)c;
        sin_out[i] = (float)s;
    }
}

int ptq_rope_init(struct ptq_model *m, struct ptq_status *st)
{
    const struct ptq_rope *r = &m->info.rope;
    const int64_t rows = m->info.max_context < TABLE_ROWS ? m->info.max_context : TABLE_ROWS,
                  half = m->info.head_dim / 2;
    float *c = ptq_arena_alloc(&m->arena, st, rows * half, sizeof *c),
          *s = ptq_arena_alloc(&m->arena, st, rows * half, sizeof *s);
    m->rope_frequency = ptq_arena_alloc(&m->arena, st, half, sizeof *m->rope_frequency);
    if (!c || !s || !m->rope_frequency)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < half; i++) {
        double f = ptq_pow(r->theta, -2.0 * (double)i / (double)m->info.head_dim);
        m->rope_frequency[i] = r->scaling == PTQ_ROPE_LINEAR   ? f / r->factor
                               : r->scaling == PTQ_ROPE_LLAMA3 ? llama3(r, f)
                                                               : f;
    }
    int rc = divide(m, half, st);
    for (int64_t t = 0; t < rows && !rc; t++)
        row(m, t, c + t * half, s + t * half);
    m->rope_cos = c;
    m->rope_sin = s;
    m->rope_rows = rows;
    return rc;
}

void ptq_rope_at(const struct ptq_model *m, int64_t position, float *buf, const float **cos_out,
                 const float **sin_out)
{
    const int64_t half = m->info.head_dim / 2;
    if (position < m->rope_rows) {
        *cos_out = m->rope_cos + position * half;
        *sin_out = m->rope_sin + position * half;
        return;
    }
    row(m, position, buf, buf + half);
    *cos_out = buf;
    *sin_out = buf + half;
}
