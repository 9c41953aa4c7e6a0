//! Where every hook arrives: out of session or inside another external call the original is called; else the session
//! records or replays.

use crate::call::Call;
use crate::hook::{Hook, Original};
use crate::session::{self, Mode};
use crate::thread;
use crate::{modules, record, replay};
use pyo3_ffi::*;
use std::ptr;

/// A call without arguments.
///
/// # Safety
/// Called by a trampoline with the GIL held.
#[inline(never)]
pub unsafe fn noargs(hook: &'static Hook, receiver: *mut PyObject) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let thread = thread::current();
        if session::mode() == Mode::Recording
            && !thread.external.get()
            && hook.plain
            && !modules::is_watch(hook)
            && let Original::Method { def, .. } = hook.original
        {
            return record::plain_noargs(hook, thread, (*def).ml_meth.PyCFunction, receiver);
        }
        cross(&Call::without_arguments(hook, receiver))
    }
}

/// A call whose arguments are a C array.
///
/// # Safety
/// Called by a trampoline with the GIL held; `args` has `n` positional and the named keyword arguments.
#[inline(never)]
pub unsafe fn vector(
    hook: &'static Hook,
    receiver: *mut PyObject,
    args: *const *mut PyObject,
    n: Py_ssize_t,
    names: *mut PyObject,
    class: *mut PyTypeObject,
) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let keywords = if names.is_null() { 0 } else { PyTuple_GET_SIZE(names) };
        let total = (n + keywords) as usize;
        let args = if total == 0 { &[][..] } else { std::slice::from_raw_parts(args, total) };
        cross(&Call { args, keyword_names: names, class, ..Call::without_arguments(hook, receiver) })
    }
}

/// A slot's call.
///
/// # Safety
/// Called by a trampoline with the GIL held.
#[inline(never)]
pub unsafe fn slot(hook: &'static Hook, receiver: *mut PyObject, args: &[*mut PyObject]) -> *mut PyObject {
    let null = ptr::null_mut();
    // SAFETY: by contract.
    unsafe { vector(hook, receiver, args.as_ptr(), args.len() as Py_ssize_t, null, null.cast()) }
}

/// A call whose arguments are a tuple and perhaps a dict.
///
/// # Safety
/// Called by a trampoline with the GIL held.
#[inline(never)]
pub unsafe fn tuple(
    hook: &'static Hook,
    receiver: *mut PyObject,
    tuple: *mut PyObject,
    dict: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: by contract; a tuple's items lie in an array.
    unsafe {
        let n = PyTuple_GET_SIZE(tuple) as usize;
        let items = (&raw mut (*tuple.cast::<PyTupleObject>()).ob_item).cast::<*mut PyObject>();
        let positional = if n == 0 { &[][..] } else { std::slice::from_raw_parts(items, n) };
        let mut call = Call { args: positional, tuple, dict, ..Call::without_arguments(hook, receiver) };
        if dict.is_null() || PyDict_Size(dict) == 0 {
            return cross(&call);
        }
        let mut args = positional.to_vec();
        let mut keys = Vec::new();
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
            keys.push(key);
            args.push(value);
        }
        let names = crate::python::Owned(PyTuple_New(keys.len() as Py_ssize_t));
        if names.is_null() {
            return ptr::null_mut();
        }
        for (i, key) in keys.into_iter().enumerate() {
            Py_INCREF(key);
            PyTuple_SET_ITEM(names.0, i as Py_ssize_t, key);
        }
        call.args = &args;
        call.keyword_names = names.0;
        cross(&call)
    }
}

#[inline(always)]
unsafe fn cross(call: &Call) -> *mut PyObject {
    // SAFETY: by the contracts above.
    unsafe {
        if modules::is_watch(call.hook) {
            return modules::created(call);
        }
        let thread = thread::current();
        match session::mode() {
            Mode::Off => call.invoke(),
            _ if thread.external.get() => call.invoke(),
            Mode::Recording => record::call(call, thread),
            Mode::Replaying => replay::call(call, thread),
        }
    }
}
