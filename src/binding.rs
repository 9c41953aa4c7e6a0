//! Internal objects that external code keeps: named by the call that they were given to and their place among its
//! arguments. Only calls whose boundary entry says `keeps` are counted, alike in both directions.

use crate::call::Call;
use crate::gil::GilCell;
use pyo3_ffi::*;
use std::collections::HashMap;
use std::ptr;

#[derive(Default)]
struct Bindings {
    /// Recording: object to name. The weak reference tells a dead object's address from a live one's.
    names: HashMap<usize, ((u64, u64), *mut PyObject)>,
    /// Replaying: name to object, a strong reference: the external code that kept it is not here to keep it.
    objects: HashMap<(u64, u64), *mut PyObject>,
    calls: u64,
}

static BINDINGS: GilCell<Option<Bindings>> = GilCell::new(None);

unsafe fn bindings() -> &'static mut Bindings {
    // SAFETY: only with the GIL held, never kept across a call into Python.
    unsafe { BINDINGS.get().get_or_insert_with(Bindings::default) }
}

/// Names an object that no such call gave away, as the argument of a call of its own. Alike in both directions.
///
/// # Safety
/// In a session; the GIL is held; `object` is live.
pub unsafe fn bind(object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        let serial = next_call();
        if (*Py_TYPE(object)).tp_weaklistoffset != 0 {
            name(object, (serial, 0));
        }
    }
}

unsafe fn next_call() -> u64 {
    // SAFETY: the GIL is held.
    unsafe {
        let bindings = bindings();
        bindings.calls += 1;
        bindings.calls - 1
    }
}

unsafe fn name(object: *mut PyObject, name: (u64, u64)) {
    // SAFETY: the GIL is held; the object has weak references.
    unsafe {
        if crate::session::is_replaying() {
            Py_INCREF(object);
            bindings().objects.insert(name, object);
            return;
        }
        let weak = PyWeakref_NewRef(object, ptr::null_mut());
        if weak.is_null() {
            PyErr_Clear();
        } else if let Some((_, old)) = bindings().names.insert(object as usize, (name, weak)) {
            Py_DECREF(old);
        }
    }
}

/// Names the internal objects among a call's arguments.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn bind_arguments(call: &Call) {
    // SAFETY: by contract.
    unsafe {
        let serial = next_call();
        for (i, &arg) in call.args.iter().enumerate() {
            let class = Py_TYPE(arg);
            let is_static = PyType_Check(arg) != 0 && (*arg.cast::<PyTypeObject>()).tp_flags & Py_TPFLAGS_HEAPTYPE == 0;
            if arg != Py_None()
                && (*class).tp_weaklistoffset != 0
                && !is_static
                && crate::external::of_class(class).is_none()
            {
                name(arg, (serial, i as u64));
            }
        }
    }
}

/// A call of internal code which keeps what external code calls later.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn call(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        bind_arguments(call);
        call.invoke()
    }
}

/// The name of an object that was bound and still lives.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn name_of(object: *mut PyObject) -> Option<(u64, u64)> {
    // SAFETY: by contract.
    unsafe {
        let &(name, weak) = bindings().names.get(&(object as usize))?;
        (PyWeakref_GetObject(weak) == object).then_some(name)
    }
}

/// The object of a name, borrowed; null where there is none.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn object_of(call: u64, argument: u64) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe { bindings().objects.get(&(call, argument)).copied().unwrap_or(ptr::null_mut()) }
}
