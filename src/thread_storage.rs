//! Replay's threads are one to the system, and so to variables of which each thread has its own: of the images whose
//! threads take turns, what these variables hold is exchanged when another thread goes on.

use crate::imports::{self, Image};
use std::ptr;

/// An image's variables of that kind, in the one operating-system thread.
struct Variables {
    address: *mut u8,
    /// What they are in a new thread.
    initial: Vec<u8>,
}

static mut VARIABLES: Vec<Variables> = Vec::new();
/// What each thread's were when it went on last, by its number; of threads that have not run since, nothing.
static mut KEPT: Vec<Vec<Vec<u8>>> = Vec::new();
/// Whose are in their places.
static mut CURRENT: usize = 0;

static mut ARE_EXCHANGED: bool = false;

/// An image whose variables are to be exchanged, once any are.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn watch(image: &Image) {
    // SAFETY: by contract; no reference is kept.
    #[expect(static_mut_refs, reason = "one thread")]
    unsafe {
        if let Some((address, initial)) = imports::thread_variables(image) {
            VARIABLES.push(Variables { address, initial });
        }
    }
}

/// From now on they are exchanged: a library makes its first thread. What they hold is thread `running`'s.
///
/// # Safety
/// As [`watch`].
pub unsafe fn begin(running: usize) {
    // SAFETY: by contract.
    unsafe {
        CURRENT = running;
        ARE_EXCHANGED = true;
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
        if ARE_EXCHANGED && !VARIABLES.is_empty() && CURRENT != next {
            exchange_with(next);
        }
    }
}

#[cold]
unsafe fn exchange_with(next: usize) {
    // SAFETY: as in `switch_to`: the variables are as long as what they are at first.
    #[expect(static_mut_refs, reason = "one thread")]
    unsafe {
        let most = next.max(CURRENT) + 1;
        if KEPT.len() < most {
            KEPT.resize_with(most, Vec::new);
        }
        for (i, variables) in VARIABLES.iter().enumerate() {
            let size = variables.initial.len();
            let now = std::slice::from_raw_parts(variables.address, size).to_vec();
            match KEPT[CURRENT].get_mut(i) {
                Some(kept) => *kept = now,
                None => KEPT[CURRENT].push(now),
            }
            let theirs = KEPT[next].get(i).unwrap_or(&variables.initial);
            ptr::copy_nonoverlapping(theirs.as_ptr(), variables.address, size);
        }
        CURRENT = next;
    }
}
