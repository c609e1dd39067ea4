/* internal.h: what the files of model/ share about an open model. Not for other folders. */
#ifndef PTQ_MODEL_INTERNAL_H
#define PTQ_MODEL_INTERNAL_H
#include "datasets/tensors.h"
#include "model/model.h"
#include "model/ops.h"

struct ptq_model {
    struct ptq_arena arena; /* info's texts and the rotation table */
    struct ptq_model_info info;
    struct ptq_model_options options;
    const struct ptq_arch *arch;
    struct ptq_tensors *files;
    const struct ptq_dialect *dialect; /* NULL: canonical names */
    const char *prefix;                /* of the dialect's names, as this file has it */
    struct ptq_outer outer[PTQ_MAX_OUTER];
    /* Rotations of the first rope_rows positions: (rope_rows x head_dim / 2); NULL without rotary
     * positions. Later positions are computed when met, by the same function, so the table's
     * length decides speed alone. */
    const float *rope_cos, *rope_sin;
    int64_t rope_rows;
    double *rope_frequency; /* [head_dim / 2] radians a position */
};

/* What is put before a tensor's name in messages: "/model/" of a container. */
const char *ptq_tensor_place(const struct ptq_model *);

/* Frequencies and the table, from info.rope and the tensor rope_freqs where there is one. */
int ptq_rope_init(struct ptq_model *, struct ptq_status *);
/* A row of the table, or of buf (head_dim floats) when the position lies behind it. */
void ptq_rope_at(const struct ptq_model *, int64_t position, float *buf, const float **cos_out,
                 const float **sin_out);

/* hess_key of statistics read or made. */
struct ptq_input_stats;
uint64_t ptq_stats_key(const struct ptq_input_stats *);
/* Sequences that are worked on at once: several a thread only where inputs are narrow. */
int64_t ptq_stats_slots(int64_t widest, int64_t n_seq, int threads);
/* hess = hess_rest + hess_sink. */
void ptq_stats_total(struct ptq_input_stats *);
/* Sum of squares and sum of n floats in fp64: 16 interleaved lanes, then the lanes in order. */
double ptq_lanes_sumsq(const float *, int64_t n);
double ptq_lanes_sum(const float *, int64_t n);

/* Table of the architectures, NULL-terminated. */
const struct ptq_arch *const *ptq_archs(void);
#endif
