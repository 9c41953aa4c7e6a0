/* CPython 3.12: where its globals are. */
#include <Python.h>
#include "pycore_runtime.h"
#include "version.h"
#include "gil.h"
#include "pycore_ceval.h"

int retrace_version_init(const char **error)
{
    if (Py_Version >> 16 != 0x030c) {
        *error = "this build of Retrace is for CPython 3.12";
        return -1;
    }
    return 0;
}

_Py_AuditHookEntry **retrace_audit_hooks(void) { return &_PyRuntime.audit_hooks.head; }

static int collection_due(void *Py_UNUSED(argument))
{
    retrace_collection_due();
    return 0;
}

/* Any thread of the interpreter makes its pending calls in 3.12. */
void retrace_ask_collection(void)
{
    _PyEval_AddPendingCall(PyInterpreterState_Main(), collection_due, NULL, 0);
}
