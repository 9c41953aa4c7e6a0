/* macOS: what preload.c needs of the platform. Compiled, never run: nobody had the machine. */
#define PRELOAD_VARIABLE "DYLD_INSERT_LIBRARIES"
#define LIBRARY_SUFFIX "dylib"

/* CPython draws entropy with getentropy() there (Python/bootstrap_hash.c). dyld redirects every image's binding of a
 * symbol that the __interpose section of an inserted library names, but not the library's own (dyld's interposing.h). */
static int our_getentropy(void *buffer, size_t length)
{
    return give_hash_secret(buffer, length) ? 0 : getentropy(buffer, length);
}

static const struct {
    const void *replacement;
    const void *original;
} interposed __attribute__((used, section("__DATA,__interpose"))) = {
    (const void *)our_getentropy,
    (const void *)getentropy,
};
