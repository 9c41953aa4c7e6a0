//! The few places where CPython's own C code needs a hand beyond its boundary entry.

use crate::call::Call;
use crate::gil::GilCell;
use crate::python::{Owned, SavedError};
use pyo3_ffi::*;
use std::ffi::CStr;
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
        call_own(external.class, c"_dealloc_warn", &[call.receiver, call.receiver]);
        drop(saved);
        *finalizing = 0;
    }
}

/// Calls a type's own method, as its C code does: not what a subclass has in its place. An exception is dropped.
///
/// # Safety
/// The GIL is held; the references are live, and the first is to an instance.
pub unsafe fn call_own(class: *mut PyTypeObject, name: &CStr, arguments: &[*mut PyObject]) {
    // SAFETY: by contract.
    unsafe {
        let method = crate::python::attribute(class.cast(), name);
        let none = ptr::null_mut();
        if !method.is_null() {
            drop(Owned(PyObject_Vectorcall(method.0, arguments.as_ptr(), arguments.len(), none)));
        }
        PyErr_Clear();
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

/// A file that is not to block returns None where it would; who buffers it then looks at errno.
///
/// # Safety
/// Replaying; the GIL is held; `result` is what the call returns.
pub unsafe fn leave_errno(call: &Call, result: *mut PyObject) {
    // SAFETY: by contract.
    let is_none = result == unsafe { Py_None() };
    let is_file = call.mirrored().is_some_and(|external| external.special == retrace_abi::special::External::FileIO);
    if is_none && is_file && matches!(call.hook.entry.name, "read" | "readall" | "readinto" | "write") {
        crate::platform::set_errno(libc::EAGAIN);
    }
}

/// The module that a call is a function of, and the Python module that shows its names (`curses` those of `_curses`):
/// each by name, with a copy of its dictionary. Null for other calls, and with nothing set where that fails.
///
/// # Safety
/// The GIL is held; the call's references are live.
pub unsafe fn namespaces(call: &Call) -> Owned {
    // SAFETY: by contract; module dictionaries are borrowed from live modules.
    unsafe {
        let none = Owned(ptr::null_mut());
        if !call.hook.entry.namespace || PyModule_Check(call.receiver) == 0 {
            return none;
        }
        let copies = Owned(PyDict_New());
        let name = crate::python::text(crate::python::attribute(call.receiver, c"__name__").0);
        for name in [name.as_str(), name.trim_start_matches('_')] {
            let Some(names) = names_of(name) else { continue };
            let copy = Owned(PyDict_Copy(names));
            let key = crate::python::string(name);
            if copies.is_null() || copy.is_null() || PyDict_SetItem(copies.0, key.0, copy.0) < 0 {
                PyErr_Clear();
                return none;
            }
        }
        copies
    }
}

/// The dictionary of a module that was imported, borrowed.
unsafe fn names_of(module: &str) -> Option<*mut PyObject> {
    // SAFETY: the GIL is held.
    unsafe {
        let module = PyDict_GetItem(PyImport_GetModuleDict(), crate::python::string(module).0);
        (!module.is_null() && PyModule_Check(module) != 0).then(|| PyModule_GetDict(module))
    }
}

/// What has been bound since, in the modules that `before` has the copies of: a dict of dicts.
///
/// # Safety
/// The GIL is held; `before` is what [`namespaces`] returned.
pub unsafe fn rebound(before: &Owned) -> Owned {
    // SAFETY: by contract; the dictionaries do not change while they are walked: names are strings, whose comparison
    // runs no Python code.
    unsafe {
        let changes = Owned(PyDict_New());
        let (mut position, mut name, mut copy) = (0, ptr::null_mut(), ptr::null_mut());
        while !changes.is_null() && PyDict_Next(before.0, &mut position, &mut name, &mut copy) != 0 {
            let Some(names) = names_of(&crate::python::text(name)) else { continue };
            let changed = Owned(PyDict_New());
            let (mut place, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
            while !changed.is_null() && PyDict_Next(names, &mut place, &mut key, &mut value) != 0 {
                if PyDict_GetItem(copy, key) != value {
                    PyDict_SetItem(changed.0, key, value);
                }
            }
            if !changed.is_null() && PyDict_Size(changed.0) > 0 {
                PyDict_SetItem(changes.0, name, changed.0);
            }
        }
        PyErr_Clear();
        changes
    }
}

/// Binds the names that the recorded call bound.
///
/// # Safety
/// The GIL is held; `changes` is what [`rebound`] returned in the recording, or null.
pub unsafe fn rebind(changes: &Owned) {
    // SAFETY: by contract; as in `rebound`.
    unsafe {
        let (mut position, mut name, mut changed) = (0, ptr::null_mut(), ptr::null_mut());
        while !changes.is_null() && PyDict_Next(changes.0, &mut position, &mut name, &mut changed) != 0 {
            if let Some(names) = names_of(&crate::python::text(name)) {
                PyDict_Update(names, changed);
            }
        }
        PyErr_Clear();
    }
}

/// Whether a method of `datetime` asks for the local time zone: there is none in the receiver, or none was given.
///
/// # Safety
/// The GIL is held; the call's references are live.
pub unsafe fn asks_zone(call: &Call) -> bool {
    // SAFETY: by contract; the receiver of a method is an instance.
    unsafe {
        let given = |i: usize| call.args.get(i).is_some_and(|&zone| zone != Py_None());
        let receiver_has_one = || {
            let datetime = call.receiver.cast::<PyDateTime_DateTime>();
            (*datetime).hastzinfo != 0 && (*datetime).tzinfo != Py_None()
        };
        match call.hook.entry.name {
            "fromtimestamp" => !given(1),
            "astimezone" => !(given(0) && receiver_has_one()),
            _ => !receiver_has_one(),
        }
    }
}

static AUDIT_HOOKS: GilCell<Vec<*mut PyObject>> = GilCell::new(Vec::new());

/// A call of internal code that keeps something for external code is made.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn keeps_internally(call: &Call) {
    // SAFETY: by contract; the interpreter never lets go of an audit hook.
    unsafe {
        if call.hook.name == "sys.addaudithook"
            && let Some(&hook) = call.args.first()
        {
            AUDIT_HOOKS.get().push(hook);
        }
    }
}

/// Whether CPython would call this without tracing: an audit hook, but for one that has `__cantrace__`
/// (Python/sysmodule.c, `sys_audit_tstate`).
///
/// # Safety
/// Replaying; the GIL is held; no exception is set.
pub unsafe fn is_untraced(callable: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe {
        if !AUDIT_HOOKS.get().contains(&callable) {
            return false;
        }
        let can_trace = Owned(PyObject_GetAttrString(callable, c"__cantrace__".as_ptr()));
        let truth = if can_trace.is_null() { 0 } else { PyObject_IsTrue(can_trace.0) };
        PyErr_Clear();
        truth != 1
    }
}
