#include "core/hash.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct ptq_hasher {
    XXH3_state_t *xx;
};

struct ptq_hasher *ptq_hasher_new(void)
{
    struct ptq_hasher *h = malloc(sizeof *h);
    if (!h)
        return NULL;
    h->xx = XXH3_createState();
    if (!h->xx) {
        free(h);
        return NULL;
    }
    XXH3_128bits_reset(h->xx);
    return h;
}

static void put_le64(unsigned char out[8], uint64_t v)
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(v >> 8 * i);
}

/* A field is its kind, its length and its bytes: no two different lists of fields make one byte
 * stream. */
static void add_field(struct ptq_hasher *h, char kind, const void *data, size_t bytes)
{
    if (!h)
        return;
    unsigned char frame[9] = {(unsigned char)kind};
    put_le64(frame + 1, bytes);
    XXH3_128bits_update(h->xx, frame, sizeof frame);
    if (bytes)
        XXH3_128bits_update(h->xx, data, bytes);
}

void ptq_hasher_add(struct ptq_hasher *h, const void *data, size_t bytes)
{
    add_field(h, 'b', data, bytes);
}

void ptq_hasher_add_text(struct ptq_hasher *h, const char *text)
{
    if (text)
        add_field(h, 't', text, strlen(text));
    else
        add_field(h, 'n', NULL, 0);
}

void ptq_hasher_add_i64(struct ptq_hasher *h, int64_t v)
{
    unsigned char le[8];
    put_le64(le, (uint64_t)v);
    add_field(h, 'i', le, sizeof le);
}

void ptq_hasher_add_f64(struct ptq_hasher *h, double v)
{
    uint64_t bits;
    unsigned char le[8];
    memcpy(&bits, &v, sizeof bits);
    put_le64(le, bits);
    add_field(h, 'f', le, sizeof le);
}

static void to_hex(XXH128_hash_t hash, char out[PTQ_KEY_CHARS])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    for (int i = 0; i < 16; i++) {
        out[2 * i] = "0123456789abcdef"[canonical.digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[canonical.digest[i] & 15];
    }
    out[32] = 0;
}

void ptq_hasher_done(struct ptq_hasher *h, char out[PTQ_KEY_CHARS])
{
    out[0] = 0;
    if (!h)
        return;
    to_hex(XXH3_128bits_digest(h->xx), out);
    XXH3_freeState(h->xx);
    free(h);
}

void ptq_hash_text(const char *text, char out[PTQ_KEY_CHARS])
{
    to_hex(XXH3_128bits(text, strlen(text)), out);
}

uint64_t ptq_hash64(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}
