/* The library that LD_PRELOAD (DYLD_INSERT_LIBRARIES) names. It is loaded into every program of a command line, shells
 * included, and into everything that a recorded program starts, so it names no symbol of Python: it looks whether this
 * process is a Python, and loads the library for its version. In every process it takes our variables out of the
 * environment, and gives them to the programs that the process starts (preload_environment.h).
 *
 * In a replay it also feeds the recorded hash secret to the interpreter: CPython draws it from the system before its
 * first string is hashed (Python/bootstrap_hash.c), and no later moment will do. */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

#define MOST_IN_PATH 4096 /* realpath()'s */

/* sizeof(_Py_HashSecret_t): what CPython asks for at once. */
#define SECRET_SIZE 24

static int (*hash_secret)(void *into, size_t size); /* 1 when it filled the buffer */

/* This process is to be recorded and was no Python when it began. It may load one later (dlopen). */
static int may_load_python;

static void may_be_python(const void *caller);

/* Fills the buffer with the recorded hash secret, once, in a replay. Returns 1 when it did. */
static int give_hash_secret(void *buffer, size_t length, const void *caller)
{
    if (length == SECRET_SIZE && may_load_python)
        may_be_python(caller);
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
#include "preload_environment.h"
#include "preload_exec.h"
#ifndef __APPLE__
#include "preload_exec_linux.h"
#endif

/* A child of a recorded program says nothing: its stderr is the program's to read. */
static void complain(const char *what, const char *detail)
{
    if (variable("RETRACE_PARENT") == NULL)
        fprintf(stderr, "retrace: %s%s%s; the program runs unrecorded\n", what, detail ? ": " : "", detail ? detail : "");
}

/* The folder of this library, where LD_PRELOAD names it and nothing says where the others are; NULL where it is not known. */
static const char *own_directory(char *room)
{
    Dl_info about;
    if (dladdr((void *)own_directory, &about) == 0 || about.dli_fname == NULL)
        return NULL;
    if (*about.dli_fname == '/' && strlen(about.dli_fname) < MOST_IN_PATH)
        strcpy(room, about.dli_fname); /* as it is listed, so that it can be taken out of the list */
    else if (realpath(about.dli_fname, room) == NULL)
        return NULL;
    char *name = strrchr(room, '/');
    *name = 0;
    return room;
}

/* Loads the library for this process's version of Python; NULL where it is no Python, or none that we know. */
static void *load_library(const char *directory)
{
    const char *(*version)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "Py_GetVersion");
    if (version == NULL)
        return NULL; /* not a Python: an `env` or a shell on the way to one */
    int major = 0, minor = 0;
    const char *text = version();
    if (sscanf(text, "%d.%d", &major, &minor) != 2 || major != 3 || (minor != 11 && minor != 12)) {
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(text, " "), text);
        complain("Python 3.11 and 3.12 are supported, this is", name);
        return NULL;
    }
    if (dlsym(RTLD_DEFAULT, "_Py_NegativeRefcount") != NULL) {
        complain("debug builds of Python are not supported", NULL);
        return NULL;
    }
    char path[MOST_IN_PATH + 32];
    snprintf(path, sizeof path, "%s/libretrace-%d.%d.%s", directory, major, minor, LIBRARY_SUFFIX);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        complain("cannot load the recorder", dlerror());
    return library;
}

/* Somebody draws as much entropy as CPython for its hash secret, or asks for a variable of CPython's. If that is a Python
 * that was loaded after this program's start, nobody records it: there is no library of ours in it. */
static void may_be_python(const void *caller)
{
    Dl_info about;
    int error = errno;
    void *image = dladdr(caller, &about) != 0 && about.dli_fname != NULL
                      ? dlopen(about.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    if (image != NULL && dlsym(image, "Py_RunMain") != NULL) {
        may_load_python = 0;
        if (kept[PARENT] != NULL)
            count_unrecorded_program(kept[PARENT] + sizeof "RETRACE_PARENT");
        else
            fprintf(stderr, "retrace: this program runs Python without CPython's own main (Py_Main, Py_RunMain), so no "
                            "recording begins; it runs unrecorded\n");
    }
    if (image != NULL)
        dlclose(image);
    errno = error;
}

__attribute__((constructor)) static void begin(void)
{
    int replaying = variable("RETRACE_REPLAY") != NULL;
    int answering = replaying || variable("RETRACE_DOCTOR") != NULL;
    char room[MOST_IN_PATH];
    const char *directory = variable("RETRACE_LIBRARY_DIR");
    int recording = variable("RETRACE_RECORDING") != NULL || variable("RETRACE_PARENT") != NULL;
    if (!(answering || recording))
        return;
    if (directory == NULL && (directory = own_directory(room)) == NULL)
        return;
    if (keep(directory) < 0)
        return; /* no memory: everything stays as it is */
    void *library = load_library(directory);
    if (library != NULL) {
        int (*preloaded)(void) = (int (*)(void))dlsym(library, "retrace_preloaded");
        if (preloaded != NULL && preloaded() == 0 && replaying)
            hash_secret = (int (*)(void *, size_t))dlsym(library, "retrace_recorded_hash_secret");
    }
    if (!answering) {
        pass_on();
        may_load_python = passes_on && dlsym(RTLD_DEFAULT, "Py_GetVersion") == NULL;
    }
    else if (library == NULL)
        return; /* a script on the way to the interpreter that will replay */
    take_out();
}
