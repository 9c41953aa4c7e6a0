//! What every recorded call reads and writes, side by side: the kernel's part of a call empties the nearest cache, and
//! each line that has to come back costs as much as ten instructions.

use crate::gil::GilCell;
use crate::session::Mode;
use crate::thread::Thread;
use pyo3_ffi::PyTypeObject;
use retrace_abi::FrameHook;
use retrace_replay::trace_writer::TraceWriter;
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::AtomicBool;

/// Two cache lines: the first ends where the writer begins, whose own hot fields come first.
#[repr(C, align(128))]
pub struct Hot {
    pub mode: Mode,
    /// This process replays.
    pub replays: bool,
    /// Library threads take turns, and somebody kept it: see `crate::turns`.
    pub has_turns: AtomicBool,
    pub turn_was_kept: AtomicBool,
    /// The thread that a hook saw last: see `crate::thread`.
    pub current: *mut Thread,
    /// Where the interpreter keeps its frame evaluator; a place of our own until a session begins.
    pub evaluator: *mut Option<FrameHook>,
    /// Where the collector keeps its count and its threshold.
    pub count: *const c_int,
    pub threshold: *const c_int,
    /// `bytes` and `int`, whose addresses lie elsewhere otherwise.
    pub bytes: *mut PyTypeObject,
    pub int: *mut PyTypeObject,
    /// What was there when ours came: the program's (a profiler's), or none.
    pub programs: Option<FrameHook>,
    pub writer: Option<TraceWriter>,
}

const _: () = assert!(std::mem::offset_of!(Hot, writer) == 64);

static HOT: GilCell<Hot> = GilCell::new(Hot {
    mode: Mode::Off,
    replays: false,
    has_turns: AtomicBool::new(false),
    turn_was_kept: AtomicBool::new(false),
    current: ptr::null_mut(),
    evaluator: &raw mut NO_EVALUATOR,
    count: &raw const ZERO,
    threshold: &raw const ZERO,
    bytes: &raw mut pyo3_ffi::PyBytes_Type,
    int: &raw mut pyo3_ffi::PyLong_Type,
    programs: None,
    writer: None,
});

static mut NO_EVALUATOR: Option<FrameHook> = None;
static ZERO: c_int = 0;

/// Whether this process replays.
#[inline(always)]
pub fn replays() -> bool {
    // SAFETY: written once, before a session begins.
    unsafe { (*hot()).replays }
}

/// All of it. Only single fields are read and written through the pointer, with the GIL held: no reference to the whole.
#[inline(always)]
pub fn hot() -> *mut Hot {
    HOT.as_ptr()
}
