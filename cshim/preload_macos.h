/* macOS: what preload.c needs of the platform. Compiled, never run: nobody had the machine. */
#include <crt_externs.h>

#define PRELOAD_VARIABLE "DYLD_INSERT_LIBRARIES"
#define LIBRARY_SUFFIX "dylib"
#define ENVIRONMENT (*_NSGetEnviron())

/* dyld redirects every image's binding of a symbol that the __interpose section of an inserted library names, but not
 * the library's own (dyld's interposing.h). So execv(), system() and the like come to us by the calls that they make. */
#define INTERPOSE(type, name, parameters)                                                                              \
    static type our_##name parameters;                                                                                 \
    static const struct {                                                                                              \
        const void *replacement, *original;                                                                            \
    } interposed_##name __attribute__((used, section("__DATA,__interpose"))) = {                                       \
        (const void *)our_##name,                                                                                      \
        (const void *)name,                                                                                            \
    };                                                                                                                 \
    static type our_##name parameters
#define NEXT(name) name

/* CPython draws entropy with getentropy() there (Python/bootstrap_hash.c). */
INTERPOSE(int, getentropy, (void *buffer, size_t length))
{
    return give_hash_secret(buffer, length, __builtin_return_address(0)) ? 0 : getentropy(buffer, length);
}
