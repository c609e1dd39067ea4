/* pytext.h: UTF-8 as Python's str sees it, for rules that are defined by Python code. Bytes that
 * are no UTF-8 count as characters by themselves. */
#ifndef PTQ_MODEL_PYTEXT_H
#define PTQ_MODEL_PYTEXT_H
#include <stdbool.h>
#include <stdint.h>

/* Bytes of the white space character (str.isspace, also re's \s) that text begins with; 0: none. */
int ptq_space_at(const char *text, int64_t bytes);
/* str.strip() as offsets: text[*from] .. text[*to]. */
void ptq_strip(const char *text, int64_t bytes, int64_t *from, int64_t *to);
/* len(re.split(r"\s+", text)) */
int64_t ptq_count_words(const char *text, int64_t bytes);
#endif
