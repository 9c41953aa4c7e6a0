//! The pickler, for values that have no form of their own in the trace. Loaded at the start of a session, in both
//! directions; what that leaves in `sys.modules` and in the path importers' cache is taken out again, because the program
//! did not import it.

use crate::python::{Owned, SavedError, string};
use pyo3_ffi::*;
use std::ptr;

static mut DUMPS: *mut PyObject = ptr::null_mut();
static mut LOADS: *mut PyObject = ptr::null_mut();

/// Loads `_pickle`; false where that fails.
///
/// # Safety
/// The GIL is held; no session is active.
pub unsafe fn load() -> bool {
    // SAFETY: by contract.
    unsafe {
        let before: std::collections::HashSet<String> = crate::modules::loaded_names().into_iter().collect();
        let cache = PySys_GetObject(c"path_importer_cache".as_ptr());
        let importers = Owned(if cache.is_null() { ptr::null_mut() } else { PyDict_Copy(cache) });
        let module = Owned(PyImport_ImportModule(c"_pickle".as_ptr()));
        if module.is_null() {
            PyErr_Clear();
            return false;
        }
        DUMPS = PyObject_GetAttrString(module.0, c"dumps".as_ptr());
        LOADS = PyObject_GetAttrString(module.0, c"loads".as_ptr());
        let modules = PyImport_GetModuleDict();
        for name in crate::modules::loaded_names() {
            if !before.contains(&name) {
                let name = string(&name);
                // Kept alive: the pickler's functions use what it imported.
                Py_XINCREF(PyDict_GetItemWithError(modules, name.0));
                if PyDict_DelItem(modules, name.0) < 0 {
                    PyErr_Clear();
                }
            }
        }
        if !importers.is_null() {
            PyDict_Clear(cache);
            PyDict_Update(cache, importers.0);
        }
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
        let bytes = PyObject_CallFunction(DUMPS, c"Oi".as_ptr(), object, 4);
        if bytes.is_null() {
            PyErr_Clear();
        }
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
        PyObject_CallOneArg(LOADS, bytes.0)
    }
}
