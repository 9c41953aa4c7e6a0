/* The one place of the shim that knows PY_VERSION_HEX: it picks the header of the CPython that is built against.
 *
 * Each version header defines the same static inline functions under the same names; everything else calls those.
 * What a version must define out of line is declared here. A version without a header does not build.
 */
#ifndef RETRACE_VERSION_H
#define RETRACE_VERSION_H

#if !defined(Py_BUILD_CORE) || !defined(Py_BUILD_CORE_MODULE)
#error "build the shim with -DPy_BUILD_CORE -DPy_BUILD_CORE_MODULE"
#endif

#ifndef PY_SSIZE_T_CLEAN
#define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include "pycore_context.h"
#include "pycore_dict.h"
#include "pycore_gc.h"
#include "pycore_interp.h"
#include "pycore_moduleobject.h"
#include "pycore_object.h"
#include "pycore_runtime.h"

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030C0000
#include "version_3_11.h"
#elif PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000
#include "version_3_12.h"
#else
#error "Retrace knows CPython 3.11 and 3.12 only"
#endif

/* The frame, or the first one outside of it, that is of Python code; NULL where there is none. */
static inline struct _PyInterpreterFrame *
retrace_python_frame(struct _PyInterpreterFrame *frame)
{
    while (frame != NULL && !retrace_is_python_frame(frame)) {
        frame = frame->previous;
    }
    return frame;
}

/* The collector's state of the main interpreter. */
static inline struct _gc_runtime_state *
retrace_gc_state(void)
{
    return &PyInterpreterState_Main()->gc;
}

/* Whether the calling thread runs the main interpreter. Static types are shared, so their hash functions and deallocs
 * are called by every interpreter of the process, since 3.12 under a GIL of its own. The list's head is the newest
 * interpreter; it is read without its lock, but a thread can't miss its own interpreter in it. */
static inline int
retrace_is_main_interpreter(void)
{
    if (__builtin_expect(_PyRuntime.interpreters.head == _PyRuntime.interpreters.main, 1)) {
        return 1;
    }
    return PyInterpreterState_Get() == PyInterpreterState_Main();
}

/* Checks that the running interpreter is the version built for. 0, or -1 with the reason (static) in `error`. */
int retrace_version_init(const char **error);

/* The head of the runtime's list of C audit hooks. */
_Py_AuditHookEntry **retrace_audit_hooks(void);

#endif
