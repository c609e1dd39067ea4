/* Python's random numbers and SHA-256: numbers are CPython's and the standard's. */
#include "core/mt19937.h"
#include "core/sha256.h"
#include "testlib.h"

/* methods.md, section 9; random.seed(0); randint(0, 99). */
static void test_percent(void **state)
{
    (void)state;
    static const int want[] = {49, 97, 53, 5, 33, 65, 62, 51};
    struct ptq_mt19937 r;
    ptq_mt19937_seed(&r, 0);
    for (int i = 0; i < LENGTH(want); i++)
        assert_int_equal(ptq_mt19937_below(&r, 100), want[i]);
}

/* CPython 3.11: random.seed(seed); randint(0, n - 1) for the n in order. Seeds of one and two
 * words, n of up to 32 and of more bits, powers of two and their neighbours. */
static void test_ranges(void **state)
{
    (void)state;
    static const uint64_t n[] = {
        1u, 2u, 100u, 2147483648u, 4294967296ull, 4294967297ull, 1099511627776ull, 999999999999ull,
        7u};
    static const struct {
        uint64_t seed, want[9];
    } cases[] = {
        {1ull,
         {0ull, 0ull, 32ull, 506456969ull, 1930549411ull, 2798570523ull, 462949041686ull,
          532979068556ull, 0ull}},
        {4294967295ull,
         {0ull, 0ull, 77ull, 1251276551ull, 2590083323ull, 4130059007ull, 617999198024ull,
          985072590122ull, 3ull}},
        {4294967296ull,
         {0ull, 1ull, 53ull, 71624475ull, 3274195809ull, 4272311653ull, 300707833000ull,
          897973610560ull, 3ull}},
        {18446744073709551615ull,
         {0ull, 0ull, 43ull, 910393425ull, 3868957638ull, 2286593340ull, 175877875469ull,
          364217715277ull, 3ull}},
    };
    for (int k = 0; k < LENGTH(cases); k++) {
        struct ptq_mt19937 r;
        ptq_mt19937_seed(&r, cases[k].seed);
        for (int i = 0; i < LENGTH(n); i++)
            assert_true(ptq_mt19937_below(&r, n[i]) == cases[k].want[i]);
    }
}

/* The 1300th word: the state is made anew twice. CPython: random.Random(5).getrandbits(32). */
static void test_long(void **state)
{
    (void)state;
    struct ptq_mt19937 r;
    uint32_t v = 0;
    ptq_mt19937_seed(&r, 5);
    for (int i = 0; i < 1300; i++)
        v = ptq_mt19937_u32(&r);
    assert_int_equal(v, 1638843205u);
}

/* FIPS 180-4's examples ("abc" of one block, the 56 bytes of two, a million a), the empty text, and
 * lengths around the padding's border by Python's hashlib: of the bytes 0, 7, 14, ... */
static void test_sha256(void **state)
{
    (void)state;
    static char text[1000000];
    static const struct {
        int n;
        const char *hash;
    } cases[] = {
        {0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
        {55, "576a1bf8d4478657e6dc4af9398544765c2a92cde28478b019235cfed315fc09"},
        {56, "9b20501dfd1d99161c257950f3444f3e49230c351c5c8e0943ef369f85f5205d"},
        {63, "30b345906b493f06f69444b6521113511c242f30e29840462950035043682f1e"},
        {64, "d8bc63b4fc1156e5e7d95a418b9bf54cd3174bedbc2db40f74895349b229b3c0"},
        {119, "7a6589821178918ca8d9edaba5abfc1e9b2669564f4469b66885379c1530b2c8"},
        {120, "655250427d56b1b0eeb8497d21428704273458a01772d6881b65c0abac0f8a98"},
        {300, "9a76b8af8f16f19d60de2b3999c22f9d10be4395c90ea3bfc5eb6cd6254243af"},
    };
    char hash[PTQ_SHA256_CHARS];
    for (int i = 0; i < 300; i++)
        text[i] = (char)(i * 7);
    for (int i = 0; i < LENGTH(cases); i++) {
        ptq_sha256(text, (size_t)cases[i].n, hash);
        assert_string_equal(hash, cases[i].hash);
    }
    ptq_sha256("abc", 3, hash);
    assert_string_equal(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ptq_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hash);
    assert_string_equal(hash, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(text, 'a', sizeof text);
    ptq_sha256(text, sizeof text, hash);
    assert_string_equal(hash, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
