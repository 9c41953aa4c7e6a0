//! A clock that runs in a replay with line events and without: how many objects the program has allocated. It costs an
//! increment an allocation, and tells apart the times at which a loop looks the same.

use pyo3_ffi::*;
use retrace_abi::line_events::retrace_line_events_objects;
use std::ffi::c_void;
use std::ptr;

// One operating-system thread.
static mut COUNT: u64 = 0;
/// The count at which a check is asked for.
static mut ALARM: u64 = u64::MAX;
static mut ORIGINAL: PyMemAllocatorEx =
    PyMemAllocatorEx { ctx: ptr::null_mut(), malloc: None, calloc: None, realloc: None, free: None };

/// Puts the counting allocator before the interpreter's.
///
/// # Safety
/// The GIL is held; called once.
pub unsafe fn install() {
    // SAFETY: the allocator goes on to the one that was there, so that old blocks are freed where they came from.
    unsafe {
        PyMem_GetAllocator(PyMemAllocatorDomain::PYMEM_DOMAIN_OBJ, &raw mut ORIGINAL);
        let mut counting = PyMemAllocatorEx {
            ctx: ORIGINAL.ctx,
            malloc: Some(malloc),
            calloc: Some(calloc),
            realloc: ORIGINAL.realloc,
            free: ORIGINAL.free,
        };
        PyMem_SetAllocator(PyMemAllocatorDomain::PYMEM_DOMAIN_OBJ, &mut counting);
    }
}

#[inline(always)]
unsafe fn count() {
    // SAFETY: the GIL is held.
    unsafe {
        COUNT += 1;
        if COUNT >= ALARM {
            retrace_abi::gil::retrace_request_check();
        }
    }
}

extern "C" fn malloc(context: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: called by CPython; the original has a function.
    unsafe {
        count();
        ORIGINAL.malloc.unwrap_unchecked()(context, size)
    }
}

extern "C" fn calloc(context: *mut c_void, n: usize, size: usize) -> *mut c_void {
    // SAFETY: as above.
    unsafe {
        count();
        ORIGINAL.calloc.unwrap_unchecked()(context, n, size)
    }
}

/// The program's allocations.
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn now() -> u64 {
    // SAFETY: by contract.
    unsafe { COUNT - retrace_line_events_objects }
}

/// From this time on, checks of the eval breaker are asked for.
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn set_alarm(time: u64) {
    // SAFETY: by contract.
    unsafe { ALARM = time.saturating_add(retrace_line_events_objects) };
}

/// Runs what is not the program's: what it allocates does not count.
///
/// # Safety
/// The GIL is held.
pub unsafe fn uncounted<R>(run: impl FnOnce() -> R) -> R {
    // SAFETY: by contract.
    unsafe {
        let before = (COUNT, retrace_line_events_objects);
        let result = run();
        // There are line events in it, too.
        (COUNT, retrace_line_events_objects) = before;
        result
    }
}

static mut MARK: Option<u64> = None;

/// What follows may not be the program's.
///
/// # Safety
/// The GIL is held.
pub unsafe fn mark() {
    // SAFETY: by contract.
    unsafe { MARK = Some(COUNT) };
}

/// It was.
///
/// # Safety
/// The GIL is held.
pub unsafe fn forget_mark() {
    // SAFETY: by contract.
    unsafe { MARK = None };
}

/// It was not: what has been allocated since [`mark`] does not count.
///
/// # Safety
/// The GIL is held.
pub unsafe fn put_back() {
    // SAFETY: by contract.
    unsafe {
        if let Some(count) = MARK {
            (COUNT, MARK) = (count, None);
        }
    }
}

/// What this process has had of a core, in microseconds: how busy the machine is otherwise makes no difference.
pub fn cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}
