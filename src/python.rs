//! Small helpers over pyo3-ffi: owned references, the error indicator, attribute access.
#![allow(deprecated, reason = "3.11 has no PyErr_GetRaisedException, and 3.12 keeps these")]

use pyo3_ffi::*;
use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A new reference that is given back when dropped. Null is allowed: then it owns nothing.
pub struct Owned(pub *mut PyObject);

impl Owned {
    /// Takes a borrowed reference and owns another one.
    ///
    /// # Safety
    /// `object` is live or null; the GIL is held.
    pub unsafe fn borrowed(object: *mut PyObject) -> Owned {
        // SAFETY: by contract.
        unsafe { Py_XINCREF(object) };
        Owned(object)
    }

    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Gives up ownership.
    pub fn into_raw(self) -> *mut PyObject {
        let object = self.0;
        std::mem::forget(self);
        object
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: we own the reference, and all of this crate's code that owns references runs with the GIL held.
        unsafe { Py_XDECREF(self.0) };
    }
}

/// The error indicator, taken away and put back on drop: what runs in between starts without an exception, and what
/// it raises is discarded.
pub struct SavedError {
    pub kind: *mut PyObject,
    pub value: *mut PyObject,
    traceback: *mut PyObject,
}

impl SavedError {
    /// # Safety
    /// The GIL is held.
    pub unsafe fn take() -> SavedError {
        let mut saved = SavedError { kind: ptr::null_mut(), value: ptr::null_mut(), traceback: ptr::null_mut() };
        // SAFETY: the three are ours to fill.
        unsafe { PyErr_Fetch(&mut saved.kind, &mut saved.value, &mut saved.traceback) };
        saved
    }

    /// Makes `value` an instance of the exception's class, as an `except` clause would.
    ///
    /// # Safety
    /// The GIL is held.
    pub unsafe fn normalize(&mut self) {
        if self.kind.is_null() {
            return;
        }
        // SAFETY: the three came from PyErr_Fetch.
        unsafe {
            PyErr_NormalizeException(&mut self.kind, &mut self.value, &mut self.traceback);
            if !self.traceback.is_null() && !self.value.is_null() {
                PyException_SetTraceback(self.value, self.traceback);
            }
        }
    }
}

impl Drop for SavedError {
    fn drop(&mut self) {
        // SAFETY: the GIL is held (see Owned); PyErr_Restore takes the references back.
        unsafe { PyErr_Restore(self.kind, self.value, self.traceback) };
    }
}

/// `object.name`, or null without an exception.
///
/// # Safety
/// `object` is live; the GIL is held.
pub unsafe fn attribute(object: *mut PyObject, name: &CStr) -> Owned {
    // SAFETY: by contract.
    unsafe {
        let value = PyObject_GetAttrString(object, name.as_ptr());
        if value.is_null() {
            PyErr_Clear();
        }
        Owned(value)
    }
}

/// A Python string.
///
/// # Safety
/// The GIL is held.
pub unsafe fn string(text: &str) -> Owned {
    // SAFETY: the pointer and length are those of `text`.
    Owned(unsafe { PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as Py_ssize_t) })
}

/// As `String::from_utf8_lossy`, which looks for what is no text a character at a time, also where all of it is.
pub fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// The text of a Python string, lossily; empty for anything else.
///
/// # Safety
/// `object` is live or null; the GIL is held.
pub unsafe fn text(object: *mut PyObject) -> String {
    // SAFETY: checked to be a string; the raw data is read without caching anything in the object.
    unsafe {
        if object.is_null() || PyUnicode_Check(object) == 0 {
            return String::new();
        }
        let (mut length, mut kind) = (0, 0);
        let data = retrace_abi::retrace_str_data(object, &mut length, &mut kind);
        if data.is_null() {
            return String::new();
        }
        let length = length as usize;
        match kind {
            0 => lossy(std::slice::from_raw_parts(data, length)).into_owned(),
            1 => std::slice::from_raw_parts(data, length).iter().map(|&b| char::from(b)).collect(),
            2 => String::from_utf16_lossy(std::slice::from_raw_parts(data.cast(), length)),
            _ => std::slice::from_raw_parts(data.cast::<u32>(), length)
                .iter()
                .map(|&c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        }
    }
}

/// The module `name` from `sys.modules`, borrowed; null where it is not imported. Imports nothing.
///
/// # Safety
/// The GIL is held.
pub unsafe fn loaded_module(name: &str) -> *mut PyObject {
    // SAFETY: by contract; PyImport_GetModuleDict is borrowed.
    unsafe {
        let modules = PyImport_GetModuleDict();
        let key = string(name);
        if modules.is_null() || key.is_null() {
            return ptr::null_mut();
        }
        let module = PyDict_GetItemWithError(modules, key.0);
        if module.is_null() {
            PyErr_Clear();
        }
        module
    }
}

/// The methods of a module's type, as the table in C has them; none where there is no such type.
///
/// # Safety
/// `module` is live; the GIL is held.
pub unsafe fn methods(module: *mut PyObject, class: &CStr) -> Vec<*mut PyMethodDef> {
    let mut methods = Vec::new();
    // SAFETY: by contract; the table ends with an entry without a name, and lives as long as the module's code.
    unsafe {
        let found = attribute(module, class);
        if found.is_null() || PyType_Check(found.0) == 0 {
            return methods;
        }
        let mut method = (*found.0.cast::<PyTypeObject>()).tp_methods;
        while !method.is_null() && !(*method).ml_name.is_null() {
            methods.push(method);
            method = method.add(1);
        }
    }
    methods
}

/// The name of an object's type, for messages.
///
/// # Safety
/// `object` is live, and its type as long as the name is used; the GIL is held.
pub unsafe fn type_name<'a>(object: *mut PyObject) -> Cow<'a, str> {
    // SAFETY: `tp_name` of a live type is a C string.
    lossy(unsafe { CStr::from_ptr((*Py_TYPE(object)).tp_name) }.to_bytes())
}

/// A string that is made once and kept.
pub struct Interned {
    text: &'static CStr,
    object: AtomicPtr<PyObject>,
}

impl Interned {
    pub const fn new(text: &'static CStr) -> Interned {
        Interned { text, object: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Borrowed; null, with an exception set, where there is no memory.
    ///
    /// # Safety
    /// The GIL is held.
    pub unsafe fn get(&self) -> *mut PyObject {
        let kept = self.object.load(Ordering::Relaxed);
        if !kept.is_null() {
            return kept;
        }
        // SAFETY: by contract; the reference is never given back.
        let made = unsafe { PyUnicode_InternFromString(self.text.as_ptr()) };
        self.object.store(made, Ordering::Relaxed);
        made
    }
}

/// Runs Python code of ours in a namespace of its own. False with an exception set.
///
/// # Safety
/// `namespace` is a dict; the GIL is held.
pub unsafe fn run(source: &str, namespace: *mut PyObject) -> bool {
    let source = std::ffi::CString::new(source).expect("no zero in the source");
    // SAFETY: by contract.
    unsafe {
        PyDict_SetItemString(namespace, c"__builtins__".as_ptr(), PyEval_GetBuiltins());
        let code = Owned(Py_CompileString(source.as_ptr(), c"<retrace>".as_ptr(), Py_file_input));
        !code.is_null() && !Owned(PyEval_EvalCode(code.0, namespace, namespace)).is_null()
    }
}

/// A function of ours that Python code can have.
pub struct Definition(UnsafeCell<PyMethodDef>);

// SAFETY: CPython only reads it.
unsafe impl Sync for Definition {}

impl Definition {
    pub const fn new(
        name: &'static CStr,
        function: unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject,
        flags: c_int,
    ) -> Definition {
        Definition(UnsafeCell::new(PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: PyMethodDefPointer { PyCFunction: function },
            ml_flags: flags,
            ml_doc: ptr::null(),
        }))
    }

    pub const fn with_keywords(name: &'static CStr, function: PyCFunctionWithKeywords) -> Definition {
        Definition(UnsafeCell::new(PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: PyMethodDefPointer { PyCFunctionWithKeywords: function },
            ml_flags: METH_VARARGS | METH_KEYWORDS,
            ml_doc: ptr::null(),
        }))
    }

    pub fn get(&self) -> *mut PyMethodDef {
        self.0.get()
    }
}
