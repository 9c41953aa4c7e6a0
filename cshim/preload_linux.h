/* Linux: what preload.c needs of the platform. */
#define PRELOAD_VARIABLE "LD_PRELOAD"
#define LIBRARY_SUFFIX "so"

/* CPython's first draw of entropy goes through its PLT, and so to us. */
__attribute__((visibility("default"))) ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    static ssize_t (*next)(void *, size_t, unsigned int);
    if (give_hash_secret(buffer, length))
        return (ssize_t)length;
    if (next == NULL)
        next = (ssize_t (*)(void *, size_t, unsigned int))dlsym(RTLD_NEXT, "getrandom");
    if (next == NULL) {
        errno = ENOSYS;
        return -1;
    }
    return next(buffer, length, flags);
}
