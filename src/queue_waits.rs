//! `_queue.SimpleQueue.get` with a time limit, while recording. Where it has got its lock and finds that another thread took
//! what woke it, CPython asks the clock how many microseconds are left. Mostly some are, or less than none; if it is none,
//! it tries the lock and does not wait for it. The clock of a replay leaves some, so that there it waits. A wait is logged
//! here then, whose time was over at once.

use crate::python::{loaded_module, methods};
use crate::{patch, schedule};
use pyo3_ffi::*;
use retrace_abi::gil;
use std::ffi::{CStr, c_void};

static mut NEXT: Option<PyCMethod> = None;

unsafe extern "C" fn get(
    queue: *mut PyObject,
    class: *mut PyTypeObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; the function was known before this could be called.
    unsafe {
        let Some(next) = NEXT else { std::hint::unreachable_unchecked() };
        // A signal's handler may call it within.
        let outer = gil::retrace_swap_lock_wait(0);
        let result = next(queue, class, args, count, names);
        if gil::retrace_swap_lock_wait(outer) == gil::TRIED_BEHIND_WAIT {
            schedule::log_wait_of_no_time();
        }
        result
    }
}

/// Where the module is there already.
///
/// # Safety
/// As [`watch`].
pub unsafe fn watch_loaded() {
    // SAFETY: by contract.
    unsafe {
        let module = loaded_module("_queue");
        if !module.is_null() {
            watch(module);
        }
    }
}

/// Finds the function in the module, if it is there, and sees its calls from now on.
///
/// # Safety
/// Not replaying; the GIL is held, the current thread state set.
pub unsafe fn watch(module: *mut PyObject) {
    // SAFETY: by contract; each entry has a name, and what its flags say.
    unsafe {
        for method in methods(module, c"SimpleQueue") {
            let is_get = CStr::from_ptr((*method).ml_name) == c"get";
            let function = (*method).ml_meth.PyCMethod;
            if is_get
                && (*method).ml_flags == METH_METHOD | METH_FASTCALL | METH_KEYWORDS
                && function as usize != get as *const () as usize
            {
                NEXT = Some(function);
                let _ = patch::write((&raw mut (*method).ml_meth).cast::<*mut c_void>(), get as *mut c_void);
            }
        }
    }
}
