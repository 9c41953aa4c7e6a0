/* The functions that start programs, each with our variables in the environment that it passes on. What goes wrong on
 * our side passes through: the program is started as if we were not there. None of them writes to a global variable,
 * because the caller may be the child of a vfork(), whose memory is its parent's. */

/* An exec: what it can't be told of is counted before, since a call that succeeds does not return. */
#define REPLACE(environment, envp, call, plain)                                                                        \
    int unreached = environment != envp && cannot_open_trace();                                                        \
    if (unreached)                                                                                                     \
        count_unreachable(1);                                                                                          \
    int result = call;                                                                                                 \
    if (environment != envp && errno == E2BIG)                                                                         \
        result = plain;                                                                                                \
    if (unreached)                                                                                                     \
        count_unreachable(-1);                                                                                         \
    return result

/* `result`: the given environment, with ours on this stack frame. */
#define WITH_OURS(result, given)                                                                                       \
    size_t result##_room = room_for(given);                                                                            \
    char *const *result = result##_room ? with_ours(given, alloca(result##_room)) : (char *const *)(given)

INTERPOSE(int, execve, (const char *path, char *const argv[], char *const envp[]))
{
    WITH_OURS(environment, envp);
    REPLACE(environment, envp, NEXT(execve)(path, argv, environment), NEXT(execve)(path, argv, envp));
}

INTERPOSE(int, posix_spawn,
          (pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *actions,
           const posix_spawnattr_t *restrict attributes, char *const argv[restrict], char *const envp[restrict]))
{
    WITH_OURS(environment, envp);
    int result = NEXT(posix_spawn)(pid, path, actions, attributes, argv, environment);
    if (environment != envp && result == E2BIG)
        result = NEXT(posix_spawn)(pid, path, actions, attributes, argv, envp);
    if (result == 0 && environment != envp && cannot_open_trace())
        count_unreachable(1);
    return result;
}
