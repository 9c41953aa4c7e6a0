//! `_random.Random`: a seeding that draws entropy is recorded with the generator's whole state; every other seeding,
//! and everything the generator does, is deterministic and runs live.

use crate::call::Call;
use crate::python::{Owned, SavedError};
use pyo3_ffi::*;

/// Whether a seeding call draws entropy: no seed, or None.
///
/// # Safety
/// The GIL is held; the call's references are live.
pub unsafe fn draws_entropy(call: &Call) -> bool {
    // SAFETY: None is a global.
    call.args.first().is_none_or(|&seed| unsafe { seed == Py_None() })
}

unsafe fn base_method(receiver: *mut PyObject, name: &str) -> Owned {
    // SAFETY: `receiver` is a live instance of `_random.Random` or of a subclass, which may override the method.
    unsafe {
        let module = Owned(PyImport_ImportModule(c"_random".as_ptr()));
        if module.is_null() {
            PyErr_Clear();
            return Owned(std::ptr::null_mut());
        }
        let class = crate::python::attribute(module.0, c"Random");
        if class.is_null() || PyObject_IsInstance(receiver, class.0) != 1 {
            PyErr_Clear();
            return Owned(std::ptr::null_mut());
        }
        let key = crate::python::string(name);
        let method = PyObject_GetAttr(class.0, key.0);
        if method.is_null() {
            PyErr_Clear();
        }
        Owned(method)
    }
}

/// The generator's state, or null.
///
/// # Safety
/// The GIL is held, and the thread is marked external.
pub unsafe fn state_of(receiver: *mut PyObject) -> Owned {
    // SAFETY: by contract.
    unsafe {
        let saved = SavedError::take();
        let method = base_method(receiver, "getstate");
        let state = if method.is_null() { std::ptr::null_mut() } else { PyObject_CallOneArg(method.0, receiver) };
        if state.is_null() {
            PyErr_Clear();
        }
        drop(saved);
        Owned(state)
    }
}

/// Puts a recorded state into the generator; false where that fails.
///
/// # Safety
/// As [`state_of`].
pub unsafe fn restore(receiver: *mut PyObject, state: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe {
        let method = base_method(receiver, "setstate");
        if method.is_null() {
            return false;
        }
        let done = PyObject_CallFunctionObjArgs(method.0, receiver, state, std::ptr::null_mut::<PyObject>());
        if done.is_null() {
            PyErr_Clear();
            return false;
        }
        Py_DECREF(done);
        true
    }
}
