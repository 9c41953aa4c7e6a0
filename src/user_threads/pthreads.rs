//! Threads as CPython makes and ends them, on replay: `pthread_create` makes a coroutine, which has its own
//! thread-specific values and the recorded ident. Threads that Python did not make are coroutines too.

use super::bindings::{GETSPECIFIC, NEXT, SETSPECIFIC};
use super::{
    IN_CALL, RUNNING, State, add, give_turn_to, ident, me, native_code, new_thread, resume_next, wait_for_turn,
};
use crate::imports::replaced;
use crate::replay::{self, Front};
use crate::{divergence, schedule, session, subinterpreters, thread};
use retrace_abi::gil;
use retrace_replay::event::Position;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) unsafe extern "C" fn create(
    ident: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: schedule::Start,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: called by CPython with pthread_create's arguments.
    unsafe {
        if !session::is_replaying() || thread::current().external.get() {
            return libc::EAGAIN;
        }
        let Front::Thread { serial, ident: recorded, kind: schedule::MADE, error } = replay::front() else {
            divergence::stop_at("a thread is made here");
        };
        schedule::makes_thread();
        if error != 0 {
            // The number is used up, as it was.
            replay::consume_front();
            return error;
        }
        let mut stack = 0;
        if attributes.is_null() || libc::pthread_attr_getstacksize(attributes, &mut stack) != 0 {
            stack = 0;
        }
        let state = State::New { start, argument: argument as usize, stack };
        add(serial, new_thread(recorded, state));
        replay::consume_front();
        *ident = recorded as libc::pthread_t;
        0
    }
}

/// A thread that Python did not make: what it runs of Python are callbacks, and of itself nothing is here.
///
/// # Safety
/// Replaying.
pub unsafe fn add_foreign(serial: u64, ident: u64) {
    // SAFETY: one thread.
    unsafe { add(serial, new_thread(ident, State::New { start: foreign, argument: 0, stack: 0 })) };
}

unsafe extern "C" fn foreign(_: *mut c_void) -> *mut c_void {
    // SAFETY: on its coroutine.
    unsafe {
        loop {
            wait_for_turn();
            let state = pyo3_ffi::PyGILState_Ensure();
            loop {
                match replay::foreign_callback() {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(failure) => divergence::stop(None, &failure),
                }
                let Front::Switch { next, from: Position::InCall } = replay::front() else {
                    if replay::source().at_end() {
                        divergence::recording_cut("what another library's thread does");
                    }
                    divergence::stop_at("a thread that Python did not make comes to nothing of its own here");
                };
                replay::consume_front();
                give_turn_to(next);
                break;
            }
            IN_CALL = true;
            pyo3_ffi::PyGILState_Release(state);
            IN_CALL = false;
        }
    }
}

/// The running thread answers as the main one: what interrupts that interrupts it.
static COUNTS_AS_MAIN: AtomicBool = AtomicBool::new(false);

pub(super) fn count_as_main(is_main: bool) {
    // Relaxed: one thread.
    COUNTS_AS_MAIN.store(is_main, Ordering::Relaxed);
}

pub(super) fn counts_as_main() -> bool {
    COUNTS_AS_MAIN.load(Ordering::Relaxed)
}

/// # Safety
/// Called by cshim/search.c in place of `pthread_self`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_own_ident() -> libc::pthread_t {
    // SAFETY: one thread, but for those of a library that runs live.
    unsafe {
        if !schedule::is_ours() {
            libc::pthread_self()
        } else if counts_as_main() {
            gil::retrace_main_thread_ident() as libc::pthread_t
        } else {
            ident() as libc::pthread_t
        }
    }
}

pub(super) unsafe extern "C" fn exit(_result: *mut c_void) -> ! {
    // SAFETY: called by CPython's PyThread_exit_thread().
    unsafe {
        if !schedule::is_ours() {
            // The interpreter is being finalized: nothing more is to run here, and no frame of ours to be unwound.
            loop {
                libc::pause();
            }
        }
        if RUNNING != 0 {
            native_code::end_thread();
        }
        me().state = State::Ended;
        if RUNNING == 0 {
            // The main thread leaves by itself in a forked child only; the process goes on without it.
            loop {
                resume_next();
            }
        }
        loop {
            (*me().yielder).suspend(());
        }
    }
}

pub(super) unsafe extern "C" fn detach(_ident: libc::pthread_t) -> c_int {
    0
}

pub(super) unsafe extern "C" fn refuse_kill(_ident: libc::pthread_t, _signal: c_int) -> c_int {
    libc::ESRCH
}

pub(super) unsafe extern "C" fn refuse_clock(_ident: libc::pthread_t, _clock: *mut libc::clockid_t) -> c_int {
    libc::ESRCH
}

/// A thread-specific value of a coroutine.
///
/// # Safety
/// As [`running`]; not on the root.
pub unsafe fn specific(key: libc::pthread_key_t) -> *mut c_void {
    // SAFETY: by contract.
    unsafe {
        let found = me().specific.iter().find(|(k, _)| *k == key);
        found.map_or(ptr::null_mut(), |(_, value)| *value as *mut c_void)
    }
}

/// Sets one.
///
/// # Safety
/// As [`specific`].
pub unsafe fn set_specific(key: libc::pthread_key_t, value: *mut c_void) {
    // SAFETY: by contract.
    unsafe {
        let specific = &mut me().specific;
        match specific.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value as usize,
            None => specific.push((key, value as usize)),
        }
    }
}

pub(super) unsafe extern "C" fn getspecific(key: libc::pthread_key_t) -> *mut c_void {
    // SAFETY: as in `create`. The root has what was set before the replay began.
    unsafe {
        let is_ours = schedule::is_ours();
        if is_ours {
            subinterpreters::look();
        }
        if RUNNING == 0 || !is_ours {
            return replaced!(NEXT[GETSPECIFIC], libc::pthread_key_t => *mut c_void)(key);
        }
        specific(key)
    }
}

pub(super) unsafe extern "C" fn setspecific(key: libc::pthread_key_t, value: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe {
        if RUNNING == 0 || !schedule::is_ours() {
            return replaced!(NEXT[SETSPECIFIC], libc::pthread_key_t, *mut c_void => c_int)(key, value);
        }
        set_specific(key, value);
        0
    }
}
