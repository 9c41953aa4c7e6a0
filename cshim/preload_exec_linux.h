/* Linux: the other functions that start programs. The C library calls execve() and posix_spawn() inside of itself, where
 * nobody comes between; on macOS such calls are redirected too. */

INTERPOSE(int, execv, (const char *path, char *const argv[]))
{
    return execve(path, argv, ENVIRONMENT);
}

INTERPOSE(int, execvpe, (const char *file, char *const argv[], char *const envp[]))
{
    WITH_OURS(environment, envp);
    REPLACE(environment, envp, NEXT(execvpe)(file, argv, environment), NEXT(execvpe)(file, argv, envp));
}

INTERPOSE(int, fexecve, (int fd, char *const argv[], char *const envp[]))
{
    WITH_OURS(environment, envp);
    REPLACE(environment, envp, NEXT(fexecve)(fd, argv, environment), NEXT(fexecve)(fd, argv, envp));
}

INTERPOSE(int, execvp, (const char *file, char *const argv[]))
{
    return execvpe(file, argv, ENVIRONMENT);
}

INTERPOSE(int, posix_spawnp,
          (pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *actions,
           const posix_spawnattr_t *restrict attributes, char *const argv[restrict], char *const envp[restrict]))
{
    WITH_OURS(environment, envp);
    int result = NEXT(posix_spawnp)(pid, file, actions, attributes, argv, environment);
    if (environment != envp && result == E2BIG)
        result = NEXT(posix_spawnp)(pid, file, actions, attributes, argv, envp);
    if (result == 0 && environment != envp && cannot_open_trace())
        count_unreachable(1);
    return result;
}

/* The variadic ones: their arguments as an array. */
#define COLLECT(argv, first, list)                                                                                     \
    size_t argv##_count = 1;                                                                                           \
    va_list list;                                                                                                      \
    va_start(list, first);                                                                                             \
    while (va_arg(list, char *) != NULL)                                                                               \
        argv##_count++;                                                                                                \
    va_end(list);                                                                                                      \
    char **argv = alloca((argv##_count + 1) * sizeof(char *));                                                         \
    argv[0] = (char *)first;                                                                                           \
    va_start(list, first);                                                                                             \
    for (size_t i = 1; i <= argv##_count; i++)                                                                         \
        argv[i] = va_arg(list, char *)

INTERPOSE(int, execl, (const char *path, const char *first, ...))
{
    COLLECT(argv, first, list);
    va_end(list);
    return execv(path, argv);
}

INTERPOSE(int, execlp, (const char *file, const char *first, ...))
{
    COLLECT(argv, first, list);
    va_end(list);
    return execvp(file, argv);
}

INTERPOSE(int, execle, (const char *path, const char *first, ...))
{
    COLLECT(argv, first, list);
    char *const *envp = va_arg(list, char *const *);
    va_end(list);
    return execve(path, argv, envp);
}

/* A call that takes the environment from the global variable: that is another one while such calls are under way. What
 * replaces it is kept, because a thread may be reading it; it is only made anew when the environment has changed. */
static pthread_mutex_t swap_lock = PTHREAD_MUTEX_INITIALIZER;
static int swaps;
static char **swapped_out, **swapped_in, **made_from;

static char **made(char **given)
{
    size_t room = room_for(given), n = 0;
    if (room == 0)
        return NULL;
    while (given != NULL && given[n] != NULL)
        n++;
    size_t same = 0;
    while (made_from != NULL && same < n && made_from[same] == given[same])
        same++;
    if (made_from != NULL && same == n && made_from[n] == NULL && made_from[n + 1] == kept[PARENT])
        return swapped_in;
    char **copy = malloc((n + 2) * sizeof *copy);
    void *place = malloc(room);
    if (copy == NULL || place == NULL) {
        free(copy);
        free(place);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        copy[i] = given[i];
    copy[n] = NULL;
    copy[n + 1] = kept[PARENT];
    free(made_from);
    made_from = copy;
    return with_ours(given, place);
}

static void swap_in(void)
{
    pthread_mutex_lock(&swap_lock);
    if (swaps++ == 0) {
        char **now = ENVIRONMENT, **ours = made(now);
        swapped_out = now;
        if (ours != NULL)
            ENVIRONMENT = swapped_in = ours;
    }
    pthread_mutex_unlock(&swap_lock);
}

static void swap_out(void)
{
    int error = errno;
    pthread_mutex_lock(&swap_lock);
    /* Another one by now where a thread has called setenv(): then that one stays. */
    if (--swaps == 0 && swapped_in != NULL && ENVIRONMENT == swapped_in)
        ENVIRONMENT = swapped_out;
    pthread_mutex_unlock(&swap_lock);
    errno = error;
}

INTERPOSE(int, system, (const char *command))
{
    swap_in();
    int result = NEXT(system)(command);
    swap_out();
    return result;
}

INTERPOSE(FILE *, popen, (const char *command, const char *mode))
{
    swap_in();
    FILE *result = NEXT(popen)(command, mode);
    swap_out();
    return result;
}
