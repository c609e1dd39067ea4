/* The facts language against its executable specification in Python (../shared/demo-model/gen.py),
 * whose output has the SHA-256 listed in reference.json there. The figures below were taken from
 * that output: FNV-1a of texts and spans, sums of exact entropies. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "datasets/facts.h"

static uint64_t fnv(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

static const uint64_t fnv_start = UINT64_C(0xcbf29ce484222325);

static struct ptq_facts_window *windows(struct ptq_arena *a, uint64_t seed, int64_t n)
{
    struct ptq_status st = {0};
    struct ptq_facts_window *w = NULL;
    ptq_arena_init(a, 0);
    assert_int_equal(ptq_facts_windows(seed, n, a, &w, &st), PTQ_OK);
    return w;
}

static uint64_t text_hash(const struct ptq_facts_window *w, int64_t n)
{
    uint64_t h = fnv_start;
    for (int64_t i = 0; i < n; i++)
        h = fnv(h, w[i].text, sizeof w[i].text);
    return h;
}

static void text_is_the_specified_one(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_facts_window *w = windows(&a, 5555, 2000);
    static const char first[] =
        "\nTudo [#4+1%5] serves at Lurax, likes to eat kira, was born in Guhin, has the job of "
        "tegar, got married in 1925, paints walls nabesh. +1%5#4\nNana [#3+8%2] always wears "
        "pumesh,"
        " moved house in 1992, grew up in Gokan, loves the taste of hegu, earns money as a";
    assert_int_equal(sizeof first, 257);
    assert_memory_equal(w[0].text, first, 256);
    /* SHA-256 2215b383e167c70006e46343bb8f091236e70a799ebf27419806164c55e65887 */
    assert_true(text_hash(w, 2000) == UINT64_C(0xacbf938f57a84491));
    ptq_arena_clear(&a);
    /* SHA-256 971b6526653409791102b844e396c49496e9b621949357ea06ed137662a9b5ee */
    w = windows(&a, 4444, 64);
    assert_true(text_hash(w, 64) == UINT64_C(0x35cd122601ed9088));
    ptq_arena_clear(&a);
}

static void entropy_is_exact(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_facts_window *w = windows(&a, 5555, 2000);
    double floor = 0, sum = 0, weighted = 0;
    for (int i = 0; i < 2000; i++) {
        floor += i < 256 ? w[i].bits : 0;
        sum += w[i].bits;
        weighted += (i + 1) * w[i].bits;
    }
    /* reference.json: floor_bits_per_byte_256_windows_seed_5555 */
    assert_true(fabs(floor / 256 / 255 - 0.3141003736986006) < 1e-13);
    assert_true(fabs(sum - 160336.60615601233) < 1e-8);
    assert_true(fabs(weighted - 160460497.30893666) < 1e-5);
    ptq_arena_clear(&a);
    /* Documents cut at almost every byte: among 20000 windows are cuts inside names and between the
     * digits. */
    w = windows(&a, 6666, 20000);
    sum = weighted = 0;
    for (int i = 0; i < 20000; i++) {
        sum += w[i].bits;
        weighted += i % 97 * w[i].bits;
    }
    assert_true(fabs(sum - 1605469.9530947872) < 1e-6);
    assert_true(fabs(weighted - 76998110.22600166) < 1e-4);
    ptq_arena_clear(&a);
}

/* One whole document and one cut inside a name, by hand: window 0 is a document and " earns money
 * as a" cut before the value. */
static void entropy_by_hand(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_facts_window *w = windows(&a, 5555, 1);
    double whole = log2(1000) + 3 * log2(10) + log2(720) + 6 * log2(3) + log2(6);
    /* Second document: person, digits, four whole clauses (18, 15, 12, 9 pairs were open), then one
     * of the last 6 pairs. */
    double cut = log2(1000) + 3 * log2(10) + log2(18. * 15 * 12 * 9) + log2(6);
    assert_true(fabs(w[0].bits - (whole + cut)) < 1e-10);
    ptq_arena_clear(&a);
}

static void spans_are_the_specified_ones(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_facts_window *w = windows(&a, 5555, 2000);
    uint64_t h = fnv_start;
    int total = 0;
    for (int i = 0; i < 2000; i++)
        for (int s = 0; s < w[i].n_spans; s++, total++) {
            char text[64];
            const struct ptq_facts_span *p = &w[i].span[s];
            int n = snprintf(text, sizeof text, "%d,%d,%d;", p->attr, p->begin, p->end);
            h = fnv(h, text, (size_t)n);
        }
    assert_int_equal(total, 28088);
    assert_true(h == UINT64_C(0xb5164fdc5a1322f1));
    assert_memory_equal(w[0].text + w[0].span[0].begin, "Lurax", 5);
    assert_int_equal(w[0].span[0].attr, 2);
    ptq_arena_clear(&a);
}

/* A shorter call is a prefix of a longer one, and another seed another text. */
static void stream_is_a_function_of_the_seed(void **state)
{
    (void)state;
    struct ptq_arena a, b, c;
    struct ptq_facts_window *x = windows(&a, 7, 3), *y = windows(&b, 7, 9), *z = windows(&c, 8, 3);
    assert_true(text_hash(x, 3) == text_hash(y, 3));
    assert_true(text_hash(x, 3) != text_hash(z, 3));
    ptq_arena_clear(&a);
    ptq_arena_clear(&b);
    ptq_arena_clear(&c);
}

static void too_many_is_a_message(void **state)
{
    (void)state;
    struct ptq_arena a;
    struct ptq_status st = {0};
    struct ptq_facts_window *w = NULL;
    ptq_arena_init(&a, 1 << 20);
    assert_int_equal(ptq_facts_windows(1, INT64_MAX / 8, &a, &w, &st), PTQ_ERR_MEMORY);
    assert_null(w);
    ptq_arena_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_the_specified_one),
        cmocka_unit_test(entropy_is_exact),
        cmocka_unit_test(entropy_by_hand),
        cmocka_unit_test(spans_are_the_specified_ones),
        cmocka_unit_test(stream_is_a_function_of_the_seed),
        cmocka_unit_test(too_many_is_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
