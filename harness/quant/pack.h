/* pack.h: rules and sections of the packed form. Private to quant/. */
#ifndef PTQ_QUANT_PACK_H
#define PTQ_QUANT_PACK_H
#include "quant/form.h"

/* Sections of a part in their order: codes, scale, zero, perm, tree, then the other side arrays in
 * the order of their ids. */
enum {
    PTQ_SECTION_CODES,
    PTQ_SECTION_SCALE,
    PTQ_SECTION_ZERO,
    PTQ_SECTION_PERM,
    PTQ_SECTION_TREE,
    PTQ_SECTION_BOOK,
    PTQ_N_SECTIONS = PTQ_SECTION_BOOK + PTQ_N_ARRS - PTQ_ARR_BOOK
};
/* Section of a side array behind zero. */
#define PTQ_SECTION_OF(arr_id) (PTQ_SECTION_BOOK + (arr_id)-PTQ_ARR_BOOK)
/* Those behind the parts. */
enum {
    PTQ_SECTION_DIVISOR,
    PTQ_SECTION_ACT_SCALE,
    PTQ_SECTION_SOURCE,
    PTQ_SECTION_PIECE,
    PTQ_SECTION_LIMIT,
    PTQ_N_INPUT_SECTIONS
};
/* Bits of an index below n: ceil(log2 n). */
int ptq_index_bits(int64_t n);
/* Bits of one element of an array. */
int ptq_fmt_bits(int fmt, int int_bits);
/* Bytes of each section; false on overflow. */
bool ptq_part_section_bytes(const struct ptq_form_head *, int part, int64_t bytes[PTQ_N_SECTIONS]);
bool ptq_input_section_bytes(const struct ptq_form_head *, int64_t bytes[PTQ_N_INPUT_SECTIONS]);
/* Bytes of all sections; false on overflow. */
bool ptq_form_bytes(const struct ptq_form_head *, int64_t *bytes);
/* Codes of a part: 0 for low rank. The head must have no fault. */
int64_t ptq_head_codes(const struct ptq_form_head *, int part);

const struct ptq_arr *ptq_part_arr_of(const struct ptq_part *, int id);

struct ptq_head_fault { /* what == NULL: none */
    int part;           /* -1: of the whole form */
    const char *array;  /* the array's name, or "" */
    const char *what;
};
/* All rules of shapes, widths and formats, for forms of methods and heads from files alike. */
struct ptq_head_fault ptq_head_check(const struct ptq_form_head *);
#endif
