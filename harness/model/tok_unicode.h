/* tok_unicode.h: what tokenizers ask of Unicode: code points of UTF-8, NFC and NFD, lower case, and
 * the classes of BERT's normalizer. The tables (tests/vectors/unicode_tables.py) hold what the
 * `tokenizers` library does to every code point, so that both agree whatever version of Unicode it
 * was built with. Everything is const and thread-safe. */
#ifndef PTQ_MODEL_TOK_UNICODE_H
#define PTQ_MODEL_TOK_UNICODE_H
#include <stdbool.h>
#include "core/status.h"

/* Growing bytes, malloc'ed; the owner frees at. */
struct ptq_text_buffer {
    char *at;
    int64_t n, room;
};
int ptq_text_buffer_add(struct ptq_text_buffer *, const char *text, int64_t bytes,
                        struct ptq_status *);

/* The code point at *text, which is valid UTF-8; moves past it. */
static inline uint32_t ptq_utf8_next(const char **text)
{
    const unsigned char *b = (const unsigned char *)*text;
    int more = b[0] < 0x80 ? 0 : b[0] < 0xE0 ? 1 : b[0] < 0xF0 ? 2 : 3;
    uint32_t c = more == 0 ? b[0] : b[0] & (0x3Fu >> more);
    for (int i = 1; i <= more; i++)
        c = c << 6 | (b[i] & 0x3Fu);
    *text += more + 1;
    return c;
}
/* Bytes of the code point that begins with this byte. */
static inline int ptq_utf8_length(char first)
{
    unsigned char b = (unsigned char)first;
    return b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}
/* Writes 1 to 4 bytes, returns how many. */
int ptq_utf8_put(uint32_t c, char out[4]);
/* No overlong forms, no surrogates, nothing beyond U+10FFFF. */
bool ptq_utf8_valid(const char *text, int64_t bytes);

/* Appends the composed (NFC) or decomposed (NFD) form of valid UTF-8. */
int ptq_unicode_nfc(const char *text, int64_t bytes, struct ptq_text_buffer *, struct ptq_status *);
int ptq_unicode_nfd(const char *text, int64_t bytes, struct ptq_text_buffer *, struct ptq_status *);

bool ptq_unicode_mark(uint32_t c);        /* Mn */
bool ptq_unicode_other(uint32_t c);       /* Cc, Cf, Co without tab and line ends, and U+FFFD */
bool ptq_unicode_space(uint32_t c);       /* White_Space */
bool ptq_unicode_punctuation(uint32_t c); /* P*, and all ASCII signs */
bool ptq_unicode_chinese(uint32_t c);     /* BERT's blocks of ideographs */
/* Lower case: 1 or 2 code points. */
int ptq_unicode_lower(uint32_t c, uint32_t out[2]);
#endif
