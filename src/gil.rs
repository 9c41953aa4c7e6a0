//! State that the GIL guards.

use std::cell::UnsafeCell;

/// A global that only the holder of the GIL touches.
pub struct GilCell<T>(UnsafeCell<T>);

// SAFETY: the GIL orders all accesses; that is `get`'s contract.
unsafe impl<T> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub const fn new(value: T) -> GilCell<T> {
        GilCell(UnsafeCell::new(value))
    }

    /// Where the value is, for those who take only parts of it.
    #[inline(always)]
    pub const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }

    /// The value.
    ///
    /// # Safety
    /// The GIL is held, and the reference is not kept across anything that may run Python or reach this cell again.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the GIL is the borrow")]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: by contract.
        unsafe { &mut *self.0.get() }
    }
}
