/* kernel.h: products with packed weights, and what surrounds them, at the machine's speed.
 *
 * One file OPERATION_ISA.c is one kernel; the scalar file is the definition and the SIMD files must
 * give ITS BITS, float operations included: each says in which order it adds, and every kernel adds
 * so (std fma, round to nearest). The folder is the registry; tests and `ptq bench` find all.
 *
 * Layout of a packed matrix ("panels"). 32 rows make a panel; missing rows are codes 0 with scale
 * 0. Columns are padded to a multiple of 16 (codes 0 and activations 0). A step is 4 columns, k =
 * 4 s + t. Codes of a panel are a stream of 64-byte lines, so that one line serves 16 lanes of 32
 * bits, lane l holding the 4 columns of one or more rows:
 *   4 bits: line s: byte 4 l + t: bits 0-3 row l, bits 4-7 row l + 16
 *   8 bits: lines 2 s, 2 s + 1: byte 4 l + t: row l, row l + 16
 *   2 bits: line s / 2: byte 4 l + t: bits 2 (b + 2 (s % 2)) .. + 1: row l + 16 b
 *   3 bits: units of 16 columns: two lines of the low 2 bits as above, then one line of the high
 *           bit: byte 4 l + t, bit b + 2 (s % 4): row l + 16 b
 * Any table of at most 16 entries indexed by the code (an integer grid, a book) is looked up from
 * the same stream. Groups are multiples of 16 columns, only the last of a row may be shorter. */
#ifndef PTQ_KERNELS_KERNEL_H
#define PTQ_KERNELS_KERNEL_H
#include "core/arena.h"
#include "core/blas.h"

enum { PTQ_PANEL_ROWS = 32, PTQ_PANEL_COLS = 16, PTQ_MAX_PCOLS = 65536 };

/* ---- processors ---- */
enum ptq_cpu_flags {
    PTQ_CPU_AVX2 = 1,        /* with FMA, F16C and BMI2 */
    PTQ_CPU_AVX_VNNI = 2,    /* vpdpbusd on 256 bits, VEX-coded */
    PTQ_CPU_AVX512 = 4,      /* F, BW, VL, DQ */
    PTQ_CPU_AVX512_VNNI = 8, /* vpdpbusd on 512 bits */
    PTQ_CPU_AVX512_VBMI = 16 /* vpermb, vpmultishiftqb */
};
/* Flags of this processor, cut down to what `isa` (in use: PTQ_CPU, --portable) allows. */
unsigned ptq_cpu_flags(enum ptq_isa);

/* ---- packed weights ---- */
enum ptq_kcode {
    PTQ_KCODE_INT, /* value = scale (code - zero) */
    /* value = scale table[code], one table of 2^bits entries per block of table_cols columns, for
     * all rows; bits 2, 3, 4. table_step and table_min where the table is stored as integers of 8
     * bits (0..255): entry = step v + min, so that integer kernels can serve it. */
    PTQ_KCODE_TABLE
};
struct ptq_kweight {
    int64_t rows, cols;            /* of the matrix */
    int64_t panels, pcols, groups; /* ceil(rows / 32), cols padded to 16, ceil(cols / group) */
    int64_t group;                 /* columns a group, multiple of 16; pcols: whole row */
    enum ptq_kcode code;
    int bits;             /* 2, 3, 4, 8 */
    const uint8_t *codes; /* panels x panel_bytes, aligned to 64 */
    int64_t panel_bytes;  /* pcols * 32 * bits / 8, 2 and 3 bits padded to whole lines/units */
    /* (panels x groups x 32), fp16 bits where every scale is one, else NULL and scale32 */
    const uint16_t *scale16;
    const float *scale32; /* the same shape */
    const uint8_t *zero;  /* (panels x groups x 32), or NULL: zero_const everywhere */
    int zero_const;       /* 0..255 */
    /* TABLE */
    int64_t table_cols;                  /* multiple of `group`, or pcols */
    const float *table;                  /* (blocks x 16) */
    const uint8_t *table8;               /* (blocks x 16) or NULL */
    const float *table_step, *table_min; /* (blocks) */
    int64_t bytes;                       /* read by one product: codes, scales, zeros, tables */
};

/* ---- activations ---- */
struct ptq_kacts {      /* n tokens of pcols values, padding 0 */
    int64_t n, ld;      /* ld: elements between tokens, multiple of 64 */
    const float *f32;   /* (n x ld), aligned to 64, or NULL */
    const int8_t *i8;   /* (n x ld), -127..127, or NULL */
    const float *scale; /* (n): value = scale * i8 */
    /* Sums over groups: (n x groups). sum8: of i8, exact; sum32: of f32: 16 partial sums p[k % 16]
     * in order of k, then p[j] += p[j + 8], + 4, + 2, + 1. */
    const int32_t *sum8;
    const float *sum32;
};
/* Y rows of panels [begin, end) for all tokens: y[token * ldy + row], rows beyond w->rows are not
 * written. Integer activations:
 *   y = xscale * (acc over groups g in order, acc = fmaf((float)(dot_g - zero sum8_g), scale_g,
 * acc)) TABLE: per group acc = fmaf(fmaf((float)dot_g, step, min * (float)sum8_g), scale_g, acc)
 * with dot_g the exact int32 sum of code (table8) x i8. Float activations: within a group one chain
 * t = fmaf((float)code or table entry, x_k, t) from 0 in order of k (a product of one token keeps
 * the FMA units busy with several panels at once); INT: acc = fmaf(fmaf(-zero, sum32_g, t),
 * scale_g, acc); TABLE: acc = fmaf(t, scale_g, acc); y = acc. pcols <= 65,536, so that dots fit an
 * int32. */
typedef void ptq_matmul_fn(const struct ptq_kweight *, const struct ptq_kacts *, int64_t begin,
                           int64_t end, float *y, int64_t ldy);

/* ---- codes of vectors ---- */
/* value of columns dim s .. dim s + dim - 1 (segment s) of a row = scale book[code of row and s].
 * By panels: a token's table of partial sums, one an entry and segment, serves all rows; books are
 * the same for all rows; segment s of a panel is 32 codes of code_bits: 4 (byte l: bits 0-3 row l,
 * bits 4-7 row l + 16), 8 or 16. By rows, where books change from row to row or every row sees the
 * inputs in an order of its own (tree): codes lie by rows, 8 or 16 bits, and there are no scales.
 */
struct ptq_kvector {
    int64_t rows, cols, dim, segments, panels; /* segments = cols / dim */
    bool by_rows;
    int64_t book_len, book_segments; /* segments that share a book */
    /* by panels: (books x dim x book_ld), entries side by side, book_ld = book_len padded to 16
     * with 0; by rows: (books x book_len x dim) */
    const float *books;
    int64_t book_ld;
    int code_bits;
    const void *codes;  /* (panels x segments x 32), or (rows x segments) */
    const float *scale; /* (panels x groups x 32) or NULL: 1 */
    int64_t groups, group_segments;
    int64_t book_rows; /* by rows: rows that share a book; numbered row of blocks first */
    int tree_levels;
    /* (rows x levels x tree_ld) bits, LSB first: bit i of a level is that of pair i (ptq.h) */
    const uint8_t *tree_bits;
    int64_t tree_ld; /* bytes: cols / 2 bits padded to 8 bytes */
    int64_t bytes;   /* read by one product of one token */
};
/* table[(s - begin) book_ld + code], codes up to book_ld, = one chain fmaf(book[code][d], x[dim s +
 * d], t) from 0 in order of d, of segments [begin, end); x: all columns of one token. */
typedef void ptq_vq_table_fn(const struct ptq_kvector *, const float *x, int64_t begin, int64_t end,
                             float *table);
struct ptq_vq_range {
    int64_t begin, end, panel_begin, panel_end; /* segments, panels */
};
/* y[row] = fmaf(table[segment][code], scale, y[row]) in order of the segments (+ without scales).
 */
typedef void ptq_vq_add_fn(const struct ptq_kvector *, const float *table,
                           const struct ptq_vq_range *, float *y);
/* y[token ldy + row] of rows [begin, end), each by itself. The row's inputs: level by level, within
 * each of the 2^level segments of its cols inputs, pair i's smaller place goes to the first half,
 * its larger to the second. Then 16 partial sums p[k % 16] = fmaf(value, input, p) in order of k,
 * added up as sum32. scratch: 3 cols floats. */
typedef void ptq_vq_rows_fn(const struct ptq_kvector *, const struct ptq_kacts *, int64_t begin,
                            int64_t end, float *scratch, float *y, int64_t ldy);

/* ---- the others ---- */
/* Codes (rows x cols, one a uint16) of rows 32 panel .. to and from a panel's stream. */
typedef void ptq_pack_fn(const struct ptq_kweight *shape, const uint16_t *codes, int64_t ld,
                         int64_t panel, uint8_t *panel_codes);
typedef void ptq_unpack_fn(const struct ptq_kweight *shape, const uint8_t *panel_codes,
                           int64_t panel, uint16_t *codes, int64_t ld);
/* Stored bit streams (SCHEMA.md: LSB first, n fields of `bits` 1..8) to and from one a byte. */
typedef void ptq_bits_pack_fn(const uint8_t *fields, int64_t n, int bits, uint8_t *stream);
typedef void ptq_bits_unpack_fn(const uint8_t *stream, int64_t n, int bits, uint8_t *fields);
/* Round-to-nearest of one group of n weights on an asymmetric grid: codes, scale, zero. Bits as
 * rowq.h says, those of method rtn with fp32 scales. MSE: the first best of 80 shrink factors 1 - i
 * / 100 by sum |w - what|^2.4. Weights are finite, n >= 1. */
struct ptq_rowq {
    const float *w;
    int64_t n; /* weights of the group */
    int bits;
    uint8_t *codes;
    float scale;
    int zero;
};
typedef void ptq_rowq_fn(struct ptq_rowq *);
/* One token to int8: scale = max |x| / 127 (0: all codes 0), codes half to even, sums of groups. */
struct ptq_actq {
    const float *x;
    int64_t n, pcols, group;
    int8_t *codes; /* [pcols] */
    int32_t *sums; /* [groups] */
    float scale;
};
typedef void ptq_actq_fn(struct ptq_actq *);
/* In-place fast Walsh-Hadamard transform of blocks of n = 2^k floats, not normalised; butterflies
 * in order of their distance 1, 2, 4 ... */
typedef void ptq_hadamard_fn(float *x, int64_t n, int64_t blocks);

enum ptq_kop {
    PTQ_KOP_MATMUL_F32,
    PTQ_KOP_MATMUL_I8,
    PTQ_KOP_PACK,
    PTQ_KOP_UNPACK,
    PTQ_KOP_BITS_PACK,
    PTQ_KOP_BITS_UNPACK,
    PTQ_KOP_ROWQ_MINMAX,
    PTQ_KOP_ROWQ_MSE,
    PTQ_KOP_ACTQ,
    PTQ_KOP_HADAMARD,
    PTQ_KOP_VQ_TABLE,
    PTQ_KOP_VQ_ADD,
    PTQ_KOP_VQ_ROWS,
    PTQ_N_KOPS
};
extern const char *const ptq_kop_names[PTQ_N_KOPS]; /* "matmul_f32", ... */
struct ptq_kernel {
    enum ptq_kop op;
    enum ptq_isa isa;
    unsigned needs; /* enum ptq_cpu_flags, all of them; 0: any processor */
    int rank;       /* of two kernels that serve, the higher is taken */
    /* Optional (matmul): whether it serves this weight and so many tokens. NULL: all. */
    bool (*serves)(const struct ptq_kweight *, int64_t n_tokens);
    union {
        ptq_matmul_fn *matmul;
        ptq_pack_fn *pack;
        ptq_unpack_fn *unpack;
        ptq_bits_pack_fn *bits_pack;
        ptq_bits_unpack_fn *bits_unpack;
        ptq_rowq_fn *rowq;
        ptq_actq_fn *actq;
        ptq_hadamard_fn *hadamard;
        ptq_vq_table_fn *vq_table;
        ptq_vq_add_fn *vq_add;
        ptq_vq_rows_fn *vq_rows;
    } run;
};
/* Every file defines `const struct ptq_kernel ptq_kernel_NAME` (NAME: file without .c). */
extern const struct ptq_kernel *const ptq_kernels[];
extern const int ptq_n_kernels;
const char *ptq_kernel_name(int index);
/* The hashes of all kernels' sources, one after another. */
const char *ptq_kernels_version(void);
/* Best kernel of an operation under these flags; w, n_tokens for products, else NULL, 0. Never NULL
 * for what the scalar file serves. */
const struct ptq_kernel *ptq_kernel_best(enum ptq_kop, unsigned flags, const struct ptq_kweight *,
                                         int64_t n_tokens);
#endif
