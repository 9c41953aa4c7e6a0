//! `retrace.external`: Python functions that the program declares to be outside. A call of one is recorded like a call of
//! a C function at the boundary, and not made on replay. What its body does is external code, which happens to be
//! Python: of the frames that it enters only those of what it was given are callbacks (`crate::callback`), and a thread
//! that it starts is no thread of the program's (`crate::schedule`).

use crate::call::Call;
use crate::capi::{is_method, method_function};
use crate::cross;
use crate::gil::GilCell;
use crate::hook::{self, Hook, Original};
use crate::patch::Refused;
use crate::python::{Definition, Owned, attribute, text};
use crate::record;
use crate::session;
use crate::thread::Thread;
use pyo3_ffi::*;
use retrace_abi::FrameCallable;
use retrace_abi::boundary::{Entry, Treatment};
use retrace_replay::event::HookKind;
use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr;

/// What the package asks `_imp.create_builtin` for.
const MODULE: &str = "retrace._session";

static ENTRY: Entry = Entry::new("", Treatment::Record);
/// By name: a decorated function that is made again and again, in another one, has one hook.
static HOOKS: GilCell<Option<HashMap<String, &'static Hook>>> = GilCell::new(None);
static mut HAVE_RUN: bool = false;

static EXTERNAL: Definition = Definition::new(c"external", external, METH_O);
static HIDE: Definition = Definition::new(c"hide", hide, METH_O);
static BOUNDARY: Definition = Definition::with_keywords(c"boundary", boundary);

/// The package's way to the session, where `call` is its asking for it.
///
/// # Safety
/// In a session; the GIL is held; `call` is one of `_imp.create_builtin`.
pub unsafe fn session_module(call: &Call) -> Option<*mut PyObject> {
    // SAFETY: by contract.
    unsafe {
        let &spec = call.args.first()?;
        let name = attribute(spec, c"name");
        if name.is_null() || text(name.0) != MODULE {
            return None;
        }
        let module = Owned(PyModule_NewObject(name.0));
        for (name, definition) in [(c"external", &EXTERNAL), (c"hide", &HIDE)] {
            let function = Owned(PyCFunction_NewEx(definition.get(), ptr::null_mut(), ptr::null_mut()));
            if module.is_null() || function.is_null() || PyObject_SetAttrString(module.0, name.as_ptr(), function.0) < 0
            {
                return Some(ptr::null_mut());
            }
        }
        Some(module.into_raw())
    }
}

/// `external(function)`: what calls the function through its hook.
unsafe extern "C" fn external(_module: *mut PyObject, function: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let Ok(hook) = hook_of(function) else {
            if session::is_recording() {
                session::stop("there is no room for the hook of another function that is declared external");
            }
            Py_INCREF(function);
            return function;
        };
        let index = Owned(PyLong_FromLong(hook.index.into()));
        let luggage = Owned(PyTuple_Pack(2, function, index.0));
        if luggage.is_null() {
            return ptr::null_mut();
        }
        PyCFunction_NewEx(BOUNDARY.get(), luggage.0, ptr::null_mut())
    }
}

unsafe fn hook_of(function: *mut PyObject) -> Result<&'static Hook, Refused> {
    // SAFETY: the GIL is held; `function` is a function.
    unsafe {
        let part = |name| text(attribute(function, name).0);
        let name = format!("{}.{}", part(c"__module__"), part(c"__qualname__"));
        if let Some(&hook) = HOOKS.get().get_or_insert_default().get(&name) {
            return Ok(hook);
        }
        hook::room_for(1)?;
        let hook: &Hook = hook::make(name.clone(), HookKind::Function, Original::Function, &ENTRY, None);
        HOOKS.get().get_or_insert_default().insert(name, hook);
        if session::is_recording() {
            record::announce_hooks();
        }
        Ok(hook)
    }
}

/// `hide(code)`.
unsafe extern "C" fn hide(_module: *mut PyObject, code: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; the type is checked.
    unsafe {
        if PyCode_Check(code) != 0 {
            retrace_abi::retrace_hide_frames(code);
        }
        let none = Py_None();
        Py_INCREF(none);
        none
    }
}

/// A call of a declared function; `luggage` is the function and its hook's index.
unsafe extern "C" fn boundary(luggage: *mut PyObject, args: *mut PyObject, keywords: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held, with what `external` gave it.
    unsafe {
        let index = PyLong_AsSize_t(PyTuple_GET_ITEM(luggage, 1));
        cross::tuple(hook::all()[index], PyTuple_GET_ITEM(luggage, 0), args, keywords)
    }
}

/// Whether a call's original is the body of such a function.
pub fn is_body(call: &Call) -> bool {
    matches!(call.hook.original, Original::Function)
}

/// A call of such a function begins: what its body leaves behind is not there on replay.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn begins() {
    // SAFETY: by contract.
    unsafe { HAVE_RUN = true };
}

/// Whether any has been called.
///
/// # Safety
/// The GIL is held.
pub unsafe fn have_run() -> bool {
    // SAFETY: by contract.
    unsafe { HAVE_RUN }
}

/// The thread goes on in the body of a declared function. Its frames cost nothing where no argument can be called.
///
/// # Safety
/// Recording; the GIL is held; `thread` is the current one.
pub unsafe fn enter(call: &Call, thread: &Thread) {
    // SAFETY: by contract; the arguments are live.
    unsafe {
        begins();
        thread.external.set(true);
        thread.body.set(true);
        if call.args.iter().any(|&argument| may_be_called(argument)) {
            record::arm();
        }
    }
}

unsafe fn may_be_called(argument: *mut PyObject) -> bool {
    // SAFETY: a live object.
    unsafe {
        PyType_Check(argument) == 0 && (PyCallable_Check(argument) != 0 || (*Py_TYPE(argument)).tp_iternext.is_some())
    }
}

/// Whether what enters a frame in a body was given to it.
///
/// # Safety
/// The GIL is held; the frame is about to run.
pub unsafe fn is_given(callable: &FrameCallable, call: Option<&Call>) -> bool {
    let Some(call) = call else { return false };
    // SAFETY: by contract: the locals hold the arguments.
    unsafe {
        let receiver =
            if callable.is_generator == 0 && callable.positional > 0 { *callable.locals } else { ptr::null_mut() };
        call.args.iter().any(|&argument| {
            argument == callable.callable
                || is_method(argument) && method_function(argument) == callable.callable
                || argument == receiver && call_method(argument) == callable.callable
        })
    }
}

/// The `__call__` of an instance's class, borrowed, or null.
unsafe fn call_method(instance: *mut PyObject) -> *mut PyObject {
    // SAFETY: a live object.
    unsafe { crate::capi::_PyType_Lookup(Py_TYPE(instance), crate::python::string("__call__").0) }
}

/// The functions of `body_errors.py`, borrowed; null with an exception set.
unsafe fn errors(name: &CStr) -> *mut PyObject {
    static NAMESPACE: GilCell<*mut PyObject> = GilCell::new(ptr::null_mut());
    // SAFETY: the GIL is held, the thread marked external.
    unsafe {
        if NAMESPACE.get().is_null() {
            let namespace = Owned(PyDict_New());
            if namespace.is_null() || !crate::python::run(include_str!("body_errors.py"), namespace.0) {
                return ptr::null_mut();
            }
            *NAMESPACE.get() = namespace.into_raw();
        }
        PyDict_GetItemString(*NAMESPACE.get(), name.as_ptr())
    }
}

/// What is to be logged of an exception beside its value: None where that is not known.
///
/// # Safety
/// Recording; the GIL is held; the thread is marked external; no exception is set.
pub unsafe fn describe_error(exception: *mut PyObject) -> Owned {
    // SAFETY: by contract.
    unsafe {
        let function = errors(c"describe");
        let none = ptr::null_mut::<PyObject>();
        let described = if function.is_null() || exception.is_null() {
            none
        } else {
            PyObject_CallFunctionObjArgs(function, exception, none)
        };
        PyErr_Clear();
        if described.is_null() { Owned::borrowed(Py_None()) } else { Owned(described) }
    }
}

/// Gives an exception what [`describe_error`] saw. False with an exception set.
///
/// # Safety
/// Replaying; the GIL is held; the thread is marked external; no exception is set.
pub unsafe fn restore_error(exception: *mut PyObject, described: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe {
        if described == Py_None() {
            return true;
        }
        let function = errors(c"restore");
        let none = ptr::null_mut::<PyObject>();
        !function.is_null() && !Owned(PyObject_CallFunctionObjArgs(function, exception, described, none)).is_null()
    }
}

/// Sets the exception, with the traceback and the context that it has.
///
/// # Safety
/// The GIL is held.
#[allow(deprecated, reason = "3.11 has no other way")]
pub unsafe fn raise(exception: Owned) {
    // SAFETY: by contract; the three references are given away.
    unsafe {
        let class = Owned::borrowed(Py_TYPE(exception.0).cast());
        let traceback = PyException_GetTraceback(exception.0);
        PyErr_Restore(class.into_raw(), exception.into_raw(), traceback);
    }
}
