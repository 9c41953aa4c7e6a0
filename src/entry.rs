//! What is called from outside of the library: by the preload library, by the Python package, by CPython.

use crate::start;
use pyo3_ffi::*;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::catch_unwind;
use std::path::PathBuf;

/// Called by `cshim/preload.c` before the interpreter is initialised. 0 when a session was prepared.
///
/// # Safety
/// Called once, by the preload library's constructor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_preloaded() -> c_int {
    // SAFETY: before `Py_Initialize`, PySys_AddAuditHook only needs the allocator (PEP 578).
    let prepared = catch_unwind(|| unsafe { start::prepare_from_environment() });
    match prepared {
        Ok(true) => 0,
        _ => -1,
    }
}

/// Gives the recorded hash secret to the interpreter that is being initialised. 1 when `into` was filled.
///
/// # Safety
/// `into` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_recorded_hash_secret(into: *mut c_void, size: usize) -> c_int {
    let Ok(Some(secret)) = catch_unwind(start::recorded_hash_secret) else { return 0 };
    if secret.len() != size {
        return 0;
    }
    // SAFETY: by contract.
    unsafe { std::ptr::copy_nonoverlapping(secret.as_ptr(), into.cast(), size) };
    1
}

/// `retrace.start(path)`: records from the program's first line on, into the file that `path` or, where it is None, the
/// environment names. Returns None; never raises for what is wrong with the path, which is said on stderr: the program
/// runs unrecorded then.
unsafe extern "C" fn py_start(_module: *mut PyObject, path: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with a borrowed argument.
    unsafe {
        let none = Py_None();
        Py_INCREF(none);
        if path == none {
            start::prepare_recording(None);
            return none;
        }
        let encoded = crate::python::Owned(PyUnicode_EncodeFSDefault(path));
        if encoded.is_null() {
            return std::ptr::null_mut();
        }
        let path = crate::encode::bytes_of(encoded.0).to_vec();
        use std::os::unix::ffi::OsStringExt;
        start::prepare_recording(Some(PathBuf::from(std::ffi::OsString::from_vec(path))));
        none
    }
}

struct SyncCell<T>(std::cell::UnsafeCell<T>);
// SAFETY: CPython reads and writes these under the GIL.
unsafe impl<T> Sync for SyncCell<T> {}

static METHODS: SyncCell<[PyMethodDef; 2]> = SyncCell(std::cell::UnsafeCell::new([
    PyMethodDef {
        ml_name: c"start".as_ptr(),
        ml_meth: PyMethodDefPointer { PyCFunction: py_start },
        ml_flags: METH_O,
        ml_doc:
            c"start(path)\n--\n\nRecord this process into the trace file at path, from the program's first line on."
                .as_ptr(),
    },
    PyMethodDef::zeroed(),
]));

static MODULE: SyncCell<PyModuleDef> = SyncCell(std::cell::UnsafeCell::new(PyModuleDef {
    m_base: PyModuleDef_HEAD_INIT,
    m_name: c"retrace".as_ptr(),
    m_doc: std::ptr::null(),
    m_size: -1,
    m_methods: std::ptr::null_mut(),
    m_slots: std::ptr::null_mut(),
    m_traverse: None,
    m_clear: None,
    m_free: None,
}));

/// The library as an extension module.
///
/// # Safety
/// Called by CPython's import system.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit_retrace() -> *mut PyObject {
    // SAFETY: by contract; the GIL is held.
    unsafe {
        let module = MODULE.0.get();
        (*module).m_methods = METHODS.0.get().cast();
        PyModule_Create(module)
    }
}

/// The audit hook that waits for the program to start.
///
/// # Safety
/// Called by CPython (PEP 578), before initialisation too.
pub unsafe extern "C" fn audit(event: *const c_char, args: *mut PyObject, _data: *mut c_void) -> c_int {
    // SAFETY: by contract, a C string.
    let event = unsafe { CStr::from_ptr(event) }.to_bytes();
    let Some(kind) = event.strip_prefix(b"cpython.run_") else {
        // SAFETY: as below, once the interpreter is initialised.
        let _ = catch_unwind(|| unsafe { start::something_runs(event) });
        return 0;
    };
    let kind = match kind {
        b"file" => start::Run::File,
        b"module" => start::Run::Module,
        b"command" => start::Run::Command,
        b"stdin" => start::Run::Stdin,
        _ => return 0,
    };
    // SAFETY: CPython raises these events with the GIL held, the interpreter initialised.
    let result = catch_unwind(|| unsafe { start::program_starts(kind, args) });
    result.unwrap_or_else(|_| {
        eprintln!("retrace: an internal error occurred at the start; the program runs unrecorded");
        0
    })
}
