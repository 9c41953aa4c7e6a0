//! Expressions that are evaluated at many lines: conditions, what log points say, watched values. One may be asked millions of
//! times: it is made a function of the variables that it uses, which are taken out of the frame, so that nothing has to be
//! made of the frame itself.

use super::{clock, inspect};
use crate::python::{Owned, SavedError};
use crate::session::{self, Mode};
use crate::user_threads;
use pyo3_ffi::*;
use retrace_abi::ThreadState;
use retrace_abi::line_events::{
    retrace_frame_above, retrace_globals_above, retrace_has_own_names, retrace_names_are_globals,
    retrace_names_of_variables, retrace_swap_locals, retrace_value_in_slot,
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

/// What is known of one expression, in the code where it was asked last. Nothing of the program's is held between two hits but
/// names: it has to end as it did.
pub struct Expression {
    /// What of inspect.py makes it a function.
    maker: &'static CStr,
    /// The names of the code's variables: null where all names are globals. They are held, so that no others have their
    /// address.
    names: Owned,
    /// The code's address, where private names have the meaning that they have in its class.
    code: usize,
    is_known: bool,
    /// It calls something. What calls nothing prints nothing, but by a `__repr__`, an operator or a property.
    calls: bool,
    made: Made,
}

/// An expression as a function.
pub struct Made {
    /// The function's code; null where the expression has to be evaluated in the frame.
    pub code: Owned,
    /// The places of the variables that it takes.
    pub slots: Vec<c_int>,
    /// What a log point says between its expressions, or null.
    pub texts: Owned,
}

impl Made {
    pub fn nothing() -> Made {
        Made { code: Owned(ptr::null_mut()), slots: Vec::new(), texts: Owned(ptr::null_mut()) }
    }
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
        Expression {
            maker,
            names: Owned(ptr::null_mut()),
            code: 0,
            is_known: false,
            calls: false,
            made: Made::nothing(),
        }
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
            let has_own = !code.is_null() && retrace_has_own_names(code) != 0;
            let names = if has_own { retrace_names_of_variables(code) } else { ptr::null_mut() };
            if !self.is_known || names != self.names.0 || self.code != 0 && self.code != code as usize {
                (self.is_known, self.names) = (true, Owned::borrowed(names));
                self.calls = source.contains('(');
                self.code = if source.contains("__") { code as usize } else { 0 };
                self.made = inspect::function_of(self.maker, source, if has_own { code } else { Py_None() });
            }
            let Made { code: function, slots, texts } = &self.made;
            if function.is_null() || slots.len() > VARIABLES {
                return None;
            }
            let mut arguments = [ptr::null_mut(); VARIABLES];
            for (argument, slot) in arguments.iter_mut().zip(slots) {
                *argument = retrace_value_in_slot(code, variables, *slot);
                // A global may have the name.
                if argument.is_null() {
                    return None;
                }
            }
            let saved = SavedError::take();
            let run = || {
                let function = Owned(PyFunction_New(function.0, globals));
                let mut result = Owned(ptr::null_mut());
                if !function.is_null() {
                    result = Owned(PyObject_Vectorcall(function.0, arguments.as_ptr(), slots.len(), ptr::null_mut()));
                }
                if !result.is_null() && !texts.is_null() {
                    result = inspect::joined(texts, &result);
                }
                drop(function);
                read(result)
            };
            let found = if self.calls || !texts.is_null() { inspect::quietly(run) } else { run() };
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
        let result = clock::uncounted(|| {
            session::set_mode(Mode::Diverted);
            let result = run();
            session::set_mode(Mode::Replaying);
            result
        });
        user_threads::diversion_ended();
        result
    }
}

/// As [`diverted`], in a frame: what the user may see as its `locals()` is not there for the program.
///
/// # Safety
/// At a tick of the running thread; the GIL is held.
pub unsafe fn diverted_in<T>(scope: Scope, run: impl FnOnce() -> T) -> T {
    let Scope::Frame(above) = scope else {
        // SAFETY: by contract.
        return unsafe { diverted(run) };
    };
    // SAFETY: by contract; the frame gets back what it had.
    unsafe {
        diverted(|| {
            let tstate: *mut ThreadState = PyThreadState_Get().cast();
            let before = retrace_swap_locals(tstate, above, ptr::null_mut());
            let result = inspect::quietly(run);
            drop(Owned(retrace_swap_locals(tstate, above, before)));
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
