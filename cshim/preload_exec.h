/* The functions that start programs, each with our variables in the environment that it passes on. What goes wrong on
 * our side passes through: the program is started as if we were not there. None of them writes to a global variable,
 * because the caller may be the child of a vfork(), whose memory is its parent's. */

/* `result`: the given environment, with ours on this stack frame. */
#define WITH_OURS(result, given)                                                                                       \
    size_t result##_room = room_for(given);                                                                            \
    char *const *result = result##_room ? with_ours(given, alloca(result##_room)) : (char *const *)(given)

INTERPOSE(int, execve, (const char *path, char *const argv[], char *const envp[]))
{
    WITH_OURS(environment, envp);
    int result = NEXT(execve)(path, argv, environment);
    return environment != envp && errno == E2BIG ? NEXT(execve)(path, argv, envp) : result;
}

INTERPOSE(int, posix_spawn,
          (pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *actions,
           const posix_spawnattr_t *restrict attributes, char *const argv[restrict], char *const envp[restrict]))
{
    WITH_OURS(environment, envp);
    int result = NEXT(posix_spawn)(pid, path, actions, attributes, argv, environment);
    if (environment != envp && result == E2BIG)
        result = NEXT(posix_spawn)(pid, path, actions, attributes, argv, envp);
    return result;
}
