//! Calls of Python code into extension modules that do I/O of their own. They run in replay too; that they were made is
//! logged behind what they called of the C library, so that listings show `cursor.execute('SELECT …')` and not only what
//! it sent. A call that reached nothing outside is no event.

use crate::call::Call;
use crate::encode::{Context, Encoder, bytes_of, put_bytes, put_str};
use crate::hook;
use crate::python::{SavedError, text};
use crate::{divergence, record, replay, schedule, session};
use pyo3_ffi::*;
use retrace_abi::boundary::{Entry, Treatment};
use retrace_replay::event::{Call as Recorded, Event, HookKind, Outcome};
use retrace_replay::value::{Notes, Value};
use std::ffi::CStr;
use std::ptr;

static ENTRY: Entry = Entry::new("", Treatment::Libc);
/// Of a text or bytes, so much is shown.
const SHOWN: usize = 400;

/// Hooks the functions of a module and the methods of its types. Where there is no trampoline left for one it stays as it
/// is: only its annotation is missing.
///
/// # Safety
/// The GIL is held; `module` is live.
pub unsafe fn hook_module(name: &str, module: *mut PyObject) {
    // SAFETY: by contract; hooking runs no Python code.
    unsafe {
        let package = name.split('.').next().unwrap_or_default();
        let dict = PyModule_GetDict(module);
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
            if PyCFunction_Check(value) != 0 && (*value.cast::<retrace_abi::CFunction>()).m_self == module {
                let full_name = format!("{name}.{}", hook::function_name(value));
                let _ = hook::hook_function(value, full_name, &ENTRY);
            } else if PyType_Check(value) != 0 {
                hook_type(package, value.cast());
            }
        }
    }
}

unsafe fn hook_type(package: &str, class: *mut PyTypeObject) {
    // SAFETY: by the contract of `hook_module`.
    unsafe {
        let class_name = CStr::from_ptr((*class).tp_name).to_string_lossy();
        // Types that it took from elsewhere are not its own.
        if class_name.split('.').next() != Some(package) {
            return;
        }
        let dict = retrace_abi::retrace_type_dict(class);
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while !dict.is_null() && PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
            if Py_TYPE(value) == &raw mut PyMethodDescr_Type {
                let full_name = format!("{class_name}.{}", text(key));
                let _ = hook::hook_method(value, full_name, HookKind::Method, &ENTRY, None);
            }
        }
    }
}

/// What a call was, as far as a listing shows it.
unsafe fn describe(call: &Call, result: *mut PyObject, raised: *mut PyObject) -> Recorded {
    // SAFETY: the GIL is held; the call's references are live.
    unsafe {
        let arguments: Vec<Value> = call.args.iter().take(254).map(|&argument| shown(argument)).collect();
        let outcome = if result.is_null() { Outcome::Raised(shown(raised)) } else { Outcome::Value(shown(result)) };
        Recorded { hook: call.hook.index, at: record::caller_offset(), arguments: Some(arguments), outcome }
    }
}

unsafe fn shown(object: *mut PyObject) -> Value {
    // SAFETY: as in `describe`; what an argument is summed up by runs no Python code.
    unsafe {
        let mut bytes = Vec::new();
        if object.is_null() {
            return Value::Null;
        } else if PyUnicode_CheckExact(object) != 0 {
            let text: String = text(object).chars().take(SHOWN).collect();
            put_str(&mut bytes, &text);
        } else if PyBytes_CheckExact(object) != 0 {
            let text = bytes_of(object);
            put_bytes(&mut bytes, &text[..text.len().min(SHOWN)]);
        } else {
            Encoder::new(&mut bytes, Context::NONE).argument(object, false);
        }
        let mut source = retrace_replay::byte_source::SliceSource::new(&bytes);
        let mut notes = if session::is_replaying() { replay::source().notes().clone() } else { Notes::default() };
        Value::decode(&mut source, &mut notes).unwrap_or(Value::Null)
    }
}

/// # Safety
/// Recording; the GIL is held; the thread is not external.
pub unsafe fn record(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let before = schedule::native_calls_made();
        let result = call.invoke();
        if session::is_recording() && schedule::native_calls_made() != before {
            let error = SavedError::take();
            session::append_event(&Event::Annotation(describe(call, result, error.value)));
            drop(error);
        }
        result
    }
}

/// # Safety
/// Replaying; the GIL is held; the thread is not external.
pub unsafe fn replay(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let before = schedule::native_calls_made();
        let result = call.invoke();
        if session::is_replaying() && schedule::native_calls_made() != before {
            let error = SavedError::take();
            let met = describe(call, result, error.value);
            let recorded = replay::annotation(call);
            if recorded.at != met.at {
                divergence::other_caller(call, recorded.at, met.at);
            }
            // As they are written: a NaN is equal to itself there.
            let written = |call: &Recorded| {
                let mut bytes = Vec::new();
                call.arguments.iter().flatten().for_each(|value| value.encode(&mut bytes));
                bytes
            };
            if written(&recorded) != written(&met) {
                let values = |call: &Recorded| call.arguments.clone().unwrap_or_default();
                divergence::other_arguments(call, &values(&recorded), &values(&met), replay::is_strict());
            }
            drop(error);
        }
        result
    }
}
