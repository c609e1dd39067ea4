/* inspect_identity.c: the rule that needs a layer: under an identity Hessian no column tells
 * another anything, so methods of feedback must give what rtn gives. Run anew on a corner of the
 * smallest such layer of the run, with the cells and options of its rows. */
#include "analysis/inspection.h"
#include "datasets/synth_layer.h"
#include "model/model.h"
#include "quant/run.h"
#include "sweep/layerfile.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A corner of so many rows and columns costs milliseconds; blocks of models beyond MOST_WEIGHTS are
 * not read for it. */
enum { MOST_ROWS = 32, MOST_COLS = 512, MOST_WEIGHTS = 1 << 26 };

struct trial {
    struct ptq_inspection *in;
    struct ptq_layer layer; /* the corner, with an identity Hessian */
    const char *done;       /* settings so far, separated by newlines */
};

/* ---- the layer ---------------------------------------------------------------------------------
 */

static bool promises(struct ptq_inspection *in, const json_t *row)
{
    const struct ptq_spec *s = ptq_row_spec(in, row);
    return s && s->entry->single->rtn_under_identity &&
           s->entry->single->rtn_under_identity(s->opts);
}

static int64_t whole(const json_t *row, const char *field)
{
    return json_integer_value(json_object_get(row, field));
}

static double weights_of(const json_t *row)
{
    return ptq_row_num(row, "rows") * ptq_row_num(row, "cols");
}

static const json_t *smallest(struct ptq_inspection *in)
{
    const json_t *best = NULL;
    for (int64_t i = 0; i < in->n_layers; i++)
        if ((!best || weights_of(in->layers[i]) < weights_of(best)) && promises(in, in->layers[i]))
            best = in->layers[i];
    return best;
}

/* Rows do not say that a model is the variant with outliers, keys do. */
static int open_model(const json_t *row, struct ptq_model **model, struct ptq_status *st)
{
    const char *source = ptq_row_text(row, "source"), *key = ptq_row_text(row, "model_key");
    for (int variant = 0; variant < 2; variant++) {
        const struct ptq_model_options options = {.outliers = variant};
        int code = ptq_model_open(model, source, &options, st);
        if (code && variant)
            break;
        if (code || !*key || !strcmp(ptq_model_info(*model)->key, key))
            return code;
        ptq_model_close(*model);
    }
    ptq_status_clear(st);
    return ptq_status_set(st, PTQ_ERR_USAGE, "it is not the model that the rows are of");
}

static int weights_of_model(const json_t *row, struct ptq_arena *arena, struct ptq_cmat *w,
                            struct ptq_status *st)
{
    struct ptq_model *model;
    struct ptq_block block;
    const int64_t index = whole(row, "block");
    int code = open_model(row, &model, st);
    if (code)
        return code;
    if (index < 0 || index >= ptq_model_info(model)->n_blocks)
        code = ptq_status_set(st, PTQ_ERR_USAGE, "the model has no block %lld", (long long)index);
    if (!code)
        code = ptq_model_load_block(model, (int)index, arena, &block, st);
    for (int i = 0; !code && i < block.n_linears; i++)
        if (!strcmp(block.lin[i].name, ptq_row_text(row, "layer")))
            *w = (struct ptq_cmat){block.lin[i].w, block.lin[i].d_out, block.lin[i].d_in,
                                   block.lin[i].d_in};
    ptq_model_close(model);
    return code;
}

static int weights_of_file(const json_t *row, struct ptq_h5 *h5, struct ptq_arena *arena,
                           struct ptq_cmat *w, struct ptq_status *st)
{
    const struct ptq_layerfile_args args = {.name = ptq_row_text(row, "layer")};
    const char *key = ptq_row_text(row, "weights_key");
    char weights[PTQ_KEY_CHARS], given[PTQ_KEY_CHARS];
    struct ptq_layer layer;
    int code = ptq_layerfile_read(h5, &args, arena, &layer, st);
    if (code)
        return code;
    ptq_layerfile_keys(&layer, weights, given);
    if (*key && strcmp(key, weights) != 0)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s has other weights than the rows are of",
                              args.name);
    *w = layer.w;
    return PTQ_OK;
}

int ptq_row_weights(const json_t *row, struct ptq_arena *arena, struct ptq_cmat *w,
                    struct ptq_status *st)
{
    const char *source = ptq_row_text(row, "source");
    const bool synth = ptq_synth_layer_is(source);
    struct ptq_h5 *h5 = NULL;
    struct ptq_status no_container = {0};
    if (synth) {
        int code = ptq_synth_layer_open(&h5, source, st);
        if (code)
            return code;
    } else if (strcmp(source, "demo") != 0) {
        ptq_h5_open(&h5, source, PTQ_H5_READ, &no_container);
    }
    const bool layers = h5 && (synth || ptq_layerfile_is(h5));
    int code = layers ? weights_of_file(row, h5, arena, w, st) : PTQ_OK;
    if (h5)
        ptq_h5_close(h5, &no_container);
    return layers ? code : weights_of_model(row, arena, w, st);
}

static int make_corner(struct trial *t, const json_t *row, struct ptq_cmat w)
{
    w.rows = w.rows < MOST_ROWS ? w.rows : MOST_ROWS;
    w.cols = w.cols < MOST_COLS ? w.cols : MOST_COLS;
    double *identity = ptq_arena_alloc(t->in->arena, t->in->st, w.cols * w.cols, sizeof *identity);
    for (int64_t i = 0; identity && i < w.cols; i++)
        identity[i * w.cols + i] = 2; /* of white inputs: the mean of 2 x x^T */
    t->layer = (struct ptq_layer){.name = ptq_row_text(row, "layer"),
                                  .block = -1,
                                  .role = PTQ_ROLE_OTHER,
                                  .w = w,
                                  .hess = {identity, w.cols, w.cols, w.cols},
                                  .hess_norm = PTQ_NORM_TOKEN,
                                  .n_tokens = 1,
                                  .n_sequences = 1};
    return identity ? PTQ_OK : PTQ_ERR_MEMORY;
}

/* ---- cells -------------------------------------------------------------------------------------
 */

static int word_index(const json_t *row, const char *field, const char *const *words)
{
    int i = 0;
    while (words[i] && strcmp(words[i], ptq_row_text(row, field)) != 0)
        i++;
    return words[i] ? i : 0;
}

static struct ptq_cell cell_of(const json_t *row, int64_t cols)
{
    const int64_t group = whole(row, "group_size"), bits = whole(row, "bits");
    return (struct ptq_cell){
        .w_bits = bits < 0 || bits > 64 ? 0 : (int)bits, /* the session refuses 0 */
        .group_size = group > cols ? PTQ_GROUP_ROW : group,
        .sym = ptq_row_num(row, "sym") != 0,
        .sym_kind = (enum ptq_sym_kind)word_index(row, "sym_kind", ptq_sym_kind_words),
        .grid = (enum ptq_grid)word_index(row, "grid", ptq_grid_words),
        .zero_in_range = ptq_row_num(row, "zero_in_range") != 0,
        .scale_fmt = (enum ptq_fmt)(PTQ_FMT_F16 + word_index(row, "scale", ptq_scale_words))};
}

static int quantize(const struct ptq_session_args *args, const struct ptq_spec *spec,
                    const struct ptq_cell *cell, struct ptq_result *r, struct ptq_status *st)
{
    struct ptq_session *session;
    int code = ptq_session_new(&session, args, st);
    if (!code)
        code = ptq_session_quantize(session, spec, cell, r, st);
    ptq_session_free(session);
    return code;
}

static void compare(struct ptq_inspection *in, const struct ptq_cmat *w, const json_t *row,
                    const struct ptq_result *a, const struct ptq_result *b)
{
    in->now->n_checked++;
    for (int64_t i = 0; i < w->rows * w->cols; i++)
        if (a->what[i] != b->what[i]) {
            ptq_broken(in,
                       "%s with H = 2 I: row %" PRId64 ", column %" PRId64 " is %.9g, rtn has %.9g",
                       ptq_row_place(in, row), i / w->cols, i % w->cols, (double)a->what[i],
                       (double)b->what[i]);
            return;
        }
}

int ptq_try_identity(struct ptq_inspection *in, const struct ptq_layer *l, const json_t *row)
{
    const struct ptq_cell cell = cell_of(row, l->w.cols);
    const struct ptq_spec *spec = ptq_row_spec(in, row);
    const struct ptq_session_args args = {
        .layer = l,
        .precision = strcmp(ptq_row_text(row, "precision"), "double") != 0 ? PTQ_SINGLE
                                                                           : PTQ_DOUBLE_PRECISION};
    struct ptq_result mine, rtn;
    struct ptq_status why = {0};
    struct ptq_spec plain;
    int code = spec ? ptq_spec_parse("rtn", in->arena, &plain, &why)
                    : ptq_status_set(&why, PTQ_ERR_USAGE, "a method of another build");
    if (!code)
        code = quantize(&args, spec, &cell, &mine, &why);
    if (!code) {
        code = quantize(&args, &plain, &cell, &rtn, &why);
        if (!code) {
            compare(in, &l->w, row, &mine, &rtn);
            ptq_result_release(&rtn);
        }
        ptq_result_release(&mine);
    }
    if (code == PTQ_ERR_MEMORY || code == PTQ_ERR_IO)
        return ptq_status_set(in->st, (enum ptq_code)code, "%s", why.text);
    if (code)
        ptq_not_checked(in, "%s: %s", ptq_row_place(in, row), why.text);
    return PTQ_OK;
}

/* Layers of one setting are one trial. */
static bool is_new(struct trial *t, const json_t *row)
{
    char cell[96];
    const struct ptq_cell c = cell_of(row, t->layer.w.cols);
    const char *one =
        ptq_arena_printf(t->in->arena, t->in->st, "\n%s:%s %s\n", ptq_row_text(row, "base"),
                         ptq_row_text(row, "options"), ptq_cell_text(&c, cell));
    if (!one || strstr(t->done, one))
        return false;
    t->done = ptq_arena_printf(t->in->arena, t->in->st, "%s%s", t->done, one);
    return t->done != NULL;
}

int ptq_check_identity(struct ptq_inspection *in)
{
    struct trial t = {.in = in, .done = ""};
    const json_t *row = smallest(in);
    struct ptq_cmat w = {0};
    struct ptq_status why = {0};
    in->now->unit = "settings";
    if (!row) {
        ptq_not_checked(in, "no method of the run promises it");
        return PTQ_OK;
    }
    if (!(weights_of(row) <= MOST_WEIGHTS)) {
        ptq_not_checked(in, "the smallest layer has more than %d weights", MOST_WEIGHTS);
        return PTQ_OK;
    }
    if (ptq_row_weights(row, in->arena, &w, &why) || !w.at) {
        ptq_not_checked(in, "%s cannot be read again: %s", ptq_row_text(row, "source"),
                        *why.text ? why.text : "the layer is not there");
        return PTQ_OK;
    }
    int code = make_corner(&t, row, w);
    for (int64_t i = 0; !code && i < in->n_layers; i++)
        if (is_new(&t, in->layers[i]) && promises(in, in->layers[i]))
            code = ptq_try_identity(in, &t.layer, in->layers[i]);
    return code;
}
