/* CPython 3.11: where its globals are, and what its instructions are called. */
#include <Python.h>
#define NEED_OPCODE_TABLES
#include "pycore_opcode.h"
#include "opcode.h"
#include "pycore_runtime.h"
#include "version.h"
#include "gil.h"

_Atomic(uintptr_t) *retrace_current_tstate;
uint8_t retrace_is_precall[256];

int retrace_version_init(const char **error)
{
    if (Py_Version >> 16 != 0x030b) {
        *error = "this build of Retrace is for CPython 3.11";
        return -1;
    }
    retrace_current_tstate = (void *)&_PyRuntime.gilstate.tstate_current._value;
    if ((PyThreadState *)*retrace_current_tstate != _PyThreadState_UncheckedGet()) {
        *error = "this build of CPython 3.11 keeps its thread state elsewhere";
        return -1;
    }
    for (int op = 0; op < 256; op++)
        retrace_is_precall[op] = _PyOpcode_Deopt[op] == PRECALL;
    return 0;
}

_Py_AuditHookEntry **retrace_audit_hooks(void) { return &_PyRuntime.audit_hook_head; }

/* Only the main thread makes pending calls in 3.11: see retrace_hook_mutex_unlock. */
void retrace_ask_collection(void)
{
    retrace_collection_asked = 1;
    retrace_request_check();
}
