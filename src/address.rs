//! Addresses that the program asked for (`id()`): on replay a number stands for the object that had it when recorded.
//!
//! Code that the recorded program never ran, which a debugger evaluates, asks for itself; it must get the same numbers,
//! as the program's own dictionaries have them for keys.

use crate::call::Call;
use crate::gil::GilCell;
use pyo3_ffi::*;
use std::collections::HashMap;

/// The recorded number by the argument's address here; what has died meanwhile is replaced by what is asked for at the
/// same place.
static RECORDED: GilCell<Option<HashMap<usize, i64>>> = GilCell::new(None);

/// What the recording answered.
///
/// # Safety
/// The GIL is held; `result` is what replay returns from `call`, an int.
pub unsafe fn remember(call: &Call, result: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        let number = PyLong_AsLongLong(result);
        if let [object] = call.args {
            RECORDED.get().get_or_insert_default().insert(*object as usize, number);
        }
    }
}

/// The answer in a diversion.
///
/// # Safety
/// The GIL is held.
pub unsafe fn diverted(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let recorded = match call.args {
            [object] => RECORDED.get().as_ref().and_then(|recorded| recorded.get(&(*object as usize))),
            _ => None,
        };
        recorded.map_or_else(|| call.invoke(), |&number| PyLong_FromLongLong(number))
    }
}
