//! Expressions that are evaluated at many lines: conditions, what log points say, watched values. One may be asked millions of
//! times: it is made a function of the variables that it uses, which are taken out of the frame, so that nothing has to be
//! made of the frame itself.

use super::{clock, inspect};
use crate::python::{Owned, SavedError};
use crate::session::{self, Mode};
use pyo3_ffi::*;
use retrace_abi::ThreadState;
use retrace_abi::line_events::{
    retrace_frame_above, retrace_globals_above, retrace_has_own_names, retrace_names_are_globals, retrace_value_in_slot,
};
use std::ffi::{CStr, c_int};
use std::ptr;

/// The most variables that an expression may use.
const VARIABLES: usize = 16;

/// Where an expression has its meaning.
#[derive(Clone, Copy)]
pub enum Scope {
    /// In the frame that lies so many above the innermost one.
    Frame(c_int),
    /// In the module of that name, a string.
    Module(*mut PyObject),
}

pub const HERE: Scope = Scope::Frame(0);

/// What is known of one expression, in the code where it was asked last.
pub struct Expression {
    /// What of inspect.py makes it a function.
    maker: &'static CStr,
    /// Null in a module.
    code: *mut PyObject,
    /// Held, so that no other has its address.
    globals: Owned,
    /// Null where it has to be evaluated in the frame.
    function: Owned,
    slots: Vec<c_int>,
}

impl Expression {
    pub fn new() -> Expression {
        Expression::made_by(c"expression_function")
    }

    /// What a log point says, with expressions in it.
    pub fn message() -> Expression {
        Expression::made_by(c"message_function")
    }

    fn made_by(maker: &'static CStr) -> Expression {
        let nothing = || Owned(ptr::null_mut());
        Expression { maker, code: ptr::null_mut(), globals: nothing(), function: nothing(), slots: Vec::new() }
    }

    /// Whether it is true, or why it fails. None where it has to be evaluated in the frame.
    ///
    /// # Safety
    /// As [`Self::call`].
    pub unsafe fn holds(&mut self, source: &str, scope: Scope) -> Option<Result<bool, String>> {
        // SAFETY: by contract.
        unsafe {
            self.call(source, scope, |result| match if result.is_null() { -1 } else { PyObject_IsTrue(result.0) } {
                -1 => Err(inspect::error_text()),
                is_true => Ok(is_true > 0),
            })
        }
    }

    /// What `read` makes of its value, which is null where an exception is set. None where it has to be evaluated in the frame.
    ///
    /// # Safety
    /// At a tick of the running thread; the GIL is held.
    pub unsafe fn call<T>(&mut self, source: &str, scope: Scope, read: impl FnOnce(Owned) -> T) -> Option<T> {
        // SAFETY: by contract.
        unsafe { diverted(|| self.call_diverted(source, scope, read)) }
    }

    unsafe fn call_diverted<T>(&mut self, source: &str, scope: Scope, read: impl FnOnce(Owned) -> T) -> Option<T> {
        // SAFETY: by contract: what lies in the frame lives as long as nothing of the program runs.
        unsafe {
            let mut variables = ptr::null_mut();
            let (code, globals) = match scope {
                Scope::Frame(above) => {
                    let tstate: *mut ThreadState = PyThreadState_Get().cast();
                    let code = retrace_frame_above(tstate, above, &mut variables);
                    if code.is_null() {
                        return None;
                    }
                    if retrace_has_own_names(code) == 0 && retrace_names_are_globals(tstate, above) == 0 {
                        return None;
                    }
                    (code, retrace_globals_above(tstate, above))
                }
                Scope::Module(name) => (ptr::null_mut(), globals_of_module(name)),
            };
            if globals.is_null() {
                return None;
            }
            if (code, globals) != (self.code, self.globals.0) {
                (self.function, self.slots) = inspect::function_of(self.maker, source, code, globals);
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
            let found = read(result);
            drop(saved);
            Some(found)
        }
    }
}

/// Runs what is the user's: it crosses no boundary, and what it allocates is not the program's.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn diverted<T>(run: impl FnOnce() -> T) -> T {
    // SAFETY: by contract; the mode is put back.
    unsafe {
        clock::uncounted(|| {
            session::set_mode(Mode::Diverted);
            let result = run();
            session::set_mode(Mode::Replaying);
            result
        })
    }
}

/// Borrowed, or null.
unsafe fn globals_of_module(name: *mut PyObject) -> *mut PyObject {
    // SAFETY: `name` is a string; the GIL is held.
    unsafe {
        let modules = PySys_GetObject(c"modules".as_ptr());
        if modules.is_null() || PyDict_Check(modules) == 0 {
            return ptr::null_mut();
        }
        let module = PyDict_GetItem(modules, name);
        if module.is_null() || PyModule_Check(module) == 0 { ptr::null_mut() } else { PyModule_GetDict(module) }
    }
}
