//! Exceptions that nobody caught. CPython tells audit hooks of one that ends the program, and of what is raised where nobody
//! can catch it. `threading` makes an object of its type `_ExceptHookArgs` of one that ends a thread, for whatever hook the
//! program has set.

use super::{clock, is_on, runner, timeline};
use crate::python::{Owned, attribute, text};
use pyo3_ffi::*;
use retrace_replay::debug_protocol::Crash;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

static mut MAKE_ARGUMENTS: Option<newfunc> = None;

/// Takes notice of them from now on.
///
/// # Safety
/// Replaying; the GIL is held; called once.
pub unsafe fn notice() {
    // SAFETY: by contract; a module of CPython's own, and its type.
    unsafe {
        crate::capi::PySys_AddAuditHook(audit, ptr::null_mut());
        let modules = PyImport_GetModuleDict();
        let module = Owned::borrowed(PyDict_GetItemString(modules, c"_thread".as_ptr()));
        if module.is_null() {
            return;
        }
        let kind = attribute(module.0, c"_ExceptHookArgs");
        if !kind.is_null() && PyType_Check(kind.0) != 0 {
            let kind = kind.0.cast::<PyTypeObject>();
            MAKE_ARGUMENTS = (*kind).tp_new;
            (*kind).tp_new = Some(make_arguments);
        }
    }
}

unsafe extern "C" fn make_arguments(
    kind: *mut PyTypeObject,
    args: *mut PyObject,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython in place of the original. What it makes lies in memory as a tuple: class, exception,
    // traceback, thread.
    unsafe {
        let Some(original) = MAKE_ARGUMENTS else { return ptr::null_mut() };
        let made = original(kind, args, names);
        if !made.is_null() {
            reported(PyTuple_GET_ITEM(made, 1), true);
        }
        made
    }
}

unsafe extern "C" fn audit(event: *const c_char, args: *mut PyObject, _data: *mut c_void) -> c_int {
    // SAFETY: called by CPython with a C string and a tuple.
    unsafe {
        let event = CStr::from_ptr(event);
        if event == c"sys.excepthook" && PyTuple_GET_SIZE(args) > 2 {
            reported(PyTuple_GET_ITEM(args, 2), false);
        } else if event == c"sys.unraisablehook" && PyTuple_GET_SIZE(args) > 1 {
            // So it is with a thread that was started without `threading`, and with many things that end nothing.
            let arguments = PyTuple_GET_ITEM(args, 1);
            let is_thread =
                clock::uncounted(|| text(attribute(arguments, c"err_msg").0).contains("in thread started by"));
            if is_thread {
                reported(attribute(arguments, c"exc_value").0, true);
            }
        }
        0
    }
}

unsafe fn reported(exception: *mut PyObject, in_thread: bool) {
    // SAFETY: the GIL is held; a live object.
    unsafe {
        let is_exit = PyErr_GivenExceptionMatches(exception, PyExc_SystemExit) != 0;
        if exception.is_null() || exception == Py_None() || is_exit || !is_on() {
            return;
        }
        if !in_thread || timeline().crash.is_none_or(|crash| crash.in_thread) {
            timeline().crash = Some(Crash { clock: clock::now(), in_thread });
        }
        if let Some(runner) = runner() {
            runner.uncaught(exception, in_thread);
        }
    }
}
