//! The calls that wait for locks, in both directions: `acquire` of `_thread.lock` and `_thread.RLock`. Where a signal
//! interrupts such a wait, CPython asks the clock whether its time is over; if not, it tries the lock again. Seen from below
//! that try looks like the one of the next call for the same lock. So from the first interrupted wait on these functions say
//! that they begin and end; before that they are CPython's own.

use crate::python::{loaded_module, methods};
use crate::{patch, schedule};
use pyo3_ffi::*;
use std::ffi::{CStr, c_void};
use std::ptr;

type Acquire = unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;

struct Kind {
    name: &'static CStr,
    with: Acquire,
    /// The entries of CPython's table that call its function: several names have one.
    methods: [*mut PyMethodDef; NAMES.len()],
    next: Option<Acquire>,
}

const NAMES: [&CStr; 3] = [c"acquire", c"acquire_lock", c"__enter__"];

// Found at the start, and put in their places once.
static mut KINDS: [Kind; 2] = [
    Kind { name: c"LockType", with: acquire::<0>, methods: [ptr::null_mut(); NAMES.len()], next: None },
    Kind { name: c"RLock", with: acquire::<1>, methods: [ptr::null_mut(); NAMES.len()], next: None },
];

unsafe extern "C" fn acquire<const KIND: usize>(
    lock: *mut PyObject,
    args: *mut PyObject,
    keywords: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; the function was known before this could be called.
    unsafe {
        schedule::wait_is_over();
        let kinds = &raw const KINDS;
        let Some(next) = (*kinds)[KIND].next else { std::hint::unreachable_unchecked() };
        let result = next(lock, args, keywords);
        schedule::wait_is_over();
        result
    }
}

/// Finds the functions.
///
/// # Safety
/// The GIL is held, the current thread state set; before [`watch`].
pub unsafe fn find() {
    // SAFETY: by contract; each entry has a name, and what its flags say.
    unsafe {
        let module = loaded_module("_thread");
        if module.is_null() {
            return;
        }
        let kinds = &raw mut KINDS;
        for kind in &mut *kinds {
            for method in methods(module, kind.name) {
                let place = NAMES.iter().position(|name| *name == CStr::from_ptr((*method).ml_name));
                if let Some(i) = place
                    && (*method).ml_flags == METH_VARARGS | METH_KEYWORDS
                {
                    let function = (*method).ml_meth.PyCFunctionWithKeywords;
                    if kind.next.is_none_or(|next| ptr::fn_addr_eq(next, function)) {
                        kind.next = Some(function);
                        kind.methods[i] = method;
                    }
                }
            }
        }
    }
}

/// A wait was interrupted: from now on they say when they begin and end.
///
/// # Safety
/// In a session. Recording, the GIL is held; replaying, nobody else runs.
#[cold]
pub unsafe fn watch() {
    static mut WATCHED: bool = false;
    // SAFETY: by contract; the table is CPython's own, and lives as long as it.
    unsafe {
        if WATCHED {
            return;
        }
        WATCHED = true;
        let kinds = &raw const KINDS;
        for kind in &*kinds {
            for &method in kind.methods.iter().filter(|method| !method.is_null()) {
                let place = (&raw mut (*method).ml_meth).cast::<*mut c_void>();
                let _ = patch::write(place, kind.with as *mut c_void);
            }
        }
    }
}
