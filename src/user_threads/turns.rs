//! The GIL on replay: what a thread does where it drops the GIL and where it takes it, the check of the eval breaker at
//! which one was preempted among it, and the mutexes and conditions with which CPython hands the GIL over.

use super::bindings::{COND_TIMEDWAIT, COND_WAIT, LOCK, NEXT, UNLOCK};
use super::{
    AT_PLACE, IN_CALL, RUNNING, SAME_SHALLOW, SCANS, give_turn_to, library_threads, me, native_code, outsiders,
    wait_for_turn,
};
use crate::imports::replaced;
use crate::replay::{self, Front};
use crate::session::{self, Mode};
use crate::{divergence, schedule, thread, turns};
use retrace_abi::gil;
use retrace_replay::event::{Fingerprint, Position};
use std::ffi::c_int;

/// CPython drops the GIL.
///
/// # Safety
/// Called by `schedule::retrace_gil_dropped`.
pub unsafe fn dropped(at_check: bool) {
    // SAFETY: by contract.
    unsafe {
        if !schedule::is_ours() {
            return outsiders::dropped();
        }
        me().was_external = thread::last().external.get();
        let keeps_turn = std::mem::take(&mut me().keeps_turn);
        if IN_CALL || !session::is_replaying() || me().was_external {
            return;
        }
        if keeps_turn && !at_check && turns::are_on() {
            me().gave_up_at = schedule::steps();
            me().in_library = true;
            return;
        }
        me().gave_up_at = schedule::steps();
        me().at_check = at_check;
        if me().returns_to_call {
            if let Front::Switch { next, from: Position::InCall } = replay::front() {
                replay::consume_front();
                give_turn_to(next);
            }
            return;
        }
        if at_check {
            crate::patience::at_check();
            crate::skip::at_check();
            me().check.begin(*gil::retrace_gil.last_holder);
        }
        if !at_check {
            if schedule::has_begun() {
                me().releases += 1;
                schedule::step();
                me().gave_up_at = schedule::steps();
            }
            if let Front::Switch { next, from: Position::Released(count) } = replay::front()
                && count == me().releases
            {
                replay::consume_front();
                give_turn_to(next);
            }
            return;
        }
        match replay::front() {
            Front::Switch { next, from: Position::Check(wanted) } if is_at(&wanted) => {
                replay::consume_front();
                give_turn_to(next);
            }
            _ => {}
        }
    }
}

/// At the end of take_gil(): what the recording did at this very check besides letting another thread run. CPython's
/// order at a check is collections before the GIL, and no instruction runs in between. Returns whether it was a check.
unsafe fn at_end_of_take() -> bool {
    // SAFETY: the GIL is held, as the caller saw; the thread state is not set yet.
    unsafe {
        if IN_CALL || !session::is_replaying() || !me().at_check {
            return false;
        }
        let mut collected = false;
        loop {
            match replay::front() {
                Front::Collect(wanted) if is_at(&wanted) => {
                    with_thread_state(|| {
                        replay::read_pending_hooks();
                        if let Err(failure) = replay::collect() {
                            divergence::stop(None, &failure);
                        }
                    });
                    collected = true;
                }
                Front::Switch { next, from: Position::Check(wanted) } if collected && is_at(&wanted) => {
                    replay::consume_front();
                    give_turn_to(next);
                    let tstate = *gil::retrace_gil.last_holder;
                    *gil::retrace_gil.locked = 0;
                    wait_for_turn();
                    // Another coroutine may have let them in.
                    outsiders::keep_out();
                    *gil::retrace_gil.locked = 1;
                    *gil::retrace_gil.last_holder = tstate;
                    taken();
                }
                _ => break,
            }
        }
        crate::timeline::at_check();
        me().at_check = false;
        true
    }
}

/// The GIL is given back for a moment only, in which no real thread may come in.
static mut GIVES_BACK: bool = false;

/// Runs Python where take_gil() has taken the GIL and its caller has not yet set the thread state.
///
/// # Safety
/// At a check of the eval breaker, replaying.
pub unsafe fn with_thread_state(run: impl FnOnce()) {
    // SAFETY: the GIL is held by this thread, and nobody else runs: it is given back and taken as CPython does it.
    unsafe {
        let tstate = *gil::retrace_gil.last_holder;
        *gil::retrace_gil.locked = 0;
        IN_CALL = true;
        pyo3_ffi::PyEval_AcquireThread(tstate.cast());
        IN_CALL = false;
        run();
        (IN_CALL, GIVES_BACK) = (true, true);
        pyo3_ffi::PyEval_ReleaseThread(tstate.cast());
        (IN_CALL, GIVES_BACK) = (false, false);
        *gil::retrace_gil.locked = 1;
        *gil::retrace_gil.last_holder = tstate;
    }
}

/// Whether the running thread is at a recorded check.
///
/// # Safety
/// The GIL or its mutex is held; the thread runs no frame now.
pub unsafe fn is_at(wanted: &Fingerprint) -> bool {
    // SAFETY: the GIL's mutex is held, as in `dropped`.
    unsafe {
        let passed = gil::retrace_search_passed();
        if me().check.is_same() || !replay::is_searched() {
            return false;
        }
        let before = SCANS;
        SCANS += passed + 1;
        if before >> 16 != SCANS >> 16 {
            crate::patience::look();
        }
        let tstate = *gil::retrace_gil.last_holder;
        if gil::retrace_fingerprint_place(tstate) != wanted.place {
            return false;
        }
        AT_PLACE += 1;
        if gil::retrace_fingerprint_shallow(tstate) != wanted.shallow {
            return false;
        }
        SAME_SHALLOW += 1;
        let found = gil::retrace_fingerprint_deep(tstate) == wanted.deep && crate::attempt::takes_match();
        if found {
            (me().cpu_us, me().begun_us) = (wanted.cpu_us, schedule::cpu_us());
        }
        found
    }
}

/// The CPU time that the recording had taken on the running thread when that was last at a position that was found, and that
/// the replay had taken in all.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn last_cpu_us() -> (u64, u64) {
    // SAFETY: by contract.
    unsafe { (me().cpu_us, me().begun_us) }
}

/// Checks at which a fingerprint was looked for since the running thread's turn began.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn checks() -> u64 {
    // SAFETY: by contract.
    unsafe { SCANS }
}

/// What was seen while a check was looked for.
///
/// # Safety
/// Replaying.
pub unsafe fn candidates() -> String {
    // SAFETY: one thread.
    let (running, scans, at_place, same) = unsafe { (RUNNING, SCANS, AT_PLACE, SAME_SHALLOW) };
    format!(
        "thread {running} passed {scans} checks, {at_place} of them at the recorded place, {same} with the recorded \
         variables, none with all that the recording says"
    )
}

/// CPython has taken the GIL.
///
/// # Safety
/// Called by `schedule::retrace_gil_taken`.
pub unsafe fn taken() {
    // SAFETY: by contract.
    unsafe {
        if !schedule::is_ours() {
            return outsiders::taken();
        }
        thread::of(*gil::retrace_gil.last_holder);
        crate::timeline::taken(*gil::retrace_gil.last_holder);
        if !session::is_replaying() {
            return;
        }
        library_threads::taken_with_gil();
        native_code::end_stretch();
    }
}

pub(super) unsafe extern "C" fn mutex_lock(mutex: *mut libc::pthread_mutex_t) -> c_int {
    // SAFETY: called by CPython; the GIL's own mutexes order nothing here.
    unsafe {
        if mutex == gil::retrace_gil.mutex {
            if !schedule::is_ours() {
                outsiders::enter_from_outside();
                return 0;
            }
            outsiders::keep_out();
            if *gil::retrace_gil.locked == 0 {
                wait_for_turn();
                outsiders::keep_out();
            }
            return 0;
        }
        if mutex == gil::retrace_gil.switch_mutex {
            return 0;
        }
        replaced!(NEXT[LOCK], *mut libc::pthread_mutex_t => c_int)(mutex)
    }
}

/// Whether an event has happened since this was last asked.
unsafe fn has_progressed() -> bool {
    static mut EVENT: u64 = 0;
    // SAFETY: one thread.
    unsafe {
        let event = replay::source().index().0;
        let progressed = EVENT != event;
        EVENT = event;
        progressed
    }
}

/// # Safety
/// Called by the version's file, replaying, where `retrace_check_repeats` said that it would be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_begun_after_check() {
    // SAFETY: the GIL is held; between events.
    unsafe {
        if session::is_replaying() {
            ask_for_check();
        }
    }
}

/// A check was asked for while code ran that is not the program's.
static mut ASKED_IN_DIVERSION: bool = false;

/// Has the running thread stop at its next check, if anybody looks for one.
unsafe fn ask_for_check() {
    // SAFETY: one thread; between events.
    unsafe {
        if session::mode() == Mode::Diverted {
            // Its checks are none of the recording's, and one that is asked for at each of them ends nowhere.
            ASKED_IN_DIVERSION = true;
            return;
        }
        replay::arm();
        crate::timeline::ask_for_check();
    }
}

/// The program goes on where it was left for other code, which may have used up the request for a check.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn diversion_ended() {
    // SAFETY: by contract.
    unsafe {
        if ASKED_IN_DIVERSION {
            ASKED_IN_DIVERSION = false;
            ask_for_check();
        }
    }
}

pub(super) unsafe extern "C" fn mutex_unlock(mutex: *mut libc::pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        if mutex == gil::retrace_gil.mutex {
            if !schedule::is_ours() {
                outsiders::unlocked();
                return 0;
            }
            if *gil::retrace_gil.locked == 0 {
                if !GIVES_BACK {
                    outsiders::let_in();
                }
            } else {
                // The end of take_gil(), which has just reset the request.
                let is_check = at_end_of_take();
                let repeats =
                    is_check && !has_progressed() && gil::retrace_check_repeats(*gil::retrace_gil.last_holder) != 0;
                if is_check {
                    gil::retrace_check_passed();
                }
                if !repeats {
                    ask_for_check();
                }
            }
            return 0;
        }
        if mutex == gil::retrace_gil.switch_mutex {
            return 0;
        }
        replaced!(NEXT[UNLOCK], *mut libc::pthread_mutex_t => c_int)(mutex)
    }
}

pub(super) unsafe extern "C" fn cond_wait(cond: *mut libc::pthread_cond_t, mutex: *mut libc::pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        if cond == gil::retrace_gil.switch_cond {
            // drop_gil() waits for another thread to take the GIL: take_gil() waits for this one's turn.
            return 0;
        }
        replaced!(NEXT[COND_WAIT], *mut libc::pthread_cond_t, *mut libc::pthread_mutex_t => c_int)(cond, mutex)
    }
}

pub(super) unsafe extern "C" fn cond_timedwait(
    cond: *mut libc::pthread_cond_t,
    mutex: *mut libc::pthread_mutex_t,
    until: *const libc::timespec,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        if cond == gil::retrace_gil.cond {
            wait_for_turn();
            outsiders::keep_out();
            return 0;
        }
        let next = replaced!(NEXT[COND_TIMEDWAIT], *mut libc::pthread_cond_t, *mut libc::pthread_mutex_t, *const libc::timespec => c_int);
        next(cond, mutex, until)
    }
}
