/* sha256.h: SHA-256 (FIPS 180-4) of a piece of memory as 64 hex digits: the names that published
 * files have. Keys of our own are core/hash.h. */
#ifndef PTQ_CORE_SHA256_H
#define PTQ_CORE_SHA256_H
#include <stddef.h>

enum { PTQ_SHA256_CHARS = 65 };
void ptq_sha256(const void *data, size_t bytes, char out[PTQ_SHA256_CHARS]);
#endif
