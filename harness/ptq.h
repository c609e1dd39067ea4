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
    PTQ_ROLE_HEAD,
    /* keys (rotated) and values of sampled tokens as matrices (tokens x kv heads * head_dim): data
     * to compress, not the weights of a product; no Hessian */
    PTQ_ROLE_KCACHE,
    PTQ_ROLE_VCACHE
};
/* What makes the layer's input, that is whether a divisor of x costs nothing: it folds into the
 * gain of a norm or into the rows of the linear before. NONE: it has to be applied and stored. */
enum ptq_producer { PTQ_PRODUCER_NONE, PTQ_PRODUCER_NORM, PTQ_PRODUCER_LINEAR };
/* what the sum of 2 x x^T was divided by */
enum ptq_norm { PTQ_NORM_UNKNOWN, PTQ_NORM_TOKEN, PTQ_NORM_SEQUENCE };

/* Attention statistics of a q, k or v projection (BoA, arXiv 2406.13474, Table 1; methods.md
 * section 4), per head of the projection (kv heads for k and v). All are token means of 2 x x^T,
 * undamped. Rows h head_dim .. (h + 1) head_dim - 1 of the layer belong to head h. */
struct ptq_attn {
    int64_t n_heads, head_dim;
    /* (n_heads x head_dim x head_dim) row factors H_row; q: of the keys that the head reads, k: of
     * the queries that read it (mean over them), both averaged over the rotations of positions; v:
     * the sum of W_o,h^T W_o,h (eq. 9). */
    const double *hrow;
    /* v: column factors 2 X A^T A X^T (mean over the query heads of a kv head), upper triangles by
     * rows, n_heads x d_in (d_in + 1) / 2; NULL: hess serves (q, k; or not captured). */
    const double *hcol;
    uint64_t key; /* identifies the contents */
};
/* The module (attention or MLP) that the layer belongs to, for ptq_module_loss. Opaque. */
struct ptq_module;

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
    /* (d_in x d_in) sum of 2 (x_fp - x) x^T as hess_norm says, x_fp being the input in the
     * full-precision model; sequential statistics only, else absent */
    struct ptq_cdmat cross;
    const struct ptq_attn *attn; /* NULL: not captured, or not a projection of attention */
    /* All layers that read the same input, this one included, in the block's order; only name,
     * role and w of the others may be read. n_siblings == 0: unknown (a bare layer). */
    const struct ptq_layer *const *siblings;
    int n_siblings;
    enum ptq_producer producer;
    const struct ptq_module *module; /* NULL: ptq_module_loss cannot be had */
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
    /* Width of the layer's inputs, 2..8 (symmetric integers), or 0: they stay as they are (16 in
     * configurations). A method with PTQ_CAP_ACT gets any of them; where it leaves quant.act.bits
     * at 0 the harness quantizes inputs per token (struct ptq_act). */
    int a_bits;
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

/* The terms of a stored matrix (rows x kcols; kcols = cols but with a split):
 *
 * UNIFORM   value = (float)(scale[g] * (code - zero[g])), rounded once to fp32
 * CODEBOOK  one code stands for `dim` neighbouring values of a row (dim 1: scalar):
 *           value = scale[g] * c[code][j % dim], c = the book of the place, scale absent: 1.
 *           A book holds book_len entries of dim values and serves book_rows rows x book_cols
 *           columns (multiples cut at the matrix's end); books are numbered row of blocks first.
 *           Their values are stored as book (F16, F32) or as integers with a step and a minimum:
 *           c = (float)(book_step[b] * v + book_min[b]), one pair a book or one for all (n == 1).
 * LOWRANK   left (kcols absent: rows x rank) times right (rank x kcols), both row-major; integers
 *           with left_scale and right_scale, one a component (n == rank), or F16, F32. Products
 *           and sums in fp64 in order of the components, rounded once to fp32. */
enum ptq_part_kind { PTQ_PART_UNIFORM, PTQ_PART_CODEBOOK, PTQ_PART_LOWRANK };

/* Groups of a UNIFORM part, and of the scales of a CODEBOOK part: row i, position p = position of
 * column j (p = j without perm, else p with perm[p] = j): g = i * groups_per_row + p / group_cols,
 * or 0 when groups_per_row == 0 (one grid for the matrix). With perm (UNIFORM only) the groups are
 * sets of permuted columns and perm is stored and counted; codes stay in original column order.
 *
 * What a part stores may be the matrix seen another way; the harness takes these steps back, in
 * this order, to get the term of the sum:
 * tree_levels > 0: entanglement tree (QET, arXiv 2407.03637). Level by level, within each of the
 *   2^l segments of a row, neighbours (2j, 2j+1) were split into the smaller, which went to the
 *   first half of the segment at place j, and the larger, to the second half. tree_bits holds one
 *   byte per pair, 1 where the even one was the smaller: [row][level][kcols / 2], segments in
 * order; stored as rows * kcols / 2 bits a level. kcols is divisible by 2^levels. rot: (kcols x
 * kcols) row-major orthogonal matrix; the term is part * rot^T (OPQ). */
struct ptq_part {
    enum ptq_part_kind kind;
    int bits; /* width of a code, 1..16 */
    /* (rows x kcols / dim) row-major, original column order, each < 2^bits; LOWRANK: NULL */
    const uint16_t *codes;
    int64_t group_cols;         /* > 0 where there are scales */
    int64_t groups_per_row;     /* ceil(kcols / group_cols); 0: per tensor */
    struct ptq_arr scale, zero; /* zero absent: the constant zero_const, which costs nothing */
    float zero_const;
    const int32_t *perm; /* [kcols] or NULL */
    /* CODEBOOK */
    int64_t dim, book_len, book_rows, book_cols; /* dim divides book_cols and kcols */
    struct ptq_arr book, book_step, book_min;    /* book.n = books * book_len * dim */
    /* LOWRANK */
    int64_t rank;
    struct ptq_arr left, right, left_scale, right_scale;
    /* seen another way */
    int tree_levels;
    const uint8_t *tree_bits;
    struct ptq_arr rot;
};

/* How the layer's input x is treated before the product. Zeroed: not at all. */
struct ptq_act {
    /* [cols] or absent: x_j / divisor_j is what the stored matrix multiplies, so that
     * What = (sum of the parts) diag(1 / divisor). Costs nothing where it folds into the producer
     * (`folds`, set by the harness from the layer), else it is stored in its format. */
    struct ptq_arr divisor;
    bool folds;
    /* 0: inputs stay as they are. Else symmetric integers, code = clamp(round(x / s), -(2^(bits-1)
     * - 1), 2^(bits-1) - 1); s: the constant `scale`, or where that is 0 the token's own
     * max |x| / (2^(bits-1) - 1), fp32. */
    int bits;
    float scale;
};
/* Split input channels (FlattenQuant, arXiv 2402.17985). n_cols == 0: none. Column k of the stored
 * matrix multiplies a piece of input channel source[k] (after the divisor):
 *   piece[k] < 0:  the channel as it is (pieces of a weight share it)
 *   piece[k] >= 0: sign(v) min(max(|v| - piece[k] limit, 0), limit)
 * so that the pieces 0 .. n-1 of a channel add up to v wherever |v| <= n limit. source[k] == -1: a
 * column of zeros (padding up to the tile of a GEMM), counted. Stored as an index and a piece a
 * column. */
struct ptq_split {
    int64_t n_cols;                /* kcols */
    const int32_t *source, *piece; /* [n_cols] */
    float limit;
};

enum { PTQ_MAX_PARTS = 4 };
struct ptq_quant {
    int64_t rows, cols; /* of the layer */
    int n_parts;
    struct ptq_part part[PTQ_MAX_PARTS]; /* the stored matrix = sum of the parts */
    struct ptq_act act;
    struct ptq_split split;
    /* 0, or: another program's file gave the matrix, and there it takes so many bits, whatever form
     * it was put into here. Counted in place of the bytes; methods leave it 0. */
    int64_t file_bits;
};
/* Columns of the stored matrix. */
static inline int64_t ptq_quant_kcols(const struct ptq_quant *q)
{
    return q->split.n_cols ? q->split.n_cols : q->cols;
}

/* ---- the method ------------------------------------------------------------------------------ */
struct ptq_ctx; /* opaque: arenas, pool, notes, status; given to every service */

enum ptq_needs {
    PTQ_NEEDS_HESS = 1,
    PTQ_NEEDS_ACTS = 2,
    PTQ_NEEDS_RANGES = 4, /* x_absmax, x_absmean */
    PTQ_NEEDS_ATTN = 8, /* uses attention statistics where they are; its check says where it must */
    PTQ_NEEDS_CROSS = 16, /* uses cross where it is */
    PTQ_NEEDS_MODULE = 32 /* uses ptq_module_loss; its check says where it must */
};
/* What a method can do; the harness skips cells outside and says so. */
enum ptq_caps {
    PTQ_CAP_SYM = 1,
    PTQ_CAP_ASYM = 2,
    PTQ_CAP_GROUPS = 4,
    PTQ_CAP_TENSOR = 8,
    PTQ_CAP_GRID_MSE = 16,
    PTQ_CAP_GRID_HESS = 32,
    PTQ_CAP_ZERO_FREE = 64,  /* zero_in_range = false */
    PTQ_CAP_ACT = 128,       /* a_bits below 16 */
    PTQ_CAP_NO_PRODUCT = 256 /* matrices that multiply nothing: K and V caches */
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
    unsigned needs, caps; /* enum ptq_needs (with any options), enum ptq_caps */
    enum ptq_bits_meaning bits_mean;
    size_t opts_size;           /* 0: no options */
    const struct ptq_opt *opts; /* ends with name == NULL; NULL when opts_size == 0 */
    /* Optional. Sets options that the others make inert to one value (their defaults), so that
     * settings which differ in nothing are one cell: called when the options were parsed, before
     * they become keys. The label stays as the user wrote it. */
    void (*normalise)(void *opts);
    /* Optional. What of `needs` cells with these options need: the rest is not captured for them,
     * may be absent, and must not be read. */
    unsigned (*needs_of)(const void *opts);
    /* Optional. The promise that with these options a Hessian of 2 I gives rtn's stored values,
     * since no column then tells another anything: `ptq check` holds the method to it. */
    bool (*rtn_under_identity)(const void *opts);
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
    bool act_order;            /* order columns by diag H descending, stable, lower index first */
    bool no_hess;              /* factor the identity instead (tests) */
    enum ptq_arena_kind arena; /* ptq_factor_make: where the factor lives; 0 is CALL */
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

/* The same of any (n x n) Hessian (symmetric, undamped): not memoised; lives in args->arena.
 * `normalised` layer: its name (messages), hess_norm and counts (dead = reference) are read. */
int PTQ_REAL(ptq_factor_make)(struct ptq_ctx *, const struct ptq_cdmat *hess,
                              const struct ptq_layer *normalised, const struct ptq_factor_args *,
                              PTQ_REAL(ptq_factor_result) * out);

/* GPTQ's column sweep where all grids are known before (methods/gptq.c, equation (1)):
 * What_k = quant(W_k + sum over j < k of E_j M_jk), E = W - What, columns in the factor's order.
 * Rows are independent. Dead inputs count as W = 0. Grids: those of `part` (UNIFORM, without perm;
 * groups by original column), its row first_row + i for row i of w. */
struct PTQ_REAL(ptq_feedback) {
    int64_t rows;
    const ptq_real *w; /* (rows x n), original column order */
    int64_t ldw;
    PTQ_REAL(ptq_factor_result) factor;
    const struct ptq_part *part;
    int64_t first_row;
    /* (n x n) strictly upper, order of the factor, or NULL. TurboBoA's P: every x, the W_k with its
     * feedback that is rounded, then adds x_k P_kj to the weights W_j of later columns. */
    const ptq_real *drive;
    uint16_t *codes; /* (rows x n) out, original column order */
    /* (rows x n) out: W - What, original column order; may be NULL. With drive W is what it grew
     * to. */
    ptq_real *error;
    int64_t *n_clipped; /* clipped codes are added to it; may be NULL */
};
/* The same bits for any number of threads. In single, where the processor fuses, also for any way
 * of taking the rows apart into calls. */
int PTQ_REAL(ptq_feedback_run)(struct ptq_ctx *, const struct PTQ_REAL(ptq_feedback) *);

/* A (n x n) symmetric positive definite = L L^T in place, lower triangle, the upper one set to 0.
 * PTQ_SKIP (no status) when it is not positive definite: A is destroyed, damp and try again. */
int PTQ_REAL(ptq_cholesky_lower)(struct ptq_ctx *, ptq_real *a, int64_t n, int64_t lda);
/* B (n x m) = L^-1 B, or L^-T B with trans. */
int PTQ_REAL(ptq_solve_lower)(struct ptq_ctx *, bool trans, const ptq_real *l, int64_t n,
                              int64_t ldl, ptq_real *b, int64_t m, int64_t ldb);
/* Best rank-r approximation A (m x n) ~ left (m x r) right (r x n): left holds u_k s_k, the rows of
 * right are orthonormal; components by falling singular value, sign such that the entry of right
 * that is largest in size is positive. r <= min(m, n). */
struct PTQ_REAL(ptq_truncated) {
    int64_t m, n, rank;
    const ptq_real *a;
    int64_t lda;
    ptq_real *left, *right;
};
int PTQ_REAL(ptq_truncate)(struct ptq_ctx *, const struct PTQ_REAL(ptq_truncated) *);

/* ---- clustering (quant/kmeans_real.c) ---------------------------------------------------------
 */
enum ptq_kmeans_init {
    PTQ_KMEANS_QUANTILE, /* dim 1: quantiles; more: evenly spaced points by rank of their first
                            component */
    PTQ_KMEANS_POINTS,   /* k different points drawn at random (seed) */
    PTQ_KMEANS_GIVEN     /* what `centroids` holds */
};
struct PTQ_REAL(ptq_kmeans) {
    const ptq_real *x; /* n points of dim values */
    int64_t n, dim, ld;
    const ptq_real *weight; /* [n] >= 0, or NULL: all 1 */
    int64_t k;      /* 1 .. 65536; with fewer points than centroids the rest repeat the last */
    int iterations; /* at most; stops when no code changes */
    enum ptq_kmeans_init init;
    uint64_t seed;
    ptq_real *centroids; /* (k x dim) out; ascending for dim 1 */
    uint16_t *codes;     /* [n] out: the nearest centroid, the lower index on a tie */
};
/* Lloyd's iterations; a cluster that runs empty takes the point farthest from its centroid. Sums in
 * fp64 in order of the points: the same bits for any thread count. */
int PTQ_REAL(ptq_kmeans_run)(struct ptq_ctx *, const struct PTQ_REAL(ptq_kmeans) *);
/* dim 1: the optimum, by dynamic programming over the sorted points (O(k n log n)); iterations,
 * init and seed are not read. */
int PTQ_REAL(ptq_kmeans_exact)(struct ptq_ctx *, const struct PTQ_REAL(ptq_kmeans) *);
/* Codes of points for given centroids: the nearest, the lower index on a tie; weight not read. */
int PTQ_REAL(ptq_kmeans_assign)(struct ptq_ctx *, const struct PTQ_REAL(ptq_kmeans) *);

/* Stores values as integers of `bits` with one fp32 (or step_fmt) step and minimum: v[i] = clamp(
 * round((x[i] - min) / step)), min and step rounded to their format first; out[i] the stored value
 * (float)(step v + min). What books and factors are quantized by. */
void PTQ_REAL(ptq_affine_quantize)(const ptq_real *x, int64_t n, int bits, enum ptq_fmt step_fmt,
                                   float *v, float *step, float *min, ptq_real *out);

/* Product quantization: the columns fall into `subspaces` runs of equal width, each with a book of
 * k centroids of its own (k-means); a row is one code a subspace. Books are fp32 (PTQ_BOOK_F32), or
 * integers of book_bits with one fp32 step and minimum for all; codes are those of the stored
 * books. */
enum { PTQ_BOOK_F32 = 32 };
struct PTQ_REAL(ptq_product) {
    const ptq_real *x; /* (rows x cols), contiguous; subspaces divides cols */
    int64_t rows, cols, subspaces;
    int64_t k; /* 2 .. min(rows, 65536) */
    int book_bits, iterations;
    uint64_t seed; /* subspace s draws its start by seed + s */
    /* (subspaces x k x dim) out: the centroids, as stored when there is a part; may be NULL */
    ptq_real *books;
    bool start;        /* books hold where k-means starts */
    ptq_real *decoded; /* (rows x cols) out: values; may be NULL, may be x */
};
/* out: a CODEBOOK part, arrays in the result arena; NULL: books and decoded only, not rounded. */
int PTQ_REAL(ptq_product_quantize)(struct ptq_ctx *, const struct PTQ_REAL(ptq_product) *,
                                   struct ptq_part *out);
int ptq_product_code_bits(int64_t k); /* ceil(log2 k) */
/* rows subspaces ceil(log2 k) + k cols book_bits, and 64 for step and minimum of integers. */
double ptq_product_bits(int64_t rows, int64_t cols, int64_t subspaces, int64_t k, int book_bits);
/* The largest k up to min(rows, 65536) within the budget in bits; 0: not even one. */
int64_t ptq_product_most(int64_t rows, int64_t cols, int64_t subspaces, int book_bits,
                         double budget);
/* Number of subspaces: m, or where that is 0 runs of PTQ_PRODUCT_DIM columns. PTQ_SKIP with the
 * reason when they do not divide the layer's columns. */
enum { PTQ_PRODUCT_DIM = 4 };
int ptq_product_subspaces(struct ptq_ctx *, const struct ptq_layer *, int64_t m,
                          int64_t *subspaces);
/* Bits a weight of codes and books of 2 centroids, the fewest there are. */
double ptq_product_least(const struct ptq_layer *, int64_t subspaces, int book_bits);
/* PTQ_SKIP with the reason when k centroids, got for `budget` bits of the layer, are no book;
 * least: bits a weight that the cell must have for 2 centroids, everything else paid. */
int ptq_product_enough(struct ptq_ctx *, const struct ptq_layer *, double budget, int64_t k,
                       double least);

/* ---- random numbers: no state, the same everywhere
 * ------------------------------------------------ */
double ptq_random_uniform(uint64_t seed, uint64_t i); /* [0, 1) */
double ptq_random_normal(uint64_t seed, uint64_t i);

/* ---- the module
 * ------------------------------------------------------------------------------------ */
/* Mean squared error of the output of the layer's module (attention with its output projection, or
 * MLP) against full precision on sampled windows, when the layers that read this input (siblings,
 * in their order) have the weights candidate[i] (d_out x d_in, fp32, contiguous) in place of their
 * own. Memoised by the candidates' contents, so that q, k and v may each search the same scales.
 * PTQ_SKIP without a module. */
int ptq_module_loss(struct ptq_ctx *, const struct ptq_layer *, const float *const *candidate,
                    double *loss);

#endif
