/* Bits of a form's books here and for a matrix of another size, in closed form. */
#include "testlib.h"
#include "quant/form.h"

/* A matrix of 6 x 16 with one codebook part: 8 entries of dim values as integers of 10 bits. */
static struct ptq_quant form(int64_t dim, int64_t book_rows, int64_t book_cols, bool many_steps)
{
    static const float value = 1;
    const int64_t books = (6 + book_rows - 1) / book_rows * ((16 + book_cols - 1) / book_cols);
    struct ptq_quant q = {.rows = 6, .cols = 16, .n_parts = 1};
    struct ptq_arr pair = {.fmt = PTQ_FMT_F32, .n = many_steps ? books : 1, .at = &value};
    q.part[0] = (struct ptq_part){
        .kind = PTQ_PART_CODEBOOK,
        .bits = 3,
        .dim = dim,
        .book_len = 8,
        .book_rows = book_rows,
        .book_cols = book_cols,
        .book = {.fmt = PTQ_FMT_INT, .bits = 10, .n = books * 8 * dim, .at = &value},
        .book_step = pair,
        .book_min = pair};
    return q;
}

/* One size: what the ledger counts; 8 x 10 x dim bits a book are whole bytes. */
static void here_is_the_ledger(void **state)
{
    (void)state;
    const struct ptq_quant q[] = {form(4, 6, 4, false), form(1, 6, 16, true), form(2, 1, 16, true),
                                  form(2, 4, 6, true), form(16, 6, 16, false)};
    for (int i = 0; i < 5; i++) {
        struct ptq_ledger l;
        ptq_quant_ledger(&q[i], &l);
        assert_true(l.books > 0);
        assert_rel(ptq_quant_books_at(&q[i], 6, 16), l.books, 0);
    }
}

static void books_grow_with_what_they_do_not_span(void **state)
{
    (void)state;
    struct ptq_quant q = form(4, 6, 4, false); /* a book a run of four columns, as in pq */
    assert_rel(ptq_quant_books_at(&q, 4096, 4096), 1024 * 8 * 4 * 10 + 64, 0);
    assert_rel(ptq_quant_books_at(&q, 12, 18), 5 * 8 * 4 * 10 + 64, 0);
    q = form(4, 6, 4, true);
    assert_rel(ptq_quant_books_at(&q, 4096, 4096), 1024 * (8 * 4 * 10 + 64), 0);
    q = form(1, 6, 16, true); /* one for the matrix */
    assert_rel(ptq_quant_books_at(&q, 4096, 4096), 8 * 10 + 64, 0);
    q = form(1, 1, 16, false); /* one a row */
    assert_rel(ptq_quant_books_at(&q, 4096, 8), 4096 * 8 * 10 + 64, 0);
    q = form(16, 6, 16, false); /* whole rows as vectors */
    assert_rel(ptq_quant_books_at(&q, 4096, 4096), 8 * 4096 * 10 + 64, 0);
}

static void a_form_without_books_has_none(void **state)
{
    (void)state;
    struct ptq_quant q = form(4, 6, 4, false);
    q.part[0].kind = PTQ_PART_UNIFORM;
    assert_rel(ptq_quant_books_at(&q, 4096, 4096), 0, 0);
    q = form(4, 6, 4, false); /* two parts add up */
    q.n_parts = 2;
    q.part[1] = q.part[0];
    assert_rel(ptq_quant_books_at(&q, 4096, 4096), 2 * (1024 * 8 * 4 * 10 + 64), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(here_is_the_ledger),
        cmocka_unit_test(books_grow_with_what_they_do_not_span),
        cmocka_unit_test(a_form_without_books_has_none),
    };
    return cmocka_run_group_tests_name("books", tests, NULL, NULL);
}
