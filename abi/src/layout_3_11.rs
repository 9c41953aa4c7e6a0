//! Where CPython 3.11 keeps what the hooks read on every call, in bytes. Each number is asserted against the headers
//! when the shim is compiled (`cshim/layout.c`); fields whose place depends on the platform are read through the shim.

use crate::{Frame, ThreadState};

pub const TSTATE_CFRAME: usize = 56;
pub const TSTATE_ID: usize = 240;
pub const CFRAME_CURRENT_FRAME: usize = 8;
pub const FRAME_CODE: usize = 32;
pub const FRAME_PREV_INSTR: usize = 56;
pub const FRAME_OWNER: usize = 69;
pub const CODE_CODE_ADAPTIVE: usize = 184;
pub const LONG_DIGITS: usize = 24;

/// Whether a collection that was put off runs where take_gil() unlocks the GIL's mutex: 3.11 makes pending calls on the
/// main thread only. See `retrace_ask_collection`.
pub const COLLECTS_AFTER_TAKE: bool = true;

/// Instructions whose argument has flags below the number that it names.
pub const ARGUMENT_SHIFTS: &[(&str, u32)] = &[("LOAD_GLOBAL", 1)];

/// The minor version this build is for.
pub const MINOR: u8 = 11;

unsafe extern "C" {
    static retrace_current_tstate: *const *mut ThreadState;
    static retrace_is_precall: [u8; 256];
}

/// The shim's. A copy, because the shim's own is reached through another pointer.
static mut CURRENT_TSTATE: *const *mut ThreadState = std::ptr::null();

/// Takes over what the shim has found out.
///
/// # Safety
/// The shim was initialised; the GIL is held.
pub unsafe fn learn() {
    // SAFETY: by contract.
    unsafe { CURRENT_TSTATE = retrace_current_tstate };
}

/// The thread state that holds the GIL.
///
/// # Safety
/// [`learn`] was called; the GIL is held.
#[inline(always)]
pub unsafe fn thread_state() -> *mut ThreadState {
    // SAFETY: 3.11 keeps the pointer in `_PyRuntime.gilstate.tstate_current`, whose address the shim looked up.
    unsafe { *CURRENT_TSTATE }
}

/// The same: there is but one place to look.
///
/// # Safety
/// As [`thread_state`].
pub unsafe fn confirmed_thread_state() -> *mut ThreadState {
    // SAFETY: by contract.
    unsafe { thread_state() }
}

/// Nothing: there is one for all threads.
///
/// # Safety
/// None.
#[inline(always)]
pub unsafe fn swap_thread_state(_state: *mut ThreadState) -> *mut ThreadState {
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
        if cframe.is_null() { std::ptr::null_mut() } else { *cframe.add(CFRAME_CURRENT_FRAME).cast() }
    }
}

/// The offset of the instruction that `frame` is executing, in bytes from the start of its code.
///
/// 3.11 makes a call in two instructions, PRECALL and CALL, and a specialised PRECALL makes the call itself: which of
/// the two is current depends on how warm the code is. Both are named by the CALL.
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
        let offset = instruction.offset_from(code.add(CODE_CODE_ADAPTIVE)) as u16;
        if retrace_is_precall[usize::from(*instruction)] != 0 { offset.wrapping_add(4) } else { offset }
    }
}

/// The value of an int of at most one digit (30 bits).
///
/// # Safety
/// `long` is an exact int.
#[inline(always)]
pub unsafe fn small_int(long: *mut pyo3_ffi::PyObject) -> Option<i64> {
    // SAFETY: `PyLongObject` is a variable-size object whose size's sign is the number's, then 30-bit digits.
    unsafe {
        let size = (*long.cast::<pyo3_ffi::PyVarObject>()).ob_size;
        let digit = i64::from(*long.cast::<u8>().add(LONG_DIGITS).cast::<u32>());
        match size {
            0 => Some(0),
            1 => Some(digit),
            -1 => Some(-digit),
            _ => None,
        }
    }
}
