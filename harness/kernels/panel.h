/* panel.h: what products of any width read of a packed matrix. Private to kernels/. */
#ifndef PTQ_KERNELS_PANEL_H
#define PTQ_KERNELS_PANEL_H
#include "core/half.h"
#include "kernels/kernel.h"
#include "kernels/layout.h"

/* All codes of row r (0..31) of a panel. */
static inline void ptq_panel_row(const struct ptq_kweight *w, int64_t panel, int r,
                                 uint8_t codes[PTQ_MAX_PCOLS])
{
    const uint8_t *stream = w->codes + panel * w->panel_bytes;
    const int low = w->bits == 3 ? 3 : (1 << w->bits) - 1;
    for (int64_t k = 0; k < w->pcols; k++) {
        const struct ptq_code_place p = ptq_code_place(w->bits, r, k);
        const int high = p.high_byte < 0 ? 0 : stream[p.high_byte] >> p.high_shift & 1;
        codes[k] = (uint8_t)((stream[p.byte] >> p.shift & low) | high << 2);
    }
}

/* Scale and zero of row r in group g of a panel. */
static inline float ptq_panel_scale(const struct ptq_kweight *w, int64_t panel, int64_t g, int r)
{
    const int64_t at = (panel * w->groups + g) * PTQ_PANEL_ROWS + r;
    return w->scale16 ? ptq_f32_from_f16(w->scale16[at]) : w->scale32[at];
}
static inline int ptq_panel_zero(const struct ptq_kweight *w, int64_t panel, int64_t g, int r)
{
    return w->zero ? w->zero[(panel * w->groups + g) * PTQ_PANEL_ROWS + r] : w->zero_const;
}

/* One past the last column of group g. */
static inline int64_t ptq_group_end(const struct ptq_kweight *w, int64_t g)
{
    return (g + 1) * w->group < w->pcols ? (g + 1) * w->group : w->pcols;
}

/* Units of 16 columns in group g. */
static inline int64_t ptq_group_units(const struct ptq_kweight *w, int64_t g)
{
    const int64_t left = w->pcols - g * w->group;
    return (left < w->group ? left : w->group) / PTQ_PANEL_COLS;
}

/* F(name, bits, table): what SIMD products with int8 activations serve. */
#define PTQ_PANEL_FORMATS(F)                                                                       \
    F(int2, 2, false)                                                                              \
    F(int3, 3, false)                                                                              \
    F(int4, 4, false)                                                                              \
    F(int8, 8, false)                                                                              \
    F(book2, 2, true)                                                                              \
    F(book3, 3, true)                                                                              \
    F(book4, 4, true)
static inline bool ptq_panel_i8_serves(const struct ptq_kweight *w)
{
    const bool small = w->bits >= 2 && w->bits <= 4;
    return w->code == PTQ_KCODE_TABLE ? small && w->table8 : small || w->bits == 8;
}
#endif
