//! Replay's threads are one to the system, and so to variables of which each thread has its own: what extension modules and
//! their libraries have in these is exchanged when another thread goes on.

use crate::imports::{self, Image};
use std::ffi::CString;
use std::ptr;

/// An image's variables of that kind, in the one operating-system thread.
struct Variables {
    address: *mut u8,
    /// What they are in a new thread.
    initial: Vec<u8>,
    /// What each thread's were when it went on last, by its number; of threads that have not run since, nothing.
    kept: Vec<Vec<u8>>,
}

static mut VARIABLES: Vec<Variables> = Vec::new();
/// Whose are in their places.
static mut CURRENT: usize = 0;

/// An image whose variables are to be exchanged. They are there for good: it is never unloaded.
///
/// # Safety
/// Replaying, on its one thread; the image is loaded.
pub unsafe fn watch(image: &Image) {
    // SAFETY: by contract; no reference is kept.
    #[expect(static_mut_refs, reason = "one thread")]
    unsafe {
        let Some((address, initial)) = imports::thread_variables(image) else { return };
        if VARIABLES.iter().any(|other| other.address == address) {
            return;
        }
        if let Ok(path) = CString::new(image.path.as_str()) {
            libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        }
        VARIABLES.push(Variables { address, initial, kept: Vec::new() });
    }
}

/// Puts the variables of thread `next` into their places.
///
/// # Safety
/// As [`watch`]; no code of the images runs now.
#[inline]
pub unsafe fn switch_to(next: usize) {
    // SAFETY: by contract.
    #[expect(static_mut_refs, reason = "one thread")]
    unsafe {
        if CURRENT != next {
            if !VARIABLES.is_empty() {
                exchange_with(next);
            }
            CURRENT = next;
        }
    }
}

#[cold]
unsafe fn exchange_with(next: usize) {
    // SAFETY: as in `switch_to`: the variables are as long as what they are at first, and as what is kept of them.
    #[expect(static_mut_refs, reason = "one thread")]
    unsafe {
        for Variables { address, initial, kept } in &mut VARIABLES {
            let most = next.max(CURRENT) + 1;
            if kept.len() < most {
                kept.resize_with(most, Vec::new);
            }
            let size = initial.len();
            kept[CURRENT].resize(size, 0);
            ptr::copy_nonoverlapping(*address, kept[CURRENT].as_mut_ptr(), size);
            let theirs = if kept[next].is_empty() { &*initial } else { &kept[next] };
            ptr::copy_nonoverlapping(theirs.as_ptr(), *address, size);
        }
    }
}
