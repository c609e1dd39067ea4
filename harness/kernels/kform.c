#include "kernels/kform.h"
#include "core/size.h"
#include "kernels/weight.h"
#include <stdlib.h>
#include <string.h>

/* ---- building: inputs ---- */

static void *copy(const void *from, int64_t n, size_t size, struct ptq_arena *a,
                  struct ptq_status *st)
{
    void *to = ptq_arena_alloc(a, st, n, size);
    if (to)
        memcpy(to, from, (size_t)n * size);
    return to;
}

/* Columns of a split, taken in the order of perm. */
static int take_map(const struct ptq_quant *q, const struct ptq_part *p, struct ptq_arena *a,
                    struct ptq_kinputs *in, struct ptq_status *st)
{
    const bool split = q->split.n_cols;
    int32_t *gather = ptq_arena_alloc(a, st, in->cols, sizeof *gather),
            *piece = split ? ptq_arena_alloc(a, st, in->cols, sizeof *piece) : NULL;
    if (!gather || (split && !piece))
        return PTQ_ERR_MEMORY;
    for (int64_t k = 0; k < in->cols; k++) {
        const int64_t c = p->perm ? p->perm[k] : k;
        gather[k] = split ? q->split.source[c] : (int32_t)c;
        if (split)
            piece[k] = q->split.piece[c];
    }
    in->gather = gather;
    in->piece = piece;
    in->limit = q->split.limit;
    return PTQ_OK;
}

static int take_inputs(const struct ptq_quant *q, const struct ptq_part *p, struct ptq_arena *a,
                       struct ptq_kinputs *in, struct ptq_status *st)
{
    const int64_t cols = ptq_quant_kcols(q);
    const struct ptq_arr *divisor = &q->act.divisor;
    *in =
        (struct ptq_kinputs){.channels = q->cols,
                             .cols = cols,
                             .pcols = (cols + PTQ_PANEL_COLS - 1) / PTQ_PANEL_COLS * PTQ_PANEL_COLS,
                             .bits = q->act.bits ? q->act.bits : 8,
                             .scale = q->act.scale};
    in->group = in->pcols;
    if (divisor->fmt != PTQ_FMT_NONE && !q->act.folds &&
        !(in->divisor = copy(divisor->at, q->cols, sizeof(float), a, st)))
        return PTQ_ERR_MEMORY;
    if (p->rot.fmt != PTQ_FMT_NONE && !(in->rot = copy(p->rot.at, p->rot.n, sizeof(float), a, st)))
        return PTQ_ERR_MEMORY;
    return p->perm || q->split.n_cols ? take_map(q, p, a, in, st) : PTQ_OK;
}

static int64_t input_bytes(const struct ptq_kinputs *in)
{
    int64_t each = (in->gather ? 4 : 0) + (in->piece ? 4 : 0);
    return each * in->cols + (in->divisor ? 4 * in->channels : 0) +
           (in->rot ? 4 * in->cols * in->cols : 0);
}

/* ---- building: parts ---- */

static int build_lowrank(const struct ptq_kpart *kp, struct ptq_arena *a, struct ptq_kterm *t,
                         struct ptq_status *st)
{
    const struct ptq_part *p = kp->part;
    const struct ptq_kfactor right = {&p->right,
                                      p->right_scale.fmt == PTQ_FMT_NONE ? NULL : &p->right_scale,
                                      p->rank, kp->cols, kp->cpu_flags},
                             left = {&p->left, NULL, kp->rows, p->rank, kp->cpu_flags};
    int rc = ptq_kweight_factor(&right, a, &t->weight, st);
    if (!rc)
        rc = ptq_kweight_factor(&left, a, &t->left, st);
    if (!rc && p->left_scale.fmt != PTQ_FMT_NONE &&
        !(t->left_scale = copy(p->left_scale.at, p->rank, sizeof(float), a, st)))
        rc = PTQ_ERR_MEMORY;
    t->mid = (struct ptq_kinputs){.channels = p->rank,
                                  .cols = p->rank,
                                  .pcols = t->left.pcols,
                                  .group = t->left.group,
                                  .bits = 8};
    return rc;
}

/* Books of at most 16 values that serve all rows are looked up in registers; all others take the
 * way of vectors, of one value too. */
static bool is_table(const struct ptq_kpart *kp)
{
    const struct ptq_part *p = kp->part;
    return p->dim == 1 && p->bits <= 4 && p->book_rows >= kp->rows && !p->tree_levels &&
           (p->book_cols >= kp->cols || p->book_cols % PTQ_PANEL_COLS == 0);
}

static enum ptq_kterm_kind kind_of(const struct ptq_kpart *kp)
{
    switch (kp->part->kind) {
    case PTQ_PART_UNIFORM: return PTQ_KTERM_WEIGHT;
    case PTQ_PART_LOWRANK: return PTQ_KTERM_LOWRANK;
    default: return is_table(kp) ? PTQ_KTERM_WEIGHT : PTQ_KTERM_VECTOR;
    }
}

static int build_term(const struct ptq_quant *q, const struct ptq_kpart *kp, struct ptq_arena *a,
                      struct ptq_kterm *t, struct ptq_status *st)
{
    const struct ptq_part *p = kp->part;
    t->kind = kind_of(kp);
    if (p->tree_levels && t->kind != PTQ_KTERM_VECTOR)
        return ptq_status_set(st, PTQ_SKIP, "no kernel for a tree of other than vectors");
    if (p->perm && p->rot.fmt != PTQ_FMT_NONE)
        return ptq_status_set(st, PTQ_SKIP, "no kernel for a rotation of permuted columns");
    int rc = take_inputs(q, p, a, &t->in, st);
    if (rc)
        return rc;
    switch (t->kind) {
    case PTQ_KTERM_WEIGHT: rc = ptq_kweight_build(kp, a, &t->weight, st); break;
    case PTQ_KTERM_LOWRANK: rc = build_lowrank(kp, a, t, st); break;
    case PTQ_KTERM_VECTOR: return ptq_kvector_build(kp, a, &t->vector, st);
    }
    t->in.group = t->weight.group;
    return rc;
}

int ptq_kform_build(const struct ptq_quant *q, unsigned cpu_flags, struct ptq_arena *a,
                    struct ptq_kform *f, struct ptq_status *st)
{
    *f = (struct ptq_kform){
        .rows = q->rows, .cols = q->cols, .n_terms = q->n_parts, .cpu_flags = cpu_flags};
    int rc = PTQ_OK;
    for (int k = 0; k < q->n_parts && !rc; k++) {
        struct ptq_kterm *t = &f->term[k];
        const struct ptq_kpart kp = {&q->part[k], q->rows, ptq_quant_kcols(q), cpu_flags};
        rc = build_term(q, &kp, a, t, st);
        f->bytes += input_bytes(&t->in) + t->weight.bytes + t->left.bytes + t->vector.bytes;
    }
    return rc;
}

/* ---- memory of a run ---- */

/* Floats of the table of a token's partial sums: stays in a level-2 cache beside the codes. */
enum { TABLE_FLOATS = 1 << 16, ROWS_A_PIECE = 32 };

static int64_t table_segments(const struct ptq_kvector *v)
{
    const int64_t n = TABLE_FLOATS / v->book_ld;
    return n < 1 ? 1 : n > v->segments ? v->segments : n;
}

struct run { /* of one term */
    const struct ptq_kform *form;
    const struct ptq_kterm *term;
    const struct ptq_kcall *call;
    const struct ptq_kernel *kernel, *left_kernel;
    struct ptq_kacts acts, mid_acts;
    bool integers;
    float *y, *mid; /* (n x rows): of the call, or a term's own; (n x rank) */
    float *table;   /* VECTOR */
    void *acts_at, *mid_at;
    /* VECTOR by panels: the token, and its part of the table */
    int64_t token;
    struct ptq_vq_range range;
};

/* A piece of the work of n x width x size bytes; at NULL: counts only. */
struct carve {
    char *at;
    int64_t bytes;
    bool ok;
};
static void *carve(struct carve *c, int64_t n, int64_t width, int64_t size)
{
    void *here = c->at ? c->at + c->bytes : NULL;
    int64_t b = 0;
    c->ok = c->ok && ptq_size_mul(n, width, &b) && ptq_size_mul(b, size, &b) &&
            ptq_size_add(b, 63, &b) && ptq_size_add(c->bytes, b / 64 * 64, &c->bytes);
    return here;
}

static struct ptq_kacts_job acts_job(const struct run *r)
{
    return (struct ptq_kacts_job){&r->term->in,  r->call->x,  r->call->n,
                                  r->form->cols, r->integers, r->form->cpu_flags};
}
static struct ptq_kacts_job mid_job(const struct run *r)
{
    return (struct ptq_kacts_job){&r->term->mid,        r->mid, r->call->n,
                                  r->term->weight.rows, false,  r->form->cpu_flags};
}

static void carve_vector(struct run *r, struct carve *c)
{
    const struct ptq_kvector *v = &r->term->vector;
    if (v->by_rows) /* a row and twice its inputs a piece */
        r->table =
            carve(c, (v->rows + ROWS_A_PIECE - 1) / ROWS_A_PIECE, 3 * v->cols, sizeof(float));
    else
        r->table = carve(c, table_segments(v), v->book_ld, sizeof(float));
}

static void carve_run(struct run *r, bool first, struct carve *c)
{
    const struct ptq_kacts_job job = acts_job(r);
    const int64_t n = r->call->n;
    int64_t bytes;
    c->ok = c->ok && ptq_kacts_bytes(&job, &bytes);
    r->acts_at = carve(c, 1, c->ok ? bytes : 0, 1);
    r->y = first ? r->call->y : carve(c, n, r->form->rows, sizeof(float));
    if (r->term->kind == PTQ_KTERM_VECTOR)
        carve_vector(r, c);
    if (r->term->kind != PTQ_KTERM_LOWRANK)
        return;
    r->mid = carve(c, n, r->term->weight.rows, sizeof(float));
    const struct ptq_kacts_job mid = mid_job(r);
    c->ok = c->ok && ptq_kacts_bytes(&mid, &bytes);
    r->mid_at = carve(c, 1, c->ok ? bytes : 0, 1);
}

static int grow(struct ptq_kwork *w, int64_t bytes, struct ptq_status *st)
{
    if (bytes <= w->bytes)
        return PTQ_OK;
    ptq_kwork_free(w);
    w->at = aligned_alloc(64, (size_t)bytes);
    w->bytes = w->at ? bytes : 0;
    return w->at ? PTQ_OK : ptq_status_nomem(st, "a product's inputs", (size_t)bytes);
}

void ptq_kwork_free(struct ptq_kwork *w)
{
    free(w->at);
    *w = (struct ptq_kwork){0};
}

static int take_work(struct run *r, bool first, struct ptq_kwork *w, struct ptq_status *st)
{
    struct carve count = {NULL, 0, true};
    carve_run(r, first, &count);
    if (!count.ok)
        return ptq_status_set(st, PTQ_ERR_MEMORY, "%lld tokens overflow a size",
                              (long long)r->call->n);
    int rc = grow(w, count.bytes, st);
    if (!rc)
        carve_run(r, first, &(struct carve){w->at, 0, true});
    return rc;
}

/* ---- products ---- */

/* Several pieces a thread, so that none waits long for the last. Rows are independent: the pieces
 * cannot show in the result. */
static int64_t grain(const struct run *r, int64_t n)
{
    const int64_t pieces = 4 * ptq_pool_threads(r->call->pool);
    return r->call->pool && n > pieces ? n / pieces : 1;
}

static void panels(void *arg, int64_t begin, int64_t end)
{
    const struct run *r = arg;
    r->kernel->run.matmul(&r->term->weight, &r->acts, begin, end, r->y, r->form->rows);
}

static void right_panels(void *arg, int64_t begin, int64_t end)
{
    const struct run *r = arg;
    r->kernel->run.matmul(&r->term->weight, &r->acts, begin, end, r->mid, r->term->weight.rows);
}

static void left_panels(void *arg, int64_t begin, int64_t end)
{
    const struct run *r = arg;
    r->left_kernel->run.matmul(&r->term->left, &r->mid_acts, begin, end, r->y, r->form->rows);
}

static void run_lowrank(struct run *r)
{
    const int64_t rank = r->term->weight.rows;
    const struct ptq_kacts_job mid = mid_job(r);
    ptq_pool_for(r->call->pool, r->term->weight.panels, 1, right_panels, r);
    for (int64_t i = 0; r->term->left_scale && i < r->call->n * rank; i++)
        r->mid[i] *= r->term->left_scale[i % rank];
    ptq_kacts_make(&mid, r->call->pool, r->mid_at, &r->mid_acts);
    ptq_pool_for(r->call->pool, r->term->left.panels, grain(r, r->term->left.panels), left_panels,
                 r);
}

static void table_part(void *arg, int64_t begin, int64_t end)
{
    const struct run *r = arg;
    const struct ptq_kvector *v = &r->term->vector;
    r->left_kernel->run.vq_table(v, r->acts.f32 + r->token * r->acts.ld, r->range.begin + begin,
                                 r->range.begin + end, r->table + begin * v->book_ld);
}

static void add_panels(void *arg, int64_t begin, int64_t end)
{
    const struct run *r = arg;
    struct ptq_vq_range range = r->range;
    range.panel_begin = begin;
    range.panel_end = end;
    r->kernel->run.vq_add(&r->term->vector, r->table, &range, r->y + r->token * r->form->rows);
}

static void run_tables(struct run *r)
{
    const struct ptq_kvector *v = &r->term->vector;
    const int64_t step = table_segments(v);
    memset(r->y, 0, (size_t)(r->call->n * v->rows) * sizeof *r->y);
    for (r->token = 0; r->token < r->call->n; r->token++)
        for (int64_t s = 0; s < v->segments; s += step) {
            r->range.begin = s;
            r->range.end = s + step < v->segments ? s + step : v->segments;
            const int64_t n = r->range.end - s;
            ptq_pool_for(r->call->pool, n, grain(r, n), table_part, r);
            ptq_pool_for(r->call->pool, v->panels, grain(r, v->panels), add_panels, r);
        }
}

static void vector_rows(void *arg, int64_t begin, int64_t end)
{
    const struct run *r = arg;
    const struct ptq_kvector *v = &r->term->vector;
    r->kernel->run.vq_rows(v, &r->acts, begin, end, r->table + begin / ROWS_A_PIECE * 3 * v->cols,
                           r->y, v->rows);
}

static void run_vector(struct run *r)
{
    const struct ptq_kvector *v = &r->term->vector;
    if (v->by_rows)
        ptq_pool_for(r->call->pool, v->rows, ROWS_A_PIECE, vector_rows, r);
    else
        run_tables(r);
}

static void add_rows(void *arg, int64_t begin, int64_t end)
{
    const struct run *r = arg;
    for (int64_t i = begin * r->form->rows; i < end * r->form->rows; i++)
        r->call->y[i] += r->y[i];
}

/* ---- a run ---- */

static void pick_kernels(struct run *r)
{
    const struct ptq_kterm *t = r->term;
    const unsigned flags = r->form->cpu_flags;
    const int64_t n = r->call->n;
    if (t->kind == PTQ_KTERM_VECTOR) {
        r->kernel =
            ptq_kernel_best(t->vector.by_rows ? PTQ_KOP_VQ_ROWS : PTQ_KOP_VQ_ADD, flags, NULL, n);
        r->left_kernel = ptq_kernel_best(PTQ_KOP_VQ_TABLE, flags, NULL, n);
        return;
    }
    r->integers = r->call->integers;
    r->kernel =
        ptq_kernel_best(r->integers ? PTQ_KOP_MATMUL_I8 : PTQ_KOP_MATMUL_F32, flags, &t->weight, n);
    if (t->kind == PTQ_KTERM_LOWRANK)
        r->left_kernel = ptq_kernel_best(PTQ_KOP_MATMUL_F32, flags, &t->left, n);
}

static int run_term(const struct ptq_kform *f, int k, const struct ptq_kcall *call,
                    struct ptq_kwork *w, struct ptq_status *st)
{
    struct run r = {.form = f, .term = &f->term[k], .call = call};
    pick_kernels(&r);
    if (!r.kernel)
        return ptq_status_set(st, PTQ_SKIP, "no integer kernel for books of floats");
    int rc = take_work(&r, k == 0, w, st);
    if (rc)
        return rc;
    const struct ptq_kacts_job job = acts_job(&r);
    ptq_kacts_make(&job, call->pool, r.acts_at, &r.acts);
    switch (r.term->kind) {
    case PTQ_KTERM_WEIGHT:
        ptq_pool_for(call->pool, r.term->weight.panels, grain(&r, r.term->weight.panels), panels,
                     &r);
        break;
    case PTQ_KTERM_LOWRANK: run_lowrank(&r); break;
    case PTQ_KTERM_VECTOR: run_vector(&r); break;
    }
    if (k > 0)
        ptq_pool_for(call->pool, call->n, 1, add_rows, &r);
    return PTQ_OK;
}

static bool has_integers(const struct ptq_kform *f)
{
    bool any = false;
    for (int k = 0; k < f->n_terms; k++)
        any = any || f->term[k].kind != PTQ_KTERM_VECTOR;
    return any;
}

int ptq_kform_run(const struct ptq_kform *f, const struct ptq_kcall *call, struct ptq_kwork *w,
                  struct ptq_status *st)
{
    if (call->integers && !has_integers(f))
        return ptq_status_set(st, PTQ_SKIP, "no integer kernel for codes of vectors");
    int rc = PTQ_OK;
    for (int k = 0; k < f->n_terms && !rc; k++)
        rc = run_term(f, k, call, w, st);
    return rc;
}
