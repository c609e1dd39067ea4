/* config.h: the attributes of /model in a container (SCHEMA.md): one table says what is read and
 * written. */
#ifndef PTQ_MODEL_CONFIG_H
#define PTQ_MODEL_CONFIG_H
#include "datasets/h5.h"
#include "model/model.h"

/* Defaults of every optional field. */
void ptq_config_init(struct ptq_model_info *);
int ptq_config_read_canonical(const struct ptq_meta *, struct ptq_model_info *,
                              struct ptq_status *);
/* Writes what differs from the defaults, and every required one. */
int ptq_config_write(struct ptq_h5 *, const struct ptq_model_info *, struct ptq_status *);
/* That the weights were on a quantization grid before: quantized_as, grid_bits, grid_group. They
 * are attributes of /model, and in a config.json that `ptq export` wrote the object PTQ_MARKS,
 * which other programs do not look at. */
#define PTQ_MARKS "ptqbench"
int ptq_config_read_marks(const struct ptq_meta *, struct ptq_model_info *, struct ptq_status *);
/* Into the object; info->quantized_as is there. */
int ptq_config_marks(const struct ptq_model_info *, json_t *to, struct ptq_status *);
/* Bounds that hold for any architecture, after either way of reading. */
int ptq_config_check(const struct ptq_model_info *, struct ptq_status *);
extern const char *const ptq_activation_words[]; /* "silu" "gelu" "gelu_tanh" "relu" */
#endif
