//! Replay's threads are one to the system, and so to variables of which each thread has its own: what extension modules and
//! their libraries have in these is exchanged when another thread goes on.
//!
//! The memory itself is, where the system finds it by a table of the thread's: so that a thread's variable stays where it is,
//! and others can write to it (what a job of another one's sets when it is done). Where the code has the place from the thread
//! pointer, the variables change their places with those of the thread that goes on. So does CPython's own, in 3.12.

use crate::imports::{self, Image, Storage, ThreadVariables};
use retrace_abi::ThreadState;
use std::ffi::CString;
use std::ptr;

/// An image's variables at a fixed place of the one operating-system thread.
struct Variables {
    address: *mut u8,
    /// What they are in a new thread.
    initial: Vec<u8>,
    /// What each thread's were when it went on last, by its number; of threads that have not run since, nothing.
    kept: Vec<Vec<u8>>,
}

/// An image's variables that are found by a table.
struct Memory {
    /// The table's number for the image.
    image: usize,
    /// What each thread's entry was when it went on last, by its number.
    kept: Vec<Storage>,
}

/// Which thread state CPython had for each thread's own when it went on last, by its number: none for most, as they wait for
/// the GIL without. But `PyThreadState_Swap` sets it before it takes the GIL, and unsets it after it gave that up (duckdb).
static mut STATES: Vec<*mut ThreadState> = Vec::new();
static mut VARIABLES: Vec<Variables> = Vec::new();
static mut MEMORY: Vec<Memory> = Vec::new();
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
        let Some(found) = imports::thread_variables(image) else { return };
        let ThreadVariables { image: number, address, initial } = found;
        if VARIABLES.iter().any(|other| other.address == address) || MEMORY.iter().any(|other| other.image == number) {
            return;
        }
        if let Ok(path) = CString::new(image.path.as_str()) {
            libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        }
        if imports::is_by_table(number, address) {
            MEMORY.push(Memory { image: number, kept: Vec::new() });
        } else {
            VARIABLES.push(Variables { address, initial, kept: Vec::new() });
        }
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
            make_room(&mut STATES, next, ptr::null_mut);
            STATES[CURRENT] = retrace_abi::swap_thread_state(STATES[next]);
            if !VARIABLES.is_empty() || !MEMORY.is_empty() {
                exchange_with(next);
            }
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            crate::thread_pointer::switch_to(next);
            CURRENT = next;
        }
    }
}

fn make_room<T>(kept: &mut Vec<T>, next: usize, new: impl FnMut() -> T) {
    // SAFETY: one thread.
    let most = next.max(unsafe { CURRENT }) + 1;
    if kept.len() < most {
        kept.resize_with(most, new);
    }
}

#[cold]
unsafe fn exchange_with(next: usize) {
    // SAFETY: as in `switch_to`: the variables are as long as what they are at first, and as what is kept of them. What a
    // thread has not got yet the system makes where it is first used.
    #[expect(static_mut_refs, reason = "one thread")]
    unsafe {
        for Memory { image, kept } in &mut MEMORY {
            make_room(kept, next, || Storage::NONE);
            let entry = imports::storage(*image);
            kept[CURRENT] = entry.replace(kept[next]);
        }
        for Variables { address, initial, kept } in &mut VARIABLES {
            make_room(kept, next, Vec::new);
            let size = initial.len();
            kept[CURRENT].resize(size, 0);
            ptr::copy_nonoverlapping(*address, kept[CURRENT].as_mut_ptr(), size);
            let theirs = if kept[next].is_empty() { &*initial } else { &kept[next] };
            ptr::copy_nonoverlapping(theirs.as_ptr(), *address, size);
        }
    }
}

/// Frees what the running thread has: it has ended.
///
/// # Safety
/// As [`switch_to`]; nothing of the thread's runs any more.
pub unsafe fn end() {
    // SAFETY: by contract: the system does this when a thread has ended.
    #[expect(static_mut_refs, reason = "one thread")]
    unsafe {
        for Memory { image, .. } in &MEMORY {
            libc::free(imports::storage(*image).replace(Storage::NONE).to_free);
        }
    }
}
