/* facts.h: the generated language of invented facts that the demo model was trained on (its
 * specification: datasets/README.md). Everything is a pure function of the seed; the text is
 * reproduced byte for byte and its entropy is exact. */
#ifndef PTQ_DATASETS_FACTS_H
#define PTQ_DATASETS_FACTS_H
#include "core/arena.h"

enum {
    PTQ_FACTS_WINDOW_BYTES = 256,
    PTQ_FACTS_PEOPLE = 1000,
    PTQ_FACTS_COPY = 6 /* attribute number of a copied digit */
};

struct ptq_facts_span {
    int attr;
    int begin, end;
}; /* value bytes [begin, end) of a window; attr 0..5, or PTQ_FACTS_COPY */
struct ptq_facts_window {
    uint8_t text[PTQ_FACTS_WINDOW_BYTES];
    double bits; /* exact -log2 P(bytes 1..255) */
    int n_spans;
    struct ptq_facts_span span[64]; /* values that lie wholly inside the window */
};
/* n windows of the stream `seed` (one world: seed 2025, 1000 people), in the arena. */
int ptq_facts_windows(uint64_t seed, int64_t n, struct ptq_arena *, struct ptq_facts_window **,
                      struct ptq_status *);
#endif
