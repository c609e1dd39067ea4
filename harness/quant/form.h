/* form.h: what a quantized matrix IS: its values, its bits, its bytes. Bits are counted from the
 * packed form: one byte string per layer, sections in a fixed order (SCHEMA.md), each an LSB-first
 * bit stream padded to a whole byte. bits_stored = 8 * bytes / (rows * cols), rows and cols being
 * the layer's own, by construction the size of /packed/LAYER. Shape, widths and formats are
 * attributes (a format's description, not data). */
#ifndef PTQ_QUANT_FORM_H
#define PTQ_QUANT_FORM_H
#include "core/arena.h"

/* Shapes and widths that fit each other, codes below 2^bits and inside their book, formats
 * representable, perm a permutation, integers fitting their width, divisors positive, everything
 * finite, no array that its kind of part does not read. PTQ_ERR_NUMERIC naming part, place and
 * value; from a method it is the method's bug. */
int ptq_quant_validate(const struct ptq_quant *, struct ptq_status *);
/* what (rows x ptq_quant_kcols): sum of the parts in their order, each term rounded to fp32, the
 * sum fp32. Then, without a split, column j is divided by act.divisor[j] (fp32); with one the
 * matrix stays as stored, since the divisor acts on the channels before they are split, and
 * columns without a source read as 0. The form must be valid. PTQ_ERR_MEMORY. */
int ptq_quant_dequant(const struct ptq_quant *, float *what, struct ptq_status *);

/* How many scales stand at the largest or the smallest positive value of their format: what
 * ptq_round_fmt gives for everything beyond (f16: 65504 and 2^-24). Such a grid does not fit its
 * weights, so the harness notes them with every form (n_scale_saturated, when there are any). */
int64_t ptq_quant_saturated_scales(const struct ptq_quant *);

struct ptq_ledger { /* bits, exact, padding included in its section */
    double codes, scales, zeros, perm;
    double books;     /* with their steps and minima */
    double tree, rot; /* entanglement trees, rotations */
    double lowrank;   /* factors with their scales */
    double divisor;   /* 0 where it folds into the producer */
    double act_scale; /* static scale of the inputs */
    double split;     /* map of columns to channels, and the limit */
    double total;
    double nominal; /* code width, per weight: bits / dim, parts added */
    /* As papers count (methods.md 0.3), without padding: codes; scales at 16 bits and zeros at the
     * code's width, b + (16 + b)/g asymmetric, b + 16/g symmetric; low rank at 8 bits and without
     * its scales; 16 bits a column of a split; the rest at its width. */
    double paper;
};
void ptq_quant_ledger(const struct ptq_quant *, struct ptq_ledger *);
/* Bits of the form's books (steps and minima included, without padding) were the matrix rows x
 * cols: as many entries of as many values in a book; one that serves all rows (columns) serves all
 * there, others serve as many as here. Vectors of a whole row grow with it. */
double ptq_quant_books_at(const struct ptq_quant *, int64_t rows, int64_t cols);

/* ---- the shape of a form without its arrays: enough to unpack ---- */

enum ptq_arr_id { /* side arrays of a part */
                  PTQ_ARR_SCALE,
                  PTQ_ARR_ZERO,
                  PTQ_ARR_BOOK,
                  PTQ_ARR_BOOK_STEP,
                  PTQ_ARR_BOOK_MIN,
                  PTQ_ARR_LEFT,
                  PTQ_ARR_RIGHT,
                  PTQ_ARR_LEFT_SCALE,
                  PTQ_ARR_RIGHT_SCALE,
                  PTQ_ARR_ROT,
                  PTQ_N_ARRS
};
extern const char *const ptq_arr_names[PTQ_N_ARRS]; /* the fields' names in struct ptq_part */
struct ptq_arr *ptq_part_arr(struct ptq_part *, enum ptq_arr_id);

struct ptq_arr_head { /* fmt PTQ_FMT_NONE: absent, all 0 */
    int fmt, bits;    /* bits: of integers, else 0 */
    bool is_signed;
    int64_t n;
};
struct ptq_part_head { /* fields as in struct ptq_part; those that the kind does not read are 0 */
    int kind, bits;
    int64_t group_cols, groups_per_row;
    int64_t dim, book_len, book_rows, book_cols, rank;
    int tree_levels;
    bool has_perm;
    float zero_const;
    struct ptq_arr_head arr[PTQ_N_ARRS];
};
struct ptq_form_head {
    int64_t rows, cols;
    int64_t split_cols; /* columns of the stored matrix; 0: no split */
    int piece_bits;     /* width of piece + 1; 0: no piece, and then no limit */
    struct ptq_arr_head divisor;
    bool folds;        /* the divisor folds into the producer: not part of the bytes */
    int act_bits;      /* width of the inputs, 0: as they are */
    bool act_scale;    /* they have a static scale */
    int64_t file_bits; /* as in struct ptq_quant */
    int n_parts;
    struct ptq_part_head part[PTQ_MAX_PARTS];
};
void ptq_quant_head(const struct ptq_quant *, struct ptq_form_head *);
static inline int64_t ptq_head_kcols(const struct ptq_form_head *h)
{
    return h->split_cols ? h->split_cols : h->cols;
}

/* ---- bytes ---- */

struct ptq_packed {
    const uint8_t *at;
    int64_t bytes;
    /* divisor that folds into the producer: no part of the stored form, but of its values */
    const float *folded;
    int64_t n_folded;
};
/* Packs a valid form into the arena; folded points into the form. */
int ptq_quant_pack(const struct ptq_quant *, struct ptq_arena *, struct ptq_packed *,
                   struct ptq_status *);
/* Rebuilds the quant in the arena. Head, bytes and divisor are untrusted: sizes are checked against
 * the bytes before memory is taken, at most some 64 times as much (1-bit fields become floats). The
 * matrix of a valid form may be far larger than its bytes (low rank): check rows and cols. */
int ptq_quant_unpack(const struct ptq_form_head *, const struct ptq_packed *, struct ptq_arena *,
                     struct ptq_quant *, struct ptq_status *);
/* XXH3 of all that makes the values: "the bits are the same". */
void ptq_quant_hash(const struct ptq_quant *, char out_33[33]);
#endif
