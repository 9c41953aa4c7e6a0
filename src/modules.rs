//! Hooking what a module has at the boundary, when the session starts and whenever an extension module is created.

use crate::call::Call;
use crate::external;
use crate::gil::GilCell;
use crate::hook;
use crate::libraries::{self, Extension};
use crate::patch::Refused;
use crate::python::{Owned, loaded_module, text};
use crate::session::{self, Mode};
use pyo3_ffi::*;
use retrace_abi::MINOR;
use retrace_abi::boundary::{Boundary, Entry, ModuleTable, Treatment, TypeTreatment};
use retrace_replay::event::ModuleTreatment;
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
static WATCHING: GilCell<bool> = GilCell::new(false);

/// What stays live and is hooked all the same: `_imp.create_dynamic` and its like, to learn of new modules; where sources
/// pass; where signal handlers are set; and `os.fork`, to know when it is over.
unsafe fn watch_creation() -> Result<(), String> {
    // SAFETY: by the contract of `hook_loaded`.
    unsafe {
        if std::mem::replace(WATCHING.get(), true) {
            return Ok(());
        }
        const WATCH: [(&str, &CStr); 9] = [
            ("_imp", c"create_dynamic"),
            ("_imp", c"exec_dynamic"),
            ("_imp", c"create_builtin"),
            ("_imp", c"exec_builtin"),
            ("_imp", c"_fix_co_filename"),
            ("builtins", c"compile"),
            ("_signal", c"signal"),
            ("_signal", c"getsignal"),
            ("posix", c"fork"),
        ];
        for (module, name) in WATCH {
            let object = loaded_module(module);
            let function =
                if object.is_null() { Owned(ptr::null_mut()) } else { crate::python::attribute(object, name) };
            if function.is_null() || PyCFunction_Check(function.0) == 0 {
                continue;
            }
            let full_name = format!("{module}.{}", name.to_string_lossy());
            hook::hook_function(function.0, full_name.clone(), &WATCHED).map_err(|why| refused(&full_name, why))?;
        }
        Ok(())
    }
}

/// Functions through which every imported source's path passes: the loader names the file when it has unmarshalled
/// bytecode (`_imp._fix_co_filename`) or compiles (`compile`).
fn is_source_notice(call: &Call) -> bool {
    matches!(call.hook.name.as_str(), "_imp._fix_co_filename" | "builtins.compile")
}

/// Has the helper thread store an imported source.
unsafe fn note_source(call: &Call) {
    // SAFETY: by the contract of `created`.
    unsafe {
        let Some(&path) = call.args.get(1) else { return };
        let compiles = call.hook.name == "builtins.compile";
        // The import system compiles the bytes it read; whoever compiles text has made it up.
        if session::is_recording() && (!compiles || PyBytes_Check(call.args[0]) != 0) && PyUnicode_Check(path) != 0 {
            let path = text(path);
            if path.ends_with(".py") {
                session::writer().add_source(path.as_bytes());
            }
        }
    }
}

/// An extension module's file, as recorded traces name it.
pub struct ExtensionFile {
    pub name: String,
    path: String,
    /// The last part of the path.
    pub file: String,
    pub size: u64,
    pub hash: u64,
}

/// The file that `_imp.create_dynamic` is about to load.
unsafe fn extension_file(call: &Call) -> Option<ExtensionFile> {
    // SAFETY: by the contract of `created`.
    unsafe {
        if call.hook.name != "_imp.create_dynamic" {
            return None;
        }
        let spec = *call.args.first()?;
        let name = text(crate::python::attribute(spec, c"name").0);
        let origin = text(crate::python::attribute(spec, c"origin").0);
        let contents = std::fs::read(&origin).ok()?;
        let file = std::path::Path::new(&origin).file_name()?.to_string_lossy().into_owned();
        let (size, hash) = (contents.len() as u64, retrace_replay::content_hash(&contents));
        Some(ExtensionFile { name, path: origin, file, size, hash })
    }
}

/// Whether what a module imports is looked at before its event: it is loaded for that, in both directions, because what
/// its libraries do when they are loaded may be recorded.
unsafe fn is_looked_at(file: &ExtensionFile) -> bool {
    // SAFETY: the GIL is held.
    unsafe { boundary().tables(&file.name).next().is_none() || boundary().is_libc(&file.name) }
}

/// Decides how a module is treated that the recorded program loads, and logs it.
unsafe fn recorded_extension(file: &ExtensionFile) -> Option<Extension> {
    // SAFETY: by the contract of `created`.
    unsafe {
        let opened = if is_looked_at(file) { Extension::open(&file.path) } else { None };
        let (treatment, reasons) = libraries::treatment(&file.name, opened.as_ref());
        crate::record::extension_module(file, treatment, &reasons);
        if treatment == ModuleTreatment::Libc {
            crate::unrecorded::imported(&file.name, &reasons);
        }
        if treatment == ModuleTreatment::Libc
            && let Some(extension) = &opened
        {
            if extension.redirect(boundary().threads(&file.name)) {
                crate::unrecorded::has_free_threads(&file.name);
            }
            annotate(file, &reasons);
            crate::record::announce_hooks();
        }
        if let Some(extension) = &opened {
            extension.divide();
        }
        opened
    }
}

/// Treats a module as it was in the recording.
unsafe fn replayed_extension(file: &ExtensionFile) -> Option<Extension> {
    // SAFETY: by the contract of `created`.
    unsafe {
        let opened = if is_looked_at(file) { Extension::open(&file.path) } else { None };
        let (treatment, imports) = crate::replay::extension_module(file);
        if let Some(extension) = &opened {
            extension.divide();
        }
        let extension = opened.or_else(|| Extension::open(&file.path))?;
        if treatment != ModuleTreatment::Libc {
            extension.answer_pid();
            return Some(extension);
        }
        extension.redirect(boundary().threads(&file.name));
        annotate(file, &imports);
        Some(extension)
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
        if session::mode() == Mode::Off || (thread.external.get() && !thread.body.get()) {
            return call.invoke();
        }
        if call.hook.name == "posix.fork" {
            let result = call.invoke();
            session::after_fork_parent();
            return result;
        }
        if thread.body.get() {
            return call.invoke();
        }
        match call.hook.name.as_str() {
            "_signal.signal" => return crate::signals::set(call),
            "_signal.getsignal" => return crate::signals::get(call),
            _ => {}
        }
        if call.hook.name == "_imp.create_builtin"
            && let Some(module) = crate::external_function::session_module(call)
        {
            return module;
        }
        let local = if session::is_replaying() { crate::start::local_extension(call) } else { None };
        if is_source_notice(call) {
            note_source(call);
            return call.invoke();
        }
        let mut extension = None;
        if let Some(file) = extension_file(call) {
            extension = match session::mode() {
                Mode::Recording => recorded_extension(&file),
                Mode::Replaying => replayed_extension(&file),
                // What is loaded in a diversion is in no recording, and is kept from reaching outside with the rest.
                Mode::Diverted | Mode::Off => None,
            };
        } else if session::is_replaying() && call.hook.name == "_imp.create_dynamic" {
            crate::replay::extension_missing(call);
        }
        let result = call.invoke();
        drop(extension);
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
        if name == "_queue" && !crate::hot::replays() {
            crate::queue_waits::watch(module);
        }
        if boundary().tables(&name).next().is_some()
            && let Err(why) = hook_module(&name, module)
            && session::is_recording()
        {
            session::stop(&why);
        }
        if is_annotated(&name) {
            crate::annotation::hook_module(&name, module);
        }
        if session::is_recording() {
            crate::record::announce_hooks();
        }
        result
    }
}

/// Modules of which calls from Python are logged beside what they call of the C library.
static ANNOTATED: GilCell<Vec<String>> = GilCell::new(Vec::new());

/// Calls into a module that talks to others are worth seeing in a listing; those of one that reads files at most, and
/// computes, are not worth a hook each.
unsafe fn annotate(file: &ExtensionFile, imports: &str) {
    if imports.split(' ').any(|import| import == "connect") {
        // SAFETY: by the contract of `created`.
        unsafe { ANNOTATED.get() }.push(file.name.clone());
    }
}

unsafe fn is_annotated(name: &str) -> bool {
    // SAFETY: by the contract of `created`.
    unsafe { ANNOTATED.get() }.iter().any(|annotated| annotated == name)
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
                if entry.treatment == Treatment::Record || entry.terminal || entry.keeps || entry.unseen {
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
            let mut classes: Vec<_> = types.iter().copied().filter(|&class| has_name(class)).collect();
            if classes.is_empty() {
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
                    // A module that is imported anew has types of its own.
                    let each = (0..PyList_GET_SIZE(subclasses.0)).map(|i| PyList_GET_ITEM(subclasses.0, i).cast());
                    classes.extend(each.filter(|&class| has_name(class)));
                }
            }
            for class in classes {
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
