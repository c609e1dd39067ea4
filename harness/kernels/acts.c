#include "kernels/acts.h"
#include "core/size.h"
#include <math.h>
#include <string.h>

enum { LD = 64, COLS_A_PIECE = 256 };

struct job {
    const struct ptq_kacts_job *args;
    const struct ptq_kernel *actq;
    int64_t ld, groups;
    float *f32, *turned; /* (n x ld); turned: rotated, else f32 */
    int8_t *i8;
    float *scale, *sum32;
    int32_t *sum8;
};

static bool moves(const struct ptq_kinputs *in)
{
    return in->divisor || in->gather || in->rot;
}

/* Bytes of n rows of `width` elements, to whole lines. */
static bool add_bytes(int64_t n, int64_t width, int64_t size, int64_t *total)
{
    int64_t b;
    return ptq_size_mul(n, width, &b) && ptq_size_mul(b, size, &b) && ptq_size_add(b, 63, &b) &&
           ptq_size_add(*total, b / 64 * 64, total);
}

static struct job job_of(const struct ptq_kacts_job *a)
{
    return (struct job){.args = a,
                        .ld = (a->in->pcols + LD - 1) / LD * LD,
                        .groups = (a->in->pcols + a->in->group - 1) / a->in->group};
}

bool ptq_kacts_bytes(const struct ptq_kacts_job *a, int64_t *bytes)
{
    const struct job j = job_of(a);
    *bytes = 0;
    bool ok = add_bytes(a->n, j.groups, 4, bytes);
    if (a->in->rot)
        ok = ok && add_bytes(a->n, j.ld, sizeof(float), bytes);
    if (!a->integers || moves(a->in))
        ok = ok && add_bytes(a->n, j.ld, sizeof(float), bytes);
    if (a->integers)
        ok = ok && add_bytes(a->n, j.ld, 1, bytes) && add_bytes(a->n, 1, sizeof(float), bytes);
    return ok;
}

static void *take(char **at, int64_t n, int64_t width, int64_t size)
{
    void *here = *at;
    *at += (n * width * size + 63) / 64 * 64;
    return here;
}

static void place(struct job *j, void *memory)
{
    const struct ptq_kacts_job *a = j->args;
    char *at = memory;
    if (!a->integers || moves(a->in))
        j->f32 = take(&at, a->n, j->ld, sizeof(float));
    j->turned = a->in->rot ? take(&at, a->n, j->ld, sizeof(float)) : j->f32;
    void *sums = take(&at, a->n, j->groups, 4);
    if (a->integers) {
        j->i8 = take(&at, a->n, j->ld, 1);
        j->scale = take(&at, a->n, 1, sizeof(float));
        j->sum8 = sums;
    } else {
        j->sum32 = sums;
    }
}

/* ---- where inputs come from ---- */

static float piece_of(float v, int32_t piece, float limit)
{
    if (piece < 0)
        return v;
    float a = fabsf(v) - (float)piece * limit;
    return copysignf(a < 0 ? 0 : a > limit ? limit : a, v);
}

PTQ_CLONES static void divide(const float *restrict x, const float *restrict d, int64_t n,
                              float *restrict out)
{
    for (int64_t k = 0; k < n; k++)
        out[k] = x[k] / d[k];
}

static void gather(const struct ptq_kinputs *in, const float *x, float *out)
{
    for (int64_t k = 0; k < in->cols; k++) {
        const int64_t c = in->gather[k];
        const float v = c < 0 ? 0 : in->divisor ? x[c] / in->divisor[c] : x[c];
        out[k] = in->piece && c >= 0 ? piece_of(v, in->piece[k], in->limit) : v;
    }
}

static void move(const struct job *j, int64_t token)
{
    const struct ptq_kinputs *in = j->args->in;
    const float *x = j->args->x + token * j->args->ldx;
    float *out = j->f32 + token * j->ld;
    if (in->gather)
        gather(in, x, out);
    else if (in->divisor)
        divide(x, in->divisor, in->cols, out);
    else
        memcpy(out, x, (size_t)in->cols * sizeof *out);
    memset(out + in->cols, 0, (size_t)(j->ld - in->cols) * sizeof *out);
}

PTQ_CLONES static void turn_run(const float *restrict rot, int64_t ld, int64_t n_rows,
                                const float *restrict x, int64_t n, float *restrict out)
{
    for (int64_t i = 0; i < n_rows; i++)
        for (int64_t k = 0; k < n; k++)
            out[k] += x[i] * rot[i * ld + k];
}

static void turn(void *arg, int64_t begin, int64_t end)
{
    const struct job *j = arg;
    const int64_t cols = j->args->in->cols;
    for (int64_t t = 0; t < j->args->n; t++) {
        float *out = j->turned + t * j->ld;
        memset(out + begin, 0, (size_t)(end - begin) * sizeof *out);
        turn_run(j->args->in->rot + begin, cols, cols, j->f32 + t * j->ld, end - begin,
                 out + begin);
        if (end == cols)
            memset(out + cols, 0, (size_t)(j->ld - cols) * sizeof *out);
    }
}

/* ---- as the product takes them ---- */

PTQ_CLONES static float sum_of(const float *x, int64_t n)
{
    float p[16] = {0};
    for (int64_t k = 0; k < n; k += 16)
        for (int l = 0; l < 16; l++)
            p[l] += x[k + l];
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            p[l] += p[l + half];
    return p[0];
}

static void sums(const struct job *j, int64_t token)
{
    const int64_t group = j->args->in->group, pcols = j->args->in->pcols;
    for (int64_t g = 0; g < j->groups; g++) {
        const int64_t n = pcols - g * group < group ? pcols - g * group : group;
        j->sum32[token * j->groups + g] = sum_of(j->turned + token * j->ld + g * group, n);
    }
}

/* Of other widths than 8 bits or with a scale of their own: as quant/apply.c. */
static void quantize(const struct ptq_kinputs *in, struct ptq_actq *q)
{
    const float most = (float)((1 << (in->bits - 1)) - 1);
    float peak = 0;
    for (int64_t k = 0; k < q->n; k++)
        peak = fabsf(q->x[k]) > peak ? fabsf(q->x[k]) : peak;
    q->scale = in->scale != 0 ? in->scale : peak / most;
    for (int64_t k = 0; k < q->pcols; k++) {
        const float c = k < q->n && q->scale > 0 ? rintf(q->x[k] / q->scale) : 0;
        q->codes[k] = (int8_t)(c > most ? most : c < -most ? -most : c);
    }
    for (int64_t k = 0; k < q->pcols; k += q->group) {
        int32_t sum = 0;
        for (int64_t i = k; i < k + q->group && i < q->pcols; i++)
            sum += q->codes[i];
        q->sums[k / q->group] = sum;
    }
}

static void integers(const struct job *j, int64_t token)
{
    const struct ptq_kinputs *in = j->args->in;
    struct ptq_actq q = {.x = moves(in) ? j->turned + token * j->ld
                                        : j->args->x + token * j->args->ldx,
                         .n = in->cols,
                         .pcols = in->pcols,
                         .group = in->group,
                         .codes = j->i8 + token * j->ld,
                         .sums = j->sum8 + token * j->groups};
    if (in->bits == 8 && in->scale == 0)
        j->actq->run.actq(&q);
    else
        quantize(in, &q);
    memset(q.codes + q.pcols, 0, (size_t)(j->ld - q.pcols));
    j->scale[token] = q.scale;
}

static void move_tokens(void *arg, int64_t begin, int64_t end)
{
    const struct job *j = arg;
    for (int64_t t = begin; t < end; t++)
        move(j, t);
}

static void finish_tokens(void *arg, int64_t begin, int64_t end)
{
    const struct job *j = arg;
    for (int64_t t = begin; t < end; t++) {
        if (j->args->integers)
            integers(j, t);
        else
            sums(j, t);
    }
}

void ptq_kacts_make(const struct ptq_kacts_job *a, struct ptq_pool *pool, void *memory,
                    struct ptq_kacts *out)
{
    struct job j = job_of(a);
    j.actq = ptq_kernel_best(PTQ_KOP_ACTQ, a->cpu_flags, NULL, 0);
    place(&j, memory);
    if (j.f32)
        ptq_pool_for(pool, a->n, 1, move_tokens, &j);
    if (a->in->rot)
        ptq_pool_for(pool, a->in->cols, COLS_A_PIECE, turn, &j);
    ptq_pool_for(pool, a->n, 1, finish_tokens, &j);
    *out = (struct ptq_kacts){.n = a->n,
                              .ld = j.ld,
                              .f32 = a->integers ? NULL : j.turned,
                              .i8 = j.i8,
                              .scale = j.scale,
                              .sum8 = j.sum8,
                              .sum32 = j.sum32};
}
