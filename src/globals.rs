//! Types and functions by the names under which `sys.modules` finds them.
//!
//! To look such a name up takes ten thousand instructions: two attributes, and a walk through modules. It is kept, as results
//! are mostly of the same few types (`datetime`, `os.stat_result`) and callbacks of the same functions; to see whether it still
//! finds the object takes a look into two dicts.

use crate::capi::_PyType_Lookup;
use crate::gil::GilCell;
use crate::notes;
use crate::python::{Interned, Owned, SavedError, attribute, loaded_module, string, text};
use pyo3_ffi::*;
use retrace_replay::value::tag;
use rustc_hash::FxHashMap;
use std::ptr;
use std::rc::Rc;

/// How many names are kept: a program may make classes without end.
const KEPT: usize = 512;

struct Known {
    stamp: Stamp,
    /// What the stamp tells apart by address is not to be freed.
    _held: [Owned; 2],
    /// Null for `builtins`.
    module: Owned,
    /// The qualified name, at its dots.
    parts: Box<[Owned]>,
    module_text: Box<str>,
    name_text: Box<str>,
}

/// What an object's name follows from: it has another one when it gets another name, and so has another object in its place.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    /// A type's: CPython gives it another whenever one of its attributes is set, and none twice. 0 is none.
    version: u32,
    /// A function's.
    module: *mut PyObject,
    /// A function's, or that of a type which was not there at compile time.
    qualified: *mut PyObject,
}

static MODULE: Interned = Interned::new(c"__module__");
/// By object.
static KNOWN: GilCell<Option<FxHashMap<usize, Rc<Known>>>> = GilCell::new(None);

/// Writes a type or function by its name; `false`, and nothing is written, where no name finds it.
///
/// # Safety
/// As [`named`].
pub unsafe fn put_global(out: &mut Vec<u8>, object: *mut PyObject) -> bool {
    // SAFETY: by contract.
    let put = unsafe {
        named(object, |module, name| {
            out.push(tag::GLOBAL);
            notes::put_name(out, module);
            notes::put_name(out, name);
        })
    };
    put.is_some()
}

/// Whether a name finds this very object.
///
/// # Safety
/// As [`named`].
pub unsafe fn is_global(object: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe { named(object, |_, _| ()).is_some() }
}

/// Calls `then` with the module and the qualified name under which `sys.modules` finds this very object, if there are such.
/// Imports nothing.
///
/// # Safety
/// `object` is live; the GIL is held, and the thread is marked external.
unsafe fn named<T>(object: *mut PyObject, then: impl FnOnce(&str, &str) -> T) -> Option<T> {
    // SAFETY: by contract.
    unsafe {
        if let Some(known) = kept(object) {
            return Some(then(&known.module_text, &known.name_text));
        }
        let (module, name) = look_up(object)?;
        keep(object, &module, &name);
        Some(then(&module, &name))
    }
}

/// The module and qualified name under which `sys.modules` finds this very object.
unsafe fn look_up(object: *mut PyObject) -> Option<(String, String)> {
    // SAFETY: by the contract of `named`.
    unsafe {
        let saved = SavedError::take();
        let module = text(attribute(object, c"__module__").0);
        let mut name = text(attribute(object, c"__qualname__").0);
        if name.is_empty() {
            name = text(attribute(object, c"__name__").0);
        }
        let module = if module.is_empty() { "builtins".to_owned() } else { module };
        let found = resolve_global(&module, &name);
        drop(saved);
        (found.0 == object && !name.is_empty()).then_some((module, name))
    }
}

/// What `module` has under a dotted name; null where the module is not loaded or has no such name.
///
/// # Safety
/// The GIL is held.
pub unsafe fn resolve_global(module: &str, name: &str) -> Owned {
    // SAFETY: by contract.
    unsafe {
        if module == "builtins" {
            // At shutdown the module is emptied while objects still die.
            let key = string(name);
            return Owned::borrowed(PyDict_GetItemWithError(crate::start::builtins(), key.0));
        }
        let mut object = Owned::borrowed(loaded_module(module));
        for part in name.split('.') {
            if object.is_null() {
                break;
            }
            let key = string(part);
            let next = PyObject_GetAttr(object.0, key.0);
            if next.is_null() {
                PyErr_Clear();
            }
            object = Owned(next);
        }
        object
    }
}

/// What was kept of the object's name, if that still finds it.
unsafe fn kept(object: *mut PyObject) -> Option<Rc<Known>> {
    // SAFETY: by the contract of `named`. A look into a dict may run code, which may have the name forgotten.
    unsafe {
        let known = Rc::clone(KNOWN.get().as_ref()?.get(&(object as usize))?);
        if stamp(object) != Some(known.stamp) {
            return None;
        }
        let saved = SavedError::take();
        let found = find(known.module.0, &known.parts);
        PyErr_Clear();
        drop(saved);
        (found == object).then_some(known)
    }
}

/// Borrowed; null where something is not there, or on the way there is what may answer otherwise than its dict.
unsafe fn find(module: *mut PyObject, parts: &[Owned]) -> *mut PyObject {
    // SAFETY: the GIL is held; `parts` are str, and so is `module` where it is not null.
    unsafe {
        let Some((first, rest)) = parts.split_first() else { return ptr::null_mut() };
        let dict = if module.is_null() {
            crate::start::builtins()
        } else {
            let modules = PyImport_GetModuleDict();
            let module = if modules.is_null() { modules } else { PyDict_GetItemWithError(modules, module) };
            if module.is_null() || PyModule_CheckExact(module) == 0 {
                return ptr::null_mut();
            }
            PyModule_GetDict(module)
        };
        let mut object = PyDict_GetItemWithError(dict, first.0);
        for part in rest {
            if object.is_null() || PyType_CheckExact(object) == 0 {
                return ptr::null_mut();
            }
            object = _PyType_Lookup(object.cast(), part.0);
        }
        object
    }
}

unsafe fn keep(object: *mut PyObject, module: &str, name: &str) {
    // SAFETY: by the contract of `named`.
    unsafe {
        if PyType_CheckExact(object) != 0 {
            // The first look for an attribute of its instances gives a type its version.
            _PyType_Lookup(object.cast(), MODULE.get());
        }
        let Some(stamp) = stamp(object) else { return };
        let known = Known {
            stamp,
            _held: [Owned::borrowed(stamp.module), Owned::borrowed(stamp.qualified)],
            module: if module == "builtins" { Owned(ptr::null_mut()) } else { interned(module) },
            parts: name.split('.').map(|part| interned(part)).collect(),
            module_text: module.into(),
            name_text: name.into(),
        };
        if (known.module.is_null() && module != "builtins") || known.parts.iter().any(Owned::is_null) {
            return PyErr_Clear();
        }
        let all = KNOWN.get().get_or_insert_default();
        if all.len() == KEPT {
            all.clear();
        }
        all.insert(object as usize, Rc::new(known));
    }
}

/// The string that a dict of names most likely has for a key: it is found by its address then.
unsafe fn interned(text: &str) -> Owned {
    // SAFETY: the GIL is held; ours is exchanged for the interned one.
    unsafe {
        let mut text = string(text);
        if !text.is_null() {
            PyUnicode_InternInPlace(&raw mut text.0);
        }
        text
    }
}

/// `None` of what may have another name at any time: instances of metaclasses, of whatever else is callable.
unsafe fn stamp(object: *mut PyObject) -> Option<Stamp> {
    // SAFETY: by the contract of `named`; the layouts are those of the types checked for.
    unsafe {
        if PyFunction_Check(object) != 0 {
            let function = object.cast::<PyFunctionObject>();
            let (module, qualified) = ((*function).func_module, (*function).func_qualname);
            // To keep what the program has put there instead would be noticed.
            let are_plain =
                !module.is_null() && PyUnicode_CheckExact(module) != 0 && PyUnicode_CheckExact(qualified) != 0;
            return are_plain.then_some(Stamp { version: 0, module, qualified });
        }
        if PyType_CheckExact(object) == 0 || (*object.cast::<PyTypeObject>()).tp_version_tag == 0 {
            return None;
        }
        let class = object.cast::<PyTypeObject>();
        let is_heap = (*class).tp_flags & Py_TPFLAGS_HEAPTYPE != 0;
        let qualified = if is_heap { (*class.cast::<PyHeapTypeObject>()).ht_qualname } else { ptr::null_mut() };
        if is_heap && PyUnicode_CheckExact(qualified) == 0 {
            return None;
        }
        Some(Stamp { version: (*class).tp_version_tag, module: ptr::null_mut(), qualified })
    }
}
