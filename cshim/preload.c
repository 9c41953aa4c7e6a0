/* The library that LD_PRELOAD (DYLD_INSERT_LIBRARIES) names. It is loaded into every program of a command line, shells
 * included, so it names no symbol of Python: it looks whether this process is a Python, loads the library for its
 * version, and otherwise does nothing.
 *
 * In a replay it also feeds the recorded hash secret to the interpreter: CPython draws it from the system before its
 * first string is hashed (Python/bootstrap_hash.c), and no later moment will do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>
#include <unistd.h>

/* sizeof(_Py_HashSecret_t): what CPython asks for at once. */
#define SECRET_SIZE 24

static int (*hash_secret)(void *into, size_t size); /* 1 when it filled the buffer */

/* Fills the buffer with the recorded hash secret, once, in a replay. Returns 1 when it did. */
static int give_hash_secret(void *buffer, size_t length)
{
    if (hash_secret == NULL || length != SECRET_SIZE)
        return 0;
    int (*once)(void *, size_t) = hash_secret;
    hash_secret = NULL;
    return once(buffer, length);
}

#ifdef __APPLE__
#include "preload_macos.h"
#else
#include "preload_linux.h"
#endif

static void complain(const char *what, const char *detail)
{
    fprintf(stderr, "retrace: %s%s%s; the program runs unrecorded\n", what, detail ? ": " : "", detail ? detail : "");
}

/* Removes our library from the list that children inherit; the rest of the list is the user's. */
static void leave_preload_list(const char *variable, const char *directory)
{
    const char *value = getenv(variable);
    if (value == NULL)
        return;
    char *rest = malloc(strlen(value) + 1);
    if (rest == NULL)
        return;
    size_t n = 0, prefix = strlen(directory);
    for (const char *p = value; *p;) {
        size_t length = strcspn(p, ": ");
        int ours = length > prefix && !strncmp(p, directory, prefix) && memmem(p, length, "libretrace-preload.", 19);
        if (length > 0 && !ours) {
            if (n > 0)
                rest[n++] = ':';
            memcpy(rest + n, p, length);
            n += length;
        }
        p += length;
        p += *p != 0;
    }
    rest[n] = 0;
    if (n > 0)
        setenv(variable, rest, 1);
    else
        unsetenv(variable);
    free(rest);
}

__attribute__((constructor)) static void begin(void)
{
    int replaying = getenv("RETRACE_REPLAY") != NULL, doctor = getenv("RETRACE_DOCTOR") != NULL;
    if (!replaying && !doctor && getenv("RETRACE_RECORDING") == NULL)
        return;
    const char *(*version)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "Py_GetVersion");
    const char *directory = getenv("RETRACE_LIBRARY_DIR");
    if (version == NULL || directory == NULL)
        return; /* not a Python: an `env` or a shell on the way to one */
    int major = 0, minor = 0;
    const char *text = version();
    if (sscanf(text, "%d.%d", &major, &minor) != 2 || major != 3 || (minor != 11 && minor != 12)) {
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(text, " "), text);
        complain("Python 3.11 and 3.12 are supported, this is", name);
        return;
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/libretrace-%d.%d.%s", directory, major, minor, LIBRARY_SUFFIX);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        complain("cannot load the recorder", dlerror());
        return;
    }
    leave_preload_list(PRELOAD_VARIABLE, directory);
    int (*preloaded)(void) = (int (*)(void))dlsym(library, "retrace_preloaded");
    if (preloaded != NULL && preloaded() == 0 && replaying)
        hash_secret = (int (*)(void *, size_t))dlsym(library, "retrace_recorded_hash_secret");
}
