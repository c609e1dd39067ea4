#include "datasets/packed.h"
#include "core/size.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    const struct ptq_tensors *t;
    const char *base;
    struct ptq_arena *arena;
    struct ptq_packed_matrix *m;
    struct ptq_status *st;
};

enum { NAME = 320 };

static const struct ptq_tensor *find(const struct reader *r, const char *leaf)
{
    char name[NAME];
    return snprintf(name, sizeof name, "%s.%s", r->base, leaf) < NAME ? ptq_tensors_find(r->t, name)
                                                                      : NULL;
}

static int broken(const struct reader *r, const char *leaf, const char *what)
{
    return ptq_status_set(r->st, PTQ_ERR_USAGE,
                          "%s: tensor %s.%s: %s; the checkpoint is damaged or of a layout that is "
                          "not known here",
                          r->t->path, r->base, leaf, what);
}

static int wrong_shape(const struct reader *r, const char *leaf, const struct ptq_tensor *t,
                       int64_t d0, int64_t d1)
{
    char what[160];
    snprintf(what, sizeof what, "shape (%lld x %lld, %d axes) is not %lld x %lld",
             (long long)t->dim[0], t->rank > 1 ? (long long)t->dim[1] : 0, t->rank, (long long)d0,
             (long long)d1);
    return broken(r, leaf, what);
}

static bool is_shape(const struct ptq_tensor *t, int64_t d0, int64_t d1)
{
    return t->rank == 2 && t->dim[0] == d0 && t->dim[1] == d1;
}

static void count(const struct reader *r, const struct ptq_tensor *t)
{
    r->m->file_bits += 8 * r->t->format->n_bytes(t);
}

/* ---- raw values ---- */

/* The values as they lie in the file; fp32 could not hold 32-bit words. */
static int raw(const struct reader *r, const char *leaf, const struct ptq_tensor *t, int width,
               void *out_of_type)
{
    void **out = out_of_type;
    int64_t bytes = r->t->format->n_bytes(t), want;
    if (!ptq_size_mul(t->n, width, &want) || bytes != want)
        return broken(r, leaf, width == 4 ? "is not of 32-bit integers" : "is of another type");
    count(r, t);
    *out = ptq_arena_alloc(r->arena, r->st, bytes ? bytes : 1, 1);
    return *out ? r->t->format->bytes(r->t, t, 0, bytes, *out, r->st) : PTQ_ERR_MEMORY;
}

static bool is_type(const struct ptq_tensor *t, const char *type)
{
    return t && !strcmp(t->type, type);
}

static int words(const struct reader *r, const char *leaf, const struct ptq_tensor *t,
                 uint32_t **out)
{
    if (!is_type(t, "I32") && !is_type(t, "U32"))
        return broken(r, leaf, t ? "is not of 32-bit integers" : "is missing");
    return raw(r, leaf, t, 4, out);
}

/* Scales (d0 x d1) as fp32. */
static int scales(const struct reader *r, const char *leaf, int64_t d0, int64_t d1, float **out)
{
    const struct ptq_tensor *t = find(r, leaf);
    if (!t)
        return broken(r, leaf, "is missing");
    if (!is_shape(t, d0, d1))
        return wrong_shape(r, leaf, t, d0, d1);
    if (!is_type(t, "F16") && !is_type(t, "BF16") && !is_type(t, "F32"))
        return broken(r, leaf, "is not of type F16, BF16 or F32");
    r->m->scale_type = t->type;
    count(r, t);
    *out = ptq_arena_alloc(r->arena, r->st, t->n ? t->n : 1, sizeof **out);
    return *out ? ptq_tensors_read(r->t, t, 0, t->n, *out, r->st) : PTQ_ERR_MEMORY;
}

void ptq_unpack_stream(const uint32_t *word, int64_t step, int bits, int64_t n, uint16_t *codes,
                       int64_t code_step)
{
    uint64_t acc = 0;
    int have = 0;
    for (int64_t i = 0; i < n; i++) {
        if (have < bits) {
            acc |= (uint64_t)*word << have;
            word += step;
            have += 32;
        }
        codes[i * code_step] = (uint16_t)(acc & ((1u << bits) - 1));
        acc >>= bits;
        have -= bits;
    }
}

/* ---- the matrix ---- */

static int take_arrays(const struct reader *r, uint16_t **codes, int32_t **zero, float **scale,
                       int32_t **group_of)
{
    struct ptq_packed_matrix *m = r->m;
    int64_t n, n_groups;
    if (!ptq_size_mul(m->rows, m->cols, &n) || !ptq_size_mul(m->rows, m->n_groups, &n_groups))
        return broken(r, "", "sizes overflow");
    m->codes = *codes = ptq_arena_alloc(r->arena, r->st, n, sizeof **codes);
    m->scale = *scale = ptq_arena_alloc(r->arena, r->st, n_groups, sizeof **scale);
    m->group_of = *group_of = ptq_arena_alloc(r->arena, r->st, m->cols, sizeof **group_of);
    if (zero)
        m->zero = *zero = ptq_arena_alloc(r->arena, r->st, n_groups, sizeof **zero);
    return *codes && *scale && *group_of && (!zero || *zero) ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* (n_groups x rows), as these layouts hold it, to (rows x n_groups). */
static void turn_scales(const struct ptq_packed_matrix *m, const float *from, float *to)
{
    for (int64_t g = 0; g < m->n_groups; g++)
        for (int64_t o = 0; o < m->rows; o++)
            to[o * m->n_groups + g] = from[g * m->rows + o];
}

/* Where groups do not divide the columns, the last one is shorter and the configuration says by how
 * much. */
static int64_t group_size(const struct ptq_tensors *t, int64_t cols, int64_t n)
{
    const json_t *config = json_object_get(t->meta, "quantization_config");
    const int64_t said = json_integer_value(json_object_get(config, "group_size"));
    return said > 0 && (cols - 1) / said + 1 == n ? said : (cols - 1) / n + 1;
}

static int groups_in_order(const struct reader *r, const char *leaf, int32_t *group_of)
{
    const int64_t cols = r->m->cols, n = r->m->n_groups, size = group_size(r->t, cols, n);
    if ((cols - 1) / size + 1 != n)
        return broken(r, leaf, "its number of groups does not divide the columns");
    for (int64_t j = 0; j < cols; j++)
        group_of[j] = (int32_t)(j / size);
    return PTQ_OK;
}

/* optional: the tensor may be absent. */
static int groups_stored(const struct reader *r, const char *leaf, const char *scales_leaf,
                         int32_t *group_of)
{
    const struct ptq_tensor *t = find(r, leaf);
    int32_t *at;
    int rc = groups_in_order(r, scales_leaf, group_of);
    if (!t)
        return rc;
    if (t->rank != 1 || t->dim[0] != r->m->cols)
        return broken(r, leaf, "it does not hold one group a column");
    ptq_status_clear(r->st);
    rc = words(r, leaf, t, (uint32_t **)&at);
    for (int64_t j = 0; rc == PTQ_OK && j < r->m->cols; j++) {
        if (at[j] < 0 || at[j] >= r->m->n_groups)
            return broken(r, leaf, "a group beyond those that have scales");
        r->m->stored_groups = r->m->stored_groups || at[j] != group_of[j];
        group_of[j] = at[j];
    }
    return rc;
}

/* ---- gptq and awq ---- */

/* What both hold: words of codes and zeros, and scales (groups x outputs); then the arrays of the
 * matrix, and room for a line of outputs. */
struct grouped {
    uint32_t *w, *z;
    float *turned, *scale;
    uint16_t *codes, *line;
    int32_t *zero, *group_of;
};

static int count_groups(const struct reader *r)
{
    const struct ptq_tensor *qzeros = find(r, "qzeros"), *s = find(r, "scales");
    if (!s || !qzeros || s->rank != 2)
        return broken(r, s && s->rank == 2 ? "qzeros" : "scales", "is missing or no matrix");
    r->m->n_groups = s->dim[0];
    return PTQ_OK;
}

/* Of a matrix whose sizes are known; scales are in place then. */
static int read_grouped(const struct reader *r, const struct ptq_tensor *qweight,
                        int64_t n_zero_words, struct grouped *a)
{
    struct ptq_packed_matrix *m = r->m;
    const struct ptq_tensor *qzeros = find(r, "qzeros");
    if (!is_shape(qzeros, m->n_groups, n_zero_words)) {
        char what[160];
        snprintf(what, sizeof what,
                 "shape (%lld x %lld) is not %lld x %lld, as the %d bits of qweight (by its shape) "
                 "want it",
                 (long long)qzeros->dim[0], qzeros->rank > 1 ? (long long)qzeros->dim[1] : 0,
                 (long long)m->n_groups, (long long)n_zero_words, m->bits);
        return broken(r, "qzeros", what);
    }
    int rc = words(r, "qweight", qweight, &a->w);
    rc = rc ? rc : words(r, "qzeros", qzeros, &a->z);
    rc = rc ? rc : scales(r, "scales", m->n_groups, m->rows, &a->turned);
    rc = rc ? rc : take_arrays(r, &a->codes, &a->zero, &a->scale, &a->group_of);
    if (rc)
        return rc;
    turn_scales(m, a->turned, a->scale);
    a->line = ptq_arena_alloc(r->arena, r->st, m->rows, sizeof *a->line);
    return a->line ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* "gptq_v2" in quantization_config, or in the file that older programs write beside the weights. */
static bool is_version_2(const struct ptq_tensors *t)
{
    char path[4096];
    const json_t *config = json_object_get(t->meta, "quantization_config");
    json_t *beside = NULL;
    if (!config && snprintf(path, sizeof path, "%s/quantize_config.json", t->path) < 4096)
        config = beside = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    const char *format = json_string_value(json_object_get(config, "checkpoint_format"));
    bool is = format && !strcmp(format, "gptq_v2");
    json_decref(beside);
    return is;
}

static int read_gptq(const struct reader *r, const struct ptq_tensor *qweight)
{
    struct ptq_packed_matrix *m = r->m;
    const int64_t n_words = qweight->dim[0], out = qweight->dim[1];
    struct grouped a;
    int rc = count_groups(r);
    if (rc)
        return rc;
    m->bits = (int)(n_words * 32 / m->cols);
    m->rows = out;
    if (m->bits < 1 || m->bits > 8 || n_words * 32 != m->bits * m->cols)
        return broken(r, "qweight", "its rows are no codes of 1..8 bits for the layer's inputs");
    if (m->n_groups < 1 || m->n_groups > m->cols || out * m->bits % 32)
        return broken(r, "scales", "groups and outputs do not fit the packed codes");
    m->layout = is_version_2(r->t) ? "gptq_v2" : "gptq";
    rc = read_grouped(r, qweight, out * m->bits / 32, &a);
    rc = rc ? rc : groups_stored(r, "g_idx", "scales", a.group_of);
    if (rc)
        return rc;
    for (int64_t o = 0; o < out; o++)
        ptq_unpack_stream(a.w + o, out, m->bits, m->cols, a.codes + o * m->cols, 1);
    const uint16_t offset = m->layout[4] ? 0 : 1, most = (uint16_t)((1u << m->bits) - 1);
    for (int64_t g = 0; g < m->n_groups; g++) {
        ptq_unpack_stream(a.z + g * (out * m->bits / 32), 1, m->bits, out, a.line, 1);
        for (int64_t o = 0; o < out; o++)
            a.zero[o * m->n_groups + g] = (a.line[o] + offset) & most;
    }
    return PTQ_OK;
}

/* A row of words to its codes. */
static void awq_row(const uint32_t *w, int64_t n_words, uint16_t *codes)
{
    static const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    for (int64_t i = 0; i < n_words; i++)
        for (int k = 0; k < 8; k++)
            codes[8 * i + order[k]] = (uint16_t)(w[i] >> (4 * k) & 15);
}

static int read_awq(const struct reader *r, const struct ptq_tensor *qweight)
{
    struct ptq_packed_matrix *m = r->m;
    const int64_t n_words = qweight->dim[1];
    struct grouped a;
    int rc = count_groups(r);
    if (rc)
        return rc;
    m->layout = "awq";
    m->bits = 4;
    if (!ptq_size_mul(n_words, 8, &m->rows) || m->n_groups < 1 || m->n_groups > m->cols)
        return broken(r, "scales", "groups and outputs do not fit the packed codes");
    rc = read_grouped(r, qweight, n_words, &a);
    rc = rc ? rc : groups_in_order(r, "scales", a.group_of);
    if (rc)
        return rc;
    for (int64_t j = 0; j < m->cols; j++) {
        awq_row(a.w + j * n_words, n_words, a.line);
        for (int64_t o = 0; o < m->rows; o++)
            a.codes[o * m->cols + j] = a.line[o];
    }
    for (int64_t g = 0; g < m->n_groups; g++) {
        awq_row(a.z + g * n_words, n_words, a.line);
        for (int64_t o = 0; o < m->rows; o++)
            a.zero[o * m->n_groups + g] = a.line[o];
    }
    return PTQ_OK;
}

/* ---- compressed-tensors ---- */

/* How codes lie in words: as a stream, or (older files, widths that do not divide 32) as many whole
 * ones a word as fit. */
struct words {
    int bits;
    bool stream;
};

static int64_t words_of(struct words w, int64_t n)
{
    return w.stream ? (n * w.bits - 1) / 32 + 1 : (n - 1) / (32 / w.bits) + 1;
}

/* Which way makes so many words of so many codes; bits 0: none. */
static struct words way_of(int bits, int64_t n_words, int64_t n)
{
    const struct words ways[2] = {{bits, true}, {bits, false}};
    for (int i = 0; i < 2 && bits >= 1 && bits <= 8; i++)
        if (words_of(ways[i], n) == n_words)
            return ways[i];
    return (struct words){0};
}

/* The configuration says the width, where several fit. */
static struct words find_way(const struct ptq_tensors *t, int64_t n_words, int64_t n)
{
    static const int usual[] = {4, 8, 2, 3, 6, 5, 7, 1};
    json_t *groups =
        json_object_get(json_object_get(t->meta, "quantization_config"), "config_groups");
    const char *key;
    json_t *group;
    struct words w = {0};
    if (n > INT64_MAX / 8)
        return w;
    json_object_foreach(groups, key, group)
    {
        const json_int_t said =
            json_integer_value(json_object_get(json_object_get(group, "weights"), "num_bits"));
        if (!w.bits && said >= 1 && said <= 8)
            w = way_of((int)said, n_words, n);
    }
    for (size_t i = 0; i < sizeof usual / sizeof *usual && !w.bits; i++)
        w = way_of(usual[i], n_words, n);
    return w;
}

static uint16_t code_of_words(const uint32_t *at, int64_t step, struct words w, int64_t i)
{
    const int64_t bit = i * w.bits, per_word = 32 / w.bits;
    const int64_t word = w.stream ? bit / 32 : i / per_word;
    const int from = (int)(w.stream ? bit % 32 : i % per_word * w.bits);
    uint32_t code = at[word * step] >> from;
    if (from + w.bits > 32)
        code |= at[(word + 1) * step] << (32 - from);
    return (uint16_t)(code & ((1u << w.bits) - 1));
}

/* Rows and columns of weight_shape. */
static int shape_of(const struct reader *r)
{
    const struct ptq_tensor *t = find(r, "weight_shape");
    struct ptq_packed_matrix *m = r->m;
    if (!t || t->n != 2 || (!is_type(t, "I64") && !is_type(t, "I32")))
        return broken(r, "weight_shape", "is missing or not two integers");
    int64_t wide[2] = {0}, bytes = r->t->format->n_bytes(t);
    int32_t narrow[2];
    if (bytes != 16 && bytes != 8)
        return broken(r, "weight_shape", "is not two integers");
    count(r, t);
    int rc =
        r->t->format->bytes(r->t, t, 0, bytes, bytes == 16 ? (void *)wide : (void *)narrow, r->st);
    for (int i = 0; i < 2 && !rc && bytes == 8; i++)
        wide[i] = narrow[i];
    if (!rc && (wide[0] < 1 || wide[1] != m->cols))
        rc = broken(r, "weight_shape", "it is not the layer's shape");
    m->rows = wide[0];
    return rc;
}

/* Zero points count from the middle of the codes, as these do. */
static int signed_zeros(const struct reader *r, const struct ptq_tensor *t, struct words way,
                        int32_t *zero)
{
    struct ptq_packed_matrix *m = r->m;
    const int64_t n = m->n_groups;
    const int32_t middle = 1 << (m->bits - 1);
    int8_t *plain = NULL;
    uint32_t *w;
    if (is_type(t, "I8")) {
        if (!is_shape(t, m->rows, n))
            return wrong_shape(r, "weight_zero_point", t, m->rows, n);
        int rc = raw(r, "weight_zero_point", t, 1, &plain);
        for (int64_t i = 0; !rc && i < t->n; i++)
            zero[i] = plain[i] + middle;
        return rc;
    }
    if (m->rows > INT64_MAX / 8 || !is_shape(t, words_of(way, m->rows), n))
        return wrong_shape(r, "weight_zero_point", t, words_of(way, m->rows), n);
    int rc = words(r, "weight_zero_point", t, &w);
    for (int64_t o = 0; !rc && o < m->rows; o++)
        for (int64_t g = 0; g < n; g++)
            zero[o * n + g] = code_of_words(w + g, n, way, o);
    return rc;
}

static int read_compressed(const struct reader *r, const struct ptq_tensor *packed)
{
    struct ptq_packed_matrix *m = r->m;
    const struct ptq_tensor *s = find(r, "weight_scale"), *z = find(r, "weight_zero_point");
    uint32_t *w;
    uint16_t *codes;
    int32_t *zero = NULL, *group_of;
    float *from, *scale;
    struct words way;
    m->layout = "compressed-tensors";
    int rc = shape_of(r);
    if (rc)
        return rc;
    if (packed->rank != 2 || packed->dim[0] != m->rows)
        return wrong_shape(r, "weight_packed", packed, m->rows, (m->cols - 1) / 8 + 1);
    way = find_way(r->t, packed->dim[1], m->cols);
    m->bits = way.bits;
    if (!m->bits)
        return broken(r, "weight_packed", "its words are no codes of 1..8 bits for the inputs");
    if (!s || s->rank != 2 || s->dim[1] < 1 || s->dim[1] > m->cols)
        return broken(r, "weight_scale", "is missing or no (outputs x groups)");
    m->n_groups = s->dim[1];
    rc = words(r, "weight_packed", packed, &w);
    rc = rc ? rc : scales(r, "weight_scale", m->rows, m->n_groups, &from);
    rc = rc ? rc : take_arrays(r, &codes, z ? &zero : NULL, &scale, &group_of);
    rc = rc ? rc : groups_stored(r, "weight_g_idx", "weight_scale", group_of);
    rc = rc || !z ? rc : signed_zeros(r, z, way, zero);
    if (rc)
        return rc;
    memcpy(scale, from, (size_t)(m->rows * m->n_groups) * sizeof *scale);
    for (int64_t o = 0; o < m->rows; o++)
        for (int64_t j = 0; j < m->cols; j++)
            codes[o * m->cols + j] = code_of_words(w + o * packed->dim[1], 1, way, j);
    return PTQ_OK;
}

/* ---- which ---- */

int ptq_packed_matrix_read(const struct ptq_tensors *t, const char *base, int64_t cols,
                           struct ptq_arena *arena, struct ptq_packed_matrix *m,
                           struct ptq_status *st)
{
    const struct reader r = {t, base, arena, m, st};
    const struct ptq_tensor *qweight = find(&r, "qweight"), *packed = find(&r, "weight_packed");
    *m = (struct ptq_packed_matrix){.cols = cols};
    if (packed)
        return read_compressed(&r, packed);
    if (!qweight)
        return PTQ_SKIP;
    if (qweight->rank != 2 || qweight->dim[0] < 1 || qweight->dim[1] < 1 ||
        qweight->dim[0] > INT64_MAX / 64 || qweight->dim[1] > INT64_MAX / 64)
        return broken(&r, "qweight", "is no matrix");
    return qweight->dim[0] == cols ? read_awq(&r, qweight) : read_gptq(&r, qweight);
}

static bool ends(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && !strcmp(name + n - m, end);
}

bool ptq_packed_has_any(const struct ptq_tensors *t)
{
    for (int64_t i = 0; i < t->n; i++)
        if (ends(t->tensor[i].name, ".qweight") || ends(t->tensor[i].name, ".weight_packed"))
            return true;
    return false;
}
