//! How threads of a recorded program wait for the GIL: on a word of ours, in place of CPython's condition variable.
//!
//! A condition variable of the C library wakes who waits while the mutex is still locked, so that they wait again for that;
//! and who comes from such a wait leaves the mutex as if others waited for it, which is a system call at each unlock. In a
//! server with several threads that is half of all futex calls, and a quarter of the context switches. Here who has given
//! the GIL up wakes one thread once the mutex is unlocked (`cshim/gil.c`). Nothing that the recording depends on is
//! different: who takes the GIL is still decided by who comes first to the mutex.
//!
//! While one that was woken is on its way no other is woken: a thread that goes through several short calls would wake one at
//! each, all of whom find the GIL taken. Whoever comes to the mutex, woken or not, lets the next be woken.
//!
//! A wait for the GIL always ends after CPython's switch interval, so that a wake-up that were lost would cost that, and no
//! more. Linux only; elsewhere the C library's is what there is.

use crate::imports::{Binding, replaced};
use crate::platform::{self, Waited};
use retrace_abi::gil;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

type Cond = *mut libc::pthread_cond_t;
type Mutex = *mut libc::pthread_mutex_t;
type Time = *const libc::timespec;

static mut NEXT_WAIT: *mut c_void = ptr::null_mut();
static mut NEXT_INIT: *mut c_void = ptr::null_mut();
static mut NEXT_DESTROY: *mut c_void = ptr::null_mut();

/// Whether threads wait here, on this system.
pub const ARE_OURS: bool = cfg!(target_os = "linux");

/// What CPython calls of its GIL's condition variable, but for the signal, which is always ours.
pub fn bindings() -> Vec<Binding> {
    if !ARE_OURS {
        return Vec::new();
    }
    let hook = |name, with: *mut c_void, next: *mut *mut c_void| Binding { name, with, next, needed: true };
    vec![
        hook(c"pthread_cond_timedwait", wait as *mut c_void, &raw mut NEXT_WAIT),
        hook(c"pthread_cond_init", init as *mut c_void, &raw mut NEXT_INIT),
        hook(c"pthread_cond_destroy", destroy as *mut c_void, &raw mut NEXT_DESTROY),
    ]
}

/// From now on threads wait here.
///
/// # Safety
/// The GIL is held, what `bindings` has is in its place, and so is the hook on the mutex.
pub unsafe fn begin() {
    // SAFETY: by contract.
    unsafe { gil::retrace_gil.waits_itself = ARE_OURS };
}

/// Whether this is what threads wait for the GIL with.
unsafe fn is_ours(cond: Cond) -> bool {
    // SAFETY: written before threads came here.
    unsafe { cond == gil::retrace_gil.cond && gil::retrace_gil.waits_itself }
}

/// The mutex is the GIL's and locked, before and after.
unsafe extern "C" fn wait(cond: Cond, mutex: Mutex, until: Time) -> c_int {
    // SAFETY: called by CPython in place of pthread_cond_timedwait.
    unsafe {
        if !is_ours(cond) {
            return replaced!(NEXT_WAIT, Cond, Mutex, Time => c_int)(cond, mutex, until);
        }
        let errno = platform::errno();
        let waits = &gil::retrace_gil_waits;
        let seen = waits.signals.load(Relaxed);
        waits.waiters.store(waits.waiters.load(Relaxed) + 1, Relaxed);
        // `until` is by a clock that only CPython knows; it is this long from now.
        let interval = Duration::from_micros(*gil::retrace_gil.interval);
        libc::pthread_mutex_unlock(mutex);
        let has_changed = wait_at_most(seen, interval);
        libc::pthread_mutex_lock(mutex);
        waits.waiters.store(waits.waiters.load(Relaxed) - 1, Relaxed);
        waits.coming.store(0, Relaxed);
        platform::set_errno(errno);
        if has_changed { 0 } else { libc::ETIMEDOUT }
    }
}

/// Whether the GIL was given up since there were `seen` signals, or is before the time is over.
fn wait_at_most(seen: u32, interval: Duration) -> bool {
    // SAFETY: a static of atomics.
    let signals = unsafe { &gil::retrace_gil_waits.signals };
    let begun = Instant::now();
    let mut left = interval;
    loop {
        match platform::wait_for_change(signals, seen, left.as_micros() as i64) {
            Waited::Changed => return true,
            Waited::TimedOut => return false,
            // A signal's handler ran: that is no reason to ask for the GIL later.
            Waited::Interrupted => match interval.checked_sub(begun.elapsed()) {
                Some(rest) => left = rest,
                None => return false,
            },
        }
    }
}

/// Whoever gave the GIL up has unlocked its mutex.
#[unsafe(no_mangle)]
extern "C" fn retrace_wake_waiter() {
    let errno = platform::errno();
    // SAFETY: a static of atomics.
    platform::wake(unsafe { &gil::retrace_gil_waits.signals }, 1);
    platform::set_errno(errno);
}

/// A forked child makes its GIL anew: whoever waited is not in it.
unsafe extern "C" fn init(cond: Cond, attributes: *const c_void) -> c_int {
    // SAFETY: called by CPython in place of pthread_cond_init.
    unsafe {
        if is_ours(cond) {
            gil::retrace_gil_waits.waiters.store(0, Relaxed);
            gil::retrace_gil_waits.due.store(0, Relaxed);
            gil::retrace_gil_waits.coming.store(0, Relaxed);
        }
        replaced!(NEXT_INIT, Cond, *const c_void => c_int)(cond, attributes)
    }
}

/// The C library's waits for those who still wait (daemon threads, which then end), and CPython destroys the mutex next.
unsafe extern "C" fn destroy(cond: Cond) -> c_int {
    // SAFETY: called by CPython in place of pthread_cond_destroy; the mutex is there as long as the condition variable is.
    unsafe {
        if is_ours(cond) {
            let mutex = gil::retrace_gil.mutex;
            libc::pthread_mutex_lock(mutex);
            while gil::retrace_gil_waits.waiters.load(Relaxed) != 0 {
                libc::pthread_mutex_unlock(mutex);
                libc::usleep(200);
                libc::pthread_mutex_lock(mutex);
            }
            libc::pthread_mutex_unlock(mutex);
        }
        replaced!(NEXT_DESTROY, Cond => c_int)(cond)
    }
}
