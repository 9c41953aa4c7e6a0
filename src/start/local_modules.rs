//! Extension modules that a replay finds in another place than the recording did.

use crate::call::Call;
use crate::gil::GilCell;
use crate::python::{Owned, SavedError, attribute, string, text};
use pyo3_ffi::*;
use std::path::{Path, PathBuf};

/// Where this machine has extension modules; `sys.path` of the replaying interpreter before it was restored.
static LOCAL_PATH: GilCell<Vec<String>> = GilCell::new(Vec::new());

/// `sys.path` as it is now.
unsafe fn module_path() -> Vec<String> {
    // SAFETY: the GIL is held.
    unsafe {
        let path = PySys_GetObject(c"path".as_ptr());
        if path.is_null() || PyList_Check(path) == 0 {
            return Vec::new();
        }
        (0..PyList_GET_SIZE(path)).map(|i| text(PyList_GET_ITEM(path, i))).collect()
    }
}

pub(super) unsafe fn remember_local_path() {
    // SAFETY: the GIL is held.
    unsafe { *LOCAL_PATH.get() = module_path() };
}

/// A spec whose origin points at this machine's file until dropped.
pub struct LocalExtension {
    spec: Owned,
    origin: Owned,
}

impl Drop for LocalExtension {
    fn drop(&mut self) {
        // SAFETY: the GIL is held; an error of the creation in progress is kept.
        unsafe {
            let saved = SavedError::take();
            if PyObject_SetAttrString(self.spec.0, c"origin".as_ptr(), self.origin.0) < 0 {
                PyErr_Clear();
            }
            drop(saved);
        }
    }
}

/// An extension module is about to be created: where the recorded file is not there, this machine's own is taken, by
/// its place relative to a folder of the module path.
///
/// # Safety
/// Replaying; the GIL is held; `call` is one of `_imp.create_*`.
pub unsafe fn local_extension(call: &Call) -> Option<LocalExtension> {
    // SAFETY: by contract.
    unsafe {
        if call.hook.name != "_imp.create_dynamic" {
            return None;
        }
        let spec = *call.args.first()?;
        let origin = attribute(spec, c"origin");
        let recorded = text(origin.0);
        if recorded.is_empty() || Path::new(&recorded).exists() {
            return None;
        }
        let found = find_locally(Path::new(&recorded))?;
        let local = string(found.to_str()?);
        if PyObject_SetAttrString(spec, c"origin".as_ptr(), local.0) < 0 {
            PyErr_Clear();
            return None;
        }
        Some(LocalExtension { spec: Owned::borrowed(spec), origin })
    }
}

unsafe fn find_locally(recorded: &Path) -> Option<PathBuf> {
    // SAFETY: the GIL is held.
    let (folders, recorded_folders) = unsafe { (&*LOCAL_PATH.get(), module_path()) };
    let below = |tail: &Path| folders.iter().map(|folder| Path::new(folder).join(tail)).find(|path| path.exists());
    // By the name that the module has below a folder of the recorded path; in an environment of its own that is another
    // folder than the interpreter's, which may have another version of the same.
    let mut tails: Vec<&Path> =
        recorded_folders.iter().filter_map(|folder| recorded.strip_prefix(folder).ok()).collect();
    tails.sort_by_key(|tail| tail.components().count());
    if let Some(found) = tails.into_iter().find_map(below) {
        return Some(found);
    }
    // Else the longest tail of the recorded path that exists below one of our folders.
    let parts: Vec<_> = recorded.components().collect();
    (1..parts.len()).find_map(|skipped| below(&parts[skipped..].iter().collect::<PathBuf>()))
}
