/* inspect_forms.c: the stored forms of a run, read back from forms.pack. */
#include "analysis/inspection.h"
#include "core/rng.h"
#include "core/size.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the transform of the inputs ---------------------------------------------------------------
 */

/* Largest relative deviation that fp32 rounding of a division and of some dozen pieces explains. */
static const double roundings = 64 * 5.97e-8;

static double divisor(const struct ptq_quant *q, int64_t j)
{
    return q->act.divisor.fmt == PTQ_FMT_NONE ? 1 : (double)q->act.divisor.at[j];
}

/* The piece of v that column k multiplies (ptq.h, struct ptq_split). */
static float piece(const struct ptq_split *s, int64_t k, float v)
{
    if (s->piece[k] < 0)
        return v;
    float rest = fabsf(v) - (float)s->piece[k] * s->limit;
    rest = rest < 0 ? 0 : rest > s->limit ? s->limit : rest;
    return copysignf(rest, v);
}

struct channels {   /* of a split: its distinct signals, as chains of columns */
    int64_t *first; /* [cols] column, or -1 */
    int64_t *next;  /* [kcols] */
};

static int find_channels(const struct ptq_quant *q, struct ptq_arena *a, struct channels *c,
                         struct ptq_status *st)
{
    c->first = ptq_arena_alloc(a, st, q->cols, sizeof *c->first);
    c->next = ptq_arena_alloc(a, st, q->split.n_cols, sizeof *c->next);
    if (!c->first || !c->next)
        return PTQ_ERR_MEMORY;
    for (int64_t j = 0; j < q->cols; j++)
        c->first[j] = -1;
    for (int64_t k = q->split.n_cols - 1; k >= 0; k--) {
        const int32_t j = q->split.source[k];
        if (j < 0)
            continue;
        int64_t same = c->first[j]; /* pieces of a weight share a signal: it counts once */
        while (same >= 0 && q->split.piece[same] != q->split.piece[k])
            same = c->next[same];
        if (same >= 0)
            continue;
        c->next[k] = c->first[j];
        c->first[j] = k;
    }
    return PTQ_OK;
}

/* Random, but within what the pieces of the channel hold: inputs beyond it are cut by design. */
static float input_of(const struct ptq_quant *q, const struct channels *c, int64_t j)
{
    double most = 0;
    for (int64_t k = c ? c->first[j] : -1; k >= 0; k = c->next[k])
        if (q->split.piece[k] >= 0) /* pieces 0 .. n-1: n limits */
            most = fmax(most, ((double)q->split.piece[k] + 1) * (double)q->split.limit);
    most = most > 0 ? most : 1;
    return (float)((2 * ptq_uniform(7, (uint64_t)j) - 1) * most * divisor(q, j));
}

/* x as the stored matrix gets it, put together again. */
static double output_of(const struct ptq_quant *q, const struct channels *c, int64_t j, float x)
{
    const float v = (float)((double)x / divisor(q, j));
    double sum = c ? 0 : (double)v;
    for (int64_t k = c ? c->first[j] : -1; k >= 0; k = c->next[k])
        sum += (double)piece(&q->split, k, v);
    return sum * divisor(q, j);
}

/* Pieces add up, and divisors are numbers that divide: each channel comes out as it went in. That
 * the weights were multiplied by the divisors is for inspect_weights.c to see. A channel that no
 * column reads is one whose weights were left out. */
static int check_channels(const struct ptq_quant *q, struct ptq_arena *a, char fault[200],
                          struct ptq_status *st)
{
    struct channels c;
    const bool split = q->split.n_cols > 0;
    int code = split ? find_channels(q, a, &c, st) : PTQ_OK;
    for (int64_t j = 0; !code && j < q->cols && !*fault; j++) {
        if (split && c.first[j] < 0)
            continue;
        float x = input_of(q, split ? &c : NULL, j);
        double y = output_of(q, split ? &c : NULL, j, x);
        if (!(fabs(y - (double)x) <= roundings * fabs((double)x)))
            snprintf(fault, 200, "input channel %lld: %.9g comes out as %.9g (divisor %.6g%s)",
                     (long long)j, (double)x, y, divisor(q, j), split ? ", split" : "");
    }
    return code;
}

/* rot^T rot = I, on a few pairs of its columns: the term is part * rot^T. */
static void check_rotation(const struct ptq_quant *q, int part, char fault[200])
{
    enum { PAIRS = 64 };
    const int64_t n = ptq_quant_kcols(q);
    const float *r = q->part[part].rot.at;
    for (int64_t k = 0; k < PAIRS && !*fault; k++) {
        int64_t i = (int64_t)(ptq_uniform(11, (uint64_t)k) * (double)n),
                j = k % 2 ? i : (i + k) % n;
        double sum = 0;
        for (int64_t m = 0; m < n; m++)
            sum += (double)r[i * n + m] * (double)r[j * n + m];
        if (!(fabs(sum - (i == j)) <= 1e-3)) /* stored in 16 bits, perhaps */
            snprintf(fault, 200, "part %d: rows %lld and %lld of the rotation have product %.6g",
                     part, (long long)i, (long long)j, sum);
    }
}

static int check_transforms(const struct ptq_quant *q, struct ptq_arena *a, struct ptq_form_look *f,
                            struct ptq_status *st)
{
    int code = PTQ_OK;
    if (q->act.divisor.fmt != PTQ_FMT_NONE || q->split.n_cols) {
        f->transforms = true;
        f->divides = q->split.n_cols == 0;
        code = check_channels(q, a, f->transform, st);
    }
    for (int p = 0; !code && p < q->n_parts; p++)
        if (q->part[p].rot.fmt != PTQ_FMT_NONE) {
            f->transforms = true;
            check_rotation(q, p, f->transform);
        }
    return code;
}

/* ---- bits and bytes ----------------------------------------------------------------------------
 */

static void check_ledger(const struct ptq_quant *q, const struct ptq_packed *packed,
                         struct ptq_form_look *f)
{
    struct ptq_ledger ledger;
    struct ptq_quant own = *q;
    own.file_bits = 0;
    ptq_quant_ledger(&own, &ledger);
    const double bytes = 8.0 * (double)packed->bytes,
                 bits = q->file_bits ? (double)q->file_bits : bytes,
                 weights = (double)q->rows * (double)q->cols,
                 told = ptq_row_metric(f->row, "bits_stored");
    f->no_bits = isnan(told);
    if (ledger.total != bytes)
        snprintf(f->ledger, sizeof f->ledger, "the ledger counts %.0f bits, the form has %.0f",
                 ledger.total, bytes);
    else if (!f->no_bits && !(fabs(told * weights - bits) < 0.5))
        snprintf(f->ledger, sizeof f->ledger,
                 "the row says %.17g bits a weight = %.0f bits, the form has %.0f", told,
                 told * weights, bits);
}

static int check_round_trip(const struct ptq_quant *q, const struct ptq_packed *packed,
                            struct ptq_arena *a, struct ptq_form_look *f, struct ptq_status *st)
{
    char stored[33], again[33];
    const char *row = ptq_row_text(f->row, "codes_hash");
    struct ptq_form_head head;
    struct ptq_quant back;
    ptq_quant_hash(q, stored);
    if (*row && strcmp(row, stored) != 0)
        snprintf(f->round_trip, sizeof f->round_trip,
                 "the row's codes hash to %.12s..., those of the stored form to %.12s...", row,
                 stored);
    ptq_quant_head(q, &head);
    int code = ptq_quant_unpack(&head, packed, a, &back, st);
    if (code)
        return code;
    ptq_quant_hash(&back, again);
    if (strcmp(again, stored) != 0)
        snprintf(f->round_trip, sizeof f->round_trip,
                 "packed and unpacked again the form hashes to %.12s..., before to %.12s...", again,
                 stored);
    return PTQ_OK;
}

static int look(const struct ptq_quant *q, struct ptq_form_look *f, struct ptq_status *st)
{
    struct ptq_arena arena;
    struct ptq_packed packed;
    ptq_arena_init(&arena, 0);
    int code = ptq_quant_pack(q, &arena, &packed, st);
    if (!code) {
        check_ledger(q, &packed, f);
        code = check_round_trip(q, &packed, &arena, f, st);
    }
    if (!code)
        code = check_transforms(q, &arena, f, st);
    ptq_arena_clear(&arena);
    return code;
}

/* ---- all of them -------------------------------------------------------------------------------
 */

struct looking {
    struct ptq_pack *pack;
    struct ptq_form_look *forms;
    bool damaged_is_absent;
    struct ptq_status *st; /* [n], one a form: pieces share nothing */
};

static void look_at(struct looking *l, int64_t i)
{
    struct ptq_form_look *f = &l->forms[i];
    struct ptq_status *st = &l->st[i];
    const char *key = ptq_row_text(f->row, "form");
    struct ptq_result r;
    if (!ptq_pack_has(l->pack, key))
        return;
    f->state = l->damaged_is_absent ? PTQ_FORM_ABSENT : PTQ_FORM_DAMAGED;
    if (!ptq_pack_verify(l->pack, key)) /* forgets it: two rows of one form would differ */
        return;
    f->state = PTQ_FORM_INVALID;
    int code = ptq_pack_get(l->pack, key, &r, st);
    if (code)
        return;
    f->state = PTQ_FORM_READ;
    if (ptq_quant_validate(&r.quant, st) == PTQ_ERR_NUMERIC) {
        f->state = PTQ_FORM_INVALID;
        ptq_status_clear(st);
    } else {
        look(&r.quant, f, st);
    }
    ptq_result_release(&r);
}

static void look_at_some(void *arg, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        look_at(arg, i);
}

/* So many forms at once that their matrices stay below some GiB. */
static int at_most(const struct ptq_inspection *in)
{
    double most = 1;
    for (int64_t i = 0; i < in->n_layers; i++)
        most = fmax(most, ptq_row_num(in->layers[i], "rows") * ptq_row_num(in->layers[i], "cols"));
    double n = 1e8 / most;
    return n < 1 ? 1 : n > 1024 ? 1024 : (int)n;
}

static int first_fault(const struct looking *l, int64_t n, struct ptq_status *st)
{
    for (int64_t i = 0; i < n; i++)
        if (l->st[i].code < 0)
            return ptq_status_set(st, (enum ptq_code)l->st[i].code, "%s", l->st[i].text);
    return PTQ_OK;
}

int ptq_look_at_forms(struct ptq_inspection *in)
{
    struct looking l = {.damaged_is_absent = in->args->damaged_is_absent};
    if (in->forms)
        return PTQ_OK;
    l.forms = ptq_arena_alloc(in->arena, in->st, in->n_layers, sizeof *l.forms);
    l.st = calloc((size_t)in->n_layers + 1, sizeof *l.st);
    int code = l.forms && l.st ? PTQ_OK : ptq_status_nomem(in->st, "the stored forms", 0);
    for (int64_t i = 0; !code && i < in->n_layers; i++)
        l.forms[i].row = in->layers[i];
    if (!code)
        code = ptq_pack_read(&l.pack, in->args->run_dir, in->st);
    if (!code)
        ptq_pool_for_at_most(in->args->pool, at_most(in), in->n_layers, 1, look_at_some, &l);
    if (!code)
        code = first_fault(&l, in->n_layers, in->st);
    ptq_pack_close(l.pack);
    free(l.st);
    in->forms = code ? NULL : l.forms;
    return code;
}
