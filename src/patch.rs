//! The one way in which a pointer of CPython's is overwritten: checked, then written.
//!
//! Nothing is put back when a session ends early. The object that holds the pointer may be gone by then, and what we
//! wrote works as the original does while no session is active: every hook calls its original.

/// Why a callable could not be hooked. It stays as it was, which makes the recording incomplete: the caller stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A calling convention that this version of Retrace does not know.
    Convention,
    /// All trampolines of its convention, or all numbers of hooks, are in use.
    PoolEmpty,
    /// The pointer to write is null or misaligned.
    Address,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Refused::Convention => "its calling convention is unknown",
            Refused::PoolEmpty => "there is no trampoline left for it",
            Refused::Address => "its pointer is not where it should be",
        })
    }
}

/// Writes `value` into `*place`.
///
/// # Safety
/// The GIL is held; `place` is a pointer-sized field of a live object or type.
pub unsafe fn write<T>(place: *mut *mut T, value: *mut T) -> Result<(), Refused> {
    if place.is_null() || !place.is_aligned() || value.is_null() {
        return Err(Refused::Address);
    }
    // SAFETY: by contract.
    unsafe { *place = value };
    Ok(())
}
