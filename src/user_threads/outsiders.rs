//! Real threads on replay: those of a library that runs live and goes its own way. One may take the GIL, as long as it calls
//! nothing of Python's (OpenMP's do, in the parallel sections that Cython makes): in the recording that was none of the log's
//! business, and here it happens beside the replay's own thread, while that one runs code of a library's without the GIL.

use crate::{divergence, platform, record, schedule, session, thread};
use retrace_abi::gil;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Nobody runs Python, or may look at the GIL.
const FREE: u32 = 0;
/// The replay's thread may.
const INSIDE: u32 = 1;
/// One from outside may.
const OUTSIDE: u32 = 2;

/// Whoever changes this to anything but FREE acquires what the one before has done, who releases it by FREE.
static WHO: AtomicU32 = AtomicU32::new(INSIDE);
/// Whether anybody waits for it to be FREE.
static WAITING: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The calling thread is from outside, and WHO says so.
    static HAS: Cell<bool> = const { Cell::new(false) };
}

/// How long to wait before looking again, in microseconds.
const LOOK_US: i64 = 10_000;

fn wait_until_it_is(who: u32) {
    while let Err(other) = WHO.compare_exchange(FREE, who, Ordering::Acquire, Ordering::Relaxed) {
        WAITING.fetch_add(1, Ordering::SeqCst);
        platform::wait_for_change(&WHO, other, LOOK_US);
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn free() {
    // SeqCst, as where WAITING grows: either this one sees who waits, or that one sees FREE. One who is missed looks again.
    WHO.store(FREE, Ordering::SeqCst);
    if WAITING.load(Ordering::SeqCst) != 0 {
        platform::wake_all(&WHO);
    }
}

// ---- the replay's thread ----

/// The replay's thread is about to take the GIL, or to have it.
pub(super) fn keep_out() {
    if WHO.load(Ordering::Relaxed) != INSIDE {
        wait_until_it_is(INSIDE);
    }
}

/// The replay's thread has given the GIL up.
pub(super) fn let_in() {
    if WHO.load(Ordering::Relaxed) == INSIDE {
        free();
    }
}

/// Whether a thread from outside has the GIL, or is about to.
pub(super) fn have_gil() -> bool {
    WHO.load(Ordering::Relaxed) == OUTSIDE
}

// ---- threads from outside ----

/// The calling thread, which is from outside, is about to take the GIL, or to make what it needs for that.
pub fn enter_from_outside() {
    if !HAS.get() {
        wait_until_it_is(OUTSIDE);
        HAS.set(true);
    }
}

/// It has taken the GIL: frames that it enters are seen.
pub(super) unsafe fn taken() {
    // SAFETY: the GIL is held, the thread's state is the last one that took it.
    unsafe {
        thread::of(*gil::retrace_gil.last_holder).external.set(true);
        record::arm();
    }
}

/// It has dropped the GIL, and has its mutex.
pub(super) unsafe fn dropped() {
    // SAFETY: nobody else runs Python.
    unsafe { record::disarm() };
}

/// It gives the GIL's mutex back.
pub(super) unsafe fn unlocked() {
    // SAFETY: nobody else runs Python.
    if HAS.get() && unsafe { *gil::retrace_gil.locked } == 0 {
        HAS.set(false);
        free();
    }
}

/// The calling thread comes to Python code, or to what the recording would have of Python code's: none from outside may.
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn wants_python() {
    // SAFETY: by contract.
    if unsafe { session::is_replaying() } && !schedule::is_ours() {
        refuse();
    }
}

#[cold]
fn refuse() {
    // SAFETY: the GIL is held, by the calling thread.
    unsafe { divergence::schedule_lost("a thread that the replay did not make wants to run Python".into()) };
}
