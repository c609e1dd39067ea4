/* inspect_weights.c: forms with divisors against the weights that they stand for. What divides the
 * inputs must have multiplied the weights, and the form alone cannot tell: the layer is read again.
 */
#include "analysis/inspection.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Blocks of models with layers beyond it are not read for it. */
enum { MOST_WEIGHTS = 1 << 26 };

static double steps_off(const struct ptq_part *p, int64_t grid, unsigned code, double y)
{
    const double scale = (double)p->scale.at[grid],
                 zero = (double)(p->zero.fmt == PTQ_FMT_NONE ? p->zero_const : p->zero.at[grid]);
    return scale > 0 ? y / scale - ((double)code - zero) : 0;
}

/* Codes stand for W_ij d_j. Rounded to nearest they are within half a step of it; clipping and
 * feedback move some of them farther, but not all of them to where W_ij itself is. So the squared
 * distances in steps are compared: more than rounding gives, and less than half of it from W, says
 * that nobody multiplied. Divisors that coarse steps hide are not told, and harm as little. */
void ptq_try_weights(struct ptq_inspection *in, const struct ptq_cmat *w, const struct ptq_quant *q,
                     const json_t *row)
{
    const struct ptq_part *p = &q->part[0];
    double multiplied = 0, plain = 0;
    for (int64_t i = 0; i < q->rows; i++)
        for (int64_t j = 0; j < q->cols; j++) {
            const int64_t grid = p->groups_per_row ? i * p->groups_per_row + j / p->group_cols : 0;
            const unsigned code = p->codes[i * q->cols + j];
            const double v = (double)w->at[i * w->ld + j],
                         yes = steps_off(p, grid, code, v * (double)q->act.divisor.at[j]),
                         no = steps_off(p, grid, code, v);
            multiplied += yes * yes;
            plain += no * no;
        }
    const double n = (double)q->rows * (double)q->cols;
    if (multiplied > n / 4 && plain < multiplied / 2)
        ptq_broken(in,
                   "%s: the inputs are divided, the weights not multiplied by the same: codes are "
                   "%.3g steps (rms) from W, %.3g from W times the divisor",
                   ptq_row_place(in, row), sqrt(plain / n), sqrt(multiplied / n));
}

/* Several parts, splits and rotations are no grid of single weights. */
static bool can_tell(const struct ptq_quant *q)
{
    const struct ptq_part *p = &q->part[0];
    return q->n_parts == 1 && p->kind == PTQ_PART_UNIFORM && !p->perm && !p->tree_levels &&
           p->rot.fmt == PTQ_FMT_NONE && q->split.n_cols == 0 && q->act.divisor.fmt != PTQ_FMT_NONE;
}

static int compare(struct ptq_inspection *in, struct ptq_pack *pack, const struct ptq_cmat *w,
                   const struct ptq_form_look *f)
{
    struct ptq_result r;
    int code = ptq_pack_get(pack, ptq_row_text(f->row, "form"), &r, in->st);
    if (code)
        return code == PTQ_SKIP ? PTQ_OK : code;
    if (r.quant.rows != w->rows || r.quant.cols != w->cols)
        ptq_not_checked(in, "%s: its layer has another shape now", ptq_row_place(in, f->row));
    else if (can_tell(&r.quant))
        ptq_try_weights(in, w, &r.quant, f->row);
    ptq_result_release(&r);
    return PTQ_OK;
}

static bool same_layer(const json_t *a, const json_t *b)
{
    static const char *const fields[] = {"source", "model_key", "weights_key", "layer", NULL};
    for (int i = 0; fields[i]; i++)
        if (strcmp(ptq_row_text(a, fields[i]), ptq_row_text(b, fields[i])) != 0)
            return false;
    return true;
}

static bool asks(const struct ptq_form_look *f)
{
    return f->state == PTQ_FORM_READ && f->divides && !*f->transform;
}

/* All forms of the layer of form i, which is the first of them. */
static int compare_layer(struct ptq_inspection *in, struct ptq_pack *pack, int64_t i)
{
    const json_t *row = in->forms[i].row;
    struct ptq_cmat w = {0};
    struct ptq_arena arena;
    struct ptq_status why = {0};
    if (!(ptq_row_num(row, "rows") * ptq_row_num(row, "cols") <= MOST_WEIGHTS)) {
        ptq_not_checked(in, "%s has more than %d weights: divisors were not compared with them",
                        ptq_row_text(row, "layer"), MOST_WEIGHTS);
        return PTQ_OK;
    }
    ptq_arena_init(&arena, 0);
    int code = PTQ_OK;
    if (ptq_row_weights(row, &arena, &w, &why) || !w.at)
        ptq_not_checked(in, "divisors were not compared with weights: %s cannot be read again: %s",
                        ptq_row_text(row, "source"),
                        *why.text ? why.text : "the layer is not there");
    for (int64_t k = i; w.at && !code && k < in->n_layers; k++)
        if (asks(&in->forms[k]) && same_layer(row, in->forms[k].row))
            code = compare(in, pack, &w, &in->forms[k]);
    ptq_arena_clear(&arena);
    return code;
}

static bool is_first(const struct ptq_inspection *in, int64_t i)
{
    for (int64_t k = 0; k < i; k++)
        if (asks(&in->forms[k]) && same_layer(in->forms[k].row, in->forms[i].row))
            return false;
    return true;
}

int ptq_compare_weights(struct ptq_inspection *in)
{
    struct ptq_pack *pack;
    int code = ptq_pack_read(&pack, in->args->run_dir, in->st);
    for (int64_t i = 0; !code && i < in->n_layers; i++)
        if (asks(&in->forms[i]) && is_first(in, i))
            code = compare_layer(in, pack, i);
    ptq_pack_close(pack);
    return code;
}
