/* tokenizer.model of sentencepiece: a protobuf message ModelProto. Of its fields those that decide
 * ids are read; what would change ids and is not implemented is refused by name. */
#include "core/words.h"
#include "model/tok.h"
#include "model/tok_json.h"
#include "model/tok_special.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FILE_BYTES = 64 << 20 };

/* ---- protobuf: a message is fields; a field is a number, a wire type and a value ---- */

enum wire { VARINT, FIXED64, LENGTH, FIXED32 = 5 };
struct message {
    const unsigned char *at, *end;
};
struct field {
    uint64_t number;
    enum wire wire;
    uint64_t value;       /* VARINT, FIXED32 */
    struct message bytes; /* LENGTH */
};

static bool take_varint(struct message *m, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        unsigned char b = *m->at++;
        *out |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80)
            return true;
    }
    return false;
}

static bool take_fixed(struct message *m, int bytes, uint64_t *out)
{
    *out = 0;
    if (m->end - m->at < bytes)
        return false;
    for (int i = 0; i < bytes; i++)
        *out |= (uint64_t)*m->at++ << 8 * i;
    return true;
}

/* false: damaged. The message is not at its end. */
static bool take_field(struct message *m, struct field *f)
{
    uint64_t tag;
    if (!take_varint(m, &tag) || tag >> 3 == 0)
        return false;
    f->number = tag >> 3;
    f->wire = (enum wire)(tag & 7);
    switch (f->wire) {
    case VARINT: return take_varint(m, &f->value);
    case FIXED64: return take_fixed(m, 8, &f->value);
    case FIXED32: return take_fixed(m, 4, &f->value);
    case LENGTH:
        if (!take_varint(m, &f->value) || f->value > (uint64_t)(m->end - m->at))
            return false;
        f->bytes = (struct message){m->at, m->at + f->value};
        m->at += f->value;
        return true;
    }
    return false; /* groups are no part of this format */
}

static bool is(const struct field *f, uint64_t number, enum wire wire)
{
    return f->number == number && f->wire == wire;
}

/* ---- the model's parts ---- */

enum { BPE = 2 };
struct piece {
    struct message text;
    float score;
    uint64_t type;
};
struct spec {
    const char *path;
    struct message special[5]; /* texts of unk, bos, eos, pad; the charsmap's name */
    uint64_t model_type, byte_fallback, space_suffix;
    uint64_t dummy_prefix, squeeze_spaces, escape_spaces, charsmap_bytes;
    int64_t n, bytes; /* pieces, and of their texts */
    struct ptq_status *st;
};
enum { UNK, BOS, EOS, PAD, CHARSMAP_NAME };

static int damaged(const struct spec *s)
{
    return ptq_status_set(s->st, PTQ_ERR_USAGE,
                          "%s: not a SentencePiece model: its fields are cut or of another format",
                          s->path);
}

static int read_trainer(struct spec *s, struct message m)
{
    struct field f;
    while (m.at < m.end) {
        if (!take_field(&m, &f))
            return damaged(s);
        if (is(&f, 3, VARINT))
            s->model_type = f.value;
        else if (is(&f, 24, VARINT))
            s->space_suffix = f.value;
        else if (is(&f, 35, VARINT))
            s->byte_fallback = f.value;
        else if (f.number >= 45 && f.number <= 48 && f.wire == LENGTH)
            s->special[f.number - 45] = f.bytes;
    }
    return PTQ_OK;
}

static int read_normalizer(struct spec *s, struct message m)
{
    struct field f;
    while (m.at < m.end) {
        if (!take_field(&m, &f))
            return damaged(s);
        if (is(&f, 1, LENGTH))
            s->special[CHARSMAP_NAME] = f.bytes;
        else if (is(&f, 2, LENGTH))
            s->charsmap_bytes = f.value;
        else if (is(&f, 3, VARINT))
            s->dummy_prefix = f.value;
        else if (is(&f, 4, VARINT))
            s->squeeze_spaces = f.value;
        else if (is(&f, 5, VARINT))
            s->escape_spaces = f.value;
    }
    return PTQ_OK;
}

static int read_piece(const struct spec *s, struct message m, struct piece *p)
{
    struct field f;
    *p = (struct piece){.text = {m.at, m.at}, .type = 1};
    while (m.at < m.end) {
        if (!take_field(&m, &f))
            return damaged(s);
        uint32_t low = (uint32_t)f.value;
        if (is(&f, 1, LENGTH))
            p->text = f.bytes;
        else if (is(&f, 2, FIXED32))
            memcpy(&p->score, &low, sizeof low);
        else if (is(&f, 3, VARINT))
            p->type = f.value;
    }
    return PTQ_OK;
}

static int read_spec(struct spec *s, struct message m)
{
    struct field f;
    int code = PTQ_OK;
    while (m.at < m.end && code == PTQ_OK) {
        struct piece p;
        if (!take_field(&m, &f))
            return damaged(s);
        if (is(&f, 1, LENGTH)) {
            code = read_piece(s, f.bytes, &p);
            s->n++;
            s->bytes += p.text.end - p.text.at;
        } else if (is(&f, 2, LENGTH)) {
            code = read_trainer(s, f.bytes);
        } else if (is(&f, 3, LENGTH)) {
            code = read_normalizer(s, f.bytes);
        }
    }
    return code;
}

static int refuse(const struct spec *s, const char *what)
{
    return ptq_status_set(s->st, PTQ_ERR_USAGE, "%s: %s not implemented", s->path, what);
}

static int check_spec(const struct spec *s)
{
    static const char *const types[] = {"?", "unigram", "bpe", "word", "char"};
    char text[PTQ_PRINTABLE] = "", shown[PTQ_PRINTABLE];
    if (s->n == 0)
        return damaged(s);
    if (s->model_type != BPE)
        return ptq_status_set(s->st, PTQ_ERR_USAGE,
                              "%s: a SentencePiece model of type %s; only bpe is implemented",
                              s->path, types[s->model_type < 5 ? s->model_type : 0]);
    if (s->charsmap_bytes) {
        struct message name = s->special[CHARSMAP_NAME];
        size_t n = (size_t)(name.end - name.at);
        if (n)
            memcpy(text, name.at, n < sizeof text ? n : sizeof text - 1);
        ptq_printable(text, shown);
        return ptq_status_set(s->st, PTQ_ERR_USAGE,
                              "%s: the normalizer '%s' is not implemented, only identity is",
                              s->path, shown);
    }
    if (s->space_suffix)
        return refuse(s, "treat_whitespace_as_suffix is");
    return s->escape_spaces ? PTQ_OK : refuse(s, "escape_whitespaces off is");
}

/* ---- the definition ---- */

struct tables {
    char *text;
    int64_t *at;
    float *score;
    uint8_t *type;
};

static int add_piece(const struct spec *s, struct tables *t, int64_t i, struct piece p)
{
    static const uint8_t types[] = {0,
                                    PTQ_TOKEN_NORMAL,
                                    PTQ_TOKEN_UNKNOWN,
                                    PTQ_TOKEN_CONTROL,
                                    PTQ_TOKEN_USER,
                                    PTQ_TOKEN_UNUSED,
                                    PTQ_TOKEN_BYTE};
    int64_t n = p.text.end - p.text.at;
    if (n == 0 || p.type < 1 || p.type > 6 || !isfinite(p.score))
        return ptq_status_set(s->st, PTQ_ERR_USAGE,
                              "%s: piece %lld is empty, of an unknown type or without a score",
                              s->path, (long long)i);
    if (types[p.type] == PTQ_TOKEN_UNUSED)
        return refuse(s, "a piece of type UNUSED is");
    memcpy(t->text + t->at[i], p.text.at, (size_t)n);
    t->at[i + 1] = t->at[i] + n;
    t->score[i] = p.score;
    t->type[i] = types[p.type];
    return PTQ_OK;
}

static int fill(const struct spec *s, struct message m, struct ptq_arena *a,
                struct ptq_tok_def *def)
{
    struct tables t = {ptq_arena_alloc(a, s->st, s->bytes + 1, 1),
                       ptq_arena_alloc(a, s->st, s->n + 1, sizeof *t.at),
                       ptq_arena_alloc(a, s->st, s->n, sizeof *t.score),
                       ptq_arena_alloc(a, s->st, s->n, sizeof *t.type)};
    struct field f;
    struct piece p;
    int code = t.text && t.at && t.score && t.type ? PTQ_OK : s->st->code;
    for (int64_t i = 0; m.at < m.end && code == PTQ_OK;) {
        if (!take_field(&m, &f))
            return damaged(s);
        if (!is(&f, 1, LENGTH))
            continue;
        code = read_piece(s, f.bytes, &p);
        if (code == PTQ_OK)
            code = add_piece(s, &t, i++, p);
    }
    def->n = s->n;
    def->text = t.text;
    def->at = t.at;
    def->score = t.score;
    def->type = t.type;
    return code;
}

/* The id of a special token by its text, -1 when it is none or of another type. */
static int32_t special_id(const struct ptq_tok_def *def, struct message text, uint8_t type)
{
    int64_t n = text.end - text.at;
    for (int64_t i = 0; i < def->n; i++)
        if (def->type[i] == type && def->at[i + 1] - def->at[i] == n &&
            memcmp(def->text + def->at[i], text.at, (size_t)n) == 0)
            return (int32_t)i;
    return -1;
}

static void set_specials(const struct spec *s, struct ptq_tok_def *def)
{
    for (int64_t i = 0; i < def->n && def->unk < 0; i++)
        if (def->type[i] == PTQ_TOKEN_UNKNOWN)
            def->unk = (int32_t)i;
    def->bos = special_id(def, s->special[BOS], PTQ_TOKEN_CONTROL);
    def->eos = special_id(def, s->special[EOS], PTQ_TOKEN_CONTROL);
    def->pad = special_id(def, s->special[PAD], PTQ_TOKEN_CONTROL);
}

/* sentencepiece itself puts nothing around a text; the models that use it begin with BOS unless
 * their configuration says otherwise, and only a file of the usual name belongs to the one beside
 * it. */
static int read_config(const struct spec *s, struct ptq_arena *a, struct ptq_tok_def *def)
{
    const char *name = strrchr(s->path, '/');
    struct ptq_tok_reading r = {.path = s->path,
                                .arena = a,
                                .def = def,
                                .added = (struct ptq_added_token *)(uintptr_t)def->added,
                                .st = s->st};
    json_t *config = NULL;
    int32_t unk = def->unk;
    int code = ptq_tok_index_new(&r.index, def, s->st);
    if (code == PTQ_OK && strcmp(name ? name + 1 : s->path, "tokenizer.model") == 0)
        code = ptq_json_beside(&r, "tokenizer_config.json", &config);
    if (code == PTQ_OK && config)
        code = ptq_tok_roles(&r, config, NULL);
    if (!json_is_boolean(json_object_get(config, "add_bos_token")) && def->bos >= 0)
        def->before[def->n_before++] = def->bos;
    def->unk = unk;
    json_decref(config);
    ptq_tok_index_free(r.index);
    return code;
}

static int make(struct spec *s, struct message m, struct ptq_arena *a, struct ptq_tok_def *def)
{
    int code = read_spec(s, m);
    if (code == PTQ_OK)
        code = check_spec(s);
    if (code == PTQ_OK)
        code = fill(s, m, a, def);
    if (code != PTQ_OK)
        return code;
    set_specials(s, def);
    def->byte_fallback = s->byte_fallback != 0;
    def->prefix = s->dummy_prefix ? PTQ_PREFIX_EACH : PTQ_PREFIX_NONE;
    def->dummy_prefix = s->dummy_prefix != 0;
    def->squeeze_spaces = s->squeeze_spaces != 0;
    if (def->unk < 0)
        return ptq_status_set(s->st, PTQ_ERR_USAGE, "%s: no piece is the unknown one", s->path);
    code = ptq_tok_add_specials(def, false, a, s->st);
    return code == PTQ_OK ? read_config(s, a, def) : code;
}

int ptq_tok_read_spm(const char *path, struct ptq_arena *a, struct ptq_tok_def *def,
                     struct ptq_status *st)
{
#define TEXT(literal)                                                                              \
    {                                                                                              \
        (const unsigned char *)literal, (const unsigned char *)literal + sizeof literal - 1        \
    }
    struct spec s = {.path = path,
                     .special = {TEXT("<unk>"), TEXT("<s>"), TEXT("</s>"), TEXT("<pad>"), TEXT("")},
                     .model_type = 1,
                     .dummy_prefix = 1,
                     .squeeze_spaces = 1,
                     .escape_spaces = 1,
                     .st = st};
#undef TEXT
    char *raw;
    size_t size;
    *def = (struct ptq_tok_def){.kind = PTQ_TOK_SPM,
                                .norm = PTQ_NORM_SPM_SPACES,
                                .fuse_unk = true,
                                .bos = -1,
                                .eos = -1,
                                .unk = -1,
                                .cls = -1,
                                .sep = -1,
                                .pad = -1};
    int code = ptq_read_file(path, MOST_FILE_BYTES, &raw, &size, st);
    if (code != PTQ_OK)
        return code;
    const struct message m = {(const unsigned char *)raw, (const unsigned char *)raw + size};
    def->source = ptq_arena_strdup(a, st, path);
    code = def->source ? make(&s, m, a, def) : st->code;
    free(raw);
    return code;
}
