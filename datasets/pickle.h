/* pickle.h: the pickles inside torch.save's files, read and never executed. A small stack machine
 * builds a tree of plain values. It knows the opcodes of saved state dicts and three calls, each of
 * which only makes a value: torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter,
 * collections.OrderedDict, and the names of torch's storage classes. Any other name or opcode is
 * refused with its name. Memory is a bounded multiple of the pickle's bytes, taken from the arena
 * (give it a limit); there is no recursion. Values may be shared and may contain themselves: a
 * walker bounds its depth and its steps. */
#ifndef PTQ_DATASETS_PICKLE_H
#define PTQ_DATASETS_PICKLE_H
#include "core/arena.h"

enum ptq_pickle_kind {
    PTQ_PICKLE_NONE,
    PTQ_PICKLE_BOOL,
    PTQ_PICKLE_INT,
    PTQ_PICKLE_FLOAT,
    PTQ_PICKLE_TEXT,    /* valid UTF-8 without NUL */
    PTQ_PICKLE_TUPLE,   /* items */
    PTQ_PICKLE_LIST,    /* items */
    PTQ_PICKLE_DICT,    /* items with keys, in the order of the file; keys may repeat */
    PTQ_PICKLE_NAME,    /* text: "collections.OrderedDict", one of the known ones */
    PTQ_PICKLE_STORAGE, /* items: "storage", NAME of a storage class, TEXT key, TEXT device, INT
                           elements */
    PTQ_PICKLE_TENSOR,  /* items: STORAGE, INT offset, TUPLE size, TUPLE stride, ...; what
                           the tuples hold and the numbers' signs are not checked */
    PTQ_PICKLE_MARK     /* the machine's own; never in the tree */
};
struct ptq_pickle;
struct ptq_pickle_item {
    const struct ptq_pickle *key; /* DICT, else NULL */
    const struct ptq_pickle *value;
    struct ptq_pickle_item *next;
};
struct ptq_pickle {
    enum ptq_pickle_kind kind;
    int64_t i; /* BOOL INT; the number of items */
    double f;
    const char *text;
    struct ptq_pickle_item *first, *last;
};

/* path is for messages. */
int ptq_pickle_parse(const char *path, const unsigned char *at, int64_t bytes, struct ptq_arena *,
                     const struct ptq_pickle **root, struct ptq_status *);
/* Item number i of a container, or NULL. */
const struct ptq_pickle *ptq_pickle_item(const struct ptq_pickle *, int64_t i);
#endif
