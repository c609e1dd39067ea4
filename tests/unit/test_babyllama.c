/* A trained Llama, babyllama-361, against the figure of ../shared/data/README.md. */
#include "trained.h"

/* babyllama-361: ids 3 .. 258 are bytes; behind them the table's characters, id = line + 256, a
 * space being its U+2581. As in SentencePiece one stands before the text. */
enum { BABY_LINES = 105, BABY_FIRST = 256, BABY_BYTE = 3, BABY_BOS = 1 };

static int64_t baby_encode(const char *vocab, const char *text, int64_t most, int32_t *id)
{
    char line[BABY_LINES][8];
    int n_lines = 0;
    int64_t n = 0;
    for (const char *p = vocab; *p; p = strchr(p, '\n') + 1) {
        size_t len = strcspn(p, "\t");
        assert_true(n_lines < BABY_LINES && len < sizeof line[0]);
        memcpy(line[n_lines], p, len);
        line[n_lines++][len] = 0;
    }
    assert_int_equal(n_lines, BABY_LINES);
    assert_string_equal(line[3], "\xE2\x96\x81");
    id[n++] = 3 + BABY_FIRST;
    for (const char *p = text; *p && n < most;) {
        size_t len = 1;
        while ((p[len] & 0xC0) == 0x80)
            len++;
        const char *find = *p == ' ' ? "\xE2\x96\x81" : p;
        const size_t find_len = *p == ' ' ? 3 : len;
        int k = 3; /* <unk> <s> </s> are no characters */
        while (k < BABY_LINES &&
               !(strlen(line[k]) == find_len && memcmp(line[k], find, find_len) == 0))
            k++;
        if (k < BABY_LINES)
            id[n++] = k + BABY_FIRST;
        for (size_t i = 0; k == BABY_LINES && i < len && n < most; i++)
            id[n++] = (unsigned char)p[i] + BABY_BYTE;
        p += len;
    }
    return n;
}

static void test_babyllama(void **state)
{
    (void)state;
    TEST_SHARED_OR_SKIP(model, "data/models/babyllama-361/tok361_model5000.bin");
    TEST_SHARED_OR_SKIP(table, "data/models/babyllama-361/tok105.vocab");
    TEST_SHARED_OR_SKIP(wiki, "data/text/wiki.test.raw");
    struct ptq_status st = {0};
    struct windows w;
    char *vocab, *text;
    size_t n_vocab, n_text;
    const int64_t n = 600 * 255;
    int32_t *id = malloc((size_t)n * sizeof *id);
    assert_non_null(id);
    assert_ok(ptq_read_file(table, 1 << 16, &vocab, &n_vocab, &st), &st);
    assert_ok(ptq_read_file(wiki, 1 << 22, &text, &n_text, &st), &st);
    assert_int_equal(baby_encode(vocab, text, n, id), n);
    windows_make(&w, 600, 256, BABY_BOS, id);
    check_figure(model, &w, 3.27217, 1e-5);
    free(id);
    free(vocab);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_babyllama),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
