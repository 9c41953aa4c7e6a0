//! The clock that an allocator asks for itself. jemalloc, which libraries bring along (polars, RocksDB), asks the coarse clock
//! after so many allocations: a number that it draws, beginning with an address, so that each run has others. What it does with
//! the answer is to give memory back to the system sooner or later. None of that is the program's: it is neither recorded nor
//! replayed. Any other use of that clock is.

use crate::imports;
use crate::libc_calls;
use crate::libc_table;
use retrace_abi::clock::retrace_hook_clock_gettime;
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an image has among its constants that jemalloc is in: the beginning of whatever that says.
const SIGN: &[u8] = b"<jemalloc>: ";

const CLOCK_GETTIME: usize = libc_table::place(c"clock_gettime");

/// What is put into an import table for a function of the table, where that is not a trampoline.
pub fn in_place_of(function: &CStr) -> Option<*mut c_void> {
    (function == c"clock_gettime").then_some(retrace_hook_clock_gettime as *mut c_void)
}

/// An extension module's code asks a clock.
///
/// # Safety
/// Called by cshim/clock.c with the arguments of `clock_gettime` and the address behind the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_read_clock(clock: c_int, into: *mut libc::timespec, site: *const c_void) -> c_int {
    // SAFETY: by contract.
    unsafe {
        if clock == libc::CLOCK_MONOTONIC_COARSE && is_in_allocator(site) {
            return libc::clock_gettime(clock, into);
        }
        libc_calls::enter(CLOCK_GETTIME, [clock as usize, into as usize, 0, 0, 0, 0, 0]) as c_int
    }
}

/// Whether the image around a place has an allocator in it. Looked for once for each place: there are one or two in an image.
fn is_in_allocator(site: *const c_void) -> bool {
    /// Each the address and, in the lowest bit, the answer; 0 where nothing is yet.
    static SITES: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];
    let mut found = None;
    for known in &SITES {
        // Relaxed: whoever reads it needs nothing else.
        let mut entry = known.load(Ordering::Relaxed);
        if entry == 0 {
            let is_in = *found.get_or_insert_with(|| imports::has_constant(site, SIGN));
            let own = (site as usize) << 1 | usize::from(is_in);
            entry = known
                .compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed)
                .map_or_else(|other| other, |_| own);
        }
        if entry >> 1 == site as usize {
            return entry & 1 == 1;
        }
    }
    false
}
