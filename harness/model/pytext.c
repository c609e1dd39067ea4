#include "model/pytext.h"
#include <string.h>

/* Of two and more bytes: U+0085, U+00A0, U+1680, U+2000 .. U+200A, U+2028, U+2029, U+202F, U+205F,
 * U+3000 (Unicode's White_Space; U+001C .. U+001F are Python's own). */
static bool is_wide(const unsigned char *p, int n)
{
    if (n == 2)
        return p[0] == 0xc2 && (p[1] == 0x85 || p[1] == 0xa0);
    if (p[0] == 0xe1)
        return p[1] == 0x9a && p[2] == 0x80;
    if (p[0] == 0xe3)
        return p[1] == 0x80 && p[2] == 0x80;
    if (p[0] != 0xe2)
        return false;
    if (p[1] == 0x80)
        return (p[2] >= 0x80 && p[2] <= 0x8a) || p[2] == 0xa8 || p[2] == 0xa9 || p[2] == 0xaf;
    return p[1] == 0x81 && p[2] == 0x9f;
}

int ptq_space_at(const char *text, int64_t bytes)
{
    const unsigned char *p = (const unsigned char *)text;
    if (bytes > 0 && (p[0] == ' ' || (p[0] >= 9 && p[0] <= 13) || (p[0] >= 28 && p[0] <= 31)))
        return 1;
    for (int n = 2; n <= 3 && n <= bytes; n++)
        if (p[0] >= 0xc2 && is_wide(p, n))
            return n;
    return 0;
}

/* No white space is the tail of another character's bytes: continuation bytes begin none. */
static int space_before(const char *text, int64_t end)
{
    for (int n = 1; n <= 3 && n <= end; n++)
        if (ptq_space_at(text + end - n, n) == n)
            return n;
    return 0;
}

void ptq_strip(const char *text, int64_t bytes, int64_t *from, int64_t *to)
{
    int n;
    *from = 0;
    *to = bytes;
    while (*from < bytes && (n = ptq_space_at(text + *from, bytes - *from)))
        *from += n;
    while (*to > *from && (n = space_before(text, *to)))
        *to -= n;
}

int64_t ptq_count_words(const char *text, int64_t bytes)
{
    int64_t words = 1;
    bool in_space = false;
    for (int64_t i = 0; i < bytes;) {
        int n = ptq_space_at(text + i, bytes - i);
        words += n && !in_space;
        in_space = n != 0;
        i += n ? n : 1;
    }
    return words;
}
