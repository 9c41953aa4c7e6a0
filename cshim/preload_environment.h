/* Our variables: taken out of the environment of this process, and put into that of what it starts.
 *
 * The environment is walked and changed as memory, not through getenv() and unsetenv(): a shell may define its own
 * (bash does). What is used between a vfork() and the exec allocates on the stack only. */

static const char *const OURS[] = {
    "RETRACE_LIBRARY_DIR", "RETRACE_ARGUMENTS", "RETRACE_PARENT", "RETRACE_BOUNDARY",
    "RETRACE_RECORDING", "RETRACE_ID", "RETRACE_MAX_SIZE",
};
enum { PARENT = 2, BOUNDARY, ROOTS_FROM, COUNT = sizeof OURS / sizeof *OURS }; /* from ROOTS_FROM on: not for children */

/* A program that was given one of these is told already what to do. */
static const char *const TOLD[] = {"RETRACE_RECORDING", "RETRACE_PARENT", "RETRACE_REPLAY", "RETRACE_DOCTOR"};

static char *kept[COUNT];   /* "NAME=value", or NULL; never freed */
static char *preload_entry; /* "LD_PRELOAD=" and this library */
static int passes_on;

/* In the trace's header, which stays mapped: how many programs were started that can't open the trace. */
static unsigned long *unreachable;

/* The most that goes onto the stack. A larger environment is left alone: those children are not recorded. */
#define MOST_ON_STACK (128 << 10)

/* The value of an entry, if it is that variable's; else NULL. */
static const char *value_of(const char *entry, const char *name)
{
    size_t n = strlen(name);
    return strncmp(entry, name, n) == 0 && entry[n] == '=' ? entry + n + 1 : NULL;
}

static const char *variable(const char *name)
{
    for (char **entry = ENVIRONMENT; entry != NULL && *entry != NULL; entry++)
        if (value_of(*entry, name) != NULL)
            return value_of(*entry, name);
    return NULL;
}

static char *joined(const char *one, const char *two, const char *three, const char *four)
{
    char *result = malloc(strlen(one) + strlen(two) + strlen(three) + strlen(four) + 1);
    return result ? strcat(strcat(strcat(strcpy(result, one), two), three), four) : NULL;
}

/* Copies what is ours. The originals may be overwritten: programs that set their title do that. */
static int keep(const char *directory)
{
    preload_entry = joined(PRELOAD_VARIABLE, "=", directory, "/libretrace-preload." LIBRARY_SUFFIX);
    if (preload_entry == NULL)
        return -1;
    char folder[MOST_IN_PATH];
    for (int i = 0; i < COUNT; i++) {
        const char *value = variable(OURS[i]);
        if (value == NULL)
            continue;
        /* A path, that is to mean the same in a child with another working directory. */
        int relative = (i == BOUNDARY || i == ROOTS_FROM) && *value != '/' && *value != 0;
        if (relative && getcwd(folder, sizeof folder - 1) != NULL)
            strcat(folder, "/");
        else
            *folder = 0;
        if ((kept[i] = joined(OURS[i], "=", folder, value)) == NULL)
            return -1;
    }
    if (kept[0] == NULL && (kept[0] = joined(OURS[0], "=", "", directory)) == NULL)
        return -1;
    return 0;
}

/* An empty RETRACE_RECORDING: the user wants neither this process nor what it starts recorded. */
static void pass_on(void)
{
    passes_on = kept[ROOTS_FROM] == NULL || kept[ROOTS_FROM][sizeof "RETRACE_RECORDING=" - 1] != 0;
}

/* The list of preloaded libraries without ours: the entry itself where we are not in it, NULL where nothing is left. */
static char *without_ours(char *entry)
{
    const char *ours = preload_entry + sizeof PRELOAD_VARIABLE;
    size_t length = strlen(ours);
    for (char *p = entry + sizeof PRELOAD_VARIABLE; *p;) {
        size_t n = strcspn(p, ": ");
        if (n == length && strncmp(p, ours, n) == 0) {
            char *rest = p[n] ? p + n + 1 : p + n;
            int alone = p == entry + sizeof PRELOAD_VARIABLE && p[n] == 0;
            if (alone)
                return NULL;
            char *result = malloc(strlen(entry) + 1);
            if (result == NULL)
                return entry;
            size_t before = (size_t)(p - entry);
            if (*rest == 0 && p[n] == 0)
                before--; /* the separator before us goes with us */
            memcpy(result, entry, before);
            strcpy(result + before, rest);
            return result;
        }
        p += n;
        p += *p != 0;
    }
    return entry;
}

/* In place, because main() may have been given this very array. The places that become free are zeroed: who looks for
 * the auxiliary vector behind the environment (Go's runtime) finds an empty one and asks the system instead. */
static void take_out(void)
{
    char **to = ENVIRONMENT;
    for (char **from = to; *from != NULL; from++) {
        char *entry = *from;
        int ours = strncmp(entry, "RETRACE_", 8) == 0 && entry[8] != 0;
        for (int i = 0; ours; i++) {
            if (i == COUNT)
                ours = 0;
            else if (value_of(entry, OURS[i]) != NULL)
                break;
        }
        if (!ours && value_of(entry, PRELOAD_VARIABLE) != NULL) {
            entry = without_ours(entry);
            ours = entry == NULL;
        }
        if (!ours)
            *to++ = entry;
    }
    while (*to != NULL)
        *to++ = NULL;
}

/* The room that `with_ours` needs for this environment; 0 where it is to stay as it is. */
static size_t room_for(char *const *given)
{
    if (!passes_on)
        return 0;
    size_t n = 0, preloads = 0;
    for (; given != NULL && given[n] != NULL; n++) {
        for (size_t i = 0; i < sizeof TOLD / sizeof *TOLD; i++)
            if (value_of(given[n], TOLD[i]) != NULL)
                return 0;
        if (value_of(given[n], PRELOAD_VARIABLE) != NULL)
            preloads += strlen(given[n]) + strlen(preload_entry) + 2;
    }
    size_t room = (n + COUNT + 2) * sizeof(char *) + preloads;
    return room <= MOST_ON_STACK ? room : 0;
}

/* The given environment with ours, in `room`. */
static char **with_ours(char *const *given, void *room)
{
    char **result = room, **to = result;
    size_t n = 0;
    while (given != NULL && given[n] != NULL)
        n++;
    char *text = (char *)(result + n + COUNT + 2);
    int listed = 0;
    for (size_t i = 0; i < n; i++) {
        const char *theirs = value_of(given[i], PRELOAD_VARIABLE);
        if (theirs == NULL) {
            *to++ = given[i];
            continue;
        }
        listed = 1;
        *to++ = strcat(strcat(strcpy(text, preload_entry), ":"), theirs);
        text += strlen(text) + 1;
    }
    if (!listed)
        *to++ = preload_entry;
    for (int i = 0; i < COUNT; i++)
        if (kept[i] != NULL)
            *to++ = kept[i];
    *to = NULL;
    return result;
}

/* Called before a program is started with our variables: whether it will find that it can't open the trace, because this
 * process is another user now or has another root. May run in the child of a vfork(). */
static int cannot_open_trace(void)
{
    if (unreachable == NULL || kept[PARENT] == NULL)
        return 0;
    const char *path = strchr(kept[PARENT], ':'); /* NAME=recording:process:path */
    path = path == NULL ? NULL : strchr(path + 1, ':');
    int error = errno;
    int cannot = path != NULL && faccessat(AT_FDCWD, path + 1, R_OK | W_OK, AT_EACCESS) != 0;
    errno = error;
    return cannot;
}

static void count_unreachable(long by)
{
    __atomic_fetch_add(unreachable, (unsigned long)by, __ATOMIC_RELAXED);
}

/* Counts a program that is not recorded in the header of its parent's trace (docs/trace-format.md). `parent`: recording,
 * process and path, separated by colons. */
static void count_unrecorded_program(const char *parent)
{
    enum { ID = 40, ID_SIZE = 16, PROGRAMS = 80, HEADER = 4096 };
    const char *path = strchr(parent, ':');
    path = path == NULL ? NULL : strchr(path + 1, ':');
    if (path == NULL)
        return;
    int trace = open(path + 1, O_RDWR | O_CLOEXEC);
    if (trace < 0)
        return;
    if (flock(trace, LOCK_SH | LOCK_NB) == 0) {
        unsigned char *header = mmap(NULL, HEADER, PROT_READ | PROT_WRITE, MAP_SHARED, trace, 0);
        if (header != MAP_FAILED) {
            char id[2 * ID_SIZE + 1];
            for (int i = 0; i < ID_SIZE; i++)
                snprintf(id + 2 * i, 3, "%02x", header[ID + i]);
            if (strncmp(parent, id, 2 * ID_SIZE) == 0)
                __atomic_fetch_add((unsigned long *)(header + PROGRAMS), 1, __ATOMIC_RELAXED);
            munmap(header, HEADER);
        }
    }
    close(trace);
}

/* Called by the library: where to count. */
EXPORTED void retrace_count_at(unsigned long *counter)
{
    unreachable = counter;
}

/* Called by the library in a recorded process: from now on what this process starts belongs to its recording.
 * Returns 0 when this library gives `parent` to everything that the process starts. */
EXPORTED int retrace_pass_on(const char *parent)
{
    char *entry = passes_on ? joined(OURS[PARENT], "=", "", parent) : NULL;
    if (entry == NULL)
        return -1;
    kept[PARENT] = entry;
    for (int i = ROOTS_FROM; i < COUNT; i++)
        kept[i] = NULL;
    return 0;
}
