//! External objects that go outside of any external call: freed by count or by the collector, which finalizes them before.
//! Their C code may let other threads go on meanwhile (a connection is closed), and on replay there is no C code. So both
//! directions count those that the trace has a number for, and the count says where the switch was.
//!
//! Objects without a number (sqlite3's statements) are not there on replay. They go while a collection clears what it has
//! found, when no Python code runs: it does not matter where in there others go on.

use crate::replay::{self, Front};
use crate::schedule::Actor;
use crate::session::{self, Mode};
use crate::{callback, thread, user_threads};
use retrace_abi::gil;
use retrace_replay::event::{Event, Position};

/// Runs the C code that frees or finalizes an object. `has_number`: the trace knows it.
///
/// # Safety
/// The GIL is held; not on replay, but for objects that are no stand-ins.
pub unsafe fn original(has_number: bool, run: impl FnOnce()) {
    // SAFETY: by contract; an actor is its thread's own, or null, and the thread's entry lives while the thread does.
    unsafe {
        let before = thread::current().external.replace(true);
        let actor = gil::retrace_actor().cast::<Actor>();
        let is_own = !before && session::mode() == Mode::Recording && !actor.is_null();
        if is_own {
            (*actor).freed += u64::from(has_number);
            (*actor).frees = Some(if has_number { Position::Freeing } else { Position::Freed });
        }
        if is_own {
            callback::record_letting_go(run);
            if session::mode() == Mode::Recording {
                callback::log_dropped(thread::current(), false);
            }
            (*actor).frees = None;
        } else {
            run();
        }
        thread::current().external.set(before);
    }
}

/// Runs the C code by which an object lets go of others, for the collector. What is freed by that is counted as it is.
///
/// # Safety
/// As [`original`].
pub unsafe fn clearing<R>(run: impl FnOnce() -> R) -> R {
    // SAFETY: as in `original`.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        if session::mode() != Mode::Recording || actor.is_null() {
            return run();
        }
        let outer = std::mem::replace(&mut (*actor).clears, true);
        let result = run();
        (*actor).clears = outer;
        result
    }
}

/// On replay, where a stand-in is freed or finalized: lets those go on that did.
///
/// # Safety
/// The GIL is held.
pub unsafe fn stand_in() {
    // SAFETY: by contract.
    unsafe {
        if !session::is_replaying() || thread::current().external.get() {
            return;
        }
        collected();
        user_threads::count_freed();
        let_go_on(Position::Freeing);
    }
}

/// The number of the external object that C code frees or finalizes here, outside of any call.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn freed_now() -> Option<u64> {
    // SAFETY: by contract; an actor is its thread's own, or null.
    let actor = unsafe { gil::retrace_actor().cast::<Actor>().as_ref() }?;
    match actor.frees?(actor.freed) {
        Position::Freeing(number) => Some(number),
        _ => None,
    }
}

/// On replay, where a stand-in has let go of what it keeps: lets go of what C code had made and let go of here, and makes the
/// callbacks that nothing here makes by itself.
///
/// # Safety
/// The GIL is held.
pub unsafe fn dropped() {
    // SAFETY: by contract; who ends the replay does not return.
    unsafe {
        // What is freed by another one that is freed is part of that.
        if !session::is_replaying() || thread::current().external.get() || callback::lets_go() {
            return;
        }
        while let Ok(Some((_, Event::Dropped { freeing: Some((number, calls_back)), .. }))) =
            replay::source().clone().next_event()
            && number == user_threads::freed()
        {
            let has_called = callback::replay_dropped();
            if calls_back
                && !has_called
                && let Err(failure) = replay::foreign_callback()
            {
                crate::divergence::stop(None, &failure);
            }
            let_go_on(Position::Freeing);
        }
    }
}

/// A collection has ended.
///
/// # Safety
/// The GIL is held.
pub unsafe extern "C" fn collected() {
    // SAFETY: by contract.
    unsafe {
        if session::is_replaying() && !thread::current().external.get() {
            let_go_on(Position::Freed);
        }
    }
}

unsafe fn let_go_on(position: fn(u64) -> Position) {
    // SAFETY: by the callers' contract, on replay.
    unsafe {
        while let Front::Switch { next, from } = replay::front()
            && from == position(user_threads::freed())
        {
            replay::consume_front();
            user_threads::switch_in_call(next);
        }
    }
}
