//! C code of extension modules on replay: what it calls of the C library without the GIL, and how its calls and its
//! tries of mutexes are counted.

use super::{ALLOWED, RUNNING, lost, me, wait_for_turn};
use crate::divergence;
use crate::hook::Hook;
use crate::replay;
use crate::user_threads::has_gil;
use crate::{library_threads, session, turns};
use retrace_replay::event::Call;
use std::ffi::c_int;

/// Calls of C code without the GIL.
pub(super) struct Stretch {
    /// What is left of them, the next one last.
    left: Vec<Call>,
    /// Whether one has been made: before, they may be those of a later stretch.
    begun: bool,
}

/// What the running thread's C code calls next without the GIL. The calls of such a stretch stand where the thread took
/// the GIL again; they are looked for there, so that nobody has to wait.
unsafe fn stretch() -> &'static mut Stretch {
    // SAFETY: one thread; nothing borrowed is kept across a switch.
    unsafe {
        if me().stretch.is_none() {
            let another = (ALLOWED != RUNNING).then_some(RUNNING as u64);
            let found = if me().ends {
                let found = replay::calls_at_end(RUNNING as u64);
                me().is_left = found.is_none();
                found
            } else {
                replay::native_calls_of(another)
            };
            let mut left = found.unwrap_or_default();
            left.reverse();
            me().stretch = Some(Stretch { left, begun: false });
        }
        me().stretch.get_or_insert_with(|| Stretch { left: Vec::new(), begun: false })
    }
}

/// The call of the C library that the running thread makes without the GIL: it has to be one of `hook`.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn released_call(hook: &Hook) -> Call {
    // SAFETY: by contract.
    unsafe {
        me().native_calls_made += 1;
        let stretch = stretch();
        stretch.begun = true;
        match stretch.left.pop() {
            Some(call) if replay::is_call_of(&call, hook.index) => call,
            Some(call) => {
                let recorded = replay::recorded_name(call.hook);
                lost_without_gil(format!("{} by C code without the GIL, where the recording has {recorded}", hook.name))
            }
            None => {
                // In the recording its thread may never have come back.
                if ALLOWED != RUNNING {
                    wait_for_turn();
                }
                if replay::source().at_end() {
                    divergence::recording_cut(&format!("{} by C code without the GIL", hook.name));
                }
                lost_without_gil(format!("{} by C code without the GIL", hook.name))
            }
        }
    }
}

/// The running thread, which Python made, ends: what it has of its own is destroyed, with the calls that the recording has.
///
/// # Safety
/// On its coroutine.
pub unsafe fn end_thread() {
    // SAFETY: by contract.
    unsafe {
        if session::is_replaying() && library_threads::has_values() {
            me().ends = true;
            me().stretch = None;
            library_threads::destroy_values();
            me().stretch = None;
        }
        if session::is_replaying() && turns::are_on() && me().in_library {
            super::leave_turn();
        }
    }
}

/// The running thread tries a mutex. Where it ends, and the log says nothing of that, it was not so far when the recording was
/// over: it stays here, unless somebody waits for a mutex that it may have taken before.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn stay_if_left() {
    // SAFETY: by contract.
    unsafe {
        if me().ends {
            stretch();
            while me().is_left {
                super::let_others_run();
            }
        }
    }
}

/// The running thread has taken the GIL again: what its C code called meanwhile is what the recording has.
///
/// # Safety
/// As `running`.
pub(super) unsafe fn end_stretch() {
    // SAFETY: by contract.
    unsafe {
        let Some(stretch) = me().stretch.take() else { return };
        if !stretch.begun {
            return;
        }
        let running = RUNNING;
        if let Some(call) = stretch.left.last() {
            let next = replay::recorded_name(call.hook);
            lost(format!("thread {running} takes the GIL here, and its C code has not called {next} before"));
        }
        if !replay::native_calls_at_front() {
            lost(format!("thread {running} takes the GIL here, after calls by its C code"));
        }
        replay::consume_front();
    }
}

/// What the running thread's C code calls next, if that is a call of `hook`.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn next_native_call(hook: u16) -> Option<Call> {
    // SAFETY: by contract.
    unsafe {
        if has_gil() || turns::has() {
            return replay::front_call(hook);
        }
        stretch().left.last().filter(|call| replay::is_call_of(call, hook)).cloned()
    }
}

/// The call that [`next_native_call`] showed has been made.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn pass_native_call() {
    // SAFETY: by contract.
    unsafe {
        me().native_calls_made += 1;
        if has_gil() || turns::has() {
            return replay::pass_native_call();
        }
        let stretch = stretch();
        stretch.begun = true;
        stretch.left.pop();
    }
}

/// As in `schedule`.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn native_calls_made() -> u64 {
    // SAFETY: by contract.
    unsafe { me().native_calls_made }
}

/// As in `schedule`.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn count_library_lock() -> u64 {
    // SAFETY: by contract.
    unsafe {
        me().library_locks += 1;
        me().library_locks
    }
}

/// As in `schedule`.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn library_lock_logged() {
    // SAFETY: by contract.
    unsafe { me().library_locks = 0 };
}

/// As in `schedule`.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn gave_up_at() -> u64 {
    // SAFETY: by contract.
    unsafe { me().gave_up_at }
}

/// C code does something that the recording does not have.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn lost_without_gil(met: String) -> ! {
    // SAFETY: by contract.
    unsafe { lost(met) }
}

/// The signals that a new thread blocks: those of the one that makes it.
pub(super) fn inherited_mask() -> libc::sigset_t {
    // SAFETY: one thread; plain data for which zeros are valid.
    unsafe {
        match super::threads().get(RUNNING) {
            Some(maker) => maker.blocked,
            None => {
                let mut blocked: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut blocked);
                blocked
            }
        }
    }
}

/// `pthread_sigmask` of the running thread's C code: answered as the system would, and kept here.
///
/// # Safety
/// As [`super::running`]; called with the function's arguments.
pub unsafe fn mask_signals(how: c_int, new: *const libc::sigset_t, old: *mut libc::sigset_t) -> c_int {
    const SIGNALS: c_int = if cfg!(target_os = "linux") { 64 } else { 31 };
    // SAFETY: by contract; `new` may be `old`.
    unsafe {
        let before = me().blocked;
        if let Some(&new) = new.as_ref() {
            let blocked = &mut me().blocked;
            match how {
                libc::SIG_SETMASK => *blocked = new,
                libc::SIG_BLOCK | libc::SIG_UNBLOCK => {
                    for signal in (1..=SIGNALS).filter(|&signal| libc::sigismember(&new, signal) == 1) {
                        if how == libc::SIG_BLOCK {
                            libc::sigaddset(blocked, signal);
                        } else {
                            libc::sigdelset(blocked, signal);
                        }
                    }
                }
                _ => return libc::EINVAL,
            }
        }
        if !old.is_null() {
            *old = before;
        }
        0
    }
}
