//! What the hooks keep for each Python thread.

use crate::gil::GilCell;
use crate::hot::hot;
use crate::results::Results;
use retrace_abi::{ThreadState, thread_state, thread_state_id};
use rustc_hash::FxHashMap;
use std::cell::Cell;

/// One Python thread. Reached through a one-entry cache keyed by the thread state, because the GIL changes hands far
/// less often than hooks run, and a thread-local of a library that was loaded late costs a call.
///
/// Only shared references to it exist, and what changes is in cells: the code that a hook calls reaches the same entry
/// again, and the compiler must not believe otherwise.
#[repr(C, align(64))] // What every call touches comes first: it shares a cache line.
pub struct Thread {
    pub tstate: *mut ThreadState,
    id: u64,
    /// The external call that the thread is inside, for naming what its callbacks get; null where it has no arguments.
    pub call: Cell<*const crate::call::Call<'static>>,
    /// The thread is inside an external call: what it calls there is part of that call.
    pub external: Cell<bool>,
    /// That call is one of a Python function that is declared external, whose body runs: `crate::external_function`.
    pub body: Cell<bool>,
    /// What callbacks of the current external call returned.
    pub results: GilCell<Results>,
    /// Spare buffers for assembling events: an event may be assembled while another one is (callbacks).
    buffers: GilCell<Vec<Vec<u8>>>,
}

impl Thread {
    pub fn take_buffer(&self) -> Vec<u8> {
        // SAFETY: a thread's entry is used by that thread, with the GIL.
        unsafe { self.buffers.get() }.pop().unwrap_or_else(|| Vec::with_capacity(512))
    }

    /// Gives a buffer back for reuse. A large one is freed: one big read must not pin its size for ever.
    pub fn give_buffer(&self, mut buffer: Vec<u8>) {
        // SAFETY: as above.
        let buffers = unsafe { self.buffers.get() };
        if buffer.capacity() <= 64 << 10 && buffers.len() < 8 {
            buffer.clear();
            buffers.push(buffer);
        }
    }
}

// Read and written only with the GIL held, which orders the accesses.
static THREADS: GilCell<Option<FxHashMap<*mut ThreadState, *mut Thread>>> = GilCell::new(None);

/// The current thread's entry.
///
/// # Safety
/// The GIL is held. The reference may not be kept across a release of the GIL, but entries are never freed while
/// their thread lives, so one that was is still this thread's.
#[inline(always)]
pub unsafe fn current() -> &'static Thread {
    // SAFETY: the GIL is held, so nobody else reads or writes the cache or this thread's entry.
    unsafe {
        match seen_last(thread_state()) {
            Some(thread) => thread,
            None => find(retrace_abi::confirmed_thread_state()),
        }
    }
}

/// The entry that was current last, if it is that of `tstate`.
#[inline(always)]
unsafe fn seen_last(tstate: *mut ThreadState) -> Option<&'static Thread> {
    // SAFETY: as in `current`; a state that has an entry can be read.
    unsafe {
        let cached = (*hot()).current;
        let is_its = !cached.is_null() && (*cached).tstate == tstate && (*cached).id == thread_state_id(tstate);
        is_its.then(|| &*cached)
    }
}

/// The entry of a thread state that is about to become the current one.
///
/// # Safety
/// The GIL is held by the calling thread, whose state `tstate` is.
#[inline(always)]
pub unsafe fn of(tstate: *mut ThreadState) -> &'static Thread {
    // SAFETY: by contract.
    unsafe {
        match seen_last(tstate) {
            Some(thread) => thread,
            None => find(tstate),
        }
    }
}

/// The entry that was current last: the calling thread's, where CPython has already put its thread state aside.
///
/// # Safety
/// The calling thread holds the GIL, or has just dropped it and holds its mutex.
pub unsafe fn last() -> &'static Thread {
    // SAFETY: by contract.
    unsafe {
        let nobody = &raw const NOBODY;
        let cached = (*hot()).current;
        if cached.is_null() { &*nobody } else { &*cached }
    }
}

/// Whether external code runs on this thread.
///
/// # Safety
/// The GIL is held.
pub unsafe extern "C" fn is_external() -> i32 {
    // SAFETY: by contract.
    i32::from(unsafe { current() }.external.get())
}

#[cold]
#[inline(never)]
unsafe fn find(tstate: *mut ThreadState) -> &'static Thread {
    // SAFETY: as in `current`. Thread states are reused by address; their serial numbers are not.
    unsafe {
        if tstate.is_null() {
            // The interpreter is being torn down: what deallocates objects now is nobody's program.
            let nobody = &raw mut NOBODY;
            return &*nobody;
        }
        let id = thread_state_id(tstate);
        let threads = THREADS.get().get_or_insert_default();
        if let Some(&thread) = threads.get(&tstate) {
            if (*thread).id == id {
                (*hot()).current = thread;
                return &*thread;
            }
            // A thread state at a known address with another number: that thread has ended.
            drop(Box::from_raw(thread));
        }
        let thread = Box::into_raw(Box::new(Thread {
            tstate,
            id,
            external: Cell::new(crate::schedule::is_foreign() || crate::schedule::is_outside()),
            body: Cell::new(crate::schedule::is_outside()),
            call: Cell::new(std::ptr::null()),
            results: GilCell::new(Results::new()),
            buffers: GilCell::new(Vec::new()),
        }));
        threads.insert(tstate, thread);
        (*hot()).current = thread;
        &*thread
    }
}

static mut NOBODY: Thread = Thread {
    tstate: std::ptr::null_mut(),
    id: 0,
    external: Cell::new(true),
    body: Cell::new(false),
    call: Cell::new(std::ptr::null()),
    results: GilCell::new(Results::new()),
    buffers: GilCell::new(Vec::new()),
};
