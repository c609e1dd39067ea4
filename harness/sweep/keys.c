#include "sweep/keys.h"
#include "version.inc"
#include <stdarg.h>

const char *ptq_harness_hash(void)
{
    return PTQ_HARNESS_HASH;
}

const char *ptq_build_commit(void)
{
    return PTQ_COMMIT;
}

const char *ptq_build_compiler(void)
{
    return PTQ_COMPILER;
}

const char *ptq_build_kind(void)
{
    return PTQ_BUILD;
}

void ptq_key_of(char out[PTQ_KEY_CHARS], ...)
{
    struct ptq_hasher *h = ptq_hasher_new();
    va_list ap;
    va_start(ap, out);
    for (const char *text; (text = va_arg(ap, const char *));)
        ptq_hasher_add_text(h, text);
    va_end(ap);
    ptq_hasher_done(h, out);
}

void ptq_arithmetic_key(enum ptq_precision precision, const struct ptq_machine *machine,
                        char out[PTQ_KEY_CHARS])
{
    ptq_key_of(out, precision == PTQ_SINGLE ? "single" : "double", machine->blas_core,
               ptq_isa_name(machine->isa), PTQ_HARNESS_HASH, (char *)NULL);
}

/* The fields one by one, not as bytes: padding holds garbage, and the order here is for good. */
static void add_cell(struct ptq_hasher *h, const struct ptq_cell *c)
{
    ptq_hasher_add_i64(h, c->w_bits);
    ptq_hasher_add_i64(h, c->group_size);
    ptq_hasher_add_i64(h, c->sym);
    ptq_hasher_add_i64(h, c->sym ? (int64_t)c->sym_kind : -1);
    ptq_hasher_add_i64(h, c->grid);
    ptq_hasher_add_i64(h, c->zero_in_range);
    ptq_hasher_add_i64(h, c->scale_fmt);
    ptq_hasher_add_i64(h, (int64_t)c->seed);
    if (c->a_bits) { /* came later: cells of weights alone keep their keys */
        ptq_hasher_add_text(h, "a_bits");
        ptq_hasher_add_i64(h, c->a_bits);
    }
}

void ptq_form_key(const struct ptq_form_inputs *in, char out[PTQ_KEY_CHARS])
{
    char arithmetic[PTQ_KEY_CHARS];
    ptq_arithmetic_key(in->precision, in->machine, arithmetic);
    struct ptq_hasher *h = ptq_hasher_new();
    ptq_hasher_add_text(h, "form");
    ptq_hasher_add_text(h, in->weights);
    ptq_hasher_add_text(h, ptq_sees_stats(in->spec, in->cell) ? in->stats : "");
    ptq_hasher_add_text(h, in->spec->entry->name);
    ptq_hasher_add_text(h, in->spec->entry->version);
    ptq_hasher_add_text(h, in->spec->canonical);
    add_cell(h, in->cell);
    ptq_hasher_add_text(h, arithmetic);
    ptq_hasher_done(h, out);
}

void ptq_model_form_key(const char *model_key, const char (*forms)[PTQ_KEY_CHARS], int64_t n,
                        char out[PTQ_KEY_CHARS])
{
    struct ptq_hasher *h = ptq_hasher_new();
    ptq_hasher_add_text(h, "model");
    ptq_hasher_add_text(h, model_key);
    for (int64_t i = 0; i < n; i++)
        ptq_hasher_add_text(h, forms[i]);
    ptq_hasher_done(h, out);
}

void ptq_metric_key(const char *form, const char *metric, const char *version,
                    const char *evaluated_on, char out[PTQ_KEY_CHARS])
{
    ptq_key_of(out, "metric", form, metric, version, PTQ_SCORING_HASH, evaluated_on, (char *)NULL);
}

void ptq_row_key(const char *kind, const char *form, const char *evaluated_on,
                 char out[PTQ_KEY_CHARS])
{
    ptq_key_of(out, "row", kind, form, evaluated_on, (char *)NULL);
}

bool ptq_sees_stats(const struct ptq_spec *spec, const struct ptq_cell *cell)
{
    return ptq_spec_needs(spec) != 0 || cell->grid == PTQ_GRID_HESS;
}
