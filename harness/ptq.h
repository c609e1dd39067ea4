/* ptq.h: the contract between a quantization method and the harness.
 *
 * A method receives a layer and a grid point (cell) and returns what would be STORED: integer
 * codes, scales, zeros, permutations. It never returns dequantized floats, so it cannot report an
 * error that its stored form does not have, and no two methods can count bits differently. The
 * harness alone dequantizes, counts bits, applies and scores.
 *
 * Rules for a method: include this header and libc, nothing else; no malloc/free (use the
 * arenas), no printing, no mutable static state. Every file of methods/ is compiled twice, with
 * ptq_real = float and ptq_real = double (precision = single | double); the harness picks the
 * table. Matrices are row-major; sizes are int64_t; indices start at 0.
 * Threads: prepare and quantize may run on any thread, several cells at once; ptq_parallel_for
 * inside a cell is serial when the cells themselves run in parallel, and the result must not
 * depend on it. */
#ifndef PTQ_H
#define PTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- precision ------------------------------------------------------------------------------- */
#ifdef PTQ_DOUBLE
typedef double ptq_real;
#define PTQ_REAL(name) name##_f64
#else
typedef float ptq_real;
#define PTQ_REAL(name) name##_f32
#endif

/* For one hot loop compiled for several instruction sets, chosen by the loader. Only for work
 * whose bits cannot depend on the vector width: elementwise, or reductions over a fixed number
 * of lanes. Contraction is off and none of the targets is asked to fuse, so every clone rounds
 * alike. Dropped under sanitizers: the resolver of a clone runs before their runtime is up. */
#ifndef PTQ_CLONES
#if defined(PTQ_SANITIZE) || !defined(__x86_64__) || !defined(__OPTIMIZE__)
#define PTQ_CLONES
#else
#define PTQ_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif

/* ---- return values --------------------------------------------------------------------------- */
enum ptq_code {
    PTQ_OK = 0,
    PTQ_SKIP = 1,       /* the method cannot do this cell; the reason is in the status */
    PTQ_ERR_USAGE = -1, /* wrong configuration, option or input file: exit code 2 */
    /* NaN, Inf, not positive definite after all retries, broken invariant: exit code 5 */
    PTQ_ERR_NUMERIC = -2,
    PTQ_ERR_IO = -3,       /* reading or writing failed (disk full, permission): exit code 6 */
    PTQ_ERR_MEMORY = -4,   /* out of memory or over the memory budget: exit code 6 */
    PTQ_ERR_CANCELLED = -5 /* Ctrl-C or the time budget: exit code 6 */
};

/* ---- matrices -------------------------------------------------------------------------------- */
struct ptq_cmat { /* read-only row-major fp32 matrix; at == NULL: absent */
    const float *at;
    int64_t rows, cols, ld; /* ld: elements from one row to the next, >= cols */
};
struct ptq_cdmat { /* the same in fp64; Hessians are accumulated and kept in fp64 */
    const double *at;
    int64_t rows, cols, ld;
};

/* ---- number formats of stored side arrays ---------------------------------------------------- */
enum ptq_fmt { PTQ_FMT_NONE, PTQ_FMT_INT, PTQ_FMT_F16, PTQ_FMT_BF16, PTQ_FMT_F32 };

/* ---- the layer (input) ----------------------------------------------------------------------- */
enum ptq_role {
    PTQ_ROLE_OTHER,
    PTQ_ROLE_Q,
    PTQ_ROLE_K,
    PTQ_ROLE_V,
    PTQ_ROLE_O,
    PTQ_ROLE_GATE,
    PTQ_ROLE_UP,
    PTQ_ROLE_DOWN,
    PTQ_ROLE_FC1,
    PTQ_ROLE_FC2,
    PTQ_ROLE_EMBED,
    PTQ_ROLE_HEAD
};
/* what the sum of 2 x x^T was divided by */
enum ptq_norm { PTQ_NORM_UNKNOWN, PTQ_NORM_TOKEN, PTQ_NORM_SEQUENCE };

struct ptq_layer {
    const char *name; /* canonical, e.g. "blk.3.attn_q" */
    int block;        /* -1: not inside a block */
    enum ptq_role role;
    /* (d_out x d_in) weights, PyTorch Linear orientation, finite (checked by the harness) */
    struct ptq_cmat w;
    /* (d_in x d_in) sum of 2 x x^T normalised as hess_norm says, undamped, symmetric; may be
     * absent */
    struct ptq_cdmat hess;
    /* hess = hess_rest + hess_sink: hess_sink belongs to the first tokens of each sequence, which
     * may outweigh all others a million times. The rest is therefore kept by itself, never made as
     * a difference. Both or neither are there. */
    struct ptq_cdmat hess_sink, hess_rest;
    enum ptq_norm hess_norm;
    double n_tokens, n_sequences; /* behind hess; 0: unknown */
    /* identifies the contents of hess: layers that share an input share it (memoised factors) */
    uint64_t hess_key;
    struct ptq_cmat acts; /* (n x d_in) sampled calibration inputs; may be absent */
    const float *x_absmax, *x_absmean, *x_mean; /* [d_in] or NULL */
};

/* ---- the cell (grid point) ------------------------------------------------------------------- */
enum ptq_grid { PTQ_GRID_MINMAX, PTQ_GRID_MSE, PTQ_GRID_HESS };
enum ptq_sym_kind {
    PTQ_SYM_FULL, /* range [-A, A] in 2^b - 1 steps, zero = 2^(b-1), A = max |x| always */
    /* the same, but as the published code: a group without negatives keeps its range [0, max] and
     * is clipped */
    PTQ_SYM_GPTQ,
    /* scale = A / (2^(b-1) - 1), codes -2^(b-1) .. 2^(b-1)-1 (QuaRot, AWQ symmetric) */
    PTQ_SYM_ABSMAX
};
enum { PTQ_GROUP_ROW = -1, PTQ_GROUP_TENSOR = 0 }; /* special values of group_size */

struct ptq_cell {
    int w_bits; /* 1..8: code width */
    /* > 0: consecutive columns of a row share scale and zero (the last group of a row may be
     * shorter); PTQ_GROUP_ROW: whole row; PTQ_GROUP_TENSOR: one grid for the matrix */
    int64_t group_size;
    bool sym;
    enum ptq_sym_kind sym_kind;
    enum ptq_grid grid; /* grid search belongs to the cell, so that rivals share it */
    /* true: the range is widened to hold 0 and zero fits in w_bits; false: zero is stored wide and
     * counted */
    bool zero_in_range;
    enum ptq_fmt scale_fmt; /* scales are rounded to it BEFORE codes and feedback see them */
    uint64_t seed;
};

/* ---- the stored form (output) ---------------------------------------------------------------- */
struct ptq_arr {      /* a side array: scale, zero, permutation */
    enum ptq_fmt fmt; /* PTQ_FMT_NONE: absent */
    /* width of one element when fmt is PTQ_FMT_INT; signed values are stored in two's complement */
    int bits;
    bool is_signed;
    int64_t n;
    /* [n], the values exactly as stored (INT: whole numbers; F16, BF16: already rounded) */
    const float *at;
};

/* value = (float)(scale[g] * (code - zero[g])), rounded once to fp32 */
enum ptq_part_kind { PTQ_PART_UNIFORM };

/* Groups of a UNIFORM part: row i, position p = position of column j (p = j without perm, else p
 * with perm[p] = j): g = i * groups_per_row + p / group_cols, or 0 when groups_per_row == 0 (one
 * grid for the matrix). With perm the groups are sets of permuted columns and perm is stored and
 * counted; codes stay in original column order. */
struct ptq_part {
    enum ptq_part_kind kind;
    int bits;
    const uint16_t *codes;      /* (rows x cols) row-major, original column order, each < 2^bits */
    int64_t group_cols;         /* > 0 */
    int64_t groups_per_row;     /* ceil(cols / group_cols); 0: per tensor */
    struct ptq_arr scale, zero; /* zero absent: the constant zero_const, which costs nothing */
    float zero_const;
    const int32_t *perm; /* [cols] or NULL */
};

enum { PTQ_MAX_PARTS = 4 };
struct ptq_quant {
    int64_t rows, cols;
    int n_parts;
    struct ptq_part part[PTQ_MAX_PARTS]; /* What = sum of the parts */
};

/* ---- the method ------------------------------------------------------------------------------ */
struct ptq_ctx; /* opaque: arenas, pool, notes, status; given to every service */

enum ptq_needs { PTQ_NEEDS_HESS = 1, PTQ_NEEDS_ACTS = 2 };
/* What a method can do; the harness skips cells outside and says so. */
enum ptq_caps {
    PTQ_CAP_SYM = 1,
    PTQ_CAP_ASYM = 2,
    PTQ_CAP_GROUPS = 4,
    PTQ_CAP_TENSOR = 8,
    PTQ_CAP_GRID_MSE = 16,
    PTQ_CAP_GRID_HESS = 32,
    PTQ_CAP_ZERO_FREE = 64 /* zero_in_range = false */
};
enum ptq_bits_meaning { PTQ_BITS_CODE, PTQ_BITS_BUDGET };

enum ptq_opt_type { PTQ_OPT_BOOL, PTQ_OPT_INT, PTQ_OPT_REAL, PTQ_OPT_CHOICE };
/* One option. The field at `offset` of the option struct is a bool, int64_t, double, or (CHOICE)
 * int64_t index into `choices`. */
struct ptq_opt {
    const char *name;
    enum ptq_opt_type type;
    size_t offset;
    double def, min, max;       /* CHOICE: def is the index */
    const char *const *choices; /* CHOICE: NULL-terminated words */
    bool prepare;               /* prepare depends on it: another value prepares again */
    const char *alias;          /* another accepted name ("desc_act"), or NULL */
    const char *help;           /* one line; says where the default comes from */
};

struct ptq_cost {
    double flops, bytes, peak_bytes;
};

struct ptq_method {
    const char *name, *title, *cite;
    const char *status;   /* "reference" or "reimplementation: methods/README.md" */
    unsigned needs, caps; /* enum ptq_needs, enum ptq_caps */
    enum ptq_bits_meaning bits_mean;
    size_t opts_size;           /* 0: no options */
    const struct ptq_opt *opts; /* ends with name == NULL; NULL when opts_size == 0 */
    /* Optional. Sets options that the others make inert to one value (their defaults), so that
     * settings which differ in nothing are one cell: called when the options were parsed, before
     * they become keys. The label stays as the user wrote it. */
    void (*normalise)(void *opts);
    /* Optional. 0, or PTQ_SKIP with ptq_skip(). Called before prepare, with the cell. */
    int (*check)(struct ptq_ctx *, const struct ptq_layer *, const struct ptq_cell *,
                 const void *opts);
    /* Optional. Work shared by all cells of a layer (factors): once per layer and value of the
     * options marked `prepare`; *shared points into PTQ_ARENA_LAYER and is read-only afterwards,
     * since several cells use it at once. */
    int (*prepare)(struct ptq_ctx *, const struct ptq_layer *, const void *opts,
                   const void **shared);
    /* Required. Once per cell; shared is what prepare gave, or NULL. Fills out; everything out
     * points to lives in the result arena (ptq_alloc(ctx, PTQ_ARENA_RESULT, ...)). */
    int (*quantize)(struct ptq_ctx *, const struct ptq_layer *, const struct ptq_cell *,
                    const void *opts, const void *shared, struct ptq_quant *out);
    /* Optional: predicted flops, bytes touched, peak bytes of one call; for --dry-run. */
    void (*cost)(const struct ptq_layer *, const struct ptq_cell *, const void *opts,
                 struct ptq_cost *);
};
/* A method file ends in: PTQ_METHOD(name) = { .name = "name", ... };  the word must equal the
 * file's name. */
#define PTQ_METHOD_SYMBOL2(n) PTQ_REAL(ptq_method_##n)
#define PTQ_METHOD(n)                                                                              \
    extern const struct ptq_method PTQ_METHOD_SYMBOL2(n);                                          \
    const struct ptq_method PTQ_METHOD_SYMBOL2(n)

/* ---- services -------------------------------------------------------------------------------- */
enum ptq_arena_kind {
    PTQ_ARENA_CALL,   /* released when the hook returns */
    PTQ_ARENA_RESULT, /* released when the harness has scored and stored the form */
    PTQ_ARENA_LAYER   /* prepare only: released when the last cell of the layer is done */
};
/* Zeroed memory, 64-byte aligned, n * size checked for overflow. NULL only after the status was
 * set (return PTQ_ERR_MEMORY). */
void *ptq_alloc(struct ptq_ctx *, enum ptq_arena_kind, int64_t n, size_t size);

/* Both set the one message of the context and return their code, so that a method writes `return
 * ptq_fail(...)`. */
int ptq_fail(struct ptq_ctx *, enum ptq_code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int ptq_skip(struct ptq_ctx *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A number that becomes a column of the row: damping used, retries, clipped codes. The last
 * value of a key wins. The key says how a model's row sums up those of its layers: keys beginning
 * with `n_` and `retries` are added (so a count is noted raw, never as a share), all others take
 * the maximum. */
void ptq_note(struct ptq_ctx *, const char *key, double value);
bool ptq_cancelled(struct ptq_ctx *); /* poll in long loops; return PTQ_ERR_CANCELLED */

/* Runs fn(arg, begin, end) over [0, n) in pieces of `grain` (the last may be shorter). Piece
 * borders depend on n and grain alone. Serial when already inside a parallel region. fn must
 * write disjoint data. All services may be called from a piece. */
void ptq_parallel_for(struct ptq_ctx *, int64_t n, int64_t grain,
                      void (*fn)(void *arg, int64_t begin, int64_t end), void *arg);

/* The same for pieces that need scratch: slot is in [0, ptq_threads(ctx)), and no two pieces run
 * at once with one slot. Which slot a piece gets is open: results must not depend on it (counts
 * may be added up a slot). */
int ptq_threads(struct ptq_ctx *);
void ptq_parallel_for_slots(struct ptq_ctx *, int64_t n, int64_t grain,
                            void (*fn)(void *arg, int slot, int64_t begin, int64_t end), void *arg);

/* Rounds to nearest, halves to even (the one rounding of the project). */
#define ptq_round(x)                                                                               \
    (sizeof(x) == sizeof(float) ? (double)__builtin_rintf((float)(x)) : __builtin_rint((double)(x)))
/* Rounds a scale to its stored format; a positive value never becomes 0 or Inf (saturates to the
 * smallest or largest). Saturated scales do not pass in silence: the harness counts those of every
 * form and notes them as `n_scale_saturated` when there are any. */
float ptq_round_fmt(double x, enum ptq_fmt fmt);

/* ---- grids (quant/grid_real.c) --------------------------------------------------------------- */
struct ptq_grid_fit {
    float scale, zero; /* value = scale * (code - zero); zero is a whole number */
    /* zero_in_range = false, but the range lay so far from 0 that the zero did not fit: it was
     * widened to hold 0 */
    bool widened;
};
/* Fits the grid of one vector x[0], x[stride], ... (n elements) by the rules of the cell: range,
 * symmetric kind, minmax or MSE search (80 steps down to 0.21, |e|^2.4), scale rounded to
 * cell->scale_fmt before zero and codes. methods.md section 1. A cell with the HESS grid gets
 * minmax here. */
void PTQ_REAL(ptq_grid_fit)(const struct ptq_cell *, const ptq_real *x, int64_t n, int64_t stride,
                            struct ptq_grid_fit *);
/* Hessian-weighted search (BoA): 100 steps down to 0.01, zero by floor and ceil, scored by dw
 * H_gg dw^T; h is the (n x n) fp64 diagonal block of H that belongs to x's columns, leading
 * dimension ldh. Same as ptq_grid_fit when the cell's grid is not HESS. scratch: PTQ_HESS_LANES
 * * n doubles, 64-byte aligned. */
enum { PTQ_HESS_LANES = 16 };
void PTQ_REAL(ptq_grid_fit_hess)(const struct ptq_cell *, const ptq_real *x, int64_t n,
                                 int64_t stride, const double *h, int64_t ldh, double *scratch,
                                 struct ptq_grid_fit *);
/* Code of x on a grid: clamp(round(x / scale) + zero, 0, 2^bits - 1). The stored value of a code
 * is the fp32 number (float)(scale * (code - zero)), the same the harness dequantizes to. */
static inline int ptq_grid_code(double x_over_scale_rounded, float zero, int maxq)
{
    double q = x_over_scale_rounded + zero;
    return q < 0 ? 0 : q > maxq ? maxq : (int)q;
}
static inline float ptq_grid_value(const struct ptq_grid_fit *g, int code)
{
    return g->scale * ((float)code - g->zero);
}

/* Group layout of a cell: columns of a group and groups per row (0: per tensor). */
int64_t ptq_group_cols(const struct ptq_cell *, int64_t cols);
int64_t ptq_groups_per_row(const struct ptq_cell *, int64_t cols);
/* The empty UNIFORM part of a cell, arrays in the result arena; `at` holds the same arrays,
 * writable. Symmetric cells have no zero array (zero_const = 2^(b-1) costs nothing); otherwise
 * zeros are b bits wide, or 16 bits signed when zero_in_range is false. */
struct ptq_part_arrays {
    uint16_t *codes; /* (rows x cols) */
    float *scale;    /* [n_groups] */
    float *zero;     /* [n_groups], NULL when constant */
    int64_t n_groups;
};
int ptq_part_uniform(struct ptq_ctx *, const struct ptq_layer *, const struct ptq_cell *,
                     struct ptq_part *, struct ptq_part_arrays *at);
static inline void ptq_part_set_grid(const struct ptq_part_arrays *at, int64_t group,
                                     const struct ptq_grid_fit *g)
{
    at->scale[group] = g->scale;
    if (at->zero)
        at->zero[group] = g->zero;
}
/* Zero of a group of a part. */
static inline float ptq_part_zero(const struct ptq_part *p, int64_t group)
{
    return p->zero.at ? p->zero.at[group] : p->zero_const;
}
/* Fits every grid of the part from the layer's weights (any grid of the cell), in parallel.
 * zeroed, when not NULL: [cols], columns that count as 0. Notes `n_zero_widened`, the number of
 * widened groups, for cells with zero_in_range = false. */
int PTQ_REAL(ptq_grid_fit_all)(struct ptq_ctx *, const struct ptq_layer *, const struct ptq_cell *,
                               const uint8_t *zeroed, const struct ptq_part_arrays *);

/* ---- linear algebra (core/) ------------------------------------------------------------------
 * Tiles are fixed by the matrix's own dimensions: the same bits for any thread count. */
/* C (m x n) = C + sign * A (m x k) * B (k x n); sign is +1 or -1; row-major with leading
 * dimensions. */
int PTQ_REAL(ptq_gemm_add)(struct ptq_ctx *, int sign, int64_t m, int64_t n, int64_t k,
                           const ptq_real *a, int64_t lda, const ptq_real *b, int64_t ldb,
                           ptq_real *c, int64_t ldc);

enum ptq_dead_rule {
    /* H_jj of a dead input = mean of the live diagonal, left out of the damping mean */
    PTQ_DEAD_MEAN,
    /* published code: 1 in H scaled by sequences (2/N_seq); a token-scaled H gets 1/seqlen */
    PTQ_DEAD_REFERENCE
};
struct ptq_factor_args {
    /* lambda = percdamp * mean(diag H) after the dead inputs were filled in */
    double percdamp;
    enum ptq_dead_rule dead;
    bool act_order; /* order columns by diag H descending, stable, lower index first */
    bool no_hess;   /* factor the identity instead (tests) */
};
/* Index-reversed Cholesky of the permuted damped Hessian: P (H + lambda I) P^T = R R^T, R upper;
 * m = R diag(R)^-1 (unit upper), the LDLQ feedback matrix: the code of column k rounds W_k +
 * sum_{j<k} (W_j - What_j) m_jk. d = diag(R)^2 = 1 / U_kk^2. Retries with the damping added
 * again until positive definite (at most 10 times). Memoised over layers that share hess_key;
 * the caller must not write to it; valid until the layer is released. */
struct PTQ_REAL(ptq_factor) {
    int64_t n;
    const ptq_real *m;   /* (n x n), ld = n */
    const ptq_real *d;   /* [n] */
    const int32_t *perm; /* [n]: position -> original column; identity without act_order */
    const uint8_t *dead; /* [n], by original column: input never active (H_jj == 0) */
    double lambda;       /* damping in use, all retries included */
    int retries;
    int64_t n_dead;
};
typedef const struct PTQ_REAL(ptq_factor) * PTQ_REAL(ptq_factor_result);
int PTQ_REAL(ptq_factor_get)(struct ptq_ctx *, const struct ptq_layer *,
                             const struct ptq_factor_args *, PTQ_REAL(ptq_factor_result) * out);

#endif
