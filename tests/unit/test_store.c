/* Rows on disk: what is appended is read back, what a kill leaves is healed, what is broken is
 * named. And the pack of forms. */
#include "testlib.h"
#include "core/pool.h"
#include "sweep/job.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <signal.h>

static struct ptq_status st;
static char folder[TEST_PATH], cells[TEST_PATH];

static int setup(void **state)
{
    (void)state;
    ptq_status_clear(&st);
    test_tmpdir(folder);
    test_path(folder, "cells.jsonl", cells);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_rmdir(folder);
    return 0;
}

static void write_text(const char *path, const char *text)
{
    assert_ok(ptq_write_file(path, text, strlen(text), &st), &st);
}

static char *read_text(const char *path)
{
    char *text;
    size_t n;
    assert_ok(ptq_read_file(path, 1 << 30, &text, &n, &st), &st);
    return text;
}

static void append(struct ptq_store *s, const char *key, int v)
{
    json_t *row = json_pack("{s:i,s:s,s:i}", "schema", 1, "key", key, "v", v);
    assert_ok(ptq_store_append(s, row, &st), &st);
    json_decref(row);
}

static double value(struct ptq_store *s, const char *key)
{
    const json_t *row = ptq_store_find(s, key);
    return row ? ptq_row_num(row, "v") : -1;
}

static struct ptq_store *open_store(void)
{
    struct ptq_store *s;
    assert_ok(ptq_store_open(&s, folder, 0, 1, &st), &st);
    return s;
}

static void append_and_reopen(void **state)
{
    (void)state;
    struct ptq_store *s = open_store();
    append(s, "a", 1);
    append(s, "b", 2);
    append(s, "a", 3); /* the last row of a key wins */
    assert_true(value(s, "a") == 3 && value(s, "b") == 2 && value(s, "c") == -1);
    assert_ok(ptq_store_close(s, &st), &st);
    s = open_store();
    assert_true(value(s, "a") == 3 && value(s, "b") == 2);
    assert_int_equal(ptq_store_torn(s), 0);
    assert_ok(ptq_store_close(s, &st), &st);
    char *text = read_text(cells);
    assert_string_equal(text, "{\"schema\":1,\"key\":\"a\",\"v\":1}\n{\"schema\":1,\"key\":\"b\","
                              "\"v\":2}\n{\"schema\":1,\"key\":\"a\",\"v\":3}\n");
    free(text);
}

/* Every prefix of a file is what a kill may leave: whole lines stay, the rest goes, the next row
 * begins a line of its own. */
static void every_torn_state(void **state)
{
    (void)state;
    static const char whole[] =
        "{\"schema\":1,\"key\":\"a\",\"v\":1}\n{\"schema\":1,\"key\":\"b\",\"v\":2}\n";
    size_t line = strlen(whole) / 2;
    for (size_t n = 0; n < sizeof whole; n++) {
        char cut[sizeof whole];
        memcpy(cut, whole, n);
        cut[n] = 0;
        write_text(cells, cut);
        struct ptq_store *s = open_store();
        assert_int_equal(ptq_store_torn(s), n % line != 0);
        assert_true(value(s, "a") == (n >= line ? 1 : -1));
        assert_true(value(s, "b") == (n >= 2 * line ? 2 : -1));
        append(s, "c", 3);
        assert_ok(ptq_store_close(s, &st), &st);
        struct ptq_rows rows = {0};
        assert_ok(ptq_rows_read_file(cells, &rows, &st), &st);
        assert_int_equal(rows.n, (int64_t)(n / line) + 1);
        assert_int_equal(rows.n_torn, 0);
        ptq_rows_release(&rows);
    }
}

/* The line that is cut off may be longer than the buffer it is searched with. */
static void a_long_torn_line(void **state)
{
    (void)state;
    char *text = malloc(100001);
    memset(text, 'x', 100000);
    text[100000] = 0;
    memcpy(text, "{\"schema\":1,\"key\":\"a\"}\n", 23);
    write_text(cells, text);
    free(text);
    struct ptq_store *s = open_store();
    assert_int_equal(ptq_store_torn(s), 1);
    assert_non_null(ptq_store_find(s, "a"));
    ptq_store_close(s, NULL);
    text = read_text(cells);
    assert_int_equal(strlen(text), 23);
    free(text);
}

static void broken_lines(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"{\"schema\":1,\"key\":\"a\"}\n{\"schema\":1,\n{\"schema\":1,\"key\":\"b\"}\n",
         ":2: not a JSON row"},
        {"[1]\n", ":1: the row has no key"},
        {"\n{\"schema\":1}\n", ":2: the row has no key"},
        {"{\"schema\":1,\"key\":7}\n", ":1: the row has no key"},
        {"{\"schema\":2,\"key\":\"a\"}\n", ":1: row schema 2; this program reads schema 1"},
        {"{\"schema\":1,\"key\":\"a\",\"key\":\"b\"}\n", ":1: not a JSON row"}};
    for (int64_t i = 0; i < LENGTH(cases); i++) {
        struct ptq_store *s;
        char *text;
        ptq_status_clear(&st);
        write_text(cells, cases[i].text);
        assert_int_equal(ptq_store_open(&s, folder, 0, 1, &st), PTQ_ERR_USAGE);
        assert_status(&st, PTQ_ERR_USAGE, cases[i].reason);
        text = read_text(cells);
        assert_string_equal(text, cases[i].text); /* nothing was changed */
        free(text);
    }
}

static void one_sweep_a_folder(void **state)
{
    (void)state;
    struct ptq_store *first = open_store(), *second, *shard;
    assert_int_equal(ptq_store_open(&second, folder, 0, 1, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "another sweep is writing here");
    ptq_status_clear(&st);
    assert_ok(ptq_store_open(&shard, folder, 1, 4, &st), &st); /* shards have files of their own */
    append(shard, "s", 5);
    ptq_store_close(shard, NULL);
    ptq_store_close(first, NULL);
    first = open_store();
    assert_true(value(first, "s") == 5); /* and see each other's finished rows */
    ptq_store_close(first, NULL);
    test_path(folder, "cells.2-of-4.jsonl", cells);
    assert_int_equal(access(cells, R_OK), 0);
}

/* A write that the disk refuses half way is undone: the file holds whole lines only. */
static void a_full_disk(void **state)
{
    (void)state;
    struct rlimit before, small;
    struct ptq_store *s = open_store();
    append(s, "a", 1);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 40; /* the first line has 29 bytes */
    setrlimit(RLIMIT_FSIZE, &small);
    json_t *row = json_pack("{s:i,s:s,s:i}", "schema", 1, "key", "b", "v", 2);
    int code = ptq_store_append(s, row, &st);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(code, PTQ_ERR_IO);
    assert_status(&st, PTQ_ERR_IO, "cells.jsonl: cannot write: File too large");
    char *text = read_text(cells);
    assert_string_equal(text, "{\"schema\":1,\"key\":\"a\",\"v\":1}\n");
    free(text);
    ptq_status_clear(&st);
    assert_ok(ptq_store_append(s, row, &st), &st); /* and goes on where there is room again */
    json_decref(row);
    ptq_store_close(s, NULL);
    s = open_store();
    assert_true(value(s, "a") == 1 && value(s, "b") == 2);
    ptq_store_close(s, NULL);
}

static void unwritable(void **state)
{
    (void)state;
    char inside[TEST_PATH];
    struct ptq_store *s;
    write_text(cells, "a file");
    test_path(cells, "run", inside);
    assert_int_equal(ptq_store_open(&s, inside, 0, 1, &st), PTQ_ERR_IO);
    assert_status(&st, PTQ_ERR_IO, "cannot make the folder");
}

struct hammer {
    struct ptq_store *store;
};

static void hammer(void *arg, int64_t begin, int64_t end)
{
    struct hammer *h = arg;
    for (int64_t i = begin; i < end; i++) {
        char key[32];
        struct ptq_status own = {0};
        snprintf(key, sizeof key, "%lld", (long long)i);
        json_t *row = json_pack("{s:i,s:s,s:i}", "schema", 1, "key", key, "v", (int)i);
        ptq_store_append(h->store, row, &own);
        json_decref(row);
    }
}

static void many_threads(void **state)
{
    (void)state;
    enum { N = 2000 };
    struct ptq_pool *pool;
    struct hammer h = {open_store()};
    assert_ok(ptq_pool_new(&pool, 4, &st), &st);
    ptq_pool_for(pool, N, 1, hammer, &h);
    ptq_pool_free(pool);
    ptq_store_close(h.store, NULL);
    struct ptq_rows rows = {0};
    assert_ok(ptq_rows_read_file(cells, &rows, &st), &st);
    assert_int_equal(rows.n, N);
    ptq_rows_release(&rows);
}

static void a_plan_hides_old_rows(void **state)
{
    (void)state;
    char plan[TEST_PATH];
    struct ptq_rows rows = {0};
    test_path(folder, "plan.txt", plan);
    assert_int_equal(ptq_rows_read_run(folder, &rows, &st), PTQ_ERR_USAGE);
    assert_status(&st, PTQ_ERR_USAGE, "no rows");
    ptq_status_clear(&st);
    write_text(cells, "{\"schema\":1,\"key\":\"a\",\"v\":1}\n{\"schema\":1,\"key\":\"b\",\"v\":2}"
                      "\n{\"schema\":1,\"key\":\"c\",\"v\":null}\n");
    assert_ok(ptq_rows_read_run(folder, &rows, &st), &st);
    assert_int_equal(rows.n, 3);
    assert_true(isnan(ptq_row_num(rows.at[2], "v")));
    assert_string_equal(ptq_row_text(rows.at[2], "v"), "");
    ptq_rows_release(&rows);
    write_text(plan, "c\nz\na\n");
    assert_ok(ptq_rows_read_run(folder, &rows, &st), &st);
    assert_int_equal(rows.n, 2);
    assert_string_equal(ptq_row_text(rows.at[0], "key"), "a");
    assert_string_equal(ptq_row_text(rows.at[1], "key"), "c");
    ptq_rows_release(&rows);
}

static void write_row(const char *path, int v, int seq)
{
    char text[200];
    snprintf(text, sizeof text, "{\"schema\":1,\"key\":\"a\",\"v\":%d,\"host\":{\"seq\":%d}}\n", v,
             seq);
    write_text(path, text);
}

/* Files are read in name order, which is not the order they were written in: host.seq tells the
 * newer row. */
static void the_newest_row_of_any_file(void **state)
{
    (void)state;
    char shard[TEST_PATH];
    test_path(folder, "cells.1-of-2.jsonl", shard); /* read before cells.jsonl */
    for (int newer = 0; newer < 2; newer++) {
        write_row(cells, 1, newer ? 3 : 8);
        write_row(shard, 2, 7);
        struct ptq_store *s = open_store();
        assert_true(value(s, "a") == (newer ? 2 : 1));
        assert_int_equal(ptq_store_next_seq(s), newer ? 8 : 9); /* one more than the largest */
        assert_int_equal(ptq_store_next_seq(s), newer ? 9 : 10);
        ptq_store_close(s, NULL);
    }
}

/* A look beside a running sweep: its lock does not matter, a line that it is just writing stays. */
static void looking_changes_nothing(void **state)
{
    (void)state;
    static const char torn[] = "{\"schema\":1,\"key\":\"a\",\"v\":1}\n{\"schema\":1,\"ke";
    struct ptq_store *running = open_store(), *look;
    write_text(cells, torn);
    assert_ok(ptq_store_read(&look, folder, &st), &st);
    assert_true(value(look, "a") == 1);
    assert_ok(ptq_store_close(look, &st), &st);
    char *text = read_text(cells);
    assert_string_equal(text, torn);
    free(text);
    ptq_store_close(running, NULL);
}

/* ---- forms -------------------------------------------------------------------------------------
 */

static const char key_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                  key_b[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/* 2 x 3 codes of 3 bits, a scale a row, zero 4. */
static void small_form(struct ptq_result *r, float scale)
{
    static const uint16_t codes[] = {0, 1, 2, 3, 4, 7};
    memset(r, 0, sizeof *r);
    ptq_arena_init(&r->arena, 0);
    float *scales = ptq_arena_alloc(&r->arena, &st, 2, sizeof *scales);
    scales[0] = scale;
    scales[1] = 2 * scale;
    r->quant = (struct ptq_quant){.rows = 2, .cols = 3, .n_parts = 1};
    r->quant.part[0] = (struct ptq_part){.kind = PTQ_PART_UNIFORM,
                                         .bits = 3,
                                         .codes = codes,
                                         .group_cols = 3,
                                         .groups_per_row = 1,
                                         .scale = {PTQ_FMT_F32, 32, true, 2, scales},
                                         .zero_const = 4};
    r->n_notes = 1;
    r->notes[0] = (struct ptq_note_value){"damping", 0.25};
    r->quantize_s = 1.5;
}

static void check_form(struct ptq_pack *p, const char *key, float scale)
{
    /* scale * (code - 4), the second row at twice the scale */
    static const float want[] = {-4, -3, -2, -2, 0, 6};
    struct ptq_result r;
    assert_ok(ptq_pack_get(p, key, &r, &st), &st);
    for (int i = 0; i < 6; i++)
        assert_true(r.what[i] == want[i] * scale);
    assert_int_equal(r.n_notes, 1);
    assert_string_equal(r.notes[0].key, "damping");
    assert_true(r.notes[0].value == 0.25 && r.quantize_s == 1.5);
    ptq_result_release(&r);
}

static struct ptq_pack *open_pack(void)
{
    struct ptq_pack *p;
    assert_ok(ptq_pack_open(&p, folder, 0, 1, &st), &st);
    return p;
}

static void write_two_forms(void)
{
    struct ptq_pack *p = open_pack();
    struct ptq_result r;
    small_form(&r, 1);
    assert_ok(ptq_pack_put(p, key_a, &r, &st), &st);
    ptq_result_release(&r);
    small_form(&r, 0.5F);
    assert_ok(ptq_pack_put(p, key_b, &r, &st), &st);
    ptq_result_release(&r);
    check_form(p, key_a, 1);
    check_form(p, key_b, 0.5F);
    ptq_pack_close(p);
}

static void forms_come_back(void **state)
{
    (void)state;
    struct ptq_result r;
    write_two_forms();
    struct ptq_pack *p = open_pack();
    check_form(p, key_b, 0.5F);
    check_form(p, key_a, 1);
    assert_int_equal(ptq_pack_get(p, "cccccccccccccccccccccccccccccccc", &r, &st), PTQ_SKIP);
    assert_false(ptq_pack_has(p, "cccccccccccccccccccccccccccccccc"));
    assert_true(ptq_pack_verify(p, key_a));
    ptq_pack_close(p);
}

/* A divisor that folds into the producer is no part of the packed bytes, but of the values. */
static void folded_divisor_comes_back(void **state)
{
    (void)state;
    static const float divisor[] = {2, 4, 0.5F}, want[] = {-2, -.75F, -4, -1, 0, 12};
    struct ptq_result r;
    struct ptq_pack *p = open_pack();
    small_form(&r, 1);
    r.quant.act.divisor = (struct ptq_arr){.fmt = PTQ_FMT_F16, .n = 3, .at = divisor};
    for (int folds = 0; folds < 2; folds++) {
        const char *key = folds ? key_a : key_b;
        struct ptq_result back;
        r.quant.act.folds = folds;
        assert_ok(ptq_pack_put(p, key, &r, &st), &st);
        assert_ok(ptq_pack_get(p, key, &back, &st), &st);
        assert_memory_equal(back.what, want, sizeof want);
        assert_int_equal(back.quant.act.folds, folds);
        ptq_result_release(&back);
    }
    ptq_result_release(&r);
    ptq_pack_close(p);
}

/* Any prefix of the file and any one changed byte: a form comes back whole or not at all. */
static void broken_packs(void **state)
{
    (void)state;
    char path[TEST_PATH];
    char *text;
    size_t n;
    write_two_forms();
    test_path(folder, "forms.pack", path);
    assert_ok(ptq_read_file(path, 1 << 20, &text, &n, &st), &st);
    for (size_t at = 0; at<n; at += at + 64> n / 2 && at < n / 2 ? 3 : 61) {
        for (int cut = 0; cut < 2; cut++) {
            text[at] ^= 0x10;
            assert_ok(ptq_write_file(path, text, cut ? at : n, &st), &st);
            text[at] ^= 0x10;
            struct ptq_pack *p = open_pack();
            bool a = ptq_pack_verify(p, key_a), b = ptq_pack_verify(p, key_b);
            assert_int_equal(a, at >= n / 2);
            if (a)
                check_form(p, key_a, 1);
            assert_false(cut && b);
            if (b)
                check_form(p, key_b, 0.5F);
            struct ptq_result r;
            small_form(&r, 2);
            assert_ok(ptq_pack_put(p, key_b, &r, &st),
                      &st); /* made again, it is found behind the damage */
            ptq_result_release(&r);
            check_form(p, key_b, 2);
            ptq_pack_close(p);
            p = open_pack();
            check_form(p, key_b, 2);
            ptq_pack_close(p);
        }
    }
    free(text);
}

enum { PREFIX_BYTES = 56, BUILD_AT = 8, HASH_AT = 48 }; /* formpack.c: struct prefix */

static void read_pack(char **text, size_t *n)
{
    char path[TEST_PATH];
    test_path(folder, "forms.pack", path);
    assert_ok(ptq_read_file(path, 1 << 20, text, n, &st), &st);
}

static void write_pack(const char *text, size_t n)
{
    char path[TEST_PATH];
    test_path(folder, "forms.pack", path);
    assert_ok(ptq_write_file(path, text, n, &st), &st);
}

/* Makes the first record another build's: name, then the hash of the prefix. */
static void give_to_another_build(char *record)
{
    memset(record + BUILD_AT, 'z', 16);
    uint64_t hash = ptq_hash64(record, HASH_AT);
    memcpy(record + HASH_AT, &hash, sizeof hash);
}

static bool same_bytes(const char *before, size_t n)
{
    char *now;
    size_t n_now;
    read_pack(&now, &n_now);
    bool same = n_now == n && !memcmp(now, before, n);
    free(now);
    return same;
}

/* Another build's record is no form of ours and stays in the file; ours behind it is found. */
static void forms_of_another_build(void **state)
{
    (void)state;
    char *text;
    size_t n;
    write_two_forms();
    read_pack(&text, &n);
    give_to_another_build(text);
    write_pack(text, n);
    struct ptq_pack *p = open_pack();
    assert_false(ptq_pack_has(p, key_a));
    check_form(p, key_b, 0.5F);
    ptq_pack_close(p);
    assert_true(same_bytes(text, n));
    /* The other build's alone, too. */
    write_pack(text, n / 2);
    ptq_pack_close(open_pack());
    assert_true(same_bytes(text, n / 2));
    free(text);
}

/* Damage in the middle costs the form it lies in. What has no whole record behind it is cut off. */
static void a_damaged_middle(void **state)
{
    (void)state;
    char *text;
    size_t n;
    write_two_forms();
    read_pack(&text, &n);
    for (size_t at = 0; at < PREFIX_BYTES; at += 7) {
        text[at] ^= 0x10;
        write_pack(text, n);
        struct ptq_pack *p = open_pack();
        assert_false(ptq_pack_has(p, key_a));
        check_form(p, key_b, 0.5F);
        ptq_pack_close(p);
        assert_true(same_bytes(text, n));
        text[at] ^= 0x10;
    }
    write_pack(text, n - 1);
    ptq_pack_close(open_pack());
    assert_true(same_bytes(text, n / 2));
    free(text);
}

/* --dry-run: beside a running sweep, and a torn end stays. */
static void looking_at_forms_changes_nothing(void **state)
{
    (void)state;
    char *text;
    size_t n;
    struct ptq_pack *look;
    write_two_forms();
    read_pack(&text, &n);
    struct ptq_pack *running = open_pack();
    write_pack(text, n - 1);
    assert_ok(ptq_pack_read(&look, folder, &st), &st);
    assert_true(ptq_pack_has(look, key_a) && !ptq_pack_has(look, key_b));
    ptq_pack_close(look);
    assert_true(same_bytes(text, n - 1));
    ptq_pack_close(running);
    free(text);
}

/* ---- sums over layers --------------------------------------------------------------------------
 */

static double note_of(const struct ptq_model_sum *s, const char *key)
{
    for (int i = 0; i < s->n_notes; i++)
        if (!strcmp(s->notes[i].key, key))
            return s->notes[i].value;
    return NAN;
}

/* The name of a note says how it adds up (ptq.h: ptq_note): n_ and retries are counts, of all
 * others the largest is kept. */
static void notes_of_a_model(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        double a, b, sum;
    } cases[] = {{"n_clipped", 3, 4, 7},      {"n_zero_widened", 5, 1, 6},
                 {"retries", 1, 2, 3},        {"clipped_share", 0.25, 0.5, 0.5},
                 {"damping", 0.5, 0.25, 0.5}, {"retries_share", 1, 2, 2}};
    struct ptq_model_sum sum = {0};
    for (int layer = 0; layer < 2; layer++) {
        struct ptq_result r;
        small_form(&r, 1);
        r.n_notes = (int)LENGTH(cases);
        for (int i = 0; i < LENGTH(cases); i++) {
            snprintf(r.notes[i].key, sizeof r.notes[i].key, "%s", cases[i].key);
            r.notes[i].value = layer ? cases[i].b : cases[i].a;
        }
        assert_ok(ptq_model_sum_add(&sum, &r, &st), &st);
        ptq_result_release(&r);
    }
    for (int i = 0; i < LENGTH(cases); i++)
        assert_true(note_of(&sum, cases[i].key) == cases[i].sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(append_and_reopen, setup, teardown),
        cmocka_unit_test_setup_teardown(every_torn_state, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_torn_line, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(one_sweep_a_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(unwritable, setup, teardown),
        cmocka_unit_test_setup_teardown(many_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(a_plan_hides_old_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(forms_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(folded_divisor_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_packs, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_row_of_any_file, setup, teardown),
        cmocka_unit_test_setup_teardown(looking_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(forms_of_another_build, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_middle, setup, teardown),
        cmocka_unit_test_setup_teardown(looking_at_forms_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(notes_of_a_model, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
