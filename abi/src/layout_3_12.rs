//! Where CPython 3.12 keeps what the hooks read on every call, in bytes. Each number is asserted against the headers
//! when the shim is compiled (`cshim/layout.c`); fields whose place depends on the platform are read through the shim.

use crate::{Frame, ThreadState};

pub const TSTATE_CFRAME: usize = 56;
pub const TSTATE_ID: usize = 224;
pub const CFRAME_CURRENT_FRAME: usize = 0;
pub const FRAME_CODE: usize = 0;
pub const FRAME_PREVIOUS: usize = 8;
pub const FRAME_PREV_INSTR: usize = 56;
pub const FRAME_OWNER: usize = 70;
pub const CODE_CODE_ADAPTIVE: usize = 192;
pub const LONG_TAG: usize = 16;
pub const LONG_DIGITS: usize = 24;

/// Whether a collection that was put off runs where take_gil() unlocks the GIL's mutex: 3.11 makes pending calls on the
/// main thread only. See `retrace_ask_collection`.
pub const COLLECTS_AFTER_TAKE: bool = false;

/// Instructions whose argument has flags below the number that it names.
pub const ARGUMENT_SHIFTS: &[(&str, u32)] =
    &[("LOAD_GLOBAL", 1), ("LOAD_ATTR", 1), ("LOAD_SUPER_ATTR", 2), ("COMPARE_OP", 4)];

/// The minor version this build is for.
pub const MINOR: u8 = 12;

/// `FRAME_OWNED_BY_CSTACK`: a frame that stands for C code and has no Python position.
const OWNED_BY_CSTACK: u8 = 3;

unsafe extern "C" {
    fn _PyThreadState_UncheckedGet() -> *mut ThreadState;
    static retrace_tstate_offset: isize;
}

/// The shim's, zero where it is not known. A copy, because the shim's own is reached through another pointer.
static mut TSTATE_OFFSET: isize = 0;

/// Takes over what the shim has found out.
///
/// # Safety
/// The shim was initialised; the GIL is held.
pub unsafe fn learn() {
    // SAFETY: by contract.
    unsafe { TSTATE_OFFSET = retrace_tstate_offset };
}

/// The thread state that holds the GIL.
///
/// 3.12 keeps the pointer in a thread-local of its library's that nobody else can name, and asking for it takes two
/// calls; the shim finds out where it lies.
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn thread_state() -> *mut ThreadState {
    // SAFETY: the offset is that of a word of every thread's.
    unsafe {
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        if TSTATE_OFFSET != 0 {
            let tstate;
            std::arch::asm!("mov {}, fs:[{}]", out(reg) tstate, in(reg) TSTATE_OFFSET,
                options(readonly, nostack, preserves_flags));
            return tstate;
        }
        _PyThreadState_UncheckedGet()
    }
}

/// The same, by CPython's own word. Should it differ, [`thread_state`] asks CPython from now on.
///
/// # Safety
/// The GIL is held.
pub unsafe fn confirmed_thread_state() -> *mut ThreadState {
    // SAFETY: by contract; the GIL orders the accesses to the offset.
    unsafe {
        let confirmed = _PyThreadState_UncheckedGet();
        if thread_state() != confirmed {
            TSTATE_OFFSET = 0;
        }
        confirmed
    }
}

/// Makes this the thread state that CPython finds as the calling thread's own, and returns the one that was; null where it is
/// not known where it lies.
///
/// # Safety
/// The calling thread runs nothing of CPython's: it is about to go on as another one.
#[inline(always)]
pub unsafe fn swap_thread_state(state: *mut ThreadState) -> *mut ThreadState {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    // SAFETY: the offset is that of a word of every thread's.
    unsafe {
        if TSTATE_OFFSET != 0 {
            let before = thread_state();
            std::arch::asm!("mov fs:[{}], {}", in(reg) TSTATE_OFFSET, in(reg) state, options(nostack, preserves_flags));
            return before;
        }
    }
    let _ = state;
    std::ptr::null_mut()
}

/// The innermost Python frame, or null.
///
/// # Safety
/// `tstate` is the current thread's state.
#[inline(always)]
pub unsafe fn innermost_frame(tstate: *mut ThreadState) -> *mut Frame {
    // SAFETY: offsets asserted by cshim/layout.c; `cframe` is null only before the first evaluation of a thread.
    unsafe {
        let cframe = *tstate.cast::<u8>().add(TSTATE_CFRAME).cast::<*mut u8>();
        if cframe.is_null() {
            return std::ptr::null_mut();
        }
        let mut frame = *cframe.add(CFRAME_CURRENT_FRAME).cast::<*mut u8>();
        while !frame.is_null() && *frame.add(FRAME_OWNER) == OWNED_BY_CSTACK {
            frame = *frame.add(FRAME_PREVIOUS).cast();
        }
        frame.cast()
    }
}

/// The offset of the instruction that `frame` is executing, in bytes from the start of its code.
///
/// # Safety
/// `frame` is a live frame.
#[inline(always)]
pub unsafe fn instruction_offset(frame: *mut Frame) -> u16 {
    // SAFETY: as above; `prev_instr` points into the frame's code once the frame runs, and hooks run only then.
    unsafe {
        let frame = frame.cast::<u8>();
        let code = *frame.add(FRAME_CODE).cast::<*const u8>();
        let instruction = *frame.add(FRAME_PREV_INSTR).cast::<*const u8>();
        instruction.offset_from(code.add(CODE_CODE_ADAPTIVE)) as u16
    }
}

/// The value of an int of at most one digit (30 bits).
///
/// # Safety
/// `long` is an exact int.
#[inline(always)]
pub unsafe fn small_int(long: *mut pyo3_ffi::PyObject) -> Option<i64> {
    // SAFETY: `_PyLongValue`: a tag (digits << 3 | sign: 0 positive, 1 zero, 2 negative), then 30-bit digits.
    unsafe {
        let tag = *long.cast::<u8>().add(LONG_TAG).cast::<usize>();
        let digit = i64::from(*long.cast::<u8>().add(LONG_DIGITS).cast::<u32>());
        (tag < 2 << 3).then_some((1 - (tag & 3) as i64) * digit)
    }
}
