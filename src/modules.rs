//! Hooking what a module has at the boundary, when the session starts and whenever an extension module is created.

use crate::call::Call;
use crate::external;
use crate::hook;
use crate::patch::Refused;
use crate::python::{Owned, loaded_module, text};
use crate::session::{self, Mode};
use pyo3_ffi::*;
use retrace_abi::MINOR;
use retrace_abi::boundary::{Boundary, Entry, ModuleTable, Treatment, TypeTreatment};
use std::ffi::CStr;
use std::ptr;

static mut BOUNDARY: Boundary = Boundary::new(MINOR, &[]);

/// The boundary in force.
///
/// # Safety
/// The GIL is held.
pub unsafe fn boundary() -> Boundary {
    // SAFETY: by contract.
    unsafe { BOUNDARY }
}

/// Puts a user's tables over the shipped ones. Before anything is hooked.
///
/// # Safety
/// The GIL is held.
pub unsafe fn set_user_tables(tables: &'static [ModuleTable]) {
    // SAFETY: by contract.
    unsafe { BOUNDARY = Boundary::new(MINOR, tables) };
}

/// Hooks every loaded module that the boundary names, and the import system's creation of more.
///
/// # Safety
/// The GIL is held; no session is active yet.
pub unsafe fn hook_loaded() -> Result<(), String> {
    // SAFETY: by contract.
    unsafe {
        watch_creation()?;
        let boundary = boundary();
        for table in boundary.modules() {
            let module = loaded_module(table.module);
            if !module.is_null() {
                hook_module(table.module, module)?;
            }
        }
        hook::repoint_bound_functions();
        Ok(())
    }
}

static WATCHED: Entry = Entry::new("", Treatment::Pass);
static mut WATCHING: bool = false;

/// `_imp.create_dynamic` and its like stay live; they are hooked to learn of new modules.
unsafe fn watch_creation() -> Result<(), String> {
    // SAFETY: by the contract of `hook_loaded`.
    unsafe {
        if std::mem::replace(&mut *(&raw mut WATCHING), true) {
            return Ok(());
        }
        let imp = loaded_module("_imp");
        for name in [c"create_dynamic", c"exec_dynamic", c"create_builtin", c"exec_builtin"] {
            let function = if imp.is_null() { Owned(ptr::null_mut()) } else { crate::python::attribute(imp, name) };
            if function.is_null() || PyCFunction_Check(function.0) == 0 {
                continue;
            }
            let full_name = format!("_imp.{}", name.to_string_lossy());
            hook::hook_function(function.0, full_name.clone(), &WATCHED).map_err(|why| refused(&full_name, why))?;
        }
        Ok(())
    }
}

fn refused(name: &str, why: Refused) -> String {
    format!("{name} can't be hooked: {why}")
}

/// Whether a hook is one of [`watch_creation`]'s.
pub fn is_watch(hook: &hook::Hook) -> bool {
    ptr::eq(hook.entry, &raw const WATCHED)
}

/// A module is created or executed: live, as internal code; then what it has at the boundary is hooked.
///
/// # Safety
/// Called by `cross` with the GIL held.
pub unsafe fn created(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let thread = crate::thread::current();
        if session::mode() == Mode::Off || thread.external {
            return call.invoke();
        }
        let local = if session::is_replaying() { crate::start::local_extension(call) } else { None };
        let result = call.invoke();
        drop(local);
        if result.is_null() {
            return result;
        }
        let module = if PyModule_Check(result) != 0 { result } else { call.args.first().copied().unwrap_or(result) };
        if PyModule_Check(module) == 0 {
            return result;
        }
        retrace_abi::identity::retrace_identity_extension_loaded(module);
        let name = CStr::from_ptr(PyModule_GetName(module)).to_string_lossy().into_owned();
        if name == "gc" {
            retrace_abi::collector::retrace_collector_gc_module(module);
        }
        if boundary().tables(&name).next().is_some()
            && let Err(why) = hook_module(&name, module)
            && session::is_recording()
        {
            session::stop(&why);
        }
        if session::is_recording() {
            crate::record::announce_hooks();
        }
        result
    }
}

/// Hooks a module's functions and types in place. Idempotent.
///
/// # Safety
/// The GIL is held; `module` is live.
pub unsafe fn hook_module(name: &str, module: *mut PyObject) -> Result<(), String> {
    // SAFETY: by contract; the values are taken as a list because hooking may run Python.
    unsafe {
        let boundary = boundary();
        let values = Owned(PyDict_Values(PyModule_GetDict(module)));
        if values.is_null() {
            PyErr_Clear();
            return Err(format!("{name} has no dictionary"));
        }
        let mut types = Vec::new();
        for i in 0..PyList_GET_SIZE(values.0) {
            let value = PyList_GET_ITEM(values.0, i);
            if PyCFunction_Check(value) != 0 {
                let function = hook::function_name(value);
                let entry = boundary.tables(name).find_map(|table| table.function(&function, MINOR));
                let entry = match entry {
                    Some(entry) => entry,
                    // A default, from a user's file: given to each callable under its own name.
                    None => match boundary.function(name, String::leak(function.clone())) {
                        Some(entry) => Box::leak(Box::new(entry)),
                        None => continue,
                    },
                };
                if entry.treatment == Treatment::Record || entry.terminal {
                    let full_name = format!("{name}.{function}");
                    hook::hook_function(value, full_name.clone(), entry).map_err(|why| refused(&full_name, why))?;
                }
            } else if PyType_Check(value) != 0 {
                types.push(value.cast::<PyTypeObject>());
            }
        }
        hook_types(name, &types)
    }
}

unsafe fn hook_types(name: &str, types: &[*mut PyTypeObject]) -> Result<(), String> {
    // SAFETY: by the contract of `hook_module`.
    unsafe {
        let mut hidden: Option<Owned> = None;
        for table in boundary().tables(name).flat_map(|table| table.types) {
            if table.versions & retrace_abi::boundary::version_bit(MINOR) == 0 {
                continue;
            }
            if table.treatment == TypeTreatment::Internal && table.methods.is_empty() {
                continue;
            }
            let has_name =
                |class: *mut PyTypeObject| CStr::from_ptr((*class).tp_name).to_bytes() == table.name.as_bytes();
            let mut class = types.iter().copied().find(|&class| has_name(class));
            if class.is_none() {
                let subclasses = hidden.get_or_insert_with(|| {
                    let list = PyObject_CallMethod(
                        (&raw mut PyType_Type).cast(),
                        c"__subclasses__".as_ptr(),
                        c"O".as_ptr(),
                        (&raw mut PyBaseObject_Type).cast::<PyObject>(),
                    );
                    if list.is_null() {
                        PyErr_Clear();
                    }
                    Owned(list)
                });
                if !subclasses.is_null() {
                    class = (0..PyList_GET_SIZE(subclasses.0))
                        .map(|i| PyList_GET_ITEM(subclasses.0, i).cast::<PyTypeObject>())
                        .find(|&class| has_name(class));
                }
            }
            let Some(class) = class else { continue };
            // 3.11's `_socket.socket` is first readied by its first use.
            if (*class).tp_flags & Py_TPFLAGS_READY == 0 && PyType_Ready(class) < 0 {
                PyErr_Clear();
                continue;
            }
            let hooked = match table.treatment {
                TypeTreatment::External => external::hook_external_type(class, table),
                TypeTreatment::Internal => external::hook_internal_type(class, table),
            };
            hooked.map_err(|why| refused(table.name, why))?;
        }
        Ok(())
    }
}

/// The names in `sys.modules`, in order.
///
/// # Safety
/// The GIL is held.
pub unsafe fn loaded_names() -> Vec<String> {
    // SAFETY: by contract.
    unsafe {
        let names = Owned(PyDict_Keys(PyImport_GetModuleDict()));
        if names.is_null() {
            PyErr_Clear();
            return Vec::new();
        }
        (0..PyList_GET_SIZE(names.0)).map(|i| text(PyList_GET_ITEM(names.0, i))).collect()
    }
}
