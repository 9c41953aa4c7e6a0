//! The session of this process: off, recording or replaying. All state here is guarded by the GIL.

use crate::gil::GilCell;
use crate::hot::hot;
use crate::unrecorded;
use retrace_replay::event::{COLLECT_AT_CHECK, Event, Fingerprint};
use retrace_replay::trace_writer::TraceWriter;
use retrace_replay::turns::Turns;
use retrace_replay::value::Str;
use std::ffi::c_int;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    Off,
    Recording,
    Replaying,
    /// Code runs that the program never ran, in a copy of a replay: nothing of it may cross the boundary.
    Diverted,
}

/// Which threads the stream has named last.
static TURNS: GilCell<Turns> = GilCell::new(Turns::new());
static mut FULL_ARGUMENTS: bool = false;
static mut OPAQUE: u64 = 0;

/// The session's mode.
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn mode() -> Mode {
    // SAFETY: by contract.
    unsafe { (*hot()).mode }
}

/// # Safety
/// The GIL is held.
pub unsafe fn set_mode(mode: Mode) {
    // SAFETY: by contract.
    unsafe { (*hot()).mode = mode };
}

/// # Safety
/// The GIL is held.
pub unsafe fn is_active() -> bool {
    // SAFETY: by contract.
    unsafe { (*hot()).mode != Mode::Off }
}

/// # Safety
/// The GIL is held.
pub unsafe fn is_recording() -> bool {
    // SAFETY: by contract.
    unsafe { (*hot()).mode == Mode::Recording }
}

/// # Safety
/// The GIL is held.
pub unsafe fn is_replaying() -> bool {
    // SAFETY: by contract.
    unsafe { (*hot()).mode == Mode::Replaying }
}

/// The log's writer.
///
/// # Safety
/// Recording; the GIL is held; the reference is not kept across anything that may release it.
#[inline(always)]
pub unsafe fn writer() -> &'static mut TraceWriter {
    // SAFETY: the mode is Recording only while there is a writer.
    unsafe {
        let writer = &raw mut (*hot()).writer;
        (*writer).as_mut().unwrap_unchecked()
    }
}

/// The recording takes no more.
unsafe fn take_writer() -> Option<TraceWriter> {
    // SAFETY: the GIL is held.
    unsafe {
        let writer = &raw mut (*hot()).writer;
        (*writer).take()
    }
}

/// Begins recording into `writer`.
///
/// # Safety
/// The GIL is held.
pub unsafe fn begin_recording(writer: TraceWriter, full_arguments: bool) {
    // SAFETY: by contract.
    unsafe {
        (*hot()).writer = Some(writer);
        FULL_ARGUMENTS = full_arguments;
        (*hot()).mode = Mode::Recording;
        crate::schedule::hand_over_plainly(true);
    }
}

/// Points the collection check at the collector's own count and threshold.
///
/// # Safety
/// The GIL is held; both live as long as the process.
pub unsafe fn watch_collector(count: *const c_int, threshold: *const c_int) {
    // SAFETY: by contract.
    unsafe { ((*hot()).count, (*hot()).threshold) = (count, threshold) };
}

/// One compare: whether generation 0 is over its threshold.
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn collection_may_be_due() -> bool {
    // SAFETY: the collector's own fields.
    unsafe { *(*hot()).count > *(*hot()).threshold }
}

/// Appends a whole event.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn append(parts: &[&[u8]]) {
    // SAFETY: by contract.
    unsafe {
        if (*hot()).mode != Mode::Recording {
            return;
        }
        writer().append(parts);
        if let Some(reason) = writer().stopped() {
            ended_early(&reason);
        }
    }
}

/// The log takes no more: the disk is full, or the trace has reached its size limit.
#[cold]
unsafe fn ended_early(reason: &str) {
    // SAFETY: as in `append`.
    unsafe {
        if !crate::children::is_child() {
            eprintln!("retrace: recording ended: {reason}");
        }
        if let Some(mut writer) = take_writer() {
            leave();
            writer.close();
        }
    }
}

/// # Safety
/// The GIL is held.
pub unsafe fn full_arguments() -> bool {
    // SAFETY: by contract.
    unsafe { FULL_ARGUMENTS }
}

/// # Safety
/// The GIL is held.
pub unsafe fn count_opaque(n: u32) {
    // SAFETY: by contract.
    unsafe { OPAQUE += u64::from(n) };
}

/// A collection begins: what its finalizers do follows in the log. `at`: where, if not at the event that comes next.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn append_collect(generation: u8, at: Option<Fingerprint>) {
    let generation = if at.is_some() { generation | COLLECT_AT_CHECK } else { generation };
    // SAFETY: by contract.
    unsafe { append_event(&Event::Collect { generation, found: 0, at }) };
}

/// A collection has ended.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn append_collected(generation: u8, found: u64, external: bool) {
    let generation = generation | COLLECTED | if external { COLLECTED_EXTERNAL } else { 0 };
    // SAFETY: by contract.
    unsafe { append_event(&Event::Collect { generation, found, at: None }) };
}

/// Set in the generation of the event that ends a collection.
pub const COLLECTED: u8 = 0x80;
/// Set beside it where the collection freed external objects: how many others only they had is not the same on replay.
pub const COLLECTED_EXTERNAL: u8 = 0x20;

/// Appends an event that is not a call.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn append_event(event: &Event) {
    let mut bytes = Vec::with_capacity(48);
    // SAFETY: by contract.
    unsafe {
        TURNS.get().encode(event, &mut bytes);
        append(&[&bytes]);
    }
}

/// The helper thread may not live across a fork: its locks would be copied, and CPython 3.12 warns when it finds
/// another thread.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn before_fork() {
    // SAFETY: by contract.
    unsafe {
        if is_recording() {
            writer().before_fork();
        }
    }
}

/// After a fork, or one that failed, in the parent.
///
/// # Safety
/// As [`before_fork`].
pub unsafe fn after_fork_parent() {
    // SAFETY: by contract.
    unsafe {
        if is_recording() {
            writer().after_fork_parent();
        }
    }
}

/// After a fork, in the child: it becomes a process of the trace. `fork` counts the parent's forks, from 0;
/// `may_help`: see [`TraceWriter::after_fork_child`].
///
/// # Safety
/// As [`before_fork`].
pub unsafe fn after_fork_child(fork: u64, may_help: bool) {
    // SAFETY: by contract.
    unsafe {
        if !is_recording() {
            return;
        }
        let parent = writer().process();
        *TURNS.get() = Turns::new();
        unrecorded::forget();
        crate::handler_writes::after_fork_child();
        match writer().after_fork_child(may_help) {
            Ok(()) => crate::start::record_forked_child(parent, fork),
            // Nothing is said: its stderr is the program's own.
            Err(_) => abandon(),
        }
    }
}

/// In the child of a fork that is inside an external call: nothing of it can be replayed, so nothing is recorded.
///
/// # Safety
/// As [`before_fork`].
pub unsafe fn leave_forked_child() {
    // SAFETY: by contract.
    unsafe {
        if is_recording() {
            crate::turns::forget();
            abandon();
        }
    }
}

/// Recording ends before the process does: the interpreter goes on as if it had never begun.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn stop(reason: &str) {
    // SAFETY: by contract.
    unsafe {
        writer().stop(reason);
        ended_early(reason);
    }
}

/// No session any more: CPython gets its collector back, and hooks call their originals.
unsafe fn leave() {
    // SAFETY: by the callers' contract.
    unsafe {
        (*hot()).mode = Mode::Off;
        crate::schedule::hand_over_plainly(false);
        crate::turns::end();
        retrace_abi::collector::retrace_collector_uninstall();
    }
}

unsafe fn abandon() {
    // SAFETY: by the callers' contract.
    unsafe {
        leave();
        std::mem::forget(take_writer());
    }
}

/// The process ends: logs that, and closes the trace.
///
/// # Safety
/// Called once, at the interpreter's very end (`Py_AtExit`) or before an exit that skips it.
pub unsafe fn end_recording(status: i32) {
    // SAFETY: by contract: nothing else runs Python any more.
    unsafe {
        if (*hot()).mode != Mode::Recording {
            return;
        }
        crate::turns::take_last();
        (*hot()).mode = Mode::Off;
        crate::schedule::hand_over_plainly(false);
        crate::turns::end();
        if let Some(mut writer) = take_writer() {
            let called = unrecorded::called();
            let mut event = Vec::new();
            let names = called.iter().map(|name| Str::from(name.as_str())).collect();
            Event::End { status, unrecorded: names }.encode(&mut event);
            writer.append(&[&event]);
            let is_first = writer.process() == 0;
            let children = writer.unrecorded();
            writer.close();
            if is_first {
                unrecorded::tell(&called, children);
            }
        }
    }
}
