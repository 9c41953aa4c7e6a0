/* Hashes of names: the same in every process, on every machine and under every string hash secret. */
#ifndef RETRACE_NAME_HASH_H
#define RETRACE_NAME_HASH_H

#include "version.h"
#include <string.h>

/* Mixes `value` into `seed` (the finalizer of splitmix64). */
static inline uint64_t
retrace_name_mix(uint64_t seed, uint64_t value)
{
    uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + value;
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static inline uint64_t
retrace_name_bytes(uint64_t seed, const void *data, size_t size)
{
    const char *bytes = data;
    uint64_t hash = retrace_name_mix(seed, size);
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
        hash ^= hash >> 32;
    }
    uint64_t tail = 0;
    memcpy(&tail, bytes, size);
    return retrace_name_mix(hash, tail);
}

static inline uint64_t
retrace_name_text(uint64_t seed, const char *text)
{
    return retrace_name_bytes(seed, text, strlen(text));
}

/* `text` is borrowed; what is not a str counts as the empty name. The raw characters are taken, not UTF-8:
 * PyUnicode_AsUTF8 would store a copy in the string and so change its sys.getsizeof. For ASCII they are the same. */
static inline uint64_t
retrace_name_str(uint64_t seed, PyObject *text)
{
    if (text == NULL || !PyUnicode_Check(text) || !PyUnicode_IS_READY(text)) {
        return retrace_name_bytes(seed, "", 0);
    }
    return retrace_name_bytes(seed, PyUnicode_DATA(text), (size_t)PyUnicode_GET_LENGTH(text) * PyUnicode_KIND(text));
}

#endif
