//! The session of this process: off, recording or replaying. All state here is guarded by the GIL.

use crate::gil::GilCell;
use pyo3_ffi::*;
use retrace_replay::event::code;
use retrace_replay::trace_writer::TraceWriter;
use retrace_replay::value::put_varint;
use std::ffi::c_int;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    Off,
    Recording,
    Replaying,
}

static mut MODE: Mode = Mode::Off;
static WRITER: GilCell<Option<TraceWriter>> = GilCell::new(None);
static mut LAST_THREAD: u64 = 0;
static mut FULL_ARGUMENTS: bool = false;
static mut OPAQUE: u64 = 0;
/// Events that went through [`append`]: a position for bindings, not the trace's event index.
static mut POSITION: u64 = 0;
/// Where the collector keeps its count and its threshold.
static mut COLLECTION: (*const c_int, *const c_int) = (&raw const ZERO, &raw const ZERO);
static ZERO: c_int = 0;

/// The session's mode.
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn mode() -> Mode {
    // SAFETY: by contract.
    unsafe { MODE }
}

/// # Safety
/// The GIL is held.
pub unsafe fn set_mode(mode: Mode) {
    // SAFETY: by contract.
    unsafe { MODE = mode };
}

/// # Safety
/// The GIL is held.
pub unsafe fn is_active() -> bool {
    // SAFETY: by contract.
    unsafe { MODE != Mode::Off }
}

/// # Safety
/// The GIL is held.
pub unsafe fn is_recording() -> bool {
    // SAFETY: by contract.
    unsafe { MODE == Mode::Recording }
}

/// # Safety
/// The GIL is held.
pub unsafe fn is_replaying() -> bool {
    // SAFETY: by contract.
    unsafe { MODE == Mode::Replaying }
}

/// The log's writer.
///
/// # Safety
/// Recording; the GIL is held; the reference is not kept across anything that may release it.
#[inline(always)]
pub unsafe fn writer() -> &'static mut TraceWriter {
    // SAFETY: the mode is Recording only while there is a writer.
    unsafe { WRITER.get().as_mut().unwrap_unchecked() }
}

/// Begins recording into `writer`.
///
/// # Safety
/// The GIL is held.
pub unsafe fn begin_recording(writer: TraceWriter, full_arguments: bool) {
    // SAFETY: by contract.
    unsafe {
        *WRITER.get() = Some(writer);
        FULL_ARGUMENTS = full_arguments;
        LAST_THREAD = crate::thread::current().serial;
        MODE = Mode::Recording;
    }
}

/// Points the collection check at the collector's own count and threshold.
///
/// # Safety
/// The GIL is held; both live as long as the process.
pub unsafe fn watch_collector(count: *const c_int, threshold: *const c_int) {
    // SAFETY: by contract.
    unsafe { COLLECTION = (count, threshold) };
}

/// One compare: whether generation 0 is over its threshold.
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn collection_may_be_due() -> bool {
    // SAFETY: the collector's own fields.
    unsafe { *COLLECTION.0 > *COLLECTION.1 }
}

/// Logs a change of the running thread, if there was one.
///
/// # Safety
/// Recording; the GIL is held.
#[inline(always)]
pub unsafe fn note_thread(serial: u64) {
    // SAFETY: by contract.
    unsafe {
        if LAST_THREAD != serial {
            note_switch(serial);
        }
    }
}

#[cold]
unsafe fn note_switch(serial: u64) {
    // SAFETY: as above.
    unsafe {
        LAST_THREAD = serial;
        let mut event = code::SWITCH.to_le_bytes().to_vec();
        put_varint(&mut event, serial);
        append(&[&event]);
    }
}

/// Appends a whole event.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn append(parts: &[&[u8]]) {
    // SAFETY: by contract.
    unsafe {
        if MODE != Mode::Recording {
            return;
        }
        POSITION += 1;
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
        if let Some(mut writer) = WRITER.get().take() {
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

/// A collection begins: what its finalizers do follows in the log.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn append_collect(generation: u8) {
    // SAFETY: by contract.
    unsafe { append(&[&collect_event(generation, 0)]) };
}

/// A collection has ended.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn append_collected(generation: u8, found: u64) {
    // SAFETY: by contract.
    unsafe { append(&[&collect_event(generation | COLLECTED, found)]) };
}

/// Set in the generation of the event that ends a collection.
pub const COLLECTED: u8 = 0x80;
/// Set in both events of a collection that CPython made by itself, between two calls: its place is not exact.
pub const UNPLACED: u8 = 0x40;
/// Set in the event that ends such a collection, if Python code ran in it.
pub const RAN_PYTHON: u8 = 0x20;

fn collect_event(generation: u8, found: u64) -> Vec<u8> {
    let mut event = code::COLLECT.to_le_bytes().to_vec();
    event.push(generation);
    put_varint(&mut event, found);
    event
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

/// After a fork, in both processes. `result` is the original's: the child's is 0 (or a tuple that begins with it).
///
/// # Safety
/// As [`before_fork`].
pub unsafe fn after_fork(result: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        if !is_recording() {
            return;
        }
        if result.is_null() {
            return writer().after_fork_parent();
        }
        let pid = if PyTuple_Check(result) != 0 { PyTuple_GET_ITEM(result, 0) } else { result };
        if PyLong_Check(pid) == 0 || PyLong_AsLong(pid) != 0 {
            return writer().after_fork_parent();
        }
        let parent = writer().process();
        let forked_at = POSITION;
        match writer().after_fork_child() {
            Ok(()) => crate::start::record_forked_child(parent, forked_at),
            Err(error) => {
                eprintln!("retrace: a forked process is not recorded: {error}");
                abandon();
            }
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
        MODE = Mode::Off;
        retrace_abi::collector::retrace_collector_uninstall();
    }
}

unsafe fn abandon() {
    // SAFETY: by the callers' contract.
    unsafe {
        leave();
        std::mem::forget(WRITER.get().take());
    }
}

/// The process ends: logs that, and closes the trace.
///
/// # Safety
/// Called once, at the interpreter's very end (`Py_AtExit`) or before an exit that skips it.
pub unsafe fn end_recording(status: i32) {
    // SAFETY: by contract: nothing else runs Python any more.
    unsafe {
        if MODE != Mode::Recording {
            return;
        }
        MODE = Mode::Off;
        if let Some(mut writer) = WRITER.get().take() {
            let mut event = code::END.to_le_bytes().to_vec();
            event.extend_from_slice(&status.to_le_bytes());
            writer.append(&[&event]);
            writer.close();
        }
    }
}
