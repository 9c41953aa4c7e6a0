//! Turns on replay (`crate::turns`), and the threads of libraries' own that take them: coroutines too.

use super::{OWNER, RUNNING, State, TURN_BEGINS, add, give_turn_to, has_gil, lost, me, new_thread, wait_for_turn};
use crate::replay::{self, Front};
use crate::turns::{self, Sleeper};
use crate::{divergence, schedule, thread};
use retrace_replay::event::{Position, code};
use std::ffi::c_int;

/// The running thread has got the turn, if it has not had it before.
pub(super) unsafe fn turn_begun() {
    // SAFETY: one thread.
    unsafe {
        if TURN_BEGINS {
            TURN_BEGINS = false;
            schedule::step();
        }
    }
}

/// CPython has taken the GIL.
pub(super) unsafe fn taken_with_gil() {
    // SAFETY: as above.
    unsafe {
        OWNER = RUNNING;
        me().in_library = false;
        // Not before: a lock that it waited for became its own first, and others get that one after this step.
        turn_begun();
    }
}

/// Whether the running thread has the turn. There are turns.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn has_turn() -> bool {
    // SAFETY: by contract.
    unsafe { has_gil() || me().in_library }
}

/// Whether what the running thread does is a part of an external call.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn is_in_call() -> bool {
    // SAFETY: by contract.
    unsafe { has_gil() && thread::last().external.get() }
}

/// What the running thread waits with.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn sleeper() -> &'static Sleeper {
    // SAFETY: by contract.
    unsafe { me().sleeper }
}

/// The running thread is about to give the GIL up, and keeps the turn; or not.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn keep_turn(keeps: bool) {
    // SAFETY: by contract.
    unsafe { me().keeps_turn = keeps };
}

/// The running thread's, as in `schedule::Actor`.
///
/// # Safety
/// As [`super::running`]; the reference is not kept.
pub unsafe fn calls_back() -> &'static mut u64 {
    // SAFETY: by contract.
    unsafe { &mut me().calls_back }
}

/// The running thread gives the turn up: another one goes on if the log says so.
unsafe fn give_turn_up() {
    // SAFETY: one thread.
    unsafe {
        me().releases += 1;
        schedule::step();
        if let Front::Switch { next, from: Position::Released(count) } = replay::front()
            && count == me().releases
        {
            replay::consume_front();
            give_turn_to(next);
        }
    }
}

/// The running thread gives the turn up, and goes on when it has it again.
///
/// # Safety
/// As [`super::running`]; the thread has the turn.
pub unsafe fn pause() {
    // SAFETY: by contract.
    unsafe {
        give_turn_up();
        wait_for_turn();
        turn_begun();
        end_where_stopped();
    }
}

/// The running thread goes back to code of a library's: another one goes on if the log says that the turn was taken away while
/// this one computed there.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn passed() {
    // SAFETY: by contract.
    unsafe {
        if has_gil() || !me().in_library {
            return;
        }
        me().passed += 1;
        if let Front::Switch { next, from: Position::Between(count) } = replay::front()
            && count == me().passed
        {
            replay::consume_front();
            give_turn_to(next);
            wait_for_turn();
            turn_begun();
            end_where_stopped();
        }
    }
}

/// Ends the replay where nothing is left of the recording but that it was stopped, and the running thread is in a
/// library's code: what it did next nobody knows, and it may have done it for ever.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn end_where_stopped() {
    // SAFETY: by contract.
    unsafe {
        if turns::are_on() && !has_gil() && replay::source().peek_code() == Ok(code::STOPPED) {
            divergence::recording_stopped();
        }
    }
}

/// The running thread gives the turn up until it takes the GIL.
///
/// # Safety
/// As [`pause`].
pub unsafe fn leave_turn() {
    // SAFETY: by contract.
    unsafe {
        give_turn_up();
        me().in_library = false;
    }
}

/// The running thread goes on when it has the turn, at the end of the process.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn take_last_turn() {
    // SAFETY: by contract.
    unsafe {
        wait_for_turn();
        turn_begun();
    }
}

/// Makes the thread that a library makes here, which begins with `start`. Returns its ident, or the error that there was.
///
/// # Safety
/// As [`pause`].
pub unsafe fn make_library_thread(start: schedule::Start, argument: usize, stack: usize) -> Result<u64, c_int> {
    // SAFETY: by contract.
    unsafe {
        let Front::Thread { serial, ident, kind: schedule::LIBRARY, error } = replay::front() else {
            lost("a library makes a thread here".into());
        };
        if error == 0 {
            let mut made = new_thread(ident, State::New { start, argument, stack });
            made.in_library = true;
            add(serial, made);
        }
        replay::consume_front();
        if error == 0 { Ok(ident) } else { Err(error) }
    }
}

/// A library's thread begins.
///
/// # Safety
/// On its coroutine.
pub unsafe fn library_thread_begins() {
    let _inside = turns::enter();
    // SAFETY: by contract.
    unsafe {
        turn_begun();
        end_where_stopped();
    }
}

/// Whether the running thread has a thread-specific value of such a key.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn has_specific(is_one: &dyn Fn(libc::pthread_key_t) -> bool) -> bool {
    // SAFETY: by contract.
    unsafe { me().specific.iter().any(|&(key, value)| value != 0 && is_one(key)) }
}

/// The thread-specific values of the running thread, which has none of them any more.
///
/// # Safety
/// As [`super::running`].
pub unsafe fn take_specific() -> Vec<(libc::pthread_key_t, usize)> {
    // SAFETY: by contract.
    unsafe { std::mem::take(&mut me().specific) }
}

/// Ends the running thread, which is a library's.
///
/// # Safety
/// On its coroutine, of which nothing is unwound.
pub unsafe fn end_library_thread() -> ! {
    // SAFETY: by contract.
    unsafe {
        give_turn_up();
        me().state = State::Ended;
        loop {
            (*me().yielder).suspend(());
        }
    }
}
