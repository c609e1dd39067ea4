/* textfile.h: the texts that papers use (configs/texts.ini): what they are called, where their file
 * is, whether it is the right one. Internal to model/, and for `ptq list texts`. */
#ifndef PTQ_MODEL_TEXTFILE_H
#define PTQ_MODEL_TEXTFILE_H
#include "core/arena.h"
#include "core/sha256.h"

/* How a file holds rows, as the published loaders see them. */
enum ptq_row_rule {
    PTQ_ROWS_WHOLE,    /* one row: the file */
    PTQ_ROWS_WIKITEXT, /* a line with its newline; "" for a line of white space */
    PTQ_ROWS_STRIPPED, /* a line without white space around it */
    PTQ_ROWS_JSON      /* the "text" of a JSON object a line */
};
struct ptq_known_text {
    const char *name, *split; /* "wikitext2", "test" */
    const char *title, *family, *where;
    char **files; /* names looked for in order; an absolute one as it is */
    int64_t n_files;
    /* NULL: not known. lines: of the lines of text, white space around them removed, each with a
     * newline. */
    const char *sha256, *joined_sha256, *lines_sha256;
    const char *stands_for; /* NULL, or what protocols are called on it: "prose" */
    enum ptq_row_rule rows;
    const char *join;   /* between rows */
    int64_t first_rows; /* of a joined text: only these; 0: all */
    int64_t windows;    /* an evaluation takes at most so many; 0: all */
    int64_t crops; /* an evaluation takes so many random crops of rows, by seed 0; 0: windows */
    int64_t from_percent, to_percent; /* of the file's bytes, from a line's begin on */
    bool evaluation, calibration;     /* meant when no split is named */
};
int ptq_known_texts(struct ptq_arena *, const struct ptq_known_text **, int64_t *n,
                    struct ptq_status *);
/* The text of the list that "wikitext2:valid" names; for "wikitext2" the split that is meant, else
 * its last. NULL: none. */
const struct ptq_known_text *ptq_known_text_find(const struct ptq_known_text *list, int64_t n,
                                                 const char *source, bool calibration);
/* The text that is read where another one's file is nowhere, or NULL. */
const struct ptq_known_text *ptq_known_text_stand_in(const struct ptq_known_text *list, int64_t n,
                                                     bool calibration);
/* Where its file is; PTQ_SKIP (no status set): nowhere. */
int ptq_known_text_path(const struct ptq_known_text *, struct ptq_arena *, const char **path,
                        struct ptq_status *);

struct ptq_textfile {
    const struct ptq_known_text *known; /* NULL: a file of the user's */
    const char *path, *name;            /* name: "wikitext2:test", or the path */
    enum ptq_row_rule rows;
    const char *join;
    char *data;                    /* malloc'ed */
    const char *text;              /* the part of it that is read */
    int64_t bytes;                 /* of text */
    char sha256[PTQ_SHA256_CHARS]; /* of the whole file */
    bool verified, fallback;
    const char *note; /* as in struct ptq_text */
};
struct ptq_textfile_request {
    const char *source; /* "wikitext2", "wikitext2:valid", "text:PATH", PATH */
    bool calibration;   /* decides the split where none is named */
    bool fallback;
};
int ptq_textfile_open(const struct ptq_textfile_request *, struct ptq_arena *,
                      struct ptq_textfile *, struct ptq_status *);
void ptq_textfile_close(struct ptq_textfile *);

/* ---- rows and pages (textrows.c) ---- */
struct ptq_text_rows {
    const struct ptq_textfile *file;
    int64_t n;
    const int64_t *at; /* [n + 1] line i is text[at[i]] .. text[at[i + 1]] with its newline */
};
int ptq_text_rows_open(const struct ptq_textfile *, struct ptq_arena *, struct ptq_text_rows *,
                       struct ptq_status *);
/* Row i; the text lies in the file or in the arena. */
int ptq_text_rows_get(const struct ptq_text_rows *, int64_t i, struct ptq_arena *,
                      const char **text, int64_t *bytes, struct ptq_status *);
/* All rows (first_rows of them) joined; malloc'ed. */
int ptq_text_rows_joined(const struct ptq_textfile *, char **text, int64_t *bytes,
                         struct ptq_status *);

struct ptq_page {     /* of the task wikitext of lm-eval */
    const char *text; /* detokenized */
    int64_t bytes;
    int64_t n_words, n_bytes; /* of the page before */
};
/* At most n pages (0: all); *left: there are more. */
int ptq_pages(const struct ptq_textfile *, int64_t most, struct ptq_arena *, struct ptq_page **,
              int64_t *n, bool *left, struct ptq_status *);

/* What makes `text` the known one, as a sentence for a message; "": none found (textrepair.c). */
void ptq_text_repair(const struct ptq_known_text *, const char *text, int64_t bytes, char out[512]);
#endif
