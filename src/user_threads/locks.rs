//! CPython's locks on replay: they are semaphores. Whether a try found one taken, and how a wait for one ended, the log
//! says; the semaphores themselves are real.

use super::bindings::{CLOCK, NEXT, POST, TRYWAIT};
use super::pthreads;
use super::{LockWait, begin_one, fail, has_gil, leave_turn, lost, me, running, serve_waiting, wait_for_turn};
use crate::gil::GilCell;
use crate::imports::replaced;
use crate::replay::{self, Front};
use crate::session::Mode;
use crate::{divergence, library_locks, lock_calls, pending_calls, schedule, session, thread, turns};
use pyo3_ffi::{Py_AddPendingCall, PyErr_SetString, PyExc_RuntimeError};
use retrace_replay::event::WaitEnd;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::ptr;

unsafe fn real_trywait(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: a semaphore of CPython's.
    unsafe { replaced!(NEXT[TRYWAIT], *mut libc::sem_t => c_int)(lock) }
}

/// Which threads took which locks by a try with the GIL, as long as nobody has let them go.
static HELD: GilCell<BTreeMap<usize, usize>> = GilCell::new(BTreeMap::new());

/// Nobody has the lock any more.
///
/// # Safety
/// On replay's one thread.
pub unsafe fn let_go(lock: *const libc::sem_t) {
    // SAFETY: by contract.
    unsafe { HELD.get().remove(&(lock as usize)) };
}

/// `sem_trywait`. 1 for a lock that is taken because this thread took it: nothing is logged of that, if it is a lock object's.
///
/// # Safety
/// Called by cshim/gil.c, with what CPython called it with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_replayed_try(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: by contract, a semaphore of CPython's.
    unsafe {
        if !schedule::is_ours() || !session::is_replaying() || !has_gil() || thread::last().external.get() {
            return real_trywait(lock);
        }
        serve_waiting();
        me().tries += 1;
        schedule::step();
        me().lock_wait.interrupted = false;
        if let Front::Retry(tries) = replay::front()
            && tries == me().tries
        {
            replay::consume_front();
        }
        if let Front::Busy(tries) = replay::front()
            && tries == me().tries
        {
            replay::consume_front();
            me().found_busy = lock;
            return fail(libc::EAGAIN);
        }
        me().found_busy = ptr::null();
        if real_trywait(lock) == 0 {
            HELD.get().insert(lock as usize, running());
            return 0;
        }
        if HELD.get().get(&(lock as usize)) != Some(&running()) {
            retrace_try_is_lost();
        }
        me().found_busy = lock;
        1
    }
}

/// A lock is taken, and the log does not say so.
///
/// # Safety
/// Called by cshim/gil.c, as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_try_is_lost() {
    // SAFETY: by contract.
    unsafe { divergence::stop_at("a lock is taken here that was free in the recording") }
}

/// A wait for a lock. Where it was tried with the GIL before, the lock is this thread's when its turn comes; CPython's
/// few waits without a try (hashlib's) take the lock as they come.
unsafe fn wait(lock: *mut libc::sem_t, is_endless: bool) -> c_int {
    // SAFETY: as above.
    unsafe {
        // Nobody has this one while another thread runs.
        if pending_calls::is_asking() && real_trywait(lock) == 0 {
            return 0;
        }
        if !session::is_replaying() || has_gil() {
            if real_trywait(lock) == 0 {
                return 0;
            }
            if session::mode() == Mode::Diverted {
                return would_wait(lock, is_endless);
            }
            if !session::is_replaying() {
                return real_wait(lock);
            }
            // C code that has made a thread waits for its beginning.
            while begin_one() {
                if real_trywait(lock) == 0 {
                    return 0;
                }
            }
            divergence::stop_at("a lock is waited for here with the GIL, and nobody can release it");
        }
        if turns::has() {
            leave_turn();
        }
        let tried = ptr::eq(std::mem::replace(&mut me().found_busy, ptr::null()), lock);
        if !tried && !me().was_external {
            library_locks::replay_alone(lock);
        }
        if !tried && real_trywait(lock) == 0 {
            return 0;
        }
        wait_for_turn();
        // A later one's may be the next event: who gets the lock logs nothing.
        if let Front::Wait(end, releases) = replay::front()
            && releases == me().releases
        {
            if end == WaitEnd::TimedOut && is_endless {
                lost("the wait for a lock that began here has no time-out".into());
            }
            replay::consume_front();
            if end == WaitEnd::TimedOut {
                return fail(libc::ETIMEDOUT);
            }
            me().lock_wait.interrupted = true;
            lock_calls::watch();
            return fail(libc::EINTR);
        }
        if real_trywait(lock) == 0 {
            return 0;
        }
        if replay::source().at_end() {
            divergence::recording_cut("a wait for a lock");
        }
        lost("the lock that this thread got in the recording is taken here".into())
    }
}

/// Code of the user's would wait, and no other thread runs to let go of the lock: its time is over at once, or it fails, as if a
/// signal's handler raised an exception.
unsafe fn would_wait(lock: *mut libc::sem_t, is_endless: bool) -> c_int {
    // SAFETY: as `wait`; a call that may be added without the GIL.
    unsafe {
        if !is_endless {
            return fail(libc::ETIMEDOUT);
        }
        // The second time: it was called by what no signal interrupts.
        if pthreads::counts_as_main() || Py_AddPendingCall(Some(raise_would_wait), ptr::null_mut()) != 0 {
            return real_wait(lock);
        }
        pthreads::count_as_main(true);
        fail(libc::EINTR)
    }
}

extern "C" fn raise_would_wait(_argument: *mut c_void) -> c_int {
    // SAFETY: called by CPython, with the GIL.
    unsafe {
        pthreads::count_as_main(false);
        let message = c"this waits for another thread, and none runs while it is evaluated";
        PyErr_SetString(PyExc_RuntimeError, message.as_ptr());
        -1
    }
}

unsafe fn real_wait(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: no session any more: nobody else runs, so waiting would be for ever.
    unsafe {
        libc::_exit(if real_trywait(lock) == 0 { 0 } else { divergence::EXIT_STATUS });
    }
}

pub(super) unsafe extern "C" fn sem_wait(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: as above. A thread that is none of replay's really waits.
    unsafe { if schedule::is_ours() { wait(lock, true) } else { libc::sem_wait(lock) } }
}

pub(super) unsafe extern "C" fn sem_clockwait(
    lock: *mut libc::sem_t,
    _clock: c_int,
    _until: *const libc::timespec,
) -> c_int {
    // SAFETY: as above.
    unsafe { wait(lock, false) }
}

pub(super) unsafe extern "C" fn sem_timedwait(lock: *mut libc::sem_t, _until: *const libc::timespec) -> c_int {
    // SAFETY: as above.
    unsafe { wait(lock, false) }
}

/// Puts aside the wait that a signal interrupted, or back: a handler may wait for locks of its own. Returns what was.
///
/// # Safety
/// Replaying.
pub unsafe fn swap_lock_wait(other: LockWait) -> LockWait {
    // SAFETY: one thread.
    unsafe { std::mem::replace(&mut me().lock_wait, other) }
}

/// Whether a signal has interrupted the running thread's wait for a lock, at that try.
///
/// # Safety
/// Replaying.
pub unsafe fn is_interrupted_at(tries: u64) -> bool {
    // SAFETY: one thread.
    unsafe { me().lock_wait.interrupted && me().tries == tries }
}

/// The running thread is in no wait for a lock: what its clock says is about the next one.
///
/// # Safety
/// The GIL is held.
pub unsafe fn wait_is_over() {
    // SAFETY: one thread, but for those that are not the session's.
    unsafe {
        if schedule::is_ours() && session::is_replaying() {
            me().lock_wait.interrupted = false;
        }
    }
}

/// `clock_gettime`, of which CPython's answer to an interrupted wait depends: whether its time is over. It is, unless
/// the log says that the lock was tried again; how long replay took over what the other threads did meanwhile says nothing.
/// So for the rest the clock stands still: a queue that has got its lock and found nothing asks how much time is left.
pub(super) unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, into: *mut libc::timespec) -> c_int {
    // SAFETY: called by CPython.
    unsafe {
        let next = replaced!(NEXT[CLOCK], libc::clockid_t, *mut libc::timespec => c_int);
        if !session::is_replaying() || !has_gil() || thread::last().external.get() {
            return next(clock, into);
        }
        if !me().lock_wait.interrupted {
            static mut STANDS_AT: Option<libc::timespec> = None;
            let stands = clock == libc::CLOCK_MONOTONIC;
            let mut result = 0;
            if let (Some(mut time), true) = (STANDS_AT, stands) {
                // All but still: C code may wait for it to go on.
                time.tv_nsec += 1;
                if time.tv_nsec == 1_000_000_000 {
                    time = libc::timespec { tv_sec: time.tv_sec + 1, tv_nsec: 0 };
                }
                STANDS_AT = Some(time);
                *into = time;
            } else {
                result = next(clock, into);
                if stands && result == 0 {
                    STANDS_AT = Some(*into);
                }
            }
            me().lock_wait.began = *into;
            return result;
        }
        let tried_again = matches!(replay::front(), Front::Retry(tries) if tries == me().tries + 1);
        *into = me().lock_wait.began;
        if !tried_again {
            // A hundred years: no time-out that CPython takes is as long.
            (*into).tv_sec += 100 * 365 * 86400;
        }
        0
    }
}

pub(super) unsafe extern "C" fn sem_post(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        if session::is_replaying() && schedule::is_ours() {
            let_go(lock);
        }
        replaced!(NEXT[POST], *mut libc::sem_t => c_int)(lock)
    }
}
