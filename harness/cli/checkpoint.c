#include "cli/checkpoint.h"
#include "core/words.h"
#include "datasets/tensors.h"
#include "model/tokenizer.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct ptq_checkpoint {
    struct ptq_tensors *tensors;
};

int ptq_checkpoint_open(struct ptq_checkpoint **out, const char *source, struct ptq_status *st)
{
    struct ptq_checkpoint *c = *out = calloc(1, sizeof *c);
    int rc = c ? ptq_tensors_open(&c->tensors, source, st)
               : ptq_status_nomem(st, "a checkpoint", sizeof *c);
    if (rc) {
        free(c);
        *out = NULL;
    }
    return rc;
}

void ptq_checkpoint_close(struct ptq_checkpoint *c)
{
    if (c)
        ptq_tensors_close(c->tensors);
    free(c);
}

int64_t ptq_checkpoint_n_tensors(const struct ptq_checkpoint *c)
{
    return c->tensors->n;
}

void ptq_checkpoint_row(const struct ptq_checkpoint *c, int64_t i, struct ptq_checkpoint_row *row)
{
    const struct ptq_tensor *x = &c->tensors->tensor[i];
    row->name = x->name;
    row->type = x->type;
    snprintf(row->shape, sizeof row->shape, "scalar");
    for (int r = 0, n = 0; r < x->rank; r++)
        n += snprintf(row->shape + n, sizeof row->shape - (size_t)n, "%s%lld", r ? " x " : "",
                      (long long)x->dim[r]);
    snprintf(row->n, sizeof row->n, "%lld", (long long)x->n);
}

enum { MOST_TYPES = 16, MOST_SETTING = 48 };

/* Settings of the metadata that are one short value; lists (GGUF's vocabulary) stay away. */
static void print_settings(const json_t *meta, FILE *f)
{
    const char *key;
    const json_t *v;
    bool any = false;
    json_object_foreach((json_t *)meta, key, v)
    {
        char *text = json_is_array(v) || json_is_object(v) || json_is_null(v)
                         ? NULL
                         : json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(7));
        char shown[PTQ_PRINTABLE], name[PTQ_PRINTABLE];
        ptq_printable(text ? text : "", shown);
        ptq_printable(key, name);
        if (text && strlen(text) <= MOST_SETTING)
            fprintf(f, "%s%s %s", any ? "  " : "settings: ", name, shown);
        any = any || (text && strlen(text) <= MOST_SETTING);
        free(text);
    }
    if (any)
        fputc('\n', f);
}

struct types { /* stored types, the one of most values first when printed */
    struct {
        const char *type;
        int64_t n_tensors, n;
        double bits;
        int grid_bits, grid_group;
    } at[MOST_TYPES];
    int n;
};

static void count_types(const struct ptq_tensors *t, struct types *y)
{
    for (int64_t i = 0; i < t->n; i++) {
        const struct ptq_tensor *x = &t->tensor[i];
        int k = 0;
        while (k < y->n && strcmp(y->at[k].type, x->type) != 0)
            k++;
        if (k == MOST_TYPES)
            continue;
        y->at[k].type = x->type;
        y->at[k].grid_bits = x->grid_bits;
        y->at[k].grid_group = x->grid_group;
        y->at[k].n_tensors++;
        y->at[k].n += x->n;
        y->at[k].bits += (double)x->n * x->stored_bits;
        y->n = k == y->n ? k + 1 : y->n;
    }
}

static void print_types(const struct types *y, FILE *f)
{
    bool done[MOST_TYPES] = {false};
    fputs("types:", f);
    for (int i = 0; i < y->n; i++) {
        int best = -1;
        for (int k = 0; k < y->n; k++)
            if (!done[k] && (best < 0 || y->at[k].n > y->at[best].n))
                best = k;
        done[best] = true;
        fprintf(f, "%s %s: %lld values in %lld tensors, %.4g bits each", i ? ";" : "",
                y->at[best].type, (long long)y->at[best].n, (long long)y->at[best].n_tensors,
                y->at[best].n ? y->at[best].bits / (double)y->at[best].n : 0);
        if (y->at[best].grid_bits)
            fprintf(f, " (already quantized: %d bits, groups of %d)", y->at[best].grid_bits,
                    y->at[best].grid_group);
    }
    fputc('\n', f);
}

/* A weight file alone and llama2.c's checkpoints have it elsewhere. */
static bool may_hold_tokenizer(const struct ptq_tensors *t)
{
    struct stat info;
    return t->dialect == PTQ_GGUF || json_object_get(t->meta, "tokenizer") ||
           (stat(t->path, &info) == 0 && S_ISDIR(info.st_mode));
}

static void print_tokenizer(const struct ptq_tensors *t, FILE *f)
{
    struct ptq_status why = {0};
    struct ptq_tokenizer *k = NULL;
    int code = may_hold_tokenizer(t) ? ptq_tokenizer_open(&k, t->path, &why) : PTQ_SKIP;
    if (code == PTQ_OK) {
        const struct ptq_tokenizer_info *i = ptq_tokenizer_info(k);
        fprintf(f, "tokenizer: %s, %lld ids", i->kind, (long long)i->vocab_size);
        if (i->bos >= 0)
            fprintf(f, ", bos %d", (int)i->bos);
        if (i->eos >= 0)
            fprintf(f, ", eos %d", (int)i->eos);
        fputc('\n', f);
    } else {
        fprintf(f, "tokenizer: none%s%s\n",
                code == PTQ_SKIP ? "" : " that can be used: ", code == PTQ_SKIP ? "" : why.text);
    }
    ptq_tokenizer_close(k);
}

static const char *architecture(const struct ptq_tensors *t)
{
    static const char *const keys[] = {[PTQ_CANONICAL] = "architecture",
                                       [PTQ_HUGGINGFACE] = "model_type",
                                       [PTQ_GGUF] = "general.architecture"};
    const char *word = json_string_value(json_object_get(t->meta, keys[t->dialect]));
    return word ? word : "not named";
}

void ptq_checkpoint_print(const struct ptq_checkpoint *c, FILE *f)
{
    const struct ptq_tensors *t = c->tensors;
    struct types types = {.n = 0};
    char arch[PTQ_PRINTABLE];
    int64_t n = 0;
    for (int64_t i = 0; i < t->n; i++)
        n += t->tensor[i].n;
    ptq_printable(architecture(t), arch);
    count_types(t, &types);
    fprintf(f, "model: %s, architecture %s, %lld tensors of %lld values\n", t->format->title, arch,
            (long long)t->n, (long long)n);
    print_settings(t->meta, f);
    print_types(&types, f);
    print_tokenizer(t, f);
}
