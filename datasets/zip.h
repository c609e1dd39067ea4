/* zip.h: the directory of a zip file whose entries are stored as they are (what torch.save
 * writes), so that a part of an entry can be read from the file by its offset. Zip64 is known;
 * compressed, encrypted, split, overlapping or repeated entries are refused. Checksums are not
 * checked: values are read by ranges. */
#ifndef PTQ_DATASETS_ZIP_H
#define PTQ_DATASETS_ZIP_H
#include "datasets/tensors.h"

struct ptq_zip_entry {
    const char *name;
    int64_t at, bytes; /* of its contents, checked against the file */
};
struct ptq_zip {
    struct ptq_zip_entry *entry; /* [n] by name */
    int64_t n;
};

int ptq_zip_open(struct ptq_zip *, const struct ptq_bytes *, struct ptq_arena *,
                 struct ptq_status *);
const struct ptq_zip_entry *ptq_zip_find(const struct ptq_zip *, const char *name); /* or NULL */
#endif
