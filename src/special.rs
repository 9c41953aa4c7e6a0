//! The few places where CPython's own C code needs a hand beyond its boundary entry.

use crate::call::Call;
use crate::python::{Owned, SavedError};
use pyo3_ffi::*;
use std::ptr;

/// Before a call, in both directions, as internal code: a FileIO that is closed because it is going away issues its
/// ResourceWarning from inside `close()`, which would run Python code there.
///
/// # Safety
/// In a session; the GIL is held; the thread is not marked external.
pub unsafe fn before(call: &Call) {
    let Some(external) = call.mirrored() else { return };
    if call.hook.entry.name != "close" {
        return;
    }
    // SAFETY: the receiver is an instance of its external type.
    unsafe {
        let Some(finalizing) = external.special.finalizing(call.receiver) else { return };
        if *finalizing == 0 {
            return;
        }
        let saved = SavedError::take();
        let done = PyObject_CallMethod(call.receiver, c"_dealloc_warn".as_ptr(), c"O".as_ptr(), call.receiver);
        if done.is_null() {
            PyErr_Clear();
        }
        drop(Owned(done));
        drop(saved);
        *finalizing = 0;
    }
}

/// Whether a call of `os._exit` has the arguments that it wants, so that it will not return.
///
/// # Safety
/// The GIL is held; the call's references are live.
pub unsafe fn exits(call: &Call) -> bool {
    // SAFETY: by contract; the keyword names are a tuple.
    unsafe {
        call.args.len() == 1
            && PyLong_CheckExact(call.args[0]) != 0
            && (call.positional() == 1 || crate::python::text(PyTuple_GET_ITEM(call.keyword_names, 0)) == "status")
    }
}

/// Whether `input()` would read the terminal in C rather than through `sys.stdin`.
pub fn reads_terminal() -> bool {
    // SAFETY: asks the kernel about two descriptors.
    unsafe { libc::isatty(0) == 1 && libc::isatty(1) == 1 }
}

/// The names of its module that a call rebinds: a dict, or null where that is not known.
///
/// # Safety
/// The GIL is held.
pub unsafe fn namespace(_call: &Call) -> Owned {
    Owned(ptr::null_mut())
}
