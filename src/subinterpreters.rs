//! Other interpreters in the process. Their modules are others than those that were hooked: what they call would be neither
//! recorded nor kept from the world on replay. So the recording ends where one is made, and so does the replay.
//!
//! `_xxsubinterpreters` says so itself (the boundary's `unseen`). C code makes one by `Py_NewInterpreter`, in an embedding
//! server mostly: CPython then makes a thread state, and asks for the calling thread's first.

use crate::divergence;
use crate::imports::{Binding, replaced};
use crate::schedule;
use crate::session::{self, Mode};
use pyo3_ffi::*;
use std::ffi::c_void;
use std::ptr;

static mut NEXT: [*mut c_void; 1] = [ptr::null_mut()];

/// What is put into the interpreter's import table, while recording. Replay has a function of its own there.
pub fn binding() -> Binding {
    let next = (&raw mut NEXT).cast();
    Binding { name: c"pthread_getspecific", with: getspecific as *mut c_void, next, needed: true }
}

unsafe extern "C" fn getspecific(key: libc::pthread_key_t) -> *mut c_void {
    // SAFETY: called by CPython with pthread_getspecific's argument.
    unsafe {
        look();
        replaced!(NEXT[0], libc::pthread_key_t => *mut c_void)(key)
    }
}

/// Ends the session if there is another interpreter.
///
/// # Safety
/// Called where the interpreter asks for a thread-specific value.
pub unsafe fn look() {
    // SAFETY: who makes an interpreter puts it into the list before it makes its thread state. 3.11 has the GIL then; 3.12
    // has given it up, and is between two thread states: that of the main interpreter is still the thread's own.
    unsafe {
        let is_alone = PyInterpreterState_Head() == PyInterpreterState_Main();
        if is_alone || !schedule::is_ours() || !matches!(session::mode(), Mode::Recording | Mode::Replaying) {
            return;
        }
        if schedule::holds_gil() {
            return made();
        }
        static mut LOOKS: bool = false;
        if LOOKS {
            return;
        }
        LOOKS = true;
        let tstate = PyGILState_GetThisThreadState();
        if !tstate.is_null() && PyThreadState_GetInterpreter(tstate) == PyInterpreterState_Main() {
            PyEval_RestoreThread(tstate);
            made();
            PyEval_SaveThread();
        }
        LOOKS = false;
    }
}

/// The program makes another interpreter.
///
/// # Safety
/// The GIL is held.
pub unsafe fn made() {
    // SAFETY: by contract.
    unsafe {
        match session::mode() {
            Mode::Recording => session::stop("the program makes a subinterpreter, whose calls are not recorded"),
            Mode::Replaying => divergence::stopped_or("a subinterpreter is made here"),
            Mode::Off | Mode::Diverted => {}
        }
    }
}
