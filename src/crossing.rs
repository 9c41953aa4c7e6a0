//! C callables and iterators that cross the boundary as arguments. Where external code calls them they enter no frame, so
//! the frame evaluator does not see it; what they do (`list.append`, a cache's miss, a file that is iterated over) is
//! internal all the same. Each is hooked when it crosses: a callable by the vectorcall pointer that it has of its own,
//! where it has one; else by its type's slot. Only recording needs it: a replay makes the call because the log says so.

use crate::binding;
use crate::call::Call;
use crate::callback;
use crate::capi::_PyType_Lookup;
use crate::encode::Encoder;
use crate::external;
use crate::external_function;
use crate::gil::GilCell;
use crate::patch;
use crate::python::{Interned, SavedError};
use crate::session::{self, Mode};
use crate::thread;
use pyo3_ffi::*;
use retrace_abi::CFunction;
use retrace_replay::event::code;
use retrace_replay::value::{put_varint, tag};
use rustc_hash::FxHashMap;
use std::ffi::c_void;
use std::ptr;

#[derive(Default)]
struct Originals {
    /// By object. A stale entry's object is gone, and whatever lies there now has a pointer of its own again.
    vectorcalls: FxHashMap<usize, vectorcallfunc>,
    /// By type.
    calls: FxHashMap<usize, ternaryfunc>,
    /// By type.
    nexts: FxHashMap<usize, iternextfunc>,
    /// By definition, a builtin function's: the same for those that are called from the body of a declared function.
    definitions: FxHashMap<usize, *mut PyMethodDef>,
}

static CALL: Interned = Interned::new(c"__call__");
static NEXT: Interned = Interned::new(c"__next__");

static ORIGINALS: GilCell<Option<Originals>> = GilCell::new(None);

unsafe fn originals() -> &'static mut Originals {
    // SAFETY: only with the GIL held, never kept across a call into Python.
    unsafe { ORIGINALS.get().get_or_insert_with(Originals::default) }
}

/// Sees to it that what external code does with the arguments of a call is noticed.
///
/// # Safety
/// Recording; the GIL is held; the call's references are live.
pub unsafe fn watch_arguments(call: &Call) {
    // SAFETY: by contract.
    unsafe {
        for &argument in call.args {
            let class = Py_TYPE(argument);
            let callable = (*class).tp_call.is_some();
            let iterator = (*class).tp_iternext.is_some();
            if (!callable && !iterator) || !is_internal_c(argument) {
                continue;
            }
            if callable && is_written_in_c(class, &CALL) {
                watch_callable(argument);
                if external_function::is_body(call) && PyCFunction_Check(argument) != 0 {
                    despecialize(argument.cast());
                }
            }
            if iterator && is_written_in_c(class, &NEXT) {
                watch_iterator(class);
            }
        }
    }
}

/// Whether frames do not show what is done with the object, and it is not external itself.
unsafe fn is_internal_c(object: *mut PyObject) -> bool {
    // SAFETY: by contract of the caller.
    unsafe {
        PyFunction_Check(object) == 0
            && PyType_Check(object) == 0
            && !crate::capi::is_method(object)
            && PyGen_Check(object) == 0
            && PyCoro_CheckExact(object) == 0
            && external::of_class(Py_TYPE(object)).is_none()
    }
}

unsafe fn is_written_in_c(class: *mut PyTypeObject, name: &Interned) -> bool {
    // SAFETY: by contract of the caller; the method is borrowed.
    unsafe {
        if (*class).tp_flags & Py_TPFLAGS_IMMUTABLETYPE != 0 {
            return true;
        }
        let method = _PyType_Lookup(class, name.get());
        !method.is_null() && Py_TYPE(method) == &raw mut PyWrapperDescr_Type
    }
}

unsafe fn watch_callable(callable: *mut PyObject) {
    // SAFETY: by contract of `watch_arguments`; the offset is that of the type's instances.
    unsafe {
        let class = Py_TYPE(callable);
        if (*class).tp_flags & Py_TPFLAGS_HAVE_VECTORCALL != 0 {
            let place = callable.cast::<u8>().offset((*class).tp_vectorcall_offset).cast::<Option<vectorcallfunc>>();
            match *place {
                Some(original) if ptr::fn_addr_eq(original, vectorcalled as vectorcallfunc) => return,
                Some(original) => {
                    originals().vectorcalls.insert(callable as usize, original);
                    *place = Some(vectorcalled);
                    return;
                }
                None => {}
            }
        }
        let Some(original) = (*class).tp_call else { return };
        if !ptr::fn_addr_eq(original, called as ternaryfunc) {
            originals().calls.insert(class as usize, original);
            put_slot(class, (&raw mut (*class).tp_call).cast(), called as *mut c_void);
        }
    }
}

/// Python code that calls a builtin function again and again comes to call its C function directly
/// (CALL_NO_KW_BUILTIN_O and its like in Python/bytecodes.c), but only where its flags are the plain ones. METH_COEXIST
/// is for making methods, and says nothing in a function that is made.
unsafe fn despecialize(function: *mut CFunction) {
    // SAFETY: by contract of `watch_arguments`; the copy is never freed, and another one is made for each definition
    // only.
    unsafe {
        let definition = (*function).m_ml;
        if (*definition).ml_flags & METH_COEXIST == 0 {
            let copy = originals().definitions.entry(definition as usize).or_insert_with(|| {
                let mut copy = ptr::read(definition);
                copy.ml_flags |= METH_COEXIST;
                Box::into_raw(Box::new(copy))
            });
            (*function).m_ml = *copy;
        }
    }
}

unsafe fn watch_iterator(class: *mut PyTypeObject) {
    // SAFETY: by contract of `watch_arguments`.
    unsafe {
        let Some(original) = (*class).tp_iternext else { return };
        if !ptr::fn_addr_eq(original, advanced as iternextfunc) {
            originals().nexts.insert(class as usize, original);
            put_slot(class, (&raw mut (*class).tp_iternext).cast(), advanced as *mut c_void);
        }
    }
}

unsafe fn put_slot(class: *mut PyTypeObject, place: *mut *mut c_void, function: *mut c_void) {
    // SAFETY: by contract of `watch_arguments`; `place` is a slot of `class` that holds a function of that type.
    unsafe {
        if patch::write(place, function).is_ok() {
            PyType_Modified(class);
        }
    }
}

/// The original of the object's type, or of the nearest base that has one: a subclass may have inherited our pointer.
unsafe fn inherited<F: Copy>(known: &FxHashMap<usize, F>, object: *mut PyObject) -> Option<F> {
    // SAFETY: a live object's type and bases.
    unsafe {
        let mut class = Py_TYPE(object);
        while !class.is_null() {
            if let Some(&original) = known.get(&(class as usize)) {
                return Some(original);
            }
            class = (*class).tp_base;
        }
        None
    }
}

unsafe extern "C" fn vectorcalled(
    callable: *mut PyObject,
    args: *const *mut PyObject,
    n: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held, through the pointer that we put there.
    unsafe {
        let Some(&original) = originals().vectorcalls.get(&(callable as usize)) else { return ptr::null_mut() };
        let put = |encoder: &mut Encoder| {
            let positional = PyVectorcall_NARGS(n);
            put_tuple(encoder, (0..positional).map(|i| *args.offset(i)));
            let count = if names.is_null() { 0 } else { PyTuple_GET_SIZE(names) };
            put_dict(encoder, (0..count).map(|i| (PyTuple_GET_ITEM(names, i), *args.offset(positional + i))));
        };
        cross(callable, put, || original(callable, args, n, names))
    }
}

unsafe extern "C" fn called(callable: *mut PyObject, args: *mut PyObject, keywords: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let Some(original) = inherited(&originals().calls, callable) else { return ptr::null_mut() };
        let put = |encoder: &mut Encoder| {
            put_tuple(encoder, (0..PyTuple_GET_SIZE(args)).map(|i| PyTuple_GET_ITEM(args, i)));
            encoder.value(keywords);
        };
        cross(callable, put, || original(callable, args, keywords))
    }
}

unsafe extern "C" fn advanced(iterator: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let Some(original) = inherited(&originals().nexts, iterator) else { return ptr::null_mut() };
        // No arguments at all: replay asks for the next item then.
        let put = |encoder: &mut Encoder| encoder.out.extend_from_slice(&[tag::NULL, tag::NULL]);
        cross(iterator, put, || original(iterator))
    }
}

/// Calls the original; as a callback where external code does it to what it was given.
unsafe fn cross(
    object: *mut PyObject,
    put_arguments: impl FnOnce(&mut Encoder),
    original: impl FnOnce() -> *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the GIL is held; `object` and its arguments are live.
    unsafe {
        let thread = thread::current();
        // The evaluator is armed inside calls alone: not while a value is encoded.
        if session::mode() != Mode::Recording || !thread.external.get() || !crate::record::is_armed() {
            return original();
        }
        let given = thread.call.get().as_ref().is_some_and(|call| call.args.contains(&object));
        if !given && binding::name_of(object).is_none() {
            return original();
        }
        callback::record(thread, |serial, call| log(serial, object, call, put_arguments), original)
    }
}

unsafe fn log(serial: u64, callable: *mut PyObject, call: Option<&Call>, put_arguments: impl FnOnce(&mut Encoder)) {
    // SAFETY: as in `cross`; the thread is marked external.
    unsafe {
        let saved = SavedError::take();
        let mut event = code::CALLBACK.to_le_bytes().to_vec();
        put_varint(&mut event, serial);
        let mut encoder = Encoder::for_program(&mut event, callback::context(call));
        encoder.value(callable);
        put_arguments(&mut encoder);
        if encoder.opaque > 0 {
            session::count_opaque(encoder.opaque);
        }
        session::append(&[&event]);
        drop(saved);
    }
}

unsafe fn put_tuple(encoder: &mut Encoder, items: impl ExactSizeIterator<Item = *mut PyObject>) {
    encoder.out.push(tag::TUPLE);
    put_varint(encoder.out, items.len() as u64);
    for item in items {
        // SAFETY: as in `cross`.
        unsafe { encoder.value(item) };
    }
}

unsafe fn put_dict(encoder: &mut Encoder, items: impl ExactSizeIterator<Item = (*mut PyObject, *mut PyObject)>) {
    if items.len() == 0 {
        return encoder.out.push(tag::NULL);
    }
    encoder.out.push(tag::DICT);
    put_varint(encoder.out, items.len() as u64);
    for (key, value) in items {
        // SAFETY: as in `cross`.
        unsafe {
            encoder.value(key);
            encoder.value(value);
        }
    }
}
