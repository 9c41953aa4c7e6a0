//! The pickler, for values that have no form of their own in the trace. Loaded at the start of a session, in both
//! directions; what that leaves in `sys.modules` and in the path importers' cache is taken out again, because the program
//! did not import it.

use crate::python::{Owned, SavedError};
use pyo3_ffi::*;
use std::ptr;

static mut DUMPS: *mut PyObject = ptr::null_mut();
static mut LOADS: *mut PyObject = ptr::null_mut();

/// What imports leave behind. Ours must leave nothing: the program did not make them, and replay, where the folders
/// are others, would not leave the same.
pub struct ImportState {
    modules: Py_ssize_t,
    importers: Py_ssize_t,
}

impl ImportState {
    /// # Safety
    /// The GIL is held.
    pub unsafe fn now() -> ImportState {
        // SAFETY: by contract.
        unsafe {
            ImportState { modules: PyDict_Size(PyImport_GetModuleDict()), importers: PyDict_Size(importers_cache()) }
        }
    }

    /// Takes out again what was imported since. Modules and importers are kept alive: what was made of them uses them.
    ///
    /// # Safety
    /// As [`ImportState::now`].
    pub unsafe fn restore(self) {
        // SAFETY: by contract; both dictionaries are in order of insertion, so what is new is at the end.
        unsafe {
            let modules = PyImport_GetModuleDict();
            if PyDict_Size(modules) == self.modules {
                return;
            }
            let saved = SavedError::take();
            drop_tail(modules, self.modules);
            drop_tail(importers_cache(), self.importers);
            crate::start::invalidate_finders();
            drop(saved);
        }
    }
}

unsafe fn importers_cache() -> *mut PyObject {
    // SAFETY: the GIL is held; borrowed, and never missing while the interpreter runs.
    unsafe { PySys_GetObject(c"path_importer_cache".as_ptr()) }
}

unsafe fn drop_tail(dict: *mut PyObject, length: Py_ssize_t) {
    // SAFETY: the GIL is held; the keys are taken as a list.
    unsafe {
        if dict.is_null() {
            return;
        }
        let keys = Owned(PyDict_Keys(dict));
        for i in length..PyList_GET_SIZE(keys.0) {
            let key = PyList_GET_ITEM(keys.0, i);
            Py_XINCREF(PyDict_GetItemWithError(dict, key));
            if PyDict_DelItem(dict, key) < 0 {
                PyErr_Clear();
            }
        }
    }
}

/// Loads `_pickle`; false where that fails.
///
/// # Safety
/// The GIL is held; no session is active.
pub unsafe fn load() -> bool {
    // SAFETY: by contract.
    unsafe {
        let before = ImportState::now();
        let module = Owned(PyImport_ImportModule(c"_pickle".as_ptr()));
        if module.is_null() {
            PyErr_Clear();
            return false;
        }
        DUMPS = PyObject_GetAttrString(module.0, c"dumps".as_ptr());
        LOADS = PyObject_GetAttrString(module.0, c"loads".as_ptr());
        before.restore();
        !DUMPS.is_null() && !LOADS.is_null()
    }
}

/// The object's pickle as bytes, or null without an exception.
///
/// # Safety
/// `object` is live; the GIL is held, and the thread is marked external.
pub unsafe fn dumps(object: *mut PyObject) -> Owned {
    // SAFETY: by contract.
    unsafe {
        let saved = SavedError::take();
        let imports = ImportState::now();
        let bytes = PyObject_CallFunction(DUMPS, c"Oi".as_ptr(), object, 4);
        if bytes.is_null() {
            PyErr_Clear();
        }
        imports.restore();
        drop(saved);
        Owned(bytes)
    }
}

/// The object of a pickle, or null with an exception.
///
/// # Safety
/// The GIL is held, and the thread is marked external.
pub unsafe fn loads(pickled: &[u8]) -> *mut PyObject {
    // SAFETY: by contract; the length is the slice's.
    unsafe {
        let bytes = Owned(PyBytes_FromStringAndSize(pickled.as_ptr().cast(), pickled.len() as Py_ssize_t));
        let imports = ImportState::now();
        let object = PyObject_CallOneArg(LOADS, bytes.0);
        imports.restore();
        object
    }
}
