//! What the garbage collector is shown on replay. C code that keeps objects of the program's shows them to the collector,
//! which so finds a cycle through them: a context of `ssl` whose callback refers to it, or a file of `faulthandler`'s when
//! the modules go. Here that C code keeps nothing; `crate::binding` does, so the type, or the module, shows that as well.

use crate::gil::GilCell;
use crate::{binding, external, patch};
use pyo3_ffi::*;
use rustc_hash::FxHashMap;
use std::ffi::{c_int, c_void};

/// The functions that were replaced.
#[derive(Clone, Copy)]
struct Original {
    traverse: traverseproc,
    clear: Option<inquiry>,
}

/// By the address of the type or of the module's definition.
static ORIGINALS: GilCell<Option<FxHashMap<usize, Original>>> = GilCell::new(None);

unsafe fn originals() -> &'static mut FxHashMap<usize, Original> {
    // SAFETY: only with the GIL held, and never kept across a call.
    unsafe { ORIGINALS.get().get_or_insert_with(FxHashMap::default) }
}

/// From here on `keeper`, a stand-in or a module, shows what is kept for it.
///
/// # Safety
/// Replaying; the GIL is held; `keeper` is live.
pub unsafe fn show_kept(keeper: *mut PyObject) {
    // SAFETY: by contract; the functions that are replaced are of the type of those that replace them. Where only the first
    // can be replaced, a cycle is found and stays.
    unsafe {
        if PyModule_Check(keeper) != 0 {
            let definition = PyModule_GetDef(keeper);
            if definition.is_null() || originals().contains_key(&(definition as usize)) {
                return;
            }
            let Some(traverse) = (*definition).m_traverse else { return };
            let clear = (*definition).m_clear;
            originals().insert(definition as usize, Original { traverse, clear });
            let (place, ours) = (&raw mut (*definition).m_traverse, module_traverse as *mut c_void);
            if patch::write(place.cast(), ours).is_ok() && clear.is_some() {
                let place = &raw mut (*definition).m_clear;
                let _ = patch::write(place.cast(), module_clear as *mut c_void);
            }
            return;
        }
        let Some(class) = external::of_class(Py_TYPE(keeper)).map(|external| external.class) else { return };
        if originals().contains_key(&(class as usize)) {
            return;
        }
        let Some(traverse) = (*class).tp_traverse else { return };
        let clear = (*class).tp_clear;
        originals().insert(class as usize, Original { traverse, clear });
        let ours = stand_in_traverse as *const () as usize;
        if external::replace_function(class, external::TRAVERSE, Some(traverse), ours).is_ok() {
            let ours = stand_in_clear as *const () as usize;
            let _ = external::replace_function(class, external::CLEAR, clear, ours);
        }
    }
}

/// The class at this address is no more.
///
/// # Safety
/// The GIL is held.
pub unsafe fn forget(class: usize) {
    // SAFETY: by contract.
    unsafe { originals().remove(&class) };
}

unsafe fn of_stand_in(object: *mut PyObject) -> Option<Original> {
    // SAFETY: by the contract of its callers.
    unsafe { originals().get(&(external::of_class(Py_TYPE(object))?.class as usize)).copied() }
}

unsafe fn of_module(module: *mut PyObject) -> Option<Original> {
    // SAFETY: by the contract of its callers.
    unsafe { originals().get(&(PyModule_GetDef(module) as usize)).copied() }
}

unsafe fn traverse(original: Option<Original>, object: *mut PyObject, visit: visitproc, data: *mut c_void) -> c_int {
    let Some(original) = original else { return 0 };
    // SAFETY: called by CPython, in the place of the original.
    unsafe {
        match (original.traverse)(object, visit, data) {
            0 => binding::visit_shown(object, |kept| visit(kept, data)),
            result => result,
        }
    }
}

unsafe fn clear(original: Option<Original>, object: *mut PyObject) -> c_int {
    // SAFETY: as `traverse`.
    unsafe {
        let result = original.and_then(|original| original.clear).map_or(0, |clear| clear(object));
        crate::callback::replay_letting_go(|| binding::clear_shown(object));
        result
    }
}

unsafe extern "C" fn stand_in_traverse(object: *mut PyObject, visit: visitproc, data: *mut c_void) -> c_int {
    // SAFETY: as `traverse`.
    unsafe { traverse(of_stand_in(object), object, visit, data) }
}

unsafe extern "C" fn stand_in_clear(object: *mut PyObject) -> c_int {
    // SAFETY: as `traverse`.
    unsafe { clear(of_stand_in(object), object) }
}

unsafe extern "C" fn module_traverse(module: *mut PyObject, visit: visitproc, data: *mut c_void) -> c_int {
    // SAFETY: as `traverse`.
    unsafe { traverse(of_module(module), module, visit, data) }
}

unsafe extern "C" fn module_clear(module: *mut PyObject) -> c_int {
    // SAFETY: as `traverse`.
    unsafe { clear(of_module(module), module) }
}
