#include "testlib.h"
#include "core/hash.h"
#include "core/rng.h"
#include <xxhash.h>

/* ---- hash ---- */

/* Values of the sanity check that xxHash itself ships (empty input, and one zero byte; seed 0). */
static void reference_values(void **state)
{
    (void)state;
    char key[PTQ_KEY_CHARS];
    assert_true(ptq_hash64("", 0) == 0x2D06800538D394C2u);
    assert_true(ptq_hash64("", 1) == 0xC44BDFF4074EECDBu);
    ptq_hash_text("", key);
    assert_string_equal(key, "99aa06d3014798d86001c324468d497f");
}

static void key_of(const char *const *fields, char key[PTQ_KEY_CHARS])
{
    struct ptq_hasher *h = ptq_hasher_new();
    assert_non_null(h);
    for (; *fields; fields++)
        ptq_hasher_add_text(h, *fields);
    ptq_hasher_done(h, key);
    assert_int_equal(strlen(key), 32);
    assert_int_equal(strspn(key, "0123456789abcdef"), 32);
}

/* Every list of fields has its own key, and the same list always the same one. */
static void fields_are_framed(void **state)
{
    (void)state;
    static const char *const lists[][4] = {
        {"ab", "c"}, {"a", "bc"}, {"abc"}, {"a", "b", "c"}, {"", "abc"},
        {"abc", ""}, {NULL},      {""},    {"", ""},
    };
    char key[LENGTH(lists)][PTQ_KEY_CHARS], again[PTQ_KEY_CHARS];
    for (int64_t i = 0; i < LENGTH(lists); i++) {
        key_of(lists[i], key[i]);
        key_of(lists[i], again);
        assert_string_equal(key[i], again);
        for (int64_t k = 0; k < i; k++)
            assert_string_not_equal(key[i], key[k]);
    }
}

static void key_of_kind(int kind, char key[PTQ_KEY_CHARS])
{
    struct ptq_hasher *h = ptq_hasher_new();
    switch (kind) {
    case 0: ptq_hasher_add(h, "\0\0\0\0\0\0\0\0", 8); break;
    case 1: ptq_hasher_add_i64(h, 0); break;
    case 2: ptq_hasher_add_f64(h, 0.0); break;
    case 3: ptq_hasher_add_f64(h, -0.0); break;
    case 4: ptq_hasher_add_text(h, NULL); break;
    case 5: ptq_hasher_add_text(h, ""); break;
    case 6: ptq_hasher_add_i64(h, INT64_MIN); break;
    }
    ptq_hasher_done(h, key);
}

static void kinds_of_fields_differ(void **state)
{
    (void)state;
    enum { KINDS = 7 };
    char key[KINDS][PTQ_KEY_CHARS];
    for (int i = 0; i < KINDS; i++)
        key_of_kind(i, key[i]);
    for (int i = 0; i < KINDS; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(key[i], key[k]);
}

/* The stream of two fields written out by hand: kind, length in 8 little-endian bytes, bytes;
 * hashed by xxHash itself. */
static void the_stream_is_the_documented_one(void **state)
{
    (void)state;
    static const char stream[] = "t\4\0\0\0\0\0\0\0gptq"
                                 "i\x8\0\0\0\0\0\0\0\3\2\0\0\0\0\0\x80";
    char key[PTQ_KEY_CHARS], want[PTQ_KEY_CHARS];
    struct ptq_hasher *h = ptq_hasher_new();
    ptq_hasher_add_text(h, "gptq");
    ptq_hasher_add_i64(h, INT64_MIN + 0x203);
    ptq_hasher_done(h, key);
    XXH128_hash_t x = XXH3_128bits(stream, sizeof stream - 1);
    snprintf(want, sizeof want, "%016llx%016llx", (unsigned long long)x.high64,
             (unsigned long long)x.low64);
    assert_string_equal(key, want);
}

static void a_missing_hasher_gives_no_key(void **state)
{
    (void)state;
    char key[PTQ_KEY_CHARS] = "x";
    ptq_hasher_add_text(NULL, "x");
    ptq_hasher_done(NULL, key);
    assert_string_equal(key, "");
}

/* ---- random numbers ---- */

/* First outputs of splitmix64 for seed 1234567: Rosetta Code, "Pseudo-random
 * numbers/Splitmix64". */
static void splitmix64(void **state)
{
    (void)state;
    static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u,
                                    9817491932198370423u, 4593380528125082431u,
                                    16408922859458223821u};
    struct ptq_rng r = {1234567}, s = {1234567};
    for (int64_t i = 0; i < LENGTH(want); i++) {
        assert_true(ptq_rng_u64(&r) == want[i]);
        assert_true(ptq_rng_below(&s, 1000) == want[i] % 1000);
    }
}

/* Recorded from the formula in rng.c computed in Python integers and Python's log and cos. */
static void counter_based_numbers(void **state)
{
    (void)state;
    assert_true(ptq_hash_u64(7, 0) == 0x74b5abcc66b8bdc1u);
    assert_true(ptq_hash_u64(7, 1) == 0xb8b4c2977eabce45u);
    assert_true(ptq_hash_u64(7, 2) == 0xa65305fd338ec8feu);
    assert_true(ptq_uniform(2025, 5) == 0.531860269820513);
    assert_rel(ptq_normal(0, 0), -0.9156358356945066, 1e-14);
    assert_rel(ptq_normal(1, 0), -0.36728540342179883, 1e-14);
    assert_rel(ptq_normal(2025, 5), -0.49948036218629255, 1e-14);
    assert_rel(ptq_normal(42, (uint64_t)1 << 40), 0.5819728412194135, 1e-14);
}

/* Streams of neighbouring seeds, and of seeds that differ by the counter's step, share no
 * numbers. */
static void streams_do_not_overlap(void **state)
{
    (void)state;
    static const uint64_t apart[] = {1, 2, 0x9E3779B97F4A7C15u, 0x3C6EF372FE94F82Au};
    for (int64_t k = 0; k < LENGTH(apart); k++)
        for (uint64_t i = 0; i < 64; i++)
            for (uint64_t j = 0; j < 64; j++)
                assert_true(ptq_hash_u64(5, i) != ptq_hash_u64(5 + apart[k], j));
}

/* n uniforms: the mean has standard deviation 1 / sqrt(12 n); 5 sigma. Each of 64 bits is set in
 * n / 2 +- 5 sqrt(n) / 2. */
static void uniforms_are_uniform(void **state)
{
    (void)state;
    enum { N = 100000 };
    double sum = 0;
    int64_t bit[64] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double u = ptq_uniform(99, i);
        assert_true(u >= 0 && u < 1);
        sum += u;
        for (int b = 0; b < 64; b++)
            bit[b] += ptq_hash_u64(99, i) >> b & 1;
    }
    assert_true(fabs(sum / N - .5) < 5 / sqrt(12.0 * N));
    for (int b = 0; b < 64; b++)
        assert_true(fabs((double)bit[b] - N / 2) < 5 * sqrt(N) / 2);
}

/* Moments of the normal distribution: E x = 0, x^2 = 1, x^4 = 3; variances of the estimates 1,
 * 2, 96 over n; 5 sigma. The share below -1 is Phi(-1) = .158655. */
static void normals_are_normal(void **state)
{
    (void)state;
    enum { N = 100000 };
    double m1 = 0, m2 = 0, m4 = 0, below = 0, neighbours = 0, last = 0;
    for (uint64_t i = 0; i < N; i++) {
        double x = ptq_normal(7, i);
        m1 += x;
        m2 += x * x;
        m4 += x * x * x * x;
        below += x < -1;
        neighbours += x * last;
        last = x;
    }
    assert_true(fabs(m1 / N) < 5 / sqrt(N));
    assert_true(fabs(m2 / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(m4 / N - 3) < 5 * sqrt(96.0 / N));
    assert_true(fabs(below / N - .158655) < 5 * sqrt(.158655 * .841345 / N));
    assert_true(fabs(neighbours / N) < 5 / sqrt(N));
}

/* The counter whose number is 0, found by running rng.c's formula backwards: the finaliser maps 0
 * to 0, so first(seed) + i * GOLDEN = 0, first being splitmix64's first output. The logarithm of it
 * must stay finite, at the documented bound. */
static void the_rarest_normal_is_finite(void **state)
{
    (void)state;
    uint64_t golden = 0x9E3779B97F4A7C15u,
             inverse = golden; /* correct to 3 bits; doubled each time */
    for (int k = 0; k < 5; k++)
        inverse *= 2 - golden * inverse;
    assert_true(golden * inverse == 1);
    int found = 0;
    for (uint64_t seed = 0; seed < 16; seed++) {
        struct ptq_rng r = {seed};
        uint64_t i = (0 - ptq_rng_u64(&r)) * inverse;
        assert_true(ptq_hash_u64(seed, i) == 0);
        if (i & 1) /* the radius comes from even counters */
            continue;
        assert_true(fabs(ptq_normal(seed, i / 2)) <= 8.6);
        found++;
    }
    assert_true(found > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_values),
        cmocka_unit_test(fields_are_framed),
        cmocka_unit_test(kinds_of_fields_differ),
        cmocka_unit_test(the_stream_is_the_documented_one),
        cmocka_unit_test(a_missing_hasher_gives_no_key),
        cmocka_unit_test(splitmix64),
        cmocka_unit_test(counter_based_numbers),
        cmocka_unit_test(streams_do_not_overlap),
        cmocka_unit_test(uniforms_are_uniform),
        cmocka_unit_test(normals_are_normal),
        cmocka_unit_test(the_rarest_normal_is_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
