//! What the interpreter calls of the C library, redirected: the slots of libpython's (or the static executable's)
//! import table, one file per platform.

#[cfg(target_os = "linux")]
#[path = "imports_linux.rs"]
mod imp;
#[cfg(target_os = "macos")]
#[path = "imports_macos.rs"]
mod imp;

use std::ffi::{CStr, c_void};
use thiserror::Error;

/// One imported function and what is to be called in its place.
pub struct Binding {
    pub name: &'static CStr,
    pub with: *mut c_void,
    /// Receives the library's own function, before the first call can come.
    pub next: *mut *mut c_void,
    /// Whether it is an error if the image does not import it.
    pub needed: bool,
}

#[derive(Debug, Error)]
pub enum ImportError {
    #[error("the interpreter has no import table")]
    NoTable,
    #[error("the interpreter does not import {0}")]
    Missing(String),
    #[error("the interpreter's import of {0} can't be changed")]
    Protected(String),
}

/// Redirects the imports of the image that contains `image`. On an error nothing, or a part, is redirected: every
/// function given has to work as the one it replaces until a session is active.
///
/// # Safety
/// `image` is an address in a loaded image; the functions given have the replaced ones' types; nobody else changes the
/// table meanwhile (the GIL is held).
pub unsafe fn rebind(image: *const c_void, bindings: &[Binding]) -> Result<(), ImportError> {
    // SAFETY: by contract.
    unsafe { imp::rebind(image, bindings) }
}
