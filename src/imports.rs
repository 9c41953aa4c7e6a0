//! What the interpreter and extension modules call of the C library, redirected: the slots of an image's import table,
//! one file per platform.

#[cfg(target_os = "linux")]
#[path = "imports_linux.rs"]
mod imp;
#[cfg(target_os = "macos")]
#[path = "imports_macos.rs"]
mod imp;

use std::ffi::{CStr, c_void};
use std::ptr;
use thiserror::Error;

/// The function, of these types, that `rebind` replaced and kept in this place.
macro_rules! replaced {
    ($function:expr, $($kind:ty),* => $result:ty) => {
        std::mem::transmute::<*mut std::ffi::c_void, unsafe extern "C" fn($($kind),*) -> $result>($function)
    };
}
pub(crate) use replaced;

/// One imported function and what is to be called in its place.
#[derive(Clone, Copy)]
pub struct Binding {
    pub name: &'static CStr,
    pub with: *mut c_void,
    /// Receives the library's own function, before the first call can come.
    pub next: *mut *mut c_void,
    /// Whether it is an error if the image does not import it.
    pub needed: bool,
}

/// Bindings of functions that an image need not import. The replaced ones are kept from `kept` on, in the same order.
///
/// # Safety
/// `kept` is the first of as many places as there are functions, which stay.
pub unsafe fn optional<const N: usize>(
    functions: [(&'static CStr, *mut c_void); N],
    kept: *mut *mut c_void,
) -> Vec<Binding> {
    let bindings = functions.into_iter().enumerate().map(|(place, (name, with))| {
        // SAFETY: by contract.
        let next = unsafe { kept.add(place) };
        Binding { name, with, next, needed: false }
    });
    bindings.collect()
}

#[derive(Debug, Error)]
pub enum ImportError {
    #[error("there is no import table")]
    NoTable,
    #[error("{0} is not imported")]
    Missing(String),
    #[error("the import of {0} can't be changed")]
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

/// A loaded image: the executable, a library, an extension module.
#[derive(Clone, Debug)]
pub struct Image {
    pub path: String,
    /// Something in it.
    pub address: usize,
}

impl Image {
    /// The last part of its path, by which others need it.
    pub fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use imp::code;

/// Every loaded image, in the order of loading.
pub fn images() -> Vec<Image> {
    imp::images()
}

/// The one of `images` that holds an address.
pub fn image_at(address: *const c_void, images: &[Image]) -> Option<&Image> {
    // SAFETY: `info` is writable; an address that no image holds is looked for in vain.
    let start = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address, &mut info) == 0 {
            return None;
        }
        info.dli_fbase as usize
    };
    images.iter().find(|image| image.address == start)
}

/// The file names of the images that one needs.
///
/// # Safety
/// The image is loaded.
pub unsafe fn needs(image: &Image) -> Vec<String> {
    // SAFETY: by contract.
    unsafe { imp::needs(image.address as *const c_void) }
}

/// Whether these bytes are among the constants of the image that holds an address.
#[cfg(target_os = "linux")]
pub fn has_constant(address: *const c_void, bytes: &[u8]) -> bool {
    imp::has_constant(address, bytes)
}

/// A function of the image's own, whether others can see it or not, as far as its file still names it.
///
/// # Safety
/// The image is loaded.
pub unsafe fn own_function(image: &Image, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: by contract.
    unsafe { imp::own_function(image, name) }
}

/// The variables of an image's of which each thread has its own.
pub struct ThreadVariables {
    /// The loader's number for the image.
    pub image: usize,
    /// Where the calling thread's are.
    pub address: *mut u8,
    /// What they are in a new thread.
    pub initial: Vec<u8>,
}

/// An entry of the table by which the system finds such variables of the calling thread's: the C library's own form.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Storage {
    pub address: *mut u8,
    /// What is freed when the thread has ended.
    pub to_free: *mut c_void,
}

impl Storage {
    /// The thread has not used any yet.
    pub const NONE: Storage = Storage { address: ptr::without_provenance_mut(usize::MAX), to_free: ptr::null_mut() };
}

/// # Safety
/// The image is loaded.
pub unsafe fn thread_variables(image: &Image) -> Option<ThreadVariables> {
    // SAFETY: by contract.
    unsafe { imp::thread_variables(image.address as *const c_void) }
}

/// Whether code finds the calling thread's variables of that image, which are at `address`, by the table.
///
/// # Safety
/// As [`thread_variables`] returned them on this thread.
pub unsafe fn is_by_table(image: usize, address: *const u8) -> bool {
    // SAFETY: by contract.
    unsafe { imp::is_by_table(image, address) }
}

/// The calling thread's entry for an image. It moves where more images are loaded.
///
/// # Safety
/// [`is_by_table`] said that there is one.
pub unsafe fn storage(image: usize) -> *mut Storage {
    // SAFETY: by contract.
    unsafe { imp::storage(image) }
}

/// The names of the functions and variables that an image imports.
///
/// # Safety
/// The image is loaded.
pub unsafe fn imported(image: &Image) -> Result<Vec<String>, ImportError> {
    // SAFETY: by contract.
    unsafe { imp::imported(image.address as *const c_void) }
}
