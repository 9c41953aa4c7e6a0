//! The pickler, for values that have no form of their own in the trace. Loaded at the start of a session, in both
//! directions; what that leaves in `sys.modules` and in the path importers' cache is taken out again, because the program
//! did not import it.

use crate::python::{Owned, SavedError};
use pyo3_ffi::*;
use std::ffi::CStr;
use std::ptr;

static mut DUMPS: *mut PyObject = ptr::null_mut();
static mut LOADS: *mut PyObject = ptr::null_mut();
static mut PICKLER: *mut PyObject = ptr::null_mut();
static mut UNPICKLER: *mut PyObject = ptr::null_mut();
static mut BYTES_IO: *mut PyObject = ptr::null_mut();

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
            begin_use();
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
            end_use();
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
        let io = Owned(PyImport_ImportModule(c"_io".as_ptr()));
        DUMPS = PyObject_GetAttrString(module.0, c"dumps".as_ptr());
        LOADS = PyObject_GetAttrString(module.0, c"loads".as_ptr());
        PICKLER = PyObject_GetAttrString(module.0, c"Pickler".as_ptr());
        UNPICKLER = PyObject_GetAttrString(module.0, c"Unpickler".as_ptr());
        BYTES_IO = if io.is_null() { io.0 } else { PyObject_GetAttrString(io.0, c"BytesIO".as_ptr()) };
        before.restore();
        make_way(module.0);
        ![DUMPS, LOADS, PICKLER, UNPICKLER, BYTES_IO].iter().any(|object| object.is_null())
    }
}

// ---- the program's own module ----
//
// 3.11's `_pickle` finds its state through the interpreter, and a second import gives the same module again: with the tables
// of the `copyreg` that we imported and took out of `sys.modules`. What the program registers in its own would not count.
// So the program's first import makes a new module, and from then on we use that one's state as well.

/// Our module; null where each import makes one anyway.
static mut OURS: *mut PyObject = ptr::null_mut();
static mut MAKE: Option<unsafe extern "C" fn() -> *mut PyObject> = None;
/// How many of our imports and pickles are under way: what is imported for those is not the program's.
static mut USES: u32 = 0;
static mut STANDS_IN: bool = false;

/// Has the program's import of the module make another one.
unsafe fn make_way(module: *mut PyObject) {
    // SAFETY: the GIL is held; the module is live.
    unsafe {
        let definition = PyModule_GetDef(module);
        let is_shared = !definition.is_null() && (*definition).m_slots.is_null();
        let is_the_program_s = !crate::python::loaded_module("_pickle").is_null();
        if !is_shared || is_the_program_s || PyState_FindModule(definition) != module {
            return;
        }
        OURS = Owned::borrowed(module).into_raw();
        MAKE = std::mem::transmute::<
            Option<extern "C" fn() -> *mut PyObject>,
            Option<unsafe extern "C" fn() -> *mut PyObject>,
        >((*definition).m_base.m_init);
        (*definition).m_base.m_init = Some(make_for_program);
    }
}

/// In the place of the module's own function, which returns what the interpreter has of it, if that is anything.
extern "C" fn make_for_program() -> *mut PyObject {
    // SAFETY: called by an import, with the GIL; `make_way` was called before.
    unsafe {
        let Some(make) = MAKE else { return ptr::null_mut() };
        let definition = PyModule_GetDef(OURS);
        let is_program_s = USES == 0 && PyState_FindModule(definition) == OURS;
        if !is_program_s {
            return make();
        }
        PyState_RemoveModule(definition);
        let made = make();
        let saved = SavedError::take();
        if made.is_null() {
            if PyState_FindModule(definition).is_null() {
                PyState_AddModule(OURS, definition);
            }
        } else {
            (*definition).m_base.m_init = std::mem::transmute::<
                Option<unsafe extern "C" fn() -> *mut PyObject>,
                Option<extern "C" fn() -> *mut PyObject>,
            >(Some(make));
        }
        drop(saved);
        made
    }
}

/// While the program's module is being made there is none: ours stands in for it as long as we need one.
unsafe fn begin_use() {
    // SAFETY: the GIL is held.
    unsafe {
        USES += 1;
        if !OURS.is_null() && PyState_FindModule(PyModule_GetDef(OURS)).is_null() {
            STANDS_IN = PyState_AddModule(OURS, PyModule_GetDef(OURS)) == 0;
        }
    }
}

unsafe fn end_use() {
    // SAFETY: the GIL is held.
    unsafe {
        USES -= 1;
        if USES == 0 && STANDS_IN {
            STANDS_IN = false;
            let definition = PyModule_GetDef(OURS);
            if PyState_FindModule(definition) == OURS {
                PyState_RemoveModule(definition);
            }
        }
    }
}

/// Objects of the call that may be found inside a value: there they stay themselves rather than being copied. By their
/// places, which are the persistent ids in a pickle.
pub struct Known(Vec<*mut PyObject>);

impl Known {
    /// The receiver, or its class, which may be null, and the arguments.
    ///
    /// # Safety
    /// The GIL is held; the objects are live as long as this is used.
    pub unsafe fn of(receiver: *mut PyObject, args: &[*mut PyObject]) -> Known {
        // SAFETY: by contract.
        let any = unsafe { is_known(receiver) || args.iter().any(|&object| is_known(object)) };
        Known(if any { std::iter::once(receiver).chain(args.iter().copied()).collect() } else { Vec::new() })
    }

    /// A callable for the pickler, which lives no longer than this.
    unsafe fn function(&self, definition: *mut PyMethodDef) -> Owned {
        // SAFETY: the capsule holds a pointer only.
        unsafe {
            let capsule = Owned(PyCapsule_New(ptr::from_ref(self).cast_mut().cast(), ptr::null(), None));
            Owned(PyCFunction_NewEx(definition, capsule.0, ptr::null_mut()))
        }
    }

    unsafe fn from_capsule<'a>(capsule: *mut PyObject) -> &'a Known {
        // SAFETY: made by `function`.
        unsafe { &*PyCapsule_GetPointer(capsule, ptr::null()).cast::<Known>() }
    }
}

/// Whether it shows that an object was copied: not for numbers, text, and types, which are pickled by name.
unsafe fn has_identity(object: *mut PyObject) -> bool {
    // SAFETY: live or null.
    unsafe {
        !object.is_null()
            && object != Py_None()
            && PyLong_Check(object) == 0
            && PyFloat_Check(object) == 0
            && PyUnicode_Check(object) == 0
            && PyBytes_Check(object) == 0
            && PyType_Check(object) == 0
    }
}

/// Whether a pickle refers to it where it is an object of the call: also to a type that is not where its name says.
unsafe fn is_known(object: *mut PyObject) -> bool {
    // SAFETY: live or null.
    unsafe {
        has_identity(object) || !object.is_null() && PyType_Check(object) != 0 && !crate::globals::is_global(object)
    }
}

unsafe extern "C" fn persistent_id(capsule: *mut PyObject, object: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by the pickler.
    unsafe {
        match Known::from_capsule(capsule).0.iter().position(|&known| known == object && is_known(known)) {
            Some(place) => PyLong_FromSize_t(place),
            None => Owned::borrowed(Py_None()).into_raw(),
        }
    }
}

unsafe extern "C" fn persistent_load(capsule: *mut PyObject, id: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by the unpickler.
    unsafe {
        let place = PyLong_AsSize_t(id);
        match Known::from_capsule(capsule).0.get(place) {
            Some(&known) if !known.is_null() => Owned::borrowed(known).into_raw(),
            _ => {
                PyErr_SetString(PyExc_LookupError, c"an object of the call is missing".as_ptr());
                ptr::null_mut()
            }
        }
    }
}

static mut PERSISTENT_ID: PyMethodDef = definition(c"persistent_id", persistent_id);
static mut PERSISTENT_LOAD: PyMethodDef = definition(c"persistent_load", persistent_load);

const fn definition(name: &'static CStr, function: PyCFunction) -> PyMethodDef {
    PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: PyMethodDefPointer { PyCFunction: function },
        ml_flags: METH_O,
        ml_doc: ptr::null(),
    }
}

/// The object's pickle as bytes, or null without an exception.
///
/// # Safety
/// `object` is live; the GIL is held, and the thread is marked external.
pub unsafe fn dumps(object: *mut PyObject, known: &Known) -> Owned {
    // SAFETY: by contract.
    unsafe {
        let saved = SavedError::take();
        let imports = ImportState::now();
        let bytes = if known.0.is_empty() {
            Owned(PyObject_CallFunction(DUMPS, c"Oi".as_ptr(), object, 4))
        } else {
            dumps_with(object, known)
        };
        if bytes.is_null() {
            PyErr_Clear();
        }
        imports.restore();
        drop(saved);
        bytes
    }
}

unsafe fn dumps_with(object: *mut PyObject, known: &Known) -> Owned {
    // SAFETY: as in `dumps`; any of these may fail with an exception.
    unsafe {
        let nothing = Owned(ptr::null_mut());
        let file = Owned(PyObject_CallNoArgs(BYTES_IO));
        let pickler = Owned(PyObject_CallFunction(PICKLER, c"Oi".as_ptr(), file.0, 4));
        let function = known.function(&raw mut PERSISTENT_ID);
        if pickler.is_null() || PyObject_SetAttrString(pickler.0, c"persistent_id".as_ptr(), function.0) < 0 {
            return nothing;
        }
        let dumped = Owned(PyObject_CallMethod(pickler.0, c"dump".as_ptr(), c"O".as_ptr(), object));
        if dumped.is_null() {
            return nothing;
        }
        Owned(PyObject_CallMethod(file.0, c"getvalue".as_ptr(), ptr::null()))
    }
}

/// The object of a pickle, or null with an exception.
///
/// # Safety
/// The GIL is held, and the thread is marked external.
pub unsafe fn loads(pickled: &[u8], known: &Known) -> *mut PyObject {
    // SAFETY: by contract; the length is the slice's.
    unsafe {
        let bytes = Owned(PyBytes_FromStringAndSize(pickled.as_ptr().cast(), pickled.len() as Py_ssize_t));
        let imports = ImportState::now();
        let object = if known.0.is_empty() { PyObject_CallOneArg(LOADS, bytes.0) } else { loads_with(bytes.0, known) };
        imports.restore();
        object
    }
}

unsafe fn loads_with(bytes: *mut PyObject, known: &Known) -> *mut PyObject {
    // SAFETY: as in `loads`.
    unsafe {
        let file = Owned(PyObject_CallOneArg(BYTES_IO, bytes));
        if file.is_null() {
            return ptr::null_mut();
        }
        let unpickler = Owned(PyObject_CallOneArg(UNPICKLER, file.0));
        let function = known.function(&raw mut PERSISTENT_LOAD);
        if unpickler.is_null() || PyObject_SetAttrString(unpickler.0, c"persistent_load".as_ptr(), function.0) < 0 {
            return ptr::null_mut();
        }
        PyObject_CallMethod(unpickler.0, c"load".as_ptr(), ptr::null())
    }
}
