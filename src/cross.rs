//! Where every hook arrives: out of session or inside another external call the original is called; else the session
//! records or replays.

use crate::call::Call;
use crate::hook::{Hook, Way};
use crate::session::{self, Mode};
use crate::thread::{self, Thread};
use crate::{
    address, annotation, binding, console, last_said, modules, quick, record, replay, subinterpreters, user_threads,
};
use pyo3_ffi::*;
use retrace_abi::boundary::{Echo, Treatment};
use std::ptr;

/// The current thread, where a call through `hook` is recorded by the very function that the trampoline jumped to.
#[inline(always)]
unsafe fn direct(hook: &Hook) -> Option<&'static Thread> {
    // SAFETY: the GIL is held.
    unsafe {
        if hook.way.get() == Way::Direct && session::mode() == Mode::Recording {
            let thread = thread::current();
            return (!thread.external.get()).then_some(thread);
        }
        None
    }
}

/// A call without arguments.
///
/// # Safety
/// Called by a trampoline with the GIL held.
#[inline(never)]
pub unsafe extern "C" fn noargs(hook: &'static Hook, receiver: *mut PyObject) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        match direct(hook) {
            Some(thread) => quick::plain(hook, thread, receiver),
            None => slot(hook, receiver, &[]),
        }
    }
}

/// A call with one argument.
///
/// # Safety
/// Called by a trampoline with the GIL held.
#[inline(never)]
pub unsafe extern "C" fn one(hook: &'static Hook, receiver: *mut PyObject, argument: *mut PyObject) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let args = [argument];
        if let Some(thread) = direct(hook) {
            let call = Call { args: &args, ..Call::without_arguments(hook, receiver) };
            let original = || (hook.function.PyCFunction)(receiver, argument);
            if let Some(result) = quick::record::<false>(&call, thread, original) {
                return result;
            }
        }
        general_one(hook, receiver, argument)
    }
}

// Out of line, so that they take no part in the layout of the direct way.

#[cold]
#[inline(never)]
unsafe fn general_one(hook: &'static Hook, receiver: *mut PyObject, argument: *mut PyObject) -> *mut PyObject {
    // SAFETY: by the contract of `one`.
    unsafe { slot(hook, receiver, &[argument]) }
}

#[cold]
#[inline(never)]
unsafe fn general_array(
    hook: &'static Hook,
    receiver: *mut PyObject,
    args: *mut *mut PyObject,
    n: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: by the contract of `fastcall`.
    unsafe { vector(hook, receiver, args, n, ptr::null_mut(), ptr::null_mut()) }
}

#[cold]
#[inline(never)]
unsafe fn general_tuple(hook: &'static Hook, receiver: *mut PyObject, tuple: *mut PyObject) -> *mut PyObject {
    // SAFETY: by the contract of `varargs`.
    unsafe { self::tuple(hook, receiver, tuple, ptr::null_mut()) }
}

/// A call whose arguments are a C array, all of them positional.
///
/// # Safety
/// Called by a trampoline with the GIL held; `args` has `n` arguments.
#[inline(never)]
pub unsafe extern "C" fn fastcall(
    hook: &'static Hook,
    receiver: *mut PyObject,
    args: *mut *mut PyObject,
    n: Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        if let Some(thread) = direct(hook) {
            let call = Call { args: array(args, n), ..Call::without_arguments(hook, receiver) };
            let original = || (hook.function.PyCFunctionFast)(receiver, args, n);
            if let Some(result) = quick::record::<false>(&call, thread, original) {
                return result;
            }
        }
        general_array(hook, receiver, args, n)
    }
}

/// A call whose arguments are a tuple.
///
/// # Safety
/// Called by a trampoline with the GIL held.
#[inline(never)]
pub unsafe extern "C" fn varargs(hook: &'static Hook, receiver: *mut PyObject, tuple: *mut PyObject) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        if let Some(thread) = direct(hook) {
            let call = Call { args: items(tuple), tuple, ..Call::without_arguments(hook, receiver) };
            let original = || (hook.function.PyCFunction)(receiver, tuple);
            if let Some(result) = quick::record::<false>(&call, thread, original) {
                return result;
            }
        }
        general_tuple(hook, receiver, tuple)
    }
}

#[inline(always)]
unsafe fn array<'a>(args: *const *mut PyObject, n: Py_ssize_t) -> &'a [*mut PyObject] {
    // SAFETY: there are `n` arguments; the pointer may be null where there are none.
    if n == 0 { &[] } else { unsafe { std::slice::from_raw_parts(args, n as usize) } }
}

/// A tuple's items, which lie in an array.
#[inline(always)]
unsafe fn items<'a>(tuple: *mut PyObject) -> &'a [*mut PyObject] {
    // SAFETY: a live tuple.
    unsafe { array((&raw mut (*tuple.cast::<PyTupleObject>()).ob_item).cast(), PyTuple_GET_SIZE(tuple)) }
}

/// A call whose arguments are a C array.
///
/// # Safety
/// Called by a trampoline with the GIL held; `args` has `n` positional and the named keyword arguments.
#[inline(never)]
pub unsafe extern "C" fn vector(
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
        let args = array(args, n + keywords);
        cross(&Call { args, keyword_names: names, class, ..Call::without_arguments(hook, receiver) })
    }
}

/// A call whose arguments are all at hand.
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
pub unsafe extern "C" fn tuple(
    hook: &'static Hook,
    receiver: *mut PyObject,
    tuple: *mut PyObject,
    dict: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let positional = items(tuple);
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
            Mode::Diverted => diverted(call),
            // Inside an external call, or on a thread that is outside altogether.
            _ if thread.external.get() => {
                user_threads::wants_python();
                let result = call.invoke();
                if call.hook.entry.echo != Echo::None {
                    console::record_output(call, result);
                }
                result
            }
            mode if call.hook.entry.treatment == Treatment::Libc => match mode {
                Mode::Replaying => annotation::replay(call),
                _ => annotation::record(call),
            },
            _ if call.hook.entry.treatment == Treatment::Pass && call.hook.entry.keeps => binding::call(call),
            _ if call.hook.entry.unseen => {
                subinterpreters::made();
                call.invoke()
            }
            Mode::Recording => record::call(call, thread),
            Mode::Replaying => replay::call(call, thread),
        }
    }
}

/// A call by code that a debugger evaluates, also where the program stands inside an external call.
#[cold]
unsafe fn diverted(call: &Call) -> *mut PyObject {
    let entry = call.hook.entry;
    // SAFETY: by the contracts above.
    unsafe {
        match entry.treatment {
            _ if entry.address => address::diverted(call),
            // What it calls of the C library is refused there.
            Treatment::Libc => call.invoke(),
            Treatment::Pass if !entry.terminal => call.invoke(),
            _ if entry.only_reads => call.invoke(),
            _ => {
                let answer = last_said::answer(call);
                if answer.is_null() && PyErr_Occurred().is_null() { replay::refuse(call) } else { answer }
            }
        }
    }
}
