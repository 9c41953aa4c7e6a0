//! Parts of CPython's C API that pyo3-ffi leaves out: functions it does not declare, and macros of the headers.

use pyo3_ffi::*;
use std::ffi::{c_char, c_int, c_void};

/// `Py_AuditHookFunction` (PEP 578).
pub type AuditHook = unsafe extern "C" fn(*const c_char, *mut PyObject, *mut c_void) -> c_int;

unsafe extern "C" {
    pub fn PySys_AddAuditHook(hook: AuditHook, data: *mut c_void) -> c_int;
    /// The number of bits of an int's absolute value (Objects/longobject.c).
    pub fn _PyLong_NumBits(long: *mut PyObject) -> usize;
    /// The names of a code object's local variables: a new reference.
    pub fn PyCode_GetVarnames(code: *mut PyCodeObject) -> *mut PyObject;
    /// Looks a name up along the type's MRO: borrowed, no descriptor is called (Objects/typeobject.c).
    pub fn _PyType_Lookup(class: *mut PyTypeObject, name: *mut PyObject) -> *mut PyObject;
    /// Tracing and profiling are off, until left as often (Include/cpython/pystate.h).
    pub fn PyThreadState_EnterTracing(tstate: *mut PyThreadState);
    pub fn PyThreadState_LeaveTracing(tstate: *mut PyThreadState);
    pub fn PyThread_get_thread_ident() -> std::ffi::c_ulong;
    pub fn PyThread_get_thread_native_id() -> std::ffi::c_ulong;
    static mut PyMethod_Type: PyTypeObject;
}

/// # Safety
/// `object` is live.
pub unsafe fn is_method(object: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe { Py_TYPE(object) == &raw mut PyMethod_Type }
}

/// The function of a bound method, borrowed (`PyMethodObject.im_func`).
///
/// # Safety
/// `method` is a bound method.
pub unsafe fn method_function(method: *mut PyObject) -> *mut PyObject {
    // SAFETY: `im_func` follows the object header (Include/cpython/classobject.h).
    unsafe { *method.add(1).cast::<*mut PyObject>() }
}

/// The object of a bound method, borrowed (`PyMethodObject.im_self`).
///
/// # Safety
/// `method` is a bound method.
pub unsafe fn method_receiver(method: *mut PyObject) -> *mut PyObject {
    // SAFETY: `im_self` follows `im_func`.
    unsafe { *method.add(1).cast::<*mut PyObject>().add(1) }
}

/// # Safety
/// `bytes` is a bytes object.
#[inline(always)]
pub unsafe fn bytes_size(bytes: *mut PyObject) -> usize {
    // SAFETY: by contract.
    unsafe { (*bytes.cast::<PyVarObject>()).ob_size as usize }
}
