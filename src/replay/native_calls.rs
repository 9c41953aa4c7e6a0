//! The C library's functions that extension modules call, and what the log says of those calls.

use super::front::{behind_hooks, read_pending_hooks, settle};
use super::{our_hook, source};
use crate::call::Call;
use crate::divergence;
use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::user_threads;
use retrace_replay::event::{self, Event, code};
use retrace_replay::event_stream::EventStream;

/// Behind the event that [`native_call`] showed.
static BEHIND: GilCell<Option<EventStream>> = GilCell::new(None);

/// Hooks that the log has behind the cursor's event, and calls of which were read ahead of time: their numbers and what they
/// are. Which of ours they stand for is known only when they are come to: a module may be imported until then.
static AHEAD: GilCell<Vec<(usize, Vec<event::Hook>)>> = GilCell::new(Vec::new());

/// Whether a recorded call is one of `hook`.
///
/// # Safety
/// Replaying.
pub unsafe fn is_call_of(call: &event::Call, hook: u16) -> bool {
    // SAFETY: by contract.
    unsafe { our_hook(call.hook).map_or_else(|| is_ahead(call.hook, hook), |ours| ours == hook) }
}

unsafe fn are_ahead(first: u64, hooks: Vec<event::Hook>) {
    // SAFETY: as in `is_call_of`.
    let ahead = unsafe { AHEAD.get() };
    if !ahead.iter().any(|(other, _)| *other == first as usize) {
        ahead.push((first as usize, hooks));
    }
}

unsafe fn is_ahead(recorded: u16, hook: u16) -> bool {
    // SAFETY: as in `is_call_of`.
    unsafe {
        let ours = hook::all()[usize::from(hook)];
        let ahead =
            AHEAD.get().iter().filter_map(|(first, hooks)| hooks.get(usize::from(recorded).checked_sub(*first)?));
        ahead.into_iter().any(|hook| hook.kind == ours.kind && hook.name.to_string_lossy() == ours.name)
    }
}

/// The hooks before this number were come to.
///
/// # Safety
/// Replaying.
pub(super) unsafe fn came_to_hooks(before: usize) {
    // SAFETY: by contract.
    unsafe { AHEAD.get().retain(|(first, _)| *first >= before) };
}

/// The event at the cursor, if it is a call of `hook` by C code. It stays there until [`pass_native_call`].
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn front_call(hook: u16) -> Option<event::Call> {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        let code = source().peek_code().ok()?;
        if our_hook(code) != Some(hook) {
            return None;
        }
        let mut ahead = source().clone();
        let Ok(Some((_, Event::Call(call)))) = ahead.next_event() else { return None };
        *BEHIND.get() = Some(ahead);
        Some(call)
    }
}

/// The event at the cursor, which has to be a call of `hook` by C code. It stays there until [`pass_native_call`].
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn native_call(hook: &Hook) -> event::Call {
    // SAFETY: by contract.
    unsafe {
        if let Some(call) = front_call(hook.index) {
            return call;
        }
        match source().clone().next_event() {
            Ok(Some((_, Event::Stopped(_)))) => divergence::recording_stopped(),
            Ok(None) => divergence::recording_cut(&format!("{} by C code", hook.name)),
            _ if !user_threads::has_gil() => user_threads::lost_without_gil(format!("{} by C code", hook.name)),
            _ => divergence::stop_at(&format!("{} by C code", hook.name)),
        }
    }
}

/// The call that [`native_call`] showed has been made.
///
/// # Safety
/// As [`native_call`].
pub unsafe fn pass_native_call() {
    // SAFETY: by contract.
    unsafe {
        if let Some(behind) = BEHIND.get().take() {
            *source() = behind;
        }
        settle();
    }
}

/// The event at the cursor, which has to be the annotation of this call.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn annotation(call: &Call) -> event::Call {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        let mut ahead = source().clone();
        match ahead.next_event() {
            Ok(Some((_, Event::Annotation(recorded)))) if is_call_of(&recorded, call.hook.index) => {
                *source() = ahead;
                settle();
                recorded
            }
            Ok(Some((_, Event::Stopped(_)))) => divergence::recording_stopped(),
            Ok(None) => divergence::log_ended(call),
            _ => divergence::other_call(call),
        }
    }
}

/// Whether the next event has calls of C code that had no GIL.
///
/// # Safety
/// Replaying.
pub unsafe fn native_calls_at_front() -> bool {
    // SAFETY: by contract.
    unsafe { behind_hooks().peek_code() == Ok(code::RELEASED) }
}

/// What C code calls before its thread takes the GIL: the event at the cursor, or, for another thread than the one whose
/// turn it is, the one behind the switch to it. `None` where the recording has none.
///
/// # Safety
/// Replaying.
pub unsafe fn native_calls_of(thread: Option<u64>) -> Option<Vec<event::Call>> {
    // SAFETY: by contract.
    unsafe {
        let mut ahead = source().clone();
        if let Some(wanted) = thread {
            loop {
                match ahead.next_event() {
                    Ok(Some((_, Event::Switch { thread, .. }))) if thread == wanted => break,
                    Ok(Some((_, Event::Hooks { first, hooks }))) => are_ahead(first, hooks),
                    Ok(Some(_)) => {}
                    _ => return None,
                }
            }
        }
        loop {
            match ahead.next_event() {
                Ok(Some((_, Event::Hooks { first, hooks }))) => are_ahead(first, hooks),
                Ok(Some((_, Event::Released(calls)))) => return Some(calls),
                _ => return None,
            }
        }
    }
}
