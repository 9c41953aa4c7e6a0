//! What the interpreter looks like from below, where it checks its eval breaker, tries a lock, collects: learnt at the start by
//! having it do so, because the functions in which it does have no names that could be looked up.

use crate::python::Owned;
use pyo3_ffi::*;
use retrace_abi::{collector, gil};
use std::ffi::{CStr, c_int};
use std::ptr;

const CHECKED: &CStr = c"def f():\n    pass\nfor i in (1, 2):\n    f()\n";
const TRIED: &CStr = c"lock.acquire()\nlock.acquire(False)\nlock.release()\n";

/// Learns what a check of the eval breaker looks like.
///
/// # Safety
/// The GIL is held; no other thread runs Python; no session is active yet.
pub unsafe fn learn_checks(replaying: bool) -> Result<(), String> {
    // SAFETY: by contract. Where the search can't be learnt in a recording, there is none.
    unsafe {
        if learn(CHECKED, Owned(PyDict_New()), gil::retrace_learn_checks) <= 0 {
            return Err("the interpreter's eval breaker can't be found".into());
        }
        if replaying && learn(CHECKED, Owned(PyDict_New()), gil::retrace_learn_search) < 0 {
            return Err("the interpreter's eval breaker can't be looked at".into());
        }
        Ok(())
    }
}

/// Learns what the try of a lock object's lock looks like. Where nothing is found, each try in vain is logged.
///
/// # Safety
/// As [`learn_checks`].
pub unsafe fn learn_locks() -> Result<(), String> {
    // SAFETY: by contract.
    let learnt = unsafe { learn(TRIED, with_lock(), gil::retrace_learn_lock_tries) };
    if learnt < 0 { Err("the interpreter's locks can't be watched".into()) } else { Ok(()) }
}

/// Learns what a collection that CPython begins at a check of the eval breaker looks like.
///
/// # Safety
/// The GIL is held; the collector was taken over with an observer; no session is active yet.
pub unsafe fn learn_collections() -> Result<(), String> {
    // SAFETY: by contract.
    let learnt = unsafe { learn(CHECKED, Owned(PyDict_New()), collector::retrace_collector_learn_checks) };
    if learnt < 0 { Err("the garbage collector can't be watched".into()) } else { Ok(()) }
}

/// A dict with a lock; null where that can't be made.
unsafe fn with_lock() -> Owned {
    // SAFETY: the GIL is held.
    unsafe {
        let globals = Owned(PyDict_New());
        let module = Owned(PyImport_ImportModule(c"_thread".as_ptr()));
        if globals.is_null() || module.is_null() {
            return Owned(ptr::null_mut());
        }
        let lock = Owned(PyObject_CallMethod(module.0, c"allocate_lock".as_ptr(), ptr::null()));
        if lock.is_null() || PyDict_SetItemString(globals.0, c"lock".as_ptr(), lock.0) < 0 {
            return Owned(ptr::null_mut());
        }
        globals
    }
}

/// Calls `learn` with the code and the globals to run it with; -1 where there is no memory.
unsafe fn learn(
    source: &CStr,
    globals: Owned,
    learn: unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> c_int,
) -> c_int {
    // SAFETY: the GIL is held.
    unsafe {
        let code = Owned(Py_CompileString(source.as_ptr(), c"<retrace>".as_ptr(), Py_file_input));
        let learnt = if code.is_null() || globals.is_null() { -1 } else { learn(code.0, globals.0) };
        PyErr_Clear();
        if !globals.is_null() {
            // A function of the code's holds its globals: no garbage of ours is left.
            PyDict_Clear(globals.0);
        }
        learnt
    }
}
