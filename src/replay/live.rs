//! What a call returns that is answered from the log and made as well: the log's value, of the objects of the live one.

use crate::python::Owned;
use pyo3_ffi::*;

/// Puts the live result's code objects and strings in the place of equal ones of the recorded result. Which of them are the
/// same object shows in what is made of them: `marshal` refers back, so the size of a profile depends on it.
///
/// # Safety
/// The GIL is held; nobody else has seen `recorded` yet; either may be null.
pub unsafe fn share(recorded: *mut PyObject, live: *mut PyObject) {
    // SAFETY: by contract; no code of the program's runs.
    unsafe {
        if recorded.is_null() || live.is_null() {
            return;
        }
        let known = Owned(PyDict_New());
        each_item(live, &mut |slot| {
            PyDict_SetDefault(known.0, *slot, *slot);
        });
        if PyDict_Size(known.0) > 0 {
            each_item(recorded, &mut |slot| {
                let found = PyDict_GetItemWithError(known.0, *slot);
                if !found.is_null() {
                    Py_INCREF(found);
                    Py_DECREF(std::ptr::replace(slot, found));
                }
            });
        }
        PyErr_Clear();
    }
}

/// Calls `see` with where each code object and string is in lists and tuples within each other.
unsafe fn each_item(value: *mut PyObject, see: &mut dyn FnMut(*mut *mut PyObject)) {
    // SAFETY: by the contract of `share`; the items of a list or tuple lie side by side.
    unsafe {
        let items = match (PyList_Check(value), PyTuple_Check(value)) {
            (0, 0) => return,
            (0, _) => (*value.cast::<PyTupleObject>()).ob_item.as_mut_ptr(),
            _ => (*value.cast::<PyListObject>()).ob_item,
        };
        for i in 0..Py_SIZE(value).unsigned_abs() {
            let slot = items.add(i);
            if (*slot).is_null() {
                continue;
            }
            if PyCode_Check(*slot) != 0 || PyUnicode_CheckExact(*slot) != 0 {
                see(slot);
            } else {
                each_item(*slot, see);
            }
        }
    }
}
