/* form.h: what a quantized matrix IS: its values, its bits, its bytes. Bits are counted from the
 * packed form: one byte string per layer, sections in a fixed order (per part: codes, scale,
 * zero, perm), each an LSB-first bit stream padded to a whole byte. bits_stored = 8 * bytes /
 * (rows * cols), by construction the size of /packed/LAYER. Shape, widths and formats are
 * attributes (a format's description, not data). */
#ifndef PTQ_QUANT_FORM_H
#define PTQ_QUANT_FORM_H
#include "core/arena.h"

/* Codes below 2^bits, groups and arrays of the right size, formats representable, perm a
 * permutation, zeros fitting their width, everything finite. PTQ_ERR_NUMERIC naming part, place
 * and value; from a method it is the method's bug. */
int ptq_quant_validate(const struct ptq_quant *, struct ptq_status *);
/* what (rows x cols, ld = cols): sum of the parts, each value scale * (code - zero) rounded once
 * to fp32. */
void ptq_quant_dequant(const struct ptq_quant *, float *what);

/* How many scales stand at the largest or the smallest positive value of their format: what
 * ptq_round_fmt gives for everything beyond (f16: 65504 and 2^-24). Such a grid does not fit its
 * weights, so the harness notes them with every form (n_scale_saturated, when there are any). */
int64_t ptq_quant_saturated_scales(const struct ptq_quant *);

struct ptq_ledger { /* bits, exact, padding included in its section */
    double codes, scales, zeros, perm, total;
    double nominal; /* code width */
    /* methods.md 0.3: b + (16 + b)/g per group asymmetric, b + 16/g symmetric, perm counted; no
     * padding */
    double paper;
};
void ptq_quant_ledger(const struct ptq_quant *, struct ptq_ledger *);

struct ptq_packed {
    uint8_t *at;
    int64_t bytes;
};
/* Packs into the arena. */
int ptq_quant_pack(const struct ptq_quant *, struct ptq_arena *, struct ptq_packed *,
                   struct ptq_status *);
/* The shape of a form without its arrays: enough to unpack. */
struct ptq_form_head {
    int64_t rows, cols;
    int n_parts;
    struct {
        int kind, bits;
        int64_t group_cols, groups_per_row, n_groups;
        int scale_fmt, zero_fmt, zero_bits;
        bool zero_signed, has_perm;
        float zero_const;
    } part[PTQ_MAX_PARTS];
};
void ptq_quant_head(const struct ptq_quant *, struct ptq_form_head *);
/* Rebuilds the quant in the arena; sizes checked against bytes (untrusted input). */
int ptq_quant_unpack(const struct ptq_form_head *, const uint8_t *at, int64_t bytes,
                     struct ptq_arena *, struct ptq_quant *, struct ptq_status *);
/* XXH3 of codes, scales, zeros, perm: "the bits are the same". */
void ptq_quant_hash(const struct ptq_quant *, char out_33[33]);
#endif
