//! Conditions of breakpoints. One is asked at each hit, of which there may be millions: it is made a function of the variables
//! that it uses, which are taken out of the frame, so that nothing has to be made of the frame itself.

use super::inspect;
use crate::python::{Owned, SavedError};
use crate::session::{self, Mode};
use pyo3_ffi::*;
use retrace_abi::ThreadState;
use retrace_abi::line_events::{
    retrace_frame_above, retrace_frame_globals, retrace_has_own_names, retrace_value_in_slot,
};
use std::ffi::c_int;
use std::ptr;

/// The most variables that a condition may use.
const VARIABLES: usize = 16;

/// What is known of one condition, in the code where it was asked last.
pub struct Condition {
    code: *mut PyObject,
    /// Held, so that no other has its address.
    globals: Owned,
    /// Null where it has to be evaluated in the frame.
    function: Owned,
    slots: Vec<c_int>,
}

impl Condition {
    pub fn new() -> Condition {
        let nothing = || Owned(ptr::null_mut());
        Condition { code: ptr::null_mut(), globals: nothing(), function: nothing(), slots: Vec::new() }
    }

    /// Whether it is true here, or why it fails.
    ///
    /// # Safety
    /// At a tick of the running thread; the GIL is held. What the evaluation allocates is not the program's.
    pub unsafe fn holds(&mut self, expression: &str) -> Result<bool, String> {
        // SAFETY: by contract; the mode is put back.
        unsafe {
            session::set_mode(Mode::Diverted);
            let result = match self.call(expression) {
                Some(result) => result,
                None => inspect::evaluate("condition", expression).map(|text| text == "True"),
            };
            session::set_mode(Mode::Replaying);
            result
        }
    }

    /// None where it has to be evaluated in the frame.
    unsafe fn call(&mut self, expression: &str) -> Option<Result<bool, String>> {
        // SAFETY: as in `holds`: what lies in the frame lives as long as nothing of the program runs.
        unsafe {
            let tstate: *mut ThreadState = PyThreadState_Get().cast();
            let mut variables = ptr::null_mut();
            let code = retrace_frame_above(tstate, 0, &mut variables);
            let globals = retrace_frame_globals(tstate);
            if code.is_null() || globals.is_null() {
                return None;
            }
            if (code, globals) != (self.code, self.globals.0) {
                (self.function, self.slots) =
                    inspect::condition_function(expression, code, globals, retrace_has_own_names(code) != 0);
                (self.code, self.globals) = (code, Owned::borrowed(globals));
            }
            if self.function.is_null() || self.slots.len() > VARIABLES {
                return None;
            }
            let mut arguments = [ptr::null_mut(); VARIABLES];
            for (argument, slot) in arguments.iter_mut().zip(&self.slots) {
                *argument = retrace_value_in_slot(code, variables, *slot);
                // A global may have the name.
                if argument.is_null() {
                    return None;
                }
            }
            let saved = SavedError::take();
            let count = self.slots.len();
            let result = Owned(PyObject_Vectorcall(self.function.0, arguments.as_ptr(), count, ptr::null_mut()));
            let is_true = if result.is_null() { -1 } else { PyObject_IsTrue(result.0) };
            let holds = if is_true < 0 { Err(inspect::error_text()) } else { Ok(is_true > 0) };
            drop(result);
            drop(saved);
            Some(holds)
        }
    }
}
