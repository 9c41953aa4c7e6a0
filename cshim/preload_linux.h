/* Linux: what preload.c needs of the platform. */
#define PRELOAD_VARIABLE "LD_PRELOAD"
#define LIBRARY_SUFFIX "so"
#define ENVIRONMENT environ

/* INTERPOSE defines a function that comes before the C library's in every program's search order; NEXT is the C
 * library's. The look-up's first result is kept: after a vfork() it is there, because resolve() below has run. */
#define INTERPOSE(type, name, parameters) EXPORTED type name parameters
#define NEXT(name) ((__typeof__(&name))next(NEXT_##name, #name))

enum {
    NEXT_execve, NEXT_execvpe, NEXT_fexecve, NEXT_posix_spawn, NEXT_posix_spawnp, NEXT_system, NEXT_popen,
    NEXT_getrandom, NEXT_getenv, NEXT_COUNT,
};

static void *next(int which, const char *name)
{
    static void *found[NEXT_COUNT];
    if (found[which] == NULL)
        found[which] = dlsym(RTLD_NEXT, name);
    return found[which];
}

static char *(*resolved_getenv)(const char *name);

__attribute__((constructor(101))) static void resolve(void)
{
    next(NEXT_execve, "execve");
    next(NEXT_execvpe, "execvpe");
    next(NEXT_fexecve, "fexecve");
    next(NEXT_posix_spawn, "posix_spawn");
    next(NEXT_posix_spawnp, "posix_spawnp");
    resolved_getenv = (char *(*)(const char *))next(NEXT_getenv, "getenv");
}

/* CPython asks for its variables before all else. With PYTHONHASHSEED it draws no secret, so this is all that shows one
 * which is loaded later. A memory allocator may ask for its own before we are ready. */
EXPORTED char *getenv(const char *name)
{
    if (resolved_getenv == NULL) {
        size_t length = strlen(name);
        for (char **one = environ; one != NULL && *one != NULL; one++)
            if (length != 0 && strncmp(*one, name, length) == 0 && (*one)[length] == '=')
                return *one + length + 1;
        return NULL;
    }
    if (may_load_python && strncmp(name, "PYTHON", sizeof "PYTHON" - 1) == 0)
        may_be_python(__builtin_return_address(0));
    return resolved_getenv(name);
}

/* CPython's first draw of entropy goes through its PLT, and so to us. */
EXPORTED ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    if (give_hash_secret(buffer, length, __builtin_return_address(0)))
        return (ssize_t)length;
    ssize_t (*original)(void *, size_t, unsigned int) = NEXT(getrandom);
    if (original == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return original(buffer, length, flags);
}
