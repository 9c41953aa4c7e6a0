//! The one way in which a pointer of CPython's is overwritten: checked, written, remembered for undo.

use crate::gil::GilCell;
use std::ffi::c_void;

/// Why a callable could not be hooked. It stays as it was, which makes the recording incomplete: the caller stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A calling convention that this version of Retrace does not know.
    Convention,
    /// All trampolines of its convention are in use.
    PoolEmpty,
    /// The pointer to write is null or misaligned.
    Address,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refused::Convention => "its calling convention is unknown",
            Refused::PoolEmpty => "there is no trampoline left for its calling convention",
            Refused::Address => "its pointer is not where it should be",
        })
    }
}

struct Patch {
    place: *mut *mut c_void,
    before: *mut c_void,
    after: *mut c_void,
}

static PATCHES: GilCell<Vec<Patch>> = GilCell::new(Vec::new());

/// Writes `value` into `*place`.
///
/// # Safety
/// The GIL is held; `place` is a pointer-sized field of an object or type that outlives the process's recording.
pub unsafe fn write<T>(place: *mut *mut T, value: *mut T) -> Result<(), Refused> {
    if place.is_null() || !place.is_aligned() || value.is_null() {
        return Err(Refused::Address);
    }
    // SAFETY: by contract; the GIL orders accesses to PATCHES.
    unsafe {
        let patch = Patch { place: place.cast(), before: (*place).cast(), after: value.cast() };
        *place = value;
        PATCHES.get().push(patch);
    }
    Ok(())
}

/// Puts every pointer back that still holds what we wrote, the last one first.
///
/// # Safety
/// The GIL is held.
pub unsafe fn undo_all() {
    // SAFETY: by the contract of `write`.
    unsafe {
        while let Some(patch) = PATCHES.get().pop() {
            if *patch.place == patch.after {
                *patch.place = patch.before;
            }
        }
    }
}
