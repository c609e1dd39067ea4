/* synth_layer.c: `ptq synth layer`: a bare layer file (SCHEMA.md) with known properties. */
#include "datasets/synth_layer.h"
#include "core/num.h"
#include "core/rng.h"
#include "core/words.h"
#include "datasets/h5.h"
#include "datasets/synth.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum stream { WEIGHT = 1, TAIL, LATENT, ANGLE, CHANNEL, SINK };

static uint64_t stream(const struct ptq_synth_layer_args *a, enum stream which)
{
    return ptq_hash_u64(a->seed, (uint64_t)which);
}

/* ---- weights -------------------------------------------------------------------------------- */

/* Student's t with nu degrees of freedom: z / sqrt(chi^2_nu / nu), chi^2 a sum of nu squared
 * normals. */
static double student(uint64_t tail, uint64_t i, int64_t nu, double z)
{
    double chi2 = 0;
    for (int64_t k = 0; k < nu; k++) {
        double y = ptq_normal(tail, i * (uint64_t)nu + (uint64_t)k);
        chi2 += y * y;
    }
    return z / sqrt(chi2 / (double)nu);
}

static void make_weight(const struct ptq_synth_layer_args *a, float *w)
{
    uint64_t normal = stream(a, WEIGHT), tail = stream(a, TAIL);
    double unit = 1 / sqrt((double)a->cols);
    for (int64_t i = 0; i < a->rows * a->cols; i++) {
        double z = ptq_normal(normal, (uint64_t)i);
        if (a->tails)
            z = student(tail, (uint64_t)i, a->tails, z);
        w[i] = (float)(unit * z);
    }
}

/* ---- activations ---------------------------------------------------------------------------- */

struct mixer { /* row = gain * B (amplitude * z) */
    int64_t n;
    double *amplitude, *gain; /* [n] */
    double *sine,
        *cosine; /* [2 passes * n_stages * n]: rotation of the pair whose lower index is i */
    int n_stages;
};

static void set_amplitudes(const struct ptq_synth_layer_args *a, double *amplitude)
{
    double sum = 0;
    for (int64_t i = 0; i < a->cols; i++) {
        double lambda = 1;
        if (a->spectrum == PTQ_SPECTRUM_POWER)
            lambda = ptq_pow((double)(i + 1), -a->alpha);
        else if (a->spectrum == PTQ_SPECTRUM_LOWRANK)
            lambda = i < a->rank;
        amplitude[i] = lambda;
        sum += lambda;
    }
    for (int64_t i = 0; i < a->cols; i++)
        amplitude[i] = sqrt(amplitude[i] * ((double)a->cols / sum));
}

/* n_outliers distinct channels: the first of a shuffled list. */
static int set_gains(const struct ptq_synth_layer_args *a, struct ptq_arena *arena, double *gain,
                     struct ptq_status *st)
{
    struct ptq_rng r = {stream(a, CHANNEL)};
    int64_t *order = ptq_arena_alloc(arena, st, a->cols, sizeof *order);
    if (!order)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < a->cols; i++) {
        order[i] = i;
        gain[i] = 1;
    }
    for (int64_t i = 0; i < a->n_outliers; i++) {
        int64_t j = i + (int64_t)ptq_rng_below(&r, (uint64_t)(a->cols - i)), t = order[i];
        order[i] = order[j];
        order[j] = t;
        gain[order[i]] = a->gain;
    }
    return PTQ_OK;
}

static int mixer_init(const struct ptq_synth_layer_args *a, struct ptq_arena *arena,
                      struct mixer *m, struct ptq_status *st)
{
    m->n = a->cols;
    for (m->n_stages = 0; INT64_C(1) << m->n_stages < m->n;)
        m->n_stages++;
    int64_t n_angles = 2 * m->n_stages * m->n;
    m->amplitude = ptq_arena_alloc(arena, st, m->n, sizeof(double));
    m->gain = ptq_arena_alloc(arena, st, m->n, sizeof(double));
    m->sine = ptq_arena_alloc(arena, st, n_angles, sizeof(double));
    m->cosine = ptq_arena_alloc(arena, st, n_angles, sizeof(double));
    if (!m->amplitude || !m->gain || !m->sine || !m->cosine)
        return PTQ_ERR_MEMORY;
    set_amplitudes(a, m->amplitude);
    uint64_t angles = stream(a, ANGLE);
    for (int64_t i = 0; i < n_angles; i++)
        ptq_sincos(6.283185307179586 * ptq_uniform(angles, (uint64_t)i), &m->sine[i],
                   &m->cosine[i]);
    return set_gains(a, arena, m->gain, st);
}

/* Two butterflies: stage s turns the pairs (i, i + 2^s), so after one every channel holds a part of
 * every other. */
static void mix(const struct mixer *m, double *x)
{
    for (int64_t i = 0; i < m->n; i++)
        x[i] *= m->amplitude[i];
    for (int p = 0; p < 2 * m->n_stages; p++) {
        int64_t step = INT64_C(1) << p % m->n_stages;
        const double *s = m->sine + p * m->n, *c = m->cosine + p * m->n;
        for (int64_t i = 0; i + step < m->n; i++) {
            if (i & step)
                continue;
            double u = x[i], v = x[i + step];
            x[i] = c[i] * u - s[i] * v;
            x[i + step] = s[i] * u + c[i] * v;
        }
    }
    for (int64_t i = 0; i < m->n; i++)
        x[i] *= m->gain[i];
}

static double row_norm2(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

static void draw_row(const struct mixer *m, uint64_t normal, int64_t row, double scale, double *x,
                     float *out)
{
    for (int64_t i = 0; i < m->n; i++)
        x[i] = ptq_normal(normal, (uint64_t)(row * m->n + i));
    mix(m, x);
    for (int64_t i = 0; i < m->n; i++)
        out[i] = (float)(scale * x[i]);
}

/* The sink tokens are n_seq copies of one row u: n_seq |u|^2 = s / (1 - s) * (what the other tokens
 * own). */
static void make_sinks(const struct ptq_synth_layer_args *a, const struct mixer *m, double *x,
                       float *acts)
{
    int64_t seqlen = a->seqlen ? a->seqlen : a->tokens, n_seq = a->tokens / seqlen;
    double others = 0;
    for (int64_t t = 0; t < a->tokens; t++)
        if (t % seqlen != 0)
            others += row_norm2(acts + t * a->cols, a->cols);
    draw_row(m, stream(a, SINK), 0, 1, x, acts);
    double own = (double)n_seq * row_norm2(acts, a->cols);
    draw_row(m, stream(a, SINK), 0, sqrt(a->sink / (1 - a->sink) * others / own), x, acts);
    for (int64_t t = seqlen; t < a->tokens; t += seqlen)
        memcpy(acts + t * a->cols, acts, (size_t)a->cols * sizeof *acts);
}

static int make_acts(const struct ptq_synth_layer_args *a, struct ptq_arena *arena, float *acts,
                     struct ptq_status *st)
{
    struct mixer m;
    int rc = mixer_init(a, arena, &m, st);
    double *x = ptq_arena_alloc(arena, st, a->cols, sizeof *x);
    if (rc != PTQ_OK || !x)
        return PTQ_ERR_MEMORY;
    for (int64_t t = 0; t < a->tokens; t++)
        draw_row(&m, stream(a, LATENT), t, 1, x, acts + t * a->cols);
    if (a->sink > 0)
        make_sinks(a, &m, x, acts);
    return PTQ_OK;
}

/* Products of two fp32 values are exact in fp64, and every sum runs over the tokens in order
 * (blocks only keep rows in cache). */
static void make_hess(const struct ptq_synth_layer_args *a, const float *acts, double *h)
{
    enum { BLOCK = 64 };
    int64_t n = a->cols;
    for (int64_t t0 = 0; t0 < a->tokens; t0 += BLOCK)
        for (int64_t i = 0; i < n; i++)
            for (int64_t t = t0; t < t0 + BLOCK && t < a->tokens; t++) {
                const float *x = acts + t * n;
                double xi = x[i];
                for (int64_t j = i; j < n; j++)
                    h[i * n + j] += xi * x[j];
            }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i; j < n; j++)
            h[j * n + i] = h[i * n + j] = 2 * h[i * n + j] / (double)a->tokens;
}

/* ---- the layer ------------------------------------------------------------------------------ */

static int wrong(struct ptq_status *st, const char *what)
{
    return ptq_status_set(st, PTQ_ERR_USAGE, "synth layer: %s", what);
}

static bool size_ok(int64_t n)
{
    return n >= 1 && n <= 65536;
}

static int check(const struct ptq_synth_layer_args *a, struct ptq_status *st)
{
    const int64_t most = INT64_C(1) << 31;
    if (!size_ok(a->rows) || !size_ok(a->cols) || !size_ok(a->tokens))
        return wrong(st, "--rows, --cols and --tokens must be 1 to 65536");
    if (a->rows * a->cols > most || a->tokens * a->cols > most)
        return wrong(st, "rows * cols and tokens * cols must be at most 2^31");
    if (a->seqlen < 0 || (a->seqlen && a->tokens % a->seqlen))
        return wrong(st, "--seqlen must divide --tokens");
    if (!(a->alpha >= 0 && a->alpha <= 10))
        return wrong(st, "--spectrum power:ALPHA needs 0 to 10");
    if (a->spectrum == PTQ_SPECTRUM_LOWRANK && (a->rank < 1 || a->rank > a->cols))
        return wrong(st, "--spectrum lowrank:R needs R from 1 to the columns");
    if (a->n_outliers < 0 || a->n_outliers > a->cols || !(a->gain > 0 && a->gain <= 1e6))
        return wrong(st, "--outliers N:GAIN needs N from 0 to the columns and a gain in (0, 1e6]");
    if (!(a->sink >= 0 && a->sink <= 0.999999))
        return wrong(st, "--sink must be 0 to 0.999999");
    if (a->sink > 0 && (a->tokens < 2 || a->seqlen == 1))
        return wrong(st, "--sink needs tokens that are no sinks: more than one token a sequence");
    if (a->tails < 0 || a->tails > 64)
        return wrong(st, "--tails must be 0 (normal) or 1 to 64 degrees of freedom");
    return PTQ_OK;
}

int ptq_synth_layer_make(const struct ptq_synth_layer_args *a, bool want_hess,
                         struct ptq_arena *arena, struct ptq_synth_layer *out,
                         struct ptq_status *st)
{
    int rc = check(a, st);
    if (rc != PTQ_OK)
        return rc;
    memset(out, 0, sizeof *out);
    out->weight = ptq_arena_alloc(arena, st, a->rows * a->cols, sizeof(float));
    out->acts = ptq_arena_alloc(arena, st, a->tokens * a->cols, sizeof(float));
    if (want_hess)
        out->hess = ptq_arena_alloc(arena, st, a->cols * a->cols, sizeof(double));
    if (!out->weight || !out->acts || (want_hess && !out->hess))
        return PTQ_ERR_MEMORY;
    make_weight(a, out->weight);
    rc = make_acts(a, arena, out->acts, st);
    if (rc == PTQ_OK && want_hess)
        make_hess(a, out->acts, out->hess);
    return rc;
}

/* ---- options ---------------------------------------------------------------------------- */

enum {
    ROWS,
    COLS,
    TOKENS,
    SEQLEN,
    SPECTRUM,
    OUTLIERS,
    SINK_SHARE,
    TAILS,
    SEED,
    HESS,
    NAME,
    APPEND,
    OUT
};
static const struct ptq_synth_opt opts[] = {
    [ROWS] = {"rows", "256", "outputs of the layer"},
    [COLS] = {"cols", "256", "inputs of the layer"},
    [TOKENS] = {"tokens", "1024", "rows of activations"},
    [SEQLEN] = {"seqlen", "0", "tokens a sequence, divides --tokens; 0: one sequence"},
    [SPECTRUM] = {"spectrum", "power:1", "of the activations: flat, power:ALPHA or lowrank:R"},
    [OUTLIERS] = {"outliers", "0", "N or N:GAIN: N channels are GAIN (16) times as large"},
    [SINK_SHARE] = {"sink", "0",
                    "share of tr H owned by the first token of every sequence, as 0.99"},
    [TAILS] = {"tails", "0", "degrees of freedom of Student-t weights (3: heavy tails); 0: normal"},
    [SEED] = {"seed", "1", "another seed, another layer"},
    [HESS] = {"hess", "1", "0: leave the Hessian out"},
    [NAME] = {"name", "layer", "name of the layer in the file"},
    [APPEND] = {"append", "0", "1: add the layer to an existing file"},
    [OUT] = {"out", NULL, "HDF5 file to write"},
    {NULL, NULL, NULL},
};

static int parse_spectrum(const char *text, struct ptq_synth_layer_args *a, struct ptq_status *st)
{
    if (!strcmp(text, "flat"))
        return PTQ_OK;
    if (!strncmp(text, "power:", 6)) {
        a->spectrum = PTQ_SPECTRUM_POWER;
        return ptq_parse_f64(text + 6, "--spectrum power:", 0, 10, &a->alpha, st);
    }
    if (!strncmp(text, "lowrank:", 8)) {
        a->spectrum = PTQ_SPECTRUM_LOWRANK;
        return ptq_parse_i64(text + 8, "--spectrum lowrank:", 1, 65536, &a->rank, st);
    }
    static const char *const valid[] = {"flat", "power:ALPHA", "lowrank:R", NULL};
    return ptq_unknown_word("--spectrum", text, valid, st);
}

static int parse_outliers(const char *text, struct ptq_synth_layer_args *a, struct ptq_status *st)
{
    char count[32];
    const char *colon = strchr(text, ':');
    snprintf(count, sizeof count, "%.*s", colon ? (int)(colon - text) : 31, text);
    a->gain = 16;
    int rc = ptq_parse_i64(count, "--outliers", 0, 65536, &a->n_outliers, st);
    return rc == PTQ_OK && colon ? ptq_parse_f64(colon + 1, "--outliers gain", 0, 1e6, &a->gain, st)
                                 : rc;
}

static int parse(const char *const *v, struct ptq_synth_layer_args *a, struct ptq_status *st)
{
    int64_t seed;
    memset(a, 0, sizeof *a);
    if (ptq_parse_i64(v[ROWS], "--rows", 1, 65536, &a->rows, st) ||
        ptq_parse_i64(v[COLS], "--cols", 1, 65536, &a->cols, st) ||
        ptq_parse_i64(v[TOKENS], "--tokens", 1, 65536, &a->tokens, st) ||
        ptq_parse_i64(v[SEQLEN], "--seqlen", 0, 65536, &a->seqlen, st) ||
        parse_spectrum(v[SPECTRUM], a, st) || parse_outliers(v[OUTLIERS], a, st) ||
        ptq_parse_f64(v[SINK_SHARE], "--sink", 0, 0.999999, &a->sink, st) ||
        ptq_parse_i64(v[TAILS], "--tails", 0, 64, &a->tails, st) ||
        ptq_parse_i64(v[SEED], "--seed", 0, INT64_MAX, &seed, st))
        return PTQ_ERR_USAGE;
    a->seed = (uint64_t)seed;
    if (!*v[NAME] || strchr(v[NAME], '/') || strlen(v[NAME]) > 255)
        return wrong(st, "--name must be 1 to 255 characters without a slash");
    return check(a, st);
}

struct target { /* the file being written, and the layer's group in it */
    struct ptq_h5 *h;
    const char *group;
    struct ptq_arena *arena;
    struct ptq_status *st;
};

static int put(const struct target *t, const char *what, enum ptq_h5_type type, int64_t rows,
               int64_t cols, const void *data)
{
    const int64_t dim[2] = {rows, cols};
    const char *name = ptq_arena_printf(t->arena, t->st, "%s/%s", t->group, what);
    return name ? ptq_h5_write(t->h, name, type, 2, dim, data, t->st) : PTQ_ERR_MEMORY;
}

static int put_hess(const struct target *t, const struct ptq_synth_layer_args *a,
                    const double *hess)
{
    const char *name = ptq_arena_printf(t->arena, t->st, "%s/hess", t->group);
    int64_t n_seq = a->seqlen ? a->tokens / a->seqlen : 1;
    int rc = name ? put(t, "hess", PTQ_H5_F64, a->cols, a->cols, hess) : PTQ_ERR_MEMORY;
    if (rc == PTQ_OK)
        rc = ptq_h5_set_text(t->h, name, "normalisation", "token", t->st);
    if (rc == PTQ_OK)
        rc = ptq_h5_set_i64(t->h, name, "n_tokens", a->tokens, t->st);
    return rc == PTQ_OK ? ptq_h5_set_i64(t->h, name, "n_sequences", n_seq, t->st) : rc;
}

/* Every option that shaped the layer, so that the file says how to make it again. */
static int put_source(const struct target *t, const char *const *v)
{
    char *text = ptq_arena_strdup(t->arena, t->st, "synth:layer");
    for (int i = 0; text && i < HESS; i++)
        text = ptq_arena_printf(t->arena, t->st, "%s %s=%s", text, opts[i].name, v[i]);
    return text ? ptq_h5_set_text(t->h, t->group, "source", text, t->st) : PTQ_ERR_MEMORY;
}

static int write_layer(const struct target *t, const struct ptq_synth_layer_args *a,
                       const struct ptq_synth_layer *l, const char *const *v)
{
    int rc = ptq_h5_set_i64(t->h, "/", "schema", 1, t->st);
    if (rc == PTQ_OK)
        rc = put(t, "weight", PTQ_H5_F32, a->rows, a->cols, l->weight);
    if (rc == PTQ_OK)
        rc = put(t, "activations", PTQ_H5_F32, a->tokens, a->cols, l->acts);
    if (rc == PTQ_OK && l->hess)
        rc = put_hess(t, a, l->hess);
    return rc == PTQ_OK ? put_source(t, v) : rc;
}

/* Into an open file. */
static int make_and_write(struct ptq_h5 *h, const char *const *v,
                          const struct ptq_synth_layer_args *a, bool hess, struct ptq_status *st)
{
    struct ptq_synth_layer l;
    struct ptq_arena arena;
    ptq_arena_init(&arena, 0);
    struct target t = {.h = h, .arena = &arena, .st = st};
    int rc = ptq_synth_layer_make(a, hess, &arena, &l, st);
    t.group = rc == PTQ_OK ? ptq_arena_printf(&arena, st, "/layers/%s", v[NAME]) : NULL;
    if (rc == PTQ_OK)
        rc = t.group ? write_layer(&t, a, &l, v) : PTQ_ERR_MEMORY;
    ptq_arena_clear(&arena);
    return rc;
}

/* ---- as a source ---------------------------------------------------------------------------- */

static const char prefix[] = "synth:layer";

bool ptq_synth_layer_is(const char *source)
{
    size_t n = sizeof prefix - 1;
    return !strncmp(source, prefix, n) && (source[n] == ' ' || source[n] == '\0');
}

/* Values into v by the order of opts; text is cut into them. */
static int parse_source(char *text, const char *v[OUT + 1], struct ptq_status *st)
{
    const char *names[HESS + 1] = {NULL};
    for (int i = 0; i <= OUT; i++)
        v[i] = opts[i].def;
    for (int i = 0; i < HESS; i++)
        names[i] = opts[i].name;
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        int i = 0;
        if (equals)
            *equals = '\0';
        while (i < HESS && strcmp(names[i], word) != 0)
            i++;
        if (i == HESS)
            return ptq_unknown_word("option of synth:layer", word, names, st);
        if (!equals)
            return ptq_status_set(st, PTQ_ERR_USAGE, "synth:layer: write %s=VALUE: %s", word,
                                  opts[i].help);
        v[i] = equals + 1;
    }
    return PTQ_OK;
}

int ptq_synth_layer_open(struct ptq_h5 **out, const char *source, struct ptq_status *st)
{
    const char *v[OUT + 1];
    struct ptq_synth_layer_args a;
    char *text = strdup(source + sizeof prefix - 1);
    if (!text)
        return ptq_status_nomem(st, "a source's name", strlen(source));
    int rc = parse_source(text, v, st);
    if (rc == PTQ_OK)
        rc = parse(v, &a, st);
    if (rc == PTQ_OK)
        rc = ptq_h5_open(out, source, PTQ_H5_MEMORY, st);
    if (rc == PTQ_OK && (rc = make_and_write(*out, v, &a, false, st)) != PTQ_OK)
        ptq_h5_close(*out, NULL);
    free(text);
    return rc;
}

/* ---- as a command --------------------------------------------------------------------------- */

static int write_file(const char *const *v, const struct ptq_synth_layer_args *a, bool hess,
                      bool append, struct ptq_status *st)
{
    struct ptq_h5 *h;
    int rc = ptq_h5_open(&h, v[OUT], append ? PTQ_H5_APPEND : PTQ_H5_CREATE, st);
    if (rc != PTQ_OK)
        return rc;
    rc = make_and_write(h, v, a, hess, st);
    int end = ptq_h5_close(h, st);
    return rc != PTQ_OK ? rc : end;
}

static int run(const char *const *v, void *text_out, struct ptq_status *st)
{
    struct ptq_synth_layer_args a;
    bool hess, append;
    int rc = parse(v, &a, st);
    if (rc != PTQ_OK)
        return rc;
    if (ptq_parse_bool(v[HESS], "--hess", &hess, st) ||
        ptq_parse_bool(v[APPEND], "--append", &append, st))
        return PTQ_ERR_USAGE;
    rc = write_file(v, &a, hess, append, st);
    if (rc == PTQ_OK)
        fprintf(text_out, "%s: /layers/%s: weight %lld x %lld, activations %lld x %lld%s\n", v[OUT],
                v[NAME], (long long)a.rows, (long long)a.cols, (long long)a.tokens,
                (long long)a.cols, hess ? ", hess" : "");
    return rc;
}

const struct ptq_synth ptq_synth_layer = {
    .name = "layer",
    .title = "a bare layer file of chosen shape, spectrum, outlier channels and sink",
    .opts = opts,
    .run = run,
};
