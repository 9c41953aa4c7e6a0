/* CPython 3.12: where its globals are. */
#define _GNU_SOURCE
#include <Python.h>
#include "pycore_runtime.h"
#include "version.h"

/* Where the thread-local with the current thread state lies from the thread pointer, or 0: see abi/src/layout_3_12.rs. */
intptr_t retrace_tstate_offset;

#if defined(__linux__) && defined(__x86_64__)
#include <link.h>

/* Looks for the thread state in the calling thread's copy of the thread-locals of CPython's library. They lie at one
 * place in every thread if that library was loaded with the program: then close below the thread pointer. */
static int find_tstate_offset(struct dl_phdr_info *library, size_t size, void *unused)
{
    (void)size, (void)unused;
    uintptr_t function = (uintptr_t)&_PyThreadState_UncheckedGet;
    size_t length = 0;
    int is_cpython = 0;
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &library->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD)
            is_cpython |= function - (library->dlpi_addr + segment->p_vaddr) < segment->p_memsz;
        else if (segment->p_type == PT_TLS)
            length = segment->p_memsz;
    }
    if (!is_cpython)
        return 0;
    uintptr_t thread_pointer;
    __asm__("mov %%fs:0, %0" : "=r"(thread_pointer));
    uintptr_t begin = (uintptr_t)library->dlpi_tls_data;
    if (begin == 0 || thread_pointer - begin > 4096 || begin % sizeof(void *) != 0)
        return 1;
    PyThreadState **place = (PyThreadState **)begin, *current = _PyThreadState_UncheckedGet();
    intptr_t found = 0;
    int matches = 0;
    for (size_t i = 0; i < length / sizeof *place; i++)
        if (place[i] == current) {
            found = (intptr_t)&place[i] - (intptr_t)thread_pointer;
            matches++;
        }
    retrace_tstate_offset = matches == 1 && current != NULL ? found : 0;
    return 1;
}
#else
static int find_tstate_offset(void *library, size_t size, void *unused) { return 0; }
#define dl_iterate_phdr(callback, data) (void)(callback)
#endif

int retrace_version_init(const char **error)
{
    if (Py_Version >> 16 != 0x030c) {
        *error = "this build of Retrace is for CPython 3.12";
        return -1;
    }
    dl_iterate_phdr(find_tstate_offset, NULL);
    return 0;
}

_Py_AuditHookEntry **retrace_audit_hooks(void) { return &_PyRuntime.audit_hooks.head; }
