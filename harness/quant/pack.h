/* pack.h: sections of the packed form. Private to quant/. */
#ifndef PTQ_QUANT_PACK_H
#define PTQ_QUANT_PACK_H
#include "quant/form.h"

enum { PTQ_SECTION_CODES, PTQ_SECTION_SCALE, PTQ_SECTION_ZERO, PTQ_SECTION_PERM, PTQ_N_SECTIONS };
/* Bits of an index below n: ceil(log2 n). */
int ptq_index_bits(int64_t n);
/* Bytes of each section of a part; false on overflow. */
bool ptq_part_section_bytes(const struct ptq_form_head *, int part, int64_t bytes[PTQ_N_SECTIONS]);
#endif
