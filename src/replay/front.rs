//! What comes next in the log, as far as it is about the schedule: known at any time between two events, so that the hooks
//! of the schedule need not read.

use super::{source, take_hooks};
use crate::gil::GilCell;
use crate::{divergence, user_threads};
use pyo3_ffi::*;
use retrace_abi::gil;
use retrace_replay::event::{Call, Event, Fingerprint, Position, WaitEnd, code};
use retrace_replay::event_stream::EventStream;

/// What comes next in the log, as far as it is about the schedule. Known between events only: [`settle`] says when.
#[derive(Clone, Copy, Debug)]
pub enum Front {
    /// A call, or anything else that the running thread comes to by itself.
    Other,
    Switch {
        next: u64,
        from: Position,
    },
    Thread {
        serial: u64,
        ident: u64,
        kind: u8,
        error: i32,
    },
    Busy(u64),
    Retry(u64),
    Wait(WaitEnd, u64),
    /// A collection at a check of the eval breaker.
    Collect(Fingerprint),
    Signal {
        number: u64,
        at: Position,
    },
    Fork {
        pid: i64,
    },
    /// See `crate::pending_calls`.
    Pending {
        thread: u64,
        number: u64,
        at: Position,
    },
}

impl Front {
    /// Whether the event is at a check of the eval breaker, which has to be found.
    pub fn is_at_check(self) -> bool {
        matches!(
            self,
            Front::Switch { from: Position::Check(_), .. }
                | Front::Signal { at: Position::Check(_), .. }
                | Front::Pending { at: Position::Check(_), .. }
                | Front::Collect(_)
        )
    }
}

static FRONT: GilCell<Front> = GilCell::new(Front::Other);

/// What comes next.
///
/// # Safety
/// Replaying, on the only thread.
#[inline(always)]
pub unsafe fn front() -> Front {
    // SAFETY: by contract.
    unsafe { *FRONT.get() }
}

/// An event has been read whole: looks at what comes next, so that the hooks of the schedule know without reading.
///
/// # Safety
/// Replaying; the cursor is between events.
#[inline(always)]
pub unsafe fn settle() {
    // SAFETY: by contract.
    unsafe {
        settle_for(true);
    }
}

/// `goes_on`: the running thread does, and lets no other one.
#[inline(always)]
unsafe fn settle_for(goes_on: bool) {
    // SAFETY: by the callers' contract.
    unsafe {
        let source = source();
        if !source.at_end()
            && let Ok(code) = source.peek_code()
            && code > code::START
        {
            if goes_on && code == code::STOPPED {
                user_threads::end_where_stopped();
            }
            look_ahead();
        } else {
            *FRONT.get() = Front::Other;
        }
    }
}

#[cold]
unsafe fn look_ahead() {
    // SAFETY: as in `settle`.
    unsafe {
        pass_ended();
        *FRONT.get() = loop {
            match schedule_event() {
                // It has just come to Python: who has the GIL makes it known, and switches to it next.
                Front::Thread { serial, ident, kind: crate::schedule::FOREIGN, .. }
                    if source().peek_code() == Ok(code::THREAD) =>
                {
                    if !matches!(source().next_event(), Ok(Some(_))) {
                        break Front::Other;
                    }
                    pass_ended();
                    user_threads::add_foreign(serial, ident);
                }
                front => break front,
            }
        };
        arm();
    }
}

/// The log from the next event on that is not of hooks, nor of what an ended thread called: those are read by whoever
/// consumes what follows.
pub(super) unsafe fn behind_hooks() -> EventStream {
    // SAFETY: as in `settle`.
    let mut ahead = unsafe { source() }.clone();
    while matches!(ahead.peek_code(), Ok(code::HOOKS | code::ENDED)) && matches!(ahead.next_event(), Ok(Some(_))) {}
    ahead
}

/// What threads called after they gave the GIL up for the last time, where the log was read past it.
static ENDED: GilCell<Vec<(u64, Vec<Call>)>> = GilCell::new(Vec::new());

/// Reads what ended threads called: it is for them, and stands where somebody else took the GIL.
unsafe fn pass_ended() {
    // SAFETY: as in `settle`.
    unsafe {
        while source().peek_code() == Ok(code::ENDED) {
            let Ok(Some((_, Event::Ended { thread, calls }))) = source().next_event() else { return };
            ENDED.get().push((thread, calls));
        }
    }
}

/// What a thread that is about to end calls after it has given the GIL up for the last time. None where the log does not say: it
/// does if that takes a mutex, unless the recording was over first.
///
/// # Safety
/// As [`settle`].
pub unsafe fn calls_at_end(thread: u64) -> Option<Vec<Call>> {
    // SAFETY: by contract.
    unsafe {
        let passed = ENDED.get();
        if let Some(i) = passed.iter().position(|(ended, _)| *ended == thread) {
            return Some(passed.swap_remove(i).1);
        }
        let mut ahead = source().clone();
        loop {
            match ahead.next_event() {
                Ok(Some((_, Event::Ended { thread: ended, calls }))) if ended == thread => return Some(calls),
                Ok(Some(_)) => {}
                _ => return None,
            }
        }
    }
}

/// The next event, if the schedule's hooks come to it.
unsafe fn schedule_event() -> Front {
    // SAFETY: as in `settle`.
    unsafe {
        use code::{BUSY, COLLECT, FORK, PENDING, RETRY, SIGNAL, SWITCH, THREAD, WAIT};
        let mut ahead = behind_hooks();
        if !matches!(ahead.peek_code(), Ok(SWITCH | THREAD | BUSY | RETRY | WAIT | COLLECT | SIGNAL | FORK | PENDING)) {
            return Front::Other;
        }
        match ahead.next_event() {
            Ok(Some((_, Event::Switch { thread, from }))) => Front::Switch { next: thread, from },
            Ok(Some((_, Event::Thread { serial, ident, kind, error }))) => Front::Thread { serial, ident, kind, error },
            Ok(Some((_, Event::Busy { tries }))) => Front::Busy(tries),
            Ok(Some((_, Event::Retry { tries }))) => Front::Retry(tries),
            Ok(Some((_, Event::Wait { end, releases }))) => Front::Wait(end, releases),
            Ok(Some((_, Event::Collect { at: Some(at), .. }))) => Front::Collect(at),
            Ok(Some((_, Event::Signal { number, at }))) => Front::Signal { number, at },
            Ok(Some((_, Event::Fork { pid, .. }))) => Front::Fork { pid },
            Ok(Some((_, Event::Pending { thread, number, at }))) => Front::Pending { thread, number, at },
            // An event that is cut off is met as such by whoever comes to it.
            _ => Front::Other,
        }
    }
}

/// Reads the hooks that stand before the event that [`front`] shows. That is not looked for again: a signal would be tripped
/// once more, and come twice.
///
/// # Safety
/// As [`settle`].
pub unsafe fn read_pending_hooks() {
    // SAFETY: by contract.
    unsafe {
        while source().peek_code() == Ok(code::HOOKS) {
            if let Err(failure) = take_hooks() {
                divergence::stop(None, &failure);
            }
        }
    }
}

/// The event that [`front`] shows has happened.
///
/// # Safety
/// As [`settle`].
pub unsafe fn consume_front() {
    // SAFETY: by contract.
    unsafe {
        gil::retrace_search_end();
        read_pending_hooks();
        if !matches!(source().next_event(), Ok(Some(_))) {
            divergence::recording_cut("a switch of threads");
        }
        settle_for(false);
        crate::skip::forget();
    }
}

/// The process's exit status, if nothing else is left of the recording. Negative where nobody knew it.
///
/// # Safety
/// As [`settle`].
pub unsafe fn recorded_end() -> Option<i32> {
    // SAFETY: by contract.
    let mut ahead = unsafe { behind_hooks() };
    match ahead.next_event() {
        Ok(Some((_, Event::End { status, .. }))) if ahead.at_end() => Some(status),
        _ => None,
    }
}

/// The process and event at which a run ends: what comes next there does not happen in it.
static ENDS_BEFORE: GilCell<Option<(u32, u64)>> = GilCell::new(None);

/// A run ends at a place before that event has happened.
///
/// # Safety
/// As [`settle`].
pub unsafe fn ends_before(event: Option<(u32, u64)>) {
    // SAFETY: by contract.
    unsafe {
        *ENDS_BEFORE.get() = event;
        arm();
    }
}

/// Whether the next event's position may be come to.
///
/// # Safety
/// As [`settle`].
pub unsafe fn is_searched() -> bool {
    // SAFETY: by contract.
    unsafe {
        if crate::skip::is_far() {
            return false;
        }
        match *ENDS_BEFORE.get() {
            None => true,
            Some(end) => end != (source().process(), source().index().0),
        }
    }
}

/// Has a signal tripped where its handler may have run, if its position can be looked for so.
unsafe fn search_signal(number: u64, at: Position) -> bool {
    // SAFETY: as in `settle`.
    unsafe { matches!(at, Position::Check(at) if gil::retrace_search(at.near, number as i32) != 0) }
}

/// A signal was tripped where its handler did not run: it is tripped again, for the next time that C code looks for signals, or
/// the next check. Only some of them drop the GIL, after which it would be anyway.
///
/// # Safety
/// As [`settle`].
pub unsafe fn trip_again(number: u64, at: Position) {
    // SAFETY: by contract.
    unsafe {
        if is_searched() && !search_signal(number, at) {
            PyErr_SetInterruptEx(number as i32);
        }
    }
}

/// What a check of the eval breaker called has returned (a signal's handler, a pending call), and the check goes on: with the
/// handlers of signals with higher numbers than `handled`, then with what else there is. What comes next in the recording may
/// have been there, too, where a search does not see it: that looks at the beginnings of checks.
///
/// # Safety
/// As [`settle`]; the GIL is held.
pub unsafe fn go_on_at_check(handled: u64) {
    // SAFETY: by contract.
    unsafe {
        if !is_searched() {
            return;
        }
        match front() {
            Front::Switch { from: Position::Check(_), .. } | Front::Collect(_) => {
                gil::retrace_search_end();
                gil::retrace_request_check();
            }
            Front::Signal { number, at: Position::Check(wanted) }
                if number > handled
                    && gil::retrace_fingerprint_place(*gil::retrace_gil.last_holder) == wanted.place =>
            {
                gil::retrace_search_end();
                crate::timeline::mark_clock();
                PyErr_SetInterruptEx(number as i32);
            }
            _ => {}
        }
    }
}

/// Has the running thread look at each check of the eval breaker where the next event is at one.
///
/// # Safety
/// As [`settle`].
pub unsafe fn arm() {
    // SAFETY: by contract.
    unsafe {
        crate::skip::begin();
        if !is_searched() {
            return gil::retrace_search_end();
        }
        match front() {
            Front::Switch { from: Position::Check(at), .. } | Front::Collect(at)
                if gil::retrace_search(at.near, 0) == 0 =>
            {
                gil::retrace_request_check();
            }
            Front::Pending { at: Position::Released(_), .. } => crate::pending_calls::await_interpreter(),
            Front::Pending { at: Position::Check(_), .. } => {
                crate::pending_calls::await_interpreter();
                // And again after the next check, if that is not the one.
                gil::retrace_request_check();
            }
            Front::Signal { number, at: at @ (Position::Check(_) | Position::Released(_)) } => {
                if !search_signal(number, at) {
                    PyErr_SetInterruptEx(number as i32);
                    // And again after the next check, if that is not the one.
                    gil::retrace_request_check();
                }
                // Where nobody has the GIL, whoever takes it comes here, too.
                let holder = gil::retrace_gil_holder();
                if !holder.is_null() {
                    gil::retrace_keep_frame_objects(holder);
                }
            }
            _ => {}
        }
    }
}
