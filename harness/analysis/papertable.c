/* papertable.c: cells of a table: which are asked for, what their trust means, whether a number
 * agrees with the printed one. */
#include "analysis/papertable.h"
#include "core/words.h"
#include <string.h>

const char *const ptq_paper_trust_words[] = {"code", "text", "repro", "num",
                                             "2nd",  "mem",  "inf",   NULL};
static const struct {
    const char *meaning;
    bool is_gate;
} trusts[] = {{"in the authors' code or its README", true},
              {"in the paper itself", true},
              {"measured by an independent public reproduction", true},
              {"measured with another program, which the table's csv names (source)", true},
              {"a third party's summary of the paper", false},
              {"from memory", false},
              {"inferred", false}};

static int trust_of(const char *word)
{
    int k = 0;
    while (strcmp(ptq_paper_trust_words[k], word) != 0) /* the reader takes no other */
        k++;
    return k;
}

const char *ptq_paper_trust_meaning(const char *trust)
{
    return trusts[trust_of(trust)].meaning;
}

bool ptq_paper_is_gate(const struct ptq_paper_cell *c)
{
    return trusts[trust_of(c->trust)].is_gate;
}

bool ptq_paper_agrees(const struct ptq_paper_cell *c, double ours)
{
    return ours >= c->lo * (1 - c->tolerance) - c->half_digit &&
           ours <= c->hi * (1 + c->tolerance) + c->half_digit;
}

double ptq_paper_difference(const struct ptq_paper_cell *c, double ours)
{
    return ours < c->lo ? ours / c->lo - 1 : ours > c->hi ? ours / c->hi - 1 : 0 * ours;
}

struct ptq_paper_cell *ptq_paper_cell_at(const struct ptq_paper_table *t, int64_t row, int64_t data,
                                         int64_t column)
{
    for (int64_t i = 0; i < t->n_cells; i++)
        if (t->cells[i].row == row && t->cells[i].data == data && t->cells[i].column == column)
            return &t->cells[i];
    return NULL;
}

/* ---- which are asked for -----------------------------------------------------------------------
 */

enum { ROWS, COLUMNS, DATA, N_SIDES };
struct side {
    const char **ids; /* ends with NULL */
    char **asked;     /* patterns; n_asked == 0: all */
    int64_t n_asked;
};

static const char *id_of(const struct ptq_paper_table *t, int side, int64_t i)
{
    return side == ROWS ? t->rows[i].id : side == COLUMNS ? t->columns[i].id : t->data[i].id;
}

/* Every pattern must meet something: a typing error beside a right word is one, too. */
static int read_side(const struct ptq_paper_table *t, int k, const char *patterns, struct side *s,
                     struct ptq_arena *arena, struct ptq_status *st)
{
    static const char *const whats[] = {"row", "column", "data"}, *const flags[] = {"--rows",
                                                                                    "--columns",
                                                                                    "--data"};
    const int64_t n = k == ROWS ? t->n_rows : k == COLUMNS ? t->n_columns : t->n_data;
    *s = (struct side){.ids = ptq_arena_alloc(arena, st, n + 1, sizeof *s->ids)};
    if (!s->ids)
        return PTQ_ERR_MEMORY;
    for (int64_t i = 0; i < n; i++)
        s->ids[i] = id_of(t, k, i);
    int code =
        ptq_split(patterns ? patterns : "", ',', flags[k], arena, &s->asked, &s->n_asked, st);
    for (int64_t a = 0; a < s->n_asked && code >= 0; a++) {
        int64_t i = 0;
        while (i < n && !ptq_glob(s->asked[a], s->ids[i]))
            i++;
        if (i == n)
            code = ptq_unknown_word_at(flags[k], whats[k], s->asked[a], s->ids, st);
    }
    return code;
}

static bool is_asked(const struct side *s, int64_t i)
{
    bool found = !s->n_asked;
    for (int64_t a = 0; a < s->n_asked && !found; a++)
        found = ptq_glob(s->asked[a], s->ids[i]);
    return found;
}

int ptq_paper_select(struct ptq_paper_table *t, const char *rows, const char *columns,
                     const char *data, struct ptq_arena *arena, struct ptq_status *st)
{
    const char *const patterns[] = {rows, columns, data};
    struct side s[N_SIDES];
    int64_t n = 0;
    for (int k = 0; k < N_SIDES; k++) {
        int code = read_side(t, k, patterns[k], &s[k], arena, st);
        if (code < 0)
            return code;
    }
    for (int64_t i = 0; i < t->n_cells; i++) {
        struct ptq_paper_cell *c = &t->cells[i];
        c->selected = is_asked(&s[ROWS], c->row) && is_asked(&s[COLUMNS], c->column) &&
                      is_asked(&s[DATA], c->data);
        n += c->selected;
    }
    return n ? PTQ_OK
             : ptq_status_set(st, PTQ_ERR_USAGE,
                              "table %s has no number in rows '%.40s', columns '%.40s', data "
                              "'%.40s' together; ask for less",
                              t->name, rows ? rows : "*", columns ? columns : "*",
                              data ? data : "*");
}
